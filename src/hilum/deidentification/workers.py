"""Both passes over many files, on several processors."""

from __future__ import annotations

import struct
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing import get_context
from typing import TYPE_CHECKING, Self, TypeVar

from hilum.deidentification.one_file import Deidentified, Deidentifier
from hilum.deidentification.plans import Plans
from hilum.deidentification.search.second_pass import Finder
from hilum.dicom.start import data_start
from hilum.errors import HilumError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from hilum.deidentification.key import Key
    from hilum.deidentification.profile import Options
    from hilum.deidentification.search.second_pass import Question

R = TypeVar("R")
_WORTH_IT = 64 << 20
"""Bytes of files from which starting processes pays."""
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
    """De-identifies the file at a path, in any process.

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
    """Searches the output at a path for removed values, in any process.

    Args:
        question: what is searched for.
    """

    def __init__(self, question: Question) -> None:
        self._finder = Finder(question)

    def __call__(self, path: Path) -> Found:
        """Return the removed values that stand in a file, and their places."""
        before = self._finder.walked
        places = self._finder.search(path)
        return Found(places, self._finder.walked > before)


class Workers:
    """Processes that go through files twice; one is this process.

    Each has its own queue, so that every one of them can be told what the second pass searches for.

    Args:
        key: the user's.
        options: of the profile.
        number: of processes.
    """

    def __init__(self, key: Key, options: Options, number: int) -> None:
        """Start the processes; for a number of 1 none, as this one does the work."""
        self._first = FirstPass(key, options)
        context = get_context("spawn")
        self._pools = tuple(
            ProcessPoolExecutor(1, context, _begin, (key, options))
            for _ in range(number if number > 1 else 0)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)

    def first_pass(self, paths: list[Path]) -> Iterator[Deidentified | str]:
        """Yield the result for each path, in order.

        Raises:
            ResourceError: a process was killed.
        """
        return self._in_order(_first, paths) if self._pools else map(self._first, paths)

    def second_pass(self, paths: list[Path], question: Question) -> Iterator[Found]:
        """Yield what was found in each path, in order.

        Raises:
            ResourceError: a process was killed.
        """
        if not self._pools:
            return map(SecondPass(question), paths)
        with _ended_processes():
            for told in [pool.submit(_ask, question) for pool in self._pools]:
                told.result()
        return self._in_order(_second, paths)

    def _in_order(self, work: Callable[[Path], R], paths: list[Path]) -> Iterator[R]:
        """Yield results in order, a few ahead: they are as large as the files."""
        left, pools = iter(paths), cycle(self._pools)
        ahead = islice(left, _AHEAD * len(self._pools))
        with _ended_processes():
            waiting = deque(next(pools).submit(work, path) for path in ahead)
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(next(pools).submit(work, path) for path in islice(left, 1))


@contextmanager
def _ended_processes() -> Iterator[None]:
    """Say what it means for the output that a process was killed.

    Raises:
        ResourceError: one was.
    """
    try:
        yield
    except BrokenProcessPool as error:
        raise ResourceError(
            "a process that de-identifies has ended (killed, or no memory left?); the output is"
            " incomplete, or not all of it was searched",
            cure="do not give the output away; run it again with fewer processes (workers=1)",
        ) from error


def processes_for(paths: list[Path], workers: int | None, most: int) -> int:
    """Return the number of processes; 1 where starting them costs more than they save.

    Args:
        paths: the files.
        workers: number that the user asked for; None: as many as are worth it.
        most: number of processes where the user asked for none.
    """
    if workers is not None:
        return min(workers, max(1, len(paths)))
    worth_it = sum(path.stat().st_size for path in paths) >= _WORTH_IT
    return min(most, len(paths)) if worth_it else 1


class _Passes:
    """The passes of a worker process; each is made before its first file comes."""

    first: FirstPass
    second: SecondPass


_passes = _Passes()


def _begin(key: Key, options: Options) -> None:
    _passes.first = FirstPass(key, options)


def _ask(question: Question) -> None:
    _passes.second = SecondPass(question)


def _first(path: Path) -> Deidentified | str:
    return _passes.first(path)


def _second(path: Path) -> Found:
    return _passes.second(path)
