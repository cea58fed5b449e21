"""The command line as users meet it: every verb, its JSON, its messages, each exit code."""

import contextlib
import io
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import typer

from hilum import api, cli
from hilum.examples import make_abdomen_dataset

VERBS = (
    *("check", "plan", "train", "predict", "evaluate", "compare", "report"),
    *("demo", "doctor", "tune", "export", "import", "deidentify", "node", "series"),
)


def flat(text):
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


@dataclass(frozen=True)
class Said:
    """Output of one command, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def text(self):
        """Everything, without the boxes and line breaks of the terminal."""
        return flat(self.out + self.err)

    @property
    def json(self):
        """Standard output as JSON; NaN and Infinity are none."""
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))


def hilum(*arguments):
    """Run the command line in this process, as the console script does."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["hilum", *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
            code = 0
        except SystemExit as stopped:
            code = stopped.code or 0
    return Said(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Work:
    """A data set, a plan, a model, predictions and an evaluation.

    All made by the command line, and what it printed.
    """

    folder: Path
    data: Path
    said: dict[str, Said]

    @property
    def model(self):
        return self.folder / "model"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Each verb once with --json, in the order in which people use them."""
    folder = tmp_path_factory.mktemp("cli")
    data = make_abdomen_dataset(
        folder / "data", cases=6, tests=2, seed=2, shape=(10, 16, 20), structures=("liver",)
    )
    said = {"check": hilum("check", data, "--json")}
    said["plan"] = hilum("plan", data, "-o", folder / "plan.json", "--json")
    _shrink(folder / "plan.json")
    said["train"] = hilum(
        *(
            "train",
            data,
            "-o",
            folder / "model",
            "--plan",
            folder / "plan.json",
            "--steps",
            4,
            "--device",
            "cpu",
            "--json",
        )
    )
    said["predict"] = hilum(
        "predict", folder / "model", data / "dicomTs", "-o", folder / "predictions", "--json"
    )
    said["evaluate"] = hilum(
        "evaluate", folder / "predictions", data / "labelsTs", "-o", folder / "evaluation", "--json"
    )
    said["compare"] = hilum(
        "compare",
        folder / "evaluation",
        folder / "evaluation",
        "-o",
        folder / "comparison",
        "--json",
    )
    said["report"] = hilum(
        "report", folder / "comparison", "-o", folder / "comparison.html", "--json"
    )
    said["tune"] = hilum(
        *(
            "tune",
            folder / "model",
            data,
            "-o",
            folder / "tuned",
            "--cases",
            1,
            "--device",
            "cpu",
            "--json",
        )
    )
    said["export"] = hilum("export", folder / "model", "-o", folder / "exported", "--json")
    said["doctor"] = hilum("doctor", "--json")
    return Work(folder, data, said)


def _shrink(path):
    """Edit the plan as a user would: a network that trains four steps in a moment."""
    plan = json.loads(path.read_text())
    plan["patch"] = [8, 8, 8]
    plan["precision"] = "float32"
    plan["network"]["value"] |= {
        "features": [4, 8],
        "kernels": [[3, 3, 3]] * 2,
        "strides": [[1, 1, 1], [2, 2, 2]],
    }
    plan["network"]["value"] |= {"encoder_blocks": [1, 1], "decoder_blocks": [1]}
    path.write_text(json.dumps(plan))


# --- help
# ------------------------------------------------------------------------------


def commands():
    return typer.main.get_command(cli.app).commands


def leaves(verb):
    """A verb's commands with their words: itself, or those of a group such as `hilum import`."""
    command = commands()[verb]
    return [((verb, name), one) for name, one in getattr(command, "commands", {}).items()] or [
        ((verb,), command)
    ]


def test_these_are_the_verbs():
    assert set(commands()) == set(VERBS)
    overview = hilum("--help")
    assert overview.code == 0
    assert all(re.search(rf"\b{verb}\b", overview.out) for verb in VERBS)
    assert (
        "Exit codes: 0 done, 1 a bug of hilum, 2 usage, 3 the data, 4 the model, 5 resources."
        in overview.text
    )
    assert "Not a medical device" in overview.text


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb):
    said = hilum(verb, "--help")
    assert said.code == 0
    assert commands()[verb].help.splitlines()[0].split(":")[0] in said.text
    for words, command in leaves(verb):
        said = hilum(*words, "--help")
        options = {
            name for parameter in command.params for name in parameter.opts if name.startswith("--")
        }
        assert "--json" in options or verb == "node"  # a server that prints no result
        assert all(option in said.out for option in options)
        assert all(parameter.help for parameter in command.params if parameter.name != "help")
        hidden = [one.name for one in command.params if "[" in (one.help or "")]
        assert not hidden, "the help shows nothing that stands in square brackets"


