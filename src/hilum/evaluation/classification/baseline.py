"""Baselines without the image: simple classifiers, out of fold on the network's own folds.

A baseline learns from a fold's training cases and answers for its validation cases, like the
network. Whatever it chooses (the strength of the penalty), it chooses on inner folds of the
training cases, which keep patients together too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.columns import number
from hilum.errors import DataError, UsageError
from hilum.evaluation.covariates import choose_columns
from hilum.files.text import is_known
from hilum.targets.class_score import ClassScore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sklearn.pipeline import Pipeline

    from hilum.dataset import Case, ClassTable, Fold
    from hilum.evaluation.covariates import ColumnChoice
    from hilum.targets.class_score import Flags, Indices, Numbers

    _Predict = Callable[[Indices, Indices], Numbers]
    """Probabilities (V, K) of validation cases, learnt from training cases; both by their row."""

BASELINES = ("class prior", "logistic regression")
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse penalties (scikit-learn's C) that logistic regression chooses among, by log loss on inner
folds."""

_INNER_FOLDS = 5
_UNCHOSEN = 0.1
"""Strength with too few patients for inner folds: a strong penalty does little harm."""


@dataclass(frozen=True)
class Baseline:
    """The scores of a simple classifier for every validation case.

    Args:
        name: what it is, one of `BASELINES`.
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
    """Score the class prior, and a logistic regression on columns and measures, out of fold.

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
            f"the folds name {strange[0]}, which is not a case"
            if strange
            else "there are no folds",
            needed="folds of these cases",
        )
    unlabelled = [case.id for case in cases if case.label is None]
    if unlabelled:
        raise DataError(
            f"case {unlabelled[0]} has no label",
            needed="the label of every case",
            cure="label it, or leave it out",
        )
    labels = [case.label or "" for case in cases]
    choice = choose_columns([case.columns for case in cases], labels, columns=columns)
    measured = measures or {}
    both = set(measured) & set(choice.names)
    if both:
        raise UsageError(
            f"{min(both)!r} names both a measure and a column",
            needed="a name of its own for each measure",
            cure="rename the column in the table, or the measure",
        )
    data = _Data(
        features=_features(cases, choice, measured),
        numeric=len(measured) + len(choice.numeric),
        classes=np.array([table.indicators(label) for label in labels]),
        groups=np.unique([case.group for case in cases], return_inverse=True)[1],
        exclusive=table.kind != "multilabel",
        seed=seed,
    )
    prior = _out_of_fold(data.class_prior, by_id, folds)
    found = [Baseline(BASELINES[0], prior, (), {})]
    names = (*measured, *choice.names)
    if names:
        regression = _out_of_fold(data.logistic_regression, by_id, folds)
        found.append(Baseline(BASELINES[1], regression, names, choice.left_out))
    return tuple(found)


def _features(
    cases: Sequence[Case], choice: ColumnChoice, measures: Mapping[str, Mapping[str, float]]
) -> Numbers:
    """Return (N, F) measures, columns of numbers, then columns of words as alphabetical ranks.

    NaN is missing.
    """
    columns = [[measured.get(case.id, np.nan) for case in cases] for measured in measures.values()]
    columns += [[number(case.columns.get(name, "")) for case in cases] for name in choice.numeric]
    for name in choice.words:
        cells = [case.columns.get(name, "") for case in cases]
        words = [cell.strip() if is_known(cell) else "" for cell in cells]
        columns.append(np.unique(words, return_inverse=True)[1].tolist())
    return np.array(columns, dtype=np.float64).T if columns else np.zeros((len(cases), 0))


def _out_of_fold(
    predict: _Predict, by_id: Mapping[str, Case], folds: Sequence[Fold]
) -> tuple[ClassScore, ...]:
    """Score each validation case by what was learnt from its fold's training cases."""
    place = {case: row for row, case in enumerate(by_id)}
    scores: dict[str, ClassScore] = {}
    for index, fold in enumerate(folds):
        train, validation = (
            np.array([place[case] for case in part], dtype=np.int64)
            for part in (fold.train, fold.validation)
        )
        for name, values in zip(fold.validation, predict(train, validation), strict=True):
            case = by_id[name]
            score = ClassScore(
                case=case.id,
                patient=case.patient,
                reference=case.label,
                probabilities=tuple(values.tolist()),
                fold=index,
                columns=case.columns,
            )
            scores.setdefault(case.id, score)
    return tuple(scores.values())


