"""Choice of post-processing, from out-of-fold predictions.

Candidates are tried in a fixed order, each on top of those kept before it: the whole foreground
where it has several regions, then every region; the largest component, the minimum volume, the
holes. A step stays only where

- the mean Dice of its region (of the whole foreground: of the regions) rises by more than `MARGIN`,
- the 95 % bootstrap interval of the rise, patients resampled, lies above 0, and Wilcoxon's
  signed-rank test over patients says p < `P_VALUE` (so that at least six patients must have
  changed),
- it is so with the step on its own as well, where p is corrected for all candidates that change
  anything (Holm, Scand J Stat 6, 1979; candidates whose every figure is the same are one test),
- no other region's mean Dice falls by more than `LOSS`,
- no region that was found in a case becomes missed altogether.

Of the minimum volumes of a small grid that pass, the one with the largest rise is taken. With fewer
than `FEWEST` patients nothing is learnt. What is learnt is then judged on cases that it was not
learnt from: the patients are cut into `PARTS`, each part is post-processed by what the same rules
find in the others; where that does not raise the mean Dice of the regions that steps were found for
by more than `MARGIN`, nothing is kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.evaluation.page import span
from hilum.metrics import holm
from hilum.plan.segmentation import PostprocessingStep
from hilum.training.tuning.postprocessing_trials import (
    FEWEST,
    MEAN,
    PREDICTED,
    REFERENCED,
    TrialCache,
    compared,
)
from hilum.training.tuning.records import Part, PostprocessingTuning, Trial
from hilum.volume import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from hilum.training.tuning.postprocessing_trials import Answer, Steps
    from hilum.training.tuning.records import Change
    from hilum.volume import LabelTable

MARGIN = 0.001
LOSS = 0.0001
P_VALUE = 0.05
PARTS = 5
SMALLEST_ML = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SMALLEST_VOXELS = (5.0, 15.0, 50.0, 150.0, 500.0, 1500.0)
"""Minimum volumes that are tried, as long as they are below the smallest annotation of the region.
"""
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
        deadline: a `time.perf_counter` value; when it is passed nothing is learnt, and the reason
            says so.
        progress: told what is tried.
    """

    def late() -> bool:
        return deadline is not None and time.perf_counter() > deadline

    few = too_few([answer.group for answer in held])
    if few is not None:
        return few
    patients = len({answer.group for answer in held})
    answers = TrialCache(held, table)
    search = _Search(answers, unit, range(len(held)), progress, late).run()
    parts = _parts(search) if search.steps else ()
    if late():
        return no_time(len(held), patients)
    return _judged(search, parts)


def too_few(groups: Sequence[str]) -> PostprocessingTuning | None:
    """Make the sentence for too few patients, given that of each case.

    None where there are enough.
    """
    patients = len(set(groups))
    if patients >= FEWEST:
        return None
    because = (
        f"{_count(patients, 'patient')} to learn from, and below {FEWEST} chance decides more than"
        " the images"
    )
    return PostprocessingTuning(because=because, cases=len(groups), patients=patients)


