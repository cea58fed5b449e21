"""Synthetic abdominal CT in Hounsfield units, sampled from a seed.

Nothing here is measured from a patient. Sizes, positions and HU are those of portal-venous CT in
adult anatomy textbooks, varied by patient; coordinates are LPS mm around a point in front of the
first lumbar vertebra (x to Left, y to Posterior, z up). First the patient is drawn
(:func:`sample_patient`: every random number), then painted on a grid (:func:`paint_patient`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError
from hilum.examples.canvas import Canvas, Warp
from hilum.examples.organs import paint_organs, parenchyma_distance
from hilum.examples.shapes import rotation
from hilum.examples.trunk import paint_trunk
from hilum.volume import Geometry, Label, LabelTable

if TYPE_CHECKING:
    from hilum.volume import Volume

_STRUCTURES = (  # name, code and meaning in SNOMED CT, colour
    ("liver", "10200004", "Liver", (221, 130, 101)),
    ("liver tumour", "126851005", "Neoplasm of liver", (144, 238, 144)),
    ("spleen", "78961009", "Spleen", (157, 108, 162)),
    ("right kidney", "9846003", "Right kidney", (185, 102, 83)),
    ("left kidney", "18639004", "Left kidney", (219, 173, 61)),
)
ABDOMEN_LABELS = LabelTable(
    labels=(
        Label(id=0, name="background"),
        *(
            Label(id=number, name=name, code=(code, "SCT", meaning), colour=colour)
            for number, (name, code, meaning, colour) in enumerate(_STRUCTURES, start=1)
        ),
    )
)
"""Labels of :func:`make_abdomen_ct`; right and left are the patient's."""

FIELD_MM = (210.0, 292.0, 380.0)
"""Field of view (Z, Y, X) that holds the upper abdomen of the largest patient and the table."""


@dataclass(frozen=True)
class Tumour:
    """A focal liver lesion: centre (x, y, z) mm, radius mm, HU of its solid part, necrosis."""

    centre: tuple[float, float, float]
    radius_mm: float
    hu: float
    necrotic: bool


@dataclass(frozen=True)
class Patient:
    """Every random number of one patient's anatomy.

    Args:
        size: body scale, 1 is the average adult.
        fat_mm: thickness of the fat under the skin.
        liver: liver scale.
        spleen: spleen scale.
        kidneys: kidney scale.
        enhancement: contrast medium, 0 (native) to 1 (portal-venous).
        warp: the patient's own irregularity.
        tumours: liver tumours, largest first; () in a healthy liver.
        seed: for the texture that nobody measures (bowel, vessels).
    """

    size: float
    fat_mm: float
    liver: float
    spleen: float
    kidneys: float
    enhancement: float
    warp: Warp
    tumours: tuple[Tumour, ...]
    seed: int


@dataclass(frozen=True, eq=False)
class SyntheticCase:
    """An image and its annotation, on one grid.

    Args:
        image: (1, Z, Y, X) int16 HU.
        labels: (1, Z, Y, X) uint8, the integers of :data:`ABDOMEN_LABELS` (or of the maker that
            gave it).
    """

    image: Volume
    labels: Volume


def make_abdomen_ct(
    seed: int,
    *,
    shape: tuple[int, int, int] = (42, 84, 108),
    tilt_degrees: float = 4.0,
    noise_hu: float = 12.0,
    tumours: int | None = None,
) -> SyntheticCase:
    """Make one abdominal CT with its annotation.

    Args:
        seed: same seed and options, same bytes.
        shape: voxels (Z, Y, X); the field of view is always the whole upper abdomen, so this sets
            the spacing and the cost (about 0.3 s for the default of 380 000 voxels on one core, and
            proportional to it).
        tilt_degrees: the grid is rotated by up to this angle about each axis, as no patient lies
            quite straight; 0 for a grid parallel to the table.
        noise_hu: standard deviation of the noise.
        tumours: how many liver tumours; drawn (0 to 5, a healthy liver in one of eight) if None.

    Raises:
        UsageError: a shape too small to show an abdomen.
    """
    if min(shape) < 8:
        raise UsageError(
            f"shape={shape} is too small",
            needed="at least 8 voxels along each axis",
            cure="e.g. shape=(42, 84, 108)",
        )
    rng = np.random.default_rng([seed, 1])
    patient = sample_patient(rng, tumours=tumours)
    return make_study(patient, rng, shape=shape, tilt_degrees=tilt_degrees, noise_hu=noise_hu)