# --- 0: each verb with --json
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb",
    [verb for verb in VERBS if verb not in {"demo", "import", "deidentify", "node", "series"}],
)
def test_every_verb_prints_json_and_nothing_else(work, verb):
    assert work.said[verb].code == 0, work.said[verb].err
    assert work.said[verb].json


def test_what_tuning_says(work):
    tuning = work.said["tune"].json
    assert tuning == json.loads((work.folder / "tuned" / "tuning.json").read_text())
    assert tuning["model"] == work.said["predict"].json["model"]
    assert len(tuning["cases"]) == 1
    assert "1 patient to learn from" in tuning["postprocessing"]["because"]
    assert (work.folder / "tuned" / "model.json").is_file()
    refused = hilum("tune", work.model, work.data, "-o", work.folder / "tuned")
    assert refused.code == 2
    assert "the model that is tuned stays as it is" in refused.text


READ = (
    "Read as nnunet: segmentation of liver; cases: 6, patients: 5, 2 more without annotation;"
    " channels: CT"
)


def test_what_the_json_says(work):
    assert work.said["check"].json == {"findings": [], "fixes": None, "summary": READ}
    assert all(
        decision["because"]
        for decision in work.said["plan"].json.values()
        if isinstance(decision, dict) and "value" in decision
    )
    assert {metric["name"] for metric in work.said["train"].json["metrics"]} >= {
        "dice",
        "nsd",
        "hd95",
    }
    report = work.said["predict"].json
    assert [case["status"] for case in report["cases"]] == ["done", "done"]
    assert json.loads((work.folder / "predictions" / "run.json").read_text()) == report
    assert work.said["evaluate"].json == json.loads(
        (work.folder / "evaluation" / "summary.json").read_text()
    )
    assert work.said["compare"].json == json.loads(
        (work.folder / "comparison" / "comparison.json").read_text()
    )
    assert "hilum" in work.said["doctor"].json


def test_progress_goes_to_standard_error(work):
    assert "Fold 0: " in work.said["train"].err
    assert "4 steps" in work.said["train"].err
    assert "cases" in work.said["predict"].err


# --- 0: for people
# ------------------------------------------------------------------------------


def test_a_sound_data_set(work):
    said = hilum("check", work.data)
    assert said.code == 0
    assert said.out.splitlines() == [
        READ,
        "0 errors, 0 warnings, 0 notes",
    ]


def test_a_plan_says_why(work, tmp_path):
    said = hilum("plan", work.data, "-o", tmp_path / "plan.json")
    assert said.out.count("    because ") == len(work.said["plan"].json) - 6  # six are no decisions
    assert (cases := work.said["plan"].json["seen"]["cases"]) < 6
    assert f"The plan is made on the {cases} training cases of fold 0" in said.text
    assert (tmp_path / "plan.json").is_file()
    assert f"Written to {tmp_path / 'plan.json'}" in said.out


def test_predict_says_what_it_did(work, tmp_path):
    out = tmp_path / "out"
    image = work.data / "imagesTs" / "abdomen_test_000_0000.nii.gz"
    said = hilum(
        "predict",
        work.model,
        image,
        "-o",
        out,
        "--format",
        "nrrd",
        "--format",
        "mha",
        "--pictures",
        "--probabilities",
    )
    assert said.code == 0, said.err
    assert "1 of 1 cases predicted" in said.out
    stem = "abdomen_test_000"
    assert {path.name for path in out.glob("[!.]*")} == {
        *(f"{stem}.nrrd", f"{stem}.mha", f"{stem}_probabilities.nrrd", f"{stem}_probabilities.mha"),
        *("pictures", "labels.json", "run.json"),
    }
    assert (out / "pictures" / f"{stem}.png").is_file()
    again = hilum(
        "predict",
        work.model,
        image,
        "-o",
        out,
        "--format",
        "nrrd",
        "--format",
        "mha",
        "--skip-existing",
    )
    assert "0 of 1 cases predicted" in again.out


