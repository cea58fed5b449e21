"""Learning which post-processing helps, from answers for cases that the answering network was not trained on.

Candidates are tried in a fixed order, each on top of those kept before it: the whole foreground where it has several regions,
then every region; the largest component, the minimum volume, the holes. A step stays only where

- the mean Dice of its region (of the whole foreground: of the regions) rises by more than `MARGIN`,
- the 95 % bootstrap interval of the rise, patients resampled, lies above 0, and Wilcoxon's signed-rank test over patients says
  p < `P_VALUE` (so that at least six patients must have changed),
- no other region's mean Dice falls by more than `LOSS`,
- no region that was found in a case becomes missed altogether.

Of the minimum volumes of a small grid that pass, the one with the largest rise is taken. With fewer than `FEWEST` patients
nothing is learnt. What is learnt is then judged on cases that it was not learnt from: the patients are cut into `PARTS`, each
part is post-processed by what the same rules find in the others; where the mean over the regions does not rise by that, nothing
is kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.plan.segmentation import PostprocessingStep
from hilum.training.tuning.answers import MEAN, PREDICTED, REFERENCED, Answers, compared
from hilum.training.tuning.records import PostprocessingTuning, Trial
from hilum.volume import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from hilum.training.tuning.answers import Answer, Steps
    from hilum.training.tuning.records import Change
    from hilum.volume import LabelTable

FEWEST = 10
"""Patients below which nothing is learnt."""
MARGIN = 0.001
LOSS = 0.0001
P_VALUE = 0.05
PARTS = 5
SMALLEST_ML = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SMALLEST_VOXELS = (5.0, 15.0, 50.0, 150.0, 500.0, 1500.0)
"""Minimum volumes that are tried, as long as they are below the smallest annotation of the region."""
_NAMED = 6  # trials that the reason names one by one; all are in tuning.json

Unit = Literal["ml", "voxels"]


def learn_postprocessing(
    held: Sequence[Answer],
    table: LabelTable,
    *,
    unit: Unit,
    deadline: float | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> PostprocessingTuning:
    """Find the steps that help.

    Args:
        held: answers for cases that the answering networks were not trained on.
        table: what the integers mean.
        unit: of minimum volumes; voxels for images without a physical scale.
        deadline: a `time.perf_counter` value; when it is passed nothing is learnt, and the reason says so.
        progress: told what is tried.
    """

    def late() -> bool:
        return deadline is not None and time.perf_counter() > deadline

    few = too_few([answer.group for answer in held])
    if few is not None:
        return few
    patients = len({answer.group for answer in held})
    answers = Answers(held, table)
    search = _Search(answers, unit, range(len(held)), progress, late).run()
    held_out = _held_out(search) if search.steps else None
    if late():
        return no_time(len(held), patients)
    return _judged(search, held_out)


def too_few(groups: Sequence[str]) -> PostprocessingTuning | None:
    """What is said where there are not enough patients, given that of each case; None where there are."""
    patients = len(set(groups))
    if patients >= FEWEST:
        return None
    because = f"none: {_count(patients, 'patient')} to learn from, and below {FEWEST} chance decides more than the images"
    return PostprocessingTuning(because=because, cases=len(groups), patients=patients)


@dataclass
class _Search:
    """Trying the candidates on some of the cases."""

    answers: Answers
    unit: Unit
    rows: Sequence[int]
    progress: Callable[[str], None]
    late: Callable[[], bool]
    steps: Steps = ()
    trials: list[Trial] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)

    def run(self) -> _Search:
        """Learn from these cases; `steps`, `trials` and `unchanged` hold what was found, not all of it once it is late."""
        for column, region in self._targets():
            for options in self._candidates(region):
                self._try(column, options)
        return self

    def _targets(self) -> list[tuple[int | None, Region]]:
        """What is post-processed: the whole foreground where it is more than one of the regions, then every region."""
        table = self.answers.table
        foreground = tuple(label.id for label in table.foreground)
        regions: list[tuple[int | None, Region]] = list(enumerate(table.scored))
        if len(regions) < 2 or any(set(region.labels) == set(foreground) for _, region in regions):
            return regions
        return [(None, Region(name="the whole foreground", labels=foreground)), *regions]

    def _candidates(self, region: Region) -> list[list[PostprocessingStep]]:
        """Steps in the order in which they are tried; of those in one list at most one is kept."""

        def step(kind: Literal["largest_component", "minimum_volume", "fill_holes"], minimum: float = 0.0) -> PostprocessingStep:
            return PostprocessingStep(kind=kind, region=region.name, labels=region.labels, minimum=minimum, unit=self.unit)

        grid = SMALLEST_ML if self.unit == "ml" else SMALLEST_VOXELS
        below = self._smallest(region)
        minima = [step("minimum_volume", minimum) for minimum in grid if minimum < below]
        return [[step("largest_component")], minima, [step("fill_holes")]]

    def _smallest(self, region: Region) -> float:
        """The smallest annotation of the region among the cases, in the unit of the minimum; 0 where there is none."""
        sizes = []
        for row in self.rows:
            answer = self.answers.held[row]
            columns = [self.answers.table.ids.index(label) for label in region.labels]
            voxels = float(answer.counts[:, columns].sum())
            if voxels:
                sizes.append(voxels if self.unit == "voxels" else voxels * answer.voxel_mm3 / 1000.0)
        return min(sizes, default=0.0)

    def _try(self, column: int | None, options: list[PostprocessingStep]) -> None:
        """Try steps of one kind and keep the best of those that pass."""
        tried: list[Trial] = []
        for step in options:
            if self.late():
                return
            self.progress(step.title)
            after = (*self.steps, step)
            if self.answers.changes_nothing(after):
                self.unchanged.append(step.title)
            else:
                tried.append(self._trial(column, after))
        passed = [trial for trial in tried if trial.kept]
        best = max(passed, key=lambda trial: trial.own.difference, default=None)  # the first of equal ones: the smallest
        for trial in tried:
            if trial.kept and trial is not best and best is not None:
                trial = trial.model_copy(update={"kept": False, "because": f"{best.step.title} helps more"})  # noqa: PLW2901  (said anew)
            self.trials.append(trial)
            if not trial.kept:
                self.answers.forget((*self.steps, trial.step))
        if best is not None:
            self.steps = (*self.steps, best.step)

    def _trial(self, column: int | None, after: Steps) -> Trial:
        before = after[:-1]
        own = self.answers.change(before, after, column, self.rows)
        rise = (self.answers.dice(after) - self.answers.dice(before))[list(self.rows)].mean(axis=0)  # (R,)
        others = [n for n in range(len(rise)) if n != column]
        worst = self.answers.change(before, after, min(others, key=lambda n: rise[n]), self.rows) if others else None
        counts = [self.answers.counts(steps)[list(self.rows)] for steps in (before, after)]
        chosen = slice(None) if column is None else slice(column, column + 1)
        missed = [(c[..., PREDICTED] == 0) & (c[..., REFERENCED] > 0) for c in counts]
        invented = [int(((c[..., PREDICTED] > 0) & (c[..., REFERENCED] == 0))[:, chosen].any(axis=1).sum()) for c in counts]
        reason = _objection(own, worst, lost=int((missed[1] & ~missed[0]).any(axis=1).sum()))
        return Trial(
            step=after[-1],
            own=own,
            others=worst,
            missed=(int(missed[0][:, chosen].any(axis=1).sum()), int(missed[1][:, chosen].any(axis=1).sum())),
            invented=(invented[0], invented[1]),
            kept=reason is None,
            because=reason or "it helps, and nothing loses",
        )


def _objection(own: Change, worst: Change | None, *, lost: int) -> str | None:
    """Why a step is not kept; None where it is."""
    if not own.difference > MARGIN:
        return f"a rise of more than {MARGIN:g} is asked for"
    if not own.low > 0 or not own.p_value < P_VALUE:
        return f"{_count(own.changed, 'case')} changed: that may be chance"
    if worst is not None and worst.difference < -LOSS:
        return f"{worst.region} loses {-worst.difference:.4f}"
    if lost:
        return f"in {_count(lost, 'case')} a region that was found would be lost altogether"
    return None


def no_time(cases: int, patients: int) -> PostprocessingTuning:
    """What is said where the time was up first."""
    because = "none: the time was up before every step was tried and measured; `hilum tune` does it"
    return PostprocessingTuning(because=because, cases=cases, patients=patients)


def _judged(search: _Search, held_out: Change | None) -> PostprocessingTuning:
    """What was found, held against cases that it was not found on."""
    answers = search.answers
    steps = search.steps if held_out is not None and held_out.difference > 0 else ()
    regions = [None, *range(len(answers.regions))] if len(answers.regions) > 1 else [0]
    return PostprocessingTuning(
        steps=steps,
        because=_because(search, held_out, steps),
        cases=len(answers.held),
        patients=len(set(answers.groups)),
        trials=tuple(search.trials),
        unchanged=tuple(search.unchanged),
        learnt=tuple(answers.change((), search.steps, region) for region in regions) if search.steps else (),
        held_out=held_out,
    )


def _held_out(search: _Search) -> Change:
    """Each part of the patients by what is learnt from the others."""
    answers = search.answers
    patients = sorted(set(answers.groups))
    order = np.random.default_rng(0).permutation(len(patients))
    part = {patient: int(order[n]) % PARTS for n, patient in enumerate(patients)}
    before = answers.dice(())
    after: NDArray[np.float64] = before.copy()
    for number in range(PARTS):
        inside = [row for row, group in enumerate(answers.groups) if part[group] == number]
        others = [row for row, group in enumerate(answers.groups) if part[group] != number]
        told = _prefixed(search.progress, f"part {number + 1} of {PARTS}: ")
        steps = _Search(answers, search.unit, others, told, search.late).run().steps
        after[inside] = answers.dice(steps)[inside]
    return compared(before, after, answers.groups, answers.regions, None)


def _prefixed(progress: Callable[[str], None], before: str) -> Callable[[str], None]:
    return lambda title: progress(before + title)


def _because(search: _Search, held_out: Change | None, steps: Steps) -> str:
    """The reason, with its figures."""
    answers = search.answers
    where = f"{len(answers.held)} cases of {_count(len(set(answers.groups)), 'patient')}"
    kept = [trial for trial in search.trials if trial.kept]
    best = {(t.step.kind, t.step.region): t for t in sorted(search.trials, key=lambda t: t.own.difference)}
    helped = {(t.step.kind, t.step.region) for t in kept}
    failed = [t for key, t in reversed(best.items()) if key not in helped]  # of several minima the one that came nearest
    parts = [f"on {where}: " + ("; ".join(_said(trial) for trial in kept) if kept else "nothing helped")]
    if held_out is not None:
        judged = f"judged on patients that it was not learnt from, mean Dice {_figures(held_out)}"
        parts.append(judged if steps else f"{judged}: not kept")
    if failed:
        more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        parts.append("tried, did not help: " + "; ".join(f"{_said(t)}: {t.because}" for t in failed[:_NAMED]) + more)
    if search.unchanged:
        parts.append(f"{_count(len(search.unchanged), 'further step')} changed no case")
    return "; ".join(parts)


def _said(trial: Trial) -> str:
    mean = " (mean of the regions)" if trial.own.region == MEAN else ""
    healthy = f", invented in {trial.invented[0]} -> {trial.invented[1]} cases" if trial.invented[0] != trial.invented[1] else ""
    return f"{trial.step.title}{mean}, Dice {_figures(trial.own)}{healthy}"


def _figures(change: Change) -> str:
    return (
        f"{change.before:.4f} -> {change.after:.4f} ({change.difference:+.4f}, {change.low:+.4f} to {change.high:+.4f}, "
        f"p {change.p_value:.2g}, {_count(change.changed, 'case')} changed)"
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
