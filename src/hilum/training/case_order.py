"""Orders of cases of which every beginning represents all, for when the time ends early."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.dataset import ClassTable


def stratified_order(
    ids: Sequence[str], labels: Sequence[str | None], table: ClassTable
) -> list[int]:
    """Order cases so that every beginning holds each class in its share.

    Data sets are often sorted by class. Of findings the rarest of a case counts. The order depends
    on the cases' ids, the same for the same cases.
    """
    present = _classes_of(labels, table)
    rarest = np.where(present, present.sum(axis=0), len(ids) + 1).argmin(axis=1)
    rarest[~present.any(axis=1)] = -1
    by_id = np.array(sorted(range(len(ids)), key=lambda place: ids[place]), dtype=np.int64)
    random, turn = np.random.default_rng(0), np.zeros(len(ids))
    for stratum in np.unique(rarest):
        own = random.permutation(by_id[rarest[by_id] == stratum])
        turn[own] = (np.arange(len(own)) + random.random()) / len(own)
    order: list[int] = np.argsort(turn, kind="stable").tolist()
    return order


def minimum_per_class_first(
    order: Sequence[int], labels: Sequence[str | None], table: ClassTable, fewest: int
) -> tuple[list[int], int]:
    """Order cases alike, but begin with `fewest` of every class, of findings also without each.

    What was moved to the front would have come anyway in a longer sample: one that reaches beyond
    it is the fair one again.

    Returns:
        The places, and how many of them are the beginning. A class with fewer cases than that has
        all of them in it.
    """
    present = _classes_of([labels[place] for place in order], table)
    columns = [*present.T, *(~present).T] if table.kind == "multilabel" else [*present.T]
    needed = {int(row) for column in columns for row in np.flatnonzero(column)[:fewest]}
    first = [place for row, place in enumerate(order) if row in needed]
    return [*first, *(place for row, place in enumerate(order) if row not in needed)], len(first)


def shuffled_order(ids: Sequence[str]) -> list[int]:
    """Order cases without known classes so that every beginning is a fair sample.

    Data sets are often sorted by centre. The order depends on the cases' ids, the same for the
    same cases.
    """
    order: list[int] = (
        np.random.default_rng(0)
        .permutation(sorted(range(len(ids)), key=lambda place: ids[place]))
        .tolist()
    )
    return order


def _classes_of(labels: Sequence[str | None], table: ClassTable) -> NDArray[np.bool_]:
    """Return which classes (N, K) each case has; none where it has no label."""
    none = (False,) * len(table.names)
    rows = [none if label is None else table.indicators(label) for label in labels]
    return np.array(rows, dtype=np.bool_).reshape(-1, len(table.names))
