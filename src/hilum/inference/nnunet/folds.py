"""Training and validation cases of each fold of an nnU-Net model, where its folder has them."""

from __future__ import annotations

from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any

from hilum.dataset.layouts.naming import read_json_object
from hilum.dataset.layouts.splits import read_splits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def fold_cases(folder: Path, chosen: Sequence[str], dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The cases of each chosen fold by "fold N", as hilum's own training notes them.

    Empty unless every chosen fold is known.

    nnU-Net's splits_final.json tells, if it was copied into the model folder or beside it. So do
    the validation/summary.json of all folds together: what a fold was trained on are the cases that
    the other folds were validated with.

    Args:
        folder: of the model.
        chosen: "0", "1", ... or "all", which was trained on every case.
        dataset: dataset.json; the summaries must name as many cases as its numTraining.

    Raises:
        ValueError, TypeError, LookupError: a file says something of another kind.
        HilumError: a file is no JSON.
    """
    splits = _splits(folder) or _summaries(folder, dataset)
    everyone = sorted(
        {case for split in splits.values() for cases in split.values() for case in cases}
    )
    if everyone:
        splits["all"] = {"train": everyone, "validation": []}
    return {f"fold {fold}": splits[fold] for fold in chosen} if set(chosen) <= set(splits) else {}


def _splits(folder: Path) -> dict[str, dict[str, list[str]]]:
    for path in (folder / "splits_final.json", folder.parent / "splits_final.json"):
        if path.is_file():
            splits = enumerate(read_splits(path))
            return {
                str(n): {"train": [*split.train], "validation": [*split.validation]}
                for n, split in splits
            }
    return {}


def _summaries(folder: Path, dataset: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    ending = str(dataset.get("file_ending", ""))
    held: dict[str, list[str]] = {}
    for path in sorted(folder.glob("fold_*/validation/summary.json")):
        fold = path.parent.parent.name.removeprefix("fold_")
        files = _names(
            [one["prediction_file"] for one in read_json_object(path)["metric_per_case"]]
        )
        if fold.isdigit():
            held[fold] = sorted(
                PureWindowsPath(file).name.removesuffix(ending) for file in files
            )  # knows "/" and "\" alike
    everyone = [case for cases in held.values() for case in cases]
    if (
        not ending
        or len(everyone) != len(set(everyone))
        or len(everyone) != dataset.get("numTraining")
    ):
        return {}
    return {
        fold: {
            "train": sorted(
                case for other, cases in held.items() if other != fold for case in cases
            ),
            "validation": mine,
        }
        for fold, mine in held.items()
    }


def _names(given: Any) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise ValueError("names of cases that are none")
    return given
