"""Baselines without the image: simple classifiers, out of fold on the network's own folds.

A baseline learns from a fold's training cases and answers for its validation cases, like the
network. Whatever it chooses (the strength of the penalty), it chooses on inner folds of the
training cases, which keep patients together too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.dataset.columns import number
from hilum.errors import DataError, UsageError
from hilum.evaluation.classification.metadata import choose_columns
from hilum.io.text import is_known
from hilum.tasks.class_score import ClassScore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from hilum.dataset import Case, ClassTable, Fold
    from hilum.evaluation.classification.metadata import ColumnChoice

    Numbers = NDArray[np.float64]
    Indices = NDArray[np.int64]

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse penalties (scikit-learn's C) that logistic regression chooses among, by log loss on inner
folds."""

_INNER_FOLDS = 5
_UNCHOSEN = (
    0.1  # where there are too few patients for inner folds: a strong penalty does little harm
)


@dataclass(frozen=True)
class Baseline:
    """The answers of a simple classifier for every validation case.

    Args:
        name: what it is, a key of `BASELINES`.
        scores: one a validation case, in the order of the folds.
        columns: what it looked at.
        left_out: why other columns were left out, by name.
    """

    name: str
    scores: tuple[ClassScore, ...]
    columns: tuple[str, ...]
    left_out: Mapping[str, str]


def baseline_scores(
    cases: Sequence[Case],
    folds: Sequence[Fold],
    table: ClassTable,
    *,
    columns: Sequence[str] | None = None,
    measures: Mapping[str, Mapping[str, float]] | None = None,
    seed: int = 0,
) -> tuple[Baseline, ...]:
    """The answers of every baseline, out of fold.

    "class prior" knows how often each class is among the training cases (one added to every count);
    over several folds its AUROC is a little below 0.5, as a fold with more of a class leaves less
    of it to learn from. "logistic regression" looks at the measures and columns: numbers
    standardised, missing ones taken as the median and marked, words one-hot, a missing word being a
    word; multinomial for exclusive classes and, as if they had no order, for grades; one regression
    a finding. It is left out where there is no column to look at. Imputation, scaling and penalty
    are learned on the training cases alone.

    Args:
        cases: the annotated cases of a data set.
        folds: those that the network was trained on; a case that validates in several is answered
            for in the first.
        table: what the classes are.
        columns: names of the cases' further columns to look at; None chooses them by the rules of
            `choose_columns`.
        measures: what was measured, by name and case, such as {"mask_volume_mm3": {"case_1":
            8091.8}}: numbers that are always looked at, beside the columns; NaN or no entry is
            missing.
        seed: of the inner folds.

    Raises:
        UsageError: no folds, a case that is not there, a column that is not there, or a measure
            with the name of a column.
        DataError: a case without a label.
        LabelError: a label that the table does not know.
    """
    by_id = {case.id: case for case in cases}
    strange = [
        case for fold in folds for case in (*fold.train, *fold.validation) if case not in by_id
    ]
    if strange or not folds:
        raise UsageError(
            f"folds of {strange[0]}" if strange else "no folds", needed="folds of these cases"
        )
    unlabelled = [case.id for case in cases if case.label is None]
    if unlabelled:
        raise DataError(f"case {unlabelled[0]} has no label", needed="the label of every case")
    labels = [case.label or "" for case in cases]
    choice = choose_columns([case.columns for case in cases], labels, columns=columns)
    features = _Features.of(cases, choice, measures or {})
    data = _Data(
        features=features,
        members=np.array([table.indicators(label) for label in labels]),
        groups=np.unique(
            [f"p {c.patient}" if c.patient is not None else f"c {c.id}" for c in cases],
            return_inverse=True,
        )[1],
        table=table,
        seed=seed,
    )
    return tuple(
        Baseline(
            name,
            _out_of_fold(classifier, data, by_id, folds),
            features.names if looks else (),
            choice.left_out if looks else {},
        )
        for name, (classifier, looks) in BASELINES.items()
        if features.names or not looks
    )


@dataclass(frozen=True)
class _Features:
    """Features of a baseline: (N, F) numbers, then words as their rank in the alphabet.

    NaN is missing.
    """

    names: tuple[str, ...]
    values: Numbers
    numeric: int

    @classmethod
    def of(
        cls,
        cases: Sequence[Case],
        choice: ColumnChoice,
        measures: Mapping[str, Mapping[str, float]],
    ) -> _Features:
        both = set(measures) & set(choice.names)
        if both:
            raise UsageError(
                f"{min(both)!r} is a measure and a column", needed="names of their own"
            )
        columns = [
            [measured.get(case.id, np.nan) for case in cases] for measured in measures.values()
        ]
        columns += [
            [number(case.columns.get(name, "")) for case in cases] for name in choice.numeric
        ]
        for name in choice.words:
            words = [
                word.strip() if is_known(word := case.columns.get(name, "")) else ""
                for case in cases
            ]
            columns.append(np.unique(words, return_inverse=True)[1].tolist())
        values = np.array(columns, dtype=np.float64).T if columns else np.zeros((len(cases), 0))
        return cls((*measures, *choice.names), values, len(measures) + len(choice.numeric))


