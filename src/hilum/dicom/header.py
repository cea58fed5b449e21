"""Reading the data elements of a DICOM file by pydicom, with or without its pixels."""

from __future__ import annotations

import io
import logging
import math
import threading
import warnings
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from hilum.dicom.start import PREAMBLE, UNUSUAL_STARTS, USUAL_START, data_start

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pydicom.dataset import Dataset, FileDataset
    from pydicom.tag import BaseTag

    from hilum.dicom.functional_groups import FrameHeader

    Header: TypeAlias = Dataset | FrameHeader

_LOCK = threading.RLock()  # Python's warning filters belong to the process, not to the thread


@contextmanager
def keep_quiet() -> Iterator[None]:
    """Hide pydicom's remarks on values that break the standard's letter.

    What matters is checked here. Its log repeats them, with the values, which may name a patient.
    """
    from pydicom import config

    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = config.logger.level
        config.logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            config.logger.setLevel(level)


def read_file(path: Path, *, tags: Sequence[str | int] | None = None) -> FileDataset:
    """Read a file by pydicom: these tags of its header, or with `tags` None all of it.

    Raises:
        InvalidDicomError: the file is no DICOM.
    """
    return _read(path, pixels=tags is None, tags=None if tags is None else tuple(tags))[0]


def read_header(path: Path) -> FileDataset:
    """Read all of a file but its pixels.

    Raises:
        InvalidDicomError: the file is no DICOM.
    """
    return _read(path, pixels=False)[0]


def read_to_pixels(path: Path, tags: tuple[str | int, ...]) -> tuple[FileDataset, int | None]:
    """Read these tags of a file's header.

    Returns:
        They, and the byte at which the element of the pixels begins; None where the file has to be
        read whole to come to them.

    Raises:
        InvalidDicomError: the file is no DICOM.
    """
    return _read(path, pixels=False, tags=tags)


def _read(
    path: Path, *, pixels: bool, tags: tuple[str | int, ...] | None = None
) -> tuple[FileDataset, int | None]:
    """Read a file by pydicom, also one without DICOM's preamble or prefix."""
    import pydicom

    start = data_start(path)
    odd = start in UNUSUAL_STARTS
    wanted = None if tags is None else [tag_of(tag) for tag in tags]
    with io.BytesIO(PREAMBLE + path.read_bytes()[start:]) if odd else path.open("rb") as stream:
        data = pydicom.dcmread(stream, stop_before_pixels=not pixels, specific_tags=wanted)
        at = None if odd or pixels else stream.tell()
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, _ = data.original_encoding
        data.file_meta.TransferSyntaxUID = (
            pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
        )
    return data, None if data.file_meta.TransferSyntaxUID.is_deflated else at


@cache
def tag_of(tag: str | int) -> BaseTag:
    """Return the tag of a keyword, or of a number."""
    from pydicom.tag import Tag

    return Tag(tag)


def read_until(path: Path, tag: int) -> Dataset:
    """Read a file by pydicom as far as the first data element from `tag` on.

    Raises:
        InvalidDicomError: the file is no DICOM.
    """
    from pydicom.filereader import read_partial

    if data_start(path) != USUAL_START:
        return read_file(path)
    with path.open("rb") as stream:
        return read_partial(stream, stop_when=lambda found, _, __: found >= tag)


def text_of(data: Header, tag: str | int) -> str:
    """Return the text of an element, its first value; "" where it is absent or empty."""
    return next(iter(texts_of(data, tag)), "")


def texts_of(data: Header, tag: str | int) -> tuple[str, ...]:
    """Return the values of an element as texts; () where it is absent or empty."""
    return tuple(str(value).strip() for value in _values(data, tag))


def number_of(data: Header, *tags: str | int) -> float | None:
    """Return the first number of the first element that has one; None where none has."""
    for tag in tags:
        if numbers := numbers_of(data, tag):
            return numbers[0]
    return None


def whole_of(data: Header, *tags: str | int) -> int | None:
    """Return the first whole number of the first element that has one; None where none has."""
    number = number_of(data, *tags)
    return None if number is None or not math.isfinite(number) else int(number)


def numbers_of(data: Header, tag: str | int) -> tuple[float, ...]:
    """Return the numbers of an element; () where it is absent or empty."""
    return tuple(float(str(value)) for value in _values(data, tag))


def _values(data: Header, tag: str | int) -> tuple[object, ...]:
    """Return the values of an element by its keyword or tag; () where it is absent or empty."""
    from pydicom.multival import MultiValue

    number = tag_of(tag)
    if number not in data:
        return ()
    try:
        value = data[number].value
    except NotImplementedError:  # pydicom's error at a value representation that DICOM has not
        return ()
    if isinstance(value, bytes):  # a private element whose kind is not stated
        value = value.decode("ascii", "replace").rstrip("\0 ").split("\\")
    if isinstance(value, MultiValue | list | tuple):
        return tuple(value)
    return () if value is None or value == "" else (value,)
