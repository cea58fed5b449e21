"""Outlines on slices: the plane that was scanned, and a picture of bounded size."""

import numpy as np
import pytest
from PIL import Image

from hilum.report import plot_overlay
from hilum.report.overlay import display_orientation
from hilum.volume import Geometry, LabelTable, Volume, reorient

TABLE = LabelTable.from_names({1: "disc"})


@pytest.mark.parametrize(
    ("spacing", "shape", "code"),
    [
        ((5.0, 0.8, 0.7), (6, 30, 34), "SPL"),
        ((0.6, 0.9, 0.9), (40, 30, 34), "SPL"),  # nearly alike: axial
        ((0.5, 4.0, 0.6), (40, 7, 34), "PIL"),
        ((0.5, 0.6, 4.0), (40, 34, 7), "LIP"),
        ((2.0, 1.0, 2.0), (256, 128, 1), "LIP"),  # a single sagittal slice
    ],
)
@pytest.mark.parametrize("stored", ["SPL", "LPS", "RIA"])
def test_slices_lie_across_the_thickest_axis(spacing, shape, code, stored, tmp_path):
    grid = Geometry.from_spacing(shape, spacing)
    image = Volume(np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32), grid)
    labels = np.zeros((1, *shape), np.uint8)
    labels[0, 2:5, 3:7, : shape[2] // 2 + 1] = 1
    image, marked = reorient(image, stored), reorient(Volume(labels, grid), stored)
    if not image.geometry.is_2d:
        assert display_orientation(image.geometry) == code
    plot_overlay(image, marked, TABLE, tmp_path / "case.png")
    with Image.open(tmp_path / "case.png") as picture:
        assert max(picture.size) <= 2000


def test_a_long_narrow_picture_is_drawn_at_a_bounded_size(tmp_path):
    grid = Geometry.from_spacing((1, 4000, 20))
    plot_overlay(
        Volume(np.zeros((1, 1, 4000, 20)), grid),
        Volume(np.zeros((1, 1, 4000, 20), np.uint8), grid),
        TABLE,
        tmp_path / "c.png",
    )
    with Image.open(tmp_path / "c.png") as picture:
        assert max(picture.size) <= 2000
