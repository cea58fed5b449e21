"""Reports of a cross-validation, a classifier, nnU-Net's predictions and a comparison.

    scripts/bench reports
    scripts/bench reports --minutes 2 --only nnunet comparison --pictures

Each is made by the command line as users would: train where a model is missing, predict, evaluate
or compare, report. The pages, their plots and tables lie in out/benchmarks/reports; `--pictures`
adds a picture of every page as a desktop and as a phone shows it (needs chromium and chromedriver),
to be looked at. Sizes are printed.

- hippocampus: five folds, every case predicted by the model that was not trained on it.
- nodules: benign and malignant lung nodules, the held-out fold, with maps of 24 cases.
- nnunet: label maps that nnU-Net itself predicted, of a model trained for 19 minutes.
- many: 208 references of the hippocampus, each shifted by at most a voxel at random: the size of a
  report of 200 cases.
- comparison: two such sets of label maps that differ in the seed alone, so that a difference is
  noise by construction.
"""

from __future__ import annotations

import argparse
import base64
import csv
import shutil
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from _common import DATA, OUT, hilum, trained_already, write_result
from folds import held_out

from hilum.api import load_model
from hilum.dataset import open_dataset, read_annotation
from hilum.evaluation import read_predictions
from hilum.inference import Predictor
from hilum.io import write_labels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGES = OUT / "reports"
HIPPOCAMPUS, NODULES = DATA / "hippocampus", DATA / "lung_nodules"
WIDTHS = {"desktop": 1200, "phone": 390}
MAPPED = 24


def main() -> None:
    """Make the reports that are asked for, and print their sizes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[*REPORTS], choices=[*REPORTS])
    parser.add_argument("--minutes", type=float, default=2.0, help="of each training")
    parser.add_argument("--pictures", action="store_true", help="photograph every page")
    asked = parser.parse_args()
    sizes: dict[str, Any] = {}
    for name in asked.only:
        source, cases = REPORTS[name](asked.minutes)
        page, began = PAGES / f"{name}.html", time.perf_counter()
        hilum("report", source, "-o", page, "--figures", PAGES / f"{name}_figures")
        sizes[name] = {
            "cases": cases,
            "megabytes": round(page.stat().st_size / 1e6, 2),
            "seconds": round(time.perf_counter() - began, 1),
        }
        if asked.pictures:
            for device, width in WIDTHS.items():
                photograph(page, PAGES / f"{name}_{device}.png", width)
    print("| report | cases | MB | seconds |\n|---|--:|--:|--:|")
    for name, row in sizes.items():
        print(f"| {name} | " + " | ".join(map(str, row.values())) + " |")
    write_result("reports", sizes)


def hippocampus(minutes: float) -> tuple[Path, int]:
    """Cross-validate: each case is predicted by the model of the fold that left it out."""
    predictions = PAGES / "hippocampus_predictions"
    for fold in range(5):
        predict_held_out(hippocampus_model(minutes, fold), fold, predictions)
    evaluation = evaluated(predictions, "hippocampus", "--cross-validated")
    return evaluation, len(open_dataset(HIPPOCAMPUS).cases)


def hippocampus_model(minutes: float, fold: int) -> Path:
    """Train one fold where it is missing."""
    model = PAGES / f"hippocampus_fold_{fold}"
    if not trained_already(model, minutes):
        again = ["--resume"] if model.exists() else []
        options = ("--fold", fold, "--minutes", minutes, *again)
        hilum("train", HIPPOCAMPUS, "-o", model, *options)
    return model


def predict_held_out(model: Path, fold: int, out: Path) -> None:
    """Predict the cases that a model's training was validated on."""
    predictor, dataset = Predictor(load_model(model)), open_dataset(HIPPOCAMPUS)
    for case in held_out(model, fold):
        if not (out / f"{case}.nii.gz").is_file():
            predictor.predict(dataset[case]).save(out)


def evaluated(predictions: Path, name: str, *more: str) -> Path:
    """Evaluate label maps of the hippocampus; the cases that are there."""
    out = PAGES / f"{name}_evaluation"
    options = ("--tolerance", 1, "--allow-missing", *more)
    hilum("evaluate", predictions, HIPPOCAMPUS, "-o", out, *options)
    return out


