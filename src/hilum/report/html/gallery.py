"""Viewers of single cases: slices in three planes with the outlines of reference and prediction."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hilum.io.encoded import jpeg_bytes, palette_png_bytes
from hilum.report.html.document import View, Viewer, Window
from hilum.volume import reorient
from hilum.volume.orient import SOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.volume import Volume

    Mask = NDArray[np.bool_]
    Grey = NDArray[np.uint8]

_PLANES = {"axial": "SPL", "coronal": "PIL", "sagittal": "LIP"}
"""Orientation in which slices of a plane are drawn; left of the patient is on the right."""
_MOST_SLICES = 20
_LONGEST = 220
"""Pixels of the longer side of a tile."""
_MARGIN = 0.25
"""Part of the structures' extent that is shown around them."""
_PALETTE = ((0, 0, 0), (86, 180, 233), (230, 159, 0))
"""Colours of no outline (which is transparent), of the reference and of the prediction."""
_DASH = 6  # pixels of a dash and the gap after it
_QUALITY = 80
_CT = (-1000.0, 1000.0)  # HU that the tiles of a CT hold
_HOUNSFIELD_BELOW = -200
"""An image with numbers below this is shown as CT."""
_CT_WINDOWS = {"soft tissue": (-160, 240), "lung": (-1000, 150), "bone": (-200, 1000)}


@dataclass(frozen=True, eq=False)
class GalleryCase:
    """A case to be shown.

    Args:
        title: its id and why it is shown.
        text: its metrics in words.
        image: (C, Z, Y, X).
        prediction: (1, Z, Y, X) on the same grid.
        reference: the same; None where there is none.
    """

    title: str
    text: str
    image: Volume
    prediction: Volume
    reference: Volume | None


def make_viewer(case: GalleryCase) -> Viewer:
    """Cut a case to its structures and encode its slices."""
    low, high, windows = _windows(case.image)
    codes = {"picture": SOURCE} if case.image.geometry.is_2d else _PLANES
    views = tuple(_view(name, code, case, low, high) for name, code in codes.items())
    legend = [("rgb(230 159 0)", "prediction (dashed)")]
    if case.reference is not None:
        legend.insert(0, ("rgb(86 180 233)", "reference (solid)"))
    return Viewer(case.title, case.text, tuple(legend), views, windows)


def _windows(image: Volume) -> tuple[float, float, tuple[Window, ...]]:
    """Return the range of intensities that tiles hold, and the windows to show it by."""
    shown = image.array[0]
    if image.channels != 3 and float(shown.min()) < _HOUNSFIELD_BELOW:
        low, high = _CT
        parts = {
            name: ((a - low) / (high - low), (b - low) / (high - low))
            for name, (a, b) in _CT_WINDOWS.items()
        }
        return low, high, tuple(Window(name, a, b) for name, (a, b) in parts.items())
    low, high = (float(value) for value in np.percentile(shown, (0.5, 99.5)))
    windows = (Window("whole range", 0.0, 1.0), Window("dark half", 0.0, 0.5))
    return low, max(high, low + 1e-6), windows if image.channels != 3 else ()


def _view(name: str, code: str, case: GalleryCase, low: float, high: float) -> View:
    """Encode the slices of one plane."""
    image = reorient(case.image, code)
    prediction = reorient(case.prediction, code).array[0]
    reference = None if case.reference is None else reorient(case.reference, code).array[0]
    shown = prediction > 0 if reference is None else (prediction > 0) | (reference > 0)
    box = _box(shown)
    z = _spread(box[0], flat=image.geometry.shape[0] == 1)
    rows, columns = box[1], box[2]
    _, row_mm, column_mm = image.geometry.spacing
    size = (rows.stop - rows.start) * row_mm, (columns.stop - columns.start) * column_mm
    scale = _LONGEST / max(size)
    height, width = (max(1, round(side * scale)) for side in size)
    tiles, lines = [], []
    for place in z:
        channels = image.array[:, place, rows, columns]
        tiles.append(_tile(channels, low, high, (width, height)))
        line = np.zeros((height, width), dtype=np.uint8)
        if reference is not None:
            line[_outline(reference[place, rows, columns], (width, height))] = 1
        dashes = np.add.outer(np.arange(height), np.arange(width)) % _DASH < _DASH // 2
        line[_outline(prediction[place, rows, columns], (width, height)) & dashes] = 2
        lines.append(line)
    count = image.geometry.shape[0]
    return View(
        name=name,
        image=_data_uri("jpeg", jpeg_bytes(np.concatenate(tiles), quality=_QUALITY)),
        outlines=_data_uri("png", palette_png_bytes(np.concatenate(lines), _PALETTE)),
        slices=len(z),
        width=width,
        height=height,
        shown_height=height,
        first=int(np.argmax([shown[place].sum() for place in z])),
        labels=tuple(f"slice {place + 1} of {count}" for place in z),
    )


