"""Structured reports: what is said, read back by highdicom and dcmqi, and OHIF's known traps."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_sources import SHAPE, SOURCES, make_source
from highdicom import sr
from seg_viewers import NODE_MODULES

from hilum.dicom.stack import open_stack
from hilum.dicom_results.findings import (
    Bidirectional,
    ClassFinding,
    Classification,
    Finding,
    SegReference,
    Site,
)
from hilum.dicom_results.producer import Producer
from hilum.dicom_results.repair import read_source_images
from hilum.dicom_results.sr import (
    make_classification_report,
    make_measurement_report,
    save_report,
)
from hilum.dicom_results.sr_groups import HYDRATED
from hilum.metrics import Diameter
from programs import leave_out, require

PRODUCER = Producer("0123456789abcdef", "0.1.0")
SEG = SegReference("2.25.5", "2.25.6", "1.2.840.10008.5.1.4.1.1.66.4", {1: 1, 3: 2})
LINES = Diameter((2.5, 3.0), (7.5, 11.0), 12.25), Diameter((6.25, 5.0), (3.0, 8.5), 4.5)
FINDINGS = (
    Finding("liver", ("10200004", "SCT", "Liver"), 1, (1, 2, 3), 1234.5, components=2),
    Finding(
        "lesion",
        ("108369006", "SCT", "Neoplasm"),
        3,
        (2, 3),
        40.25,
        components=1,
        diameters=Bidirectional(3, *LINES),
        site=Site(("10200004", "SCT", "Liver"), ("7771000", "SCT", "Left")),
    ),
    Finding("Zyste Ä", ("abc", "99HILUM", "Zyste Ä"), 4, (), components=0),
)
CLASSES = Classification(
    (
        ClassFinding("benign", 0.625, 0.5, True, False),
        ClassFinding("malign", 0.375, 0.5, True, True),
    ),
    coverage=0.9,
    unlike=True,
    because="far",
    distance=3.5,
)


def source_of(folder: Path):
    opened = open_stack(folder)
    return read_source_images(opened.frames, spacing_mm=opened.geometry.spacing[0])


@pytest.fixture
def axial(tmp_path):
    return source_of(make_source(tmp_path / "series", "axial").folder)


def saved(report, path: Path) -> Path:
    report.save_as(path, enforce_file_format=True)
    return path


def groups_of(report):
    """The content items of each measurement group."""
    imaging = [item for item in report.ContentSequence if name_of(item) == "126010"]
    return [list(group.ContentSequence) for group in imaging[0].ContentSequence]


def name_of(item) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def find(items, code):
    return next(item for item in items if name_of(item) == code)


@pytest.mark.parametrize("kind", SOURCES)
def test_lines_lie_where_they_were_measured(tmp_path, kind):
    """The ends in the patient, from the referenced frame's own attributes."""
    made = make_source(tmp_path / "series", kind)
    report = make_measurement_report(source_of(made.folder), PRODUCER, FINDINGS, seg=SEG)
    group = groups_of(pydicom.dcmread(saved(report, tmp_path / "sr")))[2]
    for code, line in zip(("103339001", "103340004"), LINES, strict=True):
        number = find(group, code)
        scoord = number.ContentSequence[0]
        assert scoord.ValueType == "SCOORD"
        reference = scoord.ContentSequence[0].ReferencedSOPSequence[0]
        assert ("ReferencedFrameNumber" in reference) == (kind == "enhanced")
        frame = reference.ReferencedSOPInstanceUID, int(reference.get("ReferencedFrameNumber", 1))
        assert frame == made.frames[3]
        ends = np.reshape(scoord.GraphicData, (2, 2)) - 0.5  # (column, row) of pixel centres
        assert np.allclose(ends[:, ::-1], [line.start, line.end])
        measured = number.MeasuredValueSequence[0]
        assert float(measured.NumericValue) == line.length_mm
        assert measured.MeasurementUnitsCodeSequence[0].CodeValue == "mm"


@pytest.mark.parametrize("kind", SOURCES)
def test_ohif_hydrates_the_lines_where_they_were_measured(tmp_path, kind):
    """Compare @cornerstonejs/adapters, the reader of OHIF, with the pixels' places by DICOM."""
    made = make_source(tmp_path / "series", kind)
    report = make_measurement_report(source_of(made.folder), PRODUCER, FINDINGS, seg=SEG)
    read = hydrated(saved(report, tmp_path / "sr.dcm"), made)
    assert [*read["tools"]] == ["Bidirectional"]
    (tool,) = read["tools"]["Bidirectional"]
    assert (tool["uid"], tool["frame"]) == made.frames[3]
    assert tool["finding"] == "Neoplasm"
    stats = {"length": 12.25, "width": 4.5, "unit": "mm", "widthUnit": "mm"}
    assert tool["stats"] == stats
    ends = [end for line in LINES for end in (line.start, line.end)]
    assert np.allclose(tool["points"], [in_patient(made, 3, *end) for end in ends], atol=1e-3)


