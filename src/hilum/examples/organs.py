"""The organs of the synthetic abdomen, painted from the back of the cavity to the front."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.examples.shapes import (
    capsule,
    cylinder,
    ellipsoid,
    intersection,
    rotation,
    smooth_union,
    tube,
)
from hilum.examples.trunk import FAT_HU, cavity_distance, diaphragm_distance, in_wall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.examples.abdomen import Patient, Tumour
    from hilum.examples.canvas import Canvas

    Field = NDArray[np.float32]
    Triple = tuple[float, float, float]

LIVER, TUMOUR, SPLEEN, RIGHT_KIDNEY, LEFT_KIDNEY = 1, 2, 3, 4, 5
GALLBLADDER, CAVA = (-42, -52, -32), (-24, 15)  # centres, mm
GAS_HU, BILE_HU, WATER_HU = -960.0, 10.0, 12.0


def paint_organs(canvas: Canvas, patient: Patient) -> None:
    """Paint all abdominal organs; labels are written for liver, tumours, spleen and kidneys."""
    rng = np.random.default_rng(patient.seed)
    _paint_bowel(canvas, patient, rng)
    _paint_stomach(canvas, patient)
    _paint_spleen(canvas, patient)
    paint_liver(canvas, patient, rng)
    _paint_pancreas(canvas, patient)
    _paint_kidney(canvas, patient, side=-1, label=RIGHT_KIDNEY)
    _paint_kidney(canvas, patient, side=1, label=LEFT_KIDNEY)
    _paint_great_vessels(canvas, patient)


def enhanced_hu(patient: Patient, native_hu: float, portal_hu: float) -> float:
    """Return a tissue's HU for the patient's amount of contrast medium."""
    return native_hu + (portal_hu - native_hu) * patient.enhancement


def liver_distance(points: Field, patient: Patient) -> Field:
    """Distance to the liver: right lobe under its dome, left lobe tapering over the midline."""
    s, size = patient.liver, patient.size
    right = ellipsoid(
        points,
        (-74 * size, -6, 16),
        (80 * s, 92 * s, 88 * s),
        axes=rotation(about_y=-10, about_z=-8),
    )
    left = ellipsoid(
        points, (8, -58 * size, 38), (68 * s, 32 * s, 36 * s), axes=rotation(about_z=-12, about_y=6)
    )
    # stomach, duodenum and pancreas press from below
    underside = ellipsoid(points, (22, 34, -28), (74, 66, 66))
    wall, dome = cavity_distance(points, patient) + 2.5, diaphragm_distance(points, patient) + 3
    return intersection(smooth_union(right, left, 26), -underside, wall, dome)


def parenchyma_distance(points: Field, patient: Patient) -> Field:
    """Distance to the liver less gallbladder, vena cava and right kidney, for tumours."""
    centre, radii, axes = kidney_shape(patient, -1)
    return intersection(
        liver_distance(points, patient),
        8 - ellipsoid(points, centre, radii, axes=axes),
        -ellipsoid(points, GALLBLADDER, (15, 19, 30)),
        -cylinder(points, CAVA, (12.5, 9.5)),
    )


def kidney_shape(patient: Patient, side: int) -> tuple[Triple, Triple, NDArray[np.float64]]:
    """Return centre (x, y, z) mm, semi-axes mm and directions of the right (-1) or left kidney."""
    s = patient.kidneys
    axes = rotation(about_y=-side * 12, about_x=12, about_z=side * 28)
    return (
        (side * 68.0 * patient.size, 40.0, -32.0 if side < 0 else -20.0),
        (28 * s, 24 * s, 56 * s),
        axes,
    )


def paint_liver(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Liver, its veins and portal branches, the gallbladder and the tumours."""
    canvas = canvas.near((-50, -10, 15), 125 * patient.liver)
    liver = liver_distance(canvas.points, patient)
    parenchyma = enhanced_hu(patient, 58, 112)
    canvas.paint(liver, parenchyma, label=LIVER)
    inside = liver + 5
    for path, radius in _liver_vessels(rng):
        vessel = tube(canvas.points, path, radius)
        canvas.paint(np.maximum(vessel, inside), enhanced_hu(patient, 42, 158))
    bladder = canvas.near(GALLBLADDER, 34)
    wall = ellipsoid(bladder.points, GALLBLADDER, (15, 19, 30))
    bladder.paint(wall, 65.0, label=0)
    bladder.paint(wall + 2, BILE_HU)
    for tumour in patient.tumours:
        _paint_tumour(canvas.near(tumour.centre, tumour.radius_mm * 1.4), patient, tumour)


