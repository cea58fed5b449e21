"""Free-response ROC: lesions found against false positives a case, by the score of each finding.

A predicted component has a score; a lesion is found at a score when the components of that score
and above cover enough of it, and a component is false that lies on too little of any lesion. Both
are the rules of `hilum.metrics.lesion`, and at the lowest score the counts are the same.

Empty-case rules (docs/explanation/metrics.md); undefined is NaN:

=====================  =========================  ============
metric                 no lesion in any case      no component
=====================  =========================  ============
sensitivity, its mean  undefined                  0
=====================  =========================  ============
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.instances import object_overlaps
from hilum.metrics.lesion import components
from hilum.metrics.masks import check_masks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.metrics.masks import Mask

    Numbers = NDArray[np.float64]

FALSE_POSITIVES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
"""False positives a case at which the mean sensitivity is taken."""


@dataclass(frozen=True)
class ScoredLesions:
    """Lesions of one case by the score at which they are found.

    Args:
        found_at: (L,) of each lesion the highest score at which it is found; -inf: at none.
        false: (F,) scores of the components that are false.
    """

    found_at: Numbers
    false: Numbers


@dataclass(frozen=True)
class Froc:
    """Curve of several cases.

    Args:
        scores: (S,) descending.
        sensitivity: (S,) share of all lesions that are found at the score.
        false_positives: (S,) false components a case at the score.
        lesions: of all cases.
    """

    scores: Numbers
    sensitivity: Numbers
    false_positives: Numbers
    lesions: int

    def sensitivity_at(self, false_positives: float) -> float:
        """Return the largest sensitivity with at most so many false positives a case.

        0 where even the highest score has more; never interpolated. NaN without any lesion.
        """
        if not self.lesions:
            return math.nan
        allowed = self.sensitivity[self.false_positives <= false_positives]
        return float(np.max(allowed, initial=0.0))

    @property
    def mean_sensitivity(self) -> float:
        """Mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives a case.

        Source: Setio et al., Medical Image Analysis 42, 2017 (LUNA16).
        """
        return float(np.mean([self.sensitivity_at(rate) for rate in FALSE_POSITIVES]))


def score_lesions(
    prediction: Mask, reference: Mask, probability: Numbers, *, min_overlap: float = 0.1
) -> ScoredLesions:
    """Score the lesions of one case; a component's score is the largest probability in it.

    Args:
        prediction: mask (Z, Y, X), whose 26-connected components are the findings.
        reference: mask (Z, Y, X), whose components are the lesions.
        probability: (Z, Y, X) of the structure at each voxel.
        min_overlap: share of a lesion that must be covered, and of a component that must lie on
            lesions; above 0, at most 1.

    Raises:
        UsageError: arrays of different shapes, or the share is out of range.
    """
    check_masks(prediction, reference)
    if probability.shape != reference.shape or not 0 < min_overlap <= 1:
        raise UsageError(
            f"probabilities {probability.shape} of masks {reference.shape}, min_overlap"
            f" {min_overlap}",
            needed="one probability a voxel, and a share above 0 and at most 1",
        )
    numbered, count = components(prediction)
    highest = np.full(count + 1, -np.inf)
    np.maximum.at(highest, numbered[prediction], probability[prediction])
    scores, shared = highest[1:], object_overlaps(numbered, components(reference)[0])
    hits = np.bincount(shared.prediction, weights=shared.common, minlength=count)
    found_at = np.full(len(shared.referenced), -np.inf)
    for lesion, size in enumerate(shared.referenced):
        pairs = np.flatnonzero(shared.reference == lesion)
        pairs = pairs[np.argsort(-scores[shared.prediction[pairs]], kind="stable")]
        enough = np.cumsum(shared.common[pairs]) >= min_overlap * size - 1e-9
        if enough.any():
            found_at[lesion] = scores[shared.prediction[pairs[np.argmax(enough)]]]
    return ScoredLesions(found_at, scores[hits < min_overlap * shared.predicted - 1e-9])


def froc(cases: Sequence[ScoredLesions]) -> Froc:
    """Pool the lesions of several cases, those without a lesion too, to one curve.

    Raises:
        UsageError: there is no case.
    """
    if not cases:
        raise UsageError("there are no cases", needed="the scored lesions of at least one case")
    found_at = np.concatenate([case.found_at for case in cases])
    false = np.concatenate([case.false for case in cases])
    scores = np.unique(np.concatenate([found_at[found_at > -np.inf], false]))[::-1]
    found = np.searchsorted(np.sort(-found_at), -scores, side="right")
    sensitivity = found / len(found_at) if len(found_at) else np.full(len(scores), np.nan)
    wrong = np.searchsorted(np.sort(-false), -scores, side="right")
    return Froc(
        scores,
        np.asarray(sensitivity, dtype=np.float64),
        wrong / len(cases),
        lesions=len(found_at),
    )
