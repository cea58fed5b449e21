"""Synthetic CT of lung nodules, benign and malignant: a block of lung around one nodule.

The two kinds overlap, as in life: malignant nodules are on average larger, lobulated or spiculated,
sometimes part-solid; benign ones are smaller, round and smooth, often calcified (hamartoma,
granuloma). Malignancy criteria: MacMahon et al., Radiology 284:228 (2017), Fleischner Society
guidelines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.errors import UsageError
from hilum.examples.abdomen import SyntheticCase
from hilum.examples.canvas import Canvas, Warp
from hilum.examples.shapes import capsule, ellipsoid, rotation
from hilum.volume import Geometry, Label, LabelTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Field = NDArray[np.float32]

NODULE_LABELS = LabelTable(
    labels=(
        Label(id=0, name="background"),
        Label(id=1, name="nodule", code=("27925004", "SCT", "Nodule"), colour=(144, 238, 144)),
    )
)
"""Labels of :func:`make_nodule_ct`."""

Kind = Literal["benign", "malignant"]
LUNG_HU, VESSEL_HU, WALL_HU = -850.0, 35.0, 45.0
SOLID_HU, GROUND_GLASS_HU, CALCIUM_HU = 38.0, -560.0, 420.0


@dataclass(frozen=True, eq=False)
class Nodule:
    """Every random number of one nodule.

    Args:
        radius_mm: mean radius.
        squash: semi-axes relative to the radius, (x, y, z).
        lobulation: height of the bumps, share of the radius.
        phases: where the bumps are, radians.
        spicules: (n, 3) unit directions of the spikes.
        solid: share of the radius that is solid, 1 without a ground-glass rim.
        calcified: whether the middle holds calcium.
        pleural_mm: distance of the centre to the chest wall, inf when it is out of view.
        warp: irregularity.
    """

    radius_mm: float
    squash: tuple[float, float, float]
    lobulation: float
    phases: tuple[float, float, float]
    spicules: NDArray[np.float64]
    solid: float
    calcified: bool
    pleural_mm: float
    warp: Warp


def make_nodule_ct(
    seed: int,
    kind: Kind,
    *,
    shape: tuple[int, int, int] = (24, 48, 48),
    spacing: tuple[float, float, float] = (2.0, 1.0, 1.0),
    noise_hu: float = 25.0,
) -> SyntheticCase:
    """Make one CT block with a nodule in its middle, and the nodule's mask.

    Args:
        seed: same seed, kind and options, same bytes.
        kind: "benign" or "malignant".
        shape: voxels (Z, Y, X).
        spacing: mm (Z, Y, X).
        noise_hu: standard deviation of the noise.

    Raises:
        UsageError: another kind.
    """
    if kind not in ("benign", "malignant"):
        raise UsageError(f"kind={kind!r} is no kind of nodule", needed='"benign" or "malignant"')
    rng = np.random.default_rng([seed, 2, int(kind == "malignant")])
    nodule = sample_nodule(rng, kind)
    half = (np.asarray(shape) - 1) / 2 * np.asarray(spacing)  # (z, y, x)
    geometry = Geometry.from_spacing(shape, spacing, origin=-half[::-1])
    canvas = Canvas.blank(geometry, warp=nodule.warp, fill_hu=LUNG_HU)
    _paint_lung(canvas, rng, nodule.pleural_mm)
    _paint_nodule(canvas, nodule)
    return SyntheticCase(*canvas.finish(rng, noise_hu=noise_hu))


def sample_nodule(rng: np.random.Generator, kind: Kind) -> Nodule:
    """Sample a nodule of one kind; sizes of both kinds overlap."""
    malignant = kind == "malignant"
    radius = float(np.clip(rng.lognormal(np.log(7.8 if malignant else 4.2), 0.32), 2.5, 15))
    spiculated = malignant and rng.random() < 0.75
    spikes = int(rng.integers(5, 14) if spiculated else rng.integers(0, 2))
    directions = rng.normal(size=(spikes, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    phases = rng.uniform(0, 2 * np.pi, 3)
    stretch = 0.22 if malignant else 0.1
    x, y, z = (float(v) for v in 1 + rng.uniform(-stretch, stretch, 3))
    return Nodule(
        radius_mm=radius,
        squash=(x, y, z),
        lobulation=float(rng.uniform(0.06, 0.2) if malignant else rng.uniform(0, 0.06)),
        phases=(float(phases[0]), float(phases[1]), float(phases[2])),
        spicules=directions,
        solid=float(rng.uniform(0.55, 0.85)) if malignant and rng.random() < 0.35 else 1.0,
        calcified=bool(rng.random() < (0.04 if malignant else 0.4)),
        pleural_mm=float(radius + rng.uniform(2, 14)) if rng.random() < 0.45 else float("inf"),
        warp=Warp.sample(rng, amplitude_mm=0.8 if malignant else 0.3, length_mm=25.0),
    )


def _paint_lung(canvas: Canvas, rng: np.random.Generator, pleural_mm: float) -> None:
    """Paint vessels that taper through the block, and the chest wall where it is in view."""
    middle = canvas.geometry.index_to_world((np.asarray(canvas.geometry.shape) - 1) / 2)
    reach = float(np.linalg.norm(np.asarray(canvas.geometry.shape) * canvas.geometry.spacing)) / 2
    for _ in range(11):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        offset = middle + rng.uniform(-0.6, 0.6, 3) * reach
        radius = float(rng.uniform(0.5, 1.9))
        start, stop = offset - direction * reach * 0.5, offset + direction * reach * 0.5
        canvas.paint(capsule(canvas.points, start.tolist(), stop.tolist(), radius), VESSEL_HU)
    if np.isfinite(pleural_mm):
        x, y, _ = canvas.points
        angle = rng.uniform(0, 2 * np.pi)
        across = x * np.sin(angle) - y * np.cos(angle)
        wall = pleural_mm - (x * np.cos(angle) + y * np.sin(angle)) + across**2 / 200
        canvas.paint(wall.astype(np.float32), WALL_HU)


def _paint_nodule(canvas: Canvas, nodule: Nodule) -> None:
    """Paint body, spikes, ground-glass rim and calcium of a nodule."""
    x, y, z = canvas.points
    radius = nodule.radius_mm
    wave = 3.4 / radius
    a, b, c = nodule.phases
    bumps = np.sin(x * wave + a) * np.sin(y * wave + b)
    bumps += np.sin(y * wave + c) * np.sin(z * wave + a)
    axes = rotation(about_x=30 * a, about_z=60 * b)
    ball = ellipsoid(canvas.points, (0, 0, 0), [radius * s for s in nodule.squash], axes=axes)
    body = (ball + nodule.lobulation * radius * bumps).astype(np.float32)
    for direction in nodule.spicules:
        tip = direction * radius * (1.9 + 0.5 * np.sin(7 * direction[0]))
        canvas.paint(capsule(canvas.points, (0, 0, 0), tip.tolist(), 0.8), SOLID_HU)
    canvas.paint(body, SOLID_HU if nodule.solid == 1.0 else GROUND_GLASS_HU, label=1)
    if nodule.solid < 1.0:
        canvas.paint(body + (1 - nodule.solid) * radius, SOLID_HU)
    if nodule.calcified:
        canvas.paint(body + 0.5 * radius, CALCIUM_HU)