@dataclass(frozen=True)
class _Data:
    """Features, classes and patients of N cases, which the baselines learn from.

    Args:
        features: (N, F) numbers, then words as their rank in the alphabet; NaN is missing.
        numeric: how many of the features are numbers.
        classes: (N, K) which classes a case has.
        groups: (N,) the number of its patient.
        exclusive: whether a case has one class only.
        seed: of the inner folds.
    """

    features: Numbers
    numeric: int
    classes: Flags
    groups: Indices
    exclusive: bool
    seed: int

    def class_prior(self, train: Indices, validation: Indices) -> Numbers:
        """Return how often (V, K) each class is among the training cases."""
        known = self.classes[train]
        return np.tile(_prior(known, exclusive=self.exclusive), (len(validation), 1))

    def logistic_regression(self, train: Indices, validation: Indices) -> Numbers:
        """Return probabilities (V, K) of one regression, or of one for each finding."""
        if self.exclusive:
            index = self.classes.argmax(axis=1)
            return self._regress(index, self.classes.shape[1], train, validation)
        findings = self.classes.T.astype(np.int64)
        return np.stack(
            [self._regress(found, 2, train, validation)[:, 1] for found in findings], axis=1
        )

    def _regress(
        self, index: Indices, classes: int, train: Indices, validation: Indices
    ) -> Numbers:
        """Return (V, classes) of a regression with the penalty that does best on inner folds."""
        if len(np.unique(index[train])) < 2:
            known = np.eye(classes, dtype=np.bool_)[index[train]]
            return np.tile(_prior(known, exclusive=True), (len(validation), 1))
        return self.fit_predict(
            index, classes, train, validation, self._strength(index, classes, train)
        )

    def _strength(self, index: Indices, classes: int, train: Indices) -> float:
        """The inverse penalty with the lowest log loss on inner folds, patients kept together."""
        from sklearn.model_selection import StratifiedGroupKFold

        known, groups = index[train], self.groups[train]
        folds = min(_INNER_FOLDS, *(len(np.unique(groups[known == k])) for k in np.unique(known)))
        if folds < 2:
            return _UNCHOSEN
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=self.seed)
        splits = list(splitter.split(train, known, groups))

        def loss(strength: float) -> float:
            total = 0.0
            for inner, held_out in splits:
                p = self.fit_predict(index, classes, train[inner], train[held_out], strength)
                right = p[np.arange(len(held_out)), known[held_out]]
                total -= float(np.log(np.maximum(right, 1e-6)).sum())
            return total

        return min(STRENGTHS, key=loss)

    def fit_predict(
        self, index: Indices, classes: int, train: Indices, validation: Indices, strength: float
    ) -> Numbers:
        """(V, classes) of a regression on the training cases; a class that none has gets 0."""
        found = np.unique(index[train])
        probabilities = np.zeros((len(validation), classes))
        if len(found) < 2:
            probabilities[:, found] = 1.0
            return probabilities
        model = self._model(strength).fit(self.features[train], index[train])
        probabilities[:, found] = model.predict_proba(self.features[validation])
        return probabilities

    def _model(self, strength: float) -> Pipeline:
        """Build the regression, with its imputation, scaling and one-hot words."""
        from sklearn.compose import ColumnTransformer
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        imputer = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
        numbers, words = np.split(np.arange(self.features.shape[1]), [self.numeric])
        kinds = [
            ("numbers", make_pipeline(imputer, StandardScaler()), numbers.tolist()),
            ("words", OneHotEncoder(handle_unknown="ignore"), words.tolist()),
        ]
        return make_pipeline(
            ColumnTransformer(kinds), LogisticRegression(C=strength, max_iter=10_000)
        )


def _prior(classes: Flags, *, exclusive: bool) -> Numbers:
    """(K,) how often each class is, one added to every count: Laplace's rule of succession."""
    counts = classes.sum(axis=0) + 1.0
    return np.asarray(counts / (counts.sum() if exclusive else len(classes) + 2))
