"""De-identification of files and folders: same images, whole studies, damage, repeated runs."""

import multiprocessing
import shutil
import warnings
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest
from deid_planted import Planter, base, plant_nested, plant_private, plant_study, write
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.sequence import Sequence
from pydicom.uid import PositronEmissionTomographyImageStorage

from hilum import (
    DataError,
    DeidentifyOptions,
    FormatError,
    Geometry,
    ResourceError,
    UsageError,
    Volume,
    deidentify,
    read_volume,
)
from hilum.deidentification import workers
from hilum.deidentification.coding import Coding, elements, end_of, items, read_head
from hilum.deidentification.dataset import take_apart
from hilum.deidentification.dicomdir import NAME as DIRECTORY
from hilum.deidentification.key import Key
from hilum.deidentification.workers import FirstPass
from hilum.errors import HilumError
from hilum.examples import SeriesTags, write_dicom_series

TESTS_OF_PYDICOM = Path(pydicom.__file__).parent / "data"


def run(folder, **options):
    """De-identify folder/in with folder/key."""
    chosen = DeidentifyOptions(**options)
    return deidentify(folder / "in", folder / "out", key=folder / "key", options=chosen)


def outputs(folder, report):
    """Data sets of the output by the names of their sources."""
    return {
        one.source: pydicom.dcmread(folder / "out" / one.output)
        for one in report.files
        if one.output and one.source
    }


def pet(start="20240305233000.00", **values):
    """A PET image acquired after midnight, its tracer given before."""
    ds = base(Planter(), "1.2.3.4.9")
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
    ds.Modality, ds.PatientWeight, ds.DecayCorrection = "PT", "72.5", "START"
    ds.SeriesDate = ds.AcquisitionDate = "20240306"
    ds.SeriesTime = ds.AcquisitionTime = "003000.00"
    tracer = Dataset()
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = "350000000", "6586.2"
    tracer.RadiopharmaceuticalStartTime = start[8:]
    tracer.RadiopharmaceuticalStartDateTime = start
    ds.RadiopharmaceuticalInformationSequence = Sequence([tracer])
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def suv_factor(ds):
    """Body-weight SUV of one Bq/ml, by hand."""
    (tracer,) = ds.RadiopharmaceuticalInformationSequence
    moments = []
    for text in (tracer.RadiopharmaceuticalStartDateTime, ds.SeriesDate + ds.SeriesTime):
        day = date(int(text[:4]), int(text[4:6]), int(text[6:8])).toordinal()
        moments.append(
            day * 86400 + int(text[8:10]) * 3600 + int(text[10:12]) * 60 + float(text[12:])
        )
    seconds = moments[1] - moments[0]
    dose = float(tracer.RadionuclideTotalDose) * 2 ** (
        -seconds / float(tracer.RadionuclideHalfLife)
    )
    return float(ds.PatientWeight) * 1000 / dose


def test_suv_stays_the_same(tmp_path):
    source = pet()
    write(source, tmp_path / "in" / "pet.dcm")
    report = run(tmp_path, retain_patient=True)
    ds = outputs(tmp_path, report)["pet.dcm"]
    assert ds.SeriesDate != "20240306"
    assert suv_factor(ds) == pytest.approx(suv_factor(source), rel=1e-12)
    assert report.warnings() == {}


def test_removed_dates_and_weight_are_said_for_pet(tmp_path):
    write(pet(), tmp_path / "in" / "pet.dcm")
    report = run(tmp_path, dates="remove")
    assert list(report.warnings()) == ["no SUV", "no dates"]
    ds = outputs(tmp_path, report)["pet.dcm"]
    assert "RadiopharmaceuticalStartTime" not in ds.RadiopharmaceuticalInformationSequence[0]


