"""Free-response ROC of lesions, where probabilities lie beside the predicted label maps."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hilum import metrics
from hilum.evaluation.estimates import Estimate
from hilum.evaluation.records import Number, Record
from hilum.metrics.froc import FALSE_POSITIVES
from hilum.metrics.resampling import NO_INTERVAL, IntervalMethod

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hilum.metrics import ScoredLesions
    from hilum.metrics.validation import Integers
    from hilum.volume import LabelTable
    from hilum.volume.labels import Region

_BESIDE = "_probabilities"
RATES = FALSE_POSITIVES
"""False positives a case at which sensitivities are shown."""


class LesionCurve(Record):
    """Free-response ROC of one region: lesions found against false positives a case.

    Args:
        region: its name.
        cases: scored cases, those without a lesion too.
        patients: whose they are.
        lesions: in all cases.
        scores: of the points of the curve, descending: the largest probability in a predicted
            component. There is a point wherever a further lesion is found, and at the end.
        sensitivity: of each point the share of the lesions that are found.
        false_positives: of each point the false components a case.
        mean_sensitivity: see `hilum.metrics.Froc`; NaN without a lesion.
        low: lower end of its interval, patients resampled.
        high: upper end.
        method: how the interval was made.
    """

    region: str
    cases: int
    patients: int
    lesions: int
    scores: tuple[float, ...]
    sensitivity: tuple[Number, ...]
    false_positives: tuple[float, ...]
    mean_sensitivity: Number
    low: Number
    high: Number
    method: IntervalMethod

    @property
    def estimate(self) -> Estimate:
        """The mean sensitivity as a row of the table of estimates."""
        return Estimate(
            part=self.region,
            metric="froc",
            value=self.mean_sensitivity,
            low=self.low,
            high=self.high,
            method=self.method,
            n=self.cases,
            patients=self.patients,
            note=NO_INTERVAL if self.method == "none" else "",
        )

    def sensitivity_at(self, false_positives: float) -> float:
        """Return the largest sensitivity with at most so many false positives a case."""
        columns = (self.scores, self.sensitivity, self.false_positives)
        scores, sensitivity, rates = (np.array(one, dtype=np.float64) for one in columns)
        curve = metrics.Froc(scores, sensitivity, rates, self.lesions)
        return curve.sensitivity_at(false_positives)


def probability_files(files: Mapping[str, Path]) -> dict[str, Path]:
    """Find the probabilities, `<case>_probabilities.nii.gz`, among the files of a folder."""
    return {case: files[f"{case}{_BESIDE}"] for case in files if f"{case}{_BESIDE}" in files}


def channels_of(region: Region, outputs: LabelTable, ids: Mapping[int, int]) -> tuple[int, ...]:
    """Return the channels of probabilities that add up to a region.

    Args:
        region: its labels have the ids of the reference.
        outputs: the labels of the predictions; a channel is a label, the background first, or a
            region where these are learnt.
        ids: ids in the reference of labels in the predictions, where they differ.
    """
    if outputs.exclusive:
        alike = [ids.get(label.id, label.id) in region.labels for label in outputs.labels]
    else:
        wanted = set(region.labels)
        alike = [{ids.get(i, i) for i in one.labels} == wanted for one in outputs.regions]
    return tuple(np.flatnonzero(alike).tolist())


def lesion_curve(
    region: str, scored: Sequence[ScoredLesions], groups: Sequence[str]
) -> LesionCurve:
    """Pool the scored lesions (N,) of the cases of some patients to one curve."""
    curve = metrics.froc(scored)
    interval = metrics.bootstrap_statistic(
        partial(_mean_sensitivity, scored), [np.arange(len(scored))], groups
    )
    rises = np.diff(np.nan_to_num(curve.sensitivity), prepend=0.0) > 0
    rises[-1:] = True
    columns = (curve.scores, curve.sensitivity, curve.false_positives)
    scores, sensitivity, false_positives = (tuple(one[rises].tolist()) for one in columns)
    return LesionCurve(
        region=region,
        cases=len(scored),
        patients=len(set(groups)),
        lesions=curve.lesions,
        scores=scores,
        sensitivity=sensitivity,
        false_positives=false_positives,
        mean_sensitivity=interval.estimate,
        low=interval.low,
        high=interval.high,
        method=interval.method,
    )


def _mean_sensitivity(scored: Sequence[ScoredLesions], cases: Integers) -> float:
    return metrics.froc([scored[case] for case in cases]).mean_sensitivity
