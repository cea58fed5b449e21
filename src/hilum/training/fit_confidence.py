"""Fit the confidence of a segmentation on its validation cases (ADR 25)."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from hilum.errors import counted, some
from hilum.evaluation import Score
from hilum.inference.voxel_calibration import (
    ALPHA,
    CalibratedRegion,
    Coverage,
    DiceCheck,
    Reliability,
    VoxelCalibration,
)
from hilum.metrics import bootstrap_interval, wilson_interval
from hilum.metrics.log_odds import (
    LogOddsCalibration,
    calibrate_log_odds,
    calibration_gap,
    expected_dice,
    reliability,
    volume_spread,
)
from hilum.metrics.rank_correlation import spearman
from hilum.metrics.risk_control import (
    alpha_text,
    false_share,
    left_out_coverage,
    mean_risk,
    missed_share,
    patients_for,
    smallest_alpha,
)
from hilum.metrics.validation import patients_of
from hilum.plan import SegmentationPlan
from hilum.preprocess import CaseStore
from hilum.training.strata import Stratum, column_strata, region_strata
from hilum.training.task import TrainedFolds
from hilum.training.voxel_files import counts_file, load_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.dataset import Case
    from hilum.metrics import CalibrationCurve
    from hilum.metrics.log_odds import VoxelCounts
    from hilum.volume import LabelTable

Folds: TypeAlias = TrainedFolds[SegmentationPlan, CaseStore, Score]

_log = logging.getLogger("hilum")
FEWEST = 5
"""Patients below which no calibration and no reliability is fitted."""
IGNORED = (
    "voxels that were not annotated were left out of the held-out cases, and cannot be left out of"
    " a new one: the guarantee is for annotated voxels only"
)
_PARTS = 5
"""Parts of the patients; each is calibrated by the others."""


@dataclass(frozen=True, eq=False)
class HeldOutCase:
    """A validation case: its voxels counted, and its scores by region.

    Args:
        case: the case.
        group: its patient, joined with near-duplicates.
        counts: with the reference.
        scores: one a region, in the order of the label table.
    """

    case: Case
    group: str
    counts: VoxelCounts
    scores: Sequence[Score]


def confidence_after_training(folds: Folds) -> Folds:
    """Fit the confidence on the counted voxels of the validation cases, and say what it allows.

    Whatever fails costs the confidence, never the model: the notes say so.
    """
    try:
        held = _find_counts(folds)
        if not held:
            return folds
        fitted = fit_confidence(
            held,
            folds.plan.labels,
            networks=len(folds.members),
            notes=decided_notes(
                end=folds.time_plan.steps is None,
                postprocessing=bool(folds.plan.postprocessing.value),
            ),
            precision=folds.plan.precision.value,
        )
    except Exception as error:  # noqa: BLE001  whatever it is, the trained model must not be lost
        _log.exception("Confidence: an error that hilum did not expect; please report it")
        return folds.with_notes(f"the confidence could not be fitted: {error}")
    folds.listener.say(
        f"Confidence: {fitted.how}; the smallest alpha that they allow is 1 / (n + 1),"
        f" {alpha_text(smallest_alpha(fitted.patients))}."
    )
    for note in (*fitted.notes, *fitted.impossible):
        folds.listener.say(f"Confidence: {note}.")
    return replace(folds, confidence=fitted)


def decided_notes(*, end: bool, postprocessing: bool) -> tuple[str, ...]:
    """Name what the held-out cases decided, as none of them is like a new case then.

    Args:
        end: when the training ended.
        postprocessing: what is removed from label maps.
    """
    named = [*["when the training ended"] * end, *["the post-processing"] * postprocessing]
    if not named:
        return ()
    return (f"held-out cases decided {' and '.join(named)}: the guarantee is not exact",)


def _find_counts(folds: Folds) -> list[HeldOutCase]:
    """Read the counted voxels of each scored case, of the first fold that validates on it."""
    by_case: dict[str, list[Score]] = {}
    for score in folds.scores:
        by_case.setdefault(score.case, []).append(score)
    found: dict[str, HeldOutCase] = {}
    for fold in folds.members:
        folder = folds.work / f"fold_{fold.number}" / "validation"
        for case in fold.validated:
            file, scores = counts_file(folder, case.id), by_case.get(case.id)
            if scores and case.id not in found and file.is_file():
                group = folds.data.groups.get(case.id, case.group)
                found[case.id] = HeldOutCase(case, group, load_counts(file), scores)
    return list(found.values())


def fit_confidence(
    held: Sequence[HeldOutCase],
    table: LabelTable,
    *,
    networks: int = 1,
    notes: Sequence[str] = (),
    precision: str | None = None,
) -> VoxelCalibration:
    """Fit calibration, expected Dice, contours and volume intervals of every region.

    Args:
        held: cases, each predicted by a network that did not learn from it.
        table: the labels.
        networks: of the model, of which each case was predicted by some.
        notes: what weakens the guarantee, for people.
        precision: in which the cases were predicted; None: not known.
    """
    patient, patients = patients_of([one.group for one in held], len(held))
    strata = column_strata([one.case for one in held])
    weaknesses = [*notes]
    if table.ignore is not None:
        weaknesses.append(IGNORED)
    if networks > 1:
        weaknesses.append(
            f"each held-out case was predicted by one of the {networks} networks that are averaged"
            " here: the guarantee is not exact"
        )
    regions = tuple(
        _fit_region(region.name, number, held, patient, strata)
        for number, region in enumerate(table.scored)
    )
    return VoxelCalibration(
        cases=tuple(one.case.id for one in held),
        groups=tuple(patient.tolist()),
        how=(
            f"{counted(len(held), 'case')} of {counted(patients, 'patient')}, each predicted"
            " without mirrored images by a network that did not learn from it"
        ),
        regions=regions,
        notes=tuple(weaknesses),
        impossible=_limits(patients, regions),
        precision=precision,
    )


def _limits(patients: int, regions: Sequence[CalibratedRegion]) -> tuple[str, ...]:
    """Say what so many patients do not allow."""
    found = []
    if patients < FEWEST:
        found.append(
            f"{counted(patients, 'held-out patient')}: the voxels are not calibrated and no Dice is"
            f" expected, for which {FEWEST} are needed"
        )
    if smallest_alpha(patients) > ALPHA:
        found.append(
            f"{counted(patients, 'held-out patient')}: an interval that fails for one patient in"
            f" ten needs {patients_for(ALPHA)}; from alpha"
            f" {alpha_text(smallest_alpha(patients))} on there is one"
        )
    if names := [one.region for one in regions if one.dice is not None and one.dice.says_little]:
        found.append(
            f"the expected Dice of {some(names)} tells cases apart no better than the mean of the"
            " held-out cases does"
        )
    return tuple(found)


def _fit_region(
    name: str,
    number: int,
    held: Sequence[HeldOutCase],
    patient: NDArray[np.int64],
    strata: Sequence[Stratum],
) -> CalibratedRegion:
    """Fit one region, the `number`th of the label table."""
    voxels = np.array([one.counts.voxels[number] for one in held])  # (N, 2, BINS)
    reference = np.array([one.counts.reference[number] for one in held]).sum(axis=1)
    referenced = np.array([one.counts.referenced[number] for one in held])
    both, groups = voxels.sum(axis=1), patient.tolist()
    region = CalibratedRegion(
        region=name,
        false=_sixth(mean_risk(false_share(both, reference), groups)),
        predicted_ml=tuple(one.scores[number].volume_prediction_ml for one in held),
        reference_ml=tuple(one.scores[number].volume_reference_ml for one in held),
        spread_ml=tuple(
            volume_spread(own) * one.counts.voxel_ml for own, one in zip(voxels, held, strict=True)
        ),
    )
    there = np.array(region.reference_ml) > 0  # in the annotation, not on the network's grid
    changes: dict[str, object] = {}
    if there.any():
        missed = np.nan_to_num(missed_share(reference[there], referenced[there]), nan=1.0)
        changes["missed"] = _sixth(mean_risk(missed, patient[there].tolist()))
        changes["patients_with"] = len({*patient[there].tolist()})
    if len(set(groups)) >= FEWEST:
        fitted = calibrate_log_odds(both.sum(axis=0), reference.sum(axis=0))
        changes |= {"temperature": fitted.temperature, "bias": fitted.bias}
        changes["because"] = fitted.reason
        crossed = _cross_calibrated(both, reference, patient)
        raw = LogOddsCalibration().probabilities
        changes["before"] = _record(reliability(both, reference, raw, groups))
        changes["after"] = _record(reliability(both, reference, crossed, groups))
        expected = [expected_dice(*pair) for pair in zip(voxels, crossed, strict=True)]
        changes["dice"] = _check_dice(
            np.where(np.array(region.predicted_ml) > 0, expected, np.nan),
            np.array([one.scores[number].dice for one in held]),
            patient,
        )
    region = region.model_copy(update=changes)
    every = [Stratum("all", np.ones(len(held), dtype=np.bool_))]
    volumes = np.array(region.predicted_ml), np.array(region.reference_ml)
    coverage = _coverage(region, groups, [*every, *region_strata(name, *volumes), *strata])
    return region.model_copy(update={"coverage": coverage})


def _cross_calibrated(
    voxels: NDArray[np.int64], reference: NDArray[np.int64], patient: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the probabilities (N, BINS) of each case, calibrated on other parts of the patients.

    Args:
        voxels: (N, BINS) of each case.
        reference: (N, BINS) those of the reference.
        patient: (N,) number of each case's patient.
    """
    part = np.random.default_rng(0).permutation(int(patient.max()) + 1) % _PARTS
    own = part[patient]
    by_part = [
        calibrate_log_odds(voxels[own != one].sum(axis=0), reference[own != one].sum(axis=0))
        for one in range(_PARTS)
    ]
    return np.array([by_part[one].probabilities for one in own])


