"""Columns that describe the patient or the scan, and columns that would give the label away.

A baseline, or a subgroup, is to be made of what is known before anybody has looked at the image.
Left out, by the first rule that fits (roles: :mod:`hilum.dataset.columns`):

| left out | because |
|---|---|
| the same value in every case | it says nothing |
| a split's role by its name | it is of the experiment |
| file names: a path, or a known suffix | they often hold the label |
| a label's role by its name | the label restated |
| an opinion's role | another reader's opinion of the image |
| an identifier's role | it names, and does not describe |
| every value goes with one label only, and values repeat | the label restated |
| words that differ in most cases, or over 20 of them | a value that occurs once teaches nothing |

A column that predicts the label perfectly although it describes the scan is a leak: the audit of
the data set reports it. Whoever names columns gets those, whatever they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hilum.dataset.columns import is_numeric, role_of
from hilum.errors import UsageError, did_you_mean
from hilum.files import image_suffix
from hilum.files.text import is_known

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MOST_WORDS = 20


@dataclass(frozen=True)
class ColumnChoice:
    """The columns that describe a case.

    Args:
        numeric: those whose every value is a number.
        words: the others.
        left_out: why each other column is left out, by name.
    """

    numeric: tuple[str, ...]
    words: tuple[str, ...]
    left_out: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """All that were chosen."""
        return (*self.numeric, *self.words)


def choose_columns(
    rows: Sequence[Mapping[str, str]],
    labels: Sequence[str],
    *,
    columns: Sequence[str] | None = None,
) -> ColumnChoice:
    """Choose columns by the rules above, or take those that are named.

    Args:
        rows: further columns of each case.
        labels: the raw label of each.
        columns: names to take, whatever they are.

    Raises:
        UsageError: there is no such column.
    """
    known = dict.fromkeys(name for row in rows for name in row)
    strange = [name for name in columns or () if name not in known]
    if strange:
        raise UsageError(
            f"the cases have no column {strange[0]!r}",
            needed=f"columns among {', '.join(sorted(known)) or '(there are none)'}",
            cure=did_you_mean(strange[0], known),
        )
    values = {name: [row.get(name, "").strip() for row in rows] for name in known}
    left_out = {}
    if columns is None:
        reasons = {name: _why_not(name, values[name], labels) for name in known}
        left_out = {name: why for name, why in reasons.items() if why}
    chosen = [n for n in dict.fromkeys(known if columns is None else columns) if n not in left_out]
    numeric = tuple(name for name in chosen if is_numeric(values[name]))
    return ColumnChoice(numeric, tuple(name for name in chosen if name not in numeric), left_out)


def _why_not(name: str, values: Sequence[str], labels: Sequence[str]) -> str:
    """Give the first rule that leaves a column out; "" where none does."""
    present = [value for value in values if is_known(value)]
    different = set(present)
    of_value: dict[str, set[str]] = {}
    for value, label in zip(values, labels, strict=True):
        if is_known(value):
            of_value.setdefault(value, set()).add(label)
    files = sum(bool(image_suffix(value)) or "/" in value or "\\" in value for value in values)
    rules = {
        "the same in every case": len({v.lower() if is_known(v) else "" for v in values}) < 2,
        "a part of the experiment": role_of(name) == "split",
        "names of files": 2 * files > len(values),
        "named like a label": role_of(name) == "label",
        "another reader's opinion": role_of(name) == "opinion",
        "names the case, and does not describe it": role_of(name) == "identifier",
        "each value goes with one label only": (
            1 < len(different) <= len(present) / 4
            and len(set(labels)) > 1
            and all(len(found) == 1 for found in of_value.values())
        ),
        "too many different words": not is_numeric(values)
        and (len(different) > _MOST_WORDS or 2 * len(different) > len(present)),
    }
    return next((why for why, fits in rules.items() if fits), "")
