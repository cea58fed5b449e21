"""Coverage of 95 % intervals by statistic, method, number of patients and kind of data."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from hilum.metrics import (
    auroc,
    bootstrap_interval,
    bootstrap_statistic,
    delong_interval,
    mean_of_columns,
    median_interval,
    proportion_interval,
    runs_test,
    wilson_interval,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Values = NDArray[np.float64]
    Ends = tuple[float, float]

PATIENTS = (10, 20, 50, 100)
LARGE = 1_000_000
"""Patients from whom the true value is taken."""
HOLDS, NEARLY = 0.93, 0.90
"""A method holds where it covers so often at every number of patients; below the other it fails."""


@dataclass(frozen=True)
class Sample:
    """Cases of some patients.

    Args:
        values: (N,) or (N, S) values, scores, or hits.
        groups: (N,) whose case it is.
        positive: (N,) of an AUROC.
    """

    values: Values
    groups: NDArray[np.int64]
    positive: NDArray[np.bool_] | None = None

    @property
    def means(self) -> Values:
        """(G,) of the patients."""
        return np.bincount(self.groups, weights=self.values) / np.bincount(self.groups)


def organ(random: np.random.Generator, patients: int) -> Sample:
    """Dice of an organ: high, with a tail of bad cases; two cases a patient that are alike."""
    patient = random.beta(18, 2, size=(patients, 1))
    values = np.clip(patient + random.normal(0, 0.02, (patients, 2)), 0, 1)
    return Sample(values.ravel(), np.repeat(np.arange(patients), 2))


def tumour(random: np.random.Generator, patients: int) -> Sample:
    """Dice of a tumour: one in seven patients is missed (0), the others spread widely."""
    found = random.random(patients) > 1 / 7
    return Sample(np.where(found, random.beta(5, 2.5, size=patients), 0.0), np.arange(patients))


def distance(random: np.random.Generator, patients: int) -> Sample:
    """HD95 in mm: log-normal, a few very large ones."""
    return Sample(random.lognormal(1.0, 0.9, size=patients), np.arange(patients))


def one_case(random: np.random.Generator, patients: int) -> Sample:
    """One case a patient, nine in ten right."""
    return Sample((random.random(patients) < 0.9).astype(float), np.arange(patients))


def lesions(random: np.random.Generator, patients: int) -> Sample:
    """One to five lesions a patient, found with a chance of 0.85 that differs by patient."""
    groups = np.repeat(np.arange(patients), random.integers(1, 6, size=patients))
    chance = random.beta(5.1, 0.9, size=patients)
    return Sample((random.random(len(groups)) < chance[groups]).astype(float), groups)


def scores(random: np.random.Generator, patients: int) -> Sample:
    """Scores of one case a patient, four in ten positive; AUROC 0.86."""
    positive = np.arange(patients) < 0.4 * patients
    return Sample(random.normal(size=patients) + 1.5 * positive, np.arange(patients), positive)


def nodules(random: np.random.Generator, patients: int) -> Sample:
    """Scores of one to five nodules a patient, whose nodules are alike; AUROC 0.80."""
    groups = np.repeat(np.arange(patients), random.integers(1, 6, size=patients))
    chance = random.beta(0.8, 1.2, size=patients)
    positive = random.random(len(groups)) < chance[groups]
    shared = random.normal(size=patients)[groups]
    return Sample(shared + random.normal(size=len(groups)) + 1.7 * positive, groups, positive)


def seeds(random: np.random.Generator, patients: int) -> Sample:
    """Dice of two ways of training that are alike, three seeds each: columns a, a, a, b, b, b."""
    run = random.normal(0, 0.01, size=(1, 6))
    model = np.repeat(random.normal(0, 0.02, size=(patients, 2)), 3, axis=1)
    values = 0.8 + model + run + random.normal(0, 0.02, size=(patients, 6))
    return Sample(values, np.arange(patients))


def bootstrap_mean(sample: Sample, seed: int) -> Ends:
    """Return what hilum gives for a mean."""
    found = bootstrap_interval(sample.values, sample.groups.tolist(), "mean", seed=seed)
    return found.low, found.high


def student(sample: Sample, _: int) -> Ends:
    """Return the t interval of the patients' means."""
    means = sample.means
    low, high = stats.t.interval(0.95, len(means) - 1, means.mean(), stats.sem(means))
    return float(low), float(high)


def percentile(sample: Sample, seed: int, statistic: Callable[..., Values] = np.mean) -> Ends:
    """Return the percentile bootstrap of a statistic of the patients' means."""
    means, random = sample.means, np.random.default_rng(seed)
    resampled = statistic(means[random.integers(len(means), size=(2000, len(means)))], axis=1)
    low, high = np.quantile(resampled, (0.025, 0.975))
    return float(low), float(high)


def order_statistics(sample: Sample, _: int) -> Ends:
    """Return what hilum gives for a median."""
    found = median_interval(sample.values, sample.groups.tolist())
    return found.low, found.high


def percentile_median(sample: Sample, seed: int) -> Ends:
    """Return the percentile bootstrap of the median of the patients' means."""
    return percentile(sample, seed, np.median)


def basic_median(sample: Sample, seed: int) -> Ends:
    """Return the basic bootstrap of the median of the patients' means."""
    low, high = percentile_median(sample, seed)
    median = float(np.median(sample.means))
    return 2 * median - high, 2 * median - low


def wilson_of_patients(sample: Sample, _: int) -> Ends:
    """Return what hilum gives for a share."""
    found = proportion_interval(sample.values > 0, sample.groups.tolist())
    return found.low, found.high


