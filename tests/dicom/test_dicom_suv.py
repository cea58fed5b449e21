"""PET: standardised uptake values by body weight, and what they cannot be computed without."""

import numpy as np
import pydicom
import pytest
from dicom_series import items
from io_support import write_series

from hilum.dicom.study import read_studies
from hilum.errors import FormatError
from hilum.io import inspect_file, read_volume

HALF_LIFE = 6586.2  # s, of fluorine-18
DRUG = {
    "RadiopharmaceuticalStartTime": "090000",
    "RadionuclideTotalDose": 370e6,
    "RadionuclideHalfLife": HALF_LIFE,
}
PET = {
    "Modality": "PT",
    "Units": "BQML",
    "DecayCorrection": "START",
    "CorrectedImage": ["ATTN", "DECY", "SCAT"],
    "PatientWeight": 70,
    "SeriesDate": "20240102",
    "SeriesTime": "100000.000000",
    "AcquisitionDate": "20240102",
    "AcquisitionTime": "100500",
}
DECAYED = 370e6 * 2 ** (-3600 / HALF_LIFE)


def write_pet(folder, volume, *, drug=None, slope=2.5, **tags):
    """Write a PET series; None takes a field away."""
    activity = volume.with_array((volume.array.astype(float) + 600) * slope)
    content = {k: v for k, v in (DRUG | (drug or {})).items() if v is not None}
    own = PET | {"RadiopharmaceuticalInformationSequence": items(**content)} | tags
    files = write_series(folder, activity, slope=slope, intercept=0, **own)
    for file in files:
        data = pydicom.dcmread(file)
        for keyword in [name for name, value in own.items() if value is None]:
            del data[keyword]
        data.save_as(file)
    return activity.array


@pytest.mark.parametrize(
    ("tags", "drug", "dose"),
    [
        ({}, {}, DECAYED),
        ({"DecayCorrection": "ADMIN"}, {}, 370e6),
        ({"CorrectedImage": None}, {}, DECAYED),
        # GE and Siemens write the time at which the series was made: the scan's counts
        ({"SeriesTime": "153000", "AcquisitionTime": "100000"}, {}, DECAYED),
        (
            {"SeriesTime": "001500", "AcquisitionTime": "002000"},
            {"RadiopharmaceuticalStartTime": "231500"},  # the day before
            DECAYED,
        ),
        ({}, {"RadiopharmaceuticalStartDateTime": "20240102090000.00"}, DECAYED),
        # seconds, and minutes, may be left out
        (
            {"SeriesTime": "1030", "AcquisitionTime": "103500"},
            {"RadiopharmaceuticalStartTime": "0930"},
            DECAYED,
        ),
        ({"SeriesTime": "10"}, {"RadiopharmaceuticalStartTime": "09"}, DECAYED),
        (
            {"AcquisitionDateTime": "20240102100000", "SeriesDate": None, "SeriesTime": None},
            {},
            DECAYED,
        ),
    ],
)
def test_activity_becomes_uptake_by_body_weight(tmp_path, volume, tags, drug, dose):
    activity = write_pet(tmp_path, volume, drug=drug, **tags)
    read = read_volume(tmp_path)
    assert read.array.dtype == np.float32
    np.testing.assert_allclose(read.array, activity * 70_000 / dose, rtol=1e-5)
    assert "activity (Bq/ml) was converted to SUV by body weight" in inspect_file(tmp_path).notes


def test_ge_states_the_scan_start_in_its_own_element(tmp_path, volume):
    def private(file):
        data = pydicom.dcmread(file)
        data.private_block(0x0009, "GEMS_PETD_01", create=True).add_new(
            0x0D, "DT", "20240102100000.00"
        )
        data.save_as(file)

    activity = write_pet(
        tmp_path, volume, SeriesTime="170000", AcquisitionTime="103000", Manufacturer="GE MEDICAL"
    )
    for file in tmp_path.iterdir():
        private(file)
    np.testing.assert_allclose(read_volume(tmp_path).array, activity * 70_000 / DECAYED, rtol=1e-5)


