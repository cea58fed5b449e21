"""Strata of held-out cases for which a coverage is shown apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.columns import role_of
from hilum.evaluation.subgroups import split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.dataset import Case

FEWEST_IN_THIRDS = 15
"""Cases with the region below which they are not cut into thirds by volume."""


@dataclass(frozen=True, eq=False)
class Stratum:
    """A named part of the cases.

    Args:
        name: for people.
        cases: (N,) whether each belongs to it.
    """

    name: str
    cases: NDArray[np.bool_]


def region_strata(
    region: str, predicted_ml: NDArray[np.float64], reference_ml: NDArray[np.float64]
) -> tuple[Stratum, ...]:
    """Divide cases (N,) by a region: present or absent, and thirds of the predicted volume."""
    present = reference_ml > 0
    strata = []
    if present.any() and not present.all():
        strata += [Stratum(f"with {region}", present), Stratum(f"without {region}", ~present)]
    found = predicted_ml > 0
    if found.sum() >= FEWEST_IN_THIRDS:
        low, high = np.quantile(predicted_ml[found], (1 / 3, 2 / 3))
        strata += [
            Stratum(f"predicted up to {low:.3g} ml", found & (predicted_ml <= low)),
            Stratum(
                f"predicted {low:.3g} to {high:.3g} ml",
                found & (predicted_ml > low) & (predicted_ml <= high),
            ),
            Stratum(f"predicted above {high:.3g} ml", found & (predicted_ml > high)),
        ]
    return tuple(strata)


def column_strata(cases: Sequence[Case]) -> tuple[Stratum, ...]:
    """Divide cases by the columns that describe who was examined, as subgroups are divided."""
    names = dict.fromkeys(name for case in cases for name in case.columns)
    return tuple(
        Stratum(f"{name} {value}", flags)
        for name in names
        if role_of(name) == "description"
        for value, flags in split([case.columns.get(name, "").strip() for case in cases])
        if not flags.all()
    )