def nodules(minutes: float) -> tuple[Path, int]:
    """Train a classifier, and predict its held-out fold: all cases, and some with maps."""
    model, fold = PAGES / "nodules_model", 3
    label = ("--label", "Diagnosis_value", "--positive", "1")
    if not trained_already(model, minutes):
        again = ["--resume"] if model.exists() else []
        options = (*label, "--fold", fold, "--minutes", minutes, *again)
        hilum("train", NODULES, "-o", model, *options)
    table = load_model(model).plan.table
    held = {score.case for score in read_predictions(model / "training" / "out_of_fold", table)}
    every = held_out_table(held, PAGES / "nodules.csv")
    mapped = held_out_table(set(sorted(held)[:MAPPED]), PAGES / "nodules_mapped.csv")
    predictions = PAGES / "nodules_predictions"
    hilum("predict", model, every, "-o", predictions)
    hilum("predict", model, mapped, "-o", predictions, "--explain", "grad_cam")
    out = PAGES / "nodules_evaluation"
    columns = ("--subgroup", "diameter_mm", "--subgroup", "spacing_mm")
    hilum("evaluate", predictions, every, "-o", out, *label, *columns)
    return out, len(held)


def held_out_table(cases: set[str], path: Path) -> Path:
    """Write the rows of these nodules as a table of its own, with the paths of their files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        (NODULES / "cases.csv").open(encoding="utf-8", newline="") as stream,
        path.open("w", encoding="utf-8", newline="") as out,
    ):
        reader = csv.DictReader(stream)
        writer = csv.DictWriter(out, ["image", "mask", *(reader.fieldnames or ())])
        writer.writeheader()
        for row in reader:
            if row["file"].removesuffix(".nii.gz") in cases:
                files = {
                    "image": NODULES / "images" / row["file"],
                    "mask": NODULES / "masks" / row["file"],
                }
                writer.writerow(row | files)
    return path


def nnunet(_minutes: float) -> tuple[Path, int]:
    """Evaluate what nnU-Net predicted."""
    predictions = DATA / "nnunet_hippocampus" / "expected"
    return evaluated(predictions, "nnunet"), len([*predictions.glob("*.nii.gz")])


def many(_minutes: float) -> tuple[Path, int]:
    """Evaluate references that were shifted."""
    predictions = shifted(0)
    return evaluated(predictions, "shifted_0"), len([*predictions.glob("*.nii.gz")])


def comparison(_minutes: float) -> tuple[Path, int]:
    """Compare two sets of shifted references, which are equally good."""
    folders = [evaluated(shifted(seed), f"shifted_{seed}") for seed in (0, 1)]
    out = PAGES / "comparison"
    hilum("compare", *folders, "-o", out, "--margin", "dice=0.02")
    return out, len([*shifted(0).glob("*.nii.gz")])


def shifted(seed: int) -> Path:
    """Write every reference of the hippocampus, shifted by -1 to 1 voxel along each axis."""
    random, out = np.random.default_rng(seed), PAGES / f"shifted_{seed}_predictions"
    for case in open_dataset(HIPPOCAMPUS).cases:
        labels, steps = read_annotation(case), random.integers(-1, 2, size=3)
        if not (out / f"{case.id}.nii.gz").is_file():
            moved = np.roll(labels.array, steps, axis=(1, 2, 3))
            write_labels(labels.with_array(moved), out / f"{case.id}.nii.gz")
    return out


def photograph(page: Path, picture: Path, width: int) -> None:
    """Write a picture of a whole page in a window of so many pixels."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless", "--no-sandbox", "--disable-gpu"):
        options.add_argument(flag)
    window = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        mobile = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", mobile)
        window.get(page.resolve().as_uri())
        time.sleep(2)  # the slices are decoded, the surfaces shaded
        shot = {"captureBeyondViewport": True, "format": "png"}
        shown = window.execute_cdp_cmd("Page.captureScreenshot", shot)
        picture.write_bytes(base64.b64decode(shown["data"]))
    finally:
        window.quit()


REPORTS: dict[str, Callable[[float], tuple[Path, int]]] = {
    "hippocampus": hippocampus,
    "nodules": nodules,
    "nnunet": nnunet,
    "many": many,
    "comparison": comparison,
}


if __name__ == "__main__":
    main()
