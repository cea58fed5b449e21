"""Many cases to classify into one folder: one table, and a file of each."""

import csv
import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from classification_toys import FINDINGS, THREE, TWO, Means, class_model, class_plan, write_cubes
from hilum.errors import DataError, UsageError
from hilum.files import OutputFolder, atomic_write_text
from hilum.inference import ClassPredictor, RunReport, find_cases, predict_many
from hilum.inference import class_prediction as module
from hilum.inference.assurance import Assurance, Calibration
from hilum.io import read_volume, write_volume
from hilum.plan.classification import RegionSpec
from hilum.targets.predictions import read_classes, read_predictions
from hilum.volume import Geometry, Volume


def even(value, shape=(6, 9, 7)) -> Volume:
    return Volume(
        np.full((1, *shape), value, dtype=np.float32), Geometry.from_spacing(shape, (2.0, 1.0, 1.5))
    )


VALUES = {"d": 0.3, "a": -1.2, "c": 2.0, "b": 0.0}


@pytest.fixture
def folder(tmp_path):
    for name, value in VALUES.items():
        write_volume(even(value), tmp_path / "in" / f"{name}.nii.gz")
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".hilum.json")


def statuses(report):
    return {case.case: case.status for case in report.cases}


def test_one_table_of_all_and_a_file_each(folder, out):
    seen = []
    assurance = Assurance(Calibration(temperature=2.0, thresholds=(0.4, 0.4)))
    report = predict_many(
        ClassPredictor(class_model(assurance=assurance)),
        [folder],
        out,
        progress=lambda outcome, n, total: seen.append((outcome.case, n, total)),
    )
    assert report.status == "done"
    assert seen == [(name, n, 4) for n, name in enumerate("abcd", start=1)]
    assert names(out) == [
        "a.json",
        "b.json",
        "c.json",
        "classes.json",
        "d.json",
        "predictions.csv",
        "run.json",
    ]
    assert read_classes(out) == TWO
    rows = read_predictions(out)
    assert [row.case for row in rows] == ["a", "b", "c", "d"]
    for row in rows:
        assert row.probabilities[1] == pytest.approx(sigmoid(VALUES[row.case]))
        assert row.calibrated[1] == pytest.approx(sigmoid(VALUES[row.case] / 2))
        said = json.loads((out / f"{row.case}.json").read_text())
        assert tuple(said["probabilities"].values()) == row.probabilities
        assert tuple(said["prediction_set"]) == row.prediction_set
    with (out / "predictions.csv").open() as stream:
        assert [row["predicted"] for row in csv.DictReader(stream)] == [
            "benign",
            "malignant",
            "malignant",
            "malignant",
        ]
    assert RunReport.load(out / "run.json") == report
    assert report.options["formats"] == ["csv", "json"]
    assert report.cases[0].files == ("a.json",)
    assert set(report.cases[0].seconds) == {"read", "preprocess", "network", "restore", "write"}


@pytest.mark.parametrize(
    ("formats", "files"),
    [
        (("csv",), ["classes.json", "predictions.csv"]),
        (("json",), ["a.json", "b.json", "c.json", "d.json"]),
        ((), []),
    ],
)
def test_each_format_alone(folder, out, formats, files):
    predict_many(ClassPredictor(class_model()), [folder], out, formats=formats)
    assert names(out) == sorted([*files, "run.json"])


def test_failed_cases_are_reported_and_the_rest_go_on(folder, out, caplog):
    (folder / "b.nii.gz").write_bytes(b"not an image")
    write_volume(
        Volume(np.zeros((2, 4, 4, 4), np.float32), Geometry.from_spacing((4, 4, 4))),
        folder / "c.nii.gz",
    )

    class Fragile(Means):
        def encode(self, image):
            if not self.seen:
                self.seen.append(())
                raise ZeroDivisionError("a bug of ours")
            return super().encode(image)

    model = class_model(class_plan(), Fragile([[0.0], [1.0]]).eval())
    with caplog.at_level(logging.ERROR, "hilum"):
        report = predict_many(ClassPredictor(model), [folder], out)
    assert statuses(report) == {"a": "failed", "b": "failed", "c": "failed", "d": "done"}
    assert report.status == "done"
    assert "ZeroDivisionError: a bug of ours" in report.cases[0].error
    assert "b.nii.gz" in report.cases[1].error
    assert "c.nii.gz has 2 channels" in report.cases[2].error
    assert [row.case for row in read_predictions(out)] == ["d"]
    assert "an error that hilum did not expect" in caplog.text


