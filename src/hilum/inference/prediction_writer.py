"""Base of the writers of predictions, which also replace what an earlier run left."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, TypeVar

from hilum.errors import UsageError, readable
from hilum.targets.run_file import RUN, trained_cases

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from hilum.dataset.case import Case
    from hilum.files import OutputFolder
    from hilum.inference.class_prediction import ClassPrediction
    from hilum.inference.prediction import Prediction

P = TypeVar("P", bound="Prediction | ClassPrediction")
REPORT, PICTURES = RUN, "pictures"
_log = logging.getLogger("hilum")


class PredictionWriter(ABC, Generic[P]):
    """Writes predictions of many cases to a folder.

    Args:
        out: the folder, held.
        table_file: name of the file that says what labels or classes mean.
        table: its text.

    Raises:
        UsageError: the folder has predictions with another table.
    """

    def __init__(self, out: OutputFolder, table_file: str, table: str) -> None:
        """Refuse a folder whose predictions are of other labels or classes."""
        self.out, self._table_file, self._table = out, table_file, table
        self._stale: dict[str, set[Path]] = {}
        file = out.path / table_file
        if out.owned(table_file) and file.read_text(encoding="utf-8") != table:
            raise UsageError(
                f"{out.path} holds predictions of a model with other labels or classes, see {file}",
                needed="one table of labels or classes for all predictions in a folder",
                cure="choose another output folder",
            )

    @abstractmethod
    def names(self, case: Case) -> tuple[str, ...]:
        """Name the files that will be written for a case, tables of all cases included."""

    def own_names(self, case: Case) -> tuple[str, ...]:
        """Name those that always are the case's alone."""
        return self.names(case)

    def refuse(self, case: Case) -> None:
        """Refuse a case that a format cannot hold, before any work.

        Raises:
            DataError: it cannot.
        """

    @abstractmethod
    def earlier(self, case: str) -> tuple[Path, ...]:
        """Name the files that earlier predictions of a case may have left, in any format."""

    def is_written(self, case: Case) -> bool:
        """Say that an earlier run wrote the case's prediction in every format."""
        return all(
            name in self.out.files and (self.out.path / name).is_file()
            for name in self.own_names(case)
        )

    def made_from(self, case: Case) -> list[dict[str, str]]:
        """Return the hashes of the inputs of each existing file of a case."""
        return [self.out.files[name].made_from for name in self.own_names(case)]

    def kept_rows(
        self,
        cases: Collection[str],  # noqa: ARG002  (without a table of all cases there are no rows)
    ) -> tuple[int, tuple[str, ...]]:
        """Count the rows of other cases that its table keeps, and list the models of all rows."""
        return 0, ()

    @abstractmethod
    def write(self, prediction: P, made_from: dict[str, str]) -> tuple[Path, ...]:
        """Write one prediction and return its files."""

    def write_table(self) -> None:
        """Write what labels or classes mean where that is missing."""
        if not (self.out.path / self._table_file).exists():
            self.out.write({self._table_file: self._table})

    def close(self) -> None:
        """Write what belongs to all cases together."""

    def take_over(self, cases: Sequence[Case], skipped: Sequence[Case], *, model: str) -> set[str]:
        """Prepare to replace what earlier runs left of the cases of this run.

        What this run does not write again goes: another format or a picture would else contradict
        the new one. Only what hilum wrote, and nobody changed since, is touched.

        Args:
            cases: that will be predicted.
            skipped: that are left out, as their predictions are there.
            model: id of this run's model.

        Returns:
            Other cases with predictions in the folder that are named like training cases of their
            model.

        Raises:
            UsageError: something that hilum did not write is in the way; it is named.
        """
        out, names = self.out, {name for case in cases for name in self.names(case)}
        tables = {REPORT, self._table_file} if cases else {REPORT}
        out.refuse_foreign((*tables, *sorted(names)))
        if skipped:
            self.write_table()
        earlier = {
            case.id: {*self.earlier(case.id), out.path / PICTURES / f"{case.id}.png"}
            for case in cases
        }
        self._stale = {case: {*filter(out.owned, files)} for case, files in earlier.items()}
        known = {REPORT, self._table_file, *names}
        known |= {file.name for files in earlier.values() for file in files}
        for case in skipped:
            known |= {*self.names(case), *(file.name for file in self.earlier(case.id))}
        others = [
            name
            for name, entry in out.files.items()
            if entry.verb == out.verb and name not in known
        ]
        replaced = sum(map(bool, self._stale.values()))
        if replaced:
            _log.warning(
                "%s holds predictions of %d of these cases: they are replaced by those of model %s,"
                " and their files of other formats are removed",
                readable(out.path),
                replaced,
                model,
            )
        if others:
            _log.warning(
                "%s also holds %d files of other cases, such as %s: they stay as they are",
                readable(out.path),
                len(others),
                readable(others[0]),
            )
        every = {case.id for case in (*cases, *skipped)}
        kept, models = self.kept_rows(every)
        if kept:
            _log.warning(
                "%s: the table of predictions keeps its rows of %d cases that this run does not"
                " predict; its rows are now of %s",
                readable(out.path),
                kept,
                f"several models ({', '.join(models)}): do not evaluate them as one"
                if len(models) > 1
                else "one model",
            )
        return {*trained_cases(out.path)} - every

    def remove_stale(self, case: str, written: Iterable[Path]) -> tuple[str, ...]:
        """Remove what is left of a case's earlier prediction.

        Gives the names of all its files, those written over included.
        """
        files, new = self._stale.get(case, set()), set(written)
        gone = {file for file in files - new if self.out.remove(file)}
        return tuple(
            sorted(file.relative_to(self.out.path).as_posix() for file in gone | (files & new))
        )
