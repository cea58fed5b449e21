"""Training and validation cases of each fold of an nnU-Net model, where its folder has them."""

from __future__ import annotations

from pathlib import PureWindowsPath
from typing import TYPE_CHECKING

from pydantic import BaseModel

from hilum.dataset.layouts.naming import read_json_object
from hilum.dataset.layouts.splits import read_splits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_Folds = dict[str, dict[str, list[str]]]


class _CaseMetrics(BaseModel):
    prediction_file: str


class _Summary(BaseModel):
    """nnU-Net's validation/summary.json."""

    metric_per_case: list[_CaseMetrics]


def fold_cases(folder: Path, chosen: Sequence[str], dataset: Mapping[str, object]) -> _Folds:
    """Return the cases of each chosen fold by "fold N", as hilum's own training notes them.

    Empty unless every chosen fold is known.

    nnU-Net's splits_final.json tells, if it was copied into the model folder or beside it. So do
    the validation/summary.json of all folds together: what a fold was trained on are the cases that
    the other folds were validated with.

    Args:
        folder: of the model.
        chosen: "0", "1", ... or "all", which was trained on every case.
        dataset: dataset.json; the summaries must name as many cases as its numTraining.

    Raises:
        ValueError: a file says something of another kind.
        HilumError: a file is no JSON.
    """
    splits = _splits(folder) or _summaries(folder, dataset)
    everyone = sorted(
        {case for split in splits.values() for part in split.values() for case in part}
    )
    if everyone:
        splits["all"] = {"train": everyone, "validation": []}
    return {f"fold {fold}": splits[fold] for fold in chosen} if set(chosen) <= set(splits) else {}


def _splits(folder: Path) -> _Folds:
    """Read the cases of each fold from splits_final.json in or beside a folder; {} without one."""
    for path in (folder / "splits_final.json", folder.parent / "splits_final.json"):
        if path.is_file():
            return {
                str(n): {"train": [*split.train], "validation": [*split.validation]}
                for n, split in enumerate(read_splits(path))
            }
    return {}


def _summaries(folder: Path, dataset: Mapping[str, object]) -> _Folds:
    """Read the folds off nnU-Net's validation summaries; {} unless these hold every case once."""
    ending = str(dataset.get("file_ending", ""))
    validated: dict[str, list[str]] = {}
    for path in sorted(folder.glob("fold_*/validation/summary.json")):
        fold = path.parent.parent.name.removeprefix("fold_")
        summary = _Summary.model_validate(read_json_object(path))
        # a PureWindowsPath knows "/" and "\" alike
        files = [PureWindowsPath(case.prediction_file).name for case in summary.metric_per_case]
        if fold.isdigit():
            validated[fold] = sorted(file.removesuffix(ending) for file in files)
    everyone = sorted(case for cases in validated.values() for case in cases)
    unique = len(everyone) == len(set(everyone)) == dataset.get("numTraining")
    if not ending or not unique:
        return {}
    return {
        fold: {"train": [case for case in everyone if case not in mine], "validation": mine}
        for fold, mine in validated.items()
    }