def test_all_failed_is_a_failed_run_without_a_table(tmp_path, out):
    (tmp_path / "x.nii.gz").write_bytes(b"")
    assert (
        predict_many(ClassPredictor(class_model()), [tmp_path / "x.nii.gz"], out).status == "failed"
    )
    assert names(out) == ["run.json"]


def test_a_case_that_cannot_be_written_is_not_in_the_table(folder, out):
    def hinder(outcome, *_):
        if outcome.case == "a":
            (out / "b.json" / "x").mkdir(parents=True)

    report = predict_many(ClassPredictor(class_model()), [folder], out, progress=hinder)
    assert statuses(report) == {"a": "done", "b": "failed", "c": "done", "d": "done"}
    assert [row.case for row in read_predictions(out)] == ["a", "c", "d"]


def test_existing_answers_are_left_out_on_request_and_stay_in_the_table(folder, out):
    predictor = ClassPredictor(class_model())
    predict_many(predictor, [folder / "a.nii.gz", folder / "b.nii.gz", folder / "c.nii.gz"], out)
    (out / "b.json").unlink()
    before = read_predictions(out)
    report = predict_many(predictor, [folder], out, skip_existing=True)
    assert statuses(report) == {"a": "skipped", "b": "done", "c": "skipped", "d": "done"}
    assert read_predictions(out)[:3] == before
    assert [row.case for row in read_predictions(out)] == ["a", "b", "c", "d"]
    again = predict_many(predictor, [folder], out, skip_existing=True)
    assert (again.status, set(statuses(again).values())) == ("done", {"skipped"})
    fresh = predict_many(predictor, [folder / "a.nii.gz"], out)
    assert statuses(fresh) == {"a": "done"}
    assert [row.case for row in read_predictions(out)] == ["a", "b", "c", "d"]


def test_rows_of_other_cases_stay_in_the_table(folder, out, caplog):
    predict_many(ClassPredictor(class_model()), [folder / "a.nii.gz", folder / "b.nii.gz"], out)
    before = read_predictions(out)
    with caplog.at_level(logging.WARNING, "hilum"):
        predict_many(ClassPredictor(class_model()), [folder / "c.nii.gz"], out)
    assert (
        "keeps its rows of 2 cases that this run does not predict; its rows are now of one model"
        in caplog.text
    )
    assert read_predictions(out)[:2] == before
    other = ClassPredictor(replace(class_model(), id="other"))
    with caplog.at_level(logging.WARNING, "hilum"):
        predict_many(other, [folder / "b.nii.gz"], out)
    assert (
        "its rows are now of several models (unsaved, other): do not evaluate them as one"
        in caplog.text
    )
    assert [row.case for row in read_predictions(out)] == ["a", "b", "c"]


def test_what_others_wrote_is_refused_before_the_work(folder, out):
    """dcm2niix writes CASE.json beside CASE.nii.gz."""
    (folder / "a.json").write_text('{"EchoTime": 0.03}')
    for formats in (("json",), ("csv", "json")):
        with pytest.raises(
            UsageError, match=r"files are in the way in .*: a.json \(not written by hilum\)"
        ):
            predict_many(ClassPredictor(class_model()), [folder], folder, formats=formats)
    assert (folder / "a.json").read_text() == '{"EchoTime": 0.03}'
    assert names(folder) == ["a.json", "a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz"]
    assert not (folder / ".hilum.json").exists()


def test_a_table_that_cannot_be_gone_on_with_is_refused_before_the_work(folder, out):
    predict_many(ClassPredictor(class_model()), [folder], out)
    other = ClassPredictor(class_model(class_plan(THREE)))
    with pytest.raises(
        UsageError,
        match=r"holds predictions of a model with other labels or classes, see .*classes\.json",
    ):
        predict_many(other, [folder], out, skip_existing=True)
    (out / "predictions.csv").write_text("case,p_benign,p_malignant\na,0.5,many\n")
    with pytest.raises(UsageError, match=r"predictions.csv \(changed since hilum wrote it\)"):
        predict_many(ClassPredictor(class_model()), [folder], out)