def test_intervals_between_studies_stay(tmp_path):
    days = ("20231230", "20240305", "20240306")
    for number, day in enumerate(days, start=1):
        ds = base(Planter(), f"1.2.3.4.{number}")
        ds.StudyDate, ds.StudyInstanceUID = day, f"1.2.3.9.{number}"
        write(ds, tmp_path / "in" / f"{number}.dcm")
    other = base(Planter(), "1.2.3.4.7")
    other.PatientID = "ANOTHER-1"
    write(other, tmp_path / "in" / "7.dcm")
    files = outputs(tmp_path, run(tmp_path))
    new = [files[f"{number}.dcm"].StudyDate for number in (1, 2, 3, 7)]
    ordinals = [date(int(one[:4]), int(one[4:6]), int(one[6:])).toordinal() for one in new]
    assert np.diff(ordinals)[:2].tolist() == [66, 1]
    shifts = {
        ordinals[1] - date(2024, 3, 5).toordinal(),
        ordinals[3] - date(2024, 3, 5).toordinal(),
    }
    assert len(shifts) == 2


def test_uids_agree_across_files_and_runs(tmp_path):
    image = base(Planter(), "1.2.3.4.1")
    follower = base(Planter(), "1.2.3.4.2")
    reference = Dataset()
    reference.ReferencedSOPClassUID = image.SOPClassUID
    reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
    follower.ReferencedImageSequence = Sequence([reference])
    for name, ds in (("a", image), ("b", follower)):
        write(ds, tmp_path / "in" / name)
    first = outputs(tmp_path, run(tmp_path))
    new = first["b"].ReferencedImageSequence[0].ReferencedSOPInstanceUID
    assert new == first["a"].SOPInstanceUID != image.SOPInstanceUID
    assert first["a"].StudyInstanceUID == first["b"].StudyInstanceUID
    second = deidentify(tmp_path / "in", tmp_path / "again", key=tmp_path / "key")
    names = {one.output for one in second.files}
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    third = deidentify(tmp_path / "in", tmp_path / "other", key=tmp_path / "key2")
    assert not names & {one.output for one in third.files}


def test_second_run_into_the_same_folder_changes_nothing(tmp_path):
    write(base(Planter(), "1.2.3.4.1"), tmp_path / "in" / "a")
    before = (tmp_path / "in" / "a").read_bytes()
    report = run(tmp_path)
    (name,) = [one.output for one in report.files]
    written = (tmp_path / "out" / name).read_bytes()
    assert [one.output for one in run(tmp_path).files] == [name]
    assert (tmp_path / "out" / name).read_bytes() == written
    assert (tmp_path / "in" / "a").read_bytes() == before


def test_output_folder_holds_only_the_files(tmp_path):
    write(base(Planter(), "1.2.3.4.1"), tmp_path / "in" / "Zappa" / "a")
    run(tmp_path)
    names = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert [name.endswith(".dcm") or name == ".hilum.json" for name in names] == [True] * 2
    told = {path.name for path in (tmp_path / "out_private_report").iterdir()}
    assert told >= {"report.md", "report.json"}


def test_the_report_lies_beside_an_output_that_is_named_by_a_dot(tmp_path, monkeypatch):
    write(base(Planter(), "1.2.3.4.1"), tmp_path / "in" / "a")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    deidentify(tmp_path / "in", ".", key=tmp_path / "key")
    assert (tmp_path / "out_private_report" / "report.md").is_file()


def test_copies_of_an_instance_get_names_of_their_own(tmp_path):
    for name in ("a", "b"):
        write(base(Planter(), "1.2.3.4.1"), tmp_path / "in" / name)
    report = run(tmp_path)
    assert len({one.output for one in report.files}) == 2


def test_uid_map_is_written_only_on_request(tmp_path):
    write(base(Planter(), "1.2.3.4.1"), tmp_path / "in" / "a")
    run(tmp_path)
    assert not (tmp_path / "out_private_report" / "uid_map.csv").exists()
    deidentify(tmp_path / "in", tmp_path / "out", key=tmp_path / "key", uid_map=True)
    rows = (tmp_path / "out_private_report" / "uid_map.csv").read_text().splitlines()
    assert rows[0] == "old,new"
    assert "1.2.3.4.1" in {row.split(",")[0] for row in rows}


