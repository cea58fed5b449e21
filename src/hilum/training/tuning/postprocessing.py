"""Choice of post-processing, from out-of-fold predictions.

Candidates are tried in a fixed order, each on top of those kept before it: the whole foreground
where it has several regions, then every region; the largest component, the minimum volume, the
holes. A step is kept where

- the mean Dice of its region (of the whole foreground: of the regions) rises by more than `MARGIN`,
- the 95 % bootstrap interval of the rise, patients resampled, lies above 0, and Wilcoxon's
  signed-rank test over patients says p < `P_VALUE` (so that at least six patients must have
  changed),
- no other region's mean Dice falls by more than `LOSS`,
- no region that was found in a case becomes missed altogether.

Of the minimum volumes that pass, the one with the largest rise is taken. With fewer than `FEWEST`
patients nothing is learnt. One check on held-out patients follows: they are cut into `PARTS`, each
part is post-processed by what the same rules find in the others; where that does not raise the mean
Dice of the regions that steps were found for by the same margin, interval and p, nothing is kept.
This check judges all that was tried at once, so that no p-value is corrected.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.errors import GeometryError, LabelError, counted
from hilum.evaluation.page import span
from hilum.inference.predict_cases import UNLIMITED, Deadline
from hilum.metrics import paired_test
from hilum.metrics.masks import bounding_box
from hilum.plan.segmentation import PostprocessingStep
from hilum.targets.postprocess import postprocess
from hilum.training.tuning.records import Change, Part, PostprocessingTuning, Trial
from hilum.volume import Region, Volume, places_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from hilum.dataset import Case
    from hilum.volume import Geometry, LabelTable

    Labels = NDArray[np.integer]
    Steps = tuple[PostprocessingStep, ...]

FEWEST = 10
MARGIN = 0.001
LOSS = 0.0001
P_VALUE = 0.05
PARTS = 5
SMALLEST_ML = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SMALLEST_VOXELS = (5.0, 15.0, 50.0, 150.0, 500.0, 1500.0)
"""Minimum volumes that are tried, as long as they are below the smallest annotation of the region.
"""
MEAN = "mean of the regions"
NO_TIME = "the time was up before every step was tried and measured; `hilum tune` does it"
TP, PREDICTED, REFERENCED = range(3)


@dataclass(frozen=True, eq=False)
class HeldCase:
    """One case in little memory: label maps cropped to what was predicted, compressed.

    Args:
        case: the case.
        geometry: its grid.
        shape: (Z, Y, X) of its grid.
        box: where the predicted labels are, with a margin of one voxel.
        predicted: labels in the box, see `_pack`.
        reference: the same box of the reference.
        counts: (K, K + 1) voxels of the whole image by predicted and by referenced label, in the
            order of the table; the last column is ignored.
    """

    case: Case
    geometry: Geometry
    shape: tuple[int, ...]
    box: tuple[slice, ...]
    predicted: bytes
    reference: bytes
    counts: NDArray[np.int64]

    def after(self, steps: Steps, table: LabelTable) -> Labels:
        """Return the predicted labels in the box after these steps."""
        labels = _unpack(self.predicted)
        return postprocess(labels, steps, table, self.geometry.voxel_volume_mm3)

    def volume(self, steps: Steps, table: LabelTable) -> Volume:
        """Return the predicted labels (1, Z, Y, X) after these steps."""
        inside = self.after(steps, table)
        labels = np.zeros((1, *self.shape), dtype=inside.dtype)
        labels[0][self.box] = inside
        return Volume(labels, self.geometry)


def hold_case(case: Case, predicted: Volume, reference: Volume, table: LabelTable) -> HeldCase:
    """Keep both label maps of a case, cropped to what was predicted, and all its voxels' counts.

    Raises:
        GeometryError: two grids.
        LabelError: a value that the table does not know.
    """
    if predicted.array.shape != reference.array.shape:
        raise GeometryError(
            f"{case.id} has a prediction of shape {predicted.array.shape} and a reference of"
            f" shape {reference.array.shape}",
            needed="two label maps on one grid",
            cure="`hilum check DATA` says where image and annotation differ",
        )
    labels, right = predicted.array[0], reference.array[0]
    counts = np.zeros((len(table.ids), len(table.ids) + 1), dtype=np.int64)
    for a, b in zip(labels, right, strict=True):  # slice by slice: counting takes 8 bytes a voxel
        counts += _confusion(a, b, table, case.id)
    tight = bounding_box(labels > 0) or (slice(0, 0),) * 3
    box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in tight)
    return HeldCase(
        case,
        predicted.geometry,
        labels.shape,
        box,
        _pack(labels[box]),
        _pack(right[box]),
        counts,
    )


def _pack(labels: Labels) -> bytes:
    """Compress a label map, which shrinks a hundredfold."""
    buffer = BytesIO()
    np.savez_compressed(buffer, labels=labels)
    return buffer.getvalue()


def _unpack(packed: bytes) -> Labels:
    with np.load(BytesIO(packed), allow_pickle=False) as held:
        return np.asarray(held["labels"])


def learn_postprocessing(
    held: Sequence[HeldCase],
    table: LabelTable,
    *,
    in_voxels: bool,
    deadline: Deadline = UNLIMITED,
    progress: Callable[[str], None] = lambda _: None,
) -> PostprocessingTuning:
    """Find the steps that help.

    Args:
        held: predictions of cases that the networks were not trained on.
        table: meaning of the integers.
        in_voxels: minimum volumes are in voxels, not ml: the images have no physical scale.
        deadline: when it is passed nothing is learnt, and the reason says so.
        progress: called with each step that is tried.
    """
    groups = [one.case.group for one in held]
    if few := too_few(groups):
        return not_learnt(groups, few)
    learner = _Learner(held, table, in_voxels, deadline, progress)
    found = learner.search(range(len(held)))
    parts = learner.parts() if found.steps else ()
    if deadline.passed():
        return not_learnt(groups, NO_TIME)
    held_out = learner.held_out(found, parts) if parts else None
    steps = () if held_out is None or _objection(held_out) else tuple(found.steps)
    return PostprocessingTuning(
        steps=steps,
        because=_because(found, groups, held_out, kept=bool(steps)),
        cases=len(held),
        patients=len(set(groups)),
        trials=tuple(found.trials),
        unchanged=tuple(found.unchanged),
        held_out=held_out,
        parts=parts,
    )


def too_few(groups: Sequence[str]) -> str:
    """Say that the cases, given by their patients, are of too few; "" where they are enough."""
    patients = len(set(groups))
    few = (
        f"{counted(patients, 'patient')} to learn from, and below {FEWEST} chance decides more than"
    )
    return f"{few} the images" if patients < FEWEST else ""


def not_learnt(groups: Sequence[str], because: str) -> PostprocessingTuning:
    """Record that nothing was learnt from the cases, given by their patients."""
    return PostprocessingTuning(because=because, cases=len(groups), patients=len(set(groups)))


@dataclass
class _Found:
    """Steps found on some of the cases, with the regions (columns) they are for, and all trials."""

    steps: list[PostprocessingStep] = field(default_factory=list)
    columns: set[int | None] = field(default_factory=set)
    trials: list[Trial] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)


class _Learner:
    """Tries candidates; voxel counts of each list of steps are worked out once."""

    def __init__(
        self,
        held: Sequence[HeldCase],
        table: LabelTable,
        in_voxels: bool,
        deadline: Deadline,
        progress: Callable[[str], None],
    ) -> None:
        self._held, self._table, self._in_voxels = held, table, in_voxels
        self._deadline, self._progress = deadline, progress
        self._groups = [one.case.group for one in held]
        self._regions = [region.name for region in table.scored]
        self._counts: dict[Steps, NDArray[np.int64]] = {}

    def search(self, rows: Sequence[int]) -> _Found:
        """Learn from some of the cases; not all of it once the time is up."""
        found = _Found()
        foreground = tuple(label.id for label in self._table.foreground)
        targets: list[tuple[int | None, Region]] = list(enumerate(self._table.scored))
        if len(targets) > 1 and all(set(one.labels) != set(foreground) for _, one in targets):
            whole = Region(name="the whole foreground", labels=foreground)
            targets.insert(0, (None, whole))
        for column, region in targets:
            for options in self._candidates(region, rows):
                self._try(options, column, rows, found)
        return found

    def _candidates(self, region: Region, rows: Sequence[int]) -> list[list[PostprocessingStep]]:
        """Steps in the order in which they are tried; of those in one list at most one is kept."""

        def step(
            kind: Literal["largest_component", "minimum_volume", "fill_holes"], minimum: float = 0.0
        ) -> PostprocessingStep:
            return PostprocessingStep(
                kind=kind,
                region=region.name,
                labels=region.labels,
                minimum=minimum,
                unit="voxels" if self._in_voxels else "ml",
            )

        columns = [self._table.ids.index(label) for label in region.labels]
        sizes = [
            float(one.counts[:, columns].sum())
            * (1.0 if self._in_voxels else one.geometry.voxel_volume_mm3 / 1000.0)
            for one in (self._held[row] for row in rows)
        ]
        below = min((size for size in sizes if size), default=0.0)
        grid = SMALLEST_VOXELS if self._in_voxels else SMALLEST_ML
        minima = [step("minimum_volume", minimum) for minimum in grid if minimum < below]
        return [[step("largest_component")], minima, [step("fill_holes")]]

    def _try(
        self,
        options: list[PostprocessingStep],
        column: int | None,
        rows: Sequence[int],
        found: _Found,
    ) -> None:
        """Try steps of one kind and keep the best of those that pass."""
        before = tuple(found.steps)
        tried: list[Trial] = []
        for step in options:
            if self._deadline.passed():
                return
            self._progress(step.title)
            if np.array_equal(self.counts((*before, step)), self.counts(before)):
                found.unchanged.append(step.title)
            else:
                tried.append(self._trial(before, step, column, rows))
        passed = [trial for trial in tried if trial.kept]
        best = max(passed, key=lambda trial: trial.own.difference) if passed else None
        for trial in tried:
            if best is not None and trial.kept and trial is not best:
                less = {"kept": False, "because": f"{best.step.title} helps more"}
                found.trials.append(trial.model_copy(update=less))
            else:
                found.trials.append(trial)
        if best is not None:
            found.steps.append(best.step)
            found.columns.add(column)

    def _trial(
        self, before: Steps, step: PostprocessingStep, column: int | None, rows: Sequence[int]
    ) -> Trial:
        """Measure one more step, and judge it."""
        after, chosen = (*before, step), list(rows)
        own = self._change(self.dice(before), self.dice(after), column, chosen)
        rises = (self.dice(after) - self.dice(before))[chosen].mean(axis=0)  # (R,)
        others = {name: rises[n] for n, name in enumerate(self._regions) if n != column}
        worst = min(others, key=lambda name: others[name], default="")
        counts = [self.counts(steps)[chosen] for steps in (before, after)]
        missed = [(c[..., PREDICTED] == 0) & (c[..., REFERENCED] > 0) for c in counts]
        lost = int((missed[1] & ~missed[0]).any(axis=1).sum())
        invented = [(c[..., PREDICTED] > 0) & (c[..., REFERENCED] == 0) for c in counts]
        before_, after_ = (
            int((one if column is None else one[:, [column]]).any(axis=1).sum()) for one in invented
        )
        reason = _objection(own)
        if not reason and others and others[worst] < -LOSS:
            reason = f"{worst} loses {-others[worst]:.4f}"
        elif not reason and lost:
            reason = f"in {counted(lost, 'case')} a region that was found would be lost altogether"
        return Trial(
            step=step,
            own=own,
            invented=(before_, after_),
            kept=not reason,
            because=reason or "it helps, and nothing loses",
        )

    def parts(self) -> tuple[Part, ...]:
        """Cut the patients into parts, and learn for each from the others."""
        patients = sorted(set(self._groups))
        order = np.random.default_rng(0).permutation(len(patients))
        part = {patient: int(order[n]) % PARTS for n, patient in enumerate(patients)}
        found = []
        for number in range(PARTS):
            others = [row for row, group in enumerate(self._groups) if part[group] != number]
            own = tuple(
                one.case.id
                for one, group in zip(self._held, self._groups, strict=True)
                if part[group] == number
            )
            found.append(Part(cases=own, steps=tuple(self.search(others).steps)))
        return tuple(found)

    def held_out(self, found: _Found, parts: Sequence[Part]) -> Change:
        """Measure the regions of the found steps, each case by what other patients teach."""
        columns = [
            n for n in range(len(self._regions)) if None in found.columns or n in found.columns
        ]
        before = self.dice(())
        after = before.copy()
        for part in parts:
            inside = [row for row, one in enumerate(self._held) if one.case.id in part.cases]
            after[inside] = self.dice(part.steps)[inside]
        change = self._change(before[:, columns], after[:, columns], None, [*range(len(before))])
        if len(columns) == len(self._regions):
            return change
        names = ", ".join(self._regions[n] for n in columns)
        return change.model_copy(update={"region": names})

    def counts(self, steps: Steps) -> NDArray[np.int64]:
        """Count (N, R, 3) voxels that are right, predicted and referenced after these steps."""
        if steps not in self._counts:
            self._counts[steps] = np.array([self._count_voxels(one, steps) for one in self._held])
        return self._counts[steps]

    def dice(self, steps: Steps) -> NDArray[np.float64]:
        """Compute Dice (N, R), 1 where the region is in neither."""
        counts = self.counts(steps)
        total = counts[..., PREDICTED] + counts[..., REFERENCED]
        return np.asarray(
            np.divide(2 * counts[..., TP], total, out=np.ones(total.shape), where=total > 0)
        )

    def _count_voxels(self, one: HeldCase, steps: Steps) -> list[tuple[int, int, int]]:
        """Count the voxels of each region that are right, predicted and referenced."""
        confusion = one.counts
        if steps:
            labels, new = _unpack(one.predicted), one.after(steps, self._table)
            where = new != labels
            if where.any():
                right = _unpack(one.reference)[where]
                gone, come = (
                    _confusion(of[where], right, self._table, one.case.id) for of in (labels, new)
                )
                confusion = confusion - gone + come
        known = confusion[:, :-1]  # ignored voxels count nowhere
        rows = []
        for region in self._table.scored:
            own = [self._table.ids.index(label) for label in region.labels]
            both = known[np.ix_(own, own)]
            rows.append((int(both.sum()), int(known[own].sum()), int(known[:, own].sum())))
        return rows

    def _change(
        self,
        before: NDArray[np.float64],
        after: NDArray[np.float64],
        column: int | None,
        rows: Sequence[int],
    ) -> Change:
        """Compare Dice (N, R) of one region, or of each case's mean, over some of the cases."""
        a, b = (
            dice[rows].mean(axis=1) if column is None else dice[rows, column]
            for dice in (before, after)
        )
        groups = [self._groups[row] for row in rows]
        test = paired_test(b, a, groups)
        return Change(
            region=MEAN if column is None else self._regions[column],
            cases=len(rows),
            patients=len(set(groups)),
            changed=int(np.count_nonzero(a != b)),
            before=float(a.mean()),
            after=float(b.mean()),
            difference=test.difference.estimate,
            low=test.difference.low,
            high=test.difference.high,
            p_value=test.p_value,
        )


