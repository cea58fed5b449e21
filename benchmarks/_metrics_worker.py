"""One tool measures one pair of masks, alone in its process: values, seconds, peak memory."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE_MM = 2.0
Values = dict[str, float]
Tool = Callable[[np.ndarray, np.ndarray, tuple[float, ...]], Values]


def hilum() -> Tool:
    from hilum.metrics import overlap, surface_distances

    def measure(prediction: np.ndarray, reference: np.ndarray, spacing: Any) -> Values:
        measured = surface_distances(prediction, reference, spacing)
        return {
            "dice": overlap(prediction, reference).dice,
            "nsd": measured.nsd(TOLERANCE_MM),
            "hd": measured.hausdorff(),
            "hd95": measured.hausdorff(95),
            "assd": measured.assd(),
            "masd": measured.masd(),
        }

    return measure


def surface_distance() -> Tool:
    import surface_distance as tool

    def measure(prediction: np.ndarray, reference: np.ndarray, spacing: Any) -> Values:
        measured = tool.compute_surface_distances(reference, prediction, spacing)
        means = tool.compute_average_surface_distance(measured)
        return {
            "dice": float(tool.compute_dice_coefficient(reference, prediction)),
            "nsd": float(tool.compute_surface_dice_at_tolerance(measured, TOLERANCE_MM)),
            "hd": float(tool.compute_robust_hausdorff(measured, 100)),
            "hd95": float(tool.compute_robust_hausdorff(measured, 95)),
            "masd": float(sum(means) / 2),
        }

    return measure


def monai() -> Tool:
    import torch
    from monai import metrics as tool

    torch.set_num_threads(1)
    own: dict[str, Any] = {
        "nsd": tool.SurfaceDiceMetric([TOLERANCE_MM], include_background=True),
        "hd": tool.HausdorffDistanceMetric(include_background=True),
        "hd95": tool.HausdorffDistanceMetric(include_background=True, percentile=95),
        "assd": tool.SurfaceDistanceMetric(include_background=True, symmetric=True),
    }

    def measure(prediction: np.ndarray, reference: np.ndarray, spacing: Any) -> Values:
        masks = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
        values = {"dice": float(tool.DiceMetric()(*masks))}
        return values | {name: float(one(*masks, spacing=spacing)) for name, one in own.items()}

    return measure


def hilum_as_monai() -> Tool:
    from hilum.metrics import peer_values

    def measure(prediction: np.ndarray, reference: np.ndarray, spacing: Any) -> Values:
        values = peer_values(prediction, reference, spacing, tolerance_mm=TOLERANCE_MM)
        return {one.metric: float(one.value or 0) for one in values if one.tool == "MONAI"}

    return measure


TOOLS = {
    "hilum": hilum,
    "surface-distance": surface_distance,
    "MONAI": monai,
    "hilum, MONAI's conventions": hilum_as_monai,
}


def main(tool: str, file: str) -> None:
    warnings.simplefilter("ignore")
    stored = np.load(file)
    prediction, reference = stored["prediction"], stored["reference"]
    spacing = tuple(map(float, stored["spacing"]))
    measure = TOOLS[tool]()
    ball = np.zeros((12, 12, 12), dtype=bool)
    ball[4:8, 4:9, 3:8] = True
    measure(ball, np.roll(ball, 1, 0), spacing)  # imports and caches are no part of it
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory_mb("VmRSS")
    wall, processor = time.perf_counter(), time.process_time()
    values = measure(prediction, reference, spacing)
    result = {
        "values": values,
        "seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
        "peak_mb": memory_mb("VmHWM") - before,
    }
    print(json.dumps(result))


def memory_mb(kind: str) -> float:
    """Memory of this process: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
