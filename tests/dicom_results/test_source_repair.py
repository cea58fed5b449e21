"""Headers of source images, repaired by the table of rules."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from io_support import rotation, write_series
from pydicom.uid import (
    CTImageStorage,
    JPEGBaseline8Bit,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

from hilum.dicom.stack import open_stack
from hilum.dicom_results import remarks
from hilum.dicom_results.repair import NO_DATE, read_source_images
from hilum.dicom_results.source_rules import HEADER_RULES, PLANE_RULES, valid_date, valid_time
from hilum.errors import FormatError
from hilum.volume import Geometry, Volume

AFFINE = np.eye(4)
AFFINE[:3, :3] = rotation(3) * (2.5, 0.7, 0.9)
AFFINE[:3, 3] = (-12.3456, 40.1, -7.7)


@pytest.fixture(autouse=True)
def nothing_was_logged_before(monkeypatch):
    """Each kind of remark is logged once a process."""
    monkeypatch.setattr(remarks, "_known", set())


def frames_of(folder):
    """The frames of a series in the order of the Z axis."""
    return open_stack(folder).frames


def series(folder, **tags):
    """Write a small oblique series."""
    array = np.zeros((1, 4, 6, 5), np.int16)
    return write_series(folder, Volume(array, Geometry(array.shape[1:], AFFINE)), **tags)


def edit(folder, change):
    """Change every file of a series; gives them."""
    files = sorted(folder.iterdir())
    for file in files:
        data = pydicom.dcmread(file)
        change(data)
        data.save_as(file)
    return files


def repaired(folder, change=lambda _: None, **tags):
    series(folder, **tags)
    frames = frames_of(folder)  # read before, as the reader refuses some of what is repaired here
    edit(folder, change)
    return read_source_images(frames, spacing_mm=2.5)


def remove(*keywords):
    def change(data):
        for keyword in keywords:
            if keyword in data:
                del data[keyword]

    return change


FULL = {
    "PatientName": "A^B",
    "PatientID": "7",
    "PatientBirthDate": "19500102",
    "PatientSex": "F",
    "StudyDate": "20240102",
    "StudyTime": "101112",
    "StudyID": "s",
    "AccessionNumber": "a",
    "ReferringPhysicianName": "",
}


def test_a_sound_series_is_left_as_it_is(tmp_path):
    source = repaired(tmp_path / "s", **FULL)
    assert source.repairs == ()
    assert len(source.planes) == len(source.headers) == 4
    assert source.planes[0].number is None
    assert source.planes[0].key == source.headers[0].SOPInstanceUID


def test_geometry_is_copied_character_by_character(tmp_path):
    odd = ["-0.50000", "+1.250e0", "7"]
    files = {}

    def change(data):
        if data.InstanceNumber == 1:
            data["ImagePositionPatient"].value = odd
        files[data.SOPInstanceUID] = data

    source = repaired(tmp_path / "s", change, **FULL)
    raw = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, (tmp_path / "s").iterdir())}
    for plane in source.planes:
        written = raw[plane.header.SOPInstanceUID]
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            mine = [v.original_string for v in plane.geometry[keyword].value]
            assert mine == [v.original_string for v in written[keyword].value]


def test_patient_fields_are_empty_and_never_invented(tmp_path):
    source = repaired(tmp_path / "s", remove(*FULL), **FULL)
    header = source.headers[0]
    assert [str(header[keyword].value or "") for keyword in FULL] == [""] * len(FULL)
    assert "PatientID is missing: empty (4 times)" in source.repairs


@pytest.mark.parametrize(
    ("keyword", "wrong"),
    [
        ("PatientBirthDate", "1950"),
        ("StudyDate", "20241301"),
        ("StudyTime", "25"),
        ("PatientSex", "W"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_values_of_no_meaning_are_emptied(tmp_path, keyword, wrong):
    source = repaired(tmp_path / "s", **FULL | {keyword: wrong})
    assert str(source.headers[0][keyword].value or "") == ""
    assert [r for r in source.repairs if r.startswith(keyword)]


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_an_age_of_no_meaning_is_left_out(tmp_path):
    source = repaired(tmp_path / "s", **FULL, PatientAge="0Y")
    assert "PatientAge" not in source.headers[0]
    assert source.repairs == ("PatientAge is no age: left out (4 times)",)
    assert repaired(tmp_path / "t", **FULL, PatientAge="045Y").headers[0].PatientAge == "045Y"


def test_a_removed_identity_has_a_method(tmp_path):
    source = repaired(tmp_path / "s", **FULL, PatientIdentityRemoved="YES")
    assert source.headers[0].DeidentificationMethod == "not stated by the source"
    assert len(source.repairs) == 1
    stated = {"PatientIdentityRemoved": "YES", "DeidentificationMethod": "by hand"}
    assert repaired(tmp_path / "t", **FULL, **stated).repairs == ()


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_an_image_without_identity_is_refused(tmp_path, keyword):
    with pytest.raises(FormatError, match=f"has no {keyword}"):
        repaired(tmp_path / "s", remove(keyword), **FULL)


def test_the_instance_is_also_named_by_the_files_meta_information(tmp_path):
    source = repaired(tmp_path / "s", remove("SOPInstanceUID"), **FULL)
    assert len({h.SOPInstanceUID for h in source.headers}) == 4
    assert source.repairs == (
        "SOPInstanceUID is missing: that of the file's meta information (4 times)",
    )


@pytest.mark.parametrize(
    ("modality", "meta", "found"),
    [
        ("CT", MRImageStorage, MRImageStorage),
        ("CT", "1.2.3", CTImageStorage),
        ("XX", "1.2.3", SecondaryCaptureImageStorage),
    ],
)
def test_a_class_that_an_anonymiser_broke_is_found_again(tmp_path, modality, meta, found):
    def change(data):
        data.SOPClassUID, data.Modality = "1.2.826.0.1.3680043.10", modality
        data.file_meta.MediaStorageSOPClassUID = meta

    assert repaired(tmp_path / "s", change, **FULL).headers[0].SOPClassUID == found


def test_an_unknown_way_of_de_identification_is_called_so(tmp_path):
    source = repaired(tmp_path / "s", **FULL, PatientIdentityRemoved="YES")
    assert source.headers[0].DeidentificationMethod == "not stated by the source"
    known = {**FULL, "PatientIdentityRemoved": "YES", "DeidentificationMethod": "mine"}
    assert repaired(tmp_path / "t", **known).repairs == ()


def test_a_missing_frame_of_reference_is_one_for_the_series(tmp_path):
    source = repaired(tmp_path / "s", remove("FrameOfReferenceUID"), **FULL)
    assert len({h.FrameOfReferenceUID for h in source.headers}) == 1
    assert source.headers[0].FrameOfReferenceUID.startswith("2.25.")


def test_loss_without_ratio_gets_one(tmp_path):
    source = repaired(tmp_path / "s", LossyImageCompression="01", **FULL)
    header = source.headers[0]
    assert header.LossyImageCompressionRatio >= 1
    assert header.LossyImageCompressionMethod == "UNKNOWN"


@pytest.mark.parametrize(
    ("stated", "syntax", "found"),
    [("NO", None, "00"), (None, JPEGBaseline8Bit, "01"), ("", JPEGBaseline8Bit, "01")],
)
def test_whether_pixels_lost_something_follows_the_encoding(tmp_path, stated, syntax, found):
    def change(data):
        if stated is not None:
            data.LossyImageCompression = stated
        if syntax:
            from pydicom.encaps import encapsulate

            data.PixelData = encapsulate([b"\xff\xd8" + bytes(30)])
            data["PixelData"].is_undefined_length = True
            data.file_meta.TransferSyntaxUID = syntax

    header = repaired(tmp_path / "s", change, **FULL).headers[0]
    assert header.LossyImageCompression == found
    assert ("LossyImageCompressionMethod" in header) == (found == "01")


def test_thickness_and_distance_are_those_of_the_slices(tmp_path):
    source = repaired(tmp_path / "s", remove("SliceThickness"), SpacingBetweenSlices="-2.5", **FULL)
    for plane in source.planes:
        assert plane.geometry.SliceThickness == plane.geometry.SpacingBetweenSlices == 2.5


def test_missing_geometry_is_that_of_the_volume(tmp_path):
    lost = remove("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    source = repaired(tmp_path / "s", lost, **FULL)
    frames = {frame.instance: frame for frame in frames_of_again(tmp_path)}
    for plane in source.planes:
        frame = frames[plane.header.SOPInstanceUID]
        np.testing.assert_allclose(plane.geometry.ImagePositionPatient, frame.position, atol=1e-9)
        np.testing.assert_allclose(
            plane.geometry.ImageOrientationPatient, frame.orientation.ravel(), atol=1e-9
        )
        np.testing.assert_allclose(plane.geometry.PixelSpacing, frame.pixel_spacing)


def frames_of_again(folder):
    """The frames of the same series, written again as it was."""
    for file in (folder / "s").iterdir():
        file.unlink()
    series(folder / "s", **FULL)
    return frames_of(folder / "s")


def test_the_first_orientation_counts_where_others_are_rounded(tmp_path):
    def change(data):
        if data.InstanceNumber == 2:
            values = [float(v) + 1e-6 for v in data.ImageOrientationPatient]
            data.ImageOrientationPatient = values

    source = repaired(tmp_path / "s", change, **FULL)
    first = source.planes[0].geometry.ImageOrientationPatient
    assert all(p.geometry.ImageOrientationPatient == first for p in source.planes)
    assert any("differs by rounding" in text for text in source.repairs)


@pytest.mark.parametrize(
    ("keyword", "value", "sound", "broken"),
    [
        ("PatientWeight", "70", b"\x10\x00\x30\x10DS\x02\x0070", b"\x10\x00\x30\x10DS\x02\x00x!"),
        (
            "PregnancyStatus",
            4,
            b"\x10\x00\xc0\x21US\x02\x00\x04\x00",
            b"\x10\x00\xc0\x21US\x03\x00\x04\x00\x01",
        ),
    ],
)
def test_elements_that_cannot_be_read_are_left_out(tmp_path, keyword, value, sound, broken):
    series(tmp_path / "s", **FULL, **{keyword: value})
    frames = frames_of(tmp_path / "s")
    for file in (tmp_path / "s").iterdir():
        assert sound in file.read_bytes()
        file.write_bytes(file.read_bytes().replace(sound, broken))
    source = read_source_images(frames, spacing_mm=2.5)
    assert keyword not in source.headers[0]
    assert source.repairs == (f"{keyword} cannot be read: left out (4 times)",)


def test_names_in_another_character_set_are_written_in_utf_8(tmp_path):
    def change(data):
        data.SpecificCharacterSet, data.PatientName = "ISO_IR 100", "Müller^Jörg"

    source = repaired(tmp_path / "s", change, **FULL)
    header = source.headers[0]
    assert header.SpecificCharacterSet == "ISO_IR 192"
    assert str(header.PatientName) == "Müller^Jörg"


def test_the_moment_is_the_latest_that_the_source_states(tmp_path):
    def change(data):
        data.SeriesDate, data.SeriesTime = "20240103", "0910"
        data.ContentDate, data.ContentTime = "20240103", f"1{data.InstanceNumber}0000.5"

    assert repaired(tmp_path / "s", change, **FULL).moment == ("20240103", "140000")


def test_the_moment_may_be_one_element(tmp_path):
    source = repaired(tmp_path / "s", AcquisitionDateTime="20250203040506.7+0100", **FULL)
    assert source.moment == ("20250203", "040506")


def test_a_source_without_dates_has_a_date_that_is_none(tmp_path):
    assert repaired(tmp_path / "s", remove("StudyDate"), **FULL).moment == (NO_DATE, "000000")


def test_repairs_are_logged_once_with_their_number(tmp_path, caplog):
    repaired(tmp_path / "s", remove("StudyID", "FrameOfReferenceUID"), **FULL)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "StudyID is missing: empty (4 times)" in record.getMessage()
    assert "FrameOfReferenceUID is missing: one for the series" in record.getMessage()
    caplog.clear()
    repaired(tmp_path / "t", remove("StudyID", "FrameOfReferenceUID"), **FULL)
    assert not caplog.records  # the same once more
    repaired(tmp_path / "u", remove("StudyID"), **FULL)
    assert len(caplog.records) == 1


def test_no_value_of_a_patient_is_logged(tmp_path, caplog):
    with pytest.warns(UserWarning, match="Invalid value"):  # of this test's writing
        repaired(tmp_path / "s", **FULL | {"StudyDate": "secret"})
    mine = [r for r in caplog.records if r.name == "hilum"]
    caplog.clear()
    frames = frames_of(tmp_path / "s")
    read_source_images(frames, spacing_mm=2.5)
    assert mine
    assert "secret" not in caplog.text
    assert not [r for r in caplog.records if r.name == "pydicom"]


def test_dates_and_times_are_checked():
    assert valid_date("20240229")
    assert not any(map(valid_date, ("20230229", "2024022", "", "2024-2-1", "202402 1")))
    assert all(map(valid_time, ("10", "1011", "101112", "101112.123456")))
    assert not any(map(valid_time, ("", "1", "24", "1060", "10:11", "101112.")))


def test_the_documentation_lists_every_rule(repository: Path):
    text = (repository / "docs/reference/files.md").read_text(encoding="utf-8")
    for rule in (*HEADER_RULES, *PLANE_RULES):
        assert f"`{rule.keyword}`" in text, rule.keyword
