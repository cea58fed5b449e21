"""Coverage of 95 % intervals of means and medians, by number of patients and distribution."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from hilum.metrics import bootstrap_interval, median_interval

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Values = NDArray[np.float64]
    Ends = tuple[float, float]

PATIENTS = (6, 10, 20, 50, 100)
LARGE = 2_000_000
"""Patients from whom the true mean and median are taken."""


def organ(random: np.random.Generator, patients: int) -> Values:
    """Dice of an organ: high, with a tail of bad cases; two cases a patient that are alike."""
    patient = random.beta(18, 2, size=(patients, 1))
    return np.clip(patient + random.normal(0, 0.02, (patients, 2)), 0, 1)


def tumour(random: np.random.Generator, patients: int) -> Values:
    """Dice of a tumour: one in seven patients is missed (0), the others spread widely."""
    found = random.random((patients, 1)) > 1 / 7
    return np.where(found, random.beta(5, 2.5, size=(patients, 1)), 0.0)


def distance(random: np.random.Generator, patients: int) -> Values:
    """HD95 in mm: log-normal, a few very large ones."""
    return random.lognormal(1.0, 0.9, size=(patients, 1))


def bca(values: Values, groups: list[int], seed: int) -> Ends:
    """Return what hilum gives for a mean."""
    found = bootstrap_interval(values, groups, "mean", seed=seed)
    return found.low, found.high


def student(values: Values, groups: list[int], _: int) -> Ends:
    """Return the t interval of the patients' means."""
    means = values.reshape(len(set(groups)), -1).mean(axis=1)
    low, high = stats.t.interval(0.95, len(means) - 1, means.mean(), stats.sem(means))
    return float(low), float(high)


def percentile(values: Values, groups: list[int], seed: int) -> Ends:
    """Return the percentile bootstrap of the patients' means."""
    means = values.reshape(len(set(groups)), -1).mean(axis=1)
    random = np.random.default_rng(seed)
    drawn = means[random.integers(len(means), size=(2000, len(means)))].mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def order_statistics(values: Values, groups: list[int], _: int) -> Ends:
    """Return what hilum gives for a median."""
    found = median_interval(values, groups)
    return found.low, found.high


def bootstrap_median(values: Values, groups: list[int], seed: int) -> Ends:
    """Return the percentile bootstrap of the median of the patients' means."""
    means = values.reshape(len(set(groups)), -1).mean(axis=1)
    random = np.random.default_rng(seed)
    drawn = np.median(means[random.integers(len(means), size=(2000, len(means)))], axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def basic_median(values: Values, groups: list[int], seed: int) -> Ends:
    """Return the basic bootstrap of the median of the patients' means."""
    low, high = bootstrap_median(values, groups, seed)
    median = float(np.median(values.reshape(len(set(groups)), -1).mean(axis=1)))
    return 2 * median - high, 2 * median - low


METHODS: dict[str, dict[str, Callable[[Values, list[int], int], Ends]]] = {
    "mean": {"hilum": bca, "percentile": percentile, "t": student},
    "median": {
        "hilum": order_statistics,
        "percentile": bootstrap_median,
        "basic": basic_median,
    },
}


def main() -> None:
    """Print a table: a row a statistic, distribution and method, a column a number of patients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000, help="simulated studies a cell")
    repeats = parser.parse_args().repeats
    error = 1.96 * math.sqrt(0.95 * 0.05 / repeats)
    print(f"{repeats} simulated studies a cell; a true 95 % shows as .95 +- {error:.3f}.\n")
    print(f"| statistic | of | method | {' | '.join(map(str, PATIENTS))} patients |")
    print(f"|---|---|---|{'---|' * len(PATIENTS)}")
    for statistic, methods in METHODS.items():
        for sample in (organ, tumour, distance):
            patients = sample(np.random.default_rng(1), LARGE).mean(axis=1)
            truth = float(patients.mean() if statistic == "mean" else np.median(patients))
            for name, method in methods.items():
                cells = []
                for number in PATIENTS:
                    random, held = np.random.default_rng(number), 0
                    for seed in range(repeats):
                        values = sample(random, number)
                        groups = np.repeat(np.arange(number), values.shape[1]).tolist()
                        low, high = method(values.ravel(), groups, seed)
                        held += low <= truth <= high
                    cells.append(f"{held / repeats:.3f}")
                print(
                    f"| {statistic} | {sample.__name__} | {name} | {' | '.join(cells)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
