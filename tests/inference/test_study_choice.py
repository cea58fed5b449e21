"""A study is one case: the series that suits the model is taken, and every file accounted for."""

from __future__ import annotations

import json
import re
import shutil
import zipfile

import numpy as np
import pytest

from hilum import api
from hilum.dataset import check, open_dataset, read_case
from hilum.dataset.layouts.study_folders import choice_by_names
from hilum.dicom.choose import SeriesChoice
from hilum.dicom.rule import parse_rule
from hilum.dicom.study import read_studies
from hilum.dicom_results.producer import Producer
from hilum.dicom_results.seg import write_segmentation
from hilum.errors import DataError, GeometryError, UsageError
from hilum.examples import SeriesTags, write_dicom_series
from hilum.inference.find import find
from hilum.inference.many import find_for
from hilum.inference.predictor import Predictor
from hilum.io import read_channels, read_geometry, read_volume
from hilum.volume import Geometry, LabelTable, Volume
from inference_toys import make_model

OTHER_SERIES = "a DICOM series of the study that was not chosen"


def image(slices=9, value=100, *, z=2.5):
    affine = np.array([[0, 0, 1.1, 4], [0, 1.2, 0, -7], [z, 0, 0, 9], [0, 0, 0, 1.0]])
    return Volume(np.full((1, slices, 8, 6), value, np.int16), Geometry((slices, 8, 6), affine))


def write(folder, number, description="", *, volume=None, patient="P1", **more):
    tags = SeriesTags(
        patient_id=patient, series_number=number, series_description=description, **more
    )
    return write_dicom_series(volume or image(value=number), folder, tags=tags)


