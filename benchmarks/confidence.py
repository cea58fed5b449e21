"""Confidence of hippocampus segmentations on patients that the model never met, and its cost.

    scripts/bench confidence [--minutes 6] [--timed 20]

Trains on 120 patients (96 to learn from, 24 to calibrate on) and predicts the other 88: coverage of
the volume intervals, expected against real Dice, missed and false shares of the contours,
calibration error before and after, and the time with and without, interleaved.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from _common import write_result
from _confidence_model import parts, trained

from hilum.dataset import read_annotation
from hilum.evaluation import score_labels
from hilum.inference import Predictor, TrainedModel
from hilum.inference.voxel_counter import VoxelCounter
from hilum.metrics import bootstrap_interval, wilson_interval
from hilum.metrics.log_odds import (
    LogOddsCalibration,
    calibration_gap,
    reliability,
    volume_spread,
)
from hilum.metrics.rank_correlation import spearman
from hilum.metrics.risk_control import HeldVolumes, false_share, mean_risk, missed_share
from hilum.preprocess import preprocess_labels

if TYPE_CHECKING:
    from hilum.dataset import Case
    from hilum.inference.voxel_calibration import CalibratedRegion

ALPHAS = (0.05, 0.1, 0.2)


def main() -> None:
    """Print a table a region, then the seconds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=6.0, help="of the training")
    parser.add_argument("--timed", type=int, default=20, help="cases whose prediction is timed")
    options = parser.parse_args()
    model = TrainedModel.load(trained(options.minutes))
    calibration = model.confidence
    if calibration is None:
        raise SystemExit("the model carries no confidence")
    test = parts()[1]
    print(f"{len(test)} test patients; calibrated on {calibration.how}.")
    found = predicted(model, test)
    by_alpha = {alpha: at_alpha(model, found, alpha) for alpha in ALPHAS}
    result: dict[str, Any] = {"calibrated_on": calibration.patients, "tested_on": len(test)}
    for number, region in enumerate(calibration.regions):
        result[region.region] = judged(region, number, calibration.patients, by_alpha)
    result["seconds"] = seconds(model, test[: options.timed])
    write_result("confidence", result)


def predicted(model: TrainedModel, cases: list[Case]) -> list[tuple[Any, Any]]:
    """Return counts and scores of each case."""
    found, table = [], model.plan.labels
    predictor = Predictor(model)
    for case in cases:
        prepared, reference = predictor.prepare(case), read_annotation(case)
        truth = preprocess_labels(reference, prepared.restore)
        counter = VoxelCounter(table, prepared.restore, truth)
        prediction = predictor.predict_prepared(prepared, counter=counter)
        scores = score_labels(
            prediction.labels.array[0],
            reference.array[0],
            spacing=reference.geometry.spacing,
            table=table,
            case=case.id,
        )
        found.append((counter.finish(), scores))
    predictor.close()
    return found


def at_alpha(
    model: TrainedModel, found: list[tuple[Any, Any]], alpha: float
) -> list[tuple[Any, Any, Any]]:
    """Return confidence, counts and scores of each case."""
    return [
        (
            model.confidence.judge(counts, [score.volume_prediction_ml for score in scores], alpha),
            counts,
            scores,
        )
        for counts, scores in found
    ]


