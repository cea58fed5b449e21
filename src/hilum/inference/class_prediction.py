"""What a classifier says of one case, and how it becomes files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from hilum.inference.prediction import Seconds, find_format
from hilum.io import atomic_write_text, write_volume
from hilum.plan.plan import Record
from hilum.tasks.predictions import called, in_file_names, predictions_file, read_predictions, write_predictions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hilum.dataset.classes import ClassTable
    from hilum.inference.explain import MapCheck
    from hilum.inference.refusal import Verdict
    from hilum.tasks.class_score import ClassScore
    from hilum.volume import Volume


class Promise(Record):
    """What a prediction set promises, and of what it was measured.

    Args:
        coverage: how often a set holds the truth.
        among: the cases that is true of: "all cases" on average, or "the cases of each class".
        cases: held-out answers that the thresholds were learnt from.
        measured_on: whose answers they were.
    """

    coverage: float
    among: str
    cases: int
    measured_on: str


@dataclass(frozen=True, eq=False)
class ClassPrediction:
    """What a model says about one case.

    Args:
        score: probabilities, calibrated ones, the prediction set.
        table: what the classes are.
        model: id of the trained model.
        verdict: whether the image is unlike those that the model learnt from; None where the model does not know.
        maps: where in the image each class's answer comes from, by class, on the case's own grid, where that was asked for.
        seconds: how long each part took.
        promise: what the prediction set promises; None where there is none.
        map_checks: how far each map can be believed, by class, where that was asked for.
    """

    score: ClassScore
    table: ClassTable
    model: str
    verdict: Verdict | None = None
    maps: Mapping[str, Volume] = field(default_factory=dict)
    seconds: Seconds = field(default_factory=Seconds)
    promise: Promise | None = None
    map_checks: Mapping[str, MapCheck] = field(default_factory=dict)

    @property
    def case(self) -> str:
        """The case's id, and the stem of its files."""
        return self.score.case

    @property
    def label(self) -> str:
        """The class that is most probable; of findings all that are, joined by "|"."""
        return "|".join(called(self.score, self.table))

    @property
    def patches(self) -> dict[str, int]:
        """A classifier sees no patches."""
        return {}

    @property
    def probabilities(self) -> dict[str, float]:
        """By class; calibrated where the model is."""
        return dict(zip(self.table.names, self.score.best, strict=True))

    def as_json(self) -> str:
        """Everything that was said, as JSON."""
        said = {
            "case": self.case,
            "model": self.model,
            "predicted": self.label,
            "probabilities": dict(zip(self.table.names, self.score.probabilities, strict=True)),
            "calibrated": None if self.score.calibrated is None else self.probabilities,
            "prediction_set": self.score.prediction_set,
            "certain": self.score.certain,
            "promise": None if self.promise is None else self.promise.model_dump(mode="json"),
            "refuse": self.score.refuse,
            "refusal": None if self.verdict is None else self.verdict.model_dump(mode="json"),
            "map_checks": {name: check.model_dump(mode="json") for name, check in self.map_checks.items()} or None,
        }
        return json.dumps(said, indent=2) + "\n"

    def save(self, path: Path | str, *, formats: Sequence[str] = ("json",)) -> tuple[Path, ...]:
        """Write the answer, and the maps where there are any.

        The table of all cases, predictions.csv, is written by `predict_many`.

        Args:
            path: a .json file, or a folder, made where it is missing, for `<case>.json` and `<case>_<class>_map.nii.gz`.
            formats: among "json" and "csv".

        Raises:
            UsageError: a format that does not exist.
        """
        path = Path(path)
        if path.suffix == ".json":
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(path, self.as_json())
            return (path,)
        for name in formats:
            find_format(name, CLASS_FORMATS)
        path.mkdir(parents=True, exist_ok=True)
        files = []
        if "json" in formats:
            files.append(path / f"{self.case}.json")
            atomic_write_text(files[-1], self.as_json())
        parts = in_file_names(self.table)
        for name, volume in self.maps.items():
            files.append(path / f"{self.case}_{parts[name]}_map.nii.gz")
            write_volume(volume, files[-1])
        return tuple(files)


def top_classes(prediction: ClassPrediction) -> tuple[int, ...]:
    """Numbers of the classes that a map is made of: those called, or the most probable one."""
    names = called(prediction.score, prediction.table)
    chosen = tuple(prediction.table.names.index(name) for name in names)
    return chosen or (int(np.argmax(prediction.score.best)),)


CLASS_FORMATS: dict[str, str] = {"csv": "predictions.csv, one row a case", "json": "<case>.json"}
"""How a classification is written, by the name users give."""
_TABLE_SECONDS = 5.0
"""While cases are predicted, the table is written this often."""


class ClassWriter:
    """Writes the answers of a classification to a folder: one table of all cases, and files of each.

    Args:
        out: the folder.
        formats: among `CLASS_FORMATS`.
        table: what the classes are.
        keep: keep the rows of the table that is there already.

    Raises:
        UsageError: a format that does not exist.
        DataError: the table that is to be kept is damaged, or of other classes.
    """

    def __init__(self, out: Path, formats: Sequence[str], table: ClassTable, *, keep: bool = False) -> None:
        for name in formats:
            find_format(name, CLASS_FORMATS)
        self._out, self._formats, self._table = out, tuple(formats), table
        there = keep and predictions_file(out).is_file()
        self._rows = {score.case: score for score in (read_predictions(out, table) if there else ())}
        self._written = perf_counter()

    def there(self, case: str) -> bool:
        """Whether the case's answer is there in every format."""
        json_there = "json" not in self._formats or (self._out / f"{case}.json").is_file()
        return json_there and ("csv" not in self._formats or case in self._rows)

    def files_of(self, case: str) -> tuple[Path, ...]:
        """Whatever may be there of a case's answer, the table of all cases apart."""
        maps = sorted(self._out.glob(f"{escape(case)}_*_map.nii.gz"))
        # a class's part of the name has no "_": a_1_benign_map.nii.gz is of the case a_1, not of a
        own = [file for file in maps if "_" not in file.name[len(case) + 1 :].removesuffix("_map.nii.gz")]
        return (self._out / f"{case}.json", *own)

    def all_files(self) -> tuple[Path, ...]:
        """The answers that are there, to whatever case; run.json and tables are none."""
        return tuple(file for file in sorted(self._out.glob("[!.]*.json")) if file.name not in {"run.json", "labels.json"})

    def write(self, prediction: ClassPrediction) -> tuple[Path, ...]:
        """Write one answer; the table now and then."""
        files = prediction.save(self._out, formats=self._formats)
        self._rows[prediction.case] = prediction.score
        if perf_counter() - self._written > _TABLE_SECONDS:
            self.close()
        return files

    def close(self) -> None:
        """Write the table."""
        if "csv" in self._formats and self._rows:
            write_predictions([self._rows[case] for case in sorted(self._rows)], self._table, self._out)
        self._written = perf_counter()
