"""Pairing of predictions with the cases of a reference."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hilum.errors import DataError
from hilum.evaluation.page import ATTENTION, some
from hilum.targets.run_file import trained_cases

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

_log = logging.getLogger("hilum")


def pair_cases(
    reference: Collection[str],
    predicted: Collection[str],
    where: str,
    *,
    allow_missing: bool,
    needed: str,
    other_reference: Callable[[], str],
) -> tuple[list[str], tuple[str, ...]]:
    """List the cases that both have, in the reference's order, and those without a prediction.

    Args:
        reference: the reference's cases.
        predicted: the predicted cases.
        where: "of (the reference) have no prediction in (the predictions)", for the error.
        allow_missing: leave cases without a prediction out instead of refusing.
        needed: what a prediction of a case is, for the error.
        other_reference: suggests a cure where no case is on both sides.

    Raises:
        DataError: a case has no prediction, or none has.
    """
    missing = tuple(sorted(set(reference) - set(predicted)))
    cases = [case for case in reference if case in predicted]
    if (missing and not allow_missing) or not cases:
        raise DataError(
            f"{len(missing)} of {len(reference)} cases {where}: {some(missing)}",
            needed=needed,
            cure=(
                "predict them, or leave them out with allow_missing=True"
                if cases
                else other_reference()
            ),
        )
    return cases, missing


def warn_of_trained_cases(folder: Path, cases: Sequence[str]) -> tuple[str, ...]:
    """Log which scored cases are of the training data, as run.json of the predictions has it.

    Returns:
        The same as a note of the evaluation; none where no case is.
    """
    trained = trained_cases(folder)
    known = [case for case in cases if case in trained]
    if not known:
        return ()
    warning = (
        f"{len(known)} of {len(cases)} cases are named like cases that the model was trained on"
        f" ({some(known)}): if they are the same, these figures say nothing about new patients;"
        " evaluate predictions of cases that were not in the training, or see the held-out figures"
        " on the model's card"
    )
    _log.warning("%s", warning)
    return (ATTENTION + warning,)
