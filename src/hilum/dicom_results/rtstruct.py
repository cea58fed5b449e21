"""Label maps as RT structure sets, with contours along the voxels' borders.

Filled again such contours give the label map back, voxel by voxel. Holes are joined in by keyholes,
so that programs that fill each contour by itself keep them too (ADR 19).
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

import numpy as np

from hilum.dicom.frame_grid import FrameGrid
from hilum.dicom.stack import open_stack
from hilum.dicom_results.producer import MANUFACTURER, UTF_8, finish, save
from hilum.dicom_results.repair import read_source_images, reference_to
from hilum.dicom_results.trace import trace
from hilum.dicom_results.uids import ObjectUids
from hilum.errors import FormatError, GeometryError, LabelError, counted, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from hilum.dicom.stack import OpenedStack
    from hilum.dicom_results.producer import Producer
    from hilum.dicom_results.repair import Plane, SourceImages
    from hilum.volume import Label, LabelTable, Volume

_log = logging.getLogger("hilum")
SOP_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
SERIES_NUMBER = 9203
"""SeriesNumber of structure sets."""
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management: retired, and still what a reference to a study names."""
_COPIED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID"),
    *("StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber"),
    *("ReferringPhysicianName", "FrameOfReferenceUID", "PositionReferenceIndicator"),
)
"""Elements of patient, study and frame of reference, which are those of the source."""
_CHARACTERS = 64
"""Most characters of a name."""


def write_rtstruct(
    labels: Volume, table: LabelTable, source: Path, path: Path, *, producer: Producer
) -> None:
    """Write a label map as an RTSTRUCT, completely or not at all.

    A label without a voxel is a structure without contours: looked for and not found.

    Args:
        labels: (1, Z, Y, X) integers on the grid that `read_volume(source)` gives.
        table: what the integers mean: names, codes, colours.
        source: the DICOM series that was segmented, as `read_volume` takes it.
        path: of the file.
        producer: the model.

    Raises:
        FormatError: the source is no DICOM, or has no position in the patient.
        GeometryError: the labels do not lie on the source's grid.
        LabelError: labels that the table does not name.
    """
    stack = open_stack(source)
    images = read_source_images(stack.frames, spacing_mm=stack.geometry.spacing[0])
    save(make_rtstruct(labels, table, stack, images, producer), path)
    structures = counted(len(table.foreground), "structure")
    _log.info("%s: %s in contours along the voxels' borders", path, structures)


def make_rtstruct(
    labels: Volume,
    table: LabelTable,
    stack: OpenedStack,
    images: SourceImages,
    producer: Producer,
) -> Dataset:
    """Make the RTSTRUCT of a label map; made again it is the same.

    Args:
        labels: (1, Z, Y, X) integers on the grid of `stack`.
        table: what the integers mean.
        stack: the series that was segmented.
        images: its headers, repaired.
        producer: the model.

    Raises:
        FormatError: the images have no position in the patient.
        GeometryError: the labels do not lie on the grid of `stack`.
        LabelError: labels that the table does not name.
    """
    if not labels.geometry.is_close(stack.geometry):
        raise GeometryError(
            f"the labels lie on another grid than {stack.source}",
            needed="labels on the grid of the images that they are of",
            cure="resample them onto it",
        )
    unknown = sorted({*np.unique(labels.array).tolist()} - {*table.ids})
    if unknown:
        raise LabelError(
            f"the labels for {stack.source} hold {some(map(str, unknown))}, which the label table"
            " does not name",
            needed=f"labels among {table.ids}",
            cure="name them in the label table, or correct the label map",
        )
    if not all(plane.has_position for plane in images.planes):
        raise FormatError(
            f"{stack.source}: images that do not say where they lie in the patient",
            needed="ImagePositionPatient and ImageOrientationPatient",
            cure="write a DICOM SEG or a picture instead",
        )
    grid = FrameGrid.of_frames(stack.frames, stack.geometry.spacing[0])
    on_frames = stack.to_frames(labels.array[0])  # (N, rows, columns)
    return _make(np.asarray(on_frames), table, grid, images, producer)


