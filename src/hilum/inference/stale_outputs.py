"""Files that an earlier run left in the output folder."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hilum.errors import readable
from hilum.tasks.run_file import RUN, trained_cases

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from hilum.dataset.case import Case
    from hilum.inference.case_predictor import P, PredictionWriter
    from hilum.io import OutputFolder

REPORT, PICTURES = RUN, "pictures"

_log = logging.getLogger("hilum")


class StaleOutputs:
    """The files of earlier answers to the cases of this run, replaced case by case.

    What this run does not write again goes: an answer in another format or a picture would else
    contradict the new one. Only what hilum wrote, and nobody changed since, is touched.

    Args:
        out: the folder, held.
        writer: of this run.
        cases: that will be predicted.
        skipped: that are left out, as their answers are there.
        model: id of this run's model.

    Raises:
        UsageError: something that hilum did not write is in the way; it is named.
    """

    def __init__(
        self,
        out: OutputFolder,
        writer: PredictionWriter[P],
        cases: Sequence[Case],
        skipped: Sequence[Case],
        *,
        model: str,
    ) -> None:
        self._out = out
        tables = (REPORT, writer.table_file) if cases else (REPORT,)
        out.refuse_foreign((*tables, *(name for case in cases for name in writer.names(case))))
        if skipped:
            writer.write_table()
        own = {
            case.id: {*writer.earlier(case.id), out.path / PICTURES / f"{case.id}.png"}
            for case in cases
        }
        self._files = {
            case: {file for file in files if out.owned(file)} for case, files in own.items()
        }
        known = {
            REPORT,
            writer.table_file,
            *(file.name for files in own.values() for file in files),
        }
        known |= {file.name for case in skipped for file in writer.earlier(case.id)}
        known |= {name for case in (*cases, *skipped) for name in writer.names(case)}
        self.trained_on = trained_cases(out.path) - {case.id for case in (*cases, *skipped)}
        """Other cases with answers in the folder that are named like training cases of their model.
        """
        others = [
            name
            for name, entry in out.files.items()
            if entry.verb == out.verb and name not in known
        ]
        replaced = sum(bool(files) for files in self._files.values())
        if replaced:
            _log.warning(
                "%s holds answers to %d of these cases: they are replaced by those of model %s",
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
        kept, models = writer.kept_rows([case.id for case in (*cases, *skipped)])
        if kept:
            _log.warning(
                "%s: the table keeps its rows of %d other cases; all rows together are of %s",
                readable(out.path),
                kept,
                f"several models ({', '.join(models)})" if len(models) > 1 else "the same model",
            )

    def replace(self, case: str, written: Iterable[Path]) -> tuple[str, ...]:
        """Remove what is left of a case's earlier answer.

        Gives the names of all its files, those written over included.
        """
        files, new = self._files.get(case, set()), set(written)
        gone = {file for file in files - new if self._out.remove(file)}
        return tuple(
            sorted(file.relative_to(self._out.path).as_posix() for file in gone | (files & new))
        )
