"""Accuracy by patient folds of one data set at so many minutes a fold.

And nnU-Net v2 in the same time beside it.

    scripts/bench folds --data ../shared/data/hippocampus --minutes 20 scripts/bench folds --data
    ../shared/data/lung_nodules --task segmentation --minutes 4 --folds 3 4 5 6 7 scripts/bench
    folds --data ../shared/data/hippocampus --minutes 20 --folds 0 --peer nnunet     (needs: pip
    install '.[peers]')

Every fold is one `hilum train DATA --fold K --minutes N`, with no other option; a fold that is
there is not trained again; one that was trained for other minutes is refused. The folds are
hilum's, near-duplicates and patients kept together. What was decided on which cases stands in
docs/benchmarks.md. Scores are of plain prediction and of `--tta`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import HEADER, OUT, dice_rows, hilum, trained_already, write_result

from hilum.api import load_model
from hilum.dataset import audit, make_folds, open_dataset
from hilum.evaluation import compare, evaluate_folder, summarise
from hilum.inference import Predictor

if TYPE_CHECKING:
    from hilum.dataset import Dataset
    from hilum.evaluation import Evaluation, Score

AUDITED_GB = 1.0  # as `hilum train` looks for near-duplicates


def main() -> None:
    """Parse, train what is missing, score, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0, help="a fold")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--task",
        help=(
            "as `hilum train --task` takes it, for data that can be learnt from in more ways"
            " than one"
        ),
    )
    parser.add_argument(
        "--tolerance", type=float, default=1.0, help="mm, of the normalised surface distance"
    )
    parser.add_argument(
        "--peer", choices=["nnunet"], help="train this peer on the same folds in the same time"
    )
    parser.add_argument(
        "--peer-python",
        type=Path,
        default=Path(sys.executable),
        help="a Python in which nnunetv2 is installed",
    )
    parser.add_argument("--out", type=Path, help="default: out/benchmarks/folds/DATA")
    asked = parser.parse_args()
    dataset = open_dataset(asked.data, task=asked.task)
    out = asked.out or OUT / "folds" / asked.data.name
    ours = [hilum_fold(asked.data, dataset, out, fold, asked) for fold in asked.folds]
    results = {name: [by_name[name] for by_name in ours] for name in ours[0]}
    if asked.peer:
        results["nnU-Net"] = [nnunet_fold(dataset, out, fold, asked) for fold in asked.folds]
    show(asked, results)


def hilum_fold(
    data: Path, dataset: Dataset, out: Path, fold: int, asked: argparse.Namespace
) -> dict[str, Evaluation]:
    """Train one fold where it is missing; score its validation cases, plain and mirrored."""
    model = out / f"fold_{fold}"
    if not trained_already(model, asked.minutes):
        options = (
            "--fold",
            fold,
            "--minutes",
            asked.minutes,
            *(["--task", asked.task] if asked.task else []),
        )
        hilum("train", data, "-o", model, *options, *(["--resume"] if model.exists() else []))
    predictor = Predictor(load_model(model), tta=True)
    validation = held_out(model, fold)
    plain, mirrored = model / "plain", model / "mirrored"
    for case in validation:
        if not (mirrored / f"{case}.nii.gz").is_file():
            predictor.predict(dataset[case]).save(mirrored)
    shutil.copytree(model / "training" / f"fold_{fold}" / "validation", plain, dirs_exist_ok=True)
    again = Predictor(load_model(model))
    for case in validation:
        if not (plain / f"{case}.nii.gz").is_file():  # the time was up
            again.predict(dataset[case]).save(plain)
    return {"hilum": score(plain, dataset, asked), "hilum --tta": score(mirrored, dataset, asked)}


def held_out(model: Path, fold: int) -> tuple[str, ...]:
    """The cases that a model's training was validated on, as the model says."""
    loaded: Any = load_model(model)
    details: Any = {} if (facts := loaded.facts) is None else facts.details.get(f"fold {fold}", {})
    if "validation" not in details:
        raise SystemExit(
            f"{model} does not say which cases of fold {fold} it was validated on: remove the"
            " folder."
        )
    return tuple(details["validation"])


