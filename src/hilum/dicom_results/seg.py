"""Label maps as DICOM Segmentations, on the very frames of their source.

The rules are those of the readers: one segmentation a series and object, a reference to the source
series and from each frame to the source's, geometry copied character by character, no segment for
the background (what OHIF, 3D Slicer and PACS show; see ADR 20).
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.dicom.header import keep_quiet
from hilum.dicom.stack import open_stack
from hilum.dicom_results.findings import SegReference
from hilum.dicom_results.predecessor import name_predecessor, predecessor_of
from hilum.dicom_results.producer import finish
from hilum.dicom_results.remarks import remark
from hilum.dicom_results.repair import read_source_images
from hilum.dicom_results.seg_source import refer_to_source, single_frames
from hilum.dicom_results.segments import describe_segments
from hilum.dicom_results.uids import ObjectUids, derive_uid
from hilum.errors import GeometryError, LabelError, counted, find_named, some
from hilum.files.atomic import atomic_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from hilum.dicom.stack import OpenedStack
    from hilum.dicom_results.producer import Producer
    from hilum.dicom_results.repair import SourceImages
    from hilum.volume import LabelTable, Volume

_log = logging.getLogger("hilum")
Kind = Literal["auto", "binary", "labelmap"]
KINDS = {"auto": "", "binary": "BINARY", "labelmap": "LABELMAP"}
WHOLE_BYTES = 16
"""Binary frames are bits without a gap: where rows x columns is no multiple of this, frames begin
within a byte, which OHIF and servers that hand out single frames get wrong."""
MOST_IN_BINARY = 8
"""More labels than this are written as a label map: a binary segmentation has a frame for each
label on each slice, and viewers give up at some hundred frames."""
SOP_CLASSES = {
    "BINARY": "1.2.840.10008.5.1.4.1.1.66.4",
    "LABELMAP": "1.2.840.10008.5.1.4.1.1.66.7",
}
SERIES_NUMBER = 9200
"""SeriesNumber of segmentations."""
_LARGEST_SEGMENT = 2**8 - 1  # what OHIF holds


@dataclass(frozen=True)
class Segmentation:
    """A label map on its way to one DICOM Segmentation.

    Args:
        labels: (N, rows, columns) on the source's own frames, ids of `table`.
        table: what the integers mean.
        source: the images that were segmented.
        producer: the model.
        kind: "BINARY" or "LABELMAP".
        descriptions: words about a segment, by label id.
    """

    labels: NDArray[np.generic]
    table: LabelTable
    source: SourceImages
    producer: Producer
    kind: str
    descriptions: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        labels: Volume,
        table: LabelTable,
        stack: OpenedStack,
        source: SourceImages,
        producer: Producer,
        *,
        kind: Kind = "auto",
        descriptions: Mapping[int, str] | None = None,
    ) -> Segmentation:
        """Bring a label map onto the frames of its source.

        Raises:
            GeometryError: the labels do not lie on the grid of the source.
            LabelError: labels that the table does not name, or no label beside the background.
            UsageError: a kind that does not exist.
        """
        asked = find_named("kind", "kinds", kind, KINDS)
        if not labels.geometry.is_close(stack.geometry):
            raise GeometryError(
                f"the labels lie on another grid than {stack.source}",
                needed=f"labels on its grid of {stack.geometry.shape} voxels",
                cure="give the source that was segmented",
            )
        if not table.foreground:
            raise LabelError(
                "the label table has no label beside the background",
                needed="at least one label, which becomes a segment",
                cure="name the segmented labels in the label table",
            )
        array = stack.to_frames(labels.array[0])  # (N, rows, columns)
        unknown = sorted({*np.unique(array).tolist()} - {*table.ids})
        if unknown:
            raise LabelError(
                f"the labels for {stack.source} hold {some(map(str, unknown))}, which the label"
                " table does not name",
                needed=f"labels among {table.ids}",
                cure="name them in the label table, or correct the label map",
            )
        made = cls(array, table, source, producer, asked or "BINARY", descriptions or {})
        reason = "" if asked == "LABELMAP" else made.unfit_for_binary
        if reason and asked:
            remark(stack.source, f"{reason}; kind='labelmap' is safer")
        elif reason:
            binary = "viewers older than 2025 read kind='binary' alone"
            remark(stack.source, f"written as DICOM Label Map Segmentation: {reason}; {binary}")
            return replace(made, kind="LABELMAP")
        return made

    @property
    def unfit_for_binary(self) -> str:
        """The reason for which viewers have trouble with a binary segmentation; "" without one."""
        labels, (rows, columns) = len(self.table.foreground), self.labels.shape[1:]
        if labels > MOST_IN_BINARY:
            return f"{labels} labels, of which each has its own frames where it is binary"
        if rows * columns % WHOLE_BYTES:
            return f"binary frames of {rows} x {columns} pixels begin within a byte"
        return ""

    @property
    def numbers(self) -> dict[int, int]:
        """Number of the segment of each label id: in a label map of 8 bits the id itself."""
        ids = [label.id for label in self.table.foreground]
        if self.kind == "LABELMAP" and max(ids) <= _LARGEST_SEGMENT:
            return {number: number for number in ids}
        return {number: place for place, number in enumerate(ids, start=1)}

    @cached_property
    def uids(self) -> ObjectUids:
        """UIDs that follow from source, model and labels."""
        content = hashlib.sha256(self.table.model_dump_json().encode())
        content.update(f"{self.labels.shape}".encode())
        if self.descriptions:
            content.update(f"{sorted(self.descriptions.items())}".encode())
        for frame in self.labels:
            content.update(np.ascontiguousarray(frame, dtype="<i4").tobytes())
        return ObjectUids.of(
            "SEG",
            frames=[plane.key for plane in self.source.planes],
            model=f"{self.producer.model} {self.producer.version}",
            content=f"{self.kind} {content.hexdigest()}",
        )

    @property
    def reference(self) -> SegReference:
        """The object as others refer to it."""
        uids = self.uids
        return SegReference(uids.instance, uids.series, SOP_CLASSES[self.kind], self.numbers)

    def as_dataset(self) -> Dataset:
        """Make the DICOM object; made again it is the same, byte by byte."""
        from highdicom.seg import Segmentation as HighdicomSegmentation
        from pydicom.uid import ExplicitVRLittleEndian

        uids, numbers = self.uids, self.numbers
        pixels = self._pixels()
        places = range(len(pixels))
        if not pixels.any():  # one empty frame a segment says that it was looked for
            places = places[len(places) // 2 :][:1]
        names = ", ".join(label.name for label in self.table.foreground)
        with keep_quiet():
            made = HighdicomSegmentation(
                source_images=single_frames(self.source, places),
                pixel_array=pixels[places.start : places.stop],
                segmentation_type=self.kind,
                segment_descriptions=describe_segments(
                    self.table, numbers, self.source.series, self.producer, self.descriptions
                ),
                series_instance_uid=uids.series,
                series_number=SERIES_NUMBER,
                sop_instance_uid=uids.instance,
                instance_number=1,
                content_label="SEGMENTATION",
                content_description=f"hilum model {self.producer.model}"[:64],
                series_description=f"hilum: {names}"[:64],
                transfer_syntax_uid=ExplicitVRLittleEndian,
                omit_empty_frames=bool(pixels.any()),
                **self.producer.fields,
            )
            self._tidy(made, uids)
        return made

    def save(self, path: Path) -> None:
        """Write the object, completely or not at all.

        Where `path` holds an earlier segmentation of the same series by the same model, the new one
        names it as its predecessor.
        """
        data = self.as_dataset()
        earlier = predecessor_of(path, data)
        if earlier is not None:
            name_predecessor(data, earlier)
        with atomic_path(path) as temporary, keep_quiet():
            data.save_as(temporary, enforce_file_format=True)
        frames = counted(int(data.NumberOfFrames), "frame")
        _log.info("%s: %s of %s", path, frames, counted(len(self.numbers), "segment"))

    def _pixels(self) -> NDArray[np.generic]:
        """Number the labels as segments: (N, rows, columns)."""
        ids = np.array(self.table.ids)
        numbers = np.array([0, *self.numbers.values()])
        kind = np.uint8 if numbers.max() <= np.iinfo(np.uint8).max else np.uint16
        return np.asarray(numbers.astype(kind)[np.searchsorted(ids, self.labels)])

    def _tidy(self, made: Dataset, uids: ObjectUids) -> None:
        """Make what highdicom made follow from the source alone, and refer to its own frames."""
        refer_to_source(made, self.source)
        dimensions = derive_uid("dimensions", uids.instance)
        for item in (*made.DimensionIndexSequence, *made.DimensionOrganizationSequence):
            item.DimensionOrganizationUID = dimensions
        described = [item for item in made.SegmentSequence if item.SegmentNumber != 0]
        made.SegmentSequence = described  # without the background, which Slicer takes for a segment
        made.ContentCreatorName = None  # nobody
        first = self.source.planes[0]
        if not first.has_position:
            made.PatientOrientation = first.header.get("PatientOrientation")
        finish(made, self.source)


def write_segmentation(
    labels: Volume,
    table: LabelTable,
    source: Path,
    path: Path,
    *,
    producer: Producer,
    kind: Kind = "auto",
) -> SegReference:
    """Write a label map as a DICOM Segmentation, completely or not at all.

    A label map without a voxel of any label is written as one empty frame a segment: looked for and
    not found. An earlier version at `path` becomes the predecessor of the new one.

    Args:
        labels: (1, Z, Y, X) integers on the grid that `read_volume(source)` gives.
        table: what the integers mean: names, codes, colours.
        source: the DICOM series that was segmented, as `read_volume` takes it.
        path: of the file.
        producer: the model.
        kind: "binary", "labelmap", or "auto": binary of up to `MOST_IN_BINARY` labels.

    Raises:
        FormatError: the source is no DICOM, or does not say to which study it belongs.
        GeometryError: the labels do not lie on the source's grid.
        LabelError: labels that the table does not name.
        UsageError: a kind that does not exist.
    """
    stack = open_stack(source)
    images = read_source_images(stack.frames, spacing_mm=stack.geometry.spacing[0])
    made = Segmentation.of(labels, table, stack, images, producer, kind=kind)
    made.save(path)
    return made.reference
