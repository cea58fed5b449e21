"""Decoding of pixels, and their conversion to real values."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hilum.dicom.codecs import decoder_of
from hilum.dicom.header import read_file
from hilum.errors import FormatError
from hilum.files.record import damage_refused, plain_array, refuse_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from hilum.dicom.frames import Frame

_PIXEL_DATA = bytes.fromhex("e07f1000")
_CURE = "export the series again from the source"
_THREADS = 2  # of decoders that release Python's lock, as copying does; more do not help


def dtype_of(frames: Sequence[Frame]) -> np.dtype[np.generic]:
    """Return the dtype after rescaling: as stored, int16 or int32 if whole, else float32."""
    bits, signed = max(f.file.bits for f in frames), any(f.file.signed for f in frames)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    rescales = {frame.rescale for frame in frames}
    ends = [slope * end + intercept for slope, intercept in rescales for end in (low, high)]
    if not frames[0].placed and (min(ends), max(ends)) == (low, high):  # as stored, or inverted
        return np.min_scalar_type(low if signed else high)
    if rescales == {(1.0, 0.0)}:
        return np.min_scalar_type(low if signed else high)
    if not all(number.is_integer() for rescale in rescales for number in rescale):
        return np.dtype(np.float32)
    for dtype in (np.int16, np.int32):
        if np.iinfo(dtype).min <= min(ends) and max(ends) <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.float32)


def read_grey(frames: Sequence[Frame]) -> NDArray[np.generic]:
    """Decode and rescale grey frames of one size, in their order.

    Pixels that stand for no measurement (padding) get the lowest value of the others.

    Returns:
        (N, rows, columns) of `dtype_of(frames)`.

    Raises:
        FormatError: they cannot be decoded, or are not what the header says.
        ResourceError: this machine's memory cannot hold them.
    """
    dtype, shape = dtype_of(frames), (len(frames), *frames[0].shape)
    refuse_size(frames[0].path, int(np.prod(shape)) * dtype.itemsize, stored=None)
    array = np.empty(shape, dtype=dtype)
    by_file: dict[int, list[int]] = {}
    for place, frame in enumerate(frames):
        by_file.setdefault(id(frame.file), []).append(place)
    fill = partial(_fill, array, frames)
    with ThreadPoolExecutor(_THREADS) as threads:
        found = dict(one for part in threads.map(fill, by_file.values()) for one in part)
    _fill_padding(array, {place: bits for place, bits in found.items() if bits is not None})
    return array


def read_colours(frame: Frame) -> NDArray[np.generic]:
    """Decode the colours of a picture, those of a palette too: (rows, columns, 3)."""
    data = _open(frame)
    _refuse_surplus(frame, data, None)
    with _decoding(frame, data):
        _, pixels = next(_decoded(data, [frame.index], raw=False))
        if data.PhotometricInterpretation == "PALETTE COLOR":
            pixels = _by_palette(pixels, data)
    _refuse_shape(frame, pixels, (*frame.shape, 3))
    return plain_array(frame.path, pixels)


def _by_palette(pixels: NDArray[np.generic], data: Dataset) -> NDArray[np.generic]:
    """Look up colours of 8 bits."""
    from pydicom.pixels.processing import apply_color_lut

    if not data.file_meta.TransferSyntaxUID.is_little_endian:  # pydicom reads tables as if it were
        tables = [f"{name}PaletteColorLookupTableData" for name in ("Red", "Green", "Blue")]
        for table in (data[keyword] for keyword in tables if keyword in data):
            table.value = np.frombuffer(table.value, ">u2").astype("<u2").tobytes()
    colours = apply_color_lut(pixels, data)[..., :3]
    if colours.dtype.itemsize > 1 and colours.max() > np.iinfo(np.uint8).max:
        colours = np.right_shift(colours, 8)
    return colours.astype(np.uint8)


def _fill(
    array: NDArray[np.generic], frames: Sequence[Frame], places: Sequence[int]
) -> list[tuple[int, NDArray[np.uint8] | None]]:
    """Decode the frames of one file into their places.

    Returns:
        For each its place, and which pixels are padding, in packed bits; None for none.
    """
    place_of = {frames[place].index: place for place in places}
    first, found = frames[places[0]], []
    plain = _plain_pixels(first)
    data = _open(first) if plain is None else first.file.header
    _refuse_surplus(first, data, plain)
    options = {"correct_unused_bits": False} if _padding_is_beyond(first) else {}
    with _decoding(first, data):
        for index, pixels in _decoded(data, sorted(place_of), raw=True, plain=plain, **options):
            frame, target = frames[place_of[index]], array[place_of[index]]
            _refuse_shape(frame, pixels, target.shape)
            used = pixels
            if options:  # take away what is in the bits that are not stored (PS3.5 8.1.1)
                unused = 8 * pixels.dtype.itemsize - frame.file.bits
                used = np.asarray(np.right_shift(np.left_shift(pixels, unused), unused))
            _rescale(target, used, frame)
            found.append((place_of[index], _padding_of(frame, pixels)))
    return found


def _padding_is_beyond(frame: Frame) -> bool:
    """Return True where padding takes more bits than are stored: without them it looks like data.

    So is -2000 in pixels of 12 bits without sign.
    """
    bits, signed, padding = frame.file.bits, frame.file.signed, frame.file.padding
    lowest = -(1 << (bits - 1)) if signed else 0
    return padding is not None and not lowest <= padding[0] <= padding[1] < lowest + (1 << bits)


def _plain_pixels(frame: Frame) -> bytes | None:
    """Read the bytes of little-endian pixels that are not compressed; None of others."""
    encoding, at = frame.file.header.file_meta.TransferSyntaxUID, frame.file.pixels_at
    if at is None or encoding.is_encapsulated or not encoding.is_little_endian:
        return None
    with frame.path.open("rb") as stream:
        stream.seek(at)
        head = stream.read(12)  # of an explicit element: tag 4, VR 2, unused 2, length 4
        if head[:4] != _PIXEL_DATA:
            return None
        if encoding.is_implicit_VR:
            stream.seek(at + 8)
            return stream.read(int.from_bytes(head[4:8], "little"))
        # another VR has another header, or is damaged: pydicom reads or refuses it
        is_plain = head[4:6] in {b"OB", b"OW"}
        return stream.read(int.from_bytes(head[8:], "little")) if is_plain else None


def _open(frame: Frame) -> Dataset:
    """Read a whole file, after a look at what its pixels can take."""
    from pydicom.uid import RLETransferSyntaxes

    header, path = frame.file.header, frame.path
    encoding = header.file_meta.TransferSyntaxUID
    free = encoding.is_deflated or (
        encoding.is_encapsulated and encoding not in RLETransferSyntaxes
    )  # JPEG and deflate have no bound
    allocated = int(header.get("BitsAllocated") or 16) // 8 or 1
    size = int(np.prod(frame.shape)) * frame.file.frames * frame.acquisition.samples * allocated
    refuse_size(path, size, stored=None if free else path)
    with damage_refused(path, "DICOM"):
        return read_file(path)


def _refuse_surplus(frame: Frame, data: Dataset, plain: bytes | None) -> None:
    """Refuse plain pixels that are more than the header counts: its size is not theirs."""
    if data.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    stored = data.PixelData if plain is None else plain
    numbers = int(np.prod(frame.shape)) * frame.file.frames * frame.acquisition.samples
    expected = (numbers * int(data.BitsAllocated) + 7) // 8
    if data.PhotometricInterpretation == "YBR_FULL_422":  # two of three samples of each pair
        expected = expected * 2 // 3
    refuse_bytes_beyond(frame.path, stored, expected)


def refuse_bytes_beyond(path: Path, stored: bytes, expected: int) -> None:
    """Raise at plain pixels beyond those that a header counts; zeros at the end are padding."""
    expected += expected % 2  # pixel data end on an even byte (PS3.5 8.1.1)
    if any(stored[expected:]):
        raise FormatError(
            f"{path} holds {len(stored)} bytes of pixels, where its header counts {expected}",
            needed="Rows, Columns and NumberOfFrames that fit the pixels",
            cure="export the series again from the source",
        )


def _decoding(frame: Frame, data: Dataset) -> AbstractContextManager[None]:
    """Refuse pixels on which a decoder fails."""
    name = data.file_meta.TransferSyntaxUID.name
    cure = "export the series uncompressed, or run `gdcmconv --raw` on it"
    return damage_refused(frame.path, f"DICOM pixels in {name}", cure=cure)


def _decoded(
    data: Dataset,
    indices: Sequence[int],
    *,
    raw: bool,
    plain: bytes | None = None,
    **settings: bool,
) -> Iterator[tuple[int, NDArray[np.generic]]]:
    """Decode frames of a file one after another, from `plain` where its bytes are there.

    `settings` are pydicom's own.
    """
    from pydicom.pixels.utils import as_pixel_options

    decoder = decoder_of(data.file_meta.TransferSyntaxUID)
    options = {} if plain is None else as_pixel_options(data, pixel_keyword="PixelData")
    options |= settings
    source = data if plain is None else plain
    if int(data.get("NumberOfFrames") or 1) == 1:
        yield indices[0], decoder.as_array(source, raw=raw, **options)[0]
        return
    frames = decoder.iter_array(source, indices=list(indices), raw=raw, **options)
    yield from zip(indices, (pixels for pixels, _ in frames), strict=True)


def _refuse_shape(frame: Frame, pixels: NDArray[np.generic], shape: tuple[int, ...]) -> None:
    """Raise at pixels of another shape than the header says."""
    if pixels.shape != shape:
        raise FormatError(
            f"{frame.path}: pixels of shape {pixels.shape}",
            needed=f"{shape}, as the header says",
            cure=_CURE,
        )


def _rescale(target: NDArray[np.generic], pixels: NDArray[np.generic], frame: Frame) -> None:
    """Write stored numbers as real values."""
    slope, intercept = frame.rescale
    ends = [float(end) * slope + intercept for end in (pixels.min(), pixels.max())]
    whole = target.dtype.kind in "iu"
    limits = np.iinfo(target.dtype.name) if whole else None
    if limits and (min(ends) < limits.min or max(ends) > limits.max):
        raise FormatError(
            f"{frame.path}: pixels do not fit into the {frame.file.bits} bits that the"
            " header states",
            needed="a true BitsStored",
            cure=_CURE,
        )
    if (slope, intercept) == (1, 0):
        target[...] = pixels
    elif whole:  # integers wrap around on the way, and are right at its end
        factor, shift = (np.array(int(n)).astype(target.dtype) for n in (slope, intercept))
        np.multiply(pixels, factor, out=target, casting="unsafe", dtype=target.dtype)
        np.add(target, shift, out=target)
    else:
        target[...] = pixels.astype(np.float64) * slope + intercept


def _padding_of(frame: Frame, pixels: NDArray[np.generic]) -> NDArray[np.uint8] | None:
    """Find the pixels that stand for no measurement, in packed bits; None where there are none."""
    if frame.file.padding is None:
        return None
    low, high = frame.file.padding
    empty = np.greater_equal(pixels, low) & np.less_equal(pixels, high)
    return np.packbits(empty) if empty.any() else None


def _fill_padding(array: NDArray[np.generic], empty: dict[int, NDArray[np.uint8]]) -> None:
    """Give pixels without measurement the lowest value of the others, where there are others."""
    shape, size = array.shape[1:], array[0].size
    masks = {
        place: np.unpackbits(bits, count=size).astype(bool).reshape(shape)
        for place, bits in empty.items()
    }
    if not masks:
        return
    kept = [one[~masks[n]] if n in masks else one for n, one in enumerate(array)]
    lowest = min((one.min() for one in kept if one.size), default=None)
    for place, mask in masks.items() if lowest is not None else ():
        array[place][mask] = lowest