@dataclass
class _Search:
    """Trying the candidates on some of the cases."""

    answers: TrialCache
    unit: Unit
    rows: Sequence[int]
    progress: Callable[[str], None]
    late: Callable[[], bool]
    steps: Steps = ()
    columns: list[int | None] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    _alone: dict[PostprocessingStep, Change] = field(default_factory=dict)
    _p_holm: dict[Change, float] = field(default_factory=dict)

    def run(self) -> _Search:
        """Learn from these cases.

        `steps`, of the regions `columns`, hold what was found, not all of it once it is late.
        """
        candidates = [
            (column, options)
            for column, region in self._targets()
            for options in self._candidates(region)
        ]
        for column, options in candidates:
            self._try_alone(column, options)
        tests = list(dict.fromkeys(self._alone.values()))
        self._p_holm = dict(zip(tests, holm([test.p_value for test in tests]), strict=True))
        for column, options in candidates:
            self._try(column, options)
        return self

    def _try_alone(self, column: int | None, options: list[PostprocessingStep]) -> None:
        """Measure the change that each step makes by itself."""
        for step in options:
            if self.late():
                return
            self.progress(step.title)
            if self.answers.is_no_op((step,)):
                self.unchanged.append(step.title)
            else:
                self._alone[step] = self.answers.change((), (step,), column, self.rows)
            self.answers.evict((step,))

    def _targets(self) -> list[tuple[int | None, Region]]:
        """List the regions to post-process: the whole foreground first, then each region."""
        table = self.answers.table
        foreground = tuple(label.id for label in table.foreground)
        regions: list[tuple[int | None, Region]] = list(enumerate(table.scored))
        if len(regions) < 2 or any(set(region.labels) == set(foreground) for _, region in regions):
            return regions
        return [(None, Region(name="the whole foreground", labels=foreground)), *regions]

    def _candidates(self, region: Region) -> list[list[PostprocessingStep]]:
        """Steps in the order in which they are tried; of those in one list at most one is kept."""

        def step(
            kind: Literal["largest_component", "minimum_volume", "fill_holes"], minimum: float = 0.0
        ) -> PostprocessingStep:
            return PostprocessingStep(
                kind=kind, region=region.name, labels=region.labels, minimum=minimum, unit=self.unit
            )

        grid = SMALLEST_ML if self.unit == "ml" else SMALLEST_VOXELS
        below = self._smallest(region)
        minima = [step("minimum_volume", minimum) for minimum in grid if minimum < below]
        return [[step("largest_component")], minima, [step("fill_holes")]]

    def _smallest(self, region: Region) -> float:
        """The smallest annotation of the region among the cases, in the unit of the minimum.

        0 where there is none.
        """
        sizes = []
        for row in self.rows:
            answer = self.answers.held[row]
            columns = [self.answers.table.ids.index(label) for label in region.labels]
            voxels = float(answer.counts[:, columns].sum())
            if voxels:
                sizes.append(
                    voxels if self.unit == "voxels" else voxels * answer.voxel_mm3 / 1000.0
                )
        return min(sizes, default=0.0)

    def _try(self, column: int | None, options: list[PostprocessingStep]) -> None:
        """Try steps of one kind and keep the best of those that pass."""
        tried: list[Trial] = []
        for step in options:
            if self.late():
                return
            if step not in self._alone:
                continue
            self.progress(step.title)
            chance = not self._p_holm[self._alone[step]] < P_VALUE
            after = (step,) if chance else (*self.steps, step)
            if self.answers.is_no_op(after):
                self.unchanged.append(step.title)
            else:
                tried.append(self._trial(column, after))
        passed = [trial for trial in tried if trial.kept]
        best = max(
            passed, key=lambda trial: trial.own.difference, default=None
        )  # the first of equal ones: the smallest
        for trial in tried:
            if trial.kept and trial is not best and best is not None:
                trial = trial.model_copy(  # noqa: PLW2901  (said anew)
                    update={"kept": False, "because": f"{best.step.title} helps more"}
                )
            self.trials.append(trial)
            if not trial.kept:
                self.answers.evict((*self.steps, trial.step))
        if best is not None:
            self.steps = (*self.steps, best.step)
            self.columns.append(column)

    def _trial(self, column: int | None, after: Steps) -> Trial:
        before = after[:-1]
        alone = self._alone[after[-1]]
        own = self.answers.change(before, after, column, self.rows) if before else alone
        rise = (self.answers.dice(after) - self.answers.dice(before))[list(self.rows)].mean(
            axis=0
        )  # (R,)
        others = [n for n in range(len(rise)) if n != column]
        worst = (
            self.answers.change(before, after, min(others, key=lambda n: rise[n]), self.rows)
            if others
            else None
        )
        counts = [self.answers.counts(steps)[list(self.rows)] for steps in (before, after)]
        chosen = slice(None) if column is None else slice(column, column + 1)
        missed = [(c[..., PREDICTED] == 0) & (c[..., REFERENCED] > 0) for c in counts]
        invented = [
            int(((c[..., PREDICTED] > 0) & (c[..., REFERENCED] == 0))[:, chosen].any(axis=1).sum())
            for c in counts
        ]
        lost = int((missed[1] & ~missed[0]).any(axis=1).sum())
        reason = _objection(own, worst, p_holm=self._p_holm[alone], lost=lost)
        return Trial(
            step=after[-1],
            own=own,
            others=worst,
            p_holm=self._p_holm[alone],
            missed=(
                int(missed[0][:, chosen].any(axis=1).sum()),
                int(missed[1][:, chosen].any(axis=1).sum()),
            ),
            invented=(invented[0], invented[1]),
            kept=reason is None,
            because=reason or "it helps, and nothing loses",
        )


def _objection(own: Change, worst: Change | None, *, p_holm: float, lost: int) -> str | None:
    """Why a step is not kept; None where it is."""
    if not own.difference > MARGIN:
        return f"a rise of more than {MARGIN:g} is asked for"
    if not own.low > 0 or not max(own.p_value, p_holm) < P_VALUE:
        return (
            f"{_count(own.changed, 'case')} changed: that may be chance (p {p_holm:.2g} among all"
            " that was tried)"
        )
    if worst is not None and worst.difference < -LOSS:
        return f"{worst.region} loses {-worst.difference:.4f}"
    if lost:
        return f"in {_count(lost, 'case')} a region that was found would be lost altogether"
    return None


