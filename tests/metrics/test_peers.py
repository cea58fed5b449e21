"""Values of other tools: each is held to the tool itself, empty masks included."""

import math
import warnings

import numpy as np
import pytest
from scipy import ndimage

from hilum.metrics import peer_values

SPACING = (3.0, 0.7, 1.9)
TOLERANCE = 1.5


def smooth(seed: int, shape: tuple[int, ...], share: float) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 1.5)
    return field > np.quantile(field, share)


def pairs(shape: tuple[int, int, int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Two shapes that touch the image's edges, and the three empty cases."""
    some, none = smooth(1, shape, 0.7), np.zeros(shape, dtype=bool)
    return {
        "both": (some, smooth(2, shape, 0.6)),
        "missed": (none, some),
        "invented": (some, none),
        "neither": (none, none),
    }


def ours(tool: str, prediction: np.ndarray, reference: np.ndarray) -> dict[str, float | None]:
    values = peer_values(prediction, reference, SPACING, tolerance_mm=TOLERANCE)
    return {one.metric: one.value for one in values if one.tool == tool}


def assert_same(found: dict[str, float | None], theirs: dict[str, float | None]) -> None:
    assert set(found) == set(theirs)
    for metric, value in theirs.items():
        if value is None or found[metric] is None:
            assert found[metric] is value, metric
        else:
            assert found[metric] == pytest.approx(value, rel=1e-5, nan_ok=True), metric


def tool_input(mask: np.ndarray) -> tuple[np.ndarray, tuple[float, ...]]:
    """The mask and spacing that a tool is given: of a picture the plane alone."""
    return (mask[0], SPACING[1:]) if mask.shape[0] == 1 else (mask, SPACING)


SHAPES = pytest.mark.parametrize("shape", [(9, 17, 13), (1, 23, 31)], ids=["volume", "picture"])
KINDS = pytest.mark.parametrize("kind", ["both", "missed", "invented", "neither"])


@SHAPES
@KINDS
def test_monai(shape: tuple[int, int, int], kind: str) -> None:
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    prediction, reference = pairs(shape)[kind]
    (p, spacing), (r, _) = map(tool_input, (prediction, reference))
    inputs = [torch.from_numpy(np.ascontiguousarray(m))[None, None].float() for m in (p, r)]

    def value(metric: object) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(metric(*inputs, spacing=spacing).squeeze())

    theirs = {
        "dice": float(monai.DiceMetric()(*inputs).squeeze()),
        "nsd": value(monai.SurfaceDiceMetric([TOLERANCE], include_background=True)),
        "hd": value(monai.HausdorffDistanceMetric(include_background=True)),
        "hd95": value(monai.HausdorffDistanceMetric(include_background=True, percentile=95)),
        "asd": value(monai.SurfaceDistanceMetric(include_background=True)),
        "assd": value(monai.SurfaceDistanceMetric(include_background=True, symmetric=True)),
    }
    assert_same(ours("MONAI", prediction, reference), theirs)


@SHAPES
@KINDS
def test_medpy(shape: tuple[int, int, int], kind: str) -> None:
    medpy = pytest.importorskip("medpy.metric.binary")
    prediction, reference = pairs(shape)[kind]
    (p, spacing), (r, _) = map(tool_input, (prediction, reference))
    with np.errstate(all="ignore"):
        theirs: dict[str, float | None] = {"dice": medpy.dc(p, r), "iou": medpy.jc(p, r)}
    for metric in ("hd", "hd95", "asd", "assd"):
        try:
            theirs[metric] = getattr(medpy, metric)(p, r, voxelspacing=spacing)
        except RuntimeError:
            theirs[metric] = None
    assert_same(ours("medpy", prediction, reference), theirs)


@SHAPES
@KINDS
def test_surface_distance(
    shape: tuple[int, int, int], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = pytest.importorskip("surface_distance")
    monkeypatch.setattr(np, "NaN", math.nan, raising=False)  # it was written for NumPy 1
    monkeypatch.setattr(np, "Inf", math.inf, raising=False)
    prediction, reference = pairs(shape)[kind]
    (p, spacing), (r, _) = map(tool_input, (prediction, reference))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        measured = tool.compute_surface_distances(r, p, spacing)
        theirs = {
            "dice": tool.compute_dice_coefficient(r, p),
            "nsd": tool.compute_surface_dice_at_tolerance(measured, TOLERANCE),
            "hd": tool.compute_robust_hausdorff(measured, 100),
            "hd95": tool.compute_robust_hausdorff(measured, 95),
            "asd": tool.compute_average_surface_distance(measured)[1],
        }
    assert_same(ours("surface-distance", prediction, reference), theirs)


def nnunet_by_hand(prediction: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """compute_metrics of nnunetv2/evaluation/evaluate_predictions.py."""
    tp, fp, fn = ((prediction & reference).sum(), (prediction & ~reference).sum(),
                  (~prediction & reference).sum())  # fmt: skip
    if tp + fp + fn == 0:
        return {"dice": math.nan, "iou": math.nan}
    return {"dice": 2 * tp / (2 * tp + fp + fn), "iou": tp / (tp + fp + fn)}


@SHAPES
@KINDS
def test_nnunet(shape: tuple[int, int, int], kind: str) -> None:
    prediction, reference = pairs(shape)[kind]
    assert_same(ours("nnU-Net", prediction, reference), nnunet_by_hand(prediction, reference))


def test_the_tools_do_not_agree() -> None:
    prediction, reference = pairs((9, 17, 13))["both"]
    values = peer_values(prediction, reference, SPACING, tolerance_mm=TOLERANCE)
    hd95 = {one.tool: one.value for one in values if one.metric == "hd95"}
    assert len({round(value, 3) for value in hd95.values()}) == 3
    nsd = {one.tool: one.value for one in values if one.metric == "nsd"}
    assert nsd["MONAI"] != pytest.approx(nsd["surface-distance"], abs=0.001)
