"""Both passes over many files, on several processors."""

from __future__ import annotations

import os
import struct
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from typing import TYPE_CHECKING, TypeVar

from hilum.deidentification.one_file import Deidentified, Deidentifier
from hilum.deidentification.plans import Plans
from hilum.deidentification.search.second_pass import Finder
from hilum.dicom.start import data_start
from hilum.errors import HilumError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from hilum.deidentification.key import Key
    from hilum.deidentification.profile import Options
    from hilum.deidentification.search.second_pass import Question

R = TypeVar("R")
_WORTH_IT = 1000
"""Number of files from which starting processes pays: with 120 it made the whole slower."""
_AHEAD = 2
NO_DICOM = "no DICOM file"
_DAMAGE = (HilumError, struct.error, IndexError, ValueError, OSError, RecursionError)
"""Errors that damaged bytes raise; anything else is a bug and stops the command."""


@dataclass(frozen=True)
class Found:
    """Values found in one file.

    Args:
        places: by number of the value.
        walked: pydicom read the file, too.
    """

    places: Mapping[int, tuple[str, ...]]
    walked: bool


class FirstPass:
    """De-identifies files by their paths.

    Args:
        key: the user's.
        options: of the profile.
    """

    def __init__(self, key: Key, options: Options) -> None:
        self._deidentifier = Deidentifier(key, Plans(options))

    def __call__(self, path: Path) -> Deidentified | str:
        """Return a file without identifiers, or why there is none."""
        start = data_start(path)
        if start is None:
            return NO_DICOM
        try:
            result = self._deidentifier.deidentify(path.read_bytes(), start)
        except _DAMAGE as error:
            text = error.found if isinstance(error, HilumError) else str(error)
            return text or type(error).__name__
        result.removed.drop_common()
        return result


class SecondPass:
    """Searches files by their paths.

    Args:
        question: what is searched for.
    """

    def __init__(self, question: Question) -> None:
        self._finder = Finder(question)

    def __call__(self, path: Path) -> Found:
        """Return what was found."""
        before = self._finder.walked
        places = self._finder.search(path)
        return Found(places, self._finder.walked > before)


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def first_pass(
    paths: list[Path], key: Key, options: Options, workers: int | None
) -> Iterator[Deidentified | str]:
    """Yield the result for each path, in order."""
    if _processes(paths, workers) < 2:
        yield from map(FirstPass(key, options), paths)
        return
    with ProcessPoolExecutor(
        _processes(paths, workers), get_context("spawn"), _begin_first, (key, options)
    ) as pool:
        yield from _in_order(pool, _first, paths, _processes(paths, workers))


def second_pass(paths: list[Path], question: Question, workers: int | None) -> Iterator[Found]:
    """Yield what was found in each path, in order."""
    if _processes(paths, workers) < 2:
        yield from map(SecondPass(question), paths)
        return
    with ProcessPoolExecutor(
        _processes(paths, workers), get_context("spawn"), _begin_second, (question,)
    ) as pool:
        yield from _in_order(pool, _second, paths, _processes(paths, workers))


def _processes(paths: list[Path], workers: int | None) -> int:
    """Return the number of processes; 1 where starting them costs more than they save."""
    if workers is not None:
        return min(workers, max(1, len(paths)))
    return processors() if len(paths) >= _WORTH_IT else 1


def _in_order(
    pool: ProcessPoolExecutor, work: Callable[[Path], R], paths: Iterable[Path], workers: int
) -> Iterator[R]:
    """Yield results in order, a few ahead: they are as large as the files."""
    left = iter(paths)
    waiting = deque(pool.submit(work, path) for path in islice(left, _AHEAD * workers))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(work, path) for path in islice(left, 1))


_passes: dict[str, FirstPass | SecondPass] = {}
"""The pass of this process, made once."""


def _begin_first(key: Key, options: Options) -> None:
    _passes["first"] = FirstPass(key, options)


def _begin_second(question: Question) -> None:
    _passes["second"] = SecondPass(question)


def _first(path: Path) -> Deidentified | str:
    result = _passes["first"](path)
    return result if isinstance(result, Deidentified | str) else NO_DICOM


def _second(path: Path) -> Found:
    result = _passes["second"](path)
    return result if isinstance(result, Found) else Found({}, walked=False)
