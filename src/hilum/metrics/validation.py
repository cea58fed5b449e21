"""Argument checks of the classification metrics, and sums over many resamples at once.

Metrics of classification take one row a case. Inside, each is written once, for resamples:
`weights` (B, N) says how often each of B resamples has each case, and the result is (B,) numbers.
The metric of the cases as they are is the one resample of all ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from hilum.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import ArrayLike, NDArray

    Numbers = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Flags = NDArray[np.bool_]
    Counts = Numbers | Integers

_ResultT_co = TypeVar("_ResultT_co", covariant=True)


class ArrayFunction(Protocol[_ResultT_co]):
    """A function of arrays with one row a case, and of options by name."""

    def __call__(self, *arrays: Any, **options: Any) -> _ResultT_co:
        """Evaluate it."""


@dataclass(frozen=True)
class ResampledMetric:
    """Computation of a metric for many resamples at once.

    Args:
        check: the metric's arrays as it wants them, or an error.
        values: (B,) from these, the weights (B, N), and the metric's options.
        share: what several metrics are made of, from arrays and weights: it is then made once for
            all of them, and `values` are made of it and the options. None: it shares nothing.
    """

    check: ArrayFunction[tuple[NDArray[np.generic], ...]]
    values: ArrayFunction[Numbers]
    share: ArrayFunction[object] | None = None


def divide(part: Counts, whole: Counts) -> Numbers:
    """`part / whole`, NaN (undefined) where the whole is 0."""
    empty = np.full(np.broadcast_shapes(np.shape(part), np.shape(whole)), np.nan)
    return np.asarray(np.divide(part, whole, out=empty, where=np.asarray(whole) > 0))


def mean_of_defined(columns: Numbers) -> Numbers:
    """(...) mean over the columns (..., R) that are defined; NaN where none is."""
    defined = ~np.isnan(columns)
    return divide(np.where(defined, columns, 0.0).sum(axis=-1), defined.sum(axis=-1))


def once(cases: NDArray[np.generic]) -> Numbers:
    """Return (1, N): the one resample that has every case once."""
    return np.ones((1, len(cases)))


def flags(positive: ArrayLike, shape: tuple[int, ...], name: str = "positive") -> Flags:
    """Booleans of a shape, from booleans or from 0 and 1.

    Raises:
        UsageError: another shape, or other values.
    """
    given = np.asarray(positive)
    if given.shape != shape or (given.dtype != np.bool_ and not np.isin(given, (0, 1)).all()):
        raise UsageError(
            f"{name} has shape {given.shape}, dtype {given.dtype}",
            needed=f"true or false (1 or 0), shape {shape}",
        )
    return given.astype(np.bool_)


def check_scores(scores: ArrayLike, positive: ArrayLike) -> tuple[Numbers, Flags]:
    """Scores (N,), any numbers but NaN, and which of the cases are positive (N,).

    Raises:
        UsageError: other shapes, NaN among the scores.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or np.isnan(values).any():
        raise UsageError(
            f"the scores have shape {values.shape}, {int(np.isnan(values).sum())} of them NaN",
            needed="one number a case",
        )
    return values, flags(positive, values.shape)


def check_probability(probability: ArrayLike, positive: ArrayLike) -> tuple[Numbers, Flags]:
    """Return the probability (N,) that a case is positive, and whether it is (N,).

    Raises:
        UsageError: other shapes, NaN, or values outside 0..1.
    """
    values, truth = check_scores(probability, positive)
    return _check_range(values), truth


def check_probabilities(probabilities: ArrayLike, index: ArrayLike) -> tuple[Numbers, Integers]:
    """Check probabilities (N, K) of exclusive classes and the number (N,) of each case's class.

    Raises:
        UsageError: other shapes, NaN, values outside 0..1, rows that do not sum to 1, a class that
            there is not.
    """
    values = check_table(probabilities)
    if len(values) and np.abs(values.sum(axis=1) - 1).max() > 1e-3:
        raise UsageError(
            "the probabilities of some rows do not sum to 1",
            needed="classes that exclude each other (N, K)",
        )
    return values, check_index(index, len(values), values.shape[1])


def check_table(probabilities: ArrayLike) -> Numbers:
    """Probabilities (N, K), each between 0 and 1.

    Raises:
        UsageError: not a table, NaN, or values outside 0..1.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise UsageError(
            f"the probabilities have shape {values.shape}",
            needed="a row a case and a column a class (N, K)",
        )
    return _check_range(values)


def check_index(index: ArrayLike, cases: int, classes: int | None) -> Integers:
    """Return the number (N,) of each case's class, 0..K-1; no upper end where classes is None.

    Raises:
        UsageError: another shape, not whole numbers, a class that there is not.
    """
    given = np.asarray(index)
    given = given.astype(np.int64) if given.size == 0 else given
    if given.shape != (cases,) or not np.issubdtype(given.dtype, np.integer):
        raise UsageError(
            f"the classes have shape {given.shape}, dtype {given.dtype}",
            needed=f"one whole number a case ({cases})",
        )
    if cases and (given.min() < 0 or (classes is not None and given.max() >= classes)):
        raise UsageError(
            f"the classes go from {given.min()} to {given.max()}",
            needed=f"numbers from 0, below {classes}",
        )
    return given.astype(np.int64)


def check_level(level: float) -> None:
    """Refuse a coverage that is none.

    Raises:
        UsageError: not between 0 and 1.
    """
    if not 0 < level < 1:
        raise UsageError(f"level is {level}", needed="a level between 0 and 1")


def indicator(index: ArrayLike, classes: int) -> Flags:
    """Return which class (N, K) each case has, from the number (N,) of its class.

    Raises:
        UsageError: not whole numbers from 0 to K-1.
    """
    numbers = check_index(index, len(np.atleast_1d(np.asarray(index))), classes)
    return np.asarray(numbers[:, None] == np.arange(classes))


def patients_of(groups: Sequence[Hashable] | None, cases: int) -> tuple[Integers, int]:
    """The number (N,) of the patient that each case belongs to, and how many patients there are.

    None: each case is its own.

    Raises:
        UsageError: not one group a case.
    """
    if groups is None:
        return np.arange(cases), cases
    if len(groups) != cases:
        raise UsageError(
            f"there are {len(groups)} groups for {cases} cases", needed="one group a case"
        )
    numbers: dict[Hashable, int] = {}
    return np.asarray([numbers.setdefault(g, len(numbers)) for g in groups], dtype=np.int64), len(
        numbers
    )


def _check_range(values: Numbers) -> Numbers:
    """Refuse probabilities that are NaN or outside 0..1."""
    if values.size and not (
        np.nanmin(values) >= 0 and np.nanmax(values) <= 1 and not np.isnan(values).any()
    ):
        raise UsageError(
            "some probabilities are NaN or outside 0..1",
            needed="probabilities",
            cure="of logits make probabilities with apply_temperature",
        )
    return values