def no_time(cases: int, patients: int) -> PostprocessingTuning:
    """Make the sentence for a tuning that had no time left."""
    because = "the time was up before every step was tried and measured; `hilum tune` does it"
    return PostprocessingTuning(because=because, cases=cases, patients=patients)


def _judged(search: _Search, parts: tuple[Part, ...]) -> PostprocessingTuning:
    """Score the chosen steps on cases that they were not chosen on."""
    answers = search.answers
    held_out = _held_out(search, parts) if parts else None
    steps = search.steps if held_out is not None and held_out.difference > MARGIN else ()
    regions = [None, *range(len(answers.regions))] if len(answers.regions) > 1 else [0]
    return PostprocessingTuning(
        steps=steps,
        because=_because(search, held_out, steps),
        cases=len(answers.held),
        patients=len(set(answers.groups)),
        trials=tuple(search.trials),
        unchanged=tuple(search.unchanged),
        learnt=(
            tuple(answers.change((), search.steps, region) for region in regions)
            if search.steps
            else ()
        ),
        held_out=held_out,
        parts=parts,
    )


def _parts(search: _Search) -> tuple[Part, ...]:
    """Cut the patients into parts, and learn for each from the others."""
    answers = search.answers
    patients = sorted(set(answers.groups))
    order = np.random.default_rng(0).permutation(len(patients))
    part = {patient: int(order[n]) % PARTS for n, patient in enumerate(patients)}
    found = []
    for number in range(PARTS):
        others = [row for row, group in enumerate(answers.groups) if part[group] != number]
        told = _prefixed(search.progress, f"part {number + 1} of {PARTS}: ")
        steps = _Search(answers, search.unit, others, told, search.late).run().steps
        found.append(
            Part(
                cases=tuple(answer.case for answer in answers.held if part[answer.group] == number),
                steps=steps,
            )
        )
    return tuple(found)


def _held_out(search: _Search, parts: Sequence[Part]) -> Change:
    """Choose regions for each part of the patients by what was learnt from the others."""
    answers = search.answers
    everything = None in search.columns
    columns = [n for n in range(len(answers.regions)) if everything or n in search.columns]
    before = answers.dice(())
    after: NDArray[np.float64] = before.copy()
    for part in parts:
        inside = [row for row, answer in enumerate(answers.held) if answer.case in part.cases]
        after[inside] = answers.dice(part.steps)[inside]
    names = [answers.regions[n] for n in columns]
    change = compared(before[:, columns], after[:, columns], answers.groups, names, None)
    return (
        change
        if len(columns) == len(answers.regions)
        else change.model_copy(update={"region": ", ".join(names)})
    )


def _prefixed(progress: Callable[[str], None], before: str) -> Callable[[str], None]:
    return lambda title: progress(before + title)


def _because(search: _Search, held_out: Change | None, steps: Steps) -> str:
    """The reason, with its figures."""
    answers = search.answers
    where = f"{len(answers.held)} cases of {_count(len(set(answers.groups)), 'patient')}"
    kept = [trial for trial in search.trials if trial.kept]
    best = {
        (t.step.kind, t.step.region): t
        for t in sorted(search.trials, key=lambda t: t.own.difference)
    }
    helped = {(t.step.kind, t.step.region) for t in kept}
    failed = [
        t for key, t in reversed(best.items()) if key not in helped
    ]  # of several minima the one that came nearest
    parts = [
        f"on {where}: " + ("; ".join(_said(trial) for trial in kept) if kept else "nothing helped")
    ]
    if held_out is not None:
        judged = (
            f"judged on patients that it was not learnt from, Dice of {held_out.region}"
            f" {_figures(held_out)}"
        )
        parts.append(
            judged
            if steps
            else f"{judged}: not kept, as a rise of more than {MARGIN:g} is asked for"
        )
    if failed:
        more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        parts.append(
            "tried, did not help: "
            + "; ".join(f"{_said(t)}: {t.because}" for t in failed[:_NAMED])
            + more
        )
    if search.unchanged:
        parts.append(f"{_count(len(search.unchanged), 'further step')} changed no case")
    return "; ".join(parts)


def _said(trial: Trial) -> str:
    mean = " (mean of the regions)" if trial.own.region == MEAN else ""
    healthy = (
        f", invented in {trial.invented[0]} -> {trial.invented[1]} cases"
        if trial.invented[0] != trial.invented[1]
        else ""
    )
    return f"{trial.step.title}{mean}, Dice {_figures(trial.own)}{healthy}"


def _figures(change: Change) -> str:
    return (
        f"{change.before:.4f} -> {change.after:.4f} ({change.difference:+.4f},"
        f" {span(change.low, change.high, '+.4f')}, p {change.p_value:.2g},"
        f" {_count(change.changed, 'case')} changed)"
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
