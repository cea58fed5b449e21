"""Scores of many cases as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.folds import merge_overlapping
from hilum.errors import DataError, LabelError
from hilum.evaluation.page import some
from hilum.metrics.validation import patients_of
from hilum.targets.class_score import decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.dataset import ClassTable
    from hilum.targets.class_score import ClassScore, Flags, Indices, Numbers

_SUM_TOLERANCE = 1e-3  # float16 on a graphics card sums to one within this
_SAME = 1e-5
"""Rounding error of a probability on its way to logits and back."""


@dataclass(frozen=True)
class ClassRows:
    """Scores as arrays, ready to be counted.

    Args:
        table: what the classes are.
        probabilities: (N, K) of the classes, calibrated where asked for.
        members: (N, K) which classes a case has.
        decided: (N, K) which are called, see `decide`.
        groups: (N,) the number of what the case is drawn with, 0..G-1: its patient, joined with
            near-duplicates.
        named: (N,) the number of the patient whose case it is, near-duplicates or not.
    """

    table: ClassTable
    probabilities: Numbers
    members: Flags
    decided: Flags
    groups: Indices
    named: Indices

    @classmethod
    def of(
        cls, scores: Sequence[ClassScore], table: ClassTable, *, calibrated: bool = True
    ) -> ClassRows:
        """Return the arrays of scores whose references are all known.

        Args:
            scores: one a case.
            table: what the classes are.
            calibrated: take the calibrated probabilities, which every case must then have, where
                any case has them.

        Raises:
            DataError: no scores, two of one case, a case without reference, probabilities that are
                not those of the table's classes, or only some calibrated.
            LabelError: a reference that the table does not know.
        """
        _refuse_impossible(scores, table)
        with_calibration = calibrated and any(score.calibrated is not None for score in scores)
        without = [score.case for score in scores if score.calibrated is None]
        if with_calibration and without:
            raise DataError(
                f"there are no calibrated probabilities of {some(without)}",
                needed="those of every case, or of none",
                cure="predict these cases again, or give calibrated=False",
            )
        values = np.array(
            [score.best if with_calibration else score.probabilities for score in scores],
            dtype=np.float64,
        )
        off = np.abs(values.sum(axis=1) - 1) > _SUM_TOLERANCE
        if table.kind != "multilabel" and off.any():
            first = int(off.argmax())
            raise DataError(
                f"the probabilities of case {scores[first].case} sum to {values[first].sum():.4g}",
                needed="probabilities of classes that exclude each other, which sum to 1",
                cure="divide them by their sum",
            )
        named, _ = patients_of([score.group for score in scores], len(scores))
        return cls(
            table,
            values,
            _class_flags(scores, table),
            decide(values, table),
            resampling_groups(scores),
            named,
        )

    @property
    def index(self) -> Indices:
        """(N,) the class of each case; of exclusive classes and grades."""
        return np.asarray(self.members.argmax(axis=1))

    @property
    def called(self) -> Indices:
        """(N,) the class that is called; of exclusive classes and grades."""
        return np.asarray(self.decided.argmax(axis=1))

    @property
    def patients(self) -> int:
        """Count the patients of the cases; those whom near-duplicates join count as one."""
        return len(np.unique(self.groups))

    @property
    def joined(self) -> int:
        """Count the further named patients whom near-duplicates join to these."""
        return len(np.unique(self.named)) - self.patients

    def take(self, rows: Indices | Flags) -> ClassRows:
        """Return the same of some cases, each as often as it is named."""
        kept = (self.probabilities[rows], self.members[rows], self.decided[rows])
        return ClassRows(self.table, *kept, self.groups[rows], self.named[rows])


def resampling_groups(*sides: Sequence[ClassScore]) -> Indices:
    """Number the groups (N,) that bootstrap and DeLong resample as one, from 0.

    Cases of one patient, or of one unit, and whatever these join.

    Args:
        sides: the answers of one classifier, or of several for the same cases in the same order;
            the units of each are of its own look for near-duplicates, and their names are not
            compared.
    """
    keys = [
        [
            scores[0].group,
            *(
                f"unit {side} {score.unit}"
                for side, score in enumerate(scores)
                if score.unit is not None
            ),
        ]
        for scores in zip(*sides, strict=True)
    ]
    of = {key: group[0] for group in merge_overlapping(keys) for key in group}
    return patients_of([of[first] for first, *_ in keys], len(keys))[0]


def _refuse_impossible(scores: Sequence[ClassScore], table: ClassTable) -> None:
    """Refuse scores that are none, double, without a reference, or of other classes."""
    if not scores:
        raise DataError(
            "there are no scores",
            needed="the score of at least one case",
            cure="predict at least one case with a reference",
        )
    names = [score.case for score in scores]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(
            f"there are two scores of {some(twice)}",
            needed="one score a case",
            cure="leave one of them out",
        )
    unknown = [score.case for score in scores if score.reference is None]
    if unknown:
        raise DataError(
            f"there is no reference for {some(unknown)}",
            needed="the label of every case",
            cure="leave these cases out, or label them",
        )
    wrong = [score for score in scores if len(score.probabilities) != len(table.names)]
    if wrong:
        raise DataError(
            f"case {wrong[0].case} has {len(wrong[0].probabilities)} probabilities",
            needed=f"one for each of {', '.join(table.names)}",
            cure="predict again with a model of these classes",
        )


def _class_flags(scores: Sequence[ClassScore], table: ClassTable) -> Flags:
    """Return which classes (N, K) each case's label names; an error names the case."""
    rows = []
    for score in scores:
        try:
            rows.append(table.indicators(score.reference or ""))
        except LabelError as error:
            raise LabelError(
                f"case {score.case}: {error.found}", needed=error.needed, cure=error.cure
            ) from error
    return np.array(rows, dtype=np.bool_)


def calibration_changed(scores: Sequence[ClassScore]) -> bool:
    """Return True if calibrated probabilities differ from the network's."""
    return any(
        score.calibrated is not None
        and not np.allclose(score.calibrated, score.probabilities, rtol=0, atol=_SAME)
        for score in scores
    )
