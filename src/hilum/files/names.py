"""Names of image files: suffixes, pairs of header and data, references into archives."""

from __future__ import annotations

import difflib
import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from hilum.errors import readable

if TYPE_CHECKING:
    from collections.abc import Iterator

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

Readable = Annotated[str, BeforeValidator(readable)]
"""A field that may hold a file's name or a path: JSON has no place for bytes that are no UTF-8."""

_DETACHED = (".mhd", ".nhdr", ".seg.nhdr")

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
    if _is_utf8(str(path)):
        yield path
        return
    with TemporaryDirectory() as temporary:
        if _is_utf8(path.name):
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


def _is_utf8(name: str) -> bool:
    """Return whether a name is UTF-8 on the disk."""
    return not any("\udc80" <= letter <= "\udcff" for letter in name)


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


def nearest(path: Path | str) -> str:
    """Ask "did you mean X?" for a path that does not exist; "" without a near neighbour."""
    wanted = Path(path)
    names = [entry.name for entry in wanted.parent.iterdir()] if wanted.parent.is_dir() else []
    near = difflib.get_close_matches(wanted.name, names, n=1)
    return f"did you mean {wanted.parent / near[0]}?" if near else ""
