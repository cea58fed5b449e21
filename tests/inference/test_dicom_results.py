"""DICOM results of predictions: which files, what they say, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from highdicom import sr

from classification_toys import class_model
from hilum.errors import DataError
from hilum.examples.dicom import SeriesTags, write_dicom_series
from hilum.inference import ClassPredictor, Predictor, predict_many
from hilum.io import read_labels, write_volume
from hilum.volume import Geometry, Volume
from inference_toys import TABLE, index_volume, make_model
from programs import require

if TYPE_CHECKING:
    from pathlib import Path

PATIENT = SeriesTags(patient_id="A-17", patient_name="Müller^Änne", series_description="Axial $5$")
FORMATS = ("nifti", "dicom-sr", "dicom-sc", "dicom-pdf")
WRITTEN = ["s.nii.gz", "s_key1.dcm", "s_key2.dcm", "s_pdf.dcm", "s_sr.dcm"]
SHAPE = (6, 20, 16)


def scene() -> Volume:
    """Label 1 is a block on three slices; label 2 three voxels on another one."""
    array = np.zeros(SHAPE, np.float32)
    array[1:4, 3:13, 2:10] = 1
    array[4, 15, 11:14] = 2
    return Volume(array[None], Geometry.from_spacing(SHAPE, (3.0, 0.5, 0.75), origin=(1, -2, 3)))


@pytest.fixture
def series(tmp_path) -> Path:
    write_dicom_series(scene(), tmp_path / "in" / "s", tags=PATIENT)
    return tmp_path / "in" / "s"


def predicted(source, out, formats=FORMATS, **options):
    return predict_many(Predictor(make_model()), [source], out, formats=formats, **options)


def files_in(out: Path) -> list[str]:
    return sorted(f.name for f in out.iterdir() if f.suffix in {".gz", ".dcm"})


def test_each_format_is_written_and_recorded(series, tmp_path):
    report = predicted(series, tmp_path / "out")
    assert report.cases[0].error == ""
    assert sorted(report.cases[0].files) == WRITTEN
    assert files_in(tmp_path / "out") == WRITTEN


def test_structures_are_the_labels_of_the_prediction(series, tmp_path):
    """The stem of an RTSTRUCT file is that of its case for `hilum evaluate` too."""
    out = tmp_path / "out"
    predicted(series, out, formats=("nifti", "dicom-rtstruct"))
    assert files_in(out) == ["s.nii.gz", "s_rtstruct.dcm"]
    (out / "s_rtstruct.dcm").rename(series / "s_rtstruct.dcm")
    contours = read_labels(series / "s_rtstruct.dcm")
    np.testing.assert_array_equal(contours.array, read_labels(out / "s.nii.gz").array)


def test_the_report_says_what_the_labels_measure(series, tmp_path):
    out = tmp_path / "out"
    predicted(series, out)
    labels = read_labels(out / "s.nii.gz").array
    report = sr.srread(out / "s_sr.dcm")
    groups = report.content.get_image_measurement_groups()
    volumes = {
        group.tracking_identifier: float(measured.value)
        for group in groups
        for measured in group.get_measurements(name=pydicom.sr.codedict.codes.SCT.Volume)
    }
    voxel = 3.0 * 0.5 * 0.75
    assert list(volumes.values()) == pytest.approx(
        [np.count_nonzero(labels == n) * voxel for n in TABLE.ids[1:]]
    )
    long, short = groups[-1].get_measurements()
    assert (long.value, short.value) == pytest.approx((3 * 0.75, 0.5))
    assert report.PatientID == "A-17"


def test_an_empty_prediction_reports_absence(tmp_path):
    volume = scene()
    write_dicom_series(volume.with_array(volume.array * 0), tmp_path / "in" / "s")
    out = tmp_path / "out"
    report = predicted(tmp_path / "in" / "s", out)
    assert report.cases[0].error == ""
    assert files_in(out) == [name for name in WRITTEN if "key2" not in name]
    said = str(pydicom.dcmread(out / "s_sr.dcm"))
    assert said.count("'Absent'") == 2
    assert "Volume" not in said


def test_key_images_show_the_widest_slices(series, tmp_path):
    out = tmp_path / "out"
    predicted(series, out)
    slices = [pydicom.dcmread(file) for file in sorted(series.iterdir())]
    captures = [pydicom.dcmread(out / f"s_key{n}.dcm") for n in (1, 2)]
    for capture, number in zip(captures, (1, 4), strict=True):
        source = capture.SourceImageSequence[0].ReferencedSOPInstanceUID
        assert source == slices[number].SOPInstanceUID
        assert capture.PatientID == "A-17"
        assert "Not a medical device" in capture.ImageComments
        assert list(capture.PatientOrientation) == ["L", "P"]
        pixels = capture.pixel_array
        # the frame is 10 mm high and 12 mm wide: square pixels, and a caption below
        assert pixels.shape[1] == 768
        assert pixels.shape[0] > 640
        red, green, blue = (pixels[:640].astype(int)[..., n] for n in range(3))
        assert np.count_nonzero(np.maximum(abs(red - green), abs(green - blue)) > 60) > 300
    assert captures[0].SeriesInstanceUID == captures[1].SeriesInstanceUID
    assert captures[0].StudyInstanceUID == slices[0].StudyInstanceUID
    assert captures[0].SeriesInstanceUID != slices[0].SeriesInstanceUID


def test_the_page_names_patient_findings_and_model(series, tmp_path):
    out = tmp_path / "out"
    predicted(series, out)
    page = pydicom.dcmread(out / "s_pdf.dcm")
    document = page.EncapsulatedDocument[: page.EncapsulatedDocumentLength]
    assert document.startswith(b"%PDF-")
    assert document.rstrip().endswith(b"%%EOF")
    assert (page.Modality, page.MIMETypeOfEncapsulatedDocument) == ("DOC", "application/pdf")
    assert page.StudyInstanceUID == pydicom.dcmread(next(series.iterdir())).StudyInstanceUID
    assert len(page.SourceInstanceSequence) == SHAPE[0]


def test_key_images_tell_of_burned_in_names_as_the_source_does(series, tmp_path):
    for file in series.iterdir():
        data = pydicom.dcmread(file)
        data.BurnedInAnnotation = "YES"
        data.save_as(file)
    predicted(series, tmp_path / "out", formats=("dicom-sc",))
    assert pydicom.dcmread(tmp_path / "out" / "s_key1.dcm").BurnedInAnnotation == "YES"


@pytest.mark.parametrize("name", ["key1", "key2", "pdf", "sr"])
def test_dciodvfy_finds_no_error_in(series, tmp_path, name):
    predicted(series, tmp_path / "out")
    said = subprocess.run(
        [require("dciodvfy"), tmp_path / "out" / f"s_{name}.dcm"],
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    assert said
    assert not [line for line in said.splitlines() if line.startswith("Error")]


def test_results_made_again_have_the_same_bytes(series, tmp_path):
    for out in ("a", "b"):
        predicted(series, tmp_path / out)
    for name in WRITTEN[1:]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_results_that_are_there_are_left_out_on_request(series, tmp_path):
    out = tmp_path / "out"
    predicted(series, out)
    again = predicted(series, out, skip_existing=True)
    assert [case.status for case in again.cases] == ["skipped"]


def test_dicom_results_go_where_another_format_replaces_them(series, tmp_path):
    out = tmp_path / "out"
    predicted(series, out)
    report = predicted(series, out, formats=("nifti",))
    assert set(WRITTEN) <= set(report.cases[0].replaced)
    assert files_in(out) == ["s.nii.gz"]


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_what_is_no_dicom_is_refused_before_the_work(tmp_path, task):
    write_volume(index_volume(), tmp_path / "in" / "a.nii.gz")
    predictor = Predictor(make_model()) if task == "segmentation" else ClassPredictor(class_model())
    report = predict_many(predictor, [tmp_path / "in"], tmp_path / "out", formats=("dicom-sr",))
    (case,) = report.cases
    assert (report.status, case.status) == ("failed", "failed")
    assert "a.nii.gz is no DICOM" in case.error
    assert case.seconds == {}
    assert not list((tmp_path / "out").glob("*.dcm"))


def test_a_case_that_is_no_dicom_costs_no_other(series, tmp_path):
    write_volume(scene(), tmp_path / "in" / "a.nii.gz")
    report = predict_many(
        Predictor(make_model()),
        [tmp_path / "in" / "a.nii.gz", series],
        tmp_path / "out",
        formats=("dicom-sr",),
    )
    assert {case.case: case.status for case in report.cases} == {"a": "failed", "s": "done"}


def test_a_volume_has_no_dicom_to_refer_to(tmp_path):
    prediction = Predictor(make_model()).predict(scene())
    with pytest.raises(DataError, match="a volume without a file is no DICOM"):
        prediction.save(tmp_path / "out", formats=("dicom-sr",))


def test_one_prediction_saves_dicom(series, tmp_path):
    prediction = Predictor(make_model()).predict(series)
    files = prediction.save(tmp_path / "out", formats=("dicom-sr", "dicom-pdf"))
    assert [file.name for file in files] == ["s_sr.dcm", "s_pdf.dcm"]


def class_predicted(series, out, **options):
    return predict_many(
        ClassPredictor(class_model(), **options),
        [series],
        out,
        formats=("json", "dicom-sr", "dicom-sc", "dicom-pdf"),
    )


def test_a_classification_is_written_as_dicom(series, tmp_path):
    out = tmp_path / "out"
    report = class_predicted(series, out)
    assert report.cases[0].error == ""
    assert report.cases[0].files == ("s.json", "s_sr.dcm", "s_key1.dcm", "s_pdf.dcm")
    groups = sr.srread(out / "s_sr.dcm").content.get_image_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["Class benign", "Class malignant"]
    prediction = ClassPredictor(class_model()).predict(series)
    for group, probability in zip(groups, prediction.score.probabilities, strict=True):
        (measured,) = group.get_measurements()
        assert measured.value == pytest.approx(probability)
    capture = pydicom.dcmread(out / "s_key1.dcm")
    slices = sorted(series.iterdir())
    middle = pydicom.dcmread(slices[SHAPE[0] // 2])
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == middle.SOPInstanceUID


def test_heat_maps_of_classes_become_key_images(series, tmp_path):
    report = class_predicted(series, tmp_path / "out", explain="grad_cam")
    assert report.cases[0].files == (
        *("s.json", "s_sr.dcm", "s_key1.dcm", "s_pdf.dcm"),
        next(name for name in report.cases[0].files if name.endswith("_map.nii.gz")),
    )
    plain = class_predicted(series, tmp_path / "plain")
    assert plain.cases[0].error == ""
    pixels = [pydicom.dcmread(tmp_path / n / "s_key1.dcm").pixel_array for n in ("out", "plain")]
    coloured = [int(np.ptp(one[:600].astype(int), axis=2).max()) for one in pixels]
    assert coloured[0] > 50
    assert coloured[1] == 0


def test_importing_hilum_loads_no_highdicom():
    code = "import sys, hilum.inference.prediction; print('highdicom' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
