"""Classification as users of the command line meet it.

Every verb, its options, its messages and exit codes.
"""

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_cli import Said, hilum, refused

from classification_toys import write_cubes
from hilum.examples import make_abdomen_dataset
from hilum.io import read_geometry


@dataclass(frozen=True)
class Work:
    """A table of cubes, a plan, a model, answers and their evaluation.

    All made by the command line.
    """

    folder: Path
    data: Path
    tests: Path
    said: dict[str, Said]

    @property
    def model(self):
        return self.folder / "model"


TOLD = ("--task", "classification", "--positive", "malignant")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Each verb once with --json, in the order in which people use them."""
    folder = tmp_path_factory.mktemp("cli")
    data, tests = (
        write_cubes(folder / "data", cases=24),
        write_cubes(folder / "tests", cases=10, seed=1),
    )
    said = {"check": hilum("check", data, *TOLD, "--json")}
    said["plan"] = hilum(
        "plan",
        data,
        *TOLD,
        "--network",
        "resnet3d",
        "-o",
        folder / "plan.json",
        "--device",
        "cpu",
        "--json",
    )
    _shrink(folder / "plan.json")
    said["train"] = hilum(
        *(
            "train",
            data,
            *TOLD,
            "-o",
            folder / "model",
            "--plan",
            folder / "plan.json",
            "--steps",
            40,
            "--folds",
            2,
        ),
        *("--device", "cpu", "--json"),
    )
    said["predict"] = hilum(
        "predict",
        folder / "model",
        tests,
        "-o",
        folder / "answers",
        "--explain",
        "grad_cam",
        "--json",
    )
    said["evaluate"] = hilum(
        "evaluate", folder / "answers", tests, *TOLD[2:], "-o", folder / "evaluation", "--json"
    )
    said["compare"] = hilum("compare", folder / "evaluation", folder / "evaluation", "--json")
    return Work(folder, data, tests, said)


def _shrink(path):
    """Edit the plan as a user would.

    A network that trains in a moment, and a window around the mask.
    """
    plan = json.loads(path.read_text())
    plan["patch"], plan["batch"], plan["precision"] = [8, 8, 8], 4, "float32"
    plan["network"]["value"] |= {"features": [4, 8], "blocks": [1, 1]}
    plan["optimiser"]["value"]["learning_rate"] = 0.01
    path.write_text(json.dumps(plan))


# --- 0: each verb
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["check", "plan", "train", "predict", "evaluate", "compare"])
def test_every_verb_prints_json_and_nothing_else(work, verb):
    assert work.said[verb].code == 0, work.said[verb].err
    assert work.said[verb].json


def test_what_the_json_says(work):
    assert not [one for one in work.said["check"].json["findings"] if one["severity"] == "error"]
    plan = work.said["plan"].json
    assert plan["task"]["value"] == "classification"
    assert plan["classes"] == {"names": ["benign", "malignant"], "kind": "exclusive"}
    assert plan["region"]["value"] == {"kind": "mask", "mask_channel": True}
    assert plan["network"]["value"]["kind"] == "resnet3d"
    assert plan["network"]["because"] == "asked for by the user"
    assert plan["weights"]["value"]["origin"] == "random"
    assert all(
        decision["because"]
        for decision in plan.values()
        if isinstance(decision, dict) and "value" in decision
    )
    trained = {
        metric["name"]: metric
        for metric in work.said["train"].json["metrics"]
        if metric["region"] == "all"
    }
    assert trained["auroc"]["cases"] == 24
    assert trained["auroc"]["mean"] > 0.9
    report = work.said["predict"].json
    assert {case["status"] for case in report["cases"]} == {"done"}
    assert len(report["cases"]) == 10
    assert json.loads((work.folder / "answers" / "run.json").read_text()) == report
    evaluation = work.said["evaluate"].json
    assert evaluation == json.loads((work.folder / "evaluation" / "summary.json").read_text())
    assert work.said["compare"].json


def test_progress_goes_to_standard_error(work):
    said = work.said["train"].err
    assert "Fold 0: " in said
    assert "Fold 1: " in said
    assert "2 folds of 12 validation cases" in said
    assert "malignant is the positive class" not in said  # it was told
    assert "cases" in work.said["predict"].err


def test_answers_are_a_table_a_file_each_and_maps_on_the_cases_own_grids(work):
    out = work.folder / "answers"
    with (out / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case"] for row in rows] == [f"cube_{n:02d}" for n in range(10)]
    truth = ["benign", "malignant"] * 5
    assert sum(row["predicted"] == name for row, name in zip(rows, truth, strict=True)) >= 9
    for row in rows:
        assert {
            "p_benign",
            "p_malignant",
            "calibrated_benign",
            "calibrated_malignant",
            "set",
            "refuse",
            "distance",
        } <= set(row)
        assert float(row["p_benign"]) + float(row["p_malignant"]) == pytest.approx(1)
        assert row["refuse"] == "no"
        assert (
            json.loads((out / f"{row['case']}.json").read_text())["predicted"] == row["predicted"]
        )
        (found,) = out.glob(f"{row['case']}_*_map.nii.gz")
        assert found.name == f"{row['case']}_{row['predicted']}_map.nii.gz"
        assert read_geometry(found).is_close(
            read_geometry(work.tests / "images" / f"{row['case']}.nii.gz")
        )


def test_an_evaluation_is_drawn_and_written(work):
    names = {path.name for path in (work.folder / "evaluation").iterdir()}
    assert {
        "cases.csv",
        "summary.json",
        "summary.md",
        "curves.json",
        "curves.png",
        "confusion.png",
    } <= names
    out_of_fold = {path.name for path in (work.model / "training" / "out_of_fold").iterdir()}
    assert {"predictions.csv", "curves.json", "curves.png", "confusion.png"} <= out_of_fold
    assert "AUROC" in (work.folder / "evaluation" / "summary.md").read_text()


# --- 0: for people
# ------------------------------------------------------------------------------


def test_a_plan_says_why(work, tmp_path):
    said = hilum(
        "plan",
        work.data,
        *TOLD,
        "--weights",
        "none",
        "--stages",
        "head",
        "--region",
        "whole",
        "--device",
        "cpu",
    )
    assert said.code == 0, said.err
    assert "region: kind whole, mask_channel False" in said.text
    assert said.out.count("    because ") == 19
    assert said.out.count("because asked for by the user") == 3
    assert "share 1.0, released 1, rate 3.0" in said.text


def test_training_says_what_it_measured_and_goes_on(work, tmp_path):
    shutil.copytree(work.model, tmp_path / "model")
    said = hilum(
        *(
            "train",
            work.data,
            *TOLD,
            "-o",
            tmp_path / "model",
            "--folds",
            2,
            "--device",
            "cpu",
            "--steps",
            40,
            "--resume",
        )
    )
    assert said.code == 0, said.err
    assert "all: AUROC " in said.out
    assert "all: accuracy " in said.out
    assert "Measured on 24 validation cases" in said.out
    assert f"Next: hilum predict {tmp_path / 'model'}" in said.out


def test_predict_draws_and_leaves_out_what_is_there(work, tmp_path):
    out, image = tmp_path / "out", work.tests / "cases.csv"
    said = hilum("predict", work.model, image, "-o", out, "--pictures", "--format", "csv")
    assert said.code == 0, said.err
    assert "10 of 10 cases predicted" in said.out
    assert len(list((out / "pictures").glob("*.png"))) == 10
    assert not list(out.glob("cube*.json"))
    again = hilum("predict", work.model, image, "-o", out, "--format", "csv", "--skip-existing")
    assert "0 of 10 cases predicted" in again.out


def test_pictures_and_their_maps_are_limited_and_that_is_said(work, tmp_path):
    out, image = tmp_path / "out", work.tests / "cases.csv"
    said = hilum("predict", work.model, image, "-o", out, "--pictures", "--most-pictures", 3)
    assert said.code == 0, said.err
    assert "Pictures of the first 3 cases only; --most-pictures 10 draws all." in said.out
    assert len(list((out / "pictures").glob("*.png"))) == 3
    assert {file.name[:7] for file in out.glob("*_map.nii.gz")} == {"cube_00", "cube_01", "cube_02"}
    assert len(list(out.glob("cube_*.json"))) == 10
    asked = hilum(
        "predict",
        work.model,
        image,
        "-o",
        tmp_path / "b",
        "--pictures",
        "--most-pictures",
        3,
        "--explain",
        "grad_cam",
    )
    assert asked.code == 0, asked.err
    assert (
        len({file.name[:7] for file in (tmp_path / "b").glob("*_map.nii.gz")}) == 10
    )  # maps that were asked for are made


def test_sets_per_class_are_a_promise_of_their_own(work, tmp_path):
    said = hilum("predict", work.model, work.tests, "-o", tmp_path / "p", "--sets-per-class")
    assert said.code == 0, said.err
    promise = json.loads((tmp_path / "p" / "cube_00.json").read_text())["promise"]
    assert promise["among"] == "the cases of each class"
    assert "the ensemble itself was not measured" in promise["measured_on"]


def test_some_of_the_classes(work, tmp_path):
    shutil.copytree(work.data, tmp_path / "data")
    table = tmp_path / "data" / "cases.csv"
    lines = table.read_text().splitlines()
    head, rows = (
        lines[0],
        [
            line.replace("benign", "normal") if n % 6 == 0 else line
            for n, line in enumerate(lines[1:])
        ],
    )
    table.write_text("\n".join([head, *rows]) + "\n")
    said = hilum(
        "plan",
        tmp_path / "data",
        "--task",
        "classification",
        "--classes",
        "benign,malignant",
        "--device",
        "cpu",
        "--json",
    )
    assert said.code == 0, said.err
    assert said.json["classes"]["names"] == ["benign", "malignant"]
    wrong = hilum("plan", tmp_path / "data", "--classes", "benign,malign", "--device", "cpu")
    refused(wrong, 2, "class 'malign'", "did you mean --classes malignant?")


def test_a_mistyped_model_is_refused_with_the_right_one(work, tmp_path):
    wrong = work.model.parent / f"{work.model.name}l"
    refused(
        hilum("predict", wrong, work.tests, "-o", tmp_path / "p"),
        4,
        "no such folder",
        f"did you mean {work.model}?",
    )


def test_one_failed_case_does_not_cost_the_others(work, tmp_path):
    shutil.copytree(work.tests, tmp_path / "tests")
    (tmp_path / "tests" / "images" / "cube_04.nii.gz").write_bytes(b"")
    said = hilum("predict", work.model, tmp_path / "tests", "-o", tmp_path / "p")
    assert said.code == 3
    assert "9 of 10 cases predicted" in said.out
    assert "failed: cube_04: " in said.err


def test_evaluate_against_a_table_of_labels(work, tmp_path):
    rows = [f"cube_{n:02d},{('benign', 'malignant')[n % 2]}" for n in range(10)]
    (tmp_path / "truth.csv").write_text("case,label\n" + "\n".join(rows) + "\n")
    said = hilum(
        "evaluate",
        work.folder / "answers",
        tmp_path / "truth.csv",
        "-o",
        tmp_path / "e",
        "--subgroup",
        "site",
    )
    assert said.code == 0, said.err
    assert "AUROC" in said.out
    out_of_fold = work.model / "training" / "out_of_fold"
    said = hilum(
        "evaluate", out_of_fold, work.data, *TOLD[2:], "-o", tmp_path / "f", "--threshold", 0.25
    )
    assert said.code == 0, said.err
    assert "The operating point is 0.25: malignant is called from this probability on." in said.out
    assert "sensitivity at the operating point" in said.out


def test_a_threshold_that_is_no_probability_is_refused(work, tmp_path):
    said = hilum(
        "evaluate",
        work.folder / "answers",
        work.tests,
        *TOLD[2:],
        "-o",
        tmp_path / "e",
        "--threshold",
        30,
    )
    refused(said, 2, "the threshold is 30", "a probability from 0 to 1", "--threshold 0.3")
    assert not (tmp_path / "e").exists()


# --- 2: usage
# ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (
            ("--stages", "tow"),
            ("stages 'tow'", "probe, head, two, top, all", "did you mean --stages two?"),
        ),
        (("--region", "moon"), ("region 'moon'", "whole, middle, centre, mask")),
        (
            ("--network", "unet"),
            ("--network unet is not possible for a classification", "Cure: --network acs"),
        ),
        (
            ("--network", "resnet3d", "--weights", "pretrained"),
            ("pretrained weights for a resnet3d",),
        ),
        (("--weights", "/nowhere.pth"), ("weights /nowhere.pth", "a file that exists")),
        (("--backbone", "resnet81"), ("backbone 'resnet81'", "did you mean")),
        (("--label", "diagnosis"), ("diagnosis",)),
        (("--positive", "purple"), ("purple", "benign")),
        (
            ("--task", "segmentation"),
            ("a segmentation has no label column", "--task classification"),
        ),
    ],
)
def test_options_that_cannot_be_are_refused(work, tmp_path, options, parts):
    told = () if "--task" in options else TOLD[:2]
    more = ("--positive", "malignant") if "--task" in options else ()
    said = hilum(
        "train",
        work.data,
        *told,
        *more,
        "-o",
        tmp_path / "m",
        "--steps",
        4,
        "--device",
        "cpu",
        *options,
    )
    refused(said, 2, *parts)
    assert not (tmp_path / "m").exists()


def test_kinds_of_classes_are_checked_where_they_are_typed(work):
    said = hilum("plan", work.data, "--classes", "cardinal")
    assert said.code == 2
    assert "ordinal" in said.text


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--explain", "gradcam"), ("explanation 'gradcam'", "grad_cam, hires_cam, occlusion")),
        (("--format", "jsn"), ("format 'jsn'", "did you mean --format json?")),
        (("--format", "nifti"), ("format 'nifti'", "csv, json")),
    ],
)
def test_what_a_classifier_cannot_say_is_refused(work, tmp_path, options, parts):
    refused(hilum("predict", work.model, work.tests, "-o", tmp_path / "p", *options), 2, *parts)
    assert not (tmp_path / "p").exists()


def test_a_segmentation_has_no_options_of_a_classification(tmp_path):
    data = make_abdomen_dataset(
        tmp_path / "data", cases=3, tests=0, shape=(8, 12, 12), structures=("liver",)
    )
    for options, word in (
        (("--stages", "head"), "stages"),
        (("--weights", "none"), "weights"),
        (("--region", "whole"), "region"),
    ):
        said = hilum("plan", data, "--device", "cpu", *options)
        refused(
            said,
            2,
            f"{word} was fixed, which a segmentation does not have",
            "--task classification",
        )


# --- 3: the data; 4: the model
# ----------------------------------------------------------------------------------------------


def test_a_mask_that_the_model_needs(work, tmp_path):
    image = work.tests / "images" / "cube_03.nii.gz"
    said = hilum("predict", work.model, image, "-o", tmp_path / "p")
    refused(
        said,
        3,
        "none of the 1 cases has one",
        "Cure: give a table of the images with mask",
        "--region middle",
    )
    assert not (tmp_path / "p").exists()


def test_a_wrong_table_and_missing_answers(work, tmp_path):
    shutil.copytree(
        work.folder / "answers", tmp_path / "a", ignore=shutil.ignore_patterns("*.nii.gz")
    )
    lines = (tmp_path / "a" / "predictions.csv").read_text().splitlines()
    (tmp_path / "a" / "predictions.csv").write_text("\n".join(lines[:-2]) + "\n")
    against = ("evaluate", tmp_path / "a", work.tests, *TOLD[2:], "-o", tmp_path / "e")
    refused(hilum(*against), 3, "cube_08", "--allow-missing")
    assert hilum(*against, "--allow-missing").code == 0


@pytest.mark.parametrize(
    "file", ["assurance.json", "assurance.safetensors", "weights_1.safetensors", "labels.json"]
)
def test_an_altered_model_is_refused(work, tmp_path, file):
    shutil.copytree(work.model, tmp_path / "model", ignore=shutil.ignore_patterns("training"))
    with (tmp_path / "model" / file).open("ab") as stream:
        stream.write(b" ")
    refused(
        hilum("predict", tmp_path / "model", work.tests, "-o", tmp_path / "p"), 4, file, "Cure: "
    )