def _paint_tumour(canvas: Canvas, patient: Patient, tumour: Tumour) -> None:
    """Paint a lobulated hypodense mass inside the liver, dead in its middle where necrotic."""
    x, y, z = canvas.points
    radius, (_, phase_y, phase_z) = tumour.radius_mm, tumour.centre
    waves = np.sin(x * 2.6 / radius + phase_y) + np.sin(y * 2.9 / radius + phase_z)
    waves += np.sin(z * 2.3 / radius)
    ball = ellipsoid(canvas.points, tumour.centre, (radius * 1.08, radius * 0.95, radius))
    ball = ball + 0.09 * radius * waves
    mass = intersection(ball, parenchyma_distance(canvas.points, patient) + 1)
    canvas.paint(mass, tumour.hu, label=TUMOUR)
    if tumour.necrotic:
        canvas.paint(mass + 0.45 * radius, 22.0)


def _liver_vessels(rng: np.random.Generator) -> list[tuple[list[Sequence[float]], float]]:
    """Return three hepatic veins and the portal tree: (path, radius mm)."""
    vessels: list[tuple[list[Sequence[float]], float]] = []
    for middle in ((-118, 6, 12), (-78, -62, 18), (10, -62, 36)):
        x, y, z = (float(v + rng.uniform(-9, 9)) for v in middle)
        bend = ((x - 24) / 2, (y + 12) / 2, (z + 66) / 2 + 10)
        vessels.append(([(-24, 12, 66), bend, (x, y, z)], 4.2))
    porta = (-28.0, -8.0, 8.0)
    vessels.append(([(0.0, 0.0, -12.0), porta], 6.0))
    for middle in ((-60, -4, 14), (0, -52, 34)):
        main = [float(v + rng.uniform(-5, 5)) for v in middle]
        vessels.append(([porta, main], 4.8))
        for _ in range(4):
            end = np.add(main, rng.uniform((-44, -40, -34), (6, 40, 34))).tolist()
            vessels.append(([main, end], 2.6))
    return vessels


def _paint_spleen(canvas: Canvas, patient: Patient) -> None:
    """Paint the spleen."""
    s = patient.spleen
    canvas = canvas.near((104 * patient.size, 34, 36), 70 * s)
    solid = ellipsoid(
        canvas.points,
        (104 * patient.size, 34, 36),
        (38 * s, 57 * s, 60 * s),
        axes=rotation(about_z=24, about_x=-18),
    )
    # the stomach lies in its hollow
    notch = ellipsoid(canvas.points, (62 * patient.size, 4, 34), (42, 48, 60))
    solid = intersection(solid, -notch, _outside(canvas.points, patient))
    canvas.paint(solid, enhanced_hu(patient, 48, 122), label=SPLEEN)


def _paint_stomach(canvas: Canvas, patient: Patient) -> None:
    """Paint the stomach: food, fluid, and gas in front of a level surface."""
    canvas = canvas.near((35, -28, 20), 90)
    body = ellipsoid(
        canvas.points, (56 * patient.size, -22, 36), (44, 44, 46), axes=rotation(about_z=-20)
    )
    antrum = capsule(canvas.points, (40, -50, 2), (-18, -42, -14), 18)
    bag = intersection(smooth_union(body, antrum, 20), _outside(canvas.points, patient))
    canvas.paint(bag, enhanced_hu(patient, 40, 82))
    x, y, z = canvas.points
    food = 30 + 22 * np.sin(x / 6) * np.sin(y / 5 + z / 7)
    canvas.paint(bag + 5, food.astype(np.float32))
    canvas.paint(np.maximum(bag + 5, y + 44), GAS_HU)


def _paint_pancreas(canvas: Canvas, patient: Patient) -> None:
    """Paint the pancreas in its fat, and the splenic vein."""
    path = ((-24, -12, -22), (-10, -20, -6), (18, -20, 2), (52, 0, 12), (84, 14, 24))
    vein = ((0, 0, -12), (30, 2, 2), (70, 16, 16), (92, 26, 26))
    canvas = canvas.near((32, 4, 4), 80)
    gland = tube(canvas.points, path, 10.5)
    x, y, z = canvas.points
    lobules = 1.8 * np.sin(x / 2.6) * np.sin(y / 2.9) * np.sin(z / 3.3)
    canvas.paint(gland - 4, FAT_HU + 8, label=0)
    canvas.paint(gland + lobules.astype(np.float32), enhanced_hu(patient, 38, 98))
    canvas.paint(tube(canvas.points, vein, 4.0), enhanced_hu(patient, 42, 160))