def test_predict_and_evaluate_name_training_cases(work, tmp_path, caplog):
    trained = json.loads((work.model / "model.json").read_text())["facts"]["details"]["fold 0"][
        "train"
    ]
    images = sorted(work.data.glob("imagesTr/*.nii.gz"))
    said = hilum("predict", work.model, *images, "-o", tmp_path / "seen")
    assert (
        f"{len(trained)} of {len(images)} cases are named like cases that this model learnt from"
        in said.text + caplog.text
    )
    caplog.clear()
    hilum(
        "predict", work.model, work.data / "imagesTs", "-o", tmp_path / "seen"
    )  # run.json is of this run, the folder of both
    assert "learnt from" not in caplog.text
    assert json.loads((tmp_path / "seen" / "run.json").read_text())["trained_on"] == sorted(trained)
    judged = hilum("evaluate", tmp_path / "seen", work.data, "-o", tmp_path / "e").text
    assert (
        f"Attention: {len(trained)} of {len(images)} cases are named like cases that the model was"
        " trained on" in judged
    )
    assert "trained on" not in work.said["evaluate"].out


def test_evaluate_and_compare_write_tables(work, tmp_path):
    said = hilum(
        "evaluate",
        work.folder / "predictions",
        work.data / "labelsTs",
        "-o",
        tmp_path / "e",
        *("--tolerance", 5, "--tolerance", 1, "--metric", "boundary_iou", "--surface", "mesh"),
    )
    assert said.code == 0
    shown = ("| Dice |", "NSD at 5 mm", "| NSD at 1 mm |", "| boundary IoU |", "## Which metrics")
    assert [text for text in shown if text not in said.out] == []
    compared = hilum("compare", work.folder / "evaluation", work.folder / "evaluation")
    assert (compared.code, "| liver | Dice |" in compared.out) == (0, True)
    assert "All rows: --out DIR writes them" in compared.out
    ranked = hilum("compare", *[work.folder / "evaluation"] * 3, "-o", tmp_path / "ranking")
    assert "First when patients are resampled: evaluation (1) in 33%, evaluation (2)" in ranked.out
    assert f"Written to {tmp_path / 'ranking'} (comparison.md" in ranked.out
    told = hilum("report", work.folder / "evaluation", "-o", tmp_path / "report.html")
    assert told.code == 0
    assert f"Open {tmp_path / 'report.html'} in a browser." in told.out
    for source in ("model", "predictions"):
        assert hilum("report", work.folder / source, "-o", tmp_path / f"{source}.html").code == 0
    assert "This model finds" in (tmp_path / "model.html").read_text("utf-8")
    assert "predicted 2 of 2 cases" in (tmp_path / "predictions.html").read_text("utf-8")
    same = [work.folder / "evaluation"] * 2
    assert "Shown to be equivalent: Dice of" in hilum("compare", *same, "--margin", "dice=0.1").out
    refused(hilum("compare", *same, "--margin", "dice"), 2, "margin 'dice'", "dice=0.01")
    refused(
        hilum("compare", work.folder / "evaluation", tmp_path / "e"),
        2,
        "tolerance_mm of 2.0 and of 5.0",
        "--tolerance",
    )


def test_training_goes_on(work, tmp_path):
    shutil.copytree(work.model, tmp_path / "model")
    said = hilum(
        "train", work.data, "-o", tmp_path / "model", "--steps", 4, "--device", "cpu", "--resume"
    )
    assert said.code == 0, said.err
    assert "liver: Dice " in said.out
    assert f"Next: hilum predict {tmp_path / 'model'}" in said.out


# --- 2: usage
# ------------------------------------------------------------------------------


