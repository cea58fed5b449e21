"""Decoders of compressed frames: fast ones for grey frames, pydicom's own for all others."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from pydicom.uid import (
    JPEG2000,
    UID,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from pydicom.pixels.decoders.base import Decoder, DecodeRunner

    Decode = Callable[[bytes], NDArray[np.generic]]

_JPEG = (JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless)
_END_OF_IMAGE = b"\xff\xd9"
_PADDING = b"\0\xff"
_START_OF_IMAGE, _START_OF_CODESTREAM = b"\xff\xd8", b"\xff\x4f\xff\x51"
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
"""Second bytes of the markers that begin a frame's header (SOF)."""


class Size(NamedTuple):
    """Size that a compressed frame says it has."""

    rows: int
    columns: int


@cache
def decoder_of(syntax: UID) -> Decoder:
    """Return the decoder of a transfer syntax."""
    from pydicom.pixels.decoders.base import Decoder, get_decoder

    if syntax not in {*_JPEG, JPEG2000Lossless, JPEG2000}:
        return get_decoder(syntax)
    decoder = Decoder(syntax)
    decoder.add_plugin("hilum", (__name__, "decode_frame"))
    return decoder


def is_available(syntax: UID) -> bool:  # noqa: ARG001  (pydicom asks each module of decoders)
    """Return True: hilum depends on all libraries that it decodes by."""
    return True


def decode_frame(source: bytes, runner: DecodeRunner) -> bytes | bytearray:
    """Decode a frame for pydicom, and tell it how many bits a number of the result has.

    Decoders of damaged JPEG give some image, or never end: a frame without the marker at its end,
    or of another size than the header says, is refused before.

    Args:
        source: the compressed frame.
        runner: pydicom's state of a file.

    Raises:
        ValueError: it is cut short, or of another size.
        Exception: what its decoder raises at damage.
    """
    syntax = runner.transfer_syntax
    if syntax in _JPEG and not source.rstrip(_PADDING).endswith(_END_OF_IMAGE):
        raise ValueError("the compressed frame is cut short: it has no end of image")
    size = size_of(source)
    if size is not None and size != (runner.rows, runner.columns):
        raise ValueError(f"a compressed frame of {size.rows} x {size.columns} pixels")
    if runner.samples_per_pixel > 1:
        return _by_pydicom(syntax)(source, runner)
    if runner.pixel_representation == 1 and syntax in {JPEGLSLossless, JPEGLSNearLossless}:
        # the sign stands where the header says: the frame may be of more bits than that
        precision = runner.get_option("jls_precision", runner.bits_stored)
        runner.set_option("jls_precision", min(precision, runner.bits_stored))
    pixels = _fast(syntax)(source)
    if pixels.shape != (runner.rows, runner.columns):
        raise ValueError(f"a compressed frame of shape {pixels.shape}")
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    return pixels.tobytes()


def size_of(source: bytes) -> Size | None:
    """Return the size in the header of a JPEG, JPEG-LS or JPEG 2000 frame; None without one."""
    if source.startswith(_START_OF_CODESTREAM):  # SIZ: right and lower end, then left and upper
        right, lower, left, upper = (
            int.from_bytes(source[at : at + 4], "big") for at in (8, 12, 16, 20)
        )
        return Size(lower - upper, right - left)
    at = len(_START_OF_IMAGE) if source.startswith(_START_OF_IMAGE) else len(source)
    while at + 9 <= len(source):
        if source[at + 1] in _FRAMES:
            rows, columns = source[at + 5 : at + 7], source[at + 7 : at + 9]
            return Size(int.from_bytes(rows, "big"), int.from_bytes(columns, "big"))
        at += 2 + int.from_bytes(source[at + 2 : at + 4], "big")
    return None


def _fast(syntax: UID) -> Decode:
    """Return the decoder of grey frames: it is fast and lets other threads run meanwhile."""
    import imagecodecs

    if syntax in {JPEGLossless, JPEGLosslessSV1}:
        return imagecodecs.jpeg8_decode
    if syntax in {JPEGLSLossless, JPEGLSNearLossless}:
        return imagecodecs.jpegls_decode
    return imagecodecs.jpeg2k_decode


def _by_pydicom(syntax: UID) -> Callable[[bytes, DecodeRunner], bytes | bytearray]:
    """Return pydicom's decoder of colours.

    Of JPEG-LS the one by CharLS, which tells damage: libjpeg gives some image instead.
    """
    from pydicom.pixels.decoders import pyjpegls, pylibjpeg

    is_ls = syntax in {JPEGLSLossless, JPEGLSNearLossless}
    # the entries that pydicom documents for its decoders
    return pyjpegls._decode_frame if is_ls else pylibjpeg._decode_frame  # noqa: SLF001
