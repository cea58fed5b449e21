"""Outlines of a label map on its image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.report.canvas import new_canvas, plain, save_png
from hilum.volume import reorient, reorient_geometry
from hilum.volume.orient import SOURCE

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from hilum.volume import Geometry, LabelTable, Volume

_SLICES = 3
_THICK = 1.5
"""Slices are drawn across an axis whose voxels are so many times as thick as those of the others,
else axial."""
_PLANES = {"SPL": "", "PIL": "coronal ", "LIP": "sagittal "}
"""Orientations of what is drawn, each across one axis of the first, and what its slices are called.
"""
_TALLEST = 4.0
"""Largest proportion of a picture, either way: a narrower one has empty space beside it."""


def plot_overlay(image: Volume, labels: Volume, table: LabelTable, path: Path) -> None:
    """Draw the outlines of every label on slices across the image's thickest axis.

    Left of the patient is on the right of the picture; axial slices have the front at the top,
    others the head.

    Args:
        image: (C, Z, Y, X); the first channel is drawn, or all three of a colour picture.
        labels: (1, Z, Y, X) on the image's grid.
        table: names and colours.
        path: of the PNG.
    """
    from matplotlib.lines import Line2D

    code = display_orientation(image.geometry)
    image, labels = reorient(image, code), reorient(labels, code)
    slices = _interesting_slices(labels.array[0], table)
    _, y, x = image.geometry.spacing
    figure = new_canvas(5.0 * len(slices), 5.0 * height_of(image) + 0.8)
    shown = []
    for axes, z in zip(np.atleast_1d(figure.subplots(1, len(slices))), slices, strict=True):
        axes.imshow(
            grey_or_colour(image.array[:, z]), cmap="gray", aspect=y / x, interpolation="nearest"
        )
        for label in table.foreground:
            mask = labels.array[0, z] == label.id
            colour = "#{:02x}{:02x}{:02x}".format(*table.colours[label.id])
            shown.append(Line2D([], [], color=colour, label=plain(label.name)))
            if mask.any():
                axes.contour(
                    np.pad(mask, 1)[1:-1, 1:-1].astype(float),
                    levels=[0.5],
                    colors=[colour],
                    linewidths=1.4,
                )
        axes.set_title(slice_title(code, z, image.geometry.shape[0]))
        axes.set_axis_off()
    figure.legend(
        handles=shown[: len(table.foreground)], loc="outside lower center", ncols=6, frameon=False
    )
    save_png(figure, path, dpi=80)


def _interesting_slices(labels: NDArray[np.integer], table: LabelTable) -> list[int]:
    """Choose the slices where the last labels are largest, then spread over all labelled slices."""
    chosen: list[int] = []
    for label in reversed(table.foreground):
        areas = (labels == label.id).sum(axis=(1, 2))
        if areas.any() and len(chosen) < _SLICES - 1:
            chosen.append(int(areas.argmax()))
    where = np.flatnonzero((labels > 0).any(axis=(1, 2)))
    if where.size == 0:
        where = np.arange(labels.shape[0])
    chosen += [int(where[int(share * (where.size - 1))]) for share in (0.5, 0.25, 0.75)]
    return sorted(list(dict.fromkeys(chosen))[:_SLICES])


def display_orientation(geometry: Geometry) -> str:
    """Return the orientation in which an image is drawn: across its single or thickest axis.

    "source" for a picture.
    """
    if geometry.is_2d:
        return SOURCE
    turned = reorient_geometry(geometry)
    single = [axis for axis, n in enumerate(turned.shape) if n == 1]
    *_, second, thickest = sorted(turned.spacing)
    across = (
        single[0]
        if single
        else turned.spacing.index(thickest)
        if thickest >= _THICK * second
        else 0
    )
    return tuple(_PLANES)[across]


def slice_title(code: str, z: int, slices: int) -> str:
    """Name a slice of an image that was turned to `code`; "" of the only one."""
    return f"{_PLANES.get(code, '')}slice {z + 1} of {slices}" if slices > 1 else ""


def height_of(image: Volume) -> float:
    """Height of a slice as a part of its width, in millimetres, within limits."""
    _, y, x = image.geometry.spacing
    return min(
        max(image.geometry.shape[1] * y / (image.geometry.shape[2] * x), 1 / _TALLEST), _TALLEST
    )


def grey_or_colour(channels: NDArray[np.generic]) -> NDArray[np.float32]:
    """(C, Y, X) to grey (Y, X) or colour (Y, X, 3), 0..1: from the 1st to the 99th percentile."""
    shown = np.moveaxis(channels[:3], 0, -1) if channels.shape[0] == 3 else channels[0]
    shown = np.nan_to_num(shown.astype(np.float32))
    low, high = np.percentile(shown, (1, 99))
    return np.asarray(np.clip((shown - low) / max(float(high - low), 1e-6), 0, 1), dtype=np.float32)