def mixed(folder, *written):
    """Put the files of several series into one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, files in enumerate(written):
        for file in files:
            file.rename(folder / f"{n}_{file.name}")
    return folder


@pytest.fixture
def study(tmp_path):
    """A scout, a native series, a sharp one, and a dose report's screen."""
    folder = tmp_path / "study"
    write(folder / "S1", 1, "Topogram", volume=image(1),
          attributes={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})  # fmt: skip
    write(folder / "S2", 2, "Abdomen 2.5", attributes={"ConvolutionKernel": "B30f"})
    write(folder / "S3", 3, "Abdomen 2.5 bone", attributes={"ConvolutionKernel": "B70f"})
    write(folder / "S4", 4, "Dose report", volume=image(1),
          attributes={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"})  # fmt: skip
    return folder


def reasons(found):
    return {one.path.parent.name: one.reason for one in found.files.others}


def test_one_study_is_one_case(study):
    found = find([study], ["CT"])
    (case,) = found.cases
    assert case.id == "study"
    assert case.images == {"CT": study / "S2"}
    (choice,) = found.choices["study"]
    assert choice.because == "modality CT (+1); soft kernel B30f (+0.5); axial (+0.5)"
    assert reasons(found) == {
        "S1": "a localizer (scout)",
        "S3": OTHER_SERIES,
        "S4": "a picture of a screen (secondary capture)",
    }
    assert found.files.taken == 9
    assert read_volume(case.images["CT"]).array.max() == 2


@pytest.mark.parametrize("damage", [b"\0" * 900, b"\0" * 128 + b"DICM" + b"\xff" * 40])
def test_a_series_beside_a_file_that_cannot_be_read_is_not_taken(study, damage):
    """It may lack its last slice, which leaves no gap."""
    max((study / "S2").iterdir()).write_bytes(damage)
    (soft,) = [v for v in read_studies(study).studies[0].volumes if v.number == "2"]
    assert soft.fault is not None
    found = find([study], ["CT"])
    (case,) = found.cases
    assert (case.fault, case.images) == (None, {"CT": study / "S3"})
    assert found.files.taken == 9


def test_a_rule_decides(study):
    choice = choice_by_names(["CT"])
    ruled = SeriesChoice(choice.wanted, parse_rule("description~bone"))
    (case,) = find([study], ["CT"], choice=ruled).cases
    assert case.images == {"CT": study / "S3"}
    nothing = SeriesChoice(choice.wanted, parse_rule("number=9"))
    (case,) = find([study], ["CT"], choice=nothing).cases
    assert "no series fulfils 'number=9'" in case.fault.found


def test_studies_and_patients_are_a_case_each(tmp_path):
    for patient in ("P1", "P2"):
        for year in ("2019", "2020"):
            for number, kernel in ((2, "B30f"), (3, "B70f")):
                folder = tmp_path / patient / year / f"S{number}"
                write(folder, number, patient=patient, study_date=f"{year}0101",
                      attributes={"ConvolutionKernel": kernel})  # fmt: skip
    found = find([tmp_path], ["CT"])
    assert [case.id for case in found.cases] == [
        "P1__2019", "P1__2020", "P2__2019", "P2__2020",
    ]  # fmt: skip
    assert len(found.choices) == 4


def test_studies_in_one_folder_are_told_apart(tmp_path, caplog):
    folder = mixed(
        tmp_path / "flat",
        *(
            write(tmp_path / f"{patient}{n}", n, patient=patient,
                  attributes={"ConvolutionKernel": "B30f" if n == 2 else "B70f"})
            for patient in ("P1", "P2")
            for n in (2, 3)
        ),
    )  # fmt: skip
    found = find([folder], ["CT"])
    assert [case.id for case in found.cases] == ["P1", "P2"]
    assert "2 DICOM studies lie in one folder" in caplog.text
    assert "named after its patient: P1, P2" in caplog.text
    assert all(read_volume(case.images["CT"]).array.max() == 2 for case in found.cases)
    assert found.files.taken == 18


def test_single_series_of_patients_and_dates_in_one_folder_are_named_by_both(tmp_path):
    written = [
        write(tmp_path / f"{patient}{year}", 2, patient=patient, study_date=f"{year}0101")
        for patient, year in (("P1", 2019), ("P1", 2020), ("P2", 2020))
    ]
    found = find([mixed(tmp_path / "flat", *written)], ["CT"])
    assert [case.id for case in found.cases] == ["P1_20190101", "P1_20200101", "P2"]


def test_studies_of_one_folder_without_a_name_of_their_own_have_the_uids(tmp_path):
    same_day = [
        write(tmp_path / f"{n}", 2, patient="P1", uid_seed=f"{n}", study_date="20200101")
        for n in range(2)
    ]
    unnamed = write(tmp_path / "nobody", 2, patient="", study_date="20200102")
    found = find([mixed(tmp_path / "flat", *same_day, unnamed)], ["CT"])
    assert [re.sub(r"\d+$", "", case.id) for case in found.cases] == [
        "P1_study_", "P1_study_", "study_"
    ]  # fmt: skip


def test_a_table_chooses_among_the_volumes_of_one_series(tmp_path):
    written = [
        write(tmp_path / f"b{b}", 2, volume=image(value=b), acquisition=n, modality="MR",
              attributes={"DiffusionBValue": float(b)})
        for n, b in ((1, 0), (2, 800))
    ]  # fmt: skip
    mixed(tmp_path / "study", *written)
    table = tmp_path / "cases.csv"
    table.write_text("case,image_DWI,label\na,study,x\nb,study,y\n")
    dataset = open_dataset(table)
    assert [case.fault for case in dataset.cases] == [None, None]
    assert (read_case(dataset.cases[0]).array == 800).all()
    uid = str(dataset.cases[0].images["DWI"]).rpartition("/")[0]
    table.write_text(f"case,image_DWI,label\na,{uid},x\nb,{uid},y\n")
    assert open_dataset(table).cases[0].images == dataset.cases[0].images


def test_channels_of_one_frame_of_reference_are_no_finding(tmp_path):
    for patient in ("a", "b"):
        write(tmp_path / patient / "ct", 2, patient=patient)
        write(tmp_path / patient / "pet", 3, patient=patient, volume=image(5, z=4.0))
    table = tmp_path / "cases.csv"
    rows = "".join(f"{p},{p}/ct,{p}/pet,{n}\n" for n, p in enumerate("ab"))
    table.write_text(f"case,image_CT,image_PET,label\n{rows}")
    dataset = open_dataset(table)
    assert "channel-grid" not in {one.kind for one in check(dataset)}
    assert read_case(dataset.cases[0]).channels == 2


def test_dicom_images_without_annotation_are_sent_to_series(study):
    with pytest.raises(DataError, match="holds DICOM images, and no mask") as caught:
        open_dataset(study)
    assert f"`hilum series {study}`" in caught.value.cure
    (study / "S2" / "0004.dcm").unlink()
    with pytest.raises(
        DataError, match=r"cannot be used: series 2 'Abdomen 2\.5' \(.*gap"
    ) as caught:
        open_dataset(study)
    assert caught.value.found.endswith("series 1 'Topogram' (a localizer (scout)) and 1 more")


def test_one_of_two_acquisitions_is_chosen_by_rule(tmp_path):
    written = [write(tmp_path / f"a{n}", 2, volume=image(value=n), acquisition=n) for n in (1, 2)]
    folder = mixed(tmp_path / "study", *written)
    (case,) = find([folder], ["CT"]).cases
    assert "2 series suit channel CT equally well" in case.fault.found
    assert "2/acq1: CT series 2 (acquisition 1)" in case.fault.found
    choice = SeriesChoice(choice_by_names(["CT"]).wanted, parse_rule("2/acq2"))
    (case,) = find([folder], ["CT"], choice=choice).cases
    assert str(case.images["CT"]).endswith("/acq2")
    assert read_volume(case.images["CT"]).array.max() == 2


def test_channels_take_their_series(tmp_path):
    write(tmp_path / "study/a", 2, "CT AC", volume=image())
    write(tmp_path / "study/b", 3, "PET WB", modality="PT", volume=image(),
          attributes={"Units": "GML"})  # fmt: skip
    (case,) = find([tmp_path / "study"], ["PET", "CT"]).cases
    assert {name: path.name for name, path in case.images.items()} == {"PET": "b", "CT": "a"}


def test_a_copy_in_a_series_is_left_out_with_a_reason(tmp_path):
    files = write(tmp_path / "study", 2)
    shutil.copy(files[3], tmp_path / "study" / "again.dcm")
    found = find([tmp_path / "study"], ["CT"])
    assert len(found.cases) == 1
    assert [one.reason for one in found.files.others] == ["a copy: the same image"]


def test_a_dicomdir_stands_for_its_folder(study):
    (study / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    found = find([study / "DICOMDIR"], ["CT"])
    assert [case.id for case in found.cases] == ["study"]


@pytest.fixture(scope="module")
def model():
    return make_model(precision="float32")


def test_predict_says_which_series_and_why(model, study, tmp_path, caplog):
    report = api.predict(model, study, tmp_path / "out", device="cpu")
    (case,) = report.cases
    assert case.status == "done"
    (words,) = case.series
    assert words.startswith("CT: series 2 'Abdomen 2.5' is taken among 4: modality CT (+1)")
    assert f"study: {words}" in caplog.text
    saved = json.loads((tmp_path / "out/run.json").read_text())
    assert saved["cases"][0]["series"] == [words]
    assert {one["reason"]: one["count"] for one in saved["files"]["left_out"]} == {
        "a localizer (scout)": 1,
        OTHER_SERIES: 9,
        "a picture of a screen (secondary capture)": 1,
    }
    ruled = api.predict(model, study, tmp_path / "bone", series="3", device="cpu")
    assert "series 3 'Abdomen 2.5 bone'" in ruled.cases[0].series[0]
    assert ruled.options["series"] == "3"


def test_a_study_without_a_clear_series_fails_alone(model, study, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(study, root / "good")
    for n in (5, 6):
        write(root / "tie" / f"S{n}", n, patient="P9")
    report = api.predict(model, root, tmp_path / "out", device="cpu")
    assert {case.case: case.status for case in report.cases} == {"good": "done", "tie": "failed"}
    assert "2 series suit channel CT equally well" in report.cases[0].error or (
        "2 series suit channel CT equally well" in report.cases[1].error
    )


def test_a_rule_that_is_none_is_refused_at_once(model, study, tmp_path):
    with pytest.raises(UsageError, match="'kernl' at character 1"):
        api.predict(model, study, tmp_path / "out", series="kernl=B30f", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_zip_is_predicted_and_its_folder_removed(model, study, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    archive = shutil.make_archive(str(tmp_path / "case7"), "zip", study)
    report = api.predict(model, archive, tmp_path / "out", device="cpu")
    assert [(case.case, case.status) for case in report.cases] == [("case7", "done")]
    assert report.files.taken == 9
    assert list((tmp_path / "temporary").iterdir()) == []
    again = api.predict(model, archive, tmp_path / "out", device="cpu", skip_existing=True)
    assert [case.status for case in again.cases] == ["skipped"]


def test_the_models_own_check_decides_between_equal_series(tmp_path):
    """Two series look the same in their headers; one has values that no CT has."""
    made = make_model(precision="float32")
    predictor = Predictor(made)
    for n, value in ((2, 100), (3, 100)):
        write(tmp_path / "study" / f"S{n}", n, volume=image(value=value))

    def unlike_training(file):
        return () if "S3" in str(file) else ("values down to -3000",)

    predictor.unlike_training = unlike_training
    found = find_for(predictor, [tmp_path / "study"])
    assert found.cases[0].images == {"CT": tmp_path / "study/S3"}
    (choice,) = found.choices["study"]
    assert choice.volume.number == "3"


def test_a_series_that_cannot_be_judged_counts_as_unlike(tmp_path):
    predictor = Predictor(make_model(precision="float32"))
    for n in (2, 3):
        write(tmp_path / "study" / f"S{n}", n)

    def fail(file):
        raise DataError(f"{file}: damaged")

    predictor.unlike_training = fail
    (case,) = find_for(predictor, [tmp_path / "study"]).cases
    assert "it cannot be judged: " in case.fault.found


def test_named_files_of_a_study_are_one_case(study):
    files = [*(study / "S2").iterdir(), *(study / "S3").iterdir()]
    assert len(find(files, ["CT"]).cases) == 2  # two folders were named, file by file
    assert [case.id for case in find([study / "S2", study / "S3"], ["CT"]).cases] == ["S2", "S3"]


def test_archives_name_no_files_outside(tmp_path, model):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../evil.dcm", b"x")
    with pytest.raises(DataError, match=r"'../evil.dcm' is a file outside of the archive"):
        api.predict(model, tmp_path / "x.zip", tmp_path / "out", device="cpu")
    assert not (tmp_path / "evil.dcm").exists()


def test_annotated_studies_are_named_as_their_data_set(tmp_path):
    """Predictions pair with annotations; which series is predicted is the model's choice."""
    root = tmp_path / "data"
    for patient in ("P1", "P2", "P3"):
        images = root / patient / "study" / "ct"
        write(images, 2, patient=patient, attributes={"ConvolutionKernel": "B30f"})
        write(images.with_name("bone"), 3, patient=patient,
              attributes={"ConvolutionKernel": "B70f"})  # fmt: skip
        if patient != "P3":
            geometry = read_geometry(images)
            labels = Volume(np.zeros((1, *geometry.shape), np.uint8), geometry)
            labels.array[0, 2:5, 2:5, 2:5] = 1
            (images.parent / "seg").mkdir()
            target = images.parent / "seg/seg.dcm"
            table, producer = LabelTable.from_names({1: "liver"}), Producer("m", "1")
            write_segmentation(labels, table, images, target, producer=producer)
    known = [case.id for case in open_dataset(root).cases]
    found = find([root], ["CT"])
    assert [case.id for case in found.cases] == [*known, "P3"] == ["P1", "P2", "P3"]
    assert all(case.images["CT"].name == "ct" for case in found.cases)
    assert "a DICOM object that is no image (SEG)" in {one.reason for one in found.files.others}
    as_masks = find([root], ["CT"], annotated=True)  # of a classifier that looks at a mask
    assert [case.id for case in as_masks.cases if case.region is not None] == known


def ramp(slices, size, mm, *, start=0.0, frame="1.2.3"):
    """A volume whose values are the millimetres along z."""
    geometry = Geometry(
        (slices, size, size),
        np.array([[0, 0, mm, 0], [0, mm, 0, 0], [mm, 0, 0, start], [0, 0, 0, 1.0]]),
        frame,
    )
    array = np.broadcast_to((start + mm * np.arange(slices))[:, None, None], geometry.shape)
    return Volume(array[None].astype(np.int16), geometry)


def test_pet_and_ct_of_one_frame_lie_on_one_grid(tmp_path):
    write(tmp_path / "s/pet", 3, "PET", volume=ramp(9, 8, 4.0), modality="PT",
          attributes={"Units": "GML"})  # fmt: skip
    write(tmp_path / "s/ct", 2, "CT", volume=ramp(17, 16, 2.0))
    (case,) = find([tmp_path / "s"], ["PET", "CT"]).cases
    volume = read_channels(case.images)
    assert volume.geometry.shape == (9, 8, 8)
    assert np.abs(volume.array[0] - volume.array[1]).max() < 1e-3
    other = read_channels(dict(reversed(case.images.items())))
    assert other.geometry.shape == (17, 16, 16)


def test_channels_of_different_parts_of_a_patient_are_refused(tmp_path):
    write(tmp_path / "pet", 3, volume=ramp(9, 8, 4.0))
    write(tmp_path / "ct", 2, volume=ramp(9, 8, 4.0, start=400.0))
    with pytest.raises(GeometryError, match="show different parts of one patient"):
        read_channels({"PET": tmp_path / "pet", "CT": tmp_path / "ct"})


def test_channels_without_a_common_frame_are_not_resampled(tmp_path):
    write(tmp_path / "pet", 3, volume=ramp(9, 8, 4.0, frame="1.2.4"))
    write(tmp_path / "ct", 2, volume=ramp(17, 16, 2.0))
    with pytest.raises(GeometryError, match="lie on different grids"):
        read_channels({"PET": tmp_path / "pet", "CT": tmp_path / "ct"})


def test_studies_named_by_a_table_take_their_series(tmp_path):
    """A classification has no annotation that says which series is meant."""
    for n in range(4):
        for number, kernel in ((2, "B30f"), (3, "B70f")):
            write(tmp_path / f"studies/s{n}/S{number}", number, patient=f"P{n}",
                  volume=image(value=10 * n + number),
                  attributes={"ConvolutionKernel": kernel})  # fmt: skip
    write(tmp_path / "studies/s3/S4", 4, patient="P3", attributes={"ConvolutionKernel": "B30f"})
    rows = "".join(f"studies/s{n},P{n},{'sick' if n % 2 else 'well'}\n" for n in range(4))
    (tmp_path / "cases.csv").write_text(f"image_CT,patient,label\n{rows}")
    dataset = open_dataset(tmp_path)
    assert all(read_case(dataset[f"s{n}"]).array.max() == 10 * n + 2 for n in range(3))
    assert "2 series suit channel CT equally well" in dataset["s3"].fault.found
    assert any("of 3 DICOM studies one of several series was chosen" in n for n in dataset.notes)
    assert dataset.files.taken == 3 * 9 + 1
    findings = [one for one in check(dataset) if one.severity == "error"]
    assert {one.case for one in findings} == {"s3"}
    found = find([tmp_path / "cases.csv"], ["CT"])
    assert [case.fault is None for case in found.cases] == [True, True, True, False]
    assert set(found.choices) == {"s0", "s1", "s2"}


def test_a_model_predicts_a_study_from_its_folder(model, study, caplog):
    prediction = Predictor(model).predict(study)
    assert prediction.case == "study"
    assert "study: CT: series 2 'Abdomen 2.5' is taken among 4" in caplog.text
    assert prediction.labels.geometry == read_geometry(study / "S2")


def test_a_folder_of_two_studies_is_no_case(model, tmp_path):
    for patient in ("P1", "P2"):
        write(tmp_path / patient, 2, patient=patient)
    with pytest.raises(DataError, match="2 studies in the folder of one case"):
        Predictor(model).predict(tmp_path)
    write(tmp_path / "P1/again", 3, patient="P1")
    for file in (tmp_path / "P1").glob("*.dcm"):
        file.rename(tmp_path / "P1/again" / f"b{file.name}")
    with pytest.raises(DataError, match="2 series suit channel CT equally well"):
        Predictor(model).predict(tmp_path / "P1")
