"""A classifier's prediction for one case, and its files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import find_named
from hilum.files import OutputFolder, atomic_write_text
from hilum.inference.case_predictor import Seconds
from hilum.inference.dicom.names import (
    DICOM,
    KEY_IMAGES,
    PAGE,
    REPORT,
    refuse_for_formats,
)
from hilum.inference.prediction_writer import PredictionWriter
from hilum.io import write_volume
from hilum.plan.plan import Record
from hilum.targets.predictions import (
    CLASSES,
    PREDICTIONS,
    called_classes,
    in_file_names,
    predictions_text,
    read_predictions,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from hilum.dataset.case import Case
    from hilum.dataset.classes import ClassTable
    from hilum.inference.refusal import Verdict
    from hilum.targets.class_score import ClassScore
    from hilum.volume import Volume


class Promise(Record):
    """Coverage that a prediction set guarantees, and the cases it was measured on.

    Args:
        coverage: how often a set holds the truth.
        among: the cases that is true of: "all cases" on average, or "the cases of each class".
        cases: held-out predictions that the thresholds were learnt from.
        measured_on: whose predictions they were.
    """

    coverage: float
    among: str
    cases: int
    measured_on: str


@dataclass(frozen=True, eq=False)
class ClassPrediction:
    """A model's prediction for one case.

    Args:
        score: probabilities, calibrated ones, the prediction set.
        table: what the classes are.
        model: id of the trained model.
        verdict: whether the image is unlike those that the model learnt from; None where the model
            does not know.
        maps: where in the image each class comes from, by class, on the case's own grid; empty
            where none was asked for.
        seconds: how long each part took.
        promise: what the prediction set promises; None where there is none.
        files: the file or DICOM folder of each channel; none where it was given as a volume.
    """

    score: ClassScore
    table: ClassTable
    model: str
    verdict: Verdict | None = None
    maps: Mapping[str, Volume] = field(default_factory=dict)
    seconds: Seconds = field(default_factory=Seconds)
    promise: Promise | None = None
    files: tuple[Path, ...] = ()

    @property
    def case(self) -> str:
        """The case's id, and the stem of its files."""
        return self.score.case

    @property
    def label(self) -> str:
        """The class that is most probable; of findings all that are, joined by "|"."""
        return "|".join(called_classes(self.score, self.table))

    @property
    def unlike(self) -> tuple[str, ...]:
        """Reasons why the out-of-distribution check marks the image; empty where it does not."""
        verdict = self.verdict
        return (verdict.because,) if verdict is not None and verdict.refuse else ()

    @property
    def patches(self) -> dict[str, int]:
        """Return {}: a classifier runs no patches."""
        return {}

    @property
    def confidence(self) -> None:
        """Return None: the confidence of a class is its prediction set."""
        return

    @property
    def probabilities(self) -> dict[str, float]:
        """By class; calibrated where the model is."""
        return dict(zip(self.table.names, self.score.best, strict=True))

    def as_json(self) -> str:
        """Write everything as JSON."""
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
        }
        return json.dumps(said, indent=2) + "\n"

    def save(self, path: Path | str, *, formats: Sequence[str] = ("json",)) -> tuple[Path, ...]:
        """Write the prediction, and the maps where there are any.

        The table of all cases, predictions.csv, is written by `predict_many`.

        Args:
            path: a .json file, or a folder, made where it is missing, for `<case>.json` and
                `<case>_<class>_map.nii.gz`.
            formats: among `CLASS_FORMATS`.

        Raises:
            UsageError: a format that does not exist, or a file in the way that hilum did not write.
            ResourceError: another process writes to the folder.
            DataError: a DICOM format of a case that is no DICOM.
        """
        path = Path(path)
        for name in formats:
            find_named("format", "formats", name, CLASS_FORMATS)
        one_file = path.suffix == ".json"
        with OutputFolder(path.parent if one_file else path, "predict") as out:
            if one_file:
                out.write({path.name: self.as_json()})
                return (path,)
            out.refuse_foreign(class_files(self.case, self.table, formats, maps=self.maps))
            files = self.write(path, formats)
            out.record(*files)
        return files

    def write(self, folder: Path, formats: Sequence[str]) -> tuple[Path, ...]:
        """Write the files into a folder that is held already."""
        files: list[Path] = []
        if "json" in formats:
            files.append(folder / f"{self.case}.json")
            atomic_write_text(files[0], self.as_json())
        if any(name.startswith(DICOM) for name in formats):
            from hilum.inference.dicom.formats import write_classes

            files += write_classes(self, folder, formats)
        for name, volume in zip(
            class_files(self.case, self.table, (), maps=self.maps), self.maps.values(), strict=True
        ):
            write_volume(volume, folder / name)
            files.append(folder / name)
        return tuple(files)


def class_files(
    case: str, table: ClassTable, formats: Sequence[str], *, maps: Iterable[str]
) -> tuple[str, ...]:
    """Name a case's own files, those that it may have: its prediction, the maps of classes."""
    parts = in_file_names(table)
    return (
        *(f"{case}{suffix}" for name in formats for suffix in _OWN_FILES.get(name, ())),
        *(f"{case}_{parts[name]}_map.nii.gz" for name in maps),
    )


def top_classes(prediction: ClassPrediction) -> tuple[int, ...]:
    """Choose the classes that a map is made of: those called, or the most probable one."""
    names = called_classes(prediction.score, prediction.table)
    chosen = tuple(prediction.table.names.index(name) for name in names)
    return chosen or (int(np.argmax(prediction.score.best)),)


