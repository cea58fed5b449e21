"""Unique identifiers that follow from what an object says.

The same source, model and content give the same UIDs: whoever sends a result again sends the same
object, and a PACS keeps it once. One slice more in the source gives others.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_ROOT = "2.25"
"""Root of the UIDs that are made of a UUID (PS3.5 B.2); nobody has to register them."""


def derive_uid(*parts: str) -> str:
    """Derive a UID from texts by SHA-256; other texts, or the same in another order, give another.

    The first 128 bits of the hash become a UUID of version 8 (RFC 9562), its number a UID.
    """
    hashed = hashlib.sha256()
    for part in parts:
        text = part.encode()
        hashed.update(f"{len(text)}:".encode() + text)
    bits = int.from_bytes(hashed.digest()[:16], "big")
    bits = bits & ~(0xF << 76) | 8 << 76  # version
    bits = bits & ~(0x3 << 62) | 0x2 << 62  # variant
    return f"{_ROOT}.{uuid.UUID(int=bits).int}"


@dataclass(frozen=True)
class ObjectUids:
    """The UIDs of an object that is written about source images.

    Args:
        instance: SOPInstanceUID.
        series: SeriesInstanceUID: each object has a series of its own, as viewers show one object a
            series.
    """

    instance: str
    series: str

    @classmethod
    def of(cls, kind: str, *, frames: Iterable[str], model: str, content: str) -> ObjectUids:
        """Derive the UIDs of an object.

        Args:
            kind: of object ("SEG", "SR").
            frames: SOPInstanceUID of each source frame, with its number in a multi-frame file; a
                set: their order does not count.
            model: id of the model.
            content: digest of all that the object says.
        """
        instance = derive_uid("instance", kind, model, content, *sorted(frames))
        return cls(instance, derive_uid("series", instance))


def tracking_uid(series: str, model: str, name: str) -> str:
    """Derive the tracking UID of a finding: the same for each version of a result.

    Args:
        series: SeriesInstanceUID of the source.
        model: id of the model.
        name: of the finding, unique among those of the model in the series.
    """
    return derive_uid("tracking", series, model, name)
