"""Choosing the overlap of patches by what it costs in Dice and what it saves in seconds.

The cases are predicted at 0.5, 0.375, 0.25, 0.125 and 0, in this order. The smallest overlap is taken at which no region's mean
Dice lies more than `ALLOWED` below that at 0.5. An overlap that makes the same patches of every case as a larger one is not
computed again and never chosen: it saves nothing here, and larger images may come.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hilum.training.tuning.answers import compared
from hilum.training.tuning.records import OverlapTrial, OverlapTuning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

OVERLAPS = (0.5, 0.375, 0.25, 0.125, 0.0)
ALLOWED = 0.002


@dataclass(frozen=True, eq=False)
class Round:
    """All cases predicted at one overlap.

    Args:
        dice: (N, R), 1 where the region is in neither.
        seconds: mean of a case, in the network and back to its grid.
    """

    dice: NDArray[np.float64]
    seconds: float


def choose_overlap(
    first: Round,
    predict: Callable[[float], Round],
    patches: Callable[[float], tuple[int, ...]],
    *,
    groups: Sequence[str],
    regions: Sequence[str],
    deadline: float | None = None,
) -> OverlapTuning:
    """Find the smallest overlap that costs nothing worth speaking of.

    Args:
        first: at 0.5.
        predict: all cases at another overlap.
        patches: the number of patches of each case at an overlap.
        groups: (N,) patients.
        regions: (R,) names.
        deadline: a `time.perf_counter` value; no overlap is begun that would end after it if it took as long as the last.
    """
    trials: list[OverlapTrial] = []
    counted: dict[tuple[int, ...], OverlapTrial] = {}
    lasted = first.seconds * len(groups)
    untried: list[float] = []
    for overlap in OVERLAPS:
        counts = patches(overlap)
        mean = sum(counts) / len(counts)
        same = counted.get(counts)
        if same is not None:
            trials.append(same.model_copy(update={"overlap": overlap, "shared_with": same.overlap}))
            continue
        if overlap != OVERLAPS[0] and deadline is not None and time.perf_counter() + lasted > deadline:
            untried.append(overlap)
            continue
        begun = time.perf_counter()
        made = first if overlap == OVERLAPS[0] else predict(overlap)
        lasted = lasted if overlap == OVERLAPS[0] else time.perf_counter() - begun
        changes = tuple(compared(first.dice, made.dice, groups, regions, n) for n in range(len(regions)))
        within = all(change.difference >= -ALLOWED for change in changes)
        trial = OverlapTrial(overlap=overlap, patches=mean, seconds=made.seconds, changes=changes, within=within)
        counted[counts] = trial
        trials.append(trial)
    chosen = min((t for t in trials if t.within and t.shared_with is None), key=lambda trial: trial.overlap)
    return OverlapTuning(
        overlap=chosen.overlap, because=_because(chosen, trials, untried, len(groups)), cases=len(groups), trials=tuple(trials)
    )


def _because(chosen: OverlapTrial, trials: Sequence[OverlapTrial], untried: Sequence[float], cases: int) -> str:
    """The reason, with its figures."""
    first = trials[0]
    where = f"on {cases} case{'s' if cases > 1 else ''}"
    if not untried and all(trial.shared_with is not None for trial in trials[1:]):
        return f"{where}, every overlap makes the same {first.patches:.3g} patches a case, and larger images may come"
    spent = f"{chosen.patches:.3g} patches and {chosen.seconds:.3g} s a case"
    if chosen is first:
        parts = [f"{where}, {spent}; no smaller one that was tried stays within {ALLOWED:g} of its mean Dice for every region"]
    else:
        worst = _worst(chosen)
        parts = [
            f"{where}, {spent} instead of {first.patches:.3g} and {first.seconds:.3g} s at {first.overlap:g}",
            f"no region's mean Dice falls by more than {ALLOWED:g}: at worst {worst}",
        ]
    parts += [f"{t.overlap:g} costs too much: {_worst(t)}" for t in trials if not t.within and t.shared_with is None]
    same = [f"{t.overlap:g} as {t.shared_with:g}" for t in trials if t.shared_with is not None]
    if same:
        parts.append("the same patches: " + ", ".join(same))
    if untried:
        parts.append(f"no time was left to try {', '.join(f'{overlap:g}' for overlap in untried)}")
    return "; ".join(parts)


def _worst(trial: OverlapTrial) -> str:
    change = min(trial.changes, key=lambda one: one.difference)
    return (
        f"{change.region} {change.difference:+.4f} ({change.low:+.4f} to {change.high:+.4f}, {change.patients} patients), "
        f"{change.before:.4f} -> {change.after:.4f}"
    )
