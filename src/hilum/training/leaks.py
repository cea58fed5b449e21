"""Search for causes of optimistic scores before a training, kept for those who resume it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from hilum.dataset import audit
from hilum.dataset.leaks import Audit
from hilum.files import atomic_write_text

if TYPE_CHECKING:
    from pathlib import Path

    from hilum.dataset import Dataset
    from hilum.training.options import Listener, TrainOptions
    from hilum.training.premises import Premises

_AUDIT = "audit.json"
_AUDITED_GB = 1.0
"""Images of up to this size are compared with each other before training; `hilum check` compares
more."""


def look_for_leaks(
    dataset: Dataset, premises: Premises, work: Path, options: TrainOptions, listener: Listener
) -> Audit:
    """Look for copies of images and columns that tell the class, unless a resumed training has.

    It has where its files and tables are still the same.
    """
    kept = work / _AUDIT
    if options.resume and kept.is_file():
        held = json.loads(kept.read_text(encoding="utf-8"))
        if held.get("files") == _digest(premises):
            return Audit.model_validate(held["found"])
    return audit(
        dataset,
        limit_gb=_AUDITED_GB,
        progress=lambda done, total, case: listener.advance("looking for leaks", done, total, case),
    )


def keep_audit(found: Audit, premises: Premises, work: Path) -> None:
    """Write audit.json, for those who resume and those who want to know."""
    content = {"files": _digest(premises), "found": found.model_dump(mode="json")}
    atomic_write_text(work / _AUDIT, json.dumps(content, indent=2) + "\n")


def leak_warnings(leaks: Audit) -> tuple[str, ...]:
    """Make the card's sentences on cases across the split, leaks of the class and gaps.

    Near-duplicates in one fold, and columns that merely predict, do no harm.
    """
    leaking = tuple(found for found in leaks.predictors if found.verdict == "leak")
    grave = leaks.model_copy(update={"groups": (), "pairs": (), "predictors": leaking})
    return tuple(f"Attention: {sentence}" for sentence in grave.sentences)


def _digest(premises: Premises) -> str:
    return hashlib.sha256(premises.model_dump_json(include={"cases"}).encode()).hexdigest()
