"""Predicted label maps and references, held in little memory while steps are tried."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.errors import GeometryError, LabelError
from hilum.metrics import paired_test
from hilum.metrics.masks import bounding_box
from hilum.tasks.postprocess import piece_sizes, pieces_removed, postprocess
from hilum.training.tuning.records import Change
from hilum.volume import places_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.dataset import Case
    from hilum.plan.segmentation import PostprocessingStep
    from hilum.volume import LabelTable, Volume

    Labels = NDArray[np.integer[Any]]
    Steps = tuple[PostprocessingStep, ...]

TP, PREDICTED, REFERENCED = range(3)
MEAN = "mean of the regions"
FEWEST = 10
"""Patients below which nothing is learnt."""


@dataclass(frozen=True, eq=False)
class Packed:
    """A label map (Z, Y, X) in memory, compressed: they shrink a hundredfold."""

    held: bytes
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def array(self) -> Labels:
        """The label map; not to be written to."""
        return np.frombuffer(zlib.decompress(self.held), dtype=self.dtype).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Answer:
    """One case: what was predicted and what is right, cropped to what was predicted, compressed.

    Counts are of the whole image.

    Args:
        case: its id.
        group: its patient, or the case where none is known.
        predicted: compressed (Z, Y, X).
        reference: the same box of the reference.
        counts: (K, K + 1) voxels by predicted and by referenced label, in the order of the table;
            the last column is ignored.
        voxel_mm3: of one voxel.
    """

    case: str
    group: str
    predicted: Packed
    reference: Packed
    counts: NDArray[np.int64]
    voxel_mm3: float


def compress_case(case: Case, predicted: Volume, reference: Volume, table: LabelTable) -> Answer:
    """Make an answer of label maps on one grid.

    Raises:
        GeometryError: two grids.
        LabelError: a value that the table does not know.
    """
    if predicted.array.shape != reference.array.shape:
        raise GeometryError(
            f"{case.id}: a prediction of shape {predicted.array.shape} for a reference of shape"
            f" {reference.array.shape}",
            needed="two label maps on one grid",
        )
    made, right = predicted.array[0], reference.array[0]
    counts = np.zeros((len(table.ids), len(table.ids) + 1), dtype=np.int64)
    for a, b in zip(
        made, right, strict=True
    ):  # slice by slice: what counts them takes 8 bytes a voxel
        counts += _histogram(a, b, table, case.id)
    box = bounding_box(made > 0)
    wide = (
        (slice(0, 1),) * 3
        if box is None
        else tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
    )
    return Answer(
        case.id,
        group_of(case),
        packed(made[wide]),
        packed(right[wide]),
        counts,
        predicted.geometry.voxel_volume_mm3,
    )


def group_of(case: Case) -> str:
    """Its patient, or the case itself where none is known, as `Score.group` has it."""
    return f"case {case.id}" if case.patient is None else f"patient {case.patient}"


class TrialCache:
    """The answers of many cases, and what steps of post-processing make of them.

    Args:
        held: one a case.
        table: what the integers mean.
    """

    def __init__(self, held: Sequence[Answer], table: LabelTable) -> None:
        self.held, self.table = tuple(held), table
        self.groups = [answer.group for answer in held]
        self.regions = [region.name for region in table.scored]
        self._made: dict[Steps, list[_TrialResult]] = {
            (): [_TrialResult(answer.predicted, answer.counts) for answer in held]
        }
        self._counts: dict[Steps, NDArray[np.int64]] = {(): self._counted(self._made[()])}
        self._idle: set[Steps] = set()

    def counts(self, steps: Steps) -> NDArray[np.int64]:
        """(N, R, 3) voxels that are right, predicted and referenced, with these steps."""
        if steps not in self._counts:
            self._work_out(steps)
        return self._counts[steps]

    def dice(self, steps: Steps) -> NDArray[np.float64]:
        """(N, R) Dice, 1 where the region is in neither."""
        counts = self.counts(steps)
        total = counts[..., PREDICTED] + counts[..., REFERENCED]
        return np.asarray(
            np.divide(2 * counts[..., TP], total, out=np.ones(total.shape), where=total > 0)
        )

    def is_no_op(self, steps: Steps) -> bool:
        """Return True if the last of these steps changes no voxel of any case."""
        self.counts(steps)
        return steps in self._idle

    def change(
        self, before: Steps, after: Steps, region: int | None, rows: Sequence[int] | None = None
    ) -> Change:
        """One region, or the mean of all, with two lists of steps."""
        return compared(
            self.dice(before), self.dice(after), self.groups, self.regions, region, rows
        )

    def evict(self, steps: Steps) -> None:
        """Give back the label maps of a list that nothing more is tried on; its counts stay."""
        if steps:
            self._made.pop(steps, None)

    def _work_out(self, steps: Steps) -> None:
        """Apply the last step to what the others made; what comes of it is kept, compressed."""
        if steps[:-1] not in self._made:  # it was forgotten
            self._work_out(steps[:-1])
        before = self._made[steps[:-1]]
        made = [
            self._applied(answer, old, steps[-1])
            for answer, old in zip(self.held, before, strict=True)
        ]
        if all(new is old for new, old in zip(made, before, strict=True)):
            self._idle.add(steps)
        self._made[steps] = made
        self._counts[steps] = self._counted(made)

    def _applied(self, answer: Answer, old: _TrialResult, step: PostprocessingStep) -> _TrialResult:
        """One more step for one case; the very same where it changes nothing.

        Steps that remove the same pieces have the same result, so that most minimum volumes cost
        nothing.
        """
        pieces = (step.labels, step.connectivity)
        if step.kind == "fill_holes":
            return self._applied_now(answer, old, step)
        if old.pieces != pieces:
            sizes = piece_sizes(old.labels.array(), step)
            old.pieces, old.sizes, old.results = pieces, sizes, {0: old}
        removed = pieces_removed(old.sizes, step, answer.voxel_mm3) or 0
        if removed not in old.results:
            old.results[removed] = self._applied_now(answer, old, step)
        return old.results[removed]

    def _applied_now(
        self, answer: Answer, old: _TrialResult, step: PostprocessingStep
    ) -> _TrialResult:
        labels = old.labels.array()
        new = postprocess(labels, (step,), self.table, answer.voxel_mm3)
        where = new != labels
        if not where.any():
            return old
        right = answer.reference.array()[where]
        gone, come = (_histogram(of[where], right, self.table, answer.case) for of in (labels, new))
        return _TrialResult(packed(new), old.counts - gone + come)

    def _counted(self, made: Sequence[_TrialResult]) -> NDArray[np.int64]:
        """(N, R, 3) of what was made of each case."""
        ids = list(self.table.ids)
        regions = [[ids.index(label) for label in region.labels] for region in self.table.scored]
        rows = [[_overlap(one.counts, region) for region in regions] for one in made]
        return np.array(rows, dtype=np.int64).reshape(len(made), len(regions), 3)


@dataclass(eq=False)
class _TrialResult:
    """Result of post-processing steps on one case.

    Args:
        labels: compressed.
        counts: as an answer has them.
        pieces: labels and connectivity of the region that steps were last tried on.
        sizes: of its pieces.
        results: what comes of it when so many pieces are removed.
    """

    labels: Packed
    counts: NDArray[np.int64]
    pieces: tuple[tuple[int, ...], int] = ((), 0)
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    results: dict[int, _TrialResult] = field(default_factory=dict)


def compared(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    groups: Sequence[str],
    regions: Sequence[str],
    region: int | None,
    rows: Sequence[int] | None = None,
) -> Change:
    """The change of one region, or of the mean of all, between two tables (N, R) of Dice.

    Args:
        before: (N, R).
        after: (N, R).
        groups: (N,) patients.
        regions: (R,) names.
        region: its column; None: each case's mean over the regions.
        rows: the cases that count; None: all.
    """
    chosen = list(range(len(before))) if rows is None else list(rows)
    a, b = (
        table[chosen].mean(axis=1) if region is None else table[chosen, region]
        for table in (before, after)
    )
    test = paired_test(b, a, [groups[row] for row in chosen])
    return Change(
        region=MEAN if region is None else regions[region],
        cases=len(chosen),
        patients=len({groups[row] for row in chosen}),
        changed=int(np.count_nonzero(a != b)),
        before=float(a.mean()) if len(a) else np.nan,
        after=float(b.mean()) if len(b) else np.nan,
        difference=test.difference.estimate,
        low=test.difference.low,
        high=test.difference.high,
        p_value=test.p_value,
    )


def _overlap(confusion: NDArray[np.int64], region: list[int]) -> tuple[int, int, int]:
    """Voxels that are right, predicted and referenced; ignored ones count nowhere."""
    known = confusion[:, :-1]
    return (
        int(known[np.ix_(region, region)].sum()),
        int(known[region].sum()),
        int(known[:, region].sum()),
    )


def _histogram(
    predicted: Labels, reference: Labels, table: LabelTable, case: str
) -> NDArray[np.int64]:
    """(K, K + 1) voxels by predicted and referenced label.

    The last column is of those that were not annotated.

    Raises:
        LabelError: a label that the table does not know.
    """
    k = len(table.ids)
    a, b = places_of(predicted, table.ids), places_of(reference, table.ids)
    if table.ignore is not None:
        b[reference == table.ignore] = k
    if (a < 0).any() or (b < 0).any():
        raise LabelError(
            f"{case}: labels among {np.unique(reference)[:20].tolist()}, predicted"
            f" {np.unique(predicted)[:20].tolist()}",
            needed=f"labels among {list(table.ids)}",
            cure="use a data set that has the model's own labels",
        )
    return np.bincount((a * (k + 1) + b).ravel(), minlength=k * (k + 1)).reshape(k, k + 1)


def packed(array: Labels) -> Packed:
    """Compress a label map."""
    return Packed(
        zlib.compress(np.ascontiguousarray(array).tobytes(), level=1), array.shape, array.dtype
    )
