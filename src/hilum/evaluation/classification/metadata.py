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
from hilum.errors import UsageError
from hilum.io import image_suffix
from hilum.io.text import is_known

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
    known = tuple(dict.fromkeys(name for row in rows for name in row))
    strange = [name for name in columns or () if name not in known]
    if strange:
        raise UsageError(
            f"no column {strange[0]!r}",
            needed=f"columns among {', '.join(known) or '(there are none)'}",
        )
    values = {name: [row.get(name, "").strip() for row in rows] for name in known}
    left_out: dict[str, str] = {}
    if columns is None:
        reasons = {name: _why_not(_Column(name, column, labels)) for name, column in values.items()}
        left_out = {name: why for name, why in reasons.items() if why}
    chosen = [
        name
        for name in (known if columns is None else dict.fromkeys(columns))
        if name not in left_out
    ]
    numeric = tuple(name for name in chosen if is_numeric(values[name]))
    return ColumnChoice(numeric, tuple(name for name in chosen if name not in numeric), left_out)


@dataclass(frozen=True)
class _Column:
    """A column as the rules look at it."""

    name: str
    values: Sequence[str]
    labels: Sequence[str]

    @property
    def present(self) -> list[str]:
        """The values that are there."""
        return [value for value in self.values if is_known(value)]


def _why_not(column: _Column) -> str:
    """Why the first rule that fits leaves a column out; "" where none does."""
    return next((why for rule, why in _RULES.items() if rule(column)), "")


def _names_files(column: _Column) -> bool:
    files = sum(
        bool(image_suffix(value)) or "/" in value or "\\" in value for value in column.values
    )
    return 2 * files > len(column.values)


def _restates_the_label(column: _Column) -> bool:
    seen: dict[str, set[str]] = {}
    for value, label in zip(column.values, column.labels, strict=True):
        if is_known(value):
            seen.setdefault(value, set()).add(label)
    repeated = 1 < len(seen) <= len(column.present) / 4
    return (
        repeated
        and len(set(column.labels)) > 1
        and all(len(labels) == 1 for labels in seen.values())
    )


def _has_too_many_words(column: _Column) -> bool:
    different = len(set(column.present))
    return not is_numeric(column.values) and (
        different > _MOST_WORDS or 2 * different > len(column.present)
    )


_RULES: dict[Callable[[_Column], bool], str] = {
    lambda column: (
        len({value.lower() if is_known(value) else "" for value in column.values}) < 2
    ): "the same in every case",
    lambda column: role_of(column.name) == "split": "a part of the experiment",
    _names_files: "names of files",
    lambda column: role_of(column.name) == "label": "named like a label",
    lambda column: role_of(column.name) == "opinion": "another reader's opinion",
    lambda column: role_of(column.name) == "identifier": "names the case, and does not describe it",
    _restates_the_label: "each value goes with one label only",
    _has_too_many_words: "too many different words",
}
