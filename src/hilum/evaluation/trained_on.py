"""The warning that predictions are of cases that the model was trained on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hilum.evaluation.page import ATTENTION, some
from hilum.tasks.run_file import trained_cases

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_log = logging.getLogger("hilum")


def warn_of_trained_cases(folder: Path, cases: Sequence[str]) -> tuple[str, ...]:
    """Log which scored cases are of the training data, as run.json of the predictions has it.

    Returns:
        The same as a note of the evaluation; none where no case is.
    """
    trained = trained_cases(folder)
    seen = [case for case in cases if case in trained]
    if not seen:
        return ()
    said = (
        f"{len(seen)} of {len(cases)} cases are named like cases that the model was trained on"
        f" ({some(seen)}): if they are the same, these figures say nothing about new patients;"
        " evaluate predictions of cases that were not in the training, or see the held-out figures"
        " on the model's card"
    )
    _log.warning("%s", said)
    return (ATTENTION + said,)