def refused(said, code, *parts):
    """A message of ours without a traceback: what was found, what is needed, what to type."""
    assert said.code == code, said.out + said.err
    assert said.out == ""
    assert "Traceback" not in said.err
    assert all(part in said.text for part in parts), said.err


def test_a_mistyped_folder_is_refused_with_the_right_one_and_leaves_nothing_behind(work, tmp_path):
    wrong = work.data.parent / "dta"
    refused(
        hilum("train", wrong, "-o", tmp_path / "m"),
        2,
        f"hilum: {wrong} does not exist",
        f"Cure: did you mean {work.data}?",
    )
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (
            ("--minutes", 5, "--steps", 9),
            ("minutes and steps were both given", "Cure: --minutes 20 or --steps 5000"),
        ),
        (("--minutes", 0), ("--minutes 0", "a positive number")),
        (("--steps", 0), ("--steps 0", "at least one step")),
        (("--folds", 1), ("--folds 1", "at least 2 folds")),
        (("--seed", -1), ("--seed -1", "a seed of at least 0")),
        (("--memory", -2), ("--memory -2", "a positive number")),
        (("--fold", 7, "--steps", 4), ("fold 7", "a fold from 0 to 4", "--folds 5 for all")),
        (("--device", "toaster", "--steps", 4), ("toaster is no device", "auto, cpu, cuda")),
        (
            ("--plan", "nowhere.json", "--steps", 4),
            ("nowhere.json cannot be read", "hilum plan DATA writes one"),
        ),
    ],
)
def test_options_that_cannot_be_are_refused(work, tmp_path, options, parts):
    said = hilum("train", work.data, "-o", tmp_path / "m", *options)
    refused(said, 2, *parts)
    assert not (tmp_path / "m").exists()


def test_nothing_is_overwritten(work):
    refused(
        hilum("train", work.data, "-o", work.model, "--steps", 4),
        2,
        "already holds a finished model",
        "choose another folder",
    )
    with mock.patch.object(api, "train", side_effect=AssertionError):
        refused(
            hilum("demo", "-o", work.folder),
            2,
            "already holds a demo",
            f"--out {work.folder}_2",
        )


def test_a_mistyped_format_is_refused_with_the_right_one(work, tmp_path):
    said = hilum(
        "predict", work.model, work.data / "imagesTs", "-o", tmp_path / "p", "--format", "nift"
    )
    refused(said, 2, "format 'nift'", "did you mean --format nifti?")


# --- 3: the data
# ------------------------------------------------------------------------------


@pytest.fixture
def broken(work, tmp_path):
    """The data set with a label that its table does not know, and one test image cut short."""
    from hilum.io import read_labels, write_labels

    shutil.copytree(work.data, tmp_path / "broken")
    path = tmp_path / "broken" / "labelsTr" / "abdomen_001.nii.gz"
    labels = read_labels(path)
    array = labels.array.copy()
    array[0, 4, 5:8, 6:9] = 9
    write_labels(labels.with_array(array), path)
    cut = tmp_path / "broken" / "imagesTs" / "abdomen_test_001_0000.nii.gz"
    cut.write_bytes(cut.read_bytes()[:400])
    return tmp_path / "broken"


def test_check_finds_what_is_wrong(broken):
    said = hilum("check", broken)
    assert said.code == 3
    assert re.search(r"^error +unknown-label: abdomen_001: .*9", said.out, re.MULTILINE)
    assert re.search(r"^error +unreadable: abdomen_test_001: ", said.out, re.MULTILINE)
    assert "        cure: " in said.out
    assert "Traceback" not in said.err
    found = {finding["kind"] for finding in hilum("check", broken, "--json").json["findings"]}
    assert found >= {"unknown-label", "unreadable"}


