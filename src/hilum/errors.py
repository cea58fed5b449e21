"""The tree of errors that a caller may catch; the command line maps each branch to an exit code.

::

    HilumError                  1  (a bug of ours when it is raised bare)
    |-- UsageError              2  the call itself is wrong: an unknown option, a missing folder
    |-- DataError               3  the data cannot be used as they are
    |   |-- FormatError            a file cannot be read, or is not what its name says
    |   |-- GeometryError          grids that do not fit, sheared or degenerate affines
    |   |-- LabelError             labels that the label table does not know
    |   `-- TrainingError          the loss became no number
    |-- ModelError              4  a model folder is incomplete, altered or of another version
    `-- ResourceError           5  memory, disk, time or device are not enough
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

T = TypeVar("T")

_UNDECODED = 0xDC00  # what Python adds to a byte of a file name that is no UTF-8
_shown: dict[str, str] = {}


def readable(text: object) -> str:
    """Write a path or text so that every writer can encode it; bytes that are no UTF-8 as "%E9".

    Temporary folders are named as `shown_as` says.
    """
    whole = str(text)
    for folder, place in [*_shown.items()]:
        whole = whole.replace(folder, place)
    if whole.isascii():  # nearly all are, and a ledger or report has very many
        return whole
    return "".join(f"%{ord(c) - _UNDECODED:02X}" if "\udc80" <= c <= "\udcff" else c for c in whole)


@contextmanager
def shown_as(folder: Path, place: str) -> Iterator[None]:
    """Name a temporary folder in messages as the place whose files it holds, while this lasts."""
    _shown[str(folder)] = place
    try:
        yield
    finally:
        del _shown[str(folder)]


def some(names: Iterable[str], *, shown: int = 3) -> str:
    """Return a list of names, cut short for a sentence: "a, b, c and 5 more"."""
    listed = list(names)
    tail = f" and {len(listed) - shown} more" if len(listed) > shown else ""
    return ", ".join(listed[:shown]) + tail


def counted(number: int, noun: str) -> str:
    """Write a number and its noun: "1 case", "2 cases", "0 classes", "3 series"."""
    if number == 1 or noun == "series":
        return f"{number} {noun}"
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{number} {noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun}s"


def plain_digits(value: float, digits: int = 4) -> str:
    """Write a number without an exponent, with at least so many significant digits.

    12741, 12.5, 0.0001235; zeros at the end are left out.
    """
    if not value or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


class HilumError(Exception):
    """An error that says what was found, what is needed and what to do.

    Args:
        found: what was found, with the file or the value.
        needed: what is needed instead.
        cure: what to type or to do.
    """

    exit_code = 1

    def __init__(self, found: str, *, needed: str = "", cure: str = "") -> None:
        self.found, self.needed, self.cure = readable(found), readable(needed), readable(cure)
        parts = [self.found]
        if needed:
            parts.append(f"Needed: {self.needed}")
        if cure:
            parts.append(f"Cure: {self.cure}")
        super().__init__("\n".join(parts))


class UsageError(HilumError):
    """The call itself is wrong."""

    exit_code = 2


class DataError(HilumError):
    """The data cannot be used as they are."""

    exit_code = 3


class FormatError(DataError):
    """A file cannot be read, or is not what its name says."""


class GeometryError(DataError):
    """Grids that do not fit each other, or an affine that is sheared or degenerate."""


class LabelError(DataError):
    """Labels that the label table does not know, or that are not integers."""


class TrainingError(DataError):
    """Training diverged: the loss or its gradient is no number any more."""


class ModelError(HilumError):
    """A trained-model folder is incomplete, altered or of another version."""

    exit_code = 4


class ResourceError(HilumError):
    """Memory, disk, time or device are not enough."""

    exit_code = 5


def missing_package(error: ModuleNotFoundError) -> ResourceError | None:
    """Make the error for a missing package; None where a module of hilum itself is missing (a bug).

    An environment for exported models holds only some of what hilum requires: torch, for one, is
    not there.
    """
    package = (error.name or "hilum").partition(".")[0]
    if package == "hilum":
        return None
    return ResourceError(
        f"the package {package} is not installed, and what was asked for needs it",
        needed=f"an environment with every package that hilum requires ({package} is missing here)",
        cure=(
            "install hilum without --no-deps; or, to predict here as it is, export the model on a"
            " machine where torch is (hilum export MODEL -o FOLDER) and give that folder to hilum"
            " predict: it runs without torch"
        ),
    )


COPY_AGAIN = "copy the model folder again from where it was made"
NEWER_HILUM = "install a newer hilum from its source: pip install --upgrade 'PATH_OR_GIT_URL'"


def damaged_model(
    what: str, needed: str = "the file as it was saved", cure: str = COPY_AGAIN
) -> ModelError:
    """Make the error for a model folder that is not as it was saved."""
    return ModelError(what, needed=needed, cure=cure)


def find_named(what: str, argument: str, name: str, choices: Mapping[str, T]) -> T:
    """Return the entry of that name, such as a format or an engine.

    Raises:
        UsageError: see `unknown_name`.
    """
    if name not in choices:
        raise unknown_name(what, argument, name, choices)
    return choices[name]


def unknown_name(what: str, argument: str, name: str, choices: Collection[str]) -> UsageError:
    """Make the error for a value of an argument that is none of the known ones."""
    return UsageError(
        f"{what} {name!r} is not known",
        needed=f"one of {', '.join(choices)}",
        cure=did_you_mean(name, choices, argument),
    )


def did_you_mean(name: str, choices: Iterable[str], argument: str = "") -> str:
    """Suggest the nearest known name, as a value of an argument where one is named; "" if none."""
    spelled = {choice.lower(): choice for choice in choices}
    near = [spelled[one] for one in get_close_matches(name.lower(), spelled, n=1)]
    prefix = f"{argument}=" if argument else ""
    return f"did you mean {prefix}{near[0]!r}?" if near else ""