def nnunet_fold(dataset: Dataset, out: Path, fold: int, asked: argparse.Namespace) -> Evaluation:
    """Plan, preprocess and train nnU-Net on the same fold in the same minutes.

    Score its own (mirrored) validation.
    """
    home = (out / "nnunet").resolve()
    worker = Path(__file__).with_name("_nnunet_worker.py")
    validation, trained = home / f"validation_{fold}", home / f"validation_{fold}.minutes"
    if validation.is_dir() and (
        not trained.is_file() or float(trained.read_text()) != asked.minutes
    ):
        said = trained.read_text() if trained.is_file() else "an unknown number of"
        raise SystemExit(
            f"{validation} is of {said} minutes, not {asked.minutes:g}: ask for those, or remove"
            " the folder."
        )
    if not validation.is_dir():
        write_nnunet_raw(dataset, home / "raw")
        environment = os.environ | {
            "nnUNet_raw": str(home / "raw"),
            "nnUNet_preprocessed": str(home / "preprocessed"),
            "nnUNet_results": str(home / "results"),
            "nnUNet_n_proc_DA": "1",
            "nnUNet_def_n_proc": "2",
        }
        command = [asked.peer_python, worker, fold, asked.minutes, validation]
        subprocess.run([str(part) for part in command], check=True, env=environment)
        trained.write_text(f"{asked.minutes:g}")
    return score(validation, dataset, asked)


def write_nnunet_raw(dataset: Dataset, raw: Path) -> None:
    """The data set as nnU-Net wants it, with hilum's folds; links instead of copies."""
    import json

    folder = raw / "Dataset004_Peer"
    if (folder / "dataset.json").is_file():
        return
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for case in dataset.cases:
        for number, image in enumerate(dict.fromkeys(case.images.values())):
            (folder / "imagesTr" / f"{case.id}_{number:04d}.nii.gz").symlink_to(image.resolve())
        if case.annotation is not None:
            (folder / "labelsTr" / f"{case.id}.nii.gz").symlink_to(case.annotation.resolve())
    table = dataset.labels
    description = {
        "channel_names": {str(n): name for n, name in enumerate(dataset.channels)},
        "labels": {label.name: label.id for label in table.labels} if table else {},
        "numTraining": len(dataset.cases),
        "file_ending": ".nii.gz",
    }
    folds = make_folds(dataset, 5, together=audit(dataset, limit_gb=AUDITED_GB).groups)
    splits = [{"train": list(fold.train), "val": list(fold.validation)} for fold in folds]
    (raw / "splits_final.json").write_text(json.dumps(splits))
    (folder / "dataset.json").write_text(json.dumps(description))


def score(folder: Path, dataset: Dataset, asked: argparse.Namespace) -> Evaluation:
    """Score what a folder holds."""
    return evaluate_folder(
        folder,
        dataset,
        folder.with_name(folder.name + "_scores"),
        tolerance_mm=asked.tolerance,
        allow_missing=True,
    )


def show(asked: argparse.Namespace, results: dict[str, list[Evaluation]]) -> None:
    """Print tables of all folds together and of each, and keep them."""
    kept: dict[str, Any] = {
        "data": asked.data.name,
        "minutes_a_fold": asked.minutes,
        "date": time.strftime("%Y-%m-%d"),
    }
    for name, evaluations in results.items():
        scores: list[Score] = [score for evaluation in evaluations for score in evaluation.scores]
        summary = summarise(scores)
        kept[name] = summary.model_dump(mode="json")
        print(f"\n{name}: {len(evaluations)} folds, {asked.minutes:g} minutes each\n\n{HEADER}")
        print("\n".join(dice_rows(summary)))
        for fold, evaluation in zip(asked.folds, evaluations, strict=True):
            means = ", ".join(
                f"{region.region} {region.metrics['dice'].mean:.4f}"
                for region in evaluation.summary.regions
            )
            print(f"  fold {fold}: {means}")
            kept[f"{name}, fold {fold}"] = means
    if "nnU-Net" in results:
        for fold, one, other in zip(
            asked.folds, results["hilum --tta"], results["nnU-Net"], strict=True
        ):
            print(
                f"\nfold {fold}: hilum --tta (a) against nnU-Net (b),"
                f" paired\n\n{compare(one, other).markdown()}"
            )
    write_result(f"folds_{asked.data.name}", kept)


if __name__ == "__main__":
    main()