# --- damage


def test_failed_file_never_costs_the_others(tmp_path):
    write(base(Planter(), "1.2.3.4.1"), tmp_path / "in" / "good")
    raw = (tmp_path / "in" / "good").read_bytes()
    (tmp_path / "in" / "short").write_bytes(raw[:-10])
    (tmp_path / "in" / "text").write_text("no DICOM")
    report = run(tmp_path)
    assert report.written == 1
    reasons = {one.source: one.error for one in report.failed}
    assert "ends too early" in reasons["short"]
    assert set(reasons) == {"short"}
    assert report.left_aside == 1
    with pytest.raises(DataError, match="no file could be de-identified"):
        deidentify(tmp_path / "in" / "short", tmp_path / "none", key=tmp_path / "key")


@pytest.mark.parametrize("seed", range(4))
def test_cut_and_altered_files_are_refused_or_read(tmp_path, seed):
    planter = Planter()
    ds = base(planter, "1.2.3.4.1")
    plant_nested(ds, planter)
    plant_private(ds, planter)
    write(ds, tmp_path / "a")
    raw = bytearray((tmp_path / "a").read_bytes())
    rng = np.random.default_rng(seed)
    first = FirstPass(Key(b"k"), DeidentifyOptions())
    for _ in range(100):
        altered = bytearray(raw)
        for at in rng.integers(132, len(raw), rng.integers(1, 4)):
            altered[at] = rng.integers(256)
        if rng.random() < 0.3:
            altered = altered[: rng.integers(140, len(raw))]
        (tmp_path / "b").write_bytes(altered)
        result = first(tmp_path / "b")
        assert isinstance(result, str) or result.data[128:132] == b"DICM"


def element(tag, vr, value, coding=None):
    return (coding or Coding()).element(tag, vr, value)


def test_damage_is_named():
    explicit = Coding()
    with pytest.raises(FormatError, match="where its value representation should stand"):
        read_head(b"\x10\0\x10\0??\4\0abcd", 0, explicit)
    with pytest.raises(FormatError, match="says 9 bytes at byte 8, and 4 are there"):
        read_head(b"\x10\0\x10\0PN\x09\0abcd", 0, explicit)
    with pytest.raises(FormatError, match="a data element begins at byte 0"):
        read_head(b"\x10\0\x10", 0, explicit)
    with pytest.raises(FormatError, match="a data element begins at byte 0"):
        read_head(b"\x08\0\x40\x11SQ\0\0\1\0", 0, explicit)
    inside = element(0x00100010, "PN", b"x")
    broken = explicit.head(0x00081140, "SQ", len(inside)) + inside
    with pytest.raises(FormatError, match="where an item of a sequence should begin"):
        list(items(broken, read_head(broken, 0, explicit), explicit))
    endless = explicit.head(0x00081140, "SQ", 0xFFFFFFFF) + inside
    with pytest.raises(FormatError, match="where an item of a sequence should begin"):
        end_of(endless, read_head(endless, 0, explicit), explicit)
    meta = explicit.element(0x00020010, "UI", b"1.2.840.10008.1.2.1.99")
    with pytest.raises(FormatError, match="cannot be inflated"):
        take_apart(meta + b"no deflated bytes", 0)


@pytest.mark.parametrize("coding", [Coding(), Coding(explicit=False), Coding(big=True)])
def test_elements_of_undefined_length_end_at_their_delimiters(coding):
    inner = element(0x00100010, "PN", b"A^B ", coding)
    item = coding.head(0xFFFEE000, "", 0xFFFFFFFF) + inner + coding.item_end
    data = coding.head(0x00081140, "SQ", 0xFFFFFFFF) + item * 2 + coding.sequence_end
    data += element(0x00280010, "US", b"\4\0", coding)
    found = list(elements(data, 0, len(data), coding))
    assert [one.tag for one in found] == [0x00081140, 0x00280010]
    inside = [data[start:end] for start, end in items(data, found[0], coding)]
    assert inside == [inner, inner]


