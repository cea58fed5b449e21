"""Speed and memory of surface metrics against surface-distance and MONAI, values compared first."""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _common import DATA, write_result
from _metrics_worker import TOOLS
from scipy import ndimage

EQUAL = {
    "surface-distance": ("hilum", ("dice", "nsd", "hd", "hd95", "masd")),
    "MONAI": ("hilum, MONAI's conventions", ("dice", "nsd", "hd", "hd95", "assd")),
}
"""By tool the way of hilum whose values must be the same, and which values."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="times that every tool runs")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pairs = write_pairs(Path(folder))
        runs: dict[str, dict[str, list[dict[str, Any]]]] = {
            pair: {tool: [] for tool in TOOLS} for pair in pairs
        }
        for number in range(asked.rounds):
            for pair, file in pairs.items():
                for tool in TOOLS:
                    runs[pair][tool].append(measure(tool, file))
            print(f"round {number + 1} of {asked.rounds}", flush=True)
    write_result("metrics", {"pairs": {pair: report(pair, of) for pair, of in runs.items()}})


def write_pairs(folder: Path) -> dict[str, Path]:
    """Write the liver as a good prediction has it, and as one that is moved, beside the reference.

    The good one has a border that wanders by about a voxel.
    """
    from hilum.io import read_labels

    labels = read_labels(next((DATA / "liver_ct" / "labelsTr").glob("*.nii.gz")))
    reference = np.ascontiguousarray(labels.array[0] > 0)
    noise = np.random.default_rng(0).normal(size=[n // 12 + 2 for n in reference.shape])
    wander = ndimage.zoom(noise, 12, order=1)[tuple(map(slice, reference.shape))]
    smooth = ndimage.gaussian_filter(reference.astype(np.float32), 2)
    good = smooth > np.clip(0.5 + 0.2 * wander, 0.1, 0.9)
    masks = {"good": good, "moved": np.roll(reference, (3, 8, -6), axis=(0, 1, 2))}
    files = {}
    for name, prediction in masks.items():
        files[name] = folder / f"{name}.npz"
        np.savez(
            files[name],
            prediction=prediction,
            reference=reference,
            spacing=labels.geometry.spacing,
        )
    return files


def measure(tool: str, file: Path) -> dict[str, Any]:
    """Run one tool in a process of its own, on one core."""
    worker = Path(__file__).with_name("_metrics_worker.py")
    done = subprocess.run(
        [sys.executable, str(worker), tool, str(file)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def report(pair: str, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Compare the values, then print a row a tool: medians, and how many times hilum is faster."""
    values = {tool: of[0]["values"] for tool, of in runs.items()}
    for tool, (ours, names) in EQUAL.items():
        for name in names:
            if not math.isclose(values[tool][name], values[ours][name], rel_tol=1e-5):
                raise SystemExit(
                    f"{pair}, {name}: {tool} has {values[tool][name]}, hilum {values[ours][name]}"
                )
    rows = {
        tool: {key: median(run[key] for run in of) for key in of[0] if key != "values"}
        for tool, of in runs.items()
    }
    own = rows["hilum"]
    print(f"\n{pair}: {', '.join(f'{k} {v:.4f}' for k, v in values['hilum'].items())}\n")
    print("| tool | processor, s | wall, s | hilum is faster by | peak memory, MB |")
    print("|---|---|---|---|---|")
    for tool, row in rows.items():
        print(
            f"| {tool} | {row['processor_seconds']:.2f} | {row['seconds']:.2f} |"
            f" {row['processor_seconds'] / own['processor_seconds']:.1f} | {row['peak_mb']:.0f} |"
        )
    return {"values": values, "medians": rows}


if __name__ == "__main__":
    main()
