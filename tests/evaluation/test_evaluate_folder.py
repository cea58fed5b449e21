"""Folders of predictions: matching, grids, label tables, results on disk, faults all at once."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hilum.dataset import Case, Dataset, open_dataset
from hilum.errors import DataError, GeometryError, LabelError, UsageError
from hilum.evaluation import METRICS, Evaluation, compare, evaluate_folder, score_labels
from hilum.evaluation.estimates import COLUMNS
from hilum.files import OutputFolder
from hilum.io import read_labels, write_labels, write_volume
from hilum.volume import Geometry, LabelTable, Volume, reorient

TABLE = LabelTable.from_names({1: "liver", 2: "tumour"})


def oblique(shape: tuple[int, int, int] = (6, 11, 14)) -> Geometry:
    angle = np.deg2rad(20)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    return Geometry.from_spacing(
        shape, (3.0, 0.8, 1.25), origin=(-31.0, 12.5, 208.0), directions=turn @ np.eye(3)[:, ::-1]
    )


def labels(seed: int, geometry: Geometry | None = None) -> Volume:
    geometry = geometry or oblique()
    array = np.zeros(geometry.shape, dtype=np.uint8)
    array[1:4, 2:8, 3 + seed % 3 : 9] = 1
    array[2:4, 3:5, 5:7] = 2
    return Volume(array[None], geometry)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Predictions and references of three cases, and a place for the results."""
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    for number, name in enumerate(("a", "b.1", "c")):
        write_labels(labels(number + 1), predictions / f"{name}.nii.gz")
        write_labels(labels(number), references / f"{name}.nii.gz")
    return predictions, references, tmp_path / "out"


def as_dataset(references: Path) -> Dataset:
    patients = {"a": "p1", "b.1": "p1", "c": "p2"}
    files = {case: references / f"{case}.nii.gz" for case in patients}
    cases = [
        Case(id=case, patient=patients[case], images={"CT": file}, annotation=file)
        for case, file in files.items()
    ]
    return Dataset(
        name="three",
        root=references,
        layout="table",
        cases=tuple(cases),
        channels=("CT",),
        labels=TABLE,
    )


def test_pictures_of_one_size_are_one_grid(tmp_path: Path) -> None:
    picture = Geometry.from_spacing((1, 11, 14))
    printed = Geometry.from_spacing((1, 11, 14), (1.0, 0.0847, 0.0847))  # 300 dots an inch
    write_labels(labels(0, picture).with_array(labels(0).array[:, 2:3]), tmp_path / "p" / "a.png")
    write_labels(Volume(labels(0).array[:, 2:3], printed), tmp_path / "r" / "a.png")
    evaluation = evaluate_folder(tmp_path / "p", tmp_path / "r", tmp_path / "out")
    assert evaluation.scores[0].dice == 1.0
    elsewhere = Geometry.from_spacing((1, 11, 14), origin=(5.0, 0.0, 0.0))
    write_labels(Volume(labels(0).array[:, 2:3], elsewhere), tmp_path / "q" / "a.nii.gz")
    with pytest.raises(GeometryError, match="lies on another grid"):
        evaluate_folder(tmp_path / "q", tmp_path / "r", tmp_path / "out")


def test_what_nobody_annotated_is_no_object(tmp_path: Path) -> None:
    picture = Geometry.from_spacing((1, 11, 14))
    cells = np.zeros((1, 1, 11, 14), dtype=np.uint8)
    cells[..., 1:4, 1:4], cells[..., 6:9, 1:4], cells[..., 9:] = 1, 2, 255
    write_labels(Volume(cells, picture), tmp_path / "r" / "a.nii.gz")
    write_labels(Volume(np.where(cells == 255, 0, cells), picture), tmp_path / "p" / "a.nii.gz")
    table = LabelTable.from_names({1: "cell"}, ignore=255)
    folders = tmp_path / "p", tmp_path / "r", tmp_path / "out"
    (row,) = evaluate_folder(*folders, table=table, instances=True).scores
    assert (row.dice, row.pq, row.lesions_reference) == (1, 1, 2)


