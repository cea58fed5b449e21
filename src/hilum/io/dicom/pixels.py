"""Decoding of pixels, and their conversion to real values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import FormatError
from hilum.io.dicom.header import read_file
from hilum.io.record import damage_refused, refuse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.io.dicom.frames import Frame


def dtype_of(frames: Sequence[Frame]) -> np.dtype[np.generic]:
    """Return the dtype after rescaling: as stored, int16 or int32 if whole, else float32."""
    bits, signed = max(f.file.bits for f in frames), any(f.file.signed for f in frames)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    rescales = {frame.rescale for frame in frames}
    if rescales == {(1.0, 0.0)}:
        return np.min_scalar_type(low if signed else high)
    if not all(number.is_integer() for rescale in rescales for number in rescale):
        return np.dtype(np.float32)
    ends = [slope * end + intercept for slope, intercept in rescales for end in (low, high)]
    for dtype in (np.int16, np.int32):
        if np.iinfo(dtype).min <= min(ends) and max(ends) <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.float32)


def fill(target: NDArray[np.generic], frame: Frame) -> None:
    """Decode one frame's pixels into (Y, X) and rescale them.

    Raises:
        FormatError: they cannot be decoded, or are not what the header says.
    """
    pixels = _decode(frame, target.size)
    if pixels.shape != target.shape:
        raise FormatError(
            f"{frame.path}: pixels of shape {pixels.shape}",
            needed=f"{target.shape}, as the header says",
            cure="export the series again from the source",
        )
    exact, (slope, intercept) = pixels, frame.rescale
    if (slope, intercept) != (1, 0):
        exact = pixels.astype(np.float64) * slope + intercept
    limits = np.iinfo(target.dtype.name) if target.dtype.kind in "iu" else None
    if limits and (exact.min() < limits.min or exact.max() > limits.max):
        raise FormatError(
            f"{frame.path}: pixels beyond the {frame.file.bits} bits that the header states",
            needed="a true BitsStored",
            cure="export the series again from the source",
        )
    target[...] = exact


def _decode(frame: Frame, size: int) -> NDArray[np.generic]:
    """Read a file and decode its pixels."""
    from pydicom.uid import RLETransferSyntaxes

    path = frame.path
    with damage_refused(path, "DICOM"):
        data = read_file(path)
        encoding = data.file_meta.TransferSyntaxUID
        free = encoding.is_encapsulated and encoding not in RLETransferSyntaxes  # JPEG: no bound
        refuse_size(path, 2 * size, stored=None if free else path)
        cure = "export the series uncompressed, or run `gdcmconv --raw` on it"
        with damage_refused(path, f"DICOM pixels in {encoding.name}", cure=cure):
            return np.asarray(data.pixel_array)
