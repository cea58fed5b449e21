"""Classification by transfer learning on public sets, out of fold.

Beside baselines that see no image.

    scripts/bench classification --sets lung_nodules --minutes 5 scripts/bench classification --sets
    breastmnist --minutes 10 --ways default probe head all scratch

Every fold is one `hilum train DATA --fold K --minutes N`; a fold that is there is not trained
again; one that was trained for other minutes is refused. Decisions were made on the folds of
`Source.decided`, and only there; unless `--folds` says otherwise, the others are reported. The
training and validation parts of a MedMNIST archive are joined and split into five folds; the
official test parts are not here.
"""

from __future__ import annotations

import argparse
import csv
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from _common import DATA, OUT, hilum, trained_already, write_result
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hilum.api import load_model
from hilum.dataset import audit, make_folds, open_dataset
from hilum.dataset.folds import fold_groups
from hilum.evaluation import baseline_scores, compare_classes, read_predictions, summarise_classes
from hilum.io import read_geometry
from hilum.training.baselines_report import mask_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from hilum.dataset import Dataset, Fold
    from hilum.evaluation import ClassScore

WAYS: dict[str, tuple[str, ...]] = {
    "default": (),
    "probe": ("--stages", "probe"),
    "head": ("--stages", "head"),
    "two": ("--stages", "two"),
    "all": ("--stages", "all"),
    "scratch": ("--weights", "none", "--stages", "all"),
    "acs": ("--network", "acs"),
    "acs_all": ("--network", "acs", "--stages", "all"),
    "acs_scratch": ("--network", "acs", "--weights", "none", "--stages", "all"),
}
"""Ways to train that are compared, as users type them."""
FIGURES = ("auroc", "auprc", "accuracy", "balanced_accuracy", "brier", "ece", "calibration_slope")


@dataclass(frozen=True)
class Source:
    """One set: where it is, what is typed for it.

    And the figure that stands beside it in its SOURCE.txt.
    """

    data: Callable[[], Path]
    options: tuple[str, ...] = ()
    opened: tuple[tuple[str, Any], ...] = ()
    beside: str = ""
    columns: tuple[str, ...] | None = None
    decided: tuple[int, ...] = (0,)
    """Positions of the folds on which the planner's rules were chosen."""


def _ratings() -> Path:
    """lung_nodules, readers' ratings 1 and 2 against 4 and 5; 3 is left out.

    A table that names the files where they are.
    """
    return _table(
        "lung_nodules",
        "ratings.csv",
        lambda row: {"1": "low", "2": "low", "4": "high", "5": "high"}.get(row["Malignancy_value"]),
    )


def _tumours() -> Path:
    """breast_ultrasound without the normal pictures."""
    return _table(
        "breast_ultrasound",
        "tumours.csv",
        lambda row: row["label"] if row["label"] != "normal" else None,
    )


def _joined(name: str, file: str) -> Path:
    """The training and validation parts of a MedMNIST archive as one."""
    path = OUT / "tables" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    with np.load(DATA / name / file, allow_pickle=False) as parts:
        joined = {
            f"train_{what}": np.concatenate([parts[f"{part}_{what}"] for part in ("train", "val")])
            for what in ("images", "labels")
        }
    np.savez_compressed(path, **joined)
    return path


def _table(name: str, file: str, label: Callable[[dict[str, str]], str | None]) -> Path:
    folder, path = DATA / name, OUT / "tables" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        (folder / "cases.csv").open(encoding="utf-8", newline="") as stream,
        path.open("w", encoding="utf-8", newline="") as out,
    ):
        reader = csv.DictReader(stream)
        writer = csv.DictWriter(
            out, ["image", "mask", "patient", "label", "fold", "diameter_mm"], extrasaction="ignore"
        )
        writer.writeheader()
        for row in reader:
            if (named := label(row)) is not None:
                image, mask = folder / "images" / row["file"], folder / "masks" / row["file"]
                known = {"image": image, "mask": mask if mask.is_file() else "", "label": named}
                patient = row.get("patient_id") or f"group {row.get('group')}"
                writer.writerow(row | known | {"patient": patient})
    return path


