"""Zip archives as inputs: unpacked into a temporary folder that is removed afterwards."""

from __future__ import annotations

import lzma
import shutil
import stat
import zipfile
import zlib
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from hilum.errors import FormatError, ResourceError, counted, shown_as
from hilum.files.atomic import disk_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_BYTES = 64 << 30
"""Limit of the unpacked files of one archive."""
_MOST_FILES = 1_000_000
_RESERVE = 1 << 30  # bytes of the disk that stay free
_BLOCK = 1 << 20
_DAMAGE = (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error, lzma.LZMAError, OSError)
_CURE = "unpack it yourself, look at what is in it, and give the folder"


@contextmanager
def unpacked(sources: Sequence[Path | str]) -> Iterator[list[Path]]:
    """Replace zip archives among sources by folders that hold their files, named like them.

    The folders are removed at the end.

    Raises:
        FormatError: an archive is damaged, encrypted, or names a file twice or outside of itself.
        ResourceError: its files are more than `MOST_BYTES`, or than the disk can take.
    """
    with ExitStack() as held:
        yield [_unpack(path, held) if is_zip(path) else path for path in map(Path, sources)]


def is_zip(path: Path) -> bool:
    """Recognise a zip archive, by suffix and content."""
    return path.suffix.lower() == ".zip" and path.is_file() and zipfile.is_zipfile(path)


def _unpack(path: Path, held: ExitStack) -> Path:
    """Unpack an archive into a temporary folder that is named like it."""
    folder = Path(held.enter_context(TemporaryDirectory(prefix="hilum-zip-")))
    target = folder / path.stem
    target.mkdir()
    held.enter_context(shown_as(target, str(path)))
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _refuse_entries(path, entries)
            limit = min(MOST_BYTES, shutil.disk_usage(folder).free - _RESERVE)
            _refuse_size(path, sum(entry.file_size for entry in entries), limit)
            left = limit
            for entry in entries:
                left -= _write(path, archive, entry, target, left)
    except _DAMAGE as error:
        if getattr(error, "errno", None) is not None:  # the system's; damage has no number
            raise
        raise FormatError(
            f"{path}: the archive cannot be unpacked ({error})",
            needed="a complete zip archive",
            cure="copy it again, or unpack it yourself and give the folder",
        ) from error
    return target


def _refuse_entries(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Raise at entries of one name, that lead outside, are links, or need a password."""
    if len(entries) > _MOST_FILES:
        raise ResourceError(
            f"{path}: an archive of {len(entries)} files",
            needed=f"at most {_MOST_FILES}",
            cure=_CURE,
        )
    names = {_parts(entry) for entry in entries}
    if len(names) < len(entries):
        raise FormatError(
            f"{path}: {counted(len(entries) - len(names), 'file')} of the same name as another",
            needed="each file once",
            cure=_CURE,
        )
    for entry in entries:
        parts = _parts(entry)
        escapes = ".." in parts or parts[:1] == ("/",) or (parts and ":" in parts[0])
        link = stat.S_ISLNK(entry.external_attr >> 16)
        if escapes or link or "\0" in entry.filename:
            what = "a link" if link else "a file outside of the archive"
            raise FormatError(
                f"{path}: {entry.filename!r} is {what}", needed="files below it", cure=_CURE
            )
        if entry.flag_bits & 1:
            raise FormatError(
                f"{path}: the archive is encrypted",
                needed="an archive without password",
                cure=_CURE,
            )


def _parts(entry: zipfile.ZipInfo) -> tuple[str, ...]:
    """Return the folders and the name of an entry."""
    return PurePosixPath(entry.filename.replace("\\", "/")).parts


def _refuse_size(path: Path, size: int, limit: int) -> None:
    """Raise where files need more space than there may be."""
    if size > limit:
        raise ResourceError(
            f"{path}: its files are {size / 2**30:.3g} GiB or more",
            needed=f"no more than {max(0, limit) / 2**30:.3g} GiB, of the temporary folder's disk",
            cure="unpack it where there is space, and give the folder",
        )


def _write(
    path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, left: int
) -> int:
    """Write an entry, and count its bytes: what the archive says of its size may be wrong."""
    file = target.joinpath(*_parts(entry))
    size = 0
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, file.open("xb") as out:
            while block := source.read(_BLOCK):
                size += len(block)
                _refuse_size(path, size, left)
                out.write(block)
    return size
