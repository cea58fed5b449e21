"""A classifier's prediction for one case beside the human's label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hilum.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hilum.dataset import ClassTable

    Numbers = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    Indices = NDArray[np.int64]

THRESHOLD = 0.5
"""A finding, or the positive one of two classes, is called from this probability on."""


class ClassScore(BaseModel):
    """Prediction of a classifier for one case, beside its label where that is known.

    Args:
        case: case id.
        patient: whose case it is; None where nobody knows, and the case then counts as a patient of
            its own.
        unit: the name of what its patient hangs together with: near-duplicates that a leak audit
            found join patients; None where nobody looked, and the patient then stands alone.
        reference: the raw label as `ClassTable.members` reads it ("" has no finding); None where it
            is not known.
        probabilities: (K,) one a class in the class table's order, each 0..1; of grades too. Only
            findings (multi-label) need not sum to 1.
        calibrated: the same after calibration out of fold; None where nothing was calibrated.
        prediction_set: the classes that the case may have at the stated coverage, () where none
            qualifies; None where no sets were made.
        certain: of findings, those of the set whose absence is ruled out; None where there are no
            sets, or no findings.
        fold: the fold whose validation case it is; None for a case of no fold.
        refuse: whether the model should not answer, the image being unlike those it learned from;
            None where nobody asked.
        distance: how unlike, in the model's own measure.
        columns: further columns of the case (site, age, ...), for subgroups.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str = Field(min_length=1)
    patient: str | None = Field(default=None, min_length=1)
    unit: str | None = Field(default=None, min_length=1)
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
        """Refuse probabilities outside 0 to 1, and calibrated ones that are not as many."""
        calibrated = self.calibrated or ()
        for kind, values in (
            ("probabilities", self.probabilities),
            ("calibrated probabilities", calibrated),
        ):
            if not all(0 <= value <= 1 for value in values):
                raise DataError(
                    f"case {self.case} has {kind} {list(values)}",
                    needed="numbers from 0 to 1",
                    cure="predict the case again",
                )
        if self.calibrated is not None and len(calibrated) != len(self.probabilities):
            raise DataError(
                f"case {self.case} has {len(self.probabilities)} probabilities and"
                f" {len(calibrated)} calibrated ones",
                needed="one of each for each class",
                cure="predict the case again",
            )
        return self

    @property
    def group(self) -> str:
        """Group that is resampled as one: the patient, or the case where no patient is known.

        Units join these, see `resampling_groups`.
        """
        return f"case {self.case}" if self.patient is None else f"patient {self.patient}"

    @property
    def best(self) -> tuple[float, ...]:
        """(K,) the calibrated probabilities where there are any, else those of the network."""
        return self.probabilities if self.calibrated is None else self.calibrated


def decide(probabilities: Numbers, table: ClassTable) -> Flags:
    """Return the classes that are called.

    Of exclusive classes the most probable one (of two, the second from one half on). Of grades the
    median one: the highest grade that is reached with a probability of one half, which errs by the
    fewest grades. Of findings every one from one half on.

    Args:
        probabilities: (N, K) in the table's order.
        table: what the classes are.

    Returns:
        (N, K) boolean; exactly one True a row unless classes are findings.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    if table.kind == "multilabel":
        return np.asarray(values >= THRESHOLD)
    if table.binary:
        index = (values[:, 1] >= THRESHOLD).astype(np.int64)
    elif table.kind == "ordinal":
        index = (cumulative_probabilities(values) >= THRESHOLD).sum(axis=1)
    else:
        index = values.argmax(axis=1)
    return np.asarray(index[:, None] == np.arange(len(table.names)))


def cumulative_probabilities(probabilities: Numbers) -> Numbers:
    """Return (N, K - 1) probability of grade 1, 2, ... or more, from the grades' own (N, K)."""
    return np.asarray(probabilities[:, ::-1].cumsum(axis=1)[:, -2::-1])