def test_a_data_set_as_reference(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, out = folders
    seen: list[tuple[int, int, str]] = []
    evaluation = evaluate_folder(
        predictions,
        as_dataset(references),
        out,
        tolerance_mm=1.5,
        progress=lambda *p: seen.append(p),
    )
    assert seen == [(1, 3, "a"), (2, 3, "b.1"), (3, 3, "c")]
    assert [(s.case, s.patient, s.region) for s in evaluation.scores[:4]] == [
        ("a", "p1", "liver"),
        ("a", "p1", "tumour"),
        ("b.1", "p1", "liver"),
        ("b.1", "p1", "tumour"),
    ]
    by_hand = score_labels(
        labels(1).array[0],
        labels(0).array[0],
        spacing=oblique().spacing,
        table=TABLE,
        tolerance_mm=1.5,
        case="a",
        patient="p1",
    )
    for metric in METRICS:
        assert getattr(evaluation.scores[0], metric) == pytest.approx(
            getattr(by_hand[0], metric), rel=1e-5, abs=1e-9
        )
    assert evaluation.summary["liver"].metrics["dice"].patients == 2
    assert evaluation.record.labels == TABLE


def test_an_annotation_whose_header_is_rounded_lies_on_its_images_grid(tmp_path: Path) -> None:
    """A prediction has the image's grid, the annotation's header is 0.03 voxels off."""
    grid = oblique()
    off = Geometry(grid.shape, grid.affine + np.pad([[0.024]], ((0, 3), (3, 0))))
    image, reference = tmp_path / "image.nii.gz", tmp_path / "reference.nii.gz"
    write_labels(labels(0, grid), image)
    write_labels(labels(0, off), reference)
    write_labels(labels(0, grid), tmp_path / "predictions" / "a.nii.gz")
    one = Case(id="a", patient=None, images={"CT": image}, annotation=reference)
    dataset = Dataset(
        name="one", root=tmp_path, layout="table", cases=(one,), channels=("CT",), labels=TABLE
    )
    evaluation = evaluate_folder(tmp_path / "predictions", dataset, tmp_path / "out")
    assert [score.dice for score in evaluation.scores] == [1.0, 1.0]


def test_further_metrics_are_columns_and_come_back(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, out = folders
    made = evaluate_folder(
        predictions,
        as_dataset(references),
        out,
        tolerance_mm=(2, 0.5),
        surface="mesh",
        lesion_overlap=0.2,
        also=("boundary_iou",),
    )
    with (out / "cases.csv").open(encoding="utf-8") as stream:
        header = next(csv.reader(stream))
    assert header[-2:] == ["nsd_0.5mm", "boundary_iou"]
    loaded = Evaluation.load(out)
    assert loaded.record == made.record
    assert repr(loaded.scores) == repr(made.scores)
    assert (loaded.record.surface, loaded.record.lesion_overlap) == ("mesh", 0.2)
    assert made.summary["liver"].metrics["nsd_0.5mm"].mean < made.summary.mean(
        "nsd", region="liver"
    )
    parts = {(one.part, one.metric) for one in made.estimates}
    assert {("liver", "boundary_iou"), ("", "boundary_iou"), ("tumour", "nsd_0.5mm")} <= parts
    assert "NSD at 0.5 mm" in (out / "summary.md").read_text(encoding="utf-8")
    again = evaluate_folder(predictions, as_dataset(references), out, tolerance_mm=(2, 0.5))
    with pytest.raises(UsageError, match="a surface of mesh and of voxel"):
        compare(made, again)
    compared = compare(again, again)
    assert compared["liver", "nsd_0.5mm"].a == again.summary.mean("nsd_0.5mm", region="liver")


def test_what_is_written(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, out = folders
    evaluation = evaluate_folder(predictions, as_dataset(references), out)
    with (out / "cases.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    assert float(rows[0]["dice"]) == evaluation.scores[0].dice
    summary = json.loads((out / "summary.json").read_text())
    assert summary["tolerance_mm"] == 2.0
    assert (
        summary["summary"]["regions"][0]["metrics"]["dice"]["mean"]
        == evaluation.summary["liver"].metrics["dice"].mean
    )
    text = (out / "summary.md").read_text()
    assert "## liver" in text
    assert "3 cases of 2 patients" in text
    with (out / "estimates.csv").open(newline="") as stream:
        estimates = list(csv.DictReader(stream))
    assert tuple(estimates[0]) == COLUMNS
    assert {(row["part"], row["metric"]) for row in estimates} == {
        (part, metric) for part in ("liver", "tumour", "") for metric in METRICS
    }
    dice = evaluation.summary["liver"].metrics["dice"]
    assert (estimates[0]["part"], estimates[0]["metric"]) == ("liver", "dice")
    assert float(estimates[0]["value"]) == dice.mean
    assert float(estimates[0]["low"]) == dice.low
    assert len(evaluation.case_values) == len(METRICS) * len(evaluation.scores)
    loaded = Evaluation.load(out)
    assert repr(loaded.scores) == repr(evaluation.scores)
    assert loaded.record.model_dump_json() == evaluation.record.model_dump_json()
    assert sorted(path.name for path in out.glob("[!.]*")) == [
        "cases.csv",
        "estimates.csv",
        "summary.json",
        "summary.md",
    ]


def test_a_plain_folder_says_what_it_assumed(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, out = folders
    evaluation = evaluate_folder(predictions, references, out)
    assert [label.name for label in evaluation.record.labels.foreground] == ["label 1", "label 2"]
    assert any(
        "labels as found in the references: [1, 2]" in note for note in evaluation.record.notes
    )
    assert any("each case counts as one patient" in note for note in evaluation.record.notes)
    assert "labels as found" in evaluation.markdown()
    (predictions / "labels.json").write_text(TABLE.model_dump_json())
    assert evaluate_folder(predictions, references, out).record.labels == TABLE
    assert evaluate_folder(predictions, references, out, table=TABLE).record.labels == TABLE


def test_the_folder_of_a_data_set_takes_its_labels(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, out = folders
    raw = references.parent / "Dataset001"
    (raw / "imagesTr").mkdir(parents=True)
    (raw / "labelsTr").mkdir()
    for path in references.iterdir():
        name = path.name.removesuffix(".nii.gz")
        (raw / "labelsTr" / path.name).write_bytes(path.read_bytes())
        (raw / "imagesTr" / f"{name}_0000.nii.gz").write_bytes(path.read_bytes())
    names = {"background": 0, "liver": 1, "tumour": 2}
    description = {
        "channel_names": {"0": "CT"},
        "labels": names,
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    plain = evaluate_folder(predictions, raw / "labelsTr", out)
    assert [label.name for label in plain.record.labels.foreground] == ["liver", "tumour"]
    whole = evaluate_folder(predictions, raw, out)
    assert repr(whole.scores) == repr(plain.scores)
    assert repr(evaluate_folder(predictions, open_dataset(raw), out).scores) == repr(whole.scores)


def test_formats_and_orientations_may_differ(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, out = folders
    before = evaluate_folder(predictions, references, out).scores
    for number, (name, suffix, code) in enumerate(
        (("a", ".nrrd", "LPI"), ("b.1", ".mha", "RSA"), ("c", ".nii", "IAL"))
    ):
        (predictions / f"{name}.nii.gz").unlink()
        write_labels(reorient(labels(number + 1), code), predictions / f"{name}{suffix}")
    after = evaluate_folder(predictions, references, out).scores
    for a, b in zip(before, after, strict=True):
        assert [getattr(a, m) for m in METRICS] == pytest.approx(
            [getattr(b, m) for m in METRICS], rel=1e-5, abs=1e-9, nan_ok=True
        )


def test_missing_predictions(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, out = folders
    (predictions / "b.1.nii.gz").unlink()
    write_labels(labels(0), predictions / "extra.nii.gz")
    with pytest.raises(DataError, match=r"1 of 3 cases .* have no prediction .*: b\.1"):
        evaluate_folder(predictions, references, out)
    assert not out.exists()
    evaluation = evaluate_folder(predictions, references, out, allow_missing=True)
    assert evaluation.record.missing == ("b.1",)
    assert evaluation.record.unexpected == ("extra.nii.gz",)
    assert "Without prediction and left out: b.1." in evaluation.markdown()
    assert "belong to no case: extra.nii.gz." in evaluation.markdown()
    for number in range(12):
        (predictions / f"more{number:02}.nii.gz").hardlink_to(predictions / "extra.nii.gz")
    page = evaluate_folder(predictions, references, out, allow_missing=True).markdown()
    assert "more08.nii.gz and 3 more; all in summary.json." in page
    for name in ("a", "c"):
        (predictions / f"{name}.nii.gz").unlink()
    with pytest.raises(DataError, match="name the files after the cases"):
        evaluate_folder(predictions, references, out, allow_missing=True)


def worse(folder: Path, change: Callable[[Volume], Volume]) -> None:
    for number, name in enumerate(("a", "b.1")):
        write_labels(change(labels(number)), folder / f"{name}.nii.gz")


def test_every_case_on_another_grid_is_named(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, out = folders
    worse(
        predictions,
        lambda v: Volume(v.array, v.geometry.shifted((0.0, 0.5, 0.0), v.geometry.shape)),
    )
    with pytest.raises(GeometryError, match=r"(?s)case a: .*another grid.*case b\.1: ") as caught:
        evaluate_folder(predictions, references, out)
    assert "case c" not in str(caught.value)
    worse(
        predictions,
        lambda v: Volume(v.array[:, :-1], v.geometry.shifted((0.0, 0.0, 0.0), (5, 11, 14))),
    )
    with pytest.raises(GeometryError, match=r"5 x 11 x 14 voxels .* instead of 6 x 11 x 14 voxels"):
        evaluate_folder(predictions, references, out)
    assert not out.exists()


def test_faults_of_several_kinds_are_all_named(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, out = folders
    worse(predictions, lambda v: v.with_array(v.array * 5))
    with pytest.raises(
        LabelError,
        match=r"(?s)case a: .*: 5, 10.*case b\.1: .*: 5, 10.*Needed: labels among",
    ):
        evaluate_folder(predictions, references, out)
    (predictions / "c.nii.gz").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"(?s)case a: .*case b\.1: .*case c: ") as caught:
        evaluate_folder(predictions, references, out, threads=1)
    assert type(caught.value) is DataError


def test_more_faults_than_anyone_reads_are_counted(tmp_path: Path) -> None:
    for number in range(12):
        write_labels(labels(0), tmp_path / "r" / f"case{number:02}.nii.gz")
        write_labels(
            labels(0).with_array(labels(0).array * 5), tmp_path / "p" / f"case{number:02}.nii.gz"
        )
    with pytest.raises(LabelError, match="and 2 more"):
        evaluate_folder(tmp_path / "p", tmp_path / "r", tmp_path / "out")


def test_folders_that_cannot_be_evaluated_are_refused(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    predictions, references, out = folders
    with pytest.raises(UsageError, match="is not a folder"):
        evaluate_folder(tmp_path / "nowhere", references, out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no label maps in"):
        evaluate_folder(tmp_path / "empty", references, out)
    with pytest.raises(UsageError, match="does not exist"):
        evaluate_folder(predictions, tmp_path / "nowhere", out)
    unlabelled = Dataset(
        name="n", root=tmp_path, layout="table", cases=(), channels=("CT",), labels=None
    )
    with pytest.raises(UsageError, match="has no label maps"):
        evaluate_folder(predictions, unlabelled, out)
    (predictions / "labels.json").write_text("{}")
    with pytest.raises(DataError, match="is no label table"):
        evaluate_folder(predictions, references, out)
    (predictions / "labels.json").unlink()
    write_labels(labels(0), predictions / "a.mha")
    with pytest.raises(
        UsageError, match=r"a\.mha and a\.nii\.gz in .* are two label maps of case a\n"
    ):
        evaluate_folder(predictions, references, out)
    with OutputFolder(predictions, "predict") as written:
        written.record("a.mha")
    with pytest.raises(UsageError, match=r"two label maps of case a; hilum wrote a\.mha"):
        evaluate_folder(predictions, references, out)


def test_references_without_labels_are_refused(tmp_path: Path) -> None:
    blank = labels(0).with_array(np.zeros_like(labels(0).array))
    write_labels(blank, tmp_path / "r" / "a.nii.gz")
    write_labels(blank, tmp_path / "p" / "a.nii.gz")
    with pytest.raises(DataError, match="labels above 0"):
        evaluate_folder(tmp_path / "p", tmp_path / "r", tmp_path / "out")


def test_damaged_evaluations_are_refused(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, out = folders
    with pytest.raises(UsageError, match=r"no cases\.csv in"):
        Evaluation.load(out)
    evaluation = evaluate_folder(predictions, references, out)
    (out / "summary.json").write_text('{"format": "other"}')
    with pytest.raises(DataError, match="damaged or of another version"):
        Evaluation.load(out)
    with pytest.raises(UsageError, match=r"summary.json \(changed since hilum wrote it\)"):
        evaluation.save(out)
    out = out / "again"
    evaluation.save(out)
    text = (out / "cases.csv").read_text()
    (out / "cases.csv").write_text(text.replace("dice,", "dise,", 1))
    with pytest.raises(DataError, match="has the columns"):
        Evaluation.load(out)
    (out / "cases.csv").write_text(text + "x,,liver,much\n")
    with pytest.raises(DataError, match="is damaged"):
        Evaluation.load(out)


@pytest.mark.real_data
def test_hippocampus_against_itself(real_data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(real_data / "hippocampus")
    for case in dataset.cases[:4]:
        (tmp_path / "p").mkdir(exist_ok=True)
        (tmp_path / "p" / f"{case.id}.nii.gz").write_bytes(case.annotation.read_bytes())
    evaluation = evaluate_folder(tmp_path / "p", dataset, tmp_path / "out", allow_missing=True)
    assert {(score.dice, score.nsd, score.hd95) for score in evaluation.scores} == {(1.0, 1.0, 0.0)}
    assert len(evaluation.record.missing) == len(dataset.cases) - 4


def test_predictions_are_matched_with_the_reference_by_name(
    folders: tuple[Path, Path, Path],
) -> None:
    predictions, references, out = folders
    plain = evaluate_folder(predictions, references, out, table=TABLE)
    (references / "labels.json").write_text('{"1": "liver", "2": "tumour"}')
    for file in predictions.glob("*.nii.gz"):
        ours = read_labels(file)
        write_labels(ours.with_array(np.choose(ours.array, [0, 4, 3]).astype(np.uint8)), file)
    (predictions / "labels.json").write_text(
        LabelTable.from_names({4: "Liver", 3: "tumour"}).model_dump_json()
    )
    matched = evaluate_folder(predictions, references, out)
    assert [score.dice for score in matched.scores] == [score.dice for score in plain.scores]
    assert any("by name: 3 is read as 2, 4 is read as 1" in note for note in matched.record.notes)
    (predictions / "labels.json").unlink()  # as nnU-Net writes it beside its predictions
    (predictions / "dataset.json").write_text(
        '{"labels": {"background": 0, "liver": 4, "tumour": 3}}'
    )
    assert evaluate_folder(predictions, references, out).scores == matched.scores
    (predictions / "dataset.json").write_text(
        '{"labels": {"background": 0, "liver": 4, "vessel": 3}}'
    )
    with pytest.raises(
        LabelError,
        match=r"dataset\.json has the labels 3 vessel, 4 liver; .*references has 1 liver, 2 tumour",
    ):
        evaluate_folder(predictions, references, out)


def test_files_that_are_not_scored_are_said(
    folders: tuple[Path, Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    predictions, references, out = folders
    (predictions / "c.nii.gz").rename(predictions / "d.nii.gz")
    evaluate_folder(predictions, references, out, table=TABLE, allow_missing=True)
    said = [
        record.getMessage()
        for record in caplog.records
        if record.getMessage().startswith("Files of")
    ]
    assert said == [
        (
            f"Files of {predictions}: 2 taken. 1 left out: a label map of a case that is not on"
            " both sides: 1 (d.nii.gz)"
        ),
        (
            f"Files of {references}: 2 taken. 1 left out: a label map of a case that is not on both"
            " sides: 1 (c.nii.gz)"
        ),
    ]


@pytest.mark.parametrize("side", ["prediction", "reference"])
def test_a_fault_says_whose_it_is(folders: tuple[Path, Path, Path], side: str) -> None:
    predictions, references, out = folders
    half = Volume(labels(0).array * np.float32(0.7), oblique())
    write_volume(half, (predictions if side == "prediction" else references) / "c.nii.gz")
    with pytest.raises(
        LabelError, match=f"case c: {side} .*c.nii.gz: .* no whole number"
    ) as caught:
        evaluate_folder(predictions, references, out, table=TABLE)
    assert "hilum check" not in str(caught.value)


def test_one_patient_has_no_interval_and_that_is_written(folders: tuple[Path, Path, Path]) -> None:
    predictions, references, out = folders
    for name in ("b.1", "c"):
        (references / f"{name}.nii.gz").unlink()
    evaluate_folder(predictions, references, out, table=TABLE)
    page = (out / "summary.md").read_text(encoding="utf-8")
    assert "no interval: one patient, or the same in every one" in page
    assert "nan" not in page
    assert (
        json.loads((out / "summary.json").read_text())["summary"]["regions"][0]["metrics"]["dice"][
            "low"
        ]
        is None
    )
