"""The storage of TIFF: directories checked for completeness, strips and tiles decoded.

tifffile leaves out a page or a tag that lies beyond the end of a file and goes on without it: a
stack loses slices, and numbers of 8 bits are taken for bits. It decodes LZW, zstd, odd bits and the
float predictor only with a further package, and Pillow cuts 16 bits a colour to 8 and takes
unsigned numbers for signed; these are decoded here.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import numpy as np

from hilum.io.picture import no_pixel_limit

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tifffile import TiffFile, TiffPage

_HORIZONTAL, _FLOATING_POINT = 2, 3  # Predictor
_SEPARATE = 2  # PlanarConfiguration
_WHOLE_BYTES = {8, 16, 32, 64}
_DESCRIPTION = 270  # which some programs write empty
_NEEDED = {
    # size, bits, compression, colours, samples, predictor
    *(256, 257, 258, 259, 262, 266, 277, 284, 317, 320, 338, 339),
    *(273, 278, 279, 322, 323, 324, 325),  # strips and tiles
    *(_DESCRIPTION, 274, 282, 283, 296),  # description, orientation, resolution
}


def refuse_incomplete(file: TiffFile) -> None:
    """Raise where an opened file lacks pages, or the tags of their pixels.

    Raises:
        ValueError: a tag lies beyond the end of the file or has an unknown type, or the list of
            pages breaks off or is a circle.
        struct.error: a directory breaks off.
    """
    from tifffile import TIFF

    stream, form, visited = file.filehandle, file.tiff, set[int]()

    def number(layout: str, data: bytes) -> int:
        return int(struct.unpack(layout, data)[0])

    stream.seek(form.offsetsize if form.offsetsize == 8 else 4)
    offset = number(form.offsetformat, stream.read(form.offsetsize))
    while offset:
        if offset in visited or offset >= stream.size:
            raise ValueError(f"the list of pages breaks off after page {len(visited)}")
        visited.add(offset)
        stream.seek(offset)
        for _ in range(number(form.tagnoformat, stream.read(form.tagnosize))):
            entry = stream.read(form.tagsize)
            code, kind, count, value = struct.unpack(form.tagheaderformat, entry)
            size = struct.calcsize(TIFF.DATA_FORMATS.get(kind, "")) * count
            end = size + (number(form.offsetformat, value) if size > form.offsetsize else 0)
            if code in _NEEDED and (
                kind not in TIFF.DATA_FORMATS
                or (not count and code != _DESCRIPTION)
                or end > stream.size
            ):
                raise ValueError(f"the value of tag {code} is not in the file")
        offset = number(form.offsetformat, stream.read(form.offsetsize))


def decode_pages(file: TiffFile, pages: list[TiffPage]) -> NDArray[np.generic]:
    """Decode flat pages of an opened file, whose bits are in order.

    Returns:
        (pages, rows, columns, samples), or (pages, samples, rows, columns) where the planes are
        stored one after the other.

    Raises:
        KeyError: a compression that is not decoded here.
        ValueError: a strip that is cut short.
    """
    return np.stack([_page(file, page) for page in pages])


def _page(file: TiffFile, page: TiffPage) -> NDArray[np.generic]:
    """Decode one page: (rows, columns, samples) or (samples, rows, columns)."""
    strip = min(page.rowsperstrip, page.imagelength)  # a single strip may claim 2^32 - 1 rows
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (strip, page.imagewidth)
    planes = page.samplesperpixel if page.planarconfig == _SEPARATE else 1
    samples = page.samplesperpixel // planes
    down, across = -(-page.imagelength // height), -(-page.imagewidth // width)
    size = (planes, down * height, across * width, samples)
    whole = np.zeros(size, dtype=np.dtype(page.dtype).newbyteorder("="))
    for number, (offset, count) in enumerate(
        zip(page.dataoffsets, page.databytecounts, strict=True)
    ):
        plane, (row, column) = number // (down * across), divmod(number % (down * across), across)
        rows = height if page.is_tiled else min(height, page.imagelength - row * height)
        file.filehandle.seek(offset)
        needed = -(-width * samples * page.bitspersample // 8) * rows
        data = _decompress(file.filehandle.read(count), page.compression, needed)
        whole[plane, row * height :, column * width :][:rows, :width] = _numbers(
            data, page, (rows, width, samples)
        )
    cut = whole[:, : page.imagelength, : page.imagewidth]
    return cut[..., 0] if planes > 1 else cut[0]


def _decompress(data: bytes, compression: int, size: int) -> bytes:
    """Undo the compression of one strip or tile of `size` bytes."""
    import tifffile

    if compression in {tifffile.COMPRESSION.LZW, tifffile.COMPRESSION.ZSTD}:
        whole = _by_pillow(data, int(compression), size)
    else:
        whole = bytes(tifffile.TIFF.DECOMPRESSORS[compression](data))
    if len(whole) < size:
        raise ValueError(f"a strip of {len(whole)} bytes, where {size} are needed")
    return whole[:size]


def _by_pillow(data: bytes, compression: int, size: int) -> bytes:
    """Undo LZW or zstd by Pillow, as an 8-bit grey picture of one row and one strip."""
    import PIL.Image

    tags = {256: size, 257: 1, 258: 8, 259: compression, 262: 1, 273: 0, 277: 1, 278: 1}
    tags[279] = len(data)
    tags[273] = 8 + 2 + 12 * len(tags) + 4  # the strip stands behind the header and this directory
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags.items())
    file = b"II*\0" + struct.pack("<LH", 8, len(tags)) + entries + bytes(4) + data
    with no_pixel_limit(), PIL.Image.open(io.BytesIO(file)) as image:
        return image.tobytes()


def _numbers(data: bytes, page: TiffPage, shape: tuple[int, int, int]) -> NDArray[np.generic]:
    """Turn a strip's or tile's bytes into (rows, columns, samples), undoing the predictor."""
    rows, columns, samples = shape
    if page.bitspersample not in _WHOLE_BYTES:
        if page.predictor == _HORIZONTAL:
            raise ValueError(f"a predictor with {page.bitspersample} bits a sample is not decoded")
        # each row begins at a whole byte
        bits = np.unpackbits(np.frombuffer(data, np.uint8).reshape(rows, -1), axis=1)
        bits = bits[:, : columns * samples * page.bitspersample].reshape(
            rows, columns, samples, page.bitspersample
        )
        return bits @ (1 << np.arange(page.bitspersample, dtype=np.int64)[::-1])
    if page.predictor == _FLOATING_POINT:
        # bytes of all numbers of a row, most significant first, each the difference to the last
        size = page.bitspersample // 8
        steps = np.frombuffer(data, np.uint8).reshape(rows, size * columns, samples)
        planes = np.cumsum(steps, axis=1, dtype=np.uint8).reshape(rows, size, columns * samples)
        stored = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">f{size}")
        return stored.reshape(shape)
    stored = np.frombuffer(data, np.dtype(page.dtype).newbyteorder(page.parent.byteorder)).reshape(
        shape
    )
    if page.predictor != _HORIZONTAL:
        return stored
    unsigned = stored.astype(stored.dtype.newbyteorder("=")).view(f"u{stored.dtype.itemsize}")
    return np.cumsum(unsigned, axis=1, dtype=unsigned.dtype).view(stored.dtype.newbyteorder("="))
