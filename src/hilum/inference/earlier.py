"""What an earlier run left in the folder that answers are written to."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from hilum.dataset.case import Case

_log = logging.getLogger("hilum")


class Earlier:
    """The files of earlier answers to the cases of this run, replaced case by case.

    What this run does not write again goes: an answer in another format or a picture would else contradict the new one.

    Args:
        out: the folder.
        writer: of this run; `files_of(case)` names what may be there of a case.
        cases: that will be predicted.
        model: id of this run's model.
    """

    def __init__(self, out: Path, writer: Any, cases: Sequence[Case], *, model: str) -> None:
        self._out = out
        own = {case.id: {*writer.files_of(case.id), out / "pictures" / f"{case.id}.png"} for case in cases}
        self._files = {case: {file for file in files if file.is_file()} for case, files in own.items()}
        known = set().union(*self._files.values()) if self._files else set()
        others = [file for file in writer.all_files() if file not in known]
        replaced = sum(bool(files) for files in self._files.values())
        if replaced:
            _log.warning("%s holds answers to %d of these cases: they are replaced by those of model %s", out, replaced, model)
        if others:
            _log.warning(
                "%s also holds %d files of other cases, such as %s: they stay as they are", out, len(others), others[0].name
            )

    def replace(self, case: str, written: Iterable[Path]) -> tuple[str, ...]:
        """Remove what is left of a case's earlier answer; gives the names of all its files, those written over included."""
        files, new = self._files.get(case, set()), set(written)
        for file in files - new:
            file.unlink(missing_ok=True)
        return tuple(sorted(file.relative_to(self._out).as_posix() for file in files))
