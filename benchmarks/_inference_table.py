"""Scores and tables of the inference benchmark."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from _inference_sets import BenchSet
    from numpy.typing import NDArray

Run = dict[str, Any]
FEW = 4  # labels that are named one by one


def agreement(folder: Path, other: Path, labels: Iterable[int]) -> dict[int, list[float]]:
    """Dice of every label over the cases of `other` that say it, in either folder.

    Every case must be there.
    """
    scores: dict[int, list[float]] = {label: [] for label in labels}
    for file in sorted(other.glob("*.nii.gz")):
        ours, theirs = _labels(folder / file.name), _labels(file)
        if ours.shape != theirs.shape:
            raise ValueError(f"{folder / file.name}: shape {ours.shape}, expected {theirs.shape}")
        size = max(scores) + 1
        a, b = (np.bincount(array.ravel(), minlength=size) for array in (ours, theirs))
        both = np.bincount(ours[ours == theirs], minlength=size)
        for label, values in scores.items():
            if a[label] + b[label]:
                values.append(float(2 * both[label] / (a[label] + b[label])))
    return scores


def _labels(file: Path) -> NDArray[Any]:
    return np.asarray(nib.load(file).dataobj).astype(np.int64)


def summary(runs: Sequence[Run], way: str, against: Sequence[str]) -> dict[str, Any]:
    """Medians and spread of a way, and the ratios to others from the runs of the same round."""
    own = {run["round"]: run for run in runs if run["way"] == way and run["code"] == 0}
    if not own:
        return {}
    seconds, memory = ([run[key] for run in own.values()] for key in ("seconds", "memory_gib"))
    result: dict[str, Any] = {
        "runs": len(own),
        "seconds": _spread(seconds),
        "memory_gib": _spread(memory),
        "resident_gib": _spread([run["resident_gib"] for run in own.values()]),
        "processes": max(run["processes"] for run in own.values()),
    }
    for name in against:
        other = {run["round"]: run for run in runs if run["way"] == name and run["code"] == 0}
        paired = sorted(set(own) & set(other))
        if paired:
            result[f"faster than {name}"] = _spread(
                [other[n]["seconds"] / own[n]["seconds"] for n in paired]
            )
            result[f"memory of {name}"] = _spread(
                [own[n]["memory_gib"] / other[n]["memory_gib"] for n in paired]
            )
            result[f"rounds with {name}"] = len(paired)
    return result


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def speed_table(titles: dict[str, str], summaries: dict[str, dict[str, Any]]) -> list[str]:
    """Markdown: time, memory, and both beside nnU-Net and MONAI.

    A mirrored way stands beside the mirrored nnU-Net.
    """
    rows = [
        (
            "| way | runs | wall, s (lowest to highest) | times nnU-Net | times MONAI | peak"
            " memory, GiB | of nnU-Net's |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for way, one in summaries.items():
        peer = beside(way)
        wall = (
            f"{_number(one['seconds']['median'])} ({_number(one['seconds']['low'])} to"
            f" {_number(one['seconds']['high'])})"
        )
        memory = one.get(f"memory of {peer}")
        cells = [
            titles[way],
            str(one["runs"]),
            wall,
            _ratio(one.get(f"faster than {peer}")),
            _ratio(one.get("faster than monai")),
            f"{one['memory_gib']['median']:.2f}",
            f"{memory['median']:.2f}" if memory else "",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def beside(way: str) -> str:
    """The way of nnU-Net that a way is compared with."""
    return "nnunet_mirrored" if way.endswith("mirrored") else "nnunet"


def agreement_table(
    titles: dict[str, str], found: BenchSet, scores: dict[str, dict[str, dict[int, list[float]]]]
) -> list[str]:
    """Markdown: mean (lowest) Dice with nnU-Net's labels.

    Dice with the annotation and its difference from nnU-Net's.
    """
    few = len(found.labels) <= FEW
    names = (
        [found.labels[label] for label in sorted(found.labels)]
        if few
        else [f"mean of {len(found.labels)} labels (lowest)"]
    )
    heads = [f"with nnU-Net: {name}" for name in names]
    if found.trained:
        heads += [f"with the annotation: {name} (difference)" for name in names]
    rows = ["| way | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for way, by in scores.items():
        cells = _agreement_cells(by.get("nnunet", {}), found, few=few)
        if found.trained:
            full = scores.get(beside(way), {}).get("reference", {})
            for label in sorted(found.labels):
                own, whole = by["reference"][label], full.get(label)
                difference = f" ({_mean(own) - _mean(whole):+.4f})" if whole else ""
                cells.append(f"{_mean(own):.4f}{difference}" if own else "")
        rows.append(f"| {titles[way]} | " + " | ".join(cells) + " |")
    return rows


def _agreement_cells(scores: dict[int, list[float]], found: BenchSet, *, few: bool) -> list[str]:
    if not scores:  # nnU-Net was not run that way
        return [""] * (len(found.labels) if few else 1)
    if few:
        given = [scores[label] for label in sorted(found.labels)]
        return [f"{_mean(one):.5f} ({min(one):.5f})" if one else "never said" for one in given]
    values = [value for one in scores.values() for value in one]
    return [f"{_mean(values):.5f} ({min(values):.5f})" if values else ""]


def profile_table(titles: dict[str, str], runs: Sequence[Run]) -> list[str]:
    """Markdown: where hilum's wall time goes, from run.json of the last run.

    Parts overlap, so they may exceed the whole.
    """
    last = {run["way"]: run for run in runs if run.get("parts")}
    if not last:
        return []
    parts = list(dict.fromkeys(part for run in last.values() for part in run["parts"]))
    rows = [
        "| way | engine | patches run, skipped | wall, s | start and end | "
        + " | ".join(parts)
        + " |",
        "|---" * (len(parts) + 5) + "|",
    ]
    for way, run in last.items():
        cells = [
            titles[way],
            run["engine"],
            run["patches"],
            f"{run['seconds']:.1f}",
            f"{run['seconds'] - run['inside']:.1f}",
        ]
        cells += [f"{run['parts'].get(part, 0.0):.1f}" for part in parts]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def alone_table(results: dict[str, Any]) -> list[str]:
    """Markdown: preprocessing and export alone."""
    rows = [
        (
            "| step, image | nnU-Net, s | hilum, s | times | peak memory, GiB: nnU-Net, hilum |"
            " agreement |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for title, one in results.items():
        if "failed" in one:
            rows.append(f"| {title} | | | | | failed: {one['failed']} |")
            continue
        theirs, ours = (statistics.median(one[who]["seconds"]) for who in ("nnunet", "hilum"))
        ratios = [
            a / b for a, b in zip(one["nnunet"]["seconds"], one["hilum"]["seconds"], strict=True)
        ]
        memory = ", ".join(
            f"{statistics.median(one[who]['memory_gib']):.2f}" for who in ("nnunet", "hilum")
        )
        cells = [
            title,
            _number(theirs),
            _number(ours),
            _ratio(_spread(ratios)),
            memory,
            one["agreement"],
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return ""
    if ratio["low"] == ratio["high"]:
        return f"{ratio['median']:.2f}"
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