def _check_dice(
    expected: NDArray[np.float64], real: NDArray[np.float64], patient: NDArray[np.int64]
) -> DiceCheck | None:
    """Hold the expected Dice against the real one; None where no case defines both."""
    both = np.flatnonzero(~np.isnan(expected) & ~np.isnan(real))
    if not both.size:
        return None
    groups = patient[both].tolist()
    lost = real[both] - expected[both]
    offsets = [lost[patient[both] != own] for own in groups]  # of the other patients
    shifts = np.array([float(rest.mean()) if rest.size else 0.0 for rest in offsets])
    shifted = np.clip(expected[both] + shifts, 0, 1)
    error = bootstrap_interval(np.abs(shifted - real[both]), groups)
    rank = spearman(shifted, real[both], groups)
    others = [real[both][patient[both] != own] for own in groups]
    of_mean = [
        abs(one - float(rest.mean()))
        for one, rest in zip(real[both], others, strict=True)
        if rest.size
    ]
    ends = (error.estimate, error.low, error.high)
    return DiceCheck(
        cases=tuple(both.tolist()),
        expected=_sixth(shifted),
        real=_sixth(real[both]),
        offset=float(mean_risk(lost[:, None], groups)[0]),
        spearman=None if math.isnan(rank[0]) else rank,
        error=None if any(map(math.isnan, ends)) else ends,
        error_of_mean=float(np.mean(of_mean)) if of_mean else None,
    )


