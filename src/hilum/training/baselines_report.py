"""Files of a classifier's out-of-fold predictions: rows, metrics, image-free baselines."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.reading import read_region
from hilum.errors import HilumError
from hilum.evaluation import (
    baseline_scores,
    compare_classes,
    evaluate_scores,
    summarise_classes,
    write_predictions,
)
from hilum.evaluation.page import joined_sentence
from hilum.files import atomic_write_text
from hilum.inference.manifest import WARNING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hilum.dataset import Dataset, Fold
    from hilum.evaluation import Comparison
    from hilum.plan import ClassificationPlan
    from hilum.targets.class_score import ClassScore

PREDICTIONS, BASELINES = "predictions.csv", "baselines.md"
_SHOWN = ("auroc", "accuracy", "balanced_accuracy", "quadratic_kappa", "brier")


def write_out_of_fold_report(
    dataset: Dataset,
    plan: ClassificationPlan,
    folds: Sequence[Fold],
    scores: Sequence[ClassScore],
    folder: Path,
    groups: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Write predictions.csv, the evaluation of it, and baselines.md.

    What the model card should say of the baselines.

    The baselines learn from the same folds: how frequent classes are, and a logistic regression on
    the size of the masks and the columns that describe a case (see
    `hilum.evaluation.choose_columns`). What they choose they choose on inner folds, which keep
    `groups` together: the patient of each case, joined with near-duplicates.
    """
    if not scores:
        return ()
    table = plan.classes
    write_predictions(scores, table, folder)
    evaluated = evaluate_scores(scores, table, dataset, folder, folder)
    scored = {score.case for score in scores}
    lines = ["# Beside the network: baselines that see no image", ""]
    notes = [joined_sentence(evaluated.summary.joined)] if evaluated.summary.joined else []
    measured = mask_sizes(dataset)
    whose = {case.id: case.patient for case in dataset.cases}
    together = [replace(case, patient=(groups or whose).get(case.id)) for case in dataset.cases]
    for baseline in baseline_scores(together, folds, table, measures=measured):
        own = tuple(score for score in baseline.scores if score.case in scored)
        known = {
            score.case: {"patient": whose[score.case], "unit": (groups or {}).get(score.case)}
            for score in own
        }
        theirs = [score.model_copy(update=known[score.case]) for score in own]
        shown = f" on {', '.join(baseline.columns)}" if baseline.columns else ""
        compared = compare_classes(scores, theirs, table, names=("network", baseline.name))
        lines += [f"## {baseline.name}{shown}", "", compared.markdown(), ""]
        if not baseline.columns:  # it looks at nothing
            notes += _not_better(compared, baseline.name)
        summary = summarise_classes(theirs, table, resamples=500)
        figures = [
            one
            for one in summary.figures
            if not one.part and one.metric in _SHOWN and not np.isnan(one.value)
        ]
        said = ", ".join(f"{one.metric.replace('_', ' ')} {one.value:.3f}" for one in figures)
        notes.append(f"beside it, {baseline.name}{shown} without the image: {said}")
    atomic_write_text(folder / BASELINES, "\n".join(lines).rstrip("\n") + "\n")
    return tuple(notes)


def _not_better(compared: Comparison, baseline: str) -> list[str]:
    """Warn of a network whose AUROC is not shown to be better than a baseline's."""
    area = next(
        (one for one in compared.differences if not one.part and one.metric == "auroc"), None
    )
    if area is None or math.isnan(area.a):
        return []
    without_interval = math.isnan(area.low)  # such as of classes that are separated perfectly
    if area.difference > 0 if without_interval else area.better == "a":
        return []
    warning = (
        f"{WARNING}the network is not shown to be better than the {baseline}, which sees no image:"
        f" AUROC {area.a:.3f} and {area.b:.3f}"
    )
    return [warning]


def mask_sizes(dataset: Dataset) -> Mapping[str, Mapping[str, float]]:
    """Measure each case's mask, where there are masks: its volume and its largest extent.

    Of pictures without a scale the volume is an area, and both are in pixels.
    """
    unscaled = True
    volumes: dict[str, float] = {}
    extents: dict[str, float] = {}
    for case in dataset.cases:
        if case.region is None:
            continue
        try:
            region = read_region(case)
        except HilumError:  # whoever needs the mask has said what is wrong with it
            continue
        inside = np.argwhere(region.array[0] != 0)
        unscaled = unscaled and region.geometry.unscaled
        volumes[case.id] = len(inside) * region.geometry.voxel_volume_mm3
        extents[case.id] = float(
            ((np.ptp(inside, axis=0) + 1) * np.array(region.geometry.spacing)).max()
        )
    if not volumes:
        return {}
    what, unit = ("area, pixels", "pixels") if unscaled else ("volume, mm3", "mm")
    return {f"mask {what}": volumes, f"mask extent, {unit}": extents}
