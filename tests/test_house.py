"""The invariants of the house (ARCHITECTURE.md).

Who may know what, read from the source itself, and tried out.
"""

import ast
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from house_sources import HOUSE, REPOSITORY, SOURCES, TREES, calls_of, imports_of, python, room_of


@pytest.fixture(scope="module")
def toy_plan():
    """A plan of the planner's own for one small case."""
    import numpy as np

    from hilum.plan import Overrides, make_plan
    from hilum.plan.case_facts import measure_case
    from hilum.plan.fingerprint import summarise
    from hilum.volume import Geometry, LabelTable, Volume

    table = LabelTable.from_names({1: "organ"})
    image = Volume(
        np.random.default_rng(0).normal(size=(1, 9, 14, 11)),
        Geometry.from_spacing((9, 14, 11), (2.0, 1.0, 1.0)),
    )
    labels = image.with_array((image.array > 1).astype(np.uint8))
    facts = [measure_case("a", image, labels, table=table, channels=("T1",))]
    return make_plan(
        summarise("toy", ("T1",), table, facts),
        overrides=Overrides(patch=(4, 8, 8), width=4, batch=2),
    )


# --- 1. only the rooms of files know a file format, only volume knows an axis convention
# ---------------------------------------------------

DICOM = ("dicom", "dicom_results", "deidentification")
FILE_ROOMS = {"files", "io", *DICOM}
FILE_LIBRARIES = {
    "nibabel": {"io"},
    "SimpleITK": {"io"},
    "nrrd": {"io"},
    "pydicom": {
        *DICOM,
        "examples/dicom.py",  # a series as a scanner writes it, not as our own writer would
    },
    "PIL": {"io", "dicom", "dicom_results"},
    "tifffile": {"io"},
    "imageio": {"io"},
    "skimage": {  # marching cubes, thinning
        *("io", "metrics/mesh.py", "metrics/centreline.py", "report/mesh.py"),
    },
    "zipfile": {"files", "io", "exchange/nnunet/checkpoint.py"},  # torch's checkpoints are archives
    "blosc2": {"preprocess/store.py"},  # our own case store
    "safetensors": {  # our own weights, and those that users bring
        *(
            "inference/trained_model.py",
            "inference/assurance.py",
            "training/checkpoint.py",
            "networks/weights/files.py",
        ),
    },
    "matplotlib": {
        *("report", "training/log.py"),
        *("dicom_results/page.py", "dicom_results/display.py"),  # PDF; fonts and colours
    },
}


def test_file_formats_are_known_to_their_owner_only():
    strangers = [
        f"{name}:{line} imports {module}"
        for name, tree in TREES.items()
        for module, line in imports_of(tree)
        if (owners := FILE_LIBRARIES.get(module.split(".")[0])) is not None
        and not owners & {name, room_of(name)}
    ]
    assert not strangers, strangers


AFFINE_USERS = {
    "preprocess/restore.py": "writes the grid into its JSON, as it is",
    "examples/canvas.py": "paints on a grid: steps and origin of its voxels",
    "examples/dicom.py": "a writer of files",
    "dataset/grids.py": "whether a grid is parallel to the axes, whichever they are",
}


def test_only_volume_and_file_rooms_know_axis_conventions():
    users = {
        name
        for name, tree in TREES.items()
        if room_of(name) not in {"volume", *FILE_ROOMS}
        and any(
            isinstance(node, ast.Attribute) and node.attr in {"affine", "directions"}
            for node in ast.walk(tree)
        )
    }
    assert users == set(AFFINE_USERS)
    words = re.compile(
        r"\bRAS\b|\bsform\b|\bqform\b|\bSetDirection\b|ImageOrientationPatient\b(?! =)"
    )
    assert not [
        name
        for name, text in SOURCES.items()
        if room_of(name) not in {"volume", *FILE_ROOMS} and words.search(text)
    ]


# --- 2. arrays are (C, Z, Y, X), batches (B, C, Z, Y, X); 2D drops Z only inside networks
# ------------------------------------


def test_only_networks_know_two_dimensional_layers():
    layers = re.compile(
        r"\b(Conv|BatchNorm|InstanceNorm|MaxPool|ConvTranspose)[23]d\b|\bconv2d\b|\.squeeze\("
    )
    assert {room_of(name) for name, text in SOURCES.items() if layers.search(text)} <= {"networks"}


