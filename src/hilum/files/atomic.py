"""Writing of files that is complete or does not happen, and hashes of files."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.errors import ResourceError, readable
from hilum.files.names import image_suffix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

before_naming: dict[Path, Callable[[Path, Path], None]] = {}
"""By file to be written: what is called with it and with its bytes, which have a temporary name,
before they take its name."""

_UNWRITABLE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR),
    *(errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG),
}


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Write a file completely or not at all.

    Yields a hidden name of the same suffix in the same folder (made where it is missing). When the
    block ends, it takes the place of `path` in one step, with the mode that umask asks for; when it
    raises, the file is removed and what was at `path` stays as it was. Before it takes its place
    the file is on the disk itself, so that a power cut leaves no empty one (0.2 to 10 ms a file, as
    measured on SSDs).

    Raises:
        ResourceError: the disk is full, or the folder cannot be written.
    """
    target = Path(path)
    suffix = image_suffix(target) or target.suffix
    temporary = target.parent / f".part-{secrets.token_hex(6)}{suffix}"
    try:
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _give_usual_mode(temporary)
            # a copy of a read-only file is one too; Windows flushes only what may be written
            mode = "r+b" if os.name == "nt" else "rb"
            for file in filter(Path.is_file, (temporary, *temporary.rglob("*"))):
                with file.open(mode) as stream:
                    os.fsync(stream.fileno())
            if (call := before_naming.get(target.absolute())) is not None:
                call(target, temporary)
            temporary.replace(target)
            names_to_disk(target.parent)
    except BaseException:
        with suppress(OSError):  # what removing fails at must not hide why the writing failed
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)
        raise


@contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """Turn the system's errors about space and permission into ours.

    Raises:
        ResourceError: the disk is full, or `target` cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ResourceError(
                f"no space left while writing {target}",
                cure="free some space, or choose another output folder",
            ) from error
        if error.errno in _UNWRITABLE:
            raise ResourceError(
                f"{target} cannot be written: {error.strerror}",
                cure="choose another output folder",
            ) from error
        raise


def _give_usual_mode(path: Path) -> None:
    """Give a file, or a folder with all it holds, the mode that a new one gets here."""
    probe = path.with_name(f"{path.name}.mode")
    probe.mkdir()
    folder_mode = stat.S_IMODE(probe.stat().st_mode)
    probe.rmdir()
    file_mode = folder_mode & 0o666
    for entry in (path, *(path.rglob("*") if path.is_dir() else ())):
        mode = folder_mode if entry.is_dir() else file_mode
        if not entry.is_symlink() and stat.S_IMODE(entry.stat().st_mode) != mode:
            entry.chmod(mode)


def names_to_disk(folder: Path) -> None:
    """Wait until a folder's list of names is on the disk, where the system lets it be opened.

    Windows and some networks do not.
    """
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def atomic_write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text completely or not at all; line ends are written as they are given.

    Names are made `readable`.
    """
    atomic_write_bytes(path, readable(text).encode("utf-8"))


def atomic_write_bytes(path: Path | str, data: bytes) -> None:
    """Write bytes completely or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def sha256(path: Path | str) -> str:
    """Compute the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
