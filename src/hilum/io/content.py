"""Hashes of what images hold on disk: alike wherever the files lie and whenever they were written."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from hilum.errors import FormatError
from hilum.io.files import ARCHIVE_MARK, image_suffix, sha256
from hilum.io.output import is_output

_DATA_FILE = re.compile(r"^(?:ElementDataFile\s*=|data ?file:)\s*(\S.*?)\s*$", re.MULTILINE | re.IGNORECASE)
_HEADERS = (".mhd", ".nhdr")
_PAIRS = {".hdr": ".img", ".img": ".hdr"}


def content_hash(reference: Path | str) -> str:
    """The SHA-256 of an image's bytes: of a file, of the files of a folder, of an archive and the place in it.

    A header whose voxels lie in another file is hashed with that file. Names of files, hidden files and what hilum wrote into a
    folder do not count.

    Raises:
        FormatError: a file is not there, or cannot be read.
    """
    text = str(reference)
    if ARCHIVE_MARK in text.lower() and not Path(text).exists():
        archive, _, place = text.rpartition("#")
        return _joined([content_hash(archive), place])
    path = Path(reference)
    if path.is_dir():
        files = (file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".") and not is_output(file))
        return _joined(sorted(_of_file(file) for file in files))
    return _joined([_of_file(path), *(_of_file(file) for file in _beside(path))])


def _beside(path: Path) -> list[Path]:
    """The file that holds the voxels of a header, or the header of a file of voxels."""
    suffix = path.suffix.lower()
    if suffix in _PAIRS:
        named = [path.with_suffix(_PAIRS[suffix])]
    elif image_suffix(path) in _HEADERS or suffix in _HEADERS:
        named = [path.parent / name for name in _DATA_FILE.findall(path.read_bytes()[:100_000].decode("latin-1"))]
    else:
        named = []
    return [file for file in named if file.is_file() and file != path]


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _of_file(path: Path) -> str:
    try:
        facts = path.stat()
        return _hashed(path, facts.st_size, facts.st_mtime_ns, facts.st_ino)
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}", needed="a file that can be read") from error


@lru_cache(maxsize=100_000)
def _hashed(path: Path, *_: int) -> str:
    """The hash of a file in one state, which is read once; its size, time and inode say which."""
    return sha256(path)