def _make(
    labels: NDArray[np.generic],
    table: LabelTable,
    grid: FrameGrid,
    source: SourceImages,
    producer: Producer,
) -> Dataset:
    """Make the DICOM object of labels on the source's frames."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    uids = _uids(labels, table, source, producer)
    header, (date, time) = source.headers[0], source.moment
    names = ", ".join(label.name for label in table.foreground)
    data = _item(
        SpecificCharacterSet=UTF_8,
        SOPClassUID=SOP_CLASS,
        SOPInstanceUID=uids.instance,
        SeriesInstanceUID=uids.series,
        SeriesNumber=SERIES_NUMBER,
        InstanceNumber=1,
        Modality="RTSTRUCT",
        SeriesDescription=f"hilum: {names}"[:_CHARACTERS],
        OperatorsName="",
        Manufacturer=MANUFACTURER,
        ManufacturerModelName=MANUFACTURER,
        SoftwareVersions=producer.version,
        DeviceSerialNumber=producer.model[:_CHARACTERS],
        StructureSetLabel="hilum",
        StructureSetName=f"hilum model {producer.model}"[:_CHARACTERS],
        StructureSetDate=date,
        StructureSetTime=time,
        ApprovalStatus="UNAPPROVED",
    )
    for keyword in _COPIED:
        setattr(data, keyword, header.get(keyword) or "")
    data.ReferencedFrameOfReferenceSequence = [_frame_of_reference(source)]
    _add_structures(data, labels, table, grid, source)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = UID(SOP_CLASS)
    data.file_meta.MediaStorageSOPInstanceUID = UID(uids.instance)
    finish(data, source)
    return data


def _uids(
    labels: NDArray[np.generic], table: LabelTable, source: SourceImages, producer: Producer
) -> ObjectUids:
    """Derive the UIDs from source, model and labels."""
    content = hashlib.sha256(table.model_dump_json().encode())
    content.update(f"{labels.shape}".encode())
    for frame in labels:
        content.update(np.ascontiguousarray(frame, dtype="<i4").tobytes())
    return ObjectUids.of(
        "RTSTRUCT",
        frames=[plane.key for plane in source.planes],
        model=f"{producer.model} {producer.version}",
        content=content.hexdigest(),
    )


def _item(**values: object) -> Dataset:
    """Make an item of a sequence."""
    from pydicom.dataset import Dataset

    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _frame_of_reference(source: SourceImages) -> Dataset:
    """Refer to the frame of reference, the study, the series and each of its files."""
    series = _item(
        SeriesInstanceUID=source.series,
        ContourImageSequence=[reference_to(header) for header in source.headers],
    )
    study = _item(
        ReferencedSOPClassUID=_STUDY_CLASS,
        ReferencedSOPInstanceUID=source.study,
        RTReferencedSeriesSequence=[series],
    )
    uid = source.headers[0].FrameOfReferenceUID
    return _item(FrameOfReferenceUID=uid, RTReferencedStudySequence=[study])


def _add_structures(
    data: Dataset,
    labels: NDArray[np.generic],
    table: LabelTable,
    grid: FrameGrid,
    source: SourceImages,
) -> None:
    """Add a structure for each label: its name, its contours and what it is."""
    uid = source.headers[0].FrameOfReferenceUID
    names, contours, observations = [], [], []
    for label in table.foreground:
        names.append(
            _item(
                ROINumber=label.id,
                ReferencedFrameOfReferenceUID=uid,
                ROIName=label.name[:_CHARACTERS],
                ROIGenerationAlgorithm="AUTOMATIC",
            )
        )
        own = _item(ReferencedROINumber=label.id, ROIDisplayColor=list(table.colours[label.id]))
        outlines = list(_outlines(labels, label, grid, source.planes))
        if outlines:
            own.ContourSequence = outlines
        contours.append(own)
        observations.append(_observe(label))
    data.StructureSetROISequence = names
    data.ROIContourSequence = contours
    data.RTROIObservationsSequence = observations


def _outlines(
    labels: NDArray[np.generic], label: Label, grid: FrameGrid, planes: Sequence[Plane]
) -> Iterable[Dataset]:
    """Make the contours of a label, slice by slice."""
    for index, plane in enumerate(planes):
        for polygon in trace(labels[index] == label.id):
            points = grid.points_of(index, polygon)
            yield _item(
                ContourImageSequence=[reference_to(plane.header, plane.number)],
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(points),
                ContourData=[f"{value:.4f}" for value in (points.ravel() + 0.0).tolist()],
            )


def _observe(label: Label) -> Dataset:
    """Say of a structure what it is: by its code where it has one; never a target of treatment."""
    item = _item(
        ObservationNumber=label.id,
        ReferencedROINumber=label.id,
        ROIObservationLabel=label.name[:16],
        RTROIInterpretedType="",
        ROIInterpreter="",
    )
    if label.code is not None:
        value, scheme, meaning = label.code
        code = _item(
            CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning[:_CHARACTERS]
        )
        item.RTROIIdentificationCodeSequence = [code]
    return item
