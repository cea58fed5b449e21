"""The doctor: what is wrong with a data set, and the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.dataset.doctor.compare import (
    assumptions,
    duplicates,
    file_findings,
    odd_ones,
    orphan_findings,
    palettes,
    rare_labels,
    split_findings,
    unused_labels,
)
from hilum.dataset.doctor.examine import examine
from hilum.dataset.doctor.leaks import leak_findings, rare_classes
from hilum.dataset.leaks import audit_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilum.dataset.case import Dataset
    from hilum.dataset.doctor.finding import Finding

_ORDER = {"error": 0, "warning": 1, "note": 2}


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
    cases = (*dataset.cases, *dataset.unlabelled)
    examinations = []
    for done, case in enumerate(cases, start=1):
        examinations.append(examine(case, dataset.labels))
        if progress is not None:
            progress(done, len(cases), case.id)
    findings = [finding for examination in examinations for finding in examination.findings]
    findings += orphan_findings(dataset)
    findings += file_findings(dataset)
    findings += duplicates(dataset, examinations)
    findings += split_findings(dataset)
    findings += odd_ones(dataset, examinations)
    findings += palettes(examinations)
    findings += unused_labels(dataset, examinations)
    findings += rare_labels(dataset, examinations)
    findings += rare_classes(dataset)
    findings += leak_findings(
        dataset, audit_of(dataset, [one.look for one in examinations if one.look is not None])
    )
    findings += assumptions(dataset, examinations)
    return tuple(
        sorted(findings, key=lambda finding: (_ORDER[finding.severity], finding.case, finding.kind))
    )
