"""Split conformal prediction: sets that hold the true class as often as they say.

A class is in the set when its probability is at least a threshold, which held-out cases set: of n
cases the ceil((n + 1) coverage)-th largest probability of the own class (LAC: the smallest sets on
average). For a new case like the held-out ones the set then holds the class with probability
`coverage` or more. The promise is about cases on average ("marginal"); per class (Mondrian) it
holds for the cases of each class, at the price of larger sets. Where there are too few cases for
the promise, the threshold is 0, which takes every class in: that is the infinite threshold of the
literature, where scores are 1 - probability. Thresholds are only valid for cases that had no part
in training or in fitting a temperature.

A set is never empty: where no class reaches its threshold the most probable one is put in (the
first of several), which can only raise the coverage. That an image is unlike all others is not for
the set to say.

Sources: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005; Sadinle, Lei
and Wasserman, J Am Stat Assoc 114 (2019), LAC; Lee, Barber and Willett, arXiv:2306.06342 (2023),
patients with several cases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.validation import check_index, check_table, flags, patients_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import ArrayLike

    from hilum.metrics.validation import Flags, Integers, Numbers

_ROUNDING = 1e-12


@dataclass(frozen=True)
class SetQuality:
    """Coverage and size of prediction sets on labelled cases.

    Args:
        coverage: share of the cases whose set holds their class; NaN where there is no case.
        size: mean number of classes in a set.
        single: share of the sets of one class, which are answers.
        per_class: coverage among the cases of each class; NaN where a class has none.
        cases: number of cases.
    """

    coverage: float
    size: float
    single: float
    per_class: tuple[float, ...]
    cases: int


def conformal_threshold(
    probabilities: ArrayLike,
    index: ArrayLike,
    *,
    coverage: float = 0.9,
    per_class: bool = False,
    groups: Sequence[Hashable] | None = None,
) -> Numbers:
    """Thresholds for `prediction_set`, from held-out cases.

    Args:
        probabilities: (N, K) of held-out cases.
        index: (N,) number of each case's class.
        coverage: how often a set shall hold the class, between 0 and 1.
        per_class: the promise for the cases of each class, from the held-out cases of that class.
        groups: (N,) whose case it is: the promise is then for a case of a new patient, and each
            patient weighs the same; None: each case is a patient.

    Returns:
        (K,) the probability from which a class is in the set; 0 (every class is) where there are
        too few cases:
        fewer than coverage / (1 - coverage) patients.

    Raises:
        UsageError: shapes that do not fit, no probabilities, a coverage out of range.
    """
    if not 0 < coverage < 1:
        raise UsageError(f"coverage is {coverage}", needed="a share between 0 and 1")
    values = check_table(probabilities)
    numbers = check_index(index, len(values), values.shape[1])
    patient, _ = patients_of(groups, len(values))
    own = values[np.arange(len(values)), numbers]
    if not per_class:
        return np.full(values.shape[1], _threshold(own, patient, coverage))
    classes = [numbers == k for k in range(values.shape[1])]
    return np.array([_threshold(own[among], patient[among], coverage) for among in classes])


def prediction_set(
    probabilities: ArrayLike, thresholds: ArrayLike, *, contiguous: bool = False
) -> Flags:
    """Return which classes (N, K) may be the case's.

    Args:
        probabilities: (N, K).
        thresholds: (K,) of `conformal_threshold`.
        contiguous: grades between two grades of the set are put in, for ordinal classes.

    Raises:
        UsageError: shapes that do not fit, no probabilities.
    """
    values = check_table(probabilities)
    least = _check_thresholds(thresholds, values.shape[1:])
    sets = values >= least
    empty = ~sets.any(axis=1)
    sets[empty, values[empty].argmax(axis=1)] = True
    if contiguous:
        up, down = (np.logical_or.accumulate(s, axis=1) for s in (sets, sets[:, ::-1]))
        sets = up & down[:, ::-1]
    return np.asarray(sets)


def multilabel_conformal_threshold(
    probabilities: ArrayLike,
    present: ArrayLike,
    *,
    coverage: float = 0.9,
    per_class: bool = False,
    groups: Sequence[Hashable] | None = None,
) -> Numbers:
    """Thresholds for `multilabel_prediction_set`: `conformal_threshold` of each finding.

    Its two classes are absent and present.

    The promise is for one finding at a time, not for all findings of a case together. Per class, a
    finding that is present is in the set with probability `coverage` or more, and so is the absence
    of one that is absent.

    Args:
        probabilities: (N, K) of each finding.
        present: (N, K) which findings each case has.
        coverage: how often a set shall hold the truth.
        per_class: the promise for cases with and for cases without the finding.
        groups: (N,) whose case it is.

    Returns:
        (K, 2) of absent and present.

    Raises:
        UsageError: shapes that do not fit, no probabilities, a coverage out of range.
    """
    values = check_table(probabilities)
    truth = flags(present, values.shape, "present").astype(np.int64)
    thresholds = [
        conformal_threshold(_two(p), own, coverage=coverage, per_class=per_class, groups=groups)
        for p, own in zip(values.T, truth.T, strict=True)
    ]
    return np.stack(thresholds)


def multilabel_prediction_set(probabilities: ArrayLike, thresholds: ArrayLike) -> Flags:
    """Return whether (N, K, 2) each finding may be absent, and may be present: one of them or both.

    Args:
        probabilities: (N, K) of each finding.
        thresholds: (K, 2) of `multilabel_conformal_threshold`.

    Raises:
        UsageError: shapes that do not fit, no probabilities.
    """
    values = check_table(probabilities)
    least = _check_thresholds(thresholds, (values.shape[1], 2))
    sets = [prediction_set(_two(p), lowest) for p, lowest in zip(values.T, least, strict=True)]
    return np.stack(sets, axis=1)


def set_quality(sets: ArrayLike, index: ArrayLike) -> SetQuality:
    """Compute how often sets (N, K) hold the class (N,), and how large they are.

    Raises:
        UsageError: shapes that do not fit.
    """
    held = np.asarray(sets)
    if held.ndim != 2 or not held.shape[1]:
        raise UsageError(
            f"the sets have shape {held.shape}",
            needed="true or false, a row a case and a column a class (N, K)",
        )
    held = flags(held, held.shape, "sets")
    numbers = check_index(index, len(held), held.shape[1])
    hit = held[np.arange(len(held)), numbers]
    sizes = held.sum(axis=1)
    return SetQuality(
        coverage=_mean(hit),
        size=_mean(sizes),
        single=_mean(sizes == 1),
        per_class=tuple(_mean(hit[numbers == k]) for k in range(held.shape[1])),
        cases=len(held),
    )


def _threshold(own: Numbers, patient: Integers, coverage: float) -> float:
    """The largest probability that `coverage` of the patients reach, one more counting as 0."""
    _, where, cases = np.unique(patient, return_inverse=True, return_counts=True)
    if not len(cases):
        return 0.0
    order = np.argsort(-own, kind="stable")
    mass = np.cumsum((1 / cases[where])[order]) / (len(cases) + 1)
    enough = np.flatnonzero(mass >= coverage - _ROUNDING)
    return float(own[order][enough[0]]) if enough.size else 0.0


def _two(probability: Numbers) -> Numbers:
    """Stack absent and present to (N, 2)."""
    return np.stack([1 - probability, probability], axis=1)


def _check_thresholds(thresholds: ArrayLike, shape: tuple[int, ...]) -> Numbers:
    """Return the thresholds as an array of that shape; refuse others, and values above 1."""
    values = np.asarray(thresholds, dtype=np.float64)
    if values.shape != shape or not (values <= 1).all():
        raise UsageError(
            f"the thresholds have shape {values.shape}", needed=f"probabilities, shape {shape}"
        )
    return values


def _mean(values: Flags | Integers) -> float:
    return float(values.mean()) if values.size else math.nan
