"""The data and the models of the inference benchmark.

Made once and kept in out/benchmarks/inference/SET.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import DATA, OUT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).resolve().parent
HOME = OUT / "inference"
GATE = 0.005
ALL_CASES = 52  # of hippocampus
LIVER_STEPS = 200
TORSO_MM = 1.5
LIVER_CROPS = {
    "lowest": (20, 68),
    "lower": (35, 83),
    "upper": (58, 106),
    "uppermost": (71, 119),
}  # slices; liver in all
LIVER_PLANE = slice(56, 376)  # of both axes of a slice
OTHER_LIVER_MM = [1.0, 0.7675780057907104, 0.7675780057907104]  # not that of the image


class NotMadeError(Exception):
    """A model that a way needs could not be made.

    The ways that need it are left out, and the reason is kept.
    """


@dataclass(frozen=True)
class BenchSet:
    """One set of images and the nnU-Net model for it."""

    name: str
    home: Path
    fold: str
    labels: dict[int, str]
    trained: bool
    note: str

    @property
    def raw(self) -> Path:
        """Images to be predicted, in nnU-Net's raw layout with its annotations."""
        return self.home / "raw"

    @property
    def images(self) -> Path:
        """The folder that every way is given."""
        return self.raw / "imagesTr"

    @property
    def reference(self) -> Path:
        """The annotations."""
        return self.raw / "labelsTr"

    @property
    def calibration(self) -> Path:
        """Annotated cases for int8."""
        other = self.home / "learning"
        return other if other.is_dir() else self.raw

    @property
    def tuning(self) -> Path:
        """Annotated cases that overlap and post-processing are learnt from.

        Others where there are any.
        """
        return self.raw if self.name == "liver" else self.calibration

    @property
    def nnunet(self) -> Path:
        """nnU-Net's model folder."""
        return self.home / "nnunet"


def hippocampus(python: Path, cases: int) -> BenchSet:
    """The first cases of Task04 for the given model; the next as many to learn from."""
    del python
    home, model = (
        HOME / ("hippocampus" if cases == ALL_CASES else f"hippocampus_{cases}"),
        DATA / "nnunet_hippocampus",
    )
    names = sorted(
        file.name.removesuffix(".nii.gz")
        for file in (DATA / "hippocampus" / "labelsTr").glob("hippocampus_*.nii.gz")
    )
    description = json.loads((model / "dataset.json").read_text())
    _link(home / "nnunet", model)
    for part, chosen in (("raw", names[:cases]), ("learning", names[cases : 2 * cases])):
        _raw(home / part, DATA / "hippocampus", chosen, description)
    note = (
        f"{cases} cases in one command; int8 and tuning learnt on {cases} others; nnU-Net's"
        " training saw all of them"
    )
    return BenchSet("hippocampus", home, "all", _names(description), trained=True, note=note)


def liver(python: Path, cases: int) -> BenchSet:
    """One CT with nnU-Net's own plan, trained briefly on that very case."""
    del cases
    home = HOME / "liver"
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "tumour": 2},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    _raw(home / "raw", DATA / "liver_ct", ["ircadb_17"], description)
    _crops(home / "learning", DATA / "liver_ct", "ircadb_17", description)
    _make_nnunet(python, home, "ircadb_17", ["--steps", str(LIVER_STEPS)])
    cycles = " + ".join(
        str(steps) for steps in json.loads((home / "nnunet" / "trained.json").read_text())["steps"]
    )
    note = (
        f"nnU-Net's own plan; the weights come from {cycles} steps on, and int8 and tuning are"
        " learnt from, this very case: no Dice here is accuracy"
    )
    return BenchSet("liver", home, "0", _names(description), trained=True, note=note)


