"""Predictions as DICOM Segmentations: by `predict_many`, and from Python."""

import numpy as np
import pydicom
import pytest
from highdicom import seg

from hilum.dicom.stack import open_stack
from hilum.errors import DataError, UsageError
from hilum.examples.dicom import write_dicom_series
from hilum.inference import Predictor, predict_many
from hilum.io import read_labels, write_volume
from hilum.volume import Geometry, Volume
from inference_toys import TABLE, index_volume, make_model

SHAPE = (6, 20, 16)


@pytest.fixture
def series(tmp_path):
    array = np.zeros(SHAPE, np.float32)
    array[1:4, 3:13, 2:10], array[4, 15, 11:14] = 1, 2
    geometry = Geometry.from_spacing(SHAPE, (3.0, 0.5, 0.75), origin=(1, -2, 3))
    write_dicom_series(Volume(array[None], geometry), tmp_path / "in" / "s")
    return tmp_path / "in" / "s"


def predicted(source, out, *formats):
    return predict_many(Predictor(make_model()), [source], out, formats=formats)


def test_the_labels_are_those_of_the_nifti_file(series, tmp_path):
    out = tmp_path / "out"
    report = predicted(series, out, "nifti", "dicom-seg")
    assert sorted(report.cases[0].files) == ["s.nii.gz", "s_seg.dcm"]
    labels = read_labels(out / "s.nii.gz").array[0]
    uids = [frame.instance for frame in open_stack(series).frames]
    found = seg.segread(out / "s_seg.dcm").get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert found.any()
    np.testing.assert_array_equal(found, np.searchsorted(TABLE.ids, labels))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("dicom-seg", "BINARY"), ("dicom-seg-binary", "BINARY"), ("dicom-seg-labelmap", "LABELMAP")],
)
def test_each_format_has_its_kind_and_the_report_refers_to_it(series, tmp_path, name, kind):
    out = tmp_path / "out"
    predicted(series, out, "dicom-sr", name)
    made = pydicom.dcmread(out / "s_seg.dcm")
    assert made.SegmentationType == kind
    referred = [
        element.value
        for element in pydicom.dcmread(out / "s_sr.dcm").iterall()
        if element.keyword == "ReferencedSOPInstanceUID"
    ]
    assert made.SOPInstanceUID in referred
    assert made.SegmentSequence[0].SegmentLabel == "liver"


def test_a_late_slice_gives_a_segmentation_that_names_the_first(series, tmp_path):
    late = max(series.iterdir())
    kept = late.read_bytes()
    late.unlink()
    out = tmp_path / "out"
    predicted(series, out, "dicom-seg")
    first = pydicom.dcmread(out / "s_seg.dcm")
    late.write_bytes(kept)
    predicted(series, out, "dicom-seg")
    second = pydicom.dcmread(out / "s_seg.dcm")
    assert second.SOPInstanceUID != first.SOPInstanceUID
    (earlier,) = second.ReferencedImageSequence
    assert earlier.ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_predicting_again_gives_the_same_bytes(series, tmp_path):
    predicted(series, tmp_path / "a", "dicom-seg")
    first = (tmp_path / "a" / "s_seg.dcm").read_bytes()
    predicted(series, tmp_path / "a", "dicom-seg")
    predicted(series, tmp_path / "b", "dicom-seg")
    assert (tmp_path / "a" / "s_seg.dcm").read_bytes() == first
    assert (tmp_path / "b" / "s_seg.dcm").read_bytes() == first


def test_two_kinds_under_one_name_are_refused(series, tmp_path):
    with pytest.raises(
        UsageError, match="formats dicom-seg and dicom-seg-labelmap were given together"
    ):
        predicted(series, tmp_path / "out", "dicom-seg", "dicom-seg-labelmap")


def test_a_case_that_is_no_dicom_is_refused_before_the_work(tmp_path):
    write_volume(index_volume(), tmp_path / "in" / "a.nii.gz")
    (case,) = predicted(tmp_path / "in", tmp_path / "out", "dicom-seg").cases
    assert case.status == "failed"
    assert "a.nii.gz is no DICOM" in case.error
    assert case.seconds == {}


def test_one_prediction_saves_itself(series, tmp_path):
    (file,) = Predictor(make_model()).predict(series).save(tmp_path / "o", formats=["dicom-seg"])
    assert file == tmp_path / "o" / "s_seg.dcm"
    assert pydicom.dcmread(file).Modality == "SEG"


def test_a_volume_has_no_series_to_lie_on(tmp_path):
    prediction = Predictor(make_model()).predict(index_volume())
    with pytest.raises(DataError, match="a volume without a file is no DICOM"):
        prediction.save(tmp_path / "out", formats=["dicom-seg"])
