"""Outlines of a label map on its image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.io import atomic_path, read_labels
from hilum.volume import Volume, reorient

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from hilum.volume import LabelTable

_SLICES = 3


def draw_overlay(image: Volume, labels: Volume | Sequence[Path], table: LabelTable, path: Path) -> None:
    """Draw the outlines of every label on axial slices, left of the patient on the right of the picture, front at the top.

    Args:
        image: (C, Z, Y, X); the first channel is drawn, or all three of a colour picture.
        labels: (1, Z, Y, X) on the image's grid, or the files of a prediction, of which the first holds them.
        table: names and colours.
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    labels = labels if isinstance(labels, Volume) else read_labels(labels[0])
    if not image.geometry.is_2d:
        image, labels = reorient(image), reorient(labels)
    slices = _interesting_slices(labels.array[0], table)
    _, y, x = image.geometry.spacing
    figure = Figure(figsize=(5.0 * len(slices), 5.0 * height_of(image) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    shown = []
    for place, z in zip(np.atleast_1d(figure.subplots(1, len(slices))), slices, strict=True):
        place.imshow(grey_or_colour(image.array[:, z]), cmap="gray", aspect=y / x, interpolation="nearest")
        for label in table.foreground:
            mask = labels.array[0, z] == label.id
            colour = "#{:02x}{:02x}{:02x}".format(*table.colours[label.id])
            shown.append(Line2D([], [], color=colour, label=label.name))
            if mask.any():
                place.contour(np.pad(mask, 1)[1:-1, 1:-1].astype(float), levels=[0.5], colors=[colour], linewidths=1.4)
        place.set_title("" if image.geometry.is_2d else f"slice {z + 1} of {image.geometry.shape[0]}")
        place.set_axis_off()
    figure.legend(handles=shown[: len(table.foreground)], loc="outside lower center", ncols=6, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=80)


def _interesting_slices(labels: NDArray[np.integer], table: LabelTable) -> list[int]:
    """Choose the slices where the last labels (the finest, by custom) are largest, then spread over all labelled slices."""
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


def height_of(image: Volume) -> float:
    """Height of a slice as a part of its width, in millimetres."""
    _, y, x = image.geometry.spacing
    return image.geometry.shape[1] * y / (image.geometry.shape[2] * x)


def grey_or_colour(channels: NDArray[np.generic]) -> NDArray[np.float32]:
    """(C, Y, X) to grey (Y, X) or colour (Y, X, 3), 0..1: from the 1st to the 99th percentile."""
    shown = np.moveaxis(channels[:3], 0, -1) if channels.shape[0] == 3 else channels[0]
    shown = np.nan_to_num(shown.astype(np.float32))
    low, high = np.percentile(shown, (1, 99))
    return np.asarray(np.clip((shown - low) / max(float(high - low), 1e-6), 0, 1), dtype=np.float32)
