"""A folder of DICOM files is listed as studies and volumes, and no file is lost."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from hilum.dicom import study as studies_of
from hilum.dicom.study import DAMAGED, NO_DICOM, STRAY, read_studies
from hilum.errors import FormatError
from hilum.examples import SeriesTags, write_dicom_series
from hilum.io import read_volume
from hilum.volume import Geometry, Volume


def image(slices=5, value=7):
    affine = np.array([[0, 0, 1.1, 4], [0, 1.2, 0, -7], [2.5, 0, 0, 9], [0, 0, 0, 1.0]])
    return Volume(np.full((1, slices, 8, 6), value, np.int16), Geometry((slices, 8, 6), affine))


def write(folder, number=2, *, volume=None, **tags):
    return write_dicom_series(
        volume or image(), folder, tags=SeriesTags(series_number=number, **tags)
    )


def count(found):
    return len(found.aside) + sum(
        len(volume.files) for study in found.studies for volume in study.volumes
    )


def test_series_are_described(tmp_path):
    write(tmp_path / "a/b", 3, attributes={"ConvolutionKernel": "B30f", "ContrastBolusAgent": "U"})
    (study,) = read_studies(tmp_path).studies
    (one,) = study.volumes
    assert study.folder == tmp_path / "a/b"
    assert (one.modality, one.number, one.description) == ("CT", "3", "Portal venous 5.0")
    assert (one.kernel, one.contrast, one.plane, one.slices) == ("B30f", "U", "axial", 5)
    assert one.fault is None
    assert one.geometry.spacing == (2.5, 1.2, 1.1)
    assert (one.spacing_mm, one.pixel_mm) == (2.5, (1.2, 1.1))
    assert one.title == "series 3 'Portal venous 5.0'"
    assert one.choice == "3"
    assert np.array_equal(read_volume(one.source).array, image().array)


def test_patients_and_studies_are_told_apart(tmp_path):
    for patient in ("P1", "P2"):
        for date in ("20200101", "20210101"):
            write(tmp_path / patient / date, patient_id=patient, study_date=date)
    found = read_studies(tmp_path).studies
    assert len(found) == len({(one.patient, one.date) for one in found}) == 4


def test_every_file_has_a_place_or_a_reason(tmp_path):
    files = write(tmp_path / "s")
    write(tmp_path / "scout", 1, volume=image(1),
          attributes={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})  # fmt: skip
    (tmp_path / "readme.txt").write_text("x")
    (tmp_path / "again.dcm").write_bytes(files[0].read_bytes())
    report = pydicom.dcmread(files[0])
    report.Modality, report.SeriesInstanceUID = "SR", "1.2.3"
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    del report.Rows, report.PixelData
    report.save_as(tmp_path / "report.dcm")
    found = read_studies(tmp_path)
    assert count(found) == 9
    assert {path.name: reason for path, reason in found.aside.items()} == {
        "readme.txt": NO_DICOM,
        "report.dcm": "a DICOM object that is no image (SR)",
        "0001.dcm": "a copy: the same image",
    }
    verdicts = {one.number: one.refused for one in found.studies[0].volumes}
    assert verdicts == {"1": "a localizer (scout)", "2": ""}
    assert [one.no_volume for one in found.studies[0].volumes] == [True, False]


def test_volumes_of_one_series_have_keys(tmp_path):
    for n in (1, 2):
        write(tmp_path / f"a{n}", acquisition=n, volume=image(value=n))
    (study,) = read_studies(tmp_path).studies
    assert [one.choice for one in study.volumes] == ["2/acq1", "2/acq2"]
    for one, value in zip(study.volumes, (1, 2), strict=True):
        assert (read_volume(one.source).array == value).all()
        assert one.title.endswith(f"(acquisition {value})")


def test_series_of_one_number_are_named_by_uid(tmp_path):
    first = write(tmp_path / "a")
    for file in write(tmp_path / "b", 3):
        data = pydicom.dcmread(file)
        data.SeriesNumber = 2
        data.save_as(file)
    (study,) = read_studies(tmp_path).studies
    assert pydicom.dcmread(first[0]).SeriesInstanceUID in {one.choice for one in study.volumes}
    assert len({one.choice for one in study.volumes}) == 2


def test_a_damaged_slice_spoils_its_series(tmp_path):
    files = write(tmp_path / "s")
    write(tmp_path / "t", 3)
    data = files[2].read_bytes()
    data = data.replace(b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x10\x00US\x03\x00")
    files[2].write_bytes(data[:900])
    found = read_studies(tmp_path)
    assert count(found) == 10
    assert sum(bool(one.refused) for one in found.studies[0].volumes) == 1


@pytest.mark.parametrize(
    ("left", "found_at"),
    [(140, "a file without its data"), (175, "a file without its data"), (400, "an image w")],
)
def test_a_file_of_no_readable_series_spoils_those_of_its_folder(tmp_path, left, found_at):
    files = write(tmp_path / "s")
    write(tmp_path / "t", 3)
    files[4].write_bytes(files[4].read_bytes()[:left])
    found = read_studies(tmp_path)
    assert count(found) == 10
    (study,) = found.studies
    assert found.aside == {files[4]: DAMAGED}
    first, second = study.volumes
    assert first.refused.startswith(f"0005.dcm: {found_at}")
    assert (first.fault.cure, second.refused) == ("export it again", "")
    with pytest.raises(FormatError, match=found_at):
        read_volume(first.source)


def test_a_uid_that_is_cut_off_is_no_series(tmp_path):
    files = write(tmp_path / "s")
    data = files[4].read_bytes()
    uid = pydicom.dcmread(files[4]).SeriesInstanceUID
    files[4].write_bytes(data[: data.index(uid.encode()) + 20])
    found = read_studies(tmp_path)
    assert found.aside == {files[4]: DAMAGED}
    (study,) = found.studies
    assert [one.refused[:9] for one in study.volumes] == ["0005.dcm:"]


def test_a_damaged_file_by_itself_is_no_study(tmp_path):
    files = write(tmp_path / "s")
    (tmp_path / "copied").mkdir()
    lone = [tmp_path / "copied" / "1.dcm", tmp_path / "2.dcm"]
    for file, left in zip(lone, (140, 400), strict=True):
        file.write_bytes(files[0].read_bytes()[:left])
    found = read_studies(tmp_path)
    assert found.aside == dict.fromkeys(lone, STRAY)
    (study,) = found.studies
    assert [one.refused for one in study.volumes] == [""]


def test_a_damaged_file_stands_with_its_own_series(tmp_path):
    """Its pixels are lost, and its series, all of it in another folder, is known."""
    files = write(tmp_path / "s")
    (tmp_path / "t").mkdir()
    data = files[2].read_bytes()
    files[2].unlink()
    at = data.index(b"\x28\x00\x10\x00US")
    (tmp_path / "t" / "3.dcm").write_bytes(data[:at])
    (study,) = read_studies(tmp_path).studies
    (one,) = study.volumes
    assert (one.number, len(one.files)) == ("2", 5)
    assert one.refused.startswith("t/3.dcm: an image without size")


@pytest.mark.parametrize("name", ["0005.dcm", "IM0005"])
def test_a_slice_that_is_no_dicom_spoils_the_series_of_its_folder(tmp_path, name):
    """Also the last one, whose loss leaves no gap."""
    files = write(tmp_path / "s")
    write(tmp_path / "t", 3)
    files[-1].unlink()
    (tmp_path / "s" / name).write_bytes(b"\0" * 900)
    found = read_studies(tmp_path)
    lacking, whole = found.studies[0].volumes
    assert lacking.refused.startswith(f"{name}: not readable as DICOM")
    assert (lacking.no_volume, lacking.files, whole.refused) == (False, files[:-1], "")
    assert found.aside == {tmp_path / "s" / name: NO_DICOM}
    for source in (lacking.source, lacking.folder):
        with pytest.raises(FormatError) as refused:
            read_volume(source)
        assert str(refused.value) == str(lacking.fault)


def test_a_file_that_is_named_like_no_slice_spoils_nothing(tmp_path):
    write(tmp_path / "s")
    (tmp_path / "s" / "notes.txt").write_text("x")
    (tmp_path / "s" / "MD5SUMS").write_text("d41d8cd98f00b204e9800998ecf8427e  0001.dcm")
    (tmp_path / "s" / "sha256sum").write_text("x")
    (tmp_path / "1.dcm").write_text("x")  # in no folder of a series
    (one,) = read_studies(tmp_path).studies[0].volumes
    assert one.refused == ""
    assert read_volume(one.source).geometry == one.geometry


def test_a_series_is_asked_about_the_files_of_its_own_folders_only(tmp_path, monkeypatch):
    """A data set of thousands of series and files beside them is not searched for each pair."""
    for number in (2, 3, 4):
        write(tmp_path / str(number), number)
        (tmp_path / str(number) / "notes.txt").write_text("x")
    asked = []
    monkeypatch.setattr(studies_of, "refuse_incomplete", lambda _, lost, __: asked.append([*lost]))
    read_studies(tmp_path)
    assert asked == [[tmp_path / str(number) / "notes.txt"] for number in (2, 3, 4)]


@pytest.mark.parametrize(
    ("stated", "years"),
    [
        *(("045Y", "45"), ("45Y", "45"), ("045y", "45"), ("018M", "1.5"), ("006W", "0.115")),
        *(("090Y", "90"), ("105Y", "90"), ("000D", "0"), ("45", ""), ("Y45", ""), ("", "")),
    ],
)
def test_an_age_is_in_years(tmp_path, stated, years):
    (file,) = write(tmp_path, volume=image(1))
    data = pydicom.dcmread(file)
    kept = {"validation_mode": pydicom.config.IGNORE}  # as scanners and anonymisers write it
    data.add(pydicom.DataElement("PatientAge", "AS", stated, **kept))
    data.save_as(file)
    (one,) = read_studies(tmp_path).studies[0].volumes
    assert one.age == years


def test_an_image_without_series_spoils_the_series_of_its_folder(tmp_path):
    files = write(tmp_path / "s")
    write(tmp_path / "t", 3)
    nameless = pydicom.dcmread(files[-1])
    del nameless.SeriesInstanceUID
    nameless.save_as(files[-1])
    found = read_studies(tmp_path)
    assert found.aside == {
        files[-1]: "an image without SeriesInstanceUID, in the folder of a series"
    }
    (study,) = found.studies
    lacking, whole = study.volumes
    assert lacking.refused.startswith("0005.dcm: an image without SeriesInstanceUID")
    assert (lacking.files, whole.refused) == (files[:-1], "")
    for source in (lacking.source, lacking.folder):
        with pytest.raises(FormatError) as refused:
            read_volume(source)
        assert str(refused.value) == str(lacking.fault)


def test_images_without_series_that_lie_alone_are_read(tmp_path):
    for file in write(tmp_path / "s"):
        data = pydicom.dcmread(file)
        del data.SeriesInstanceUID
        data.save_as(file)
    (one,) = read_studies(tmp_path).studies[0].volumes
    assert (one.refused, one.slices) == ("", 5)
    assert read_volume(tmp_path / "s").geometry == one.geometry


def test_missing_slices_are_refused_with_the_reason(tmp_path):
    write(tmp_path / "s")[2].unlink()
    (one,) = read_studies(tmp_path).studies[0].volumes
    assert "1 slice missing" in one.refused
    assert not one.no_volume
    assert one.geometry is None


def test_pictures_of_one_series_are_an_image_each(tmp_path):
    files = write(tmp_path / "us", volume=image(3))
    for file in files:
        data = pydicom.dcmread(file)
        data.Modality, data.SOPClassUID = "US", "1.2.840.10008.5.1.4.1.1.6.1"
        del data.ImagePositionPatient, data.ImageOrientationPatient
        data.save_as(file)
    (study,) = read_studies(tmp_path).studies
    assert [one.source for one in study.volumes] == list(files)
    assert [one.choice for one in study.volumes] == ["2/image1", "2/image2", "2/image3"]
    (tmp_path / "us" / "4.dcm").write_text("x")
    (study,) = read_studies(tmp_path).studies
    assert [one.refused for one in study.volumes] == ["", "", ""]  # each is read by itself
    assert all(read_volume(one.source).geometry.is_2d for one in study.volumes)


def test_a_dicomdir_stands_for_its_folder(tmp_path):
    write(tmp_path / "s")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    found = read_studies(tmp_path / "DICOMDIR")
    assert len(found.studies) == 1
    assert count(found) == 6


EXPECTED = {
    "ct_ge_tilt_two_thicknesses_one_folder": {"2/thick4": 4, "2/thick7": 4},
    "mr_mixed_orientation": {"202/axial": 2, "202/sagittal": 2},
    "ct_not_a_volume": {f"4/acq{n}": 1 for n in (12, 13, 14, 15)},
    "mr_enhanced_multiframe_philips": {"301": 8},
    "mr_hyperfine_multiframe": {"10": 8},
    "mr_implicit_vr": {"4": 4},
    "mr_non_square_pixels": {"201": 4},
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", EXPECTED)
def test_real_series_are_divided(real_data, name):
    (study,) = read_studies(real_data / "dicom" / name).studies
    assert {one.choice: one.slices for one in study.volumes} == EXPECTED[name]
    for one in study.volumes:
        assert one.fault is None
        assert read_volume(one.source).geometry == one.geometry


@pytest.mark.real_data
def test_real_series_that_are_no_volumes_are_refused(real_data):
    for name, reason in (
        ("ct_irregular_increment_ge", "1 slice missing"),
        ("ct_philips_localizer", "a localizer (scout)"),
    ):
        (study,) = read_studies(real_data / "dicom" / name).studies
        assert [reason in one.refused for one in study.volumes] == [True]


@pytest.mark.real_data
def test_no_real_file_is_lost(real_data):
    found = read_studies(real_data / "dicom")
    files = [path for path in (real_data / "dicom").rglob("*") if path.is_file()]
    assert count(found) == len(files)