@pytest.mark.parametrize("kind", ["unet", "plain_unet", "residual_unet"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_network_takes_and_gives_five_axes(kind, dimensions):
    import torch

    from hilum.networks import build_network, textbook_spec

    spec = textbook_spec(2, 3, dimensions=dimensions, features=(4, 8)).model_copy(
        update={"kind": kind}
    )
    shape = (1, 2, 1 if dimensions == 2 else 4, 6, 8)
    with torch.inference_mode():
        assert build_network(spec).eval()(torch.zeros(shape)).shape == (1, 3, *shape[2:])


# --- 3. inference stands alone; nothing is unpickled
# -------------------------------------------------------------------------

UNSAFE = re.compile(
    r"^(pickle|marshal|shelve|dill|joblib|cloudpickle)\.|^torch\.(load|save|hub\.)"
    r"|^(eval|exec|compile|__import__)$|^os\.system$"
)


def weights_alone(name, call, node):
    """PyTorch's own files of weights, which users bring, are read in one place.

    By a reader that builds tensors and no more.
    """
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    return (name, call) == ("networks/weights/files.py", "torch.load") and given.get(
        "weights_only"
    ) == "True"


def test_nothing_is_pickled_or_evaluated():
    unsafe = [
        f"{name}:{node.lineno} {call}"
        for name, tree in TREES.items()
        for call, node in calls_of(tree)
        if UNSAFE.match(call) and not weights_alone(name, call, node)
    ]
    modules = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
    named = [
        (name, m, line)
        for name, tree in TREES.items()
        for m, line in imports_of(tree)
        if m.split(".")[0] in modules
    ]
    unsafe += [f"{name}:{line} {m}" for name, m, line in named]
    assert not unsafe, unsafe
    for name, tree in TREES.items():
        for call, node in calls_of(tree):
            if call in {"np.load", "np.save"}:
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("allow_pickle") == "False", (
                    f"{name}:{node.lineno} {call} without allow_pickle=False"
                )


def test_nothing_is_fetched_but_pretrained_weights():
    network = {"socket", "urllib", "http", "requests", "httpx", "ftplib", "huggingface_hub"}
    found = {
        (n, m.split(".")[0])
        for n, tree in TREES.items()
        for m, _ in imports_of(tree)
        if m.split(".")[0] in network
    }
    assert found == {
        ("networks/weights/find.py", "huggingface_hub"),
        ("dicom/web.py", "requests"),  # studies of the DICOMweb service that the user names
        ("node/status.py", "http"),  # serves
    }
    finders = {
        n for n, tree in TREES.items() if "find_weights" in {call for call, _ in calls_of(tree)}
    }
    assert all(room_of(name) in {"networks", "training"} for name in finders), (
        finders
    )  # a model folder fetches nothing


ALONE = """
import sys
class NoTraining:
    def find_spec(self, name, path=None, target=None):
        above = ("training", "pipelines", "api", "examples", "evaluation")
        if name.split(".")[0] == "hilum" and name.split(".")[1:2] and name.split(".")[1] in above:
            raise ImportError("inference reached " + name)
sys.meta_path.insert(0, NoTraining())
import numpy as np, safetensors.torch, hilum.inference
from hilum.inference import Predictor, TrainedModel
from hilum.volume import Geometry, Volume
FORBIDDEN = {"pickle.find_class", "socket.connect", "socket.getaddrinfo", "subprocess.Popen"}
FORBIDDEN |= {"os.system"}
def refuse(event, arguments):
    if event in FORBIDDEN:
        sys.exit(f"{event} {arguments}")
sys.addaudithook(refuse)
model = TrainedModel.load(sys.argv[1], device="cpu")
volume = Volume(np.ones((1, 5, 9, 7), np.int16), Geometry.from_spacing((5, 9, 7), (3.0, 1.0, 1.5)))
print(Predictor(model).predict(volume).labels.array.shape)
"""


def test_a_model_folder_is_all_that_a_prediction_needs(tmp_path, toy_plan):
    import torch

    from hilum.inference import TrainedModel
    from hilum.networks import build_network

    TrainedModel(toy_plan, (build_network(toy_plan.network.value),), torch.device("cpu")).save(
        tmp_path / "model"
    )
    assert python(ALONE, tmp_path / "model").strip() == "(1, 5, 9, 7)"


# --- 4. a plan is complete: no environment, no global randomness
# -------------------------------------------------------------


def test_nothing_is_read_from_the_environment():
    reads = re.compile(r"\b(environb?|getenvb?|putenv)\b")
    assert not [name for name, tree in TREES.items() if reads.search(ast.unparse(tree))]


GENERATORS = {"np.random.default_rng", "np.random.Generator", "np.random.SeedSequence"}
TORCH_RANDOM = re.compile(
    r"^torch\.(rand|randn|randint|randperm|normal|bernoulli|multinomial|poisson)(_like)?$"
)


def test_randomness_comes_from_generators_that_are_passed():
    for name, tree in TREES.items():
        assert not {module for module, _ in imports_of(tree) if module.split(".")[0] == "random"}, (
            name
        )
        for call, node in calls_of(tree):
            where = f"{name}:{node.lineno} {call}"
            assert not re.fullmatch(r"np\.random\.\w+", call) or call in GENERATORS, where
            assert call != "np.random.default_rng" or node.args, f"{where}: without a seed"
            assert call not in {
                "torch.manual_seed",
                "torch.seed",
                "torch.cuda.manual_seed_all",
            }, where
            if TORCH_RANDOM.match(call):
                assert "generator" in {keyword.arg for keyword in node.keywords}, (
                    f"{where}: without generator="
                )


BYTES = """
import sys, hashlib
import numpy as np
from hilum.plan import load_plan
from hilum.preprocess import preprocess_case
from hilum.volume import Geometry, Volume
geometry = Geometry.from_spacing((7, 12, 10), (3.0, 1.0, 1.5), origin=(-7.0, 11.0, 3.0))
image = Volume(np.random.default_rng(3).normal(40, 90, (1, 7, 12, 10)).astype(np.float32), geometry)
array, restore = preprocess_case(image, load_plan(sys.argv[1]))
print(array.shape, hashlib.sha256(array.tobytes()).hexdigest(), restore.to_json())
"""


def test_the_same_plan_gives_the_same_bytes_everywhere(tmp_path, toy_plan):
    from hilum.plan import Decision, save_plan

    resampled = toy_plan.model_copy(
        update={"spacing": Decision(value=(2.0, 1.3, 1.3), because="resampled")}
    )
    save_plan(resampled, tmp_path / "plan.json")
    first = python(BYTES, tmp_path / "plan.json", PYTHONHASHSEED="1", HOME="/nowhere", LANG="C")
    second = python(
        BYTES, tmp_path / "plan.json", PYTHONHASHSEED="2", TZ="Asia/Tokyo", nnUNet_raw="/elsewhere"
    )
    assert first == second
    assert first.startswith(
        "(1, 10, 9, 12) "
    )  # 7 x 3 / 2 = 10.5, 12 x 1 / 1.3 = 9.2, 10 x 1.5 / 1.3 = 11.5: to even


def test_the_schema_of_plans_that_is_shipped_is_current():
    from hilum.plan import plan_schema

    assert (
        json.loads((HOUSE / "plan" / "plan.schema.json").read_text(encoding="utf-8"))
        == plan_schema()
    )


# --- 5. a prediction lies on the source's own grid: tests/inference/test_predictor.py tries 48
# orientations; here, all at once


def test_an_identity_network_gives_the_volume_back(toy_plan):
    import numpy as np

    from hilum.inference.sliding_window import Sweep, sliding_window
    from hilum.plan import Decision
    from hilum.preprocess import preprocess_case
    from hilum.volume import Geometry, Volume, reorient

    rng = np.random.default_rng(5)
    unit = toy_plan.normalisation.value[0].model_copy(update={"kind": "unit", "upper": 1.0})
    for code, shape, patch, overlap in (
        ("SPL", (5, 9, 7), (4, 4, 8), 0.5),
        ("ARI", (9, 4, 11), (12, 8, 4), 0.25),
        ("LIP", (1, 13, 6), (4, 8, 8), 0.75),
    ):
        turn, _ = np.linalg.qr(np.eye(3)[:, ::-1] + rng.normal(0, 0.1, (3, 3)))
        turn *= np.sign(
            np.diag(turn.T @ np.eye(3)[:, ::-1])
        )  # near the canonical directions, oblique
        geometry = Geometry.from_spacing(
            shape, (3.0, 0.7, 1.1), origin=(-31.0, 8.0, 112.0), directions=turn
        )
        volume = reorient(Volume(rng.normal(size=(1, *shape)).astype(np.float32), geometry), code)
        plan = toy_plan.model_copy(
            update={
                "normalisation": Decision(value=(unit,), because="the very values"),
                "spacing": Decision(value=None, because="the very grid"),
            }
        )
        array, restore = preprocess_case(volume, plan)
        logits = sliding_window(
            array, lambda patches: patches, Sweep(patch, overlap, outputs=1, batch=3)
        )
        assert restore.array(logits) == volume


# --- 6. the command line holds no decisions
# ----------------------------------------------------------------------------------


def registered_commands():
    """Name the functions behind all commands of the command line, those of groups too."""
    from hilum.cli import app

    apps = [app, *(group.typer_instance for group in app.registered_groups)]
    return [one.callback for part in apps for one in part.registered_commands]


def test_each_command_calls_one_verb():
    records = {  # groups of options
        "api.NetworkOptions",
        "api.Labelling",
        "api.SegmentationOptions",
        "api.ClassificationOptions",
        "api.DeidentifyOptions",
    }
    commands = {}
    for callback in registered_commands():
        (node,) = ast.parse(inspect.getsource(callback)).body
        called = {call for call, _ in calls_of(node) if call.startswith("api.")}
        commands[node.name] = called - records - {"api.to_json"}
    assert commands.pop("doctor") == {"api.environment"}
    assert commands.pop("node") == set()  # it starts a `hilum.node.Node`
    verbs = {
        "check",
        "plan",
        "train",
        "tune",
        "predict",
        "series",
        "evaluate",
        "compare",
        "report",
        "demo",
        "export",
        "import_nnunet",
        "deidentify",
    }
    assert set(commands) == verbs
    assert all(called == {f"api.{name}"} for name, called in commands.items()), commands


OPTIONS_BELOW = ("dataset", "evaluation", "report", "training")
"""Rooms whose messages may still name options of the command line: to become fewer."""


def test_messages_below_the_command_line_name_arguments():
    """Errors say `region='mask'`, and the command line prints `--region mask` instead."""
    whole = re.compile(
        r"`?((hilum|pip) [a-z]+|gdcmconv)( [A-Z]+| --[a-z-]+)*"
    )  # a command to be typed
    named = [
        f"{name}:{node.lineno} {node.value.strip()}"
        for name, tree in TREES.items()
        if room_of(name) not in {"cli", *OPTIONS_BELOW}
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.search(r"(?<![\w-])--[a-z]", whole.sub("", node.value))
        and not is_docstring(node.value, tree)
    ]
    assert not named, named


def is_docstring(text, tree):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return text in {
        ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, kinds)
    }


def test_the_command_line_knows_the_verbs_and_the_errors_only():
    known = set()
    for tree in (tree for name, tree in TREES.items() if room_of(name) == "cli"):
        checks = [
            n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)
        ]
        for_types = {place for check in checks for place in imports_of(check)}
        known |= {
            module
            for module, line in imports_of(tree)
            if module.startswith("hilum") and (module, line) not in for_types
        }
    assert {module for module in known if not module.startswith("hilum.cli")} <= {
        *(
            "hilum",
            "hilum.api",
            "hilum.errors",
            "hilum.errors.HilumError",
            "hilum.errors.counted",
            "hilum.errors.missing_package",
            "hilum.errors.some",
        ),
        *(
            "hilum.training",
            "hilum.training.Listener",
            "hilum.inference",
        ),  # who is told what happens
        *(f"hilum.node{name}" for name in ("", ".Node", ".make_config", ".parse_destination")),
        "hilum.node.read_config",
    }, known


