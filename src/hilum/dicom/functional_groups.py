"""Headers of the frames of an enhanced multi-frame file: what is shared, and what each has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.dicom.header import tag_of
from hilum.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

_GROUPS = (
    *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
    *("PixelValueTransformationSequence", "FrameContentSequence", "CTImageFrameTypeSequence"),
    *("MRImageFrameTypeSequence", "PETFrameTypeSequence", "CTReconstructionSequence"),
    *("CTXRayDetailsSequence", "MREchoSequence", "MRModifierSequence", "MRDiffusionSequence"),
    *("CardiacSynchronizationSequence", "TemporalPositionSequence"),
    "XRay3DFrameTypeSequence",
)
"""Functional groups that hold what a classic file states at its top (PS3.3 C.7.6.16.2)."""

_INNER = ("DiffusionGradientDirectionSequence",)


class FrameHeader:
    """The header of one frame, as if it were a file of its own.

    Args:
        layers: data sets; what a later one states counts.

    Attributes:
        holders: the data set that states a tag, by tag.
    """

    def __init__(self, *layers: Dataset | FrameHeader) -> None:
        self.holders: dict[int, Dataset] = {}
        for layer in layers:
            if isinstance(layer, FrameHeader):
                self.holders |= layer.holders
            else:
                self.holders |= dict.fromkeys(map(int, layer.keys()), layer)

    def __contains__(self, tag: str | int) -> bool:
        return int(tag_of(tag)) in self.holders

    def __getitem__(self, tag: str | int) -> DataElement:
        number = tag_of(tag)
        return self.holders[int(number)][number]


def frame_headers(header: Dataset, path: Path) -> list[FrameHeader]:
    """Make the header of each frame of a file; one of a file without functional groups.

    Raises:
        FormatError: there are not as many frames as headers of frames.
    """
    plain = FrameHeader(header)
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if not frames:
        return [plain]
    count = int(header.get("NumberOfFrames") or 1)
    if len(frames) != count:
        raise FormatError(
            f"{path}: it has {count} frames, and {len(frames)} items that describe frames",
            needed="one item of PerFrameFunctionalGroupsSequence for each frame",
            cure="export the series again from the source",
        )
    shared = header.get("SharedFunctionalGroupsSequence") or ()
    common = FrameHeader(plain, *(group for item in shared for group in _groups(item)))
    return [FrameHeader(common, *_groups(item)) for item in frames]


def _groups(item: Dataset) -> list[Dataset]:
    """List the data sets of an item's functional groups."""
    found: list[Dataset] = []
    for keyword in _GROUPS:
        for group in item.get(keyword) or ():
            found.append(group)
            found += [one for inner in _INNER for one in group.get(inner) or ()]
    return found
