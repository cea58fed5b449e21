"""confidence.json of a model folder: what was learnt of a segmentation's confidence out of fold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import Field, ValidationError
from scipy.special import expit

from hilum.errors import UsageError, damaged_model
from hilum.files import atomic_write_text
from hilum.inference.confidence import CaseConfidence, RegionConfidence
from hilum.metrics.log_odds import BINS, EDGES, LogOddsCalibration, expected_dice, volume_spread
from hilum.metrics.risk_control import (
    HeldVolumes,
    alpha_text,
    check_alpha,
    conformal_quantile,
    count_above,
    highest_outer_threshold,
    lowest_inner_threshold,
    patients_for,
    smallest_alpha,
)
from hilum.plan.plan import Record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from hilum.metrics.log_odds import VoxelCounts
    from hilum.metrics.validation import Integers

CONFIDENCE = "confidence.json"
ALPHA = 0.1
"""Alpha of predictions where none is given."""


class Reliability(Record):
    """Reliability diagram of the voxels of one region, (T,) bins of probability.

    Args:
        predicted: mean probability.
        observed: share of the voxels that the reference has.
        low: lower end of its 95 % interval, over patients.
        high: upper end.
        voxels: how many.
        error: expected calibration error, the mean distance of both.
    """

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    voxels: tuple[int, ...]
    error: float | None


class DiceCheck(Record):
    """Expected Dice of held-out cases against the real one.

    Args:
        cases: places among the cases of the calibration.
        expected: Dice that was expected of each, calibrated on other patients, their offset added.
        real: Dice against its annotation.
        offset: mean of real minus expected over patients, which is added to what is expected: as
            voxels err together, more is expected of them than comes true.
        spearman: rank correlation of both over patients, with its 95 % interval.
        error: mean absolute difference of both, with its 95 % interval over patients.
        error_of_mean: mean absolute difference if always the mean of the other cases were said.
    """

    cases: tuple[int, ...]
    expected: tuple[float, ...]
    real: tuple[float, ...]
    offset: float = 0.0
    spearman: tuple[float, float, float] | None = None
    error: tuple[float, float, float] | None = None
    error_of_mean: float | None = None

    @property
    def says_little(self) -> bool:
        """True where always saying the mean would err less, or too few patients tell."""
        return (
            self.error is None or self.error_of_mean is None or self.error[0] >= self.error_of_mean
        )


class Coverage(Record):
    """Share of held-out patients whose volume lies in the interval that the others give.

    Args:
        stratum: the patients that it is about, in words.
        patients: how many.
        covered: the share.
        low: lower end of its 95 % interval (Wilson).
        high: upper end.
    """

    stratum: str
    patients: int
    covered: float
    low: float
    high: float


class CalibratedRegion(Record):
    """Calibration and risks of one region, over N held-out cases as in `VoxelCalibration`.

    Args:
        region: its name.
        temperature: the log odds of the network's probability are divided by it.
        bias: added to them after that.
        because: why they have these values.
        before: reliability of the network's probabilities; None with too few patients.
        after: of the calibrated ones, each fifth of the patients calibrated by the others.
        missed: mean share of the region below each threshold, over patients who have it.
        patients_with: patients who have it.
        false: mean share of the contour at each threshold that is not the region's (running
            maximum), over all patients.
        predicted_ml: volume of each case's prediction.
        reference_ml: of its annotation.
        spread_ml: standard deviation if all voxels erred together.
        dice: expected against real.
        coverage: of the intervals of the volume at alpha = .1, all patients first, then strata.
    """

    region: str
    temperature: float = Field(default=1.0, gt=0)
    bias: float = 0.0
    because: str = ""
    before: Reliability | None = None
    after: Reliability | None = None
    missed: tuple[float, ...] = ()
    patients_with: int = 0
    false: tuple[float, ...] = ()
    predicted_ml: tuple[float, ...] = ()
    reference_ml: tuple[float, ...] = ()
    spread_ml: tuple[float, ...] = ()
    dice: DiceCheck | None = None
    coverage: tuple[Coverage, ...] = ()

    def thresholds(self, patients: int, alpha: float) -> tuple[int | None, int | None]:
        """Return the places of the inner and the outer threshold among `EDGES`, where possible.

        Where the outer contour would lie within the inner one, so good is the model, both are at
        one threshold between them: each guarantee holds there, too.
        """
        inner = lowest_inner_threshold(self.false, patients, alpha) if self.false else None
        outer = None
        if self.missed:
            outer = highest_outer_threshold(self.missed, self.patients_with, alpha)
        if inner is not None and outer is not None and inner < outer:
            even = int(np.searchsorted(EDGES, -self.bias * self.temperature))
            inner = outer = min(max(even, inner), outer)
        return inner, outer

    def probability_at(self, threshold: int) -> float:
        """Return the calibrated probability at a threshold, a place among `EDGES`."""
        odds = float(EDGES[threshold]) / self.temperature + self.bias
        return 1 / (1 + math.exp(-odds))

    def judge(
        self,
        voxels: Integers,
        volume_ml: float,
        *,
        voxel_ml: float,
        groups: Sequence[int],
        alpha: float,
    ) -> RegionConfidence:
        """Judge the region of one case.

        Args:
            voxels: (2, BINS) of `VoxelCounts`.
            volume_ml: predicted volume.
            voxel_ml: volume of a counted voxel.
            groups: (N,) patient of each held-out case.
            alpha: how often an interval may fail.
        """
        low, high = self.held(groups).interval(volume_ml, volume_spread(voxels) * voxel_ml, alpha)
        within = [
            None if place is None else count_above(voxels, place) * voxel_ml
            for place in self.thresholds(len(set(groups)), alpha)
        ]
        dice, least = self._judge_dice(voxels, groups, alpha) if volume_ml else (None, None)
        sure = math.isfinite(high)
        return RegionConfidence(
            region=self.region,
            volume_ml=_rounded(volume_ml),
            low_ml=_rounded(low) if sure else None,
            high_ml=_rounded(high) if sure else None,
            inner_ml=None if within[0] is None else _rounded(within[0]),
            outer_ml=None if within[1] is None else _rounded(within[1]),
            dice=dice,
            least_dice=least,
        )

    def held(self, groups: Sequence[int]) -> HeldVolumes:
        """Return the held-out volumes."""
        return HeldVolumes(
            np.array(self.predicted_ml),
            np.array(self.reference_ml),
            np.array(self.spread_ml),
            groups,
        )

    def _judge_dice(
        self, voxels: Integers, groups: Sequence[int], alpha: float
    ) -> tuple[float | None, float | None]:
        """Return the expected Dice and the one that about a share 1 - alpha reaches."""
        calibration = LogOddsCalibration(self.temperature, self.bias)
        expected = expected_dice(voxels, calibration.probabilities)
        if math.isnan(expected) or self.dice is None:
            return None, None
        expected = min(1.0, max(0.0, expected + self.dice.offset))
        lost = np.array(self.dice.expected) - np.array(self.dice.real)
        most = conformal_quantile(lost, alpha, [groups[n] for n in self.dice.cases])
        least = None if math.isinf(most) else round(min(1.0, max(0.0, expected - most)), 4)
        return round(expected, 4), least


class VoxelCalibration(Record):
    """Contents of confidence.json.

    Args:
        version: of this format.
        cases: ids of the N held-out cases.
        groups: (N,) number of each one's patient.
        how: how they were predicted, for people.
        regions: in the order of the label table.
        notes: what weakens the guarantee, for people.
        impossible: what the held-out cases do not allow, for people.
        precision: in which they were predicted; None: not known.
    """

    version: Literal[1] = 1
    cases: tuple[str, ...]
    groups: tuple[int, ...]
    how: str
    regions: tuple[CalibratedRegion, ...]
    notes: tuple[str, ...] = ()
    impossible: tuple[str, ...] = ()
    precision: str | None = None

    @property
    def patients(self) -> int:
        """Number of held-out patients."""
        return len(set(self.groups))

    def check_alpha(self, alpha: float) -> None:
        """Refuse an alpha that the held-out patients do not allow.

        Raises:
            UsageError: see `hilum.metrics.risk_control.check_alpha`.
        """
        check_alpha(alpha, self.patients)

    def probability_thresholds(self, alpha: float) -> NDArray[np.float32]:
        """Return the network's probabilities (R, 2) of the inner and outer contour.

        Infinite where there is no contour.
        """
        places = [region.thresholds(self.patients, alpha) for region in self.regions]
        least = [
            [math.inf if n is None or n == BINS else EDGES[n] for n in pair] for pair in places
        ]
        odds = np.array(least)
        return np.where(np.isinf(odds), np.inf, expit(odds)).astype(np.float32)

    def judge(
        self, counts: VoxelCounts, volumes_ml: Sequence[float], alpha: float = ALPHA
    ) -> CaseConfidence:
        """Compute volume intervals, contours and expected Dice of a predicted case.

        Args:
            counts: of its voxels, from the network's logits.
            volumes_ml: of each region as predicted, after post-processing.
            alpha: how often an interval may fail.

        Raises:
            UsageError: other regions than the calibration's.
        """
        if not len(counts.voxels) == len(volumes_ml) == len(self.regions):
            raise UsageError(
                f"there are {len(counts.voxels)} counted regions and {len(volumes_ml)} volumes",
                needed=f"{len(self.regions)}: {', '.join(one.region for one in self.regions)}",
                cure="count and measure the regions of the model that carries this calibration",
            )
        regions = tuple(
            region.judge(voxels, volume, voxel_ml=counts.voxel_ml, groups=self.groups, alpha=alpha)
            for region, voxels, volume in zip(self.regions, counts.voxels, volumes_ml, strict=True)
        )
        return CaseConfidence(
            alpha=alpha,
            smallest_alpha=smallest_alpha(self.patients),
            patients=self.patients,
            guarantee=self.guarantee(alpha),
            regions=regions,
            notes=self.notes,
            impossible=(*self.impossible, *self._impossible(alpha)),
        )

    def guarantee(self, alpha: float) -> str:
        """Say what holds at an alpha, and for whom."""
        share, patients = f"{100 * alpha:.3g} %", self.patients
        if patients < patients_for(alpha):
            return (
                f"None at alpha {alpha:g}: {patients} held-out patients allow"
                f" {alpha_text(smallest_alpha(patients))} or more."
            )
        return (
            f"For a new patient like the {patients} held-out ones, the volume that an annotator"
            f" would find lies outside of its interval with a probability of at most {share}. The"
            f" Dice reaches its lower end in about {100 * (1 - alpha):.3g} % of such patients. On"
            f" the network's grid the outer contour misses at most {share} of a region that is"
            f" there, and at most {share} of the inner contour is false, on average over such"
            " patients."
        )

    def _impossible(self, alpha: float) -> tuple[str, ...]:
        """Say which contours and intervals of single regions the held-out patients do not allow."""
        if self.patients < patients_for(alpha):
            return ()
        notes = []
        for region in self.regions:
            if region.patients_with < patients_for(alpha):
                notes.append(
                    f"{region.region}: no outer contour, as {region.patients_with} held-out"
                    f" patients have it and {patients_for(alpha)} are needed"
                )
            elif region.thresholds(self.patients, alpha)[1] is None:
                notes.append(
                    f"{region.region}: no outer contour, as at every threshold more than"
                    f" {100 * alpha:.3g} % of it are missed"
                )
        return tuple(notes)

    def with_note(self, note: str) -> Self:
        """Add a sentence of what weakens the guarantee."""
        return self.model_copy(update={"notes": (*self.notes, note)})

    def save(self, folder: Path) -> tuple[str, ...]:
        """Write the file; its name."""
        atomic_write_text(folder / CONFIDENCE, self.model_dump_json(indent=1) + "\n")
        return (CONFIDENCE,)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelError: the file is damaged.
        """
        path = folder / CONFIDENCE
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError) as error:
            raise damaged_model(f"{path}: {error}") from error


def _rounded(value: float) -> float:
    """Keep five digits: no interval is known better."""
    return float(f"{value:.5g}")