SETS: dict[str, Source] = {
    "lung_nodules": Source(
        lambda: DATA / "lung_nodules",
        ("--label", "Diagnosis_value", "--positive", "1"),
        (("label", "Diagnosis_value"), ("positive", "1")),
        "diameter alone .920, ten folds over all 994 nodules",
        ("diameter_mm",),
        decided=(0, 1, 2),
    ),
    "lung_nodules_image": Source(
        lambda: DATA / "lung_nodules",
        ("--label", "Diagnosis_value", "--positive", "1", "--region", "middle"),
        (("label", "Diagnosis_value"), ("positive", "1")),
        "diameter alone .920, ten folds over all 994 nodules; no mask, but the crop's own depth,"
        " which goes with the diameter",
        ("diameter_mm",),
        decided=(0, 1, 2),
    ),
    "lung_nodules_ratings": Source(
        _ratings,
        ("--task", "classification", "--positive", "high"),
        (("task", "classification"), ("positive", "high")),
        "ratings 1-2 v. 4-5",
        ("diameter_mm",),
        decided=(0, 1, 2),
    ),
    "adrenalmnist3d": Source(
        lambda: _joined("adrenalmnist3d", "adrenalmnist3d_64.npz"),
        beside="best of the standard table AUC .839, ACC .80 (test part)",
    ),
    "breastmnist": Source(
        lambda: _joined("breastmnist", "breastmnist.npz"), beside="AUC .919, ACC .861 (test part)"
    ),
    "pneumoniamnist": Source(
        lambda: _joined("pneumoniamnist", "pneumoniamnist.npz"),
        beside="AUC .991, ACC .946 (test part)",
    ),
    "chest_xray": Source(
        lambda: DATA / "chest_xray",
        ("--label", "label"),
        (("label", "label"),),
        "frozen features .855; view alone .617",
        ("view",),
        decided=(0, 1, 2),
    ),
    "breast_ultrasound": Source(
        _tumours,
        ("--task", "classification", "--positive", "malignant"),
        (("task", "classification"), ("positive", "malignant")),
        "frozen features AUC .872, ACC .785",
        decided=(0, 1, 2),
    ),
}