@dataclass(frozen=True)
class _Data:
    """Everything that is known of N cases."""

    features: _Features
    members: NDArray[np.bool_]
    groups: Indices
    table: ClassTable
    seed: int


def _out_of_fold(
    classifier: _Classifier, data: _Data, by_id: Mapping[str, Case], folds: Sequence[Fold]
) -> tuple[ClassScore, ...]:
    place = {case: row for row, case in enumerate(by_id)}
    scores: dict[str, ClassScore] = {}
    for number_, fold in enumerate(folds):
        train = np.array([place[case] for case in fold.train], dtype=np.int64)
        validation = np.array([place[case] for case in fold.validation], dtype=np.int64)
        probabilities = classifier(data, train, validation)
        for case, values in zip(
            (by_id[name] for name in fold.validation), probabilities, strict=True
        ):
            score = ClassScore(
                case=case.id,
                patient=case.patient,
                reference=case.label,
                probabilities=tuple(values.tolist()),
                fold=number_,
                columns=case.columns,
            )
            scores.setdefault(case.id, score)
    return tuple(scores.values())


def _class_prior(data: _Data, train: Indices, validation: Indices) -> Numbers:
    return np.tile(
        _prior(data.members[train], exclusive=data.table.kind != "multilabel"), (len(validation), 1)
    )


def _prior(indicators: NDArray[np.bool_], *, exclusive: bool) -> Numbers:
    """(K,) how often each class is, one added to every count: Laplace's rule of succession."""
    counts = indicators.sum(axis=0) + 1.0
    return np.asarray(counts / (counts.sum() if exclusive else len(indicators) + 2))


def _logistic_regression(data: _Data, train: Indices, validation: Indices) -> Numbers:
    if data.table.kind != "multilabel":
        return _regress(data, data.members.argmax(axis=1), len(data.table.names), train, validation)
    findings = [
        _regress(data, members.astype(np.int64), 2, train, validation)[:, 1]
        for members in data.members.T
    ]
    return np.stack(findings, axis=1)


def _regress(
    data: _Data, index: Indices, classes: int, train: Indices, validation: Indices
) -> Numbers:
    """Give (V, classes) of a regression with the penalty that does best on inner folds."""
    if len(np.unique(index[train])) < 2:
        return np.tile(
            _prior(np.eye(classes, dtype=np.bool_)[index[train]], exclusive=True),
            (len(validation), 1),
        )
    return _fitted(
        data, index, classes, train, validation, strength=_strength(data, index, classes, train)
    )


def _strength(data: _Data, index: Indices, classes: int, train: Indices) -> float:
    """The inverse penalty with the lowest log loss on inner folds, patients kept together."""
    from sklearn.model_selection import StratifiedGroupKFold

    patients = [
        len(np.unique(data.groups[train][index[train] == k])) for k in np.unique(index[train])
    ]
    folds = min(_INNER_FOLDS, *patients)
    if folds < 2:
        return _UNCHOSEN
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=data.seed)
    splits = list(splitter.split(train, index[train], data.groups[train]))
    losses = []
    for strength in STRENGTHS:
        loss = 0.0
        for inner, held_out in splits:
            answers = _fitted(
                data, index, classes, train[inner], train[held_out], strength=strength
            )
            loss -= float(
                np.log(
                    np.maximum(answers[np.arange(len(held_out)), index[train[held_out]]], 1e-6)
                ).sum()
            )
        losses.append(loss)
    return STRENGTHS[int(np.argmin(losses))]


def _fitted(
    data: _Data,
    index: Indices,
    classes: int,
    train: Indices,
    validation: Indices,
    *,
    strength: float,
) -> Numbers:
    """(V, classes) of a regression on the training cases; a class that none of them has gets 0."""
    found = np.unique(index[train])
    probabilities = np.zeros((len(validation), classes))
    if len(found) < 2:
        probabilities[:, found] = 1.0
        return probabilities
    model = _pipeline(data.features, strength)
    model.fit(data.features.values[train], index[train])
    probabilities[:, found] = model.predict_proba(data.features.values[validation])
    return probabilities


def _pipeline(features: _Features, strength: float) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
    )
    kinds = [
        ("numbers", numbers, list(range(features.numeric))),
        (
            "words",
            OneHotEncoder(handle_unknown="ignore"),
            list(range(features.numeric, len(features.names))),
        ),
    ]
    return make_pipeline(ColumnTransformer(kinds), LogisticRegression(C=strength, max_iter=10_000))


_Classifier = Callable[[_Data, "Indices", "Indices"], "Numbers"]

BASELINES: dict[str, tuple[_Classifier, bool]] = {
    "class prior": (_class_prior, False),
    "logistic regression": (_logistic_regression, True),
}
"""How each baseline answers for validation cases, given training cases, and whether it looks at
columns."""
