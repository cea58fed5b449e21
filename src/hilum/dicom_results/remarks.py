"""Remarks on what is written, each kind logged once and not for every series of a data set."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hilum.errors import readable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_log = logging.getLogger("hilum")
_known: set[tuple[str, ...]] = set()


def remark(source: Path | str, text: str, kind: Iterable[str] = ()) -> None:
    """Log a warning about a source; where one of its kind was logged before, only for debugging.

    Args:
        source: file, folder or series.
        text: of the remark.
        kind: what it has in common with others; the text if empty.
    """
    key = tuple(kind) or (text,)
    level = logging.DEBUG if key in _known else logging.WARNING
    _known.add(key)
    _log.log(level, "%s: %s (logged once)", readable(source), text)