CLASS_FORMATS: dict[str, str] = {
    "csv": "predictions.csv, one row a case",
    "json": "<case>.json",
    "dicom-sr": f"<case>{REPORT}",
    "dicom-sc": f"<case>{KEY_IMAGES[0]}, one for each heat map",
    "dicom-pdf": f"<case>{PAGE}",
}
"""Formats of a classification, by the name users give."""
_OWN_FILES: dict[str, tuple[str, ...]] = {
    "json": (".json",),
    "dicom-sr": (REPORT,),
    "dicom-sc": KEY_IMAGES,
    "dicom-pdf": (PAGE,),
}
"""Suffixes of the files of one case, by format."""
_CASE = "case "
"""Key under which the record of predictions.csv names what the row of a case was made from."""
_TABLE_SECONDS = 5.0
"""While cases are predicted, the table is written this often."""


class ClassWriter(PredictionWriter[ClassPrediction]):
    """Writes predictions of a classification to a folder: a table of all cases, and files of each.

    Rows of other cases in the table that is there stay; the record of the table names the models of
    all its rows.

    Args:
        out: the folder, held.
        formats: among `CLASS_FORMATS`.
        table: what the classes are.
        model: id of the model.
        maps: maps of classes are written too.

    Raises:
        UsageError: a format that does not exist, or predictions of other classes in the folder.
    """

    def __init__(
        self,
        out: OutputFolder,
        formats: Sequence[str],
        table: ClassTable,
        *,
        model: str,
        maps: bool,
    ) -> None:
        """Read the table that an earlier run left: its rows of other cases stay."""
        for name in formats:
            find_named("format", "formats", name, CLASS_FORMATS)
        super().__init__(out, CLASSES, table.model_dump_json(indent=2) + "\n")
        self._formats, self._classes = tuple(formats), table
        self._maps = table.names if maps else ()
        there = out.owned(PREDICTIONS)
        self._rows = {
            score.case: score for score in (read_predictions(out.path, table) if there else ())
        }
        entry = out.entry(PREDICTIONS) if there else None
        held = entry.made_from if entry is not None else {}
        self._models = {
            **{name: kind for name, kind in held.items() if kind == "model"},
            model: "model",
        }
        self._made: dict[str, dict[str, str]] = {
            name.removeprefix(_CASE): json.loads(text)
            for name, text in held.items()
            if name.startswith(_CASE)
        }
        self._written, self._changed = perf_counter(), False

    def own_names(self, case: Case) -> tuple[str, ...]:
        """Name the file of a case's prediction; maps are made of the prediction's classes."""
        return tuple(
            f"{case.id}{_OWN_FILES[name][0]}" for name in self._formats if name in _OWN_FILES
        )

    def refuse(self, case: Case) -> None:
        """Refuse a case that is no DICOM where a DICOM format is asked for."""
        refuse_for_formats(case, self._formats)

    def is_written(self, case: Case) -> bool:
        """Say that an earlier run wrote the case's prediction in every format."""
        return super().is_written(case) and ("csv" not in self._formats or case.id in self._rows)

    def made_from(self, case: Case) -> list[dict[str, str]]:
        """Return the hashes of the inputs of the row and the file of a case."""
        rows = [self._made.get(case.id, {})] if "csv" in self._formats else []
        return rows + super().made_from(case)

    def names(self, case: Case) -> tuple[str, ...]:
        """Name the files that will be written for a case, the tables of all cases included."""
        tables = (PREDICTIONS, CLASSES) if "csv" in self._formats else ()
        return (*class_files(case.id, self._classes, self._formats, maps=self._maps), *tables)

    def earlier(self, case: str) -> tuple[Path, ...]:
        """Name what may be there of a case's prediction, the table of all cases apart."""
        return tuple(
            self.out.path / name
            for name in class_files(
                case, self._classes, tuple(_OWN_FILES), maps=self._classes.names
            )
        )

    def kept_rows(self, cases: Collection[str]) -> tuple[int, tuple[str, ...]]:
        """Count the rows of other cases that the table keeps, and list the models of all rows."""
        return sum(case not in cases for case in self._rows), tuple(self._models)

    def write(self, prediction: ClassPrediction, made_from: dict[str, str]) -> tuple[Path, ...]:
        """Write one prediction; the table now and then."""
        files = prediction.write(self.out.path, self._formats)
        if "csv" in self._formats:
            self._made[prediction.case] = made_from
            self._rows[prediction.case] = prediction.score
            self._changed = True
        elif (
            self._rows.pop(prediction.case, None) is not None
        ):  # it would contradict the new prediction
            self._made.pop(prediction.case, None)
            self._changed = True
        if perf_counter() - self._written > _TABLE_SECONDS:
            self.close()
        return files

    def write_table(self) -> None:
        """Write what the classes are, where a table of all cases is there without it."""
        if "csv" in self._formats:
            super().write_table()

    def close(self) -> None:
        """Write the table, the classes first: a run that is killed leaves no table without them."""
        if self._changed and not self._rows:
            self.out.remove(PREDICTIONS)
        elif self._changed:
            rows = [self._rows[case] for case in sorted(self._rows)]
            texts = {CLASSES: self._table, PREDICTIONS: predictions_text(rows, self._classes)}
            self.out.write(
                texts,
                made_from=self._models
                | {f"{_CASE}{case}": json.dumps(made) for case, made in self._made.items()},
            )
        self._written = perf_counter()