def _confusion(
    predicted: Labels, reference: Labels, table: LabelTable, case: str
) -> NDArray[np.int64]:
    """Count (K, K + 1) voxels by predicted and referenced label; the last column is ignored.

    Raises:
        LabelError: a label that the table does not know.
    """
    k = len(table.ids)
    a, b = places_of(predicted, table.ids), places_of(reference, table.ids)
    if table.ignore is not None:
        b[reference == table.ignore] = k
    if (a < 0).any() or (b < 0).any():
        raise LabelError(
            f"case {case} is annotated with the labels {np.unique(reference)[:20].tolist()} and"
            f" predicted as {np.unique(predicted)[:20].tolist()}",
            needed=f"labels among {list(table.ids)}",
            cure="use a data set that has the model's own labels",
        )
    return np.bincount((a * (k + 1) + b).ravel(), minlength=k * (k + 1)).reshape(k, k + 1)


def _objection(change: Change) -> str:
    """Say why a rise is not enough; "" where it is."""
    if not change.difference > MARGIN:
        return f"a rise of more than {MARGIN:g} is needed"
    if not (change.low > 0 and change.p_value < P_VALUE):
        return f"{counted(change.changed, 'case')} changed: that may be chance"
    return ""


def _because(found: _Found, groups: Sequence[str], held_out: Change | None, *, kept: bool) -> str:
    """Write the reason, with its metrics."""
    helped = [trial for trial in found.trials if trial.kept]
    where = f"{counted(len(groups), 'case')} of {counted(len(set(groups)), 'patient')}"
    parts = [f"on {where}: " + ("; ".join(map(_in_words, helped)) or "nothing helped")]
    if held_out is not None:
        judged = (
            f"judged on patients that it was not learnt from, Dice of {held_out.region}"
            f" {_metrics(held_out)}"
        )
        parts.append(judged if kept else f"{judged}: not kept, {_objection(held_out)}")
    nearest = max(
        (trial for trial in found.trials if not trial.kept),
        key=lambda trial: trial.own.difference,
        default=None,
    )
    if nearest is not None:
        number = counted(len(found.trials) - len(helped), "step")
        parts.append(f"{number} did not help, best {_in_words(nearest)}: {nearest.because}")
    if found.unchanged:
        parts.append(f"{counted(len(found.unchanged), 'further step')} changed no case")
    return "; ".join(parts)


def _in_words(trial: Trial) -> str:
    mean = " (mean of the regions)" if trial.own.region == MEAN else ""
    before, after = trial.invented
    healthy = f", invented in {before} -> {after} cases" if before != after else ""
    return f"{trial.step.title}{mean}, Dice {_metrics(trial.own)}{healthy}"


def _metrics(change: Change) -> str:
    """Write the metric before and after a change, with interval and p-value."""
    return (
        f"{change.before:.4f} -> {change.after:.4f} ({change.difference:+.4f},"
        f" {span(change.low, change.high, '+.4f')}, p {change.p_value:.2g},"
        f" {counted(change.changed, 'case')} changed)"
    )
