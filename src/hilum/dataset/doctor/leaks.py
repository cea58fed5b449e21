"""Results of the leak audit as findings with a cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.dataset.doctor.finding import Finding
from hilum.dataset.folds import patient_of
from hilum.dataset.layouts.listing import some
from hilum.dataset.leaks import audit_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hilum.dataset.case import Dataset
    from hilum.dataset.doctor.examine import Examination
    from hilum.dataset.leaks import Audit, Pair

_SHOWN = 6
_MARKS = {"some mirrored": "mirrored", "some turned": "turned", "some zoomed": "the size"}
_KINDS = {"restates": "label-copy", "leak": "label-leak", "predicts": "confounder"}


def leaks(dataset: Dataset, examinations: Sequence[Examination]) -> Iterator[Finding]:
    """Audit what was kept of each image, and report it."""
    looks = [one.look for one in examinations if one.look is not None]
    return leak_findings(dataset, audit_of(dataset, looks))


def leak_findings(dataset: Dataset, audit: Audit) -> Iterator[Finding]:
    """Report near-duplicates by group, columns that tell the class, and what was not looked at.

    Exact copies, and patients on both sides of the given split, are found elsewhere.
    """
    near = [pair for pair in audit.pairs if pair.kind != "exact"]
    groups = [group for group in audit.groups if any(pair.one in group for pair in near)]
    for group in groups:
        if group not in audit.harmless_groups:
            pairs = [pair for pair in near if pair.one in group]
            yield _group(dataset, group, pairs, split=group in audit.split_groups)
    harmless = sum(len(group) for group in groups if group in audit.harmless_groups)
    if harmless:
        found = f"{harmless} cases are nearly the same image as another of the same patient"
        yield Finding.of("near-duplicate", found, severity="note")
    for predictor in audit.predictors:
        yield Finding.of(_KINDS[predictor.verdict], predictor.sentence)
    for note in audit.notes:
        yield Finding.of("not-audited", note)


def _group(
    dataset: Dataset, group: tuple[str, ...], pairs: Sequence[Pair], *, split: bool
) -> Finding:
    first, *others = group
    likeness = f"likeness {min(pair.likeness for pair in pairs):.2f}"
    how = [pairs[0].how] if pairs[0].how else []
    if len(pairs) > 1:
        likeness += " or more"
        how = [word for word, mark in _MARKS.items() if any(mark in pair.how for pair in pairs)]
    found = f"nearly the same image as {some(others, shown=_SHOWN)} ({', '.join([likeness, *how])})"
    labels = {case.label or "" for case in dataset.cases if case.id in group}
    cure = "keep them in one fold"
    if len(labels) > 1:
        named = some(label or "none" for label in sorted(labels))
        found += f", but labelled differently: {named}"
        cure = f"look at them; {cure}"
    if split:
        found += ", on both sides of the given split"
    patients = [patient for case, patient in patient_of(dataset).items() if case in group]
    if len(patients) < len(group):
        found += ", and not all of them are labelled: is a test case among the training data?"
    several = len(set(patients)) > 1
    if several:
        cure += ": --fix makes them one patient" + ", and takes them out of training" * split
    return Finding.of(
        "near-duplicate",
        found,
        first,
        cure,
        severity="error" if split else "warning",
        fixable=several,
        others=tuple(others),
    )
