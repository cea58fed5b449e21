"""The doctor: what is wrong with a data set, and the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.dataset.doctor.compare import (
    assumptions,
    classes,
    duplicates,
    files,
    labels,
    odd_ones,
    orphans,
    palettes,
    splits,
)
from hilum.dataset.doctor.examine import Examination, examine
from hilum.dataset.doctor.leaks import leaks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hilum.dataset.case import Dataset
    from hilum.dataset.doctor.finding import Finding

    Check = Callable[[Dataset, Sequence[Examination]], Iterable[Finding]]

_ORDER = ("error", "warning", "note")
CHECKS: tuple[Check, ...] = (
    *(orphans, files, duplicates, splits, odd_ones, palettes, labels, classes, leaks, assumptions),
)
"""Every check of the cases side by side."""


def check(
    dataset: Dataset, *, progress: Callable[[int, int, str], None] | None = None
) -> tuple[Finding, ...]:
    """Read every file of a data set once and say what is wrong or odd. Nothing is changed.

    One case is in memory at a time, and a thumbnail of each for the leak audit.

    Args:
        dataset: an opened data set.
        progress: called as progress(done, total, case id).

    Returns:
        Findings, errors first, then by case and kind; () for a data set without fault.
    """
    examinations = []
    for done, case in enumerate(dataset.every, start=1):
        examinations.append(examine(case, dataset.labels))
        if progress is not None:
            progress(done, len(dataset.every), case.id)
    findings = [finding for examination in examinations for finding in examination.findings]
    findings += [finding for one in CHECKS for finding in one(dataset, examinations)]
    return tuple(sorted(findings, key=lambda one: (_ORDER.index(one.severity), one.case, one.kind)))