def _paint_kidney(canvas: Canvas, patient: Patient, *, side: int, label: int) -> None:
    """Paint a kidney in its fat: cortex, pyramids, and the sinus that opens at the hilum."""
    s = patient.kidneys
    (x, y, z), radii, axes = kidney_shape(patient, side)
    canvas = canvas.near((x, y, z), 72 * s)
    bean = ellipsoid(canvas.points, (x, y, z), radii, axes=axes)
    hilum = (x - side * 19 * s, y - 9 * s, z)
    sinus = ellipsoid(canvas.points, hilum, (19 * s, 12 * s, 26 * s), axes=axes)
    canvas.paint(bean - 8, FAT_HU, label=0)
    kidney = np.maximum(bean, -sinus)
    canvas.paint(kidney, enhanced_hu(patient, 36, 196), label=label)
    medulla = 1.5 - 4 * np.abs(np.sin(canvas.points[2] / 7))
    pyramids = intersection(bean + 7, -sinus + 2, medulla)
    canvas.paint(pyramids, enhanced_hu(patient, 32, 138))
    pelvis = capsule(canvas.points, (x - side * 12, y - 6, z), (x - side * 30, y - 14, z - 8), 5)
    canvas.paint(np.maximum(pelvis, bean - 10), WATER_HU + 8)


def _paint_great_vessels(canvas: Canvas, patient: Patient) -> None:
    """Paint aorta, vena cava, their branches and the crura."""
    blood = enhanced_hu(patient, 42, 150)
    canvas.paint(cylinder(canvas.points, (7, 14), (10.5, 10.5)), blood + 8, label=0)
    z = canvas.points[2]
    cava = cylinder(canvas.points, CAVA, (12.5, 9.5))
    canvas.paint(np.maximum(cava, z - 78), blood - 14, label=0)
    for side, height in ((-1, -30.0), (1, -18.0)):
        renal = ((0, 8, height + 4), (side * 46.0, 30, height))
        canvas.paint(tube(canvas.points, renal, 4.0), blood)
    mesenteric = ((9, 2, 6), (9, -8, -8), (8, -12, -80), (8, -12, -130))
    canvas.paint(tube(canvas.points, mesenteric, 4.5), blood)
    for centre, radii in (((17, 22), (5, 15)), ((-8, 24), (5, 13))):
        crus = cylinder(canvas.points, centre, radii)
        canvas.paint(np.maximum(crus, -z - 5), 60.0, label=0)


def _paint_bowel(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Paint loops of small bowel and the colon around them, some with gas in front."""
    for _ in range(64):
        middle = rng.uniform((-88, -84, -125), (92, 8, -18)) * (patient.size, patient.size, 1)
        reach = rng.uniform((-26, -14, -18), (26, 14, 18))
        start, stop = middle.tolist(), (middle + reach).tolist()
        radius = float(rng.uniform(9, 13))
        if max(in_wall(start, patient), in_wall(stop, patient)) < -radius - 3:
            _paint_loop(canvas, patient, (start, stop), radius, gas=bool(rng.random() < 0.2))
    s = patient.size
    right, left = -112 * s, 114 * s
    _paint_loop(canvas, patient, ((right, 8, -150), (right + 6, 0, -50)), 21, gas=True)
    _paint_loop(canvas, patient, ((left, 30, -150), (left - 4, 26, -10)), 15, gas=False)
    transverse = ((-84 * s, -58 * s, -58), (0, -82 * s, -72), (78 * s, -58 * s, -40))
    _paint_loop(canvas, patient, transverse, 18, gas=True)


def _paint_loop(
    canvas: Canvas, patient: Patient, path: Sequence[Sequence[float]], radius: float, *, gas: bool
) -> None:
    """Paint a loop of bowel along a path."""
    corners = np.asarray(path)
    low, high = corners.min(axis=0), corners.max(axis=0)
    canvas = canvas.near((low + high) / 2, float(np.linalg.norm(high - low) / 2 + radius))
    wall = cavity_distance(canvas.points, patient) + 3
    loop = np.maximum(tube(canvas.points, path, radius), wall)
    canvas.paint(loop, enhanced_hu(patient, 38, 88))
    lumen = loop + np.float32(2.5)
    canvas.paint(lumen, 32.0)
    if gas:
        level = np.float32((low[1] + high[1]) / 2 - 0.25 * radius)
        canvas.paint(np.maximum(lumen, canvas.points[1] - level).astype(np.float32), GAS_HU)


def _outside(points: Field, patient: Patient) -> Field:
    """Distance to the space that organs below the diaphragm may fill."""
    wall, dome = cavity_distance(points, patient), diaphragm_distance(points, patient)
    return intersection(wall + 3.5, dome + 4)