def main() -> None:
    """Train what is missing, score, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--ways", nargs="+", default=["default"], choices=list(WAYS))
    parser.add_argument("--minutes", type=float, default=5.0, help="a fold")
    parser.add_argument(
        "--folds", type=int, nargs="+", help="default: all on which nothing was decided"
    )
    asked = parser.parse_args()
    for name in asked.sets:
        run(name, asked)


def run(name: str, asked: argparse.Namespace) -> None:
    """One set in all ways that are asked for."""
    source = SETS[name]
    data = source.data()
    dataset = open_dataset(data, **dict(source.opened))
    copies = audit(dataset).groups
    made, units = make_folds(dataset, 5, together=copies), fold_groups(dataset, copies)
    folds = (
        asked.folds
        if asked.folds is not None
        else [n for n in range(len(made)) if n not in source.decided]
    )
    kept: dict[str, Any] = {
        "minutes_a_fold": asked.minutes,
        "folds": folds,
        "cases": len(dataset.cases),
        "beside": source.beside,
    }
    print(
        f"\n{name}: {len(dataset.cases)} cases, folds {folds}, {asked.minutes:g} minutes each."
        f" Beside it: {source.beside}\n"
    )
    print("| | " + " | ".join(FIGURES) + " |\n|" + "---|" * (len(FIGURES) + 1))
    answers: dict[str, list[ClassScore]] = {}
    for way in asked.ways:
        scores: list[ClassScore] = []
        for fold in folds:
            model = OUT / "classification" / name / way / f"fold_{fold}"
            if not trained_already(model, asked.minutes):
                options = (*source.options, *WAYS[way], "--fold", fold, "--minutes", asked.minutes)
                hilum(
                    "train", data, "-o", model, *options, *(["--resume"] if model.exists() else [])
                )
            scores += read_predictions(
                model / "training" / "out_of_fold", load_model(model).plan.table
            )
        answers[way] = with_units({score.case: score for score in reversed(scores)}.values(), units)
    table = dataset.classes
    for way, scores in answers.items():
        kept[way] = shown(way, scores, table)
    first, *others = answers
    for way in others:
        compared = compare_classes(answers[way], answers[first], table, names=(way, first))
        print(f"\n{compared.markdown()}\n")
    chosen = [made[fold] for fold in folds]
    beside = [
        *baseline_scores(dataset.cases, chosen, table, columns=source.columns),
        *(
            baseline_scores(
                dataset.cases,
                chosen,
                table,
                columns=(),
                measures={"depth of the image, mm": depths(dataset)},
            )[1:]
            if source.columns == ("diameter_mm",)
            else ()
        ),
        *baseline_scores(
            dataset.cases, chosen, table, columns=source.columns, measures=mask_sizes(dataset)
        )[1:],
    ]
    beside = [
        replace(baseline, scores=tuple(with_units(baseline.scores, units))) for baseline in beside
    ]
    if source.columns == ("diameter_mm",) and len(chosen) > 1:
        for way, scores in answers.items():
            sized = f"{way} and diameter"
            both = with_diameter(scores, dataset, chosen)
            kept[sized] = shown(sized, both, table)
            names = (sized, "diameter alone")
            compared = compare_classes(both, beside[1].scores, table, names=names)
            print(f"\n{compared.markdown()}\n")
    for baseline in beside:
        label = (
            f"{baseline.name} ({', '.join(baseline.columns)})"
            if baseline.columns
            else baseline.name
        )
        kept[label] = shown(label, list(baseline.scores), table)
        for way, scores in answers.items():
            compared = compare_classes(scores, baseline.scores, table, names=(way, label))
            print(f"\n{compared.markdown()}\n")
    write_result(f"classification_{name}", kept)


def with_units(scores: Iterable[ClassScore], units: Mapping[str, str]) -> list[ClassScore]:
    """TrialCache whose near-duplicates are drawn together.

    Baselines, and models that were trained before there were units.
    """
    return [score.model_copy(update={"unit": units[score.case]}) for score in scores]


def with_diameter(
    scores: list[ClassScore], dataset: Dataset, folds: list[Fold]
) -> list[ClassScore]:
    """Image and size: logistic regression on the network's logit and the diameter's logarithm.

    Each fold is answered for by what was fitted on the out-of-fold answers of the others.
    """
    diameter = {case.id: math.log(float(case.columns["diameter_mm"])) for case in dataset.cases}
    fold_of = {case: number for number, fold in enumerate(folds) for case in fold.validation}
    clipped = np.clip([score.probabilities[1] for score in scores], 1e-6, 1 - 1e-6)
    seen = np.stack(
        [np.log(clipped / (1 - clipped)), [diameter[score.case] for score in scores]], axis=1
    )
    positive = np.array([dataset.classes.indicators(score.reference)[1] for score in scores])
    own = np.array([fold_of[score.case] for score in scores])
    answered = np.empty(len(scores))
    for number in np.unique(own):
        fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(
            seen[own != number], positive[own != number]
        )
        answered[own == number] = fitted.predict_proba(seen[own == number])[:, 1]
    bare = {"calibrated": None, "prediction_set": None, "certain": None}
    return [
        score.model_copy(update=bare | {"probabilities": (1 - float(p), float(p))})
        for score, p in zip(scores, answered, strict=True)
    ]


def depths(dataset: Dataset) -> dict[str, float]:
    """Depth of each image in mm.

    Where images were cut around what is looked for, it says how large that is.
    """
    found = {}
    for case in dataset.cases:
        geometry = read_geometry(next(iter(case.images.values())))
        found[case.id] = geometry.shape[0] * geometry.spacing[0]
    return found


def shown(label: str, scores: list[ClassScore], table: Any) -> dict[str, Any]:
    """Print one row; its figures."""
    summary = summarise_classes(scores, table)
    by_name = {figure.metric: figure for figure in summary.figures if not figure.part}
    cells = []
    for name in FIGURES:
        figure = by_name.get(name)
        cells.append(
            "" if figure is None else f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"
        )
    print(f"| {label} | " + " | ".join(cells) + " |")
    return {name: figure.model_dump(mode="json") for name, figure in by_name.items()}


if __name__ == "__main__":
    main()
