"""Files that hold an image, and hashes of their content."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from hilum.errors import FormatError
from hilum.files.atomic import sha256
from hilum.files.names import data_of, file_of, header_of, image_stem, image_suffix
from hilum.files.output import is_output
from hilum.io.itk_header import data_files

_HEADERS = (".mhd", ".mha", ".nhdr", ".nrrd", ".seg.nhdr", ".seg.nrrd")


def files_of(reference: Path | str) -> tuple[Path, ...]:
    """List the files that hold an image: file, header and data, DICOM folder, or archive.

    Hidden files of a folder, and what hilum wrote there, are left out. A file that is not there is
    listed all the same.
    """
    path = header_of(file_of(Path(reference)))
    if path.is_dir():
        inner = (
            file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")
        )
        return tuple(sorted(file for file in inner if not is_output(file)))
    if image_suffix(path) in _HEADERS and path.is_file():
        return (path, *(file for file in data_files(path) if file.is_file()))
    data = data_of(path)
    if data is None:
        return (path,)
    spm = data.with_name(f"{image_stem(data)}.mat")  # its orientation
    return (path, *(file for file in (data, spm) if file.is_file()))


def content_hash(reference: Path | str) -> str:
    """Compute the SHA-256 of an image's bytes.

    Names of files do not count, the place in an archive and a series' UID do.

    Raises:
        FormatError: a file is not there, or cannot be read.
    """
    files = files_of(reference)
    try:
        parts = [file_hash(file) for file in files]
    except OSError as error:
        raise FormatError(
            f"{error.filename} cannot be read: {error.strerror}",
            needed="a file that can be read",
            cure="check that it exists, and its permissions",
        ) from error
    if file_of(Path(reference)).is_dir():
        parts.sort()
    if file_of(Path(reference)) != Path(reference):
        parts.append(str(reference).rpartition("#")[2])
    return parts[0] if len(parts) == 1 else hashlib.sha256("\n".join(parts).encode()).hexdigest()


def digest(value: object) -> str:
    """Compute the SHA-256 of Python's notation of texts, numbers and tuples or lists of them."""
    return hashlib.sha256(repr(value).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Return a file's SHA-256, read once as long as its size, times and inode stay."""
    facts = path.stat()
    times = facts.st_mtime_ns, facts.st_ctime_ns  # programs may set the first
    return _hash_file(path, facts.st_size, *times, facts.st_ino)


@lru_cache(maxsize=100_000)
def _hash_file(path: Path, *_: int) -> str:
    """Compute a file's SHA-256; what follows the path is the state it was in."""
    return sha256(path)
