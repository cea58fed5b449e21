"""Choosing the overlap of patches by what it costs in Dice and what it saves in seconds.

The cases are predicted at 0.5, 0.375, 0.25, 0.125 and 0, in this order, until an overlap costs too
much: for any region the 95 % bootstrap interval (patients resampled) of the change of its mean Dice
reaches below -`ALLOWED`. The one before it is taken. As every region must pass and the first
failure ends it, many tests make no error more likely. An overlap that makes the same patches of
every case as a larger one is not computed again and never chosen: it saves nothing here, and larger
images may come. With fewer than `FEWEST` patients nothing is tried. An overlap that fails, whatever
the reason, ends it as one does that the time does not allow: what was found before it is kept.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hilum.errors import HilumError
from hilum.evaluation.page import span
from hilum.training.tuning.postprocessing_trials import FEWEST, compared
from hilum.training.tuning.records import OverlapTrial, OverlapTuning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

OVERLAPS = (0.5, 0.375, 0.25, 0.125, 0.0)
ALLOWED = 0.002

_log = logging.getLogger("hilum")


@dataclass(frozen=True, eq=False)
class OverlapTrialResult:
    """All cases predicted at one overlap.

    Args:
        dice: (N, R), 1 where the region is in neither.
        seconds: mean of a case, in the network and back to its grid.
        patches: mean of a case, those that the network saw.
    """

    dice: NDArray[np.float64]
    seconds: float
    patches: float


def choose_overlap(
    first: OverlapTrialResult,
    predict: Callable[[float], OverlapTrialResult],
    patches: Callable[[float], tuple[int, ...]],
    *,
    kept: float,
    groups: Sequence[str],
    regions: Sequence[str],
    deadline: float | None = None,
) -> OverlapTuning:
    """Find the smallest overlap that surely costs nothing worth speaking of.

    Args:
        first: at 0.5.
        predict: all cases at another overlap.
        patches: the number of patches that the whole grid of each case makes at an overlap: which
            overlaps are the same.
        kept: what stays where nothing could be tried.
        groups: (N,) patients.
        regions: (R,) names.
        deadline: a `time.perf_counter` value; no overlap is begun that would end after it if it
            took as long as the last.
    """
    patients = len(set(groups))
    if patients < FEWEST:
        because = (
            f"{kept:g} stays: {patients} patient{'s' * (patients > 1)} to try others on, and below"
            f" {FEWEST} chance decides more"
        )
        return OverlapTuning(overlap=kept, because=because, cases=len(groups))
    trials = [_trial(OVERLAPS[0], first, first, groups, regions)]
    made = {patches(OVERLAPS[0]): OVERLAPS[0]}
    lasted = first.seconds * len(groups)
    untried: tuple[float, ...] = ()
    failed = ""
    for place, overlap in enumerate(OVERLAPS[1:], start=1):
        same = made.setdefault(patches(overlap), overlap)
        if same != overlap:
            shared = next(trial for trial in trials if trial.overlap == same)
            trials.append(shared.model_copy(update={"overlap": overlap, "shared_with": same}))
            continue
        if deadline is not None and time.perf_counter() + lasted > deadline:
            untried = OVERLAPS[place:]
            break
        begun = time.perf_counter()
        try:
            made_there = predict(overlap)
        # whatever it is, the model must not be lost by what might have sped it up
        except Exception as error:  # noqa: BLE001
            failed = f"{overlap:g} could not be tried: {what_failed(error)}"
            break
        trials.append(_trial(overlap, made_there, first, groups, regions))
        lasted = time.perf_counter() - begun
        if not trials[-1].within:
            break
    own = [trial for trial in trials if trial.shared_with is None]
    chosen = [trial for trial in own if trial.within][-1]
    return OverlapTuning(
        overlap=chosen.overlap if len(own) > 1 else kept,
        because="; ".join(
            filter(
                None,
                (_because(chosen, trials, untried, kept, len(groups), failed=bool(failed)), failed),
            )
        ),
        cases=len(groups),
        trials=tuple(trials),
        failed=failed,
    )


def _trial(
    overlap: float,
    made: OverlapTrialResult,
    first: OverlapTrialResult,
    groups: Sequence[str],
    regions: Sequence[str],
) -> OverlapTrial:
    changes = tuple(
        compared(first.dice, made.dice, groups, regions, n) for n in range(len(regions))
    )
    within = all(change.low >= -ALLOWED for change in changes)
    return OverlapTrial(
        overlap=overlap, patches=made.patches, seconds=made.seconds, changes=changes, within=within
    )


def _because(
    chosen: OverlapTrial,
    trials: Sequence[OverlapTrial],
    untried: Sequence[float],
    kept: float,
    cases: int,
    *,
    failed: bool,
) -> str:
    """The reason, with its figures."""
    first, last = trials[0], trials[-1]
    where = f"on {cases} cases"
    spent = f"{chosen.patches:.3g} patches and {chosen.seconds:.3g} s a case"
    if all(trial.shared_with is not None for trial in trials[1:]):
        parts = [f"{kept:g} stays"]
        if not untried and not failed:
            parts.append(
                f"{where}, every overlap makes the same {first.patches:.3g} patches a case, and"
                " larger images may come"
            )
    elif chosen is first:
        parts = [
            (
                f"{where}, {spent}; no smaller one that was tried surely stays within"
                f" {ALLOWED:g} of its mean Dice"
            )
        ]
    else:
        parts = [
            (
                f"{where}, {spent} instead of {first.patches:.3g} and {first.seconds:.3g} s at"
                f" {first.overlap:g}"
            ),
            (
                "the 95 % interval of no region's mean Dice reaches a fall of more than"
                f" {ALLOWED:g}: at worst {said(chosen)}"
            ),
        ]
    if not last.within:
        parts.append(
            f"{last.overlap:g} may cost too much, and smaller ones were not tried: {said(last)}"
        )
    same = [f"{t.overlap:g} as {t.shared_with:g}" for t in trials if t.shared_with is not None]
    if same:
        parts.append("the same patches: " + ", ".join(same))
    if untried:
        parts.append(f"no time was left to try {', '.join(f'{overlap:g}' for overlap in untried)}")
    return "; ".join(parts)


def what_failed(error: Exception) -> str:
    """An error in a sentence of the card; one that hilum did not expect goes to the log whole."""
    if isinstance(error, HilumError):
        return error.found
    _log.error("an error that hilum did not expect", exc_info=error)
    return f"{type(error).__name__}: {error}"


def said(trial: OverlapTrial) -> str:
    """The region that an overlap may cost the most, with its figures."""
    change = min(trial.changes, key=lambda one: one.low)
    return (
        f"{change.region} {change.difference:+.4f} ({span(change.low, change.high, '+.4f')},"
        f" {change.patients} patients), {change.before:.4f} -> {change.after:.4f}"
    )