def sample_patient(rng: np.random.Generator, *, tumours: int | None = None) -> Patient:
    """Sample an adult, with a healthy liver in one of eight (or exactly `tumours` tumours)."""
    count = tumours
    if count is None:
        count = int(rng.choice(6, p=[0.125, 0.25, 0.25, 0.175, 0.125, 0.075]))
    patient = Patient(
        size=float(rng.uniform(0.9, 1.08)),
        fat_mm=float(rng.uniform(10, 28)),
        liver=float(rng.uniform(0.9, 1.1)),
        spleen=float(rng.uniform(0.8, 1.2)),
        kidneys=float(rng.uniform(0.88, 1.1)),
        enhancement=float(rng.uniform(0.75, 1.0)),
        warp=Warp.sample(rng),
        tumours=(),
        seed=int(rng.integers(2**31)),
    )
    return replace(patient, tumours=_sample_tumours(rng, patient, count))


def follow_up(patient: Patient, rng: np.random.Generator) -> Patient:
    """Return the patient some months later: changed tumours and contrast timing."""
    factor = float(rng.uniform(0.75, 1.35))
    grown = tuple(
        replace(t, radius_mm=float(np.clip(t.radius_mm * factor, 3.5, 26))) for t in patient.tumours
    )
    enhancement = float(np.clip(patient.enhancement + rng.uniform(-0.1, 0.1), 0.7, 1.0))
    return replace(patient, tumours=grown, enhancement=enhancement)


def make_study(
    patient: Patient,
    rng: np.random.Generator,
    *,
    shape: tuple[int, int, int],
    tilt_degrees: float = 4.0,
    noise_hu: float = 12.0,
) -> SyntheticCase:
    """Paint one CT of a patient, with its own position, field of view and noise."""
    geometry = _study_grid(rng, shape, tilt_degrees)
    return SyntheticCase(*paint_patient(patient, geometry, rng, noise_hu=noise_hu))


def paint_patient(
    patient: Patient, geometry: Geometry, rng: np.random.Generator, *, noise_hu: float = 12.0
) -> tuple[Volume, Volume]:
    """Paint a patient on any grid: image (1, Z, Y, X) int16 HU and labels (1, Z, Y, X) uint8."""
    canvas = Canvas.blank(geometry, warp=patient.warp)
    paint_trunk(canvas, patient)
    paint_organs(canvas, patient)
    return canvas.finish(rng, noise_hu=noise_hu)


def _study_grid(
    rng: np.random.Generator, shape: tuple[int, int, int], tilt_degrees: float
) -> Geometry:
    """Place and tilt the grid of a study."""
    spacing = np.asarray(FIELD_MM) / np.asarray(shape) * rng.uniform(0.97, 1.03, 3)
    directions = rotation(*rng.uniform(-tilt_degrees, tilt_degrees, 3)) @ np.eye(3)[:, ::-1]
    centre = np.array([0.0, 6.0, 0.0]) + rng.uniform(-4, 4, 3)
    half = (np.asarray(shape) - 1) / 2 * spacing
    return Geometry.from_spacing(
        shape, spacing, origin=centre - directions @ half, directions=directions
    )


def _sample_tumours(rng: np.random.Generator, patient: Patient, count: int) -> tuple[Tumour, ...]:
    """Place tumours inside the liver, apart from each other, by rejection sampling."""
    points = rng.uniform((-150, -95, -60), (60, 70, 85), (4000, 3)).T.astype(np.float32)
    depth = -parenchyma_distance(points, patient)
    placed: list[Tumour] = []
    for radius in sorted(np.clip(rng.lognormal(np.log(10.5), 0.45, count), 6.5, 24), reverse=True):
        inside = np.flatnonzero(depth > min(radius * 0.8, 14))
        for index in inside:
            centre = points[:, index]
            if all(np.linalg.norm(centre - t.centre) > radius + t.radius_mm + 4 for t in placed):
                x, y, z = (float(v) for v in centre)
                hu = float(rng.uniform(35, 68))
                necrotic = bool(radius > 12 and rng.random() < 0.6)
                placed.append(Tumour((x, y, z), float(radius), hu, necrotic))
                break
    return tuple(placed)
