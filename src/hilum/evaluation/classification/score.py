"""What a classifier said of one case, and what a human says."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  (pydantic reads the annotation when the class is made)
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, model_validator

from hilum.errors import DataError, LabelError
from hilum.evaluation.page import some
from hilum.evaluation.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from hilum.dataset import ClassTable

    Numbers = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    Indices = NDArray[np.int64]

THRESHOLD = 0.5
"""A finding, or the positive one of two classes, is called from this probability on."""
_SUM_TOLERANCE = 1e-3  # float16 on a graphics card sums to one within this


class ClassScore(Record):
    """The answer for one case, with what it is held to.

    Args:
        case: case id.
        patient: whose case it is; None where nobody knows, and the case then counts as a patient of its own.
        reference: the raw label as `ClassTable.members` reads it ("" has no finding); None where it is not known.
        probabilities: (K,) one a class in the class table's order, each 0..1; of grades too. Only findings (multi-label) need not
            sum to 1.
        calibrated: the same after calibration out of fold; None where nothing was calibrated.
        prediction_set: the classes that the case may have at the stated coverage, () where none qualifies; None where no sets
            were made.
        certain: of findings, those of the set whose absence is ruled out; None where there are no sets, or no findings.
        fold: the fold whose validation case it is; None for a case of no fold.
        refuse: whether the model should not answer, the image being unlike those it learned from; None where nobody asked.
        distance: how unlike, in the model's own measure.
        columns: further columns of the case (site, age, ...), for subgroups.
    """

    case: str = Field(min_length=1)
    patient: str | None = Field(default=None, min_length=1)
    reference: str | None = None
    probabilities: tuple[float, ...] = Field(min_length=1)
    calibrated: tuple[float, ...] | None = None
    prediction_set: tuple[str, ...] | None = None
    certain: tuple[str, ...] | None = None
    fold: int | None = None
    refuse: bool | None = None
    distance: float | None = None
    columns: Mapping[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for kind, values in (("probabilities", self.probabilities), ("calibrated probabilities", self.calibrated or ())):
            if not all(0 <= value <= 1 for value in values):
                raise DataError(f"case {self.case}: {kind} {list(values)}", needed="numbers from 0 to 1")
        if self.calibrated is not None and len(self.calibrated) != len(self.probabilities):
            raise DataError(
                f"case {self.case}: {len(self.probabilities)} probabilities and {len(self.calibrated)} calibrated ones",
                needed="one of each a class",
            )
        return self

    @property
    def group(self) -> str:
        """What bootstrap resamples: the patient, or the case where no patient is known."""
        return f"case {self.case}" if self.patient is None else f"patient {self.patient}"

    @property
    def best(self) -> tuple[float, ...]:
        """(K,) the calibrated probabilities where there are any, else those of the network."""
        return self.probabilities if self.calibrated is None else self.calibrated


def decide(probabilities: Numbers, table: ClassTable) -> Flags:
    """Which classes are called.

    Of exclusive classes the most probable one (of two, the second from one half on). Of grades the median one: the highest grade
    that is reached with a probability of one half, which errs by the fewest grades. Of findings every one from one half on.

    Args:
        probabilities: (N, K) in the table's order.
        table: what the classes are.

    Returns:
        (N, K) boolean; exactly one True a row unless classes are findings.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    if table.kind == "multilabel":
        return np.asarray(values >= THRESHOLD)
    index = _INDICES["binary" if table.binary else table.kind](values)
    return np.asarray(index[:, None] == np.arange(len(table.names)))


_INDICES: dict[str, Callable[[Numbers], Indices]] = {
    "binary": lambda p: np.asarray(p[:, 1] >= THRESHOLD, dtype=np.int64),
    "exclusive": lambda p: np.asarray(p.argmax(axis=1)),
    "ordinal": lambda p: np.asarray((reached(p) >= THRESHOLD).sum(axis=1)),
}


