"""Files as such: names and suffixes, writing that is all or nothing, hashes."""

from __future__ import annotations

import difflib
import errno
import hashlib
import os
import secrets
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import psutil
from pydantic import BeforeValidator

from hilum.errors import ResourceError, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUFFIXES = (
    *(".nii.gz", ".nii", ".hdr.gz", ".img.gz", ".hdr", ".img", ".mgz", ".mgh"),
    *(".seg.nrrd", ".seg.nhdr", ".nrrd", ".nhdr", ".mha", ".mhd"),
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".npz", ".dcm"),
)
"""Suffixes of files that hold images; DICOM files often have none. The first that fits a name
counts."""

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""Suffixes of files that any program for pictures opens."""

ARCHIVE_MARK = ".npz#"
SERIES_MARK = "#series/"
"""Between a folder that holds several DICOM series and the UID of one of them."""

before_naming: dict[Path, Callable[[Path, Path], None]] = {}
"""By file to be written: what is called with it and with its bytes, which have a temporary name,
before they take its name."""

Readable = Annotated[str, BeforeValidator(readable)]
"""A field that may hold a file's name or a path: JSON has no place for bytes that are no UTF-8."""

_DETACHED = (".mhd", ".nhdr", ".seg.nhdr")

_UNWRITABLE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR),
    *(errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG),
}
_HEADER_OF_DATA = {
    ".img": (".hdr",),
    ".img.gz": (".hdr.gz",),
    ".mat": (".hdr",),  # SPM's orientation of an Analyze pair
    ".raw": (".mhd", ".nhdr", ".seg.nhdr"),
    ".zraw": (".mhd",),
    ".raw.gz": (".nhdr", ".seg.nhdr"),
}


def image_suffix(path: Path | str) -> str:
    """Return the suffix of an image file in lower case: ".nii.gz" for "a.b.NII.GZ".

    Returns:
        One of :data:`SUFFIXES`, or "" for any other name. A reference into an archive
            ("set.npz#train/12") gives ".npz".
    """
    text = str(path).lower()
    if ARCHIVE_MARK in text:
        return ".npz"
    name = Path(text).name
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix) and name != suffix), "")


def file_of(reference: Path) -> Path:
    """Return the file or folder of a reference: set.npz of "set.npz#train/12"."""
    text = str(reference).partition(SERIES_MARK)[0]
    place = text.lower().find(ARCHIVE_MARK)
    return Path(text if place < 0 else text[: place + len(ARCHIVE_MARK) - 1])


def image_stem(path: Path | str) -> str:
    """Return the name of an image without its suffix.

    A folder's name, and one without a known suffix (a UID), is kept whole.

    Bytes that are no UTF-8 become "%E9" and so on: the stem is a case's id, which stands in JSON,
    tables and names of outputs.
    """
    path = Path(path)
    stem = path.name if path.is_dir() else path.name[: len(path.name) - len(image_suffix(path))]
    return readable(stem)


@contextmanager
def plain_path(path: Path) -> Iterator[Path]:
    """Give a path that C++ libraries can take: SimpleITK crashes at names that are not UTF-8.

    Yields the path itself, or a temporary link to it (to a new file: to its folder).
    """
    if readable(path) == str(path):
        yield path
        return
    with TemporaryDirectory() as temporary:
        if readable(path.name) == path.name:
            folder = Path(temporary) / "folder"
            folder.symlink_to(path.parent.absolute(), target_is_directory=True)
            yield folder / path.name
            return
        # a header names its data beside it
        for entry in path.parent.iterdir() if image_suffix(path) in _DETACHED else ():
            (Path(temporary) / entry.name).symlink_to(entry.absolute())
        plain = Path(temporary) / readable(path.name)
        plain.symlink_to(path.absolute())
        yield plain


def header_of(path: Path | str) -> Path:
    """Return the header beside the data file of a pair ("a.hdr" for "a.img", "a.nhdr" for "a.raw").

    Any other path unchanged.
    """
    path = Path(path)
    for ending, headers in _HEADER_OF_DATA.items():
        if path.name.lower().endswith(ending):
            stem, is_upper = path.name[: -len(ending)], path.name.isupper()
            names = (stem + (header.upper() if is_upper else header) for header in headers)
            found = (place for name in names if (place := path.with_name(name)).is_file())
            return next(found, path)
    return path


def data_of(header: Path) -> Path | None:
    """Return the data file of a pair's header (a.img of a.hdr), there or not.

    None for any other file.
    """
    other = {".hdr": ".img", ".hdr.gz": ".img.gz"}.get(image_suffix(header))
    if other is None:
        return None
    stem = header.name[: -len(other)]
    upper = header.with_name(stem + other.upper())
    return upper if upper.exists() else header.with_name(stem + other)


def longest_name(folder: Path) -> int:
    """Return how many bytes a file's name in a folder may have.

    255 where the system does not say.
    """
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return 255


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


def total_memory() -> int:
    """Return this machine's memory in bytes, free or not: no image can exceed it."""
    return int(psutil.virtual_memory().total)


def nearest(path: Path | str) -> str:
    """Ask "did you mean X?" for a path that does not exist; "" without a near neighbour."""
    wanted = Path(path)
    names = [entry.name for entry in wanted.parent.iterdir()] if wanted.parent.is_dir() else []
    near = difflib.get_close_matches(wanted.name, names, n=1)
    return f"did you mean {wanted.parent / near[0]}?" if near else ""


def sha256(path: Path | str) -> str:
    """Compute the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