def test_an_interruption_leaves_the_table_of_what_was_done(folder, out):
    class Interrupted(Means):
        def encode(self, image):
            if len(self.seen) == 2:
                raise KeyboardInterrupt
            return super().encode(image)

    model = class_model(class_plan(), Interrupted([[0.0], [1.0]]).eval())
    with pytest.raises(KeyboardInterrupt):
        predict_many(ClassPredictor(model), [folder], out)
    assert RunReport.load(out / "run.json").status == "stopped"
    rows = read_predictions(out)
    assert {row.case for row in rows} == {"a", "b"}
    assert not [name for name in names(out) if name.startswith(".part")]
    report = predict_many(ClassPredictor(class_model()), [folder], out, skip_existing=True)
    assert statuses(report) == {"a": "skipped", "b": "skipped", "c": "done", "d": "done"}
    assert len(read_predictions(out)) == 4


def test_the_table_is_written_now_and_then(folder, out, monkeypatch):
    """A machine that loses power keeps the rows of some seconds ago."""
    monkeypatch.setattr(module, "_TABLE_SECONDS", 0.0)
    there = []
    predict_many(
        ClassPredictor(class_model()),
        [folder],
        out,
        progress=lambda *_: there.append(len(read_predictions(out))),
    )
    assert there[-1] == 4
    assert there[0] >= 1


def test_maps_lie_beside_the_answers_on_the_cases_own_grids(folder, out):
    report = predict_many(
        ClassPredictor(class_model(), explain="grad_cam"), [folder / "c.nii.gz"], out
    )
    assert report.cases[0].files == ("c.json", "c_malignant_map.nii.gz")
    found = read_volume(out / "c_malignant_map.nii.gz")
    assert found.geometry == read_volume(folder / "c.nii.gz").geometry
    np.testing.assert_allclose(found.array, 1.0)


def test_maps_of_a_case_whose_id_goes_on_from_anothers_stay(folder, out):
    for name in ("c_1", "c"):
        image = folder.parent / "two" / f"{name}.nii.gz"
        write_volume(read_volume(folder / "c.nii.gz"), image)
        predict_many(ClassPredictor(class_model(), explain="grad_cam"), [image], out)
    assert (out / "c_malignant_map.nii.gz").is_file()
    assert (out / "c_1_malignant_map.nii.gz").is_file()


def test_unknown_formats_and_impossible_folders_are_refused_before_the_work(folder, out):
    predictor = ClassPredictor(class_model())
    with pytest.raises(UsageError, match=r"format 'nifti'[\s\S]*csv, json"):
        predict_many(predictor, [folder], out, formats=("nifti",))
    assert not out.exists()
    out.write_text("")
    with pytest.raises(UsageError, match="is a file"):
        predict_many(predictor, [folder], out)


# --- data sets as inputs
# --------------------------------------------------------------------------------------------------


def test_a_table_is_answered_whole_with_its_masks_points_and_columns(tmp_path, out):
    data = write_cubes(tmp_path / "data", cases=4)
    text = (data / "cases.csv").read_text()
    atomic_write_text(
        data / "cases.csv", text.replace("masks/cube_02.nii.gz", "")
    )  # one without a mask
    for kind in ("whole", "centre"):
        predictor = ClassPredictor(class_model(class_plan(region=RegionSpec(kind=kind))))
        report = predict_many(predictor, [data], out / kind)
        assert statuses(report) == dict.fromkeys([f"cube_0{n}" for n in range(4)], "done")
        rows = read_predictions(out / kind)
        assert [row.patient for row in rows] == ["P0", "P0", "P1", "P1"]
        assert rows[0].columns["site"] == "A"
        assert (
            rows[0].columns["label"] == "benign"
        )  # the table's own word for it; the model was not told
        assert rows[0].reference is None
    masked = ClassPredictor(
        class_model(class_plan(region=RegionSpec(kind="mask", mask_channel=True)))
    )
    report = predict_many(masked, [data / "cases.csv"], out / "mask")
    assert statuses(report) == {
        "cube_00": "done",
        "cube_01": "done",
        "cube_02": "failed",
        "cube_03": "done",
    }
    assert "cube_02 has no mask" in report.cases[2].error
    assert "Cure: give it one" in report.cases[2].error
    assert [case.id for case in find_cases([data], ("CT",))] == [
        "cube_02"
    ]  # what a segmentation is asked about