# --- folders


def test_folders_in_each_other_are_refused(tmp_path):
    write(base(Planter(), "1.2.3.4.1"), tmp_path / "in" / "a")
    with pytest.raises(UsageError, match="lie in each other"):
        deidentify(tmp_path / "in", tmp_path / "in" / "out", key=tmp_path / "key")
    with pytest.raises(UsageError, match="lie in each other"):
        deidentify(tmp_path / "in", tmp_path, key=tmp_path / "key")
    with pytest.raises(UsageError, match=r"the key .* would lie in the output"):
        deidentify(tmp_path / "in", tmp_path / "out", key=tmp_path / "out" / "key")
    with pytest.raises(UsageError, match=r"the report .* would lie in the output"):
        deidentify(
            tmp_path / "in",
            tmp_path / "out",
            key=tmp_path / "key",
            report=tmp_path / "out" / "report",
        )
    with pytest.raises(UsageError, match="there is no"):
        deidentify(tmp_path / "inn", tmp_path / "out", key=tmp_path / "key")
    assert not (tmp_path / "key").exists()


def test_foreign_files_are_not_replaced(tmp_path):
    write(base(Planter(), "1.2.3.4.1"), tmp_path / "in" / "a")
    (name,) = [one.output for one in run(tmp_path).files]
    (tmp_path / "mine" / name.split("/")[0]).mkdir(parents=True)
    with pytest.raises(UsageError, match="files are in the way"):
        deidentify(tmp_path / "in", tmp_path / "mine", key=tmp_path / "key")


def test_several_processes_write_the_same(tmp_path):
    for number in range(4):
        write(base(Planter(), f"1.2.3.4.{number}"), tmp_path / "in" / f"{number}")
    one = run(tmp_path)
    two = deidentify(tmp_path / "in", tmp_path / "two", key=tmp_path / "key", workers=2)
    assert [file.output for file in two.files] == [file.output for file in one.files]
    for file in two.files:
        same = (tmp_path / "out" / file.output).read_bytes()
        assert (tmp_path / "two" / file.output).read_bytes() == same
    assert two.values == one.values


def test_no_pass_of_a_process_is_no_clean_file(tmp_path):
    write(base(Planter(), "1.2.3.4.1"), tmp_path / "a")
    for work in (workers._first, workers._second):
        with pytest.raises(AttributeError):
            work(tmp_path / "a")


def test_large_files_take_as_many_processes_as_allowed(tmp_path):
    paths = [tmp_path / str(number) for number in range(5)]
    for path in paths:
        path.touch()
    assert workers.processes_for(paths, None, 3) == 1
    with paths[0].open("r+b") as stream:
        stream.truncate(64 << 20)
    assert workers.processes_for(paths, None, 3) == 3
    assert workers.processes_for(paths, 2, 3) == 2


@pytest.mark.parametrize("ended", ["de-identify", "search"])
def test_a_killed_process_is_no_bug_and_warns_of_the_output(tmp_path, ended):
    for number in range(12):
        write(base(Planter(), f"1.2.3.4.{number}"), tmp_path / "in" / f"{number}")

    def kill(stage, done, _):
        if (stage, done) == (ended, 1):
            multiprocessing.active_children()[0].kill()

    key = tmp_path / "key"
    with pytest.raises(ResourceError, match=r"(?s)a process .* has ended.*do not give the output"):
        deidentify(tmp_path / "in", tmp_path / "out", key=key, workers=2, progress=kill)
    assert multiprocessing.active_children() == []
    assert len(run(tmp_path).files) == 12


# --- the same images


def test_series_reads_as_the_same_volume(tmp_path):
    rng = np.random.default_rng(3)
    geometry = Geometry.from_spacing((5, 9, 7), (2.5, 0.8, 1.1))
    image = rng.integers(-1000, 1000, (1, 5, 9, 7)).astype(np.int16)
    write_dicom_series(Volume(image, geometry), tmp_path / "in", tags=SeriesTags())
    run(tmp_path)
    (series,) = {path.parent for path in (tmp_path / "out").rglob("*.dcm")}
    before, after = read_volume(tmp_path / "in"), read_volume(series)
    np.testing.assert_array_equal(before.array, after.array)
    np.testing.assert_array_equal(before.geometry.affine, after.geometry.affine)