def in_patient(made, frame: int, row: float, column: float) -> np.ndarray:
    """LPS mm of a place on a source frame, from the places of its pixels."""
    first, down, across = (made.world[frame][n] for n in ((0, 0), (1, 0), (0, 1)))
    return first + row * (down - first) + column * (across - first)


def hydrated(path: Path, made) -> dict:
    """Read a report as OHIF does."""
    node = require("node")
    if not (NODE_MODULES / "@cornerstonejs" / "adapters").is_dir():
        leave_out("@cornerstonejs/adapters is missing; scripts/viewers installs it")
    script = Path(__file__).with_name("viewers") / "read_sr.mjs"
    done = subprocess.run(
        [node, script, NODE_MODULES, path, *made.files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_highdicom_reads_what_was_written(axial, tmp_path):
    path = saved(make_measurement_report(axial, PRODUCER, FINDINGS, seg=SEG), tmp_path / "sr")
    report = sr.srread(path)
    volumetric = report.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in volumetric] == ["liver", "lesion"]
    for group, number, volume in zip(volumetric, (1, 2), (1234.5, 40.25), strict=True):
        assert group.referenced_segment.referenced_sop_instance_uid == SEG.instance
        referred = find(group[0].ContentSequence, "121191").ReferencedSOPSequence[0]
        assert referred.ReferencedSegmentNumber == number
        (measured,) = group.get_measurements(name=pydicom.sr.codedict.codes.SCT.Volume)
        assert (measured.value, measured.unit.value) == (volume, "mm3")
    assert volumetric[0].finding_type.meaning == "Liver"
    assert axial.series == find(volumetric[0][0].ContentSequence, "121232").UID
    evidence = report.get_evidence()
    assert len(evidence) == SHAPE[0] + 1
    assert (axial.study, SEG.series, SEG.instance, SEG.sop_class) in evidence
    observer = report.content.get_observer_contexts()[0].observer_identifying_attributes
    assert (observer.manufacturer_name, observer.serial_number) == ("hilum", PRODUCER.model)


def test_without_a_seg_only_images_are_referred_to(axial, tmp_path):
    path = saved(make_measurement_report(axial, PRODUCER, FINDINGS), tmp_path / "sr")
    report = sr.srread(path)
    assert not report.content.get_volumetric_roi_measurement_groups()
    assert len(report.get_evidence()) == SHAPE[0]
    liver, lesion, *_ = groups_of(report)
    for group, frames in ((liver, (1, 2, 3)), (lesion, (2, 3))):
        images = [item.ReferencedSOPSequence[0] for item in group if item.ValueType == "IMAGE"]
        assert [one.ReferencedSOPInstanceUID for one in images] == [
            axial.planes[frame].header.SOPInstanceUID for frame in frames
        ]
        assert float(find(group, "118565006").MeasuredValueSequence[0].NumericValue) > 0


def test_a_label_without_a_segment_refers_to_images(axial):
    seg = SegReference(SEG.instance, SEG.series, SEG.sop_class, {1: 1})
    groups = groups_of(make_measurement_report(axial, PRODUCER, FINDINGS, seg=seg))
    assert [any(name_of(item) == "121191" for item in group) for group in groups] == [
        *(True, False, False, False)
    ]


def test_an_absent_label_has_no_number(axial):
    absent = groups_of(make_measurement_report(axial, PRODUCER, FINDINGS, seg=SEG))[3]
    assert not [item for item in absent if item.ValueType == "NUM"]
    assert find(absent, "705057003").ConceptCodeSequence[0].CodeMeaning == "Absent"
    assert find(absent, "121071").ConceptCodeSequence[0].CodeMeaning == "Zyste Ä"


def test_an_area_is_reported_of_a_single_frame(axial):
    finding = Finding("x", ("1", "SCT", "X"), 1, (0,), area_mm2=7.5, components=1)
    (group,) = groups_of(make_measurement_report(axial, PRODUCER, [finding]))
    measured = find(group, "42798000").MeasuredValueSequence[0]
    assert float(measured.NumericValue) == 7.5
    assert measured.MeasurementUnitsCodeSequence[0].CodeValue == "mm2"


@pytest.mark.parametrize("seg", [SEG, None])
@pytest.mark.parametrize("kind", SOURCES)
def test_dcmqi_reads_what_was_written(tmp_path, kind, seg):
    """`tid1500reader`, Slicer's own reader: its JSON equals what was put in."""
    source = source_of(make_source(tmp_path / "series", kind).folder)
    path = saved(make_measurement_report(source, PRODUCER, FINDINGS, seg=seg), tmp_path / "sr.dcm")
    read = dcmqi(path)
    assert read["CompletionFlag"] == "COMPLETE"
    assert read["observerContext"]["DeviceObserverSerialNumber"] == PRODUCER.model
    liver, lesion, line, absent = read["Measurements"]
    assert [one["TrackingIdentifier"] for one in (liver, lesion, line, absent)] == [
        *("liver", "lesion", f"{HYDRATED}:lesion", "Zyste Ä")
    ]
    assert numbers(liver) == {"Volume": (1234.5, "mm3"), "Number of connected components": (2, "1")}
    assert numbers(lesion)["Volume"] == (40.25, "mm3")
    assert numbers(line) == {"Long Axis": (12.25, "mm"), "Short Axis": (4.5, "mm")}
    assert absent["qualitativeEvaluations"][0]["conceptValue"]["CodeMeaning"] == "Absent"
    assert lesion["Finding"]["CodeValue"] == "108369006"
    assert lesion["FindingSite"]["CodeMeaning"] == line["FindingSite"]["CodeMeaning"] == "Liver"
    assert lesion["Laterality"]["CodeMeaning"] == "Left"
    assert "FindingSite" not in liver
    expected = (2, SEG.instance, source.series) if seg else (None, None, None)
    keys = ("ReferencedSegment", "segmentationSOPInstanceUID", "SourceSeriesForImageSegmentation")
    assert tuple(lesion.get(key) for key in keys) == expected


def test_dcmqi_reads_a_classification(axial, tmp_path):
    path = saved(make_classification_report(axial, PRODUCER, CLASSES), tmp_path / "sr.dcm")
    benign, malign, image = dcmqi(path)["Measurements"]
    assert numbers(benign) == {"Probability": (0.625, "1"), "Calibrated probability": (0.5, "1")}
    assert verdicts(benign) == {"Predicted": "No", "In the prediction set": "Yes"}
    assert verdicts(malign)["Predicted"] == "Yes"
    assert numbers(image) == {
        "Coverage of prediction sets": (0.9, "1"),
        "Out-of-distribution score": (3.5, "1"),
    }
    assert verdicts(image)["Out-of-distribution check"].startswith("Unlike the training images")
    algorithm = benign["measurementAlgorithmIdentification"]
    assert PRODUCER.model in algorithm["AlgorithmName"]


def test_what_a_classifier_does_not_know_is_not_said(axial):
    found = Classification((ClassFinding("a", 0.25, None, None, True),))
    (group,) = groups_of(make_classification_report(axial, PRODUCER, found))
    assert [name_of(item) for item in group if item.ValueType == "NUM"] == ["probability"]
    assert len([item for item in group if item.RelationshipType == "CONTAINS"]) == 3


def dcmqi(path: Path) -> dict:
    out = path.with_suffix(".json")
    reader = Path(sys.executable).parent / "tid1500reader"
    subprocess.run(
        [reader, "--inputDICOM", path, "--outputMetadata", out], check=True, capture_output=True
    )
    return json.loads(out.read_text("utf-8"))


def numbers(group: dict) -> dict[str, tuple[float, str]]:
    return {
        item["quantity"]["CodeMeaning"]: (float(item["value"]), item["units"]["CodeValue"])
        for item in group["measurementItems"]
    }


def verdicts(group: dict) -> dict[str, str]:
    return {
        item["conceptCode"]["CodeMeaning"]: item["conceptValue"]["CodeMeaning"]
        for item in group["qualitativeEvaluations"]
    }


@pytest.mark.parametrize("kind", SOURCES)
def test_dciodvfy_finds_no_error(tmp_path, kind):
    source = source_of(make_source(tmp_path / "series", kind).folder)
    reports = (
        make_measurement_report(source, PRODUCER, FINDINGS, seg=SEG),
        make_measurement_report(source, PRODUCER, FINDINGS),
        make_classification_report(source, PRODUCER, CLASSES),
    )
    for report in reports:
        assert not errors_of(saved(report, tmp_path / "sr.dcm"))


def errors_of(path: Path) -> list[str]:
    """Errors that dciodvfy finds."""
    said = subprocess.run([require("dciodvfy"), path], capture_output=True, text=True, check=False)
    assert "Comprehensive3DSR" in said.stderr
    return [line for line in said.stderr.splitlines() if line.startswith("Error")]


def test_ohif_traps_are_avoided(axial):
    """The SR reader of OHIF 3 throws at, or hides, other content: docs/decisions."""
    for report in (
        make_measurement_report(axial, PRODUCER, FINDINGS, seg=SEG),
        make_measurement_report(axial, PRODUCER, FINDINGS),
        make_classification_report(axial, PRODUCER, CLASSES),
    ):
        assert name_of(report) == "126000"
        assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
        library = find(report.ContentSequence, "111028")
        assert name_of(library.ContentSequence[0]) == "126200"
        images = [i for i in library.ContentSequence[0].ContentSequence if i.ValueType == "IMAGE"]
        assert len(images) == SHAPE[0]
        tracking = []
        for group in groups_of(report):
            assert all("ConceptNameCodeSequence" in item for item in group)
            assert find(group, "112039").TextValue
            uids = [item for item in group if item.ValueType == "UIDREF"]
            assert name_of(uids[0]) == "112040"  # it takes the first UIDREF for the tracking UID
            tracking.append(uids[0].UID)
            for item in group:
                if item.ValueType == "NUM":
                    assert item.ContentSequence
            below = {item.ContentSequence[0].ValueType for item in group if item.ValueType == "NUM"}
            assert len(below) <= 1  # numbers with coordinates beside others crash it
        assert len(set(tracking)) == len(tracking)  # groups of one UID are joined


def test_a_report_names_the_one_it_follows(axial, tmp_path):
    """Other findings in the same place: a new instance; the same again: the same bytes."""
    path = tmp_path / "sr.dcm"
    first = make_measurement_report(axial, PRODUCER, FINDINGS[:2], seg=SEG)
    save_report(first, path)
    assert "PredecessorDocumentsSequence" not in pydicom.dcmread(path)
    for _ in range(2):
        save_report(make_measurement_report(axial, PRODUCER, FINDINGS, seg=SEG), path)
        (study,) = pydicom.dcmread(path).PredecessorDocumentsSequence
        (series,) = study.ReferencedSeriesSequence
        (named,) = series.ReferencedSOPSequence
        assert study.StudyInstanceUID == axial.study
        assert series.SeriesInstanceUID == first.SeriesInstanceUID
        assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert not errors_of(path)
    other = make_measurement_report(axial, Producer("other", "0.1.0"), FINDINGS)
    save_report(other, path)
    assert "PredecessorDocumentsSequence" not in pydicom.dcmread(path)


def test_a_report_made_again_has_the_same_bytes(tmp_path):
    folder = make_source(tmp_path / "series", "axial").folder
    paths = []
    for name in ("a", "b"):
        report = make_measurement_report(source_of(folder), PRODUCER, FINDINGS, seg=SEG)
        paths.append(saved(report, tmp_path / name))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_other_content_or_another_model_is_another_instance(axial):
    made = [
        make_measurement_report(axial, PRODUCER, FINDINGS, seg=SEG),
        make_measurement_report(axial, PRODUCER, FINDINGS),
        make_measurement_report(axial, PRODUCER, FINDINGS[:2], seg=SEG),
        make_measurement_report(axial, Producer("other", "0.1.0"), FINDINGS, seg=SEG),
        make_classification_report(axial, PRODUCER, CLASSES),
    ]
    assert len({one.SOPInstanceUID for one in made}) == len(made)
    assert len({one.SeriesInstanceUID for one in made}) == len(made)


def test_patient_and_study_are_those_of_the_source(axial, tmp_path):
    read = pydicom.dcmread(
        saved(make_measurement_report(axial, PRODUCER, FINDINGS), tmp_path / "sr")
    )
    assert (read.PatientName, read.PatientID) == ("Müller^Jörg", "7")
    assert (read.PatientSex, read.PatientBirthDate) == ("F", "19500102")
    assert (read.StudyInstanceUID, read.StudyDate, read.Modality) == ("1.2.4", "20240102", "SR")
    assert (read.ContentDate, read.ContentTime) == ("20240102", "101112")
