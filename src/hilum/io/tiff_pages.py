"""The directories of a TIFF's pages, checked for completeness.

tifffile leaves out a page or a tag that lies beyond the end of a file and goes on without it: a
stack loses slices, and numbers of 8 bits are taken for bits.
"""

from __future__ import annotations

import struct
from typing import Any

_TYPE_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_DESCRIPTION = 270  # which some programs write empty
_NEEDED = {
    *(
        256,
        257,
        258,
        259,
        262,
        266,
        277,
        284,
        317,
        320,
        338,
        339,
    ),  # size, bits, compression, colours, samples, predictor
    *(273, 278, 279, 322, 323, 324, 325),  # strips and tiles
    *(_DESCRIPTION, 274, 282, 283, 296),  # description, orientation, resolution
}


def refuse_incomplete(file: Any) -> None:
    """Raise where an opened file lacks pages, or the tags of their pixels.

    Raises:
        ValueError: a directory or a tag lies beyond the end of the file, has an unknown type, or
            the list of pages is a circle.
    """
    stream, form = file.filehandle, file.tiff
    stream.seek(form.offsetsize if form.offsetsize == 8 else 4)
    offset = _number(stream.read(form.offsetsize), form.offsetformat)
    seen: set[int] = set()
    while offset:
        if offset in seen or offset >= stream.size:
            raise ValueError(f"the list of pages breaks off after page {len(seen)}")
        seen.add(offset)
        stream.seek(offset)
        count = _number(stream.read(form.tagnosize), form.tagnoformat)
        tags = stream.read(count * form.tagsize)
        for at in range(0, len(tags), form.tagsize):
            _refuse_lost(tags[at : at + form.tagsize], form, stream.size)
        offset = _number(stream.read(form.offsetsize), form.offsetformat)


def _number(data: bytes, layout: str) -> int:
    """Read one number of a directory."""
    if len(data) < struct.calcsize(layout):
        raise ValueError("a page's directory breaks off")
    return int(struct.unpack(layout, data)[0])


def _refuse_lost(entry: bytes, form: Any, size: int) -> None:
    """Raise where a tag that is needed has no readable value."""
    if len(entry) < form.tagsize:
        raise ValueError("a page's directory breaks off")
    code, kind = struct.unpack(f"{form.byteorder}HH", entry[:4])
    if code not in _NEEDED:
        return
    count = _number(entry[4 : 4 + form.offsetsize], form.offsetformat)
    taken = _TYPE_SIZES.get(kind, 0) * count
    start = _number(entry[-form.offsetsize :], form.offsetformat) if taken > form.offsetsize else 0
    if kind not in _TYPE_SIZES or (not count and code != _DESCRIPTION) or start + taken > size:
        raise ValueError(f"the value of tag {code} is not in the file")
