"""Many cases into one folder: what fails is reported, the rest go on, run.json tells."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
import torch

from hilum.errors import ResourceError, UsageError
from hilum.examples.dicom import SeriesTags, write_dicom_series
from hilum.files import OutputFolder
from hilum.inference import FORMATS, ModelMetrics, Predictor, RunReport, predict_many
from hilum.io import read_labels, read_volume, write_volume
from hilum.volume import LabelTable
from inference_toys import TABLE, OneHot, index_volume, make_model

IDS = np.array(TABLE.ids)


@pytest.fixture
def folder(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for seed in range(4):
        write_volume(index_volume(seed=seed), source / f"case_{seed}_0000.nii.gz")
    return source


def test_every_case_is_predicted_and_reported(folder, tmp_path):
    seen = []
    predictor = Predictor(make_model())
    report = predict_many(
        predictor,
        [folder],
        tmp_path / "out",
        progress=lambda outcome, n, total: seen.append((outcome.case, n, total)),
    )
    assert report.status == "done"
    assert seen == [(f"case_{n}", n + 1, 4) for n in range(4)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".hilum.json",
        *(f"case_{n}.nii.gz" for n in range(4)),
        "labels.json",
        "run.json",
    ]
    for seed in range(4):
        labels = read_labels(tmp_path / "out" / f"case_{seed}.nii.gz")
        assert np.array_equal(labels.array, IDS[index_volume(seed=seed).array.astype(int)])
        assert labels.geometry == read_volume(folder / f"case_{seed}_0000.nii.gz").geometry
    assert RunReport.load(tmp_path / "out/run.json") == report
    assert report.verb == "predict"
    assert report.model == "unsaved"
    assert (report.engine, report.precision, report.device) == (
        "openvino",
        predictor.engine.precision,
        predictor.engine.device,
    )
    assert report.options["formats"] == ["auto"]
    assert report.cases[0].files == ("case_0.nii.gz",)
    assert set(report.cases[0].seconds) == {"read", "preprocess", "network", "restore", "write"}


def test_warnings_of_the_models_training_are_in_the_report(folder, tmp_path):
    notes = ("Warning: fold 0 trained for only 5 steps", "the folds share one plan")
    metrics = ModelMetrics(measured_on="2 validation cases", notes=notes)
    model = replace(make_model(), metrics=metrics)
    report = predict_many(Predictor(model), [folder], tmp_path / "out")
    assert report.model_warnings == ("fold 0 trained for only 5 steps",)


def test_a_name_that_is_too_long_costs_its_own_case_only(folder, tmp_path):
    (folder / "case_0_0000.nii.gz").rename(folder / f"{'x' * 244}.nii.gz")
    report = predict_many(Predictor(make_model()), [folder], tmp_path / "out")
    assert [case.status for case in report.cases if case.case.startswith("x")] == ["done"]
    (folder / f"{'x' * 244}.nii.gz").rename(folder / f"{'x' * 251}.nii")
    report = predict_many(Predictor(make_model()), [folder], tmp_path / "longer")
    assert [case.status for case in report.cases].count("done") == 3
    (refused,) = [case for case in report.cases if case.status == "failed"]
    assert "which is 258 bytes long" in refused.error
    assert refused.seconds == {}


def test_ids_that_differ_in_letter_case_only(folder, tmp_path, monkeypatch):
    for number, name in enumerate(("Scan.nii.gz", "scan.nii.gz")):
        (folder / f"case_{number}_0000.nii.gz").rename(folder / name)
    report = predict_many(Predictor(make_model()), [folder], tmp_path / "out")
    assert {case.status for case in report.cases} == {"done"}
    monkeypatch.setattr(OutputFolder, "ignores_letter_case", True)
    report = predict_many(Predictor(make_model()), [folder], tmp_path / "other")
    (refused,) = [case for case in report.cases if case.status == "failed"]
    assert refused.case == "scan"
    assert "would replace that of Scan" in refused.error


def test_failed_cases_are_reported_and_the_rest_go_on(folder, tmp_path, caplog):
    (folder / "case_1_0000.nii.gz").write_bytes(b"not an image")
    write_volume(index_volume(), folder / "case_2_0001.nii.gz")  # a channel too many

    class Fragile(OneHot):
        def forward(self, x):
            if len(self.seen) == 0:
                self.seen.append(None)
                raise ZeroDivisionError("a bug of ours")
            return super().forward(x)

    with caplog.at_level(logging.ERROR, "hilum"):
        report = predict_many(
            Predictor(make_model(networks=(Fragile(),)), engine="torch"), [folder], tmp_path / "out"
        )
    assert [(case.case, case.status) for case in report.cases] == [
        ("case_0", "failed"),
        ("case_1", "failed"),
        ("case_2", "failed"),
        ("case_3", "done"),
    ]
    assert report.status == "done"
    assert "ZeroDivisionError: a bug of ours" in report.cases[0].error
    assert "case_1_0000.nii.gz" in report.cases[1].error
    assert "case case_2 has 2 channels, the model 1 channel (CT)" in report.cases[2].error
    assert "an error that hilum did not expect" in caplog.text
    assert sorted(p.name for p in (tmp_path / "out").glob("[!.]*")) == [
        "case_3.nii.gz",
        "labels.json",
        "run.json",
    ]


def test_case_that_cannot_be_written_is_reported(folder, tmp_path):
    def hinder(outcome, *_):
        if outcome.case == "case_0":
            (tmp_path / "out" / "case_1.nii.gz" / "x").mkdir(parents=True)

    report = predict_many(Predictor(make_model()), [folder], tmp_path / "out", progress=hinder)
    assert [case.status for case in report.cases] == ["done", "failed", "done", "done"]


def test_all_failed_is_a_failed_run(tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(b"")
    report = predict_many(Predictor(make_model()), [tmp_path / "x.nii.gz"], tmp_path / "out")
    assert report.status == "failed"


def test_a_failed_run_leaves_the_folder_of_its_images_as_it_was(tmp_path):
    """A run that has succeeded keeps its report there, also of later failures."""
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "a.nrrd").write_bytes(b"damaged")
    report = predict_many(Predictor(make_model()), [folder], folder)
    assert report.status == "failed"
    assert [path.name for path in folder.iterdir()] == ["a.nrrd"]
    write_volume(index_volume(), folder / "b.nrrd")
    predict_many(Predictor(make_model()), [folder], folder)
    assert (folder / "run.json").is_file()
    (folder / "b.nrrd").write_bytes(b"damaged")
    predict_many(Predictor(make_model()), [folder / "b.nrrd"], folder)
    assert RunReport.load(folder / "run.json").status == "failed"


def test_a_run_failed_where_all_that_was_tried_failed(folder, tmp_path):
    predictor = Predictor(make_model())
    predict_many(predictor, [folder], tmp_path / "out")
    (tmp_path / "broken.nii.gz").write_bytes(b"")
    report = predict_many(
        predictor, [folder, tmp_path / "broken.nii.gz"], tmp_path / "out", skip_existing=True
    )
    assert {case.status for case in report.cases} == {"skipped", "failed"}
    assert report.status == "failed"


def test_interruption_leaves_what_is_done_and_says_so(folder, tmp_path):
    class Interrupted(OneHot):
        def forward(self, x):
            if self.seen and len(self.seen) > 20:
                raise KeyboardInterrupt
            return super().forward(x)

    network = Interrupted()
    model = make_model(networks=(network,), batch=1, overlap=0.0)  # 3 x 2 x 2 windows a case
    with pytest.raises(KeyboardInterrupt):
        predict_many(Predictor(model, engine="torch"), [folder], tmp_path / "out")
    report = RunReport.load(tmp_path / "out/run.json")
    assert report.status == "stopped"
    assert [(case.case, case.status, case.files) for case in report.cases] == [
        ("case_0", "done", ("case_0.nii.gz",))
    ]
    assert (tmp_path / "out/case_0.nii.gz").exists()
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".part")]


def test_existing_answers_are_left_out_on_request(folder, tmp_path):
    predictor = Predictor(make_model())
    predict_many(predictor, [folder], tmp_path / "out")
    (tmp_path / "out/case_2.nii.gz").unlink()
    report = predict_many(predictor, [folder], tmp_path / "out", skip_existing=True)
    assert {case.case: case.status for case in report.cases} == {
        "case_0": "skipped",
        "case_1": "skipped",
        "case_2": "done",
        "case_3": "skipped",
    }
    assert predict_many(predictor, [folder], tmp_path / "out", skip_existing=True).status == "done"
    again = predict_many(predictor, [folder], tmp_path / "out")
    assert {case.status for case in again.cases} == {"done"}


def test_next_case_is_read_while_this_one_runs(folder, tmp_path):
    """Case 0 waits for case 1 to be read: without a second thread this would never end."""
    import threading

    second_is_read = threading.Event()

    class Eager(Predictor):
        def prepare(self, source, *, case=None):
            prepared = super().prepare(source, case=case)
            if prepared.case == "case_1":
                second_is_read.set()
            return prepared

    class Waiting(OneHot):
        def forward(self, x):
            assert second_is_read.wait(timeout=200)
            return super().forward(x)

    report = predict_many(
        Eager(make_model(networks=(Waiting(),)), engine="torch"), [folder], tmp_path / "out"
    )
    assert {case.status for case in report.cases} == {"done"}


def test_a_case_is_reported_while_the_next_one_runs(folder, tmp_path):
    """The last patches of case 1 wait for the report of case 0."""
    import threading

    reported = threading.Event()
    calls = []

    class Waiting(OneHot):
        def forward(self, x):
            calls.append(None)
            if 12 < len(calls) < 20:  # time to write case 0, which is asked for between patches
                reported.wait(timeout=1)
            assert len(calls) < 20 or reported.wait(timeout=200)
            return super().forward(x)

    model = make_model(networks=(Waiting(),), batch=1, overlap=0.0)  # 12 patches a case
    report = predict_many(
        Predictor(model, engine="torch"),
        [folder],
        tmp_path / "out",
        progress=lambda *_: reported.set(),
    )
    assert [case.status for case in report.cases] == ["done"] * 4


@pytest.mark.parametrize("shortages", [1, 2])
def test_a_passing_shortage_of_memory_costs_no_case(folder, tmp_path, caplog, shortages):
    """Read beside another case it was short of memory.

    Alone it is read again, and only fails where it is short again.
    """
    left = [shortages]

    class Short(Predictor):
        def prepare(self, source, *, case=None):
            if source.id == "case_1" and left[0]:
                left[0] -= 1
                raise ResourceError("not enough memory", cure="wait")
            return super().prepare(source, case=case)

    report = predict_many(Short(make_model()), [folder], tmp_path / "out")
    assert left == [0]
    assert [case.case for case in report.cases] == [f"case_{n}" for n in range(4)]
    assert [case.status for case in report.cases] == [
        "done",
        "done" if shortages == 1 else "failed",
        "done",
        "done",
    ]
    assert ("not enough memory" in caplog.text) == (shortages == 2)


def test_a_run_leaves_the_predictor_as_it_was(folder, tmp_path):
    predictor = Predictor(make_model())
    before = dict(vars(predictor))
    predict_many(predictor, [folder / "case_0_0000.nii.gz"], tmp_path / "out")
    assert vars(predictor) == before


def test_probabilities_beside_the_labels(folder, tmp_path):
    report = predict_many(
        Predictor(make_model()),
        [folder / "case_0_0000.nii.gz"],
        tmp_path / "out",
        probabilities=True,
    )
    assert report.cases[0].files == ("case_0.nii.gz", "case_0_probabilities.nii.gz")
    probabilities = read_volume(tmp_path / "out/case_0_probabilities.nii.gz")
    assert probabilities.channels == 3


def test_two_formats_at_once(folder, tmp_path):
    report = predict_many(
        Predictor(make_model()),
        [folder / "case_0_0000.nii.gz"],
        tmp_path / "out",
        formats=("nrrd", "mha"),
    )
    assert report.cases[0].files == ("case_0.nrrd", "case_0.mha")
    first, second = (
        read_labels(tmp_path / "out" / f"case_0.{suffix}") for suffix in ("nrrd", "mha")
    )
    assert np.array_equal(first.array, second.array)


def test_prediction_is_saved_to_a_file_or_a_folder(tmp_path):
    prediction = Predictor(make_model()).predict(index_volume(), case="liver_3")
    assert prediction.save(tmp_path / "deep/er/mine.nrrd") == (tmp_path / "deep/er/mine.nrrd",)
    assert prediction.save(str(tmp_path / "folder")) == (tmp_path / "folder/liver_3.nii.gz",)
    for path in (tmp_path / "deep/er/mine.nrrd", tmp_path / "folder/liver_3.nii.gz"):
        assert np.array_equal(read_labels(path).array, prediction.labels.array)


def test_unknown_format_and_impossible_output_are_refused_before_the_work(folder, tmp_path):
    predictor = Predictor(make_model())
    with pytest.raises(UsageError, match="format 'nifty'") as caught:
        predict_many(predictor, [folder], tmp_path / "out", formats=("nifty",))
    assert "formats='nifti'" in str(caught.value)
    with pytest.raises(UsageError, match="format 'nifty'"):
        predictor.predict(index_volume()).save(tmp_path / "out", formats=("nifty",))
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        predict_many(predictor, [folder], tmp_path / "out")
    assert set(FORMATS) >= {"nifti", "nrrd", "mha", "png", "tiff"}


def test_report_is_json_that_anyone_reads(folder, tmp_path):
    predict_many(Predictor(make_model()), [folder], tmp_path / "out")
    fields = json.loads((tmp_path / "out/run.json").read_text())
    assert fields["cases"][0]["status"] == "done"
    assert torch.device(fields["device"].split(":")[0]).type == "cpu"


def test_earlier_answers_are_replaced_and_that_is_said(folder, tmp_path, caplog):
    out = tmp_path / "out"
    first, second = folder / "case_0_0000.nii.gz", folder / "case_1_0000.nii.gz"
    predictor = Predictor(make_model())
    predict_many(predictor, [first, second], out, formats=("nifti", "nrrd"), probabilities=True)
    (out / "pictures").mkdir()
    (out / "pictures/case_0.png").write_bytes(b"of the first answer")
    with OutputFolder(out, "predict") as held:
        held.record("pictures/case_0.png")
    with caplog.at_level(logging.WARNING, "hilum"):
        report = predict_many(predictor, [first], out)
    assert "holds predictions of 1 of these cases" in caplog.text
    assert "also holds 4 files of other cases" in caplog.text
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {name for name in names if "case_0" in name} == {"case_0.nii.gz"}
    assert len([name for name in names if "case_1" in name]) == 4
    assert report.cases[0].replaced == (
        "case_0.nii.gz",
        "case_0.nrrd",
        "case_0_probabilities.nii.gz",
        "case_0_probabilities.nrrd",
        "pictures/case_0.png",
    )


def test_a_case_that_fails_keeps_its_earlier_answer(folder, tmp_path):
    source = folder / "case_0_0000.nii.gz"
    predict_many(Predictor(make_model()), [source], tmp_path / "out")
    before = (tmp_path / "out/case_0.nii.gz").read_bytes()
    source.write_bytes(b"not an image")
    report = predict_many(Predictor(make_model()), [source], tmp_path / "out")
    assert report.cases[0].status == "failed"
    assert (tmp_path / "out/case_0.nii.gz").read_bytes() == before


def test_the_run_tells_how_far_it_is(folder, tmp_path):
    told = []
    predict_many(Predictor(make_model()), [folder], tmp_path / "out", advance=told.append)
    fractions = [one.fraction for one in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)
    assert {one.case for one in told} == {f"case_{n}" for n in range(4)}
    assert told[-1].remaining_seconds == pytest.approx(0)
    assert len(told) > 4 * 10  # by patches, not by cases


@pytest.mark.parametrize("out", ["", "predictions"])
def test_the_same_command_in_a_dicom_folder_twice(tmp_path, out):
    """The second run replaces its own answers and predicts from none of them."""
    study = tmp_path / "study"
    write_dicom_series(index_volume(), study)
    before = {file: file.read_bytes() for file in study.iterdir()}
    first, second, third = (
        predict_many(Predictor(make_model()), [study], study / out, formats=formats)
        for formats in (("nifti",), ("nifti",), ("nrrd",))
    )
    assert [case.case for report in (first, second, third) for case in report.cases] == [
        first.cases[0].case
    ] * 3
    assert second.cases[0].replaced == third.cases[0].replaced == first.cases[0].files
    assert (study / out / third.cases[0].files[0]).is_file()
    assert not (study / out / first.cases[0].files[0]).exists()
    assert {file: file.read_bytes() for file in before} == before


def test_series_that_share_a_folder_are_predicted(tmp_path):
    study = tmp_path / "study"
    for number in (1, 2):
        tags = SeriesTags(series_number=number, uid_seed=str(number))
        for file in write_dicom_series(index_volume(), tmp_path / str(number), tags=tags):
            study.mkdir(exist_ok=True)
            file.rename(study / f"{number}_{file.name}")
    report = predict_many(Predictor(make_model()), [study], tmp_path / "out")
    assert [case.status for case in report.cases] == ["done", "done"]


def test_an_answer_that_was_edited_is_the_users(folder, tmp_path):
    out, source = tmp_path / "out", folder / "case_0_0000.nii.gz"
    predict_many(Predictor(make_model()), [source], out)
    (out / "case_0.nii.gz").write_bytes(b"corrected by hand")
    with pytest.raises(UsageError, match=r"case_0.nii.gz \(changed since hilum wrote it\)"):
        predict_many(Predictor(make_model()), [source], out)
    report = predict_many(Predictor(make_model()), [source], out, formats=("nrrd",))
    assert report.cases[0].replaced == ()
    assert (out / "case_0.nii.gz").read_bytes() == b"corrected by hand"


def test_a_folder_that_another_run_writes_to_is_refused(folder, tmp_path):
    held, free = Event(), Event()

    def hold():
        with OutputFolder(tmp_path / "out", "predict"):
            held.set()
            free.wait()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        held.wait()
        try:
            with pytest.raises(
                ResourceError, match=r"out is in use by hilum predict on .*, process \d+, since 20"
            ):
                predict_many(Predictor(make_model()), [folder], tmp_path / "out")
        finally:
            free.set()
    assert not (tmp_path / "out").exists()


def test_answers_of_models_with_other_labels_are_kept_apart(folder, tmp_path):
    predict_many(Predictor(make_model()), [folder], tmp_path / "out")
    table = LabelTable.from_names({2: "spleen", 300: "cyst"})
    with pytest.raises(
        UsageError, match=r"predictions of a model with other labels or classes, see .*labels\.json"
    ):
        predict_many(Predictor(make_model(labels=table)), [folder], tmp_path / "out")