@pytest.mark.slow
def test_files_of_pydicom_keep_their_pixels(tmp_path):
    shutil.copytree(TESTS_OF_PYDICOM, tmp_path / "in")
    report = run(tmp_path)
    assert report.written >= 180
    refused = {one.source.rsplit("/", 1)[-1] for one in report.failed if "ends too" in one.error}
    assert refused == {"MR_truncated.dcm", "rtplan_truncated.dcm", "DICOMDIR-nooffset"}
    compared = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in report.files:
            if one.output and one.source:
                compared += same_pixels(tmp_path / "in" / one.source, tmp_path / "out" / one.output)
    assert compared > 90


def same_pixels(source, output):
    """Compare the pixels of two files, where the first can be decoded."""
    before = pydicom.dcmread(source, force=True)
    if "PixelData" not in before:
        return False
    after = pydicom.dcmread(output)
    try:
        expected = before.pixel_array
    except Exception:  # noqa: BLE001  (what pydicom cannot decode in the source)
        assert after.PixelData == before.PixelData
        return False
    np.testing.assert_array_equal(expected, after.pixel_array)
    return True


@pytest.mark.slow
def test_real_series_read_as_the_same_volumes(real_data, tmp_path):
    equal = 0
    for folder in sorted((real_data / "dicom").iterdir()):
        if not folder.is_dir():
            continue
        place = tmp_path / folder.name
        deidentify(folder, place / "out", key=tmp_path / "key", search=False)
        series = {path.parent for path in (place / "out").rglob("*.dcm")}
        try:
            before = read_volume(folder)
        except HilumError:
            continue
        assert len(series) == 1
        after = read_volume(series.pop())
        np.testing.assert_array_equal(before.array, after.array)
        np.testing.assert_array_equal(before.geometry.affine, after.geometry.affine)
        equal += 1
    assert equal >= 5


def test_an_archive_is_de_identified_as_its_folder_is(tmp_path):
    plant_study(tmp_path / "in")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        media = FileSet()
        media.add(tmp_path / "in" / "Qwertz_Zappa" / "9.dcm")
        media.write(tmp_path / "in")
        media._stage["t"].cleanup()
    archive = shutil.make_archive(str(tmp_path / "Qwertz"), "zip", tmp_path / "in")
    report = deidentify(archive, tmp_path / "zipped", key=tmp_path / "key")
    other = deidentify(tmp_path / "in", tmp_path / "out", key=tmp_path / "key")
    assert report.files == other.files
    assert DIRECTORY in {one.output for one in report.files}
    names = sorted(one.output for one in report.files if one.output)
    assert len(names) >= 6
    for name in set(names) - {DIRECTORY}:  # its own UID is random
        assert (tmp_path / "zipped" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert Path(archive).exists()


def test_archives_within_a_folder_are_named(tmp_path):
    write(base(Planter(), "1.2.3.4.5"), tmp_path / "in" / "a.dcm")
    shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path / "in")
    (tmp_path / "b.zip").rename(tmp_path / "in" / "b.zip")
    report = run(tmp_path)
    remarks = {one.source: one.remark for one in report.files}
    assert remarks == {"a.dcm": "", "b.zip": "zip archive: not opened; de-identify it by itself"}


def test_a_damaged_archive_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    write(base(Planter(), "1.2.3.4.5"), tmp_path / "in" / "a.dcm")
    archive = Path(shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path / "in"))
    raw = bytearray(archive.read_bytes())
    raw[60:90] = bytes(30)
    archive.write_bytes(raw)
    with pytest.raises(FormatError, match="the archive cannot be unpacked"):
        deidentify(archive, tmp_path / "out", key=tmp_path / "key")
    assert not (tmp_path / "out").exists()
