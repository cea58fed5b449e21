"""Ranks of several models, and their stability when patients and runs are resampled.

Models are ranked by a metric of all cases, in the cases as they are and in every resample of the
patients (Wiesenfarth et al., Sci Rep 11, 2021). A rank that holds in
few resamples says more of the patients that happened to be there than of the models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.resampling import LEVEL
from hilum.metrics.validation import check_level

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from hilum.metrics.validation import Numbers


@dataclass(frozen=True)
class RankStability:
    """Ranks (M,) of models; 1 is the best, ties share the mean of their ranks.

    Args:
        rank: in the cases as they are; NaN in all where a model has no value.
        mean: mean of the ranks in the resamples.
        low: lower end of the range that holds `level` of them.
        high: upper end.
        first: share of the resamples in which the model is the first; ties share it.
    """

    rank: Numbers
    mean: Numbers
    low: Numbers
    high: Numbers
    first: Numbers


def rank_stability(
    values: ArrayLike,
    resampled: ArrayLike,
    *,
    higher_is_better: bool = True,
    level: float = LEVEL,
) -> RankStability:
    """Rank models by their values, and by those in each resample.

    Args:
        values: (M,) a metric of each model.
        resampled: (M, R) the same in R resamples, the same for all models; those in which a model
            has no value (NaN) are left out.
        higher_is_better: of the metric.
        level: of the resampled ranks that lie between `low` and `high`.

    Raises:
        UsageError: shapes that do not fit, or a level out of range.
    """
    check_level(level)
    given, columns = np.asarray(values, dtype=np.float64), np.asarray(resampled, dtype=np.float64)
    if given.ndim != 1 or columns.ndim != 2 or len(given) != len(columns):
        raise UsageError(
            f"the values have shapes {given.shape} and {columns.shape}",
            needed="one value a model (M,), and (M, R) in resamples",
        )
    nothing = np.full(len(given), np.nan)
    columns = columns[:, ~np.isnan(columns).any(axis=0)]
    if np.isnan(given).any() or not columns.size:
        return RankStability(nothing, nothing, nothing, nothing, nothing)
    ranks = rank_columns(columns, higher_is_better=higher_is_better)
    best = columns == (columns.max(axis=0) if higher_is_better else columns.min(axis=0))
    low, high = np.quantile(
        ranks, ((1 - level) / 2, (1 + level) / 2), axis=1, method="inverted_cdf"
    )
    return RankStability(
        rank_columns(given[:, None], higher_is_better=higher_is_better)[:, 0],
        ranks.mean(axis=1),
        low,
        high,
        (best / best.sum(axis=0)).mean(axis=1),
    )


def rank_columns(values: Numbers, *, higher_is_better: bool) -> Numbers:
    """Rank the rows of each column (M, R): 1 is the best, ties share the mean of their ranks."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-values if higher_is_better else values, axis=0))


def resample_runs(values: Numbers, random: np.random.Generator) -> Numbers:
    """Mean (R,) over resampled runs, in each resample other ones, of values (S, R) of S runs.

    S - 1 of the S runs are drawn with replacement, so that the means vary as those of S runs do; S
    of S would vary too little (Rao and Wu, J Am Stat Assoc 83, 1988).
    """
    runs, resamples = values.shape
    if runs == 1:
        return np.asarray(values[0])
    picks = random.integers(runs, size=(runs - 1, resamples))
    means: Numbers = np.take_along_axis(values, picks, axis=0).mean(axis=0)
    return means