def _coverage(
    region: CalibratedRegion, groups: Sequence[int], strata: Sequence[Stratum]
) -> tuple[Coverage, ...]:
    """Count in each stratum the patients whose volume the others' interval holds, at `ALPHA`."""
    if smallest_alpha(len(set(groups)) - 1) > ALPHA:
        return ()
    covered = left_out_coverage(region.held(groups), ALPHA)
    found = []
    for stratum in strata:
        own = [groups[n] for n in np.flatnonzero(stratum.cases).tolist()]
        patients = len(set(own))
        if not patients:
            continue
        share = float(mean_risk(covered[stratum.cases][:, None], own)[0])
        low, high = wilson_interval(share * patients, patients)
        found.append(
            Coverage(
                stratum=stratum.name,
                patients=patients,
                covered=round(share, 4),
                low=round(float(low), 4),
                high=round(float(high), 4),
            )
        )
    return tuple(found)


def _record(curve: CalibrationCurve) -> Reliability | None:
    """Make the record of a curve; None where it has no bin."""
    if not len(curve.cases):
        return None
    low, high = (
        tuple(None if math.isnan(one) else round(one, 6) for one in ends.tolist())
        for ends in (curve.low, curve.high)
    )
    return Reliability(
        predicted=_sixth(curve.predicted),
        observed=_sixth(curve.observed),
        low=low,
        high=high,
        voxels=tuple(int(one) for one in curve.cases),
        error=round(calibration_gap(curve), 6),
    )


def _sixth(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Round up to six digits: a risk is never made smaller."""
    return tuple((np.ceil(values * 1e6 - 1e-6) / 1e6).tolist())
