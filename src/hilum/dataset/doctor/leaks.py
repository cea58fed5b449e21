"""Results of the leak audit as findings with a cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.dataset.doctor.finding import Finding
from hilum.dataset.folds import patient_of
from hilum.dataset.layouts.listing import some
from hilum.dataset.leaks.words import predictor_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hilum.dataset.case import Dataset
    from hilum.dataset.leaks import Audit, Pair, Predictor

FEWEST_PATIENTS = 5
"""A class of fewer patients is not in every fold of the usual five."""
_SHOWN = 6
_MARKS = {"some mirrored": "mirrored", "some turned": "turned", "some zoomed": "the size"}


def leak_findings(dataset: Dataset, audit: Audit) -> list[Finding]:
    """Near-duplicates by group, columns that tell the class, and what was not looked at.

    Exact copies, and patients on both sides of the given split, are found elsewhere.
    """
    near = [pair for pair in audit.pairs if pair.kind != "exact"]
    groups = [group for group in audit.groups if any(pair.one in group for pair in near)]
    harmless = {group for group in groups if _is_harmless(dataset, audit, group)}
    findings = [_group(dataset, audit, group, near) for group in groups if group not in harmless]
    if harmless:
        found = (
            f"{sum(map(len, harmless))} cases are nearly the same image as another of the same"
            " patient"
        )
        findings.append(Finding.note("", "near-duplicate", found, "nothing: they stay in one fold"))
    findings += [_predictor(found) for found in audit.predictors]
    findings += [
        Finding.note("", "not-audited", note, "nothing if that is no concern")
        for note in audit.notes
    ]
    return findings


def _is_harmless(dataset: Dataset, audit: Audit, group: tuple[str, ...]) -> bool:
    """Return True for one label and one patient, all on one side of the given split."""
    whose = _whose(dataset, group)
    alike = len(_labels(dataset, group)) < 2 and len(set(whose.values())) == 1
    return alike and len(whose) == len(group) and group not in audit.split_groups


def _labels(dataset: Dataset, group: tuple[str, ...]) -> list[str]:
    return sorted(
        {case.label for case in dataset.cases if case.id in group and case.label is not None}
    )


def _group(dataset: Dataset, audit: Audit, group: tuple[str, ...], near: list[Pair]) -> Finding:
    first, *others = group
    pairs = [pair for pair in near if pair.one in group]
    least = min(pair.likeness for pair in pairs)
    likeness = f"likeness {least:.2f}" + " or more" * (len(pairs) > 1)
    found = (
        f"nearly the same image as {some(others, shown=_SHOWN)}"
        f" ({', '.join([likeness, *_how(pairs)])})"
    )
    labels, whose = _labels(dataset, group), _whose(dataset, group)
    if len(labels) > 1:
        found += f", but labelled differently: {some(label or 'none' for label in labels)}"
    split = group in audit.split_groups
    if split:
        found += ", on both sides of the given split"
    if len(whose) < len(group):
        found += ", and not all of them are labelled: is a test case among the training data?"
    several = len(set(whose.values())) > 1
    cure = "look at them; " * (len(labels) > 1) + "keep them in one fold"
    if several:
        cure += ": --fix makes them one patient" + ", and takes them out of training" * split
    return Finding(
        case=first,
        kind="near-duplicate",
        severity="error" if split else "warning",
        found=found,
        cure=cure,
        fixable=several,
        others=tuple(others),
    )


def _how(pairs: list[Pair]) -> list[str]:
    """Describe how images are copies: exactly for one pair, in general for several."""
    if len(pairs) == 1:
        return [pairs[0].how] if pairs[0].how else []
    return [word for word, mark in _MARKS.items() if any(mark in pair.how for pair in pairs)]


def _whose(dataset: Dataset, group: tuple[str, ...]) -> dict[str, str]:
    """The patient of each labelled case of a group."""
    patients = patient_of(dataset)
    return {case: patients[case] for case in group if case in patients}


def _predictor(found: Predictor) -> Finding:
    words = predictor_words(found)
    if found.verdict == "restates":
        cure = "nothing: it is not given to the network; leave it out of baselines and subgroups"
        return Finding.note("", "label-copy", words, cure)
    if found.verdict == "leak":
        cure = (
            "find out why: a network learns it in place of the disease; add cases of each class"
            " with the same value"
        )
        return Finding.error("", "label-leak", words, cure)
    cure = (
        "report it beside the network, which can learn it from the image: as a baseline, and"
        " figures within its values"
    )
    return Finding.warning("", "confounder", words, cure)


def rare_classes(dataset: Dataset) -> list[Finding]:
    """Classes, findings and grades that too few patients have, or none."""
    return [] if dataset.classes is None else list(_rare(dataset))


def _rare(dataset: Dataset) -> Iterator[Finding]:
    table, patients = dataset.classes, patient_of(dataset)
    if table is None:
        return
    members = {case.id: table.indicators(case.label or "") for case in dataset.cases}
    for number, name in enumerate(table.names):
        cases = [case for case, member in members.items() if member[number]]
        count = len({patients[case] for case in cases})
        if count < FEWEST_PATIENTS:
            yield Finding.warning(
                "",
                "rare-class",
                f"{name}: {len(cases)} cases of {count} patient{'' if count == 1 else 's'}",
                (
                    "add cases, join it with another class, or leave it out: what is so rare can be"
                    " neither learnt nor judged"
                ),
            )