def test_check_mends_a_copy(work, tmp_path):
    from hilum.io import read_labels, write_labels
    from hilum.volume import Volume

    shutil.copytree(work.data, tmp_path / "shifted")
    path = tmp_path / "shifted" / "labelsTr" / "abdomen_002.nii.gz"
    labels = read_labels(path)
    write_labels(
        Volume(labels.array, labels.geometry.shifted((0.0, 0.03, 0.0), labels.geometry.shape)), path
    )  # rounding
    before = path.read_bytes()
    said = hilum("check", tmp_path / "shifted", "--fix", tmp_path / "mended", "--json")
    assert said.code == 0, said.err
    fixes = said.json["fixes"]
    assert [(one["case"], one["kind"]) for one in fixes["fixed"]] == [
        ("abdomen_002", "grid-rounding")
    ]
    assert json.loads((tmp_path / "mended" / "fixes.json").read_text()) == fixes
    assert path.read_bytes() == before
    assert hilum("check", tmp_path / "mended").code == 0


def test_what_training_meets_is_said_with_its_case(broken, work, tmp_path):
    said = hilum("train", broken, "-o", tmp_path / "m", "--steps", 4, "--device", "cpu")
    refused(said, 3, "abdomen_001", "9")


def test_one_failed_case_does_not_cost_the_others(work, broken, tmp_path):
    said = hilum("predict", work.model, broken / "imagesTs", "-o", tmp_path / "p")
    assert said.code == 3
    assert "1 of 2 cases predicted" in said.out
    assert "failed: abdomen_test_001: " in said.err
    assert "Cure:" not in said.err.partition("failed: ")[2]  # said in full once, when it happened
    assert (tmp_path / "p" / "abdomen_test_000.nii.gz").is_file()
    assert not (tmp_path / "p" / "abdomen_test_001.nii.gz").exists()


def test_missing_predictions_are_named(work, tmp_path):
    shutil.copytree(work.folder / "predictions", tmp_path / "p")
    (tmp_path / "p" / "abdomen_test_000.nii.gz").unlink()
    against = ("evaluate", tmp_path / "p", work.data / "labelsTs", "-o", tmp_path / "e")
    refused(hilum(*against), 3, "1 of 2 cases", "abdomen_test_000", "--allow-missing")
    assert hilum(*against, "--allow-missing").code == 0


# --- 4: the model
# ------------------------------------------------------------------------------


def test_a_folder_that_is_no_model(work, tmp_path):
    said = hilum("predict", work.data, work.data / "imagesTs", "-o", tmp_path / "p")
    refused(said, 4, "no model.json in it", "Cure: hilum train DATA -o MODEL")
    assert not (tmp_path / "p").exists()


def test_a_folder_of_nnunet_is_to_be_imported(work, tmp_path):
    theirs = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (theirs / "fold_0").mkdir(parents=True)
    (theirs / "plans.json").write_text("{}")
    said = hilum("predict", theirs, work.data / "imagesTs", "-o", tmp_path / "p")
    refused(
        said, 4, "the folder of an nnU-Net model", f"Cure: hilum import nnunet {theirs} -o MODEL"
    )


@pytest.mark.parametrize("file", ["weights.safetensors", "plan.json", "MODEL_CARD.md"])
def test_an_altered_model_is_refused(work, tmp_path, file):
    shutil.copytree(work.model, tmp_path / "model", ignore=shutil.ignore_patterns("training"))
    with (tmp_path / "model" / file).open("ab") as stream:
        stream.write(b" ")
    said = hilum("predict", tmp_path / "model", work.data / "imagesTs", "-o", tmp_path / "p")
    refused(said, 4, file, "Cure: ")


# --- 5: resources
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["plan", "train", "predict"])
def test_a_device_that_is_not_there(work, tmp_path, verb):
    arguments = {
        "plan": ("plan", work.data),
        "train": ("train", work.data, "-o", tmp_path / "m", "--steps", 4),
        "predict": ("predict", work.model, work.data / "imagesTs", "-o", tmp_path / "p"),
    }[verb]
    refused(
        hilum(*arguments, "--device", "cuda:99"),
        5,
        "--device cuda:99 is not there",
        "Cure: --device cpu",
    )
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(work, tmp_path):
    (tmp_path / "file").touch()
    for out in ("/proc/nope", tmp_path / "file" / "evaluation"):
        said = hilum("evaluate", work.folder / "predictions", work.data / "labelsTs", "-o", out)
        refused(said, 5, f"{out}", "Cure: ")
