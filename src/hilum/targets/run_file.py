"""run.json of a folder of predictions, as far as others than its writer read it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

RUN = "run.json"


def read_predict_run(folder: Path) -> dict[str, object] | None:
    """Read run.json of a folder.

    None where `hilum predict` wrote none there, or it cannot be read.
    """
    try:
        written = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return written if isinstance(written, dict) and written.get("verb") == "predict" else None


def trained_cases(folder: Path) -> frozenset[str]:
    """List the predicted cases that are named like training cases of the model, by run.json."""
    names = (read_predict_run(folder) or {}).get("trained_on")
    listed = names if isinstance(names, list) else []
    return frozenset(name for name in listed if isinstance(name, str))
