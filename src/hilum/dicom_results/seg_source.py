"""The source of a segmentation, as highdicom takes it and as readers want it referred to."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from hilum.dicom_results.repair import reference_to
from hilum.dicom_results.source_rules import PLANE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

    from hilum.dicom_results.repair import SourceImages

_WITH_POSITION = "1.2.840.10008.5.1.4.1.1.2"  # CT Image Storage
_WITHOUT = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture Image Storage
_FUNCTIONAL_GROUPS = 0x5200
"""Group of the elements of frames in a multi-frame file."""
_PLACE = "0.0."
"""Begins the UID that stands for a plane until `refer_to_source` puts the true one there: no root
that is given to anybody."""


def single_frames(source: SourceImages, places: Sequence[int]) -> list[Dataset]:
    """Make single-frame images of planes, also of those in a multi-frame file.

    highdicom takes one multi-frame file, or many single-frame ones of a class that it knows. These
    have all of the source that it copies or asks for; their UIDs are the planes' places.

    Args:
        source: the images.
        places: of the planes among those of the source.
    """
    from pydicom.dataset import Dataset

    views: list[Dataset] = []
    for place in places:
        plane, view = source.planes[place], Dataset()
        header = plane.header
        if not views:  # patient and study are copied from the first one
            # a dataset iterates over elements
            tags = header.keys()
            copied = (tag for tag in tags if tag.group < _FUNCTIONAL_GROUPS)
            view.update({tag: deepcopy(header[tag]) for tag in copied})
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns", "Modality"):
            setattr(view, keyword, header[keyword].value)
        for keyword in PLANE:
            view.pop(keyword, None)
        if plane.has_position:
            view.update(plane.geometry)
            view.FrameOfReferenceUID = header.FrameOfReferenceUID
        else:
            view.pop("FrameOfReferenceUID", None)
        view.SOPClassUID = _WITH_POSITION if plane.has_position else _WITHOUT
        view.SOPInstanceUID = f"{_PLACE}{place}"
        views.append(view)
    return views


def refer_to_source(made: Dataset, source: SourceImages) -> None:
    """Put true files and frame numbers where `single_frames` gave places; list all files."""
    for item in made.PerFrameFunctionalGroupsSequence:
        for derivation in item.get("DerivationImageSequence") or ():
            for reference in derivation.SourceImageSequence:
                place = str(reference.ReferencedSOPInstanceUID)
                if place.startswith(_PLACE):  # frames of one plane share their reference
                    number = int(place.removeprefix(_PLACE))
                    plane = source.planes[number]
                    reference.update(reference_to(plane.header, plane.number))
    made.SourceImageSequence = [reference_to(header) for header in source.headers]
    made.ReferencedSeriesSequence[0].SeriesInstanceUID = source.series
    made.ReferencedSeriesSequence[0].ReferencedInstanceSequence = [
        reference_to(header) for header in source.headers
    ]
