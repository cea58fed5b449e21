"""SEG and RTSTRUCT files with every attribute in the hand of the test."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from hilum.volume import Geometry

SEG, LABELMAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _items(*items: Dataset) -> Sequence:
    return Sequence(list(items))


def _object(sop_class: str, modality: str, **values: Any) -> Dataset:
    data = _item(SOPClassUID=sop_class, SOPInstanceUID=generate_uid(), Modality=modality)
    data.PatientID, data.StudyInstanceUID, data.SeriesInstanceUID = "p", "1.2.4", generate_uid()
    data.SeriesNumber = 9
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = sop_class
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    for keyword, value in values.items():
        setattr(data, keyword, value)
    return data


def series_uid(files: list[Path]) -> str:
    """SeriesInstanceUID of the images."""
    return str(pydicom.dcmread(files[0]).SeriesInstanceUID)


def code(value: str, meaning: str, scheme: str = "SCT") -> Sequence:
    """A coded concept."""
    return _items(_item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning))


def segment(number: int, name: str, **values: Any) -> Dataset:
    """The description of a segment."""
    return _item(SegmentNumber=number, SegmentLabel=name, **values)


def seg_frame(number: int | None, position: Any, **groups: Any) -> Dataset:
    """The functional groups of one frame."""
    where = _items(_item(ImagePositionPatient=[f"{v:.10g}" for v in position]))
    frame = _item(PlanePositionSequence=where)
    if number is not None:
        frame.SegmentIdentificationSequence = _items(_item(ReferencedSegmentNumber=number))
    for keyword, value in groups.items():
        setattr(frame, keyword, value)
    return frame


def write_seg(
    path: Path,
    grid: Geometry,
    frames: list[tuple[int | None, float, np.ndarray]],
    segments: list[Dataset],
    *,
    series: str | None = None,
    kind: str = "BINARY",
    syntax: Any = None,
    **values: Any,
) -> Path:
    """Write a SEG.

    Args:
        path: where to.
        grid: whose rows and columns the frames have.
        frames: number of the segment, slice of the grid, pixels.
        segments: their descriptions.
        series: that it refers to; None refers to none.
        kind: BINARY, FRACTIONAL or LABELMAP.
        syntax: to compress with.
        values: override attributes.
    """
    data = _object(LABELMAP if kind == "LABELMAP" else SEG, "SEG", SegmentationType=kind)
    if series is not None:
        data.ReferencedSeriesSequence = _items(_item(SeriesInstanceUID=series))
    data.FrameOfReferenceUID = grid.frame_of_reference or "1.2.3"
    data.Rows, data.Columns = frames[0][2].shape
    data.NumberOfFrames, data.SamplesPerPixel = len(frames), 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = 1 if kind == "BINARY" else 8
    data.HighBit = data.BitsStored - 1
    if kind == "FRACTIONAL":
        data.SegmentationFractionalType, data.MaximumFractionalValue = "OCCUPANCY", 200
    data.SegmentSequence = Sequence(segments)
    turned = (*grid.directions[:, 2], *grid.directions[:, 1])
    data.SharedFunctionalGroupsSequence = _items(
        _item(
            PlaneOrientationSequence=_items(
                _item(ImageOrientationPatient=[f"{v:.14f}"[:16] for v in turned])
            ),
            PixelMeasuresSequence=_items(
                _item(
                    PixelSpacing=[f"{v:.10g}" for v in grid.spacing[1:]],
                    SliceThickness=f"{grid.spacing[0]:.10g}",
                )
            ),
        )
    )
    data.PerFrameFunctionalGroupsSequence = Sequence(
        [seg_frame(n, grid.index_to_world((z, 0, 0))) for n, z, _ in frames]
    )
    pixels = np.stack([one for *_, one in frames]).astype(np.uint8)
    stored = np.packbits(pixels.ravel(), bitorder="little") if kind == "BINARY" else pixels.ravel()
    data.PixelData = stored.tobytes() + b"\0" * (len(stored) % 2)
    for keyword, value in values.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    if syntax is not None and syntax.is_encapsulated:
        data.compress(syntax)
    elif syntax is not None:
        data.file_meta.TransferSyntaxUID = syntax
    data.save_as(path, enforce_file_format=True)
    return path


def contour(points: Any, kind: str = "CLOSED_PLANAR") -> Dataset:
    """A contour through points in LPS millimetres."""
    flat = np.asarray(points, dtype=float).ravel()
    item = _item(ContourGeometricType=kind, NumberOfContourPoints=len(flat) // 3)
    item.ContourData = [f"{v:.6f}" for v in flat]
    return item


def on_slice(grid: Geometry, z: float, places: Any) -> np.ndarray:
    """(row, column) places of a slice in LPS millimetres."""
    places = np.asarray(places, dtype=float)
    return grid.index_to_world(np.column_stack([np.full(len(places), z), places]))


def structure(
    number: int,
    name: str,
    contours: list[Dataset] | None,
    *,
    colour: tuple[int, int, int] | None = None,
    frame_of_reference: str = "1.2.3",
) -> tuple[Dataset, Dataset | None]:
    """A structure and its contours; None where it has no item of contours at all."""
    own = _item(ROINumber=number, ROIName=name, ReferencedFrameOfReferenceUID=frame_of_reference)
    if contours is None:
        return own, None
    drawn = _item(ReferencedROINumber=number)
    if colour is not None:
        drawn.ROIDisplayColor = list(colour)
    if contours:
        drawn.ContourSequence = Sequence(contours)
    return own, drawn


def write_rtstruct(
    path: Path,
    structures: list[tuple[Dataset, Dataset | None]],
    *,
    series: str | None = None,
    **values: Any,
) -> Path:
    """Write an RTSTRUCT; `series` is the one that it refers to, None refers to none."""
    data = _object(RTSTRUCT, "RTSTRUCT", StructureSetLabel="test")
    frame = _item(FrameOfReferenceUID="1.2.3")
    if series is not None:
        study = _item(RTReferencedSeriesSequence=_items(_item(SeriesInstanceUID=series)))
        frame.RTReferencedStudySequence = _items(study)
    data.ReferencedFrameOfReferenceSequence = _items(frame)
    data.StructureSetROISequence = Sequence([own for own, _ in structures])
    data.ROIContourSequence = Sequence([drawn for _, drawn in structures if drawn is not None])
    data.RTROIObservationsSequence = Sequence([])
    for keyword, value in values.items():
        setattr(data, keyword, value)
    data.save_as(path, enforce_file_format=True)
    return path