def torso(python: Path, cases: int) -> BenchSet:
    """One CT with 118 labels at 1.5 mm, random weights."""
    del cases
    home = HOME / "torso"
    names = json.loads((DATA / "torso_ct" / "dataset.json").read_text())["labels"]
    description = {
        "channel_names": {"0": "CT"},
        "labels": {name: int(value) for value, name in names.items()},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    _raw(home / "raw", DATA / "torso_ct", ["ts_torso"], description)
    _make_nnunet(python, home, "ts_torso", ["--spacing", *[str(TORSO_MM)] * 3])
    note = (
        f"{len(names)} labels, nnU-Net's own plan at {TORSO_MM} mm, random weights: time and memory"
        " only"
    )
    return BenchSet("torso", home, "0", _names(description), trained=False, note=note)


SETS: dict[str, Callable[[Path, int], BenchSet]] = {
    "liver": liver,
    "hippocampus": hippocampus,
    "torso": torso,
}


def resampled_liver(found: BenchSet) -> Path:
    """The liver model with another target spacing than its image has.

    So that preprocessing and export have to resample.
    """
    folder = found.home / "nnunet_resampled"
    if not folder.is_dir():
        shutil.copytree(found.nnunet, folder)
        plans = json.loads((folder / "plans.json").read_text())
        plans["configurations"]["3d_fullres"]["spacing"] = OTHER_LIVER_MM
        (folder / "plans.json").write_text(json.dumps(plans, indent=4))
    return folder


def model(found: BenchSet, name: str) -> Path:
    """One of hilum's models of a set, made by hilum's own commands where it is missing.

    `imported`; `exported`, `int8` (made from it); `tuned`, `exported_tuned`, `int8_tuned`. Where
    the weights are random nothing can be tuned, and the tuned ones are the others.

    Raises:
        NotMadeError: hilum refused, with its words.
    """
    if not found.trained:
        name = name.replace("_tuned", "").replace("tuned", "imported")
    folder = found.home / name
    if is_made(folder):
        return folder
    tuned = name.endswith("tuned")
    source = partial(
        model, found, "tuned" if tuned and name != "tuned" else "imported"
    )  # made only when needed
    if name == "imported":
        command = import_command(found.nnunet, found.fold, folder)
    elif name == "tuned":
        command = ["tune", source(), found.tuning, "-o", folder]
    elif name.startswith("int8"):
        int8 = ["--precision", "int8", "--data", found.calibration, "--gate", GATE]
        command = ["export", source(), "-o", folder, "--format", "openvino", *int8]
    else:
        command = ["export", source(), "-o", folder, "--format", "both"]
    make(command, folder)
    return folder


def import_command(nnunet: Path, fold: str, folder: Path) -> list[object]:
    """Arguments that import a model."""
    return ["import", "nnunet", nnunet, "-o", folder, "--folds", fold]


def is_made(folder: Path) -> bool:
    """Return True if `make` has finished this folder."""
    return folder.with_suffix(".made").is_file()


def forget(found: BenchSet) -> None:
    """Let every model that hilum made of a set be made again."""
    for mark in found.home.glob("*.made"):
        mark.unlink()


def weights_of(found: BenchSet) -> str:
    """Fingerprint of the weights that a set is run with.

    The start of the checkpoint's SHA-256.
    """
    with (found.nnunet / f"fold_{found.fold}" / "checkpoint_final.pth").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def settle(found: BenchSet) -> str:
    """Forget all that was made with, and measured of, other weights than those that are there now.

    What these are called.

    hilum's models, the predictions (nnU-Net's too: others are compared with them), the model of
    another spacing and runs.json.
    """
    mark, now = found.home / "weights", weights_of(found)
    if not mark.is_file() or mark.read_text() != now:
        forget(found)
        for name in ("predictions", "nnunet_resampled"):
            shutil.rmtree(found.home / name, ignore_errors=True)
        (found.home / "runs.json").unlink(missing_ok=True)
        mark.write_text(now)
    return now


def make(command: Sequence[object], folder: Path) -> None:
    """Run hilum so that it makes a model folder; a folder that was not finished is made again."""
    shutil.rmtree(folder, ignore_errors=True)
    words = [str(part) for part in command]
    print("hilum", " ".join(words), flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "hilum", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NotMadeError(
            f"hilum {words[0]}: " + " ".join((done.stderr or done.stdout).split())[-600:]
        )
    print(done.stdout.strip(), flush=True)
    folder.with_suffix(".made").write_text(done.stdout + done.stderr)


def train_further(found: BenchSet, python: Path, steps: int) -> None:
    """Another cycle of training of the liver's network, from the weights that are there.

    What was made of them is forgotten.
    """
    _make_nnunet(python, found.home, "ircadb_17", ["--steps", str(steps), "--further"])
    settle(found)


def _make_nnunet(python: Path, home: Path, case: str, more: Sequence[str]) -> None:
    folder = home / "nnunet"
    if (folder / "fold_0" / "checkpoint_final.pth").is_file() and "--further" not in more:
        return
    raw = home / "raw"
    files = [
        "--image",
        raw / "imagesTr" / f"{case}_0000.nii.gz",
        "--labels",
        raw / "labelsTr" / f"{case}.nii.gz",
    ]
    command = [
        python,
        HERE / "_inference_model.py",
        *files,
        "--dataset-json",
        raw / "dataset.json",
        "--model",
        folder,
        *more,
    ]
    subprocess.run([str(part) for part in command], check=True)


def _raw(folder: Path, source: Path, cases: Sequence[str], description: dict[str, Any]) -> None:
    """nnU-Net's raw layout of links, made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in cases:
        _link(folder / "imagesTr" / f"{case}_0000.nii.gz", source / "imagesTr" / f"{case}.nii.gz")
        _link(folder / "labelsTr" / f"{case}.nii.gz", source / "labelsTr" / f"{case}.nii.gz")
    (folder / "dataset.json").write_text(json.dumps(description | {"numTraining": len(cases)}))


def _crops(folder: Path, source: Path, case: str, description: dict[str, Any]) -> None:
    """Parts of the one case as cases: int8 wants some to set its ranges and others to judge it."""
    import nibabel as nib

    if (folder / "dataset.json").is_file():
        return
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        whole = nib.load(source / part / f"{case}.nii.gz")
        for name, (low, high) in LIVER_CROPS.items():
            end = "_0000.nii.gz" if part == "imagesTr" else ".nii.gz"
            nib.save(
                whole.slicer[LIVER_PLANE, LIVER_PLANE, low:high], folder / part / f"{name}{end}"
            )
    (folder / "dataset.json").write_text(
        json.dumps(description | {"numTraining": len(LIVER_CROPS)})
    )


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(
            os.path.relpath(target, link.parent) if target.is_relative_to(OUT) else target
        )


def _names(description: dict[str, Any]) -> dict[int, str]:
    return {value: name for name, value in description["labels"].items() if value}