# --- 7. the tasks meet at one seam
# -------------------------------------------------------------------------------------------


def test_no_room_asks_which_task_it_is():
    names = {"segmentation", "classification", "detection", "regression"}

    def asks(node):
        if isinstance(node, ast.Compare):
            strings = {
                n.value
                for n in ast.walk(node)
                if isinstance(n, ast.Constant) and isinstance(n.value, str)
            }
            return bool(strings & names)
        return isinstance(node, ast.Match) and "task" in ast.unparse(node.subject)

    words = {
        "dataset/layouts/label_options.py",
        "dataset/layouts/labelling.py",
    }  # what users say of a data set with `--task`, before there is anything of a task
    asked = [
        f"{name}:{n.lineno}"
        for name, tree in TREES.items()
        if room_of(name) != "targets"
        for n in ast.walk(tree)
        if asks(n)
    ]
    assert not [where for where in asked if where.split(":")[0] not in words], asked


def test_the_tasks_that_can_be_named_are_those_that_there_are():
    from typing import get_args

    from hilum.cli import Task
    from hilum.dataset.layouts import label_options
    from hilum.pipelines.classification import Classification
    from hilum.pipelines.segmentation import Segmentation
    from hilum.plan import PLANS

    named = {task.value for task in Task}
    assert set(PLANS) == set(label_options.TASKS) == named
    assert set(PLANS.values()) == {Segmentation.plan_type, Classification.plan_type}
    for name, kind in PLANS.items():
        assert get_args(kind.model_fields["task"].annotation.model_fields["value"].annotation) == (
            name,
        )


# --- the floors
# ------------------------------------------------------------------------------


def test_imports_only_go_down():
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
