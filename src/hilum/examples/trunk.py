"""The trunk of the synthetic abdomen: skin, fat, muscle, bones, lung bases, heart, table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.examples.shapes import cylinder, ellipsoid, intersection, smooth_union

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.examples.abdomen import Patient
    from hilum.examples.canvas import Canvas

    Field = NDArray[np.float32]

SKIN_HU, FAT_HU, MUSCLE_HU, LUNG_HU, TABLE_HU = 15.0, -103.0, 58.0, -840.0, -60.0
BONE_HU, MARROW_HU, DISC_HU, CANAL_HU = 520.0, 190.0, 85.0, 28.0
MUSCLE_MM = 13.0
RIB_STEP_MM, RIB_SLOPE, RIB_MM = 30.0, 0.7, 4.8
VERTEBRA_MM, DISC_MM = 36.0, 8.0
SPINE_Y = 44.0  # centre of the vertebral bodies


def body_distance(points: Field, patient: Patient) -> Field:
    """Distance to the skin along the ray from the body's axis: a rounded box, flatter behind."""
    x, y, z = points
    waist = 1 - 0.05 * np.exp(-(((z + 45) / 55) ** 2))
    across = np.float32(163 * patient.size + 0.7 * patient.fat_mm - 8) * waist
    front = np.float32(112 * patient.size + patient.fat_mm - 12)
    behind = np.float32(108 * patient.size + 0.5 * patient.fat_mm - 6)
    depth = np.where(y < 0, front, behind)
    exponent = np.where(y < 0, np.float32(2.15), np.float32(2.7))
    reach = (np.abs(x / across) ** exponent + np.abs(y / depth) ** exponent) ** (1 / exponent)
    length = np.hypot(x, y)
    return np.asarray(length * (1 - 1 / np.maximum(reach, 1e-3)), dtype=np.float32)


def wall_thickness(points: Field, patient: Patient) -> Field:
    """Return the thickness of skin and fat in mm: thickest at flanks and belly."""
    x, y, _ = points
    angle = np.arctan2(y, x)
    shape = 0.85 - 0.25 * np.sin(angle) + 0.12 * np.cos(2 * angle)
    return np.asarray(3 + patient.fat_mm * shape, dtype=np.float32)


def cavity_distance(points: Field, patient: Patient) -> Field:
    """Distance to the inner face of the body wall."""
    return body_distance(points, patient) + wall_thickness(points, patient) + np.float32(MUSCLE_MM)


def diaphragm_distance(points: Field, patient: Patient) -> Field:
    """Height above the diaphragm: two domes, the right one higher, lower at the back."""
    x, y, z = points
    s = np.float32(patient.size)
    depth = ((y + 18) / (80 * s)) ** 2
    right = 84 - ((x + 70 * s) / (72 * s)) ** 2 * 38 - depth * np.where(y > -18, 62, 30)
    left = 74 - ((x - 72 * s) / (70 * s)) ** 2 * 38 - depth * np.where(y > -18, 56, 30)
    height = -smooth_union(-right.astype(np.float32), -left.astype(np.float32), 14)
    return np.asarray(z - height, dtype=np.float32)


def paint_trunk(canvas: Canvas, patient: Patient) -> None:
    """Paint everything that is not an abdominal organ, from the outside inwards."""
    points = canvas.points
    body = body_distance(points, patient)
    wall = wall_thickness(points, patient)
    _paint_table(canvas, patient)
    canvas.paint(body, SKIN_HU)
    canvas.paint(body + 2.2, FAT_HU)
    canvas.paint(body + wall, MUSCLE_HU)
    cavity = body + wall + np.float32(MUSCLE_MM)
    canvas.paint(cavity, FAT_HU)
    diaphragm = diaphragm_distance(points, patient)
    _paint_ribs(canvas, body + wall)
    _paint_chest(canvas, cavity, diaphragm)
    _paint_back(canvas, body + wall)
    _paint_spine(canvas)


def _paint_table(canvas: Canvas, patient: Patient) -> None:
    """Paint a curved plate under the back: a shell of carbon fibre around foam."""
    _, y, _ = canvas.points
    lowest = 108 * patient.size + 0.5 * patient.fat_mm - 6
    x = canvas.points[0]
    gap = np.abs(y - np.float32(lowest + 9) + x * x / 2600) - 5.5
    sides = np.abs(x) - 190
    plate = np.maximum(gap, sides)
    canvas.paint(plate, TABLE_HU)
    canvas.paint(plate + 3.5, -900.0)


