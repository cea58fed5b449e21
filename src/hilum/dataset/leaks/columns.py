"""Columns that tell the class without the image: confounders and leaks.

Each column alone predicts each class out of fold, patients and near-duplicates kept together: words
by how often they go with the class in the other folds, numbers by the better of their order and a
small decision tree. An AUROC with an interval says how well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.dataset.columns import is_numeric, number, role_of
from hilum.dataset.leaks.record import Predictor
from hilum.files.text import is_known
from hilum.metrics import auroc, delong_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from hilum.dataset.case import Case
    from hilum.dataset.classes import ClassTable

    Origin = Literal["table", "image"]
    Numbers = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    Splits = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
    Way = Callable[[Numbers, Flags, Numbers], Numbers]

LEAST_AUROC, SURELY = 0.55, 0.5
"""A column is named from the first AUROC on, if the true one surely exceeds the second."""
_FOLDS, _FEWEST = 5, 10
_GROUPING = {"group", "patient", "case"}
_PRIOR_CASES = 5.0


@dataclass(frozen=True)
class _Target:
    """One class, finding or grade against the rest."""

    name: str
    positive: Flags


def predictors(
    cases: Sequence[Case],
    table: ClassTable,
    groups_of_cases: Mapping[str, str],
    facts: Mapping[str, Mapping[str, str]],
) -> tuple[Predictor, ...]:
    """Return the columns that tell a class surely better than chance, best first.

    For each the class that it tells best.

    Args:
        cases: with a label.
        table: their classes.
        groups_of_cases: case id to what must stay in one fold.
        facts: case id to what its image file says of itself.
    """
    groups = np.unique([groups_of_cases[case.id] for case in cases], return_inverse=True)[1]
    targets = [
        target
        for target in _targets(cases, table)
        if all(
            side.sum() >= _FEWEST and len({*groups[side].tolist()}) >= _FOLDS
            for side in (target.positive, ~target.positive)
        )
    ]
    columns = list(_columns(cases, facts))
    tests = len(columns) * len(targets)
    found: dict[str, Predictor] = {}
    for target in targets:
        splits = _splits(target.positive, groups)
        for name, origin, values in columns:
            one = _predictor(name, origin, values, target, splits, groups, tests)
            if one.surely_above > SURELY and one.auroc > (
                found[name].auroc if name in found else LEAST_AUROC
            ):
                found[name] = one
    return tuple(sorted(found.values(), key=lambda one: (-one.auroc, one.column)))


def _targets(cases: Sequence[Case], table: ClassTable) -> Iterator[_Target]:
    """Yield the yes-no questions of the classes, for each of which columns are tried."""
    flags = np.array([table.indicators(case.label or "") for case in cases])  # (N, K)
    if table.kind == "ordinal":
        grades = flags.argmax(axis=1)
        for grade, name in enumerate(table.names[1:], start=1):
            yield _Target(f"grade {name} or higher", grades >= grade)
    elif table.binary:
        yield _Target(f"{table.names[1]} from {table.names[0]}", flags[:, 1])
    else:
        for name, held in zip(table.names, flags.T, strict=True):
            yield _Target(f"{name} from the others", held)


def _columns(
    cases: Sequence[Case], facts: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, Origin, list[str]]]:
    """Name, origin and values of every column that has two different values at least."""
    tables: dict[Origin, list[Mapping[str, str]]] = {
        "table": [case.columns for case in cases],
        "image": [facts.get(case.id, {}) for case in cases],
    }
    for origin, rows in tables.items():
        for name in dict.fromkeys(name for row in rows for name in row):
            values = [text.strip() if is_known(text := row.get(name, "")) else "" for row in rows]
            skipped = role_of(name) == "split" or name.lower() in _GROUPING
            if len(set(values)) > 1 and not (skipped and origin == "table"):
                yield name, origin, values


def _splits(positive: Flags, groups: NDArray[np.int64]) -> Splits:
    """Split cases into training and test folds, by group and stratified by class."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    return [
        (train, test)
        for train, test in folds.split(np.zeros(len(positive)), positive, groups)
        if len(test)
    ]


def _predictor(
    name: str,
    origin: Origin,
    values: list[str],
    target: _Target,
    splits: Splits,
    groups: NDArray[np.int64],
    tests: int,
) -> Predictor:
    """Return the column's AUROC, by the way of predicting that serves it best."""
    ways: tuple[Way, ...] = (_by_order, _by_tree)
    numbers = np.array([number(value) for value in values])
    if not is_numeric(values):
        words, codes = np.unique(values, return_inverse=True)
        numbers = codes.astype(float)
        ways = (_by_order,) if len(words) == 2 else (_by_frequency,)
    scores = max(
        (_out_of_fold(way, numbers, target.positive, splits) for way in ways),
        key=lambda one: auroc(one, target.positive),
    )
    patients = groups.tolist()
    usual = delong_interval(scores, target.positive, groups=patients)
    strict = delong_interval(scores, target.positive, level=1 - 0.05 / tests, groups=patients)
    return Predictor(
        column=name,
        origin=origin,
        target=target.name,
        auroc=usual.estimate,
        low=0.0 if math.isnan(usual.low) else usual.low,
        high=1.0 if math.isnan(usual.high) else usual.high,
        surely_above=0.0 if math.isnan(strict.low) else strict.low,
        cases=len(values),
        restates=origin == "table" and role_of(name) in {"label", "opinion"},
    )


def _out_of_fold(way: Way, numbers: Numbers, positive: Flags, splits: Splits) -> Numbers:
    """Score each case by what a way of predicting learnt from the other folds."""
    scores = np.zeros(len(numbers))
    for train, test in splits:
        scores[test] = way(numbers[train], positive[train], numbers[test])
    return scores


def _by_frequency(values: Numbers, positive: Flags, others: Numbers) -> Numbers:
    """Estimate each word's class frequency, shrunk by five cases, above the usual one."""
    prior, words = positive.mean(), int(max(values.max(), others.max())) + 1
    codes = values.astype(int)
    hits = np.bincount(codes, weights=positive, minlength=words) + _PRIOR_CASES * prior
    shares = hits / (np.bincount(codes, minlength=words) + _PRIOR_CASES)
    return np.asarray((shares - prior)[others.astype(int)])


def _by_order(values: Numbers, positive: Flags, others: Numbers) -> Numbers:
    """Return the number itself, turned round where low numbers go with the class.

    Missing is the median.
    """
    median = np.nanmedian([*values, *others])
    sign = 1 if auroc(np.nan_to_num(values, nan=median), positive) >= 0.5 else -1
    return sign * np.nan_to_num(others, nan=median)


def _by_tree(values: Numbers, positive: Flags, others: Numbers) -> Numbers:
    """Predict by a tree of at most eight leaves."""
    from sklearn.tree import DecisionTreeClassifier

    least = max(5, len(values) // 50)
    tree = DecisionTreeClassifier(max_leaf_nodes=8, min_samples_leaf=least, random_state=0)
    scores = tree.fit(values[:, None], positive).predict_proba(others[:, None])
    return np.asarray(scores[:, 1] - positive.mean())