def judged(
    region: CalibratedRegion,
    number: int,
    patients: int,
    by_alpha: dict[float, list[tuple[Any, Any, Any]]],
) -> dict[str, Any]:
    """Print and return how one region's confidence fared."""
    print(f"\n{region.region}: temperature {region.temperature:.3f}, bias {region.bias:.3f}")
    print("| alpha | volume held | width / volume | least Dice held | outer misses | inner false |")
    print("|---|---|---|---|---|---|")
    result: dict[str, Any] = {}
    for alpha, found in by_alpha.items():
        own = [(one.regions[number], counts, scores[number]) for one, counts, scores in found]
        held = [one.low_ml <= score.volume_reference_ml <= one.high_ml for one, _, score in own]
        width = np.median([(one.high_ml - one.low_ml) / one.volume_ml for one, _, _ in own])
        least = [score.dice >= one.least_dice for one, _, score in own]
        voxels, reference, referenced = arrays(own, number)
        inner, outer = region.thresholds(patients, alpha)
        misses = mean_risk(missed_share(reference, referenced))[outer]
        false = mean_risk(false_share(voxels, reference))[inner]
        low, high = wilson_interval(sum(held), len(held))
        print(
            f"| {alpha:g} | {np.mean(held):.3f} ({low:.3f} to {high:.3f}) | {width:.2f} |"
            f" {np.mean(least):.3f} | {misses:.3f} | {false:.3f} |"
        )
        result[f"{alpha:g}"] = [np.mean(held), width, np.mean(least), misses, false]
    spreads = [volume_spread(counts.voxels[number]) * counts.voxel_ml for _, counts, _ in own]
    pairs = zip(spreads, (score for _, _, score in own), strict=True)
    result["repeated"] = repeated(list(pairs))
    print(f"Calibrated on 24 of the test patients and tried on the others, {result['repeated']}")
    both = [(one.dice, score.dice) for one, _, score in own if one.dice is not None]
    expected, real = map(np.array, zip(*both, strict=True))
    rank = spearman(expected, real)
    error = bootstrap_interval(np.abs(expected - real), list(range(len(real))))
    of_mean = float(np.mean(np.abs(real - real.mean())))
    curves = [
        reliability(voxels, reference, calibrated.probabilities)
        for calibrated in (
            LogOddsCalibration(),
            LogOddsCalibration(region.temperature, region.bias),
        )
    ]
    gaps = [calibration_gap(curve) for curve in curves]
    print(
        f"Dice: Spearman {rank[0]:.3f} ({rank[1]:.3f} to {rank[2]:.3f}), mean error"
        f" {error.estimate:.4f} ({error.low:.4f} to {error.high:.4f}), of the mean {of_mean:.4f};"
        f" calibration error {gaps[0]:.4f} before, {gaps[1]:.4f} after"
    )
    dice = {"spearman": rank, "error": error.estimate, "error_of_mean": of_mean, "gaps": gaps}
    return result | dice


def repeated(own: list[tuple[float, Any]], number: int = 200) -> dict[str, float]:
    """Return the mean share of volumes held, over random choices of 24 patients to calibrate on."""
    rng = np.random.default_rng(0)
    held: dict[float, list[bool]] = {alpha: [] for alpha in ALPHAS}
    rows = np.array(
        [(one.volume_prediction_ml, one.volume_reference_ml, spread) for spread, one in own]
    )
    for _ in range(number):
        order = rng.permutation(len(rows))
        known, tried = rows[order[:24]], rows[order[24:]]
        volumes = HeldVolumes(*known.T)
        for alpha in ALPHAS:
            for predicted_ml, reference_ml, spread in tried:
                low, high = volumes.interval(predicted_ml, spread, alpha)
                held[alpha].append(low <= reference_ml <= high)
    return {f"alpha {alpha:g}": round(float(np.mean(ones)), 3) for alpha, ones in held.items()}


def arrays(own: list[tuple[Any, Any, Any]], number: int) -> tuple[Any, Any, Any]:
    """Return voxels and reference (N, BINS), and all voxels of the reference (N,)."""
    counts = [one for _, one, _ in own]
    voxels = np.array([one.voxels[number].sum(axis=0) for one in counts])
    reference = np.array([one.reference[number].sum(axis=0) for one in counts])
    return voxels, reference, np.array([one.referenced[number] for one in counts])


def seconds(model: TrainedModel, cases: list[Case], rounds: int = 5) -> dict[str, float]:
    """Time predictions with and without confidence, one after the other, `rounds` times."""
    predictors = {
        "with": Predictor(model),
        "without": Predictor(replace(model, confidence=None)),
    }
    prepared = [predictors["with"].prepare(case) for case in cases]
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for _ in range(rounds + 1):
        for name, predictor in predictors.items():
            start = time.perf_counter()
            for one in prepared:
                predictor.predict_prepared(one)
            times[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(values[1:])) for name, values in times.items()}
    more = medians["with"] / medians["without"] - 1
    print(f"\nSeconds of {len(cases)} cases: {medians}, {100 * more:+.1f} % with confidence")
    return medians


if __name__ == "__main__":
    main()