def _paint_ribs(canvas: Canvas, wall: Field) -> None:
    """Paint ribs that run in the muscle layer and fall to the front.

    Cartilage takes over there, and none are left low down in front.
    """
    _, y, z = canvas.points
    level = z - RIB_SLOPE * y  # ribs are level sets of this
    across = (level + RIB_STEP_MM / 2) % RIB_STEP_MM - RIB_STEP_MM / 2
    tube = np.hypot((wall + MUSCLE_MM * 0.62) * 1.05, across * 0.82) - np.float32(RIB_MM)
    margin = -78 + (48 - z) * 1.05 - y  # the costal margin
    canvas.paint(np.maximum(tube, margin - 14), 105.0)
    rib = np.maximum(tube, margin)
    canvas.paint(rib, BONE_HU)
    canvas.paint(rib + 1.9, MARROW_HU)


def _paint_chest(canvas: Canvas, cavity: Field, diaphragm: Field) -> None:
    """Paint lung bases above the diaphragm, the heart between them."""
    points = canvas.points
    x, y, _ = points
    midline = np.float32(26) - np.abs(x - 4) - np.maximum(y - 10, 0) * 0.1
    lung = intersection(cavity + 1.5, -diaphragm, midline)
    texture = 45 * np.sin(points[0] / 4.1) * np.sin(points[1] / 4.7) * np.sin(points[2] / 5.3)
    canvas.paint(np.maximum(cavity + 1.0, -diaphragm), 40.0)
    lung_hu = np.asarray(LUNG_HU + texture - y * 0.5, dtype=np.float32)
    canvas.paint(lung, lung_hu + np.where(texture > 24, 260, 0))
    heart = ellipsoid(points, (22, -38, 108), (58, 46, 42))
    canvas.paint(np.maximum(heart, np.float32(6) - diaphragm), 125.0)


def _paint_back(canvas: Canvas, wall: Field) -> None:
    """Paint muscles beside the spine, streaked with fat."""
    points = canvas.points
    streaks = np.sin(points[0] / 2.3 + points[1] / 3.1) * np.sin(points[1] / 2.7)
    muscle = np.asarray(MUSCLE_HU - 8 - 40 * (streaks > 0.82), dtype=np.float32)
    for side in (-1, 1):
        back = cylinder(points, (side * 36, SPINE_Y + 38), (33, 19))
        canvas.paint(np.maximum(back, wall + 1), muscle, label=0)
        low = np.clip((points[2] - 25) / 6, 0, 10)  # the psoas begins at the first lumbar vertebra
        psoas = cylinder(points, (side * 37, SPINE_Y + 4), (14, 18)) + low * 3
        canvas.paint(psoas, MUSCLE_HU + 4, label=0)
        loin = cylinder(points, (side * 68, SPINE_Y + 22), (20, 9)) + low * 2
        canvas.paint(loin, MUSCLE_HU, label=0)


def _paint_spine(canvas: Canvas) -> None:
    """Paint vertebrae, discs, the canal in its ring of bone, spinous and transverse processes."""
    x, y, z = canvas.points
    phase = (z + VERTEBRA_MM / 2) % VERTEBRA_MM - VERTEBRA_MM / 2  # 0 in the middle of a vertebra
    waist = 2.0 * np.cos(np.pi * phase / VERTEBRA_MM) ** 2  # bodies are narrower in the middle
    column = cylinder(canvas.points, (0, SPINE_Y), (23.5, 17.0)) + waist.astype(np.float32)
    canvas.paint(column, DISC_HU, label=0)
    half = (VERTEBRA_MM - DISC_MM) / 2
    bone = np.maximum(column, np.abs(phase) - half)
    canvas.paint(bone, BONE_HU)
    canvas.paint(bone + 2.3, MARROW_HU)
    ring = cylinder(canvas.points, (0, SPINE_Y + 25), (16.5, 15))
    canvas.paint(np.maximum(ring, np.abs(phase - 2) - 13), BONE_HU * 0.8, label=0)
    canvas.paint(cylinder(canvas.points, (0, SPINE_Y + 24.5), (11, 9.5)), CANAL_HU)
    spinous = intersection(np.abs(x) - 3.2, np.abs(y - SPINE_Y - 47) - 13, np.abs(phase + 4) - 9)
    canvas.paint(spinous, BONE_HU * 0.75)
    transverse = np.maximum(np.hypot(y - SPINE_Y - 26, phase) - 4.2, np.abs(np.abs(x) - 26) - 12)
    canvas.paint(transverse, BONE_HU * 0.7)


def in_wall(centre: Sequence[float], patient: Patient) -> float:
    """Distance of one point to the inner face of the body wall (negative inside of the cavity)."""
    return float(cavity_distance(np.asarray(centre, dtype=np.float32).reshape(3, 1), patient)[0])