def wilson_of_cases(sample: Sample, _: int) -> Ends:
    """Return Wilson's interval as if each case were a patient."""
    low, high = wilson_interval(sample.values.sum(), len(sample.values))
    return float(low), float(high)


def bootstrap_share(sample: Sample, seed: int) -> Ends:
    """Return the BCa bootstrap of a share over patients."""
    found = bootstrap_statistic(
        mean_of_columns, (sample.values[:, None],), sample.groups.tolist(), seed=seed
    )
    return found.low, found.high


def delong(sample: Sample, _: int) -> Ends:
    """Return what hilum gives for an AUROC."""
    found = delong_interval(sample.values, sample.positive, groups=sample.groups.tolist())
    return found.low, found.high


def delong_plain(sample: Sample, _: int) -> Ends:
    """Return the interval of the area itself instead of its logit."""
    whose = sample.groups.tolist()
    found = delong_interval(sample.values, sample.positive, groups=whose, transform="plain")
    return found.low, found.high


def delong_of_cases(sample: Sample, _: int) -> Ends:
    """Return DeLong's interval as if each case were a patient."""
    found = delong_interval(sample.values, sample.positive)
    return found.low, found.high


def bootstrap_area(sample: Sample, seed: int) -> Ends:
    """Return the BCa bootstrap of an AUROC over patients, of 500 resamples."""
    found = bootstrap_statistic(
        auroc, (sample.values, sample.positive), sample.groups.tolist(), resamples=500, seed=seed
    )
    return found.low, found.high


def over_runs(sample: Sample, _: int) -> Ends:
    """Return what hilum gives for the difference of models with several runs."""
    found = runs_test(sample.values[:, :3], sample.values[:, 3:])
    return found.low, found.high


def over_patients(sample: Sample, _: int) -> Ends:
    """Return the paired t interval over patients of the means over the runs."""
    means = sample.values[:, :3].mean(axis=1) - sample.values[:, 3:].mean(axis=1)
    low, high = stats.t.interval(0.95, len(means) - 1, means.mean(), stats.sem(means))
    return float(low), float(high)


@dataclass(frozen=True)
class Statistic:
    """A statistic, its true value, kinds of data and the methods; the first method is hilum's."""

    truth: Callable[[Sample], float]
    samples: tuple[Callable[[np.random.Generator, int], Sample], ...]
    methods: Mapping[str, Callable[[Sample, int], Ends]]


STATISTICS = {
    "mean": Statistic(
        lambda sample: float(sample.means.mean()),
        (organ, tumour, distance),
        {"t below 20, else BCa": bootstrap_mean, "percentile": percentile, "t": student},
    ),
    "median": Statistic(
        lambda sample: float(np.median(sample.means)),
        (organ, tumour, distance),
        {
            "order statistics": order_statistics,
            "percentile": percentile_median,
            "basic": basic_median,
        },
    ),
    "share": Statistic(
        lambda sample: float(sample.values.mean()),
        (one_case, lesions),
        {
            "Wilson over patients": wilson_of_patients,
            "Wilson of cases": wilson_of_cases,
            "BCa": bootstrap_share,
        },
    ),
    "AUROC": Statistic(
        lambda sample: auroc(sample.values, sample.positive),
        (scores, nodules),
        {
            "DeLong, logit, over patients": delong,
            "DeLong, plain, over patients": delong_plain,
            "DeLong, logit, of cases": delong_of_cases,
            "BCa": bootstrap_area,
        },
    ),
    "difference of trainings": Statistic(
        lambda _: 0.0,
        (seeds,),
        {"t over patients and runs": over_runs, "t over patients": over_patients},
    ),
}


def main() -> None:
    """Print a table: a row a statistic, kind of data and method, a column a number of patients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000, help="simulated studies a cell")
    parser.add_argument("--only", choices=STATISTICS, help="one statistic instead of all")
    options = parser.parse_args()
    error = 1.96 * math.sqrt(0.95 * 0.05 / options.repeats)
    print(f"{options.repeats} simulated studies a cell; 95 % shows as .95 +- {error:.3f}.\n")
    print(f"| statistic | of | method | {' | '.join(map(str, PATIENTS))} patients | verdict |")
    print(f"|---|---|---|{'---|' * (len(PATIENTS) + 1)}")
    for name, statistic in STATISTICS.items():
        if options.only in (None, name):
            _print_statistic(name, statistic, options.repeats)


def _print_statistic(name: str, statistic: Statistic, repeats: int) -> None:
    """Print the rows of one statistic as they are done."""
    for draw in statistic.samples:
        truth = statistic.truth(draw(np.random.default_rng(1), LARGE))
        for number, (title, method) in enumerate(statistic.methods.items()):
            shares = [_coverage(draw, method, truth, patients, repeats) for patients in PATIENTS]
            cells, lowest = " | ".join(f"{one:.3f}" for one in shares), min(shares)
            verdict = "holds" if lowest >= HOLDS else "nearly" if lowest >= NEARLY else "fails"
            used = ", used" if number == 0 else ""
            what = draw.__name__.replace("_", " ")
            print(f"| {name} | {what} | {title} | {cells} | {verdict}{used} |", flush=True)


def _coverage(
    draw: Callable[[np.random.Generator, int], Sample],
    method: Callable[[Sample, int], Ends],
    truth: float,
    patients: int,
    repeats: int,
) -> float:
    """Share of the studies whose interval holds the truth; one without an interval does not."""
    random = np.random.default_rng(patients)
    ends = np.array([method(draw(random, patients), seed) for seed in range(repeats)])
    low, high = ends.T
    return float(np.mean((low <= truth) & (truth <= high)))


if __name__ == "__main__":
    main()