def reached(probabilities: Numbers) -> Numbers:
    """(N, K - 1) probability that a case reaches grade 1, 2, ... or more, from the grades' own (N, K)."""
    return np.asarray(probabilities[:, ::-1].cumsum(axis=1)[:, -2::-1])


@dataclass(frozen=True)
class ClassRows:
    """Scores as arrays, ready to be counted.

    Args:
        table: what the classes are.
        probabilities: (N, K) of the classes, calibrated where asked for.
        members: (N, K) which classes a case has.
        decided: (N, K) which are called, see `decide`.
        groups: (N,) the number of the patient whose case it is, 0..G-1.
    """

    table: ClassTable
    probabilities: Numbers
    members: Flags
    decided: Flags
    groups: Indices

    @classmethod
    def of(cls, scores: Sequence[ClassScore], table: ClassTable, *, calibrated: bool = True) -> ClassRows:
        """The arrays of scores whose references are all known.

        Args:
            scores: one a case.
            table: what the classes are.
            calibrated: take the calibrated probabilities, which every case must then have, where any case has them.

        Raises:
            DataError: no scores, two of one case, a case without reference, probabilities that are not those of the table's
                classes, or only some calibrated.
            LabelError: a reference that the table does not know.
        """
        _refuse_impossible(scores, table)
        with_calibration = calibrated and any(score.calibrated is not None for score in scores)
        without = [score.case for score in scores if score.calibrated is None]
        if with_calibration and without:
            raise DataError(f"no calibrated probabilities of {some(without)}", needed="those of every case, or of none")
        values = np.array([score.best if with_calibration else score.probabilities for score in scores], dtype=np.float64)
        off = np.abs(values.sum(axis=1) - 1) > _SUM_TOLERANCE
        if table.kind != "multilabel" and off.any():
            first = int(off.argmax())
            raise DataError(
                f"case {scores[first].case}: probabilities that sum to {values[first].sum():.4g}",
                needed="probabilities of classes that exclude each other, which sum to 1",
            )
        numbers: dict[str, int] = {}
        groups = np.array([numbers.setdefault(score.group, len(numbers)) for score in scores], dtype=np.int64)
        return cls(table, values, _members(scores, table), decide(values, table), groups)

    @property
    def index(self) -> Indices:
        """(N,) the class of each case; of exclusive classes and grades."""
        return np.asarray(self.members.argmax(axis=1))

    @property
    def called(self) -> Indices:
        """(N,) the class that is called; of exclusive classes and grades."""
        return np.asarray(self.decided.argmax(axis=1))

    @property
    def patients(self) -> int:
        """How many patients the cases are of."""
        return len(np.unique(self.groups))

    def take(self, rows: Indices | Flags) -> ClassRows:
        """The same of some cases, each as often as it is named."""
        return ClassRows(self.table, self.probabilities[rows], self.members[rows], self.decided[rows], self.groups[rows])


def _refuse_impossible(scores: Sequence[ClassScore], table: ClassTable) -> None:
    if not scores:
        raise DataError("no scores", needed="the score of at least one case")
    names = [score.case for score in scores]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"two scores of {some(twice)}", needed="one score a case")
    unknown = [score.case for score in scores if score.reference is None]
    if unknown:
        raise DataError(f"no reference for {some(unknown)}", needed="the label of every case")
    wrong = [score for score in scores if len(score.probabilities) != len(table.names)]
    if wrong:
        raise DataError(
            f"case {wrong[0].case}: {len(wrong[0].probabilities)} probabilities",
            needed=f"one for each of {', '.join(table.names)}",
        )


def _members(scores: Sequence[ClassScore], table: ClassTable) -> Flags:
    rows = []
    for score in scores:
        try:
            rows.append(table.members(score.reference or ""))
        except LabelError as error:
            raise LabelError(f"case {score.case}: {error.found}", needed=error.needed, cure=error.cure) from error
    return np.array(rows, dtype=np.bool_)