def _box(shown: Mask) -> tuple[slice, slice, slice]:
    """Return the box around what is shown, with a margin; the whole image where nothing is."""
    slices = []
    for axis, length in enumerate(shown.shape):
        others = tuple(a for a in range(3) if a != axis)
        places = np.flatnonzero(shown.any(axis=others))
        first, last = (int(places[0]), int(places[-1]) + 1) if places.size else (0, length)
        margin = max(3, round(_MARGIN * (last - first))) if axis else 1
        slices.append(slice(max(0, first - margin), min(length, last + margin)))
    z, y, x = slices
    return z, y, x


def _spread(span: slice, *, flat: bool) -> list[int]:
    """Choose slices evenly over a span."""
    if flat:
        return [0]
    count = min(_MOST_SLICES, span.stop - span.start)
    return [int(place) for place in np.linspace(span.start, span.stop - 1, count).round()]


def _tile(channels: NDArray[np.generic], low: float, high: float, size: tuple[int, int]) -> Grey:
    """Return a slice (C, Y, X) as grey (height, width) or colour (height, width, 3) pixels."""
    shown = channels if channels.shape[0] == 3 else channels[:1]
    parts = np.clip((np.nan_to_num(shown.astype(np.float32)) - low) / (high - low), 0, 1)
    down, across = (
        _linear_weights(old, new) for old, new in zip(parts.shape[1:], size[::-1], strict=True)
    )
    pixels = (255 * (down @ parts @ across.T)).round().astype(np.uint8)  # (C, height, width)
    return np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]


def _linear_weights(old: int, new: int) -> NDArray[np.float64]:
    """Return the matrix (new, old) that stretches `old` pixels to `new`, centre to centre."""
    places = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.asarray(np.clip(1 - np.abs(places[:, None] - np.arange(old)), 0, None))


def _outline(labels: NDArray[np.integer], size: tuple[int, int]) -> Mask:
    """Return the border pixels (height, width) of every label of a slice (Y, X)."""
    rows, columns = (
        np.arange(new) * old // new for old, new in zip(labels.shape, size[::-1], strict=True)
    )
    shown = labels[np.ix_(rows, columns)]
    around = np.pad(shown, 1)
    inner = np.ones(shown.shape, dtype=np.bool_)
    for row, column in ((0, 1), (2, 1), (1, 0), (1, 2)):
        inner &= around[row : row + shown.shape[0], column : column + shown.shape[1]] == shown
    return (shown > 0) & ~inner


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def chosen_cases(values: Sequence[tuple[str, float]], each: int = 3) -> dict[str, str]:
    """Choose the worst, the median and the best cases, with the reason that is shown.

    Args:
        values: case ids and a metric of which more is better.
        each: how many of each kind at most.
    """
    ranked = sorted(values, key=lambda pair: pair[1])
    middle = max(0, (len(ranked) - each) // 2)
    groups = {
        "among the worst": ranked[:each],
        "in the middle": ranked[middle : middle + each],
        "among the best": ranked[::-1][:each],
    }
    chosen: dict[str, str] = {}
    for reason, pairs in groups.items():
        for case, _ in pairs:
            chosen.setdefault(case, reason)
    return chosen
