"""Structured reports: DICOM Comprehensive 3D SR by TID 1500 "Imaging Measurement Report"."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from hilum.dicom.header import keep_quiet
from hilum.dicom_results.codes import coded, private_scheme
from hilum.dicom_results.predecessor import name_preceding_report, predecessor_of
from hilum.dicom_results.producer import MANUFACTURER, finish, save
from hilum.dicom_results.sr_groups import GroupMaker
from hilum.dicom_results.uids import ObjectUids, derive_uid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from highdicom import sr
    from pydicom.dataset import Dataset

    from hilum.dicom_results.findings import Classification, Finding, SegReference
    from hilum.dicom_results.producer import Producer
    from hilum.dicom_results.repair import SourceImages
    from hilum.dicom_results.sr_groups import Group

SERIES_NUMBER = 9300
"""SeriesNumber of reports."""


def make_measurement_report(
    source: SourceImages,
    producer: Producer,
    findings: Sequence[Finding],
    *,
    seg: SegReference | None = None,
) -> sr.Comprehensive3DSR:
    """Make the report of a segmentation: volumes and diameters of labels and lesions.

    Args:
        source: the images that were segmented.
        producer: the model.
        findings: what was measured, at least one.
        seg: the SEG of the same labels, which the volumes refer to; None: there is none, and they
            refer to the images alone.
    """
    groups = GroupMaker(source, producer.model, producer.algorithm, seg)
    content = [asdict(finding) for finding in findings]
    return _make(
        source,
        producer,
        [group for finding in findings for group in groups.of_finding(finding)],
        content=[content, None if seg is None else seg.instance],
        seg=seg,
        description="Measurements",
    )


def make_classification_report(
    source: SourceImages, producer: Producer, found: Classification
) -> sr.Comprehensive3DSR:
    """Make the report of a classification: probabilities, prediction set, verdict.

    Args:
        source: the images that were classified.
        producer: the model.
        found: what was predicted.
    """
    groups = GroupMaker(source, producer.model, producer.algorithm, None)
    return _make(
        source,
        producer,
        groups.of_classification(found),
        content=asdict(found),
        seg=None,
        description="Classification",
    )


def save_report(report: Dataset, path: Path) -> Path:
    """Write a report, completely or not at all.

    Where `path` holds an earlier report of the same model on the same series, the new one names it
    as its predecessor.
    """
    earlier = predecessor_of(path, report)
    if earlier is not None:
        name_preceding_report(report, earlier)
    return save(report, path)


@keep_quiet()  # highdicom's remarks on names
def _make(
    source: SourceImages,
    producer: Producer,
    groups: Sequence[Group],
    *,
    content: object,
    seg: SegReference | None,
    description: str,
) -> sr.Comprehensive3DSR:
    """Make the report of measurement groups.

    Args:
        source: the images.
        producer: the model.
        groups: of measurements.
        content: all that the report says, from which its UID is derived.
        seg: what else it refers to.
        description: SeriesDescription.
    """
    from highdicom import sr

    digest = hashlib.sha256(json.dumps([content, producer.version]).encode()).hexdigest()
    uids = ObjectUids.of(
        "SR",
        frames=[plane.key for plane in source.planes],
        model=producer.model,
        content=digest,
    )
    report = sr.MeasurementReport(
        observation_context=_observer(producer),
        procedure_reported=coded("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=groups,
    )
    _add_image_library(report, source)
    data = sr.Comprehensive3DSR(
        evidence=[*source.headers, *([] if seg is None else [_reference(source, seg)])],
        content=report[0],
        series_instance_uid=uids.series,
        series_number=SERIES_NUMBER,
        sop_instance_uid=uids.instance,
        instance_number=1,
        series_description=f"hilum: {description}",
        coding_schemes=[private_scheme()],
        is_complete=True,
        **producer.fields,
    )
    finish(data, source)
    return data


def _observer(producer: Producer) -> sr.ObservationContext:
    """Name the device that observed: the model, as hilum runs it."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=derive_uid("device", producer.model, producer.version),
        name=f"hilum model {producer.model}",
        manufacturer_name=MANUFACTURER,
        model_name=f"hilum {producer.version}",
        serial_number=producer.model,
    )
    return sr.ObservationContext(sr.ObserverContext(codes.DCM.Device, device))


def _add_image_library(report: sr.MeasurementReport, source: SourceImages) -> None:
    """List the images of the source, before the measurements.

    What they have in common stands once: highdicom's own library repeats it for each image, and
    takes only single frames.
    """
    from highdicom.sr import (
        CodeContentItem,
        ContainerContentItem,
        ContentSequence,
        ImageContentItem,
        RelationshipTypeValues,
        UIDRefContentItem,
    )
    from pydicom.sr.codedict import codes

    first = source.headers[0]
    shared = RelationshipTypeValues.HAS_ACQ_CONTEXT
    group = ContainerContentItem(
        codes.DCM.ImageLibraryGroup, relationship_type=RelationshipTypeValues.CONTAINS
    )
    group.ContentSequence = ContentSequence()
    modality = _modality(str(first.Modality))
    if modality is not None:
        group.ContentSequence.append(CodeContentItem(codes.DCM.Modality, modality, shared))
    if first.get("FrameOfReferenceUID"):
        frame = first.FrameOfReferenceUID
        group.ContentSequence.append(
            UIDRefContentItem(codes.DCM.FrameOfReferenceUID, frame, shared)
        )
    for header in source.headers:
        group.ContentSequence.append(
            ImageContentItem(
                coded("260753009", "SCT", "Source"),
                header.SOPClassUID,
                header.SOPInstanceUID,
                relationship_type=RelationshipTypeValues.CONTAINS,
            )
        )
    library = ContainerContentItem(
        codes.DCM.ImageLibrary, relationship_type=RelationshipTypeValues.CONTAINS
    )
    library.ContentSequence = ContentSequence([group])
    report[0].ContentSequence.insert(len(report[0].ContentSequence) - 1, library)


def _modality(value: str) -> sr.CodedConcept | None:
    """Return the concept of a modality (CID 29); None where pydicom knows none."""
    from pydicom.sr.codedict import codes

    known = {
        code.value: code for code in (getattr(codes.cid29, name) for name in codes.cid29.dir())
    }
    found = known.get(value)
    return None if found is None else coded(found.value, found.scheme_designator, found.meaning)


def _reference(source: SourceImages, seg: SegReference) -> Dataset:
    """Make what highdicom has to know of a SEG that is referred to."""
    from pydicom.dataset import Dataset

    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = seg.sop_class, seg.instance
    data.StudyInstanceUID, data.SeriesInstanceUID = source.study, seg.series
    return data
