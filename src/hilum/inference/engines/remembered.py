"""Keep what was checked once on this machine for the next time: a small JSON file in the user's cache folder.

Nothing depends on it but time. A file that is damaged, of another kind or not writable is as good
as none, and what is older than 30 days is forgotten: drivers, other programs and the machine's
cooling change meanwhile.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hilum.errors import HilumError
from hilum.io import atomic_write_text

_log = logging.getLogger("hilum")
_MOST = 500  # entries; the oldest are forgotten
_OLDEST = timedelta(days=30)
AT = "at"
"""Under which an entry says when it was measured: ISO 8601, UTC."""


def cache_file() -> Path:
    """Return the file of engine checks, in the platform's folder for what may be deleted at any time."""
    home = Path.home()
    folders = {"win32": home / "AppData" / "Local", "darwin": home / "Library" / "Caches"}
    return folders.get(sys.platform, home / ".cache") / "hilum" / "engines.json"


def recall(key: str) -> dict[str, Any]:
    """Read the entry of a key, with its time (`AT`).

    Empty where there is none, or it is too old or damaged.
    """
    entry = _read().get(key, {})
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(str(entry.get(AT)))
    except (TypeError, ValueError):  # none, no time, or one without its zone
        return {}
    return entry if timedelta() <= age <= _OLDEST else {}  # of the future: the clock was wrong


def remember(key: str, value: dict[str, Any]) -> None:
    """Keep a measurement.

    Two processes that write at once both leave a whole file; one of the two measurements is lost.
    """
    entries = {name: entry for name, entry in _read().items() if name != key}
    entries[key] = value | {AT: datetime.now(UTC).isoformat()}
    kept = dict(list(entries.items())[-_MOST:])
    try:
        atomic_write_text(cache_file(), json.dumps(kept, indent=1) + "\n")
    except (
        HilumError,
        OSError,
        RuntimeError,
    ) as error:  # no home, one that is read-only, or full: it is measured anew next time
        _log.debug("measurements are not kept: %s", error)


def _read() -> dict[str, dict[str, Any]]:
    try:
        entries = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError):  # none, no home, not JSON, not text
        return {}
    if not isinstance(entries, dict):
        return {}
    return {key: value for key, value in entries.items() if isinstance(value, dict)}
