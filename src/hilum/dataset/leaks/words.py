"""An audit in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.dataset.layouts.listing import some

if TYPE_CHECKING:
    from hilum.dataset.leaks.record import Audit, Predictor

_SHOWN = 3


def sentences(audit: Audit) -> tuple[str, ...]:
    """One sentence for each thing that was found, the worst first."""
    told = []
    if audit.split_patients:
        names = some(shared.patient for shared in audit.split_patients)
        told.append(
            f"{_count(len(audit.split_patients), 'patient')} on both sides of the split: {names}"
        )
    if audit.split_groups:
        groups = some((" = ".join(group[:_SHOWN]) for group in audit.split_groups), shown=2)
        told.append(
            f"{_count(len(audit.split_groups), 'group')} of near-duplicates on both sides of the"
            f" split: {groups}"
        )
    told += [predictor_words(found) for found in audit.predictors if found.verdict == "leak"]
    if audit.groups:
        cases = sum(len(group) for group in audit.groups)
        mirrored = sum(pair.kind == "mirrored" for pair in audit.pairs)
        exact = sum(pair.kind == "exact" for pair in audit.pairs)
        kinds = ", ".join(
            f"{count} {kind}" for count, kind in ((exact, "exact"), (mirrored, "mirrored")) if count
        )
        more = f" ({_count(len(audit.pairs), 'pair')}{f', {kinds}' if kinds else ''})"
        told.append(
            f"{cases} of {audit.compared} images are near-duplicates in"
            f" {_count(len(audit.groups), 'group')}{more}"
        )
    told += [predictor_words(found) for found in audit.predictors if found.verdict == "predicts"]
    restating = sorted({found.column for found in audit.predictors if found.verdict == "restates"})
    if restating:
        told.append(f"{some(restating)} restate{'s' if len(restating) == 1 else ''} the label")
    return (*told, *audit.notes)


def predictor_words(found: Predictor) -> str:
    """Describe how well a column alone tells the class, with its number."""
    figure = f"AUROC {found.auroc:.3f} ({found.low:.3f} to {found.high:.3f})"
    return (
        f"{'the column ' if found.origin == 'table' else 'the '}{found.column} alone tells"
        f" {found.target}: {figure}"
    )


def _count(number: int, name: str) -> str:
    return f"1 {name}" if number == 1 else f"{number} {name}s"
