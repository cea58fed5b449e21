"""Copies of image files, found byte for byte without opening them as images.

Only cases whose files have the same sizes are read at all: three parts of each file first, and only
where these agree all of it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hilum.files.names import file_of
from hilum.io.content import file_hash, files_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from pathlib import Path

    from hilum.dataset.case import Case

    Progress = Callable[[int, int, str], None]

_PART, _SMALLEST_PART = 64 * 1024, 4 * 1024
"""Bytes that are read at the start, in the middle (corners are air) and at the end: of a case in
all, and of a file at least."""


@dataclass(frozen=True)
class Copies:
    """Cases whose image files are the same byte for byte.

    Args:
        groups: cases whose files are the same byte for byte, sorted.
        compared: how many cases have files that could be compared.
        archived: those whose image is a part of a file.
        unread: those whose files are missing or cannot be read.
    """

    groups: tuple[tuple[str, ...], ...]
    compared: int
    archived: tuple[str, ...]
    unread: tuple[str, ...]


def file_copies(cases: Sequence[Case], *, progress: Progress | None = None) -> Copies:
    """Find the cases whose image files are copies, whatever these are called.

    The files of a folder (a DICOM series) are compared together, channel by channel. An image that
    was stored or compressed anew has other bytes and is not found.

    Args:
        cases: of a data set.
        progress: called as progress(done, total, case id) while files are read.
    """
    files: dict[str, _Files] = {}
    archived, unread = [], []
    for case in cases:
        paths = tuple(dict.fromkeys(case.images.values()))  # every channel may name the same file
        if any(file_of(path) != path for path in paths):
            archived.append(case.id)
        elif all(path.exists() for path in paths):
            files[case.id] = tuple(files_of(path) for path in paths)
        else:
            unread.append(case.id)
    alike = [list(files)]
    for key in (_sizes, _parts, _wholes):
        same: dict[Hashable, list[str]] = defaultdict(list)
        left = [(number, name) for number, group in enumerate(alike) for name in group]
        for done, (number, name) in enumerate(left, start=1):
            try:
                same[number, key(files[name])].append(name)
            except OSError:
                unread.append(name)
            if progress is not None and key is not _sizes:
                progress(done, len(left), name)
        alike = [names for names in same.values() if len(names) > 1]
    groups = tuple(sorted(tuple(sorted(group)) for group in alike))
    return Copies(groups, len(set(files) - set(unread)), tuple(archived), tuple(unread))


_Files = tuple[tuple["Path", ...], ...]
"""The file of each channel, or the files of its folder."""


def _sizes(files: _Files) -> Hashable:
    return tuple(tuple(sorted(file.stat().st_size for file in channel)) for channel in files)


def _parts(files: _Files) -> Hashable:
    length = max(_SMALLEST_PART, _PART // sum(len(channel) for channel in files))
    return tuple(
        tuple(sorted(_hash_of_parts(file, length) for file in channel)) for channel in files
    )


def _hash_of_parts(file: Path, length: int) -> bytes:
    """Hash the size, beginning, middle and end of a file."""
    size, digest = file.stat().st_size, hashlib.blake2b(digest_size=16)
    with file.open("rb") as stream:
        for start in (0, (size - length) // 2, size - length):
            stream.seek(max(0, start))
            digest.update(stream.read(length))
    return digest.digest()


def _wholes(files: _Files) -> Hashable:
    return tuple(tuple(sorted(map(file_hash, channel))) for channel in files)