@pytest.mark.parametrize(
    ("kind", "what"), [("mask", "mask"), ("centre", "centre_x, centre_y, centre_z")]
)
def test_what_no_case_has_is_one_error_for_the_whole_run(folder, out, caplog, kind, what):
    predictor = ClassPredictor(class_model(class_plan(region=RegionSpec(kind=kind))))
    with pytest.raises(
        DataError,
        match=(
            rf"none of the 4 cases has one[\s\S]*Cure: give a table .* with {what}"
            ".*region='middle'"
        ),
    ):
        predict_many(predictor, [folder], out)
    assert not out.exists()
    assert not caplog.records


def test_findings_in_a_table(folder, out):
    calibration = Calibration(thresholds=(0.4,) * 6)
    predict_many(
        ClassPredictor(class_model(class_plan(FINDINGS), assurance=Assurance(calibration))),
        [folder],
        out,
    )
    rows = {row.case: row for row in read_predictions(out)}
    assert rows["c"].prediction_set == ("effusion", "mass", "nodule")
    assert rows["c"].certain == ("mass", "nodule")  # 0.5, 0.88 and 0.98
    assert rows["a"].certain == ()


def test_an_archive_and_folders_of_classes_are_answered_whole(tmp_path, out):
    rng = np.random.default_rng(0)
    levels = rng.integers(20, 200, 6)
    pictures = np.broadcast_to(levels[:, None, None], (6, 28, 28)).astype(np.uint8)
    labels = (np.arange(6) % 2)[:, None].astype(np.uint8)
    parts = {"train": slice(0, 4), "val": slice(4, 5), "test": slice(5, 6)}
    arrays = {f"{name}_images": pictures[part] for name, part in parts.items()}
    np.savez(
        tmp_path / "set.npz",
        **arrays,
        **{f"{name}_labels": labels[part] for name, part in parts.items()},
    )
    for number, level in enumerate(levels):
        name = "malignant" if number % 2 else "benign"
        flat = np.full((1, 1, 28, 28), level, np.uint8)
        write_volume(
            Volume(flat, Geometry.from_spacing((1, 28, 28))),
            tmp_path / "folders" / name / f"p{number}.png",
        )
    spec = class_plan().network.value.model_copy(update={"dimensions": 2})
    plan = class_plan(dimensions=2, patch=(1, 28, 28), orientation="source", network=spec)
    predictor = ClassPredictor(class_model(plan, Means([[0.0], [0.01]]).eval()))
    found = {}
    for source in ("set.npz", "folders"):
        report = predict_many(predictor, [tmp_path / source], out / source)
        assert {case.status for case in report.cases} == {"done"}
        found[source] = sorted(row.probabilities[1] for row in read_predictions(out / source))
        np.testing.assert_allclose(found[source], sorted(sigmoid(levels / 100)), rtol=1e-5)


def test_a_row_goes_whose_case_is_answered_without_a_table(folder, out):
    predict_many(ClassPredictor(class_model()), [folder / "a.nii.gz", folder / "b.nii.gz"], out)
    other = ClassPredictor(replace(class_model(), id="other"))
    predict_many(other, [folder / "a.nii.gz"], out, formats=("json",))
    assert [row.case for row in read_predictions(out)] == ["b"]
    predict_many(other, [folder / "b.nii.gz"], out, formats=("json",))
    assert names(out) == ["a.json", "b.json", "classes.json", "run.json"]


def test_classes_are_written_before_the_table_of_them(folder, out, monkeypatch):
    written = []
    write = OutputFolder.write

    def noted(self, texts, **options):
        written.extend(texts)
        write(self, texts, **options)

    monkeypatch.setattr(OutputFolder, "write", noted)
    predict_many(ClassPredictor(class_model()), [folder / "a.nii.gz"], out)
    assert written == ["classes.json", "predictions.csv", "run.json"]