def test_uptake_and_counts_have_their_own_factors(tmp_path, volume):
    activity = write_pet(tmp_path / "g", volume, Units="GML", PatientWeight=None)
    np.testing.assert_allclose(read_volume(tmp_path / "g").array, activity, rtol=1e-6)
    for name, element, factor in (("s", 0x00, 0.004), ("a", 0x09, 12.5)):
        activity = write_pet(tmp_path / name, volume, Units="CNTS")
        for file in (tmp_path / name).iterdir():
            data = pydicom.dcmread(file)
            block = data.private_block(0x7053, "Philips PET Private Group", create=True)
            block.add_new(element, "DS", f"{factor:g}")
            data.save_as(file)
        uptake = factor if element == 0 else factor * 70_000 / DECAYED
        read = read_volume(tmp_path / name)
        np.testing.assert_allclose(read.array, activity * uptake, rtol=1e-5)


@pytest.mark.parametrize(
    ("tags", "drug", "text"),
    [
        ({"PatientWeight": None}, {}, "PET without PatientWeight"),
        ({}, {"RadionuclideTotalDose": None}, "PET without RadionuclideTotalDose"),
        ({}, {"RadionuclideTotalDose": 370}, "RadionuclideTotalDose 370"),
        ({}, {"RadionuclideHalfLife": None}, "PET without RadionuclideHalfLife"),
        ({}, {"RadiopharmaceuticalStartTime": None}, "without RadiopharmaceuticalStartTime"),
        (
            {},
            {"RadiopharmaceuticalStartDateTime": "20231231090000"},
            "an injection 49 hours before the scan",
        ),
        ({"RadiopharmaceuticalInformationSequence": None}, {}, "PET without Radiopharmaceutical"),
        ({"DecayCorrection": "NONE"}, {}, "DecayCorrection NONE"),
        ({"CorrectedImage": ["DECY"]}, {}, "PET corrected for DECY only"),
        ({"Units": "PROPCPS"}, {}, "PET pixels in the unit PROPCPS"),
        ({"Units": "CNTS"}, {}, "PET pixels in counts"),
        ({"Units": "GML", "SUVType": "LBMJANMA"}, {}, "uptake of the type LBMJANMA"),
        ({"Units": lambda n: "GML" if n else "BQML"}, {}, r"in several units \(BQML, GML\)"),
        ({"PatientWeight": lambda n: 70 + n}, {}, "disagree about dose, weight or start"),
        (
            {"SeriesTime": None, "AcquisitionTime": None},
            {},
            "PET without SeriesTime and AcquisitionTime",
        ),
    ],
)
def test_uptake_that_cannot_be_computed_names_what_is_missing(tmp_path, volume, tags, drug, text):
    write_pet(tmp_path, volume, drug=drug, **tags)
    with pytest.raises(FormatError, match=rf"{text}.*no SUV can be computed"):
        inspect_file(tmp_path)


def with_series_time(folder, time):
    """Write a text as SeriesTime that pydicom would not write."""
    for file in folder.iterdir():
        stored = file.read_bytes()
        assert b"100000.000000" in stored
        file.write_bytes(stored.replace(b"100000.000000", time.ljust(13)))


@pytest.mark.parametrize("time", [b"10h", b"1", b"-inf"])
def test_a_start_that_is_no_time_is_not_passed_over(tmp_path, volume, time):
    write_pet(tmp_path, volume)
    with_series_time(tmp_path, time)
    with pytest.raises(FormatError, match=f"SeriesTime {time.decode()};"):
        read_volume(tmp_path)


def test_a_time_as_it_was_before_dicom_is_read(tmp_path, volume):
    activity = write_pet(tmp_path, volume)
    with_series_time(tmp_path, b"10:00:00")
    assert np.allclose(read_volume(tmp_path).array, activity * 70000 / DECAYED, rtol=1e-5)


def test_files_of_several_starts_are_refused(tmp_path, volume):
    write_pet(tmp_path, volume, SeriesTime=lambda n: f"1{n}0000")
    with pytest.raises(FormatError, match="disagree about SeriesDate and SeriesTime"):
        read_volume(tmp_path)


def test_listing_refuses_fields_that_are_no_numbers(tmp_path, volume):
    write_pet(tmp_path, volume)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes().replace(b"6586.2", b"6586.x"))
    ((one,),) = (study.volumes for study in read_studies(tmp_path).studies)
    assert "cannot be read as PET in DICOM" in one.refused
