"""Viewers of single cases: slices in three planes with the outlines of reference and prediction."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hilum.io.encoded import jpeg_bytes, palette_png_bytes
from hilum.report.html.document import Section, View, Viewer, Window
from hilum.report.html.scene import make_scene
from hilum.report.mesh import linear_weights
from hilum.volume import reorient
from hilum.volume.orient import SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from hilum.volume import Volume

    Colour = tuple[int, int, int, int]
    Mask = NDArray[np.bool_]
    Grey = NDArray[np.uint8]

_PLANES = {"axial": "SPL", "coronal": "PIL", "sagittal": "LIP"}
"""Orientation in which slices of a plane are drawn; left of the patient is on the right."""
_MOST_SLICES = 20
_LONGEST = 220
"""Pixels of the longer side of a tile."""
_MARGIN = 0.25
"""Part of the structures' extent that is shown around them."""
_PALETTE = ((0, 0, 0, 0), (86, 180, 233, 255), (230, 159, 0, 255))
"""Colours and opacity of no outline, of the reference and of the prediction."""
_DASH = 6  # pixels of a dash and the gap after it
_QUALITY = 80
_CT = (-1000.0, 1000.0)  # HU that the tiles of a CT hold
_HOUNSFIELD_BELOW = -200
"""An image with numbers below this is shown as CT."""
_CT_WINDOWS = {"soft tissue": (-160, 240), "lung": (-1000, 150), "bone": (-200, 1000)}
_WINDOWS = {"whole range": (0.0, 1.0), "dark half": (0.0, 0.5), "bright half": (0.5, 1.0)}
"""Windows of other images, as parts of what their tiles hold."""


@dataclass(frozen=True, eq=False)
class GalleryCase:
    """A case to be shown.

    Args:
        title: its id and why it is shown.
        text: its metrics in words.
        image: (C, Z, Y, X).
        prediction: (1, Z, Y, X) on the same grid.
        reference: the same; None where there is none.
        names: of the labels whose surfaces are shown.
        anchor: see `Viewer`.
    """

    title: str
    text: str
    image: Volume
    prediction: Volume
    reference: Volume | None
    names: Mapping[int, str] = field(default_factory=dict)
    anchor: str = ""


def case_anchor(case: str) -> str:
    """Name a case of the gallery in the page's address, each by another name."""
    letters = (c if c == "_" or (c.isascii() and c.isalnum()) else f"-{ord(c):x}-" for c in case)
    return f"case-{''.join(letters)}"


def case_links(gallery: Section, cases: Iterable[str]) -> dict[str, str]:
    """Return the anchors of those cases that a gallery shows."""
    there = {block.anchor for block in gallery.blocks if isinstance(block, Viewer)}
    return {case: case_anchor(case) for case in cases if case_anchor(case) in there}


def make_viewer(case: GalleryCase) -> Viewer:
    """Cut a case to its structures and encode its slices."""
    grey = grey_range(case.image)
    views = []
    for name, code in planes(case.image).items():
        prediction = reorient(case.prediction, code).array[0]
        reference = None if case.reference is None else reorient(case.reference, code).array[0]
        shown = prediction > 0 if reference is None else (prediction > 0) | (reference > 0)
        layer = _Outlines(prediction, reference)
        largest = int(shown.sum(axis=(1, 2)).argmax())
        views.append(make_view(name, reorient(case.image, code), shown, largest, layer, grey))
    legend = [("rgb(230 159 0)", "prediction (dashed)")]
    if case.reference is not None:
        legend.insert(0, ("rgb(86 180 233)", "reference (solid)"))
    scene = make_scene(case.prediction, case.reference, case.names)
    return Viewer(
        case.title, case.text, tuple(legend), tuple(views), grey.windows, scene, case.anchor
    )


class Layer(Protocol):
    """Colours over the slices of an image."""

    @property
    def palette(self) -> Sequence[Colour]:
        """Colours of its indices, with their opacity 0..255."""

    def paint(self, place: int, rows: slice, columns: slice, size: tuple[int, int]) -> Grey:
        """Return the palette's indices (height, width) over a part of a slice."""


@dataclass(frozen=True, eq=False)
class _Outlines:
    """Outlines of the labels (Z, Y, X) of a prediction and its reference."""

    prediction: NDArray[np.integer]
    reference: NDArray[np.integer] | None
    palette: Sequence[Colour] = _PALETTE

    def paint(self, place: int, rows: slice, columns: slice, size: tuple[int, int]) -> Grey:
        """Return 1 on the reference's outlines and 2 on the prediction's, which are dashed."""
        width, height = size
        lines = np.zeros((height, width), dtype=np.uint8)
        if self.reference is not None:
            lines[_outline(self.reference[place, rows, columns], size)] = 1
        dashes = np.add.outer(np.arange(height), np.arange(width)) % _DASH < _DASH // 2
        lines[_outline(self.prediction[place, rows, columns], size) & dashes] = 2
        return lines


@dataclass(frozen=True)
class GreyRange:
    """Intensities that the slices of a case hold, and windows to show them by."""

    low: float
    high: float
    windows: tuple[Window, ...]


def grey_range(image: Volume) -> GreyRange:
    """Return the intensities to hold of an image (C, Z, Y, X), and the windows to show it by."""
    shown = image.array[0]
    if image.channels != 3 and float(shown.min()) < _HOUNSFIELD_BELOW:
        low, high = _CT
        parts = {
            name: ((a - low) / (high - low), (b - low) / (high - low))
            for name, (a, b) in _CT_WINDOWS.items()
        }
        return GreyRange(low, high, tuple(Window(name, a, b) for name, (a, b) in parts.items()))
    low, high = (float(value) for value in np.percentile(shown, (0.5, 99.5)))
    windows = tuple(Window(name, a, b) for name, (a, b) in _WINDOWS.items())
    return GreyRange(low, max(high, low + 1e-6), windows if image.channels != 3 else ())


def planes(image: Volume) -> dict[str, str]:
    """Return the orientations in which an image is shown, by name."""
    return {"picture": SOURCE} if image.geometry.is_2d else _PLANES


def make_view(
    name: str, image: Volume, shown: Mask, first: int, layer: Layer, grey: GreyRange
) -> View:
    """Encode the slices of one plane.

    Args:
        name: of the plane.
        image: (C, Z, Y, X), turned to the plane.
        shown: (Z, Y, X), true where the view must reach.
        first: slice that is seen first.
        layer: what lies over the slices.
        grey: see `grey_range`.
    """
    box = _box(shown)
    z = _spread(box[0], first, flat=image.geometry.shape[0] == 1)
    rows, columns = box[1], box[2]
    _, row_mm, column_mm = image.geometry.spacing
    sides = (rows.stop - rows.start) * row_mm, (columns.stop - columns.start) * column_mm
    height, width = (max(1, round(side * _LONGEST / max(sides))) for side in sides)
    size = (width, height)
    tiles = [_tile(image.array[:, place, rows, columns], grey, size) for place in z]
    lines = [layer.paint(place, rows, columns, size) for place in z]
    count = image.geometry.shape[0]
    return View(
        name=name,
        image=_data_uri("jpeg", jpeg_bytes(np.concatenate(tiles), quality=_QUALITY)),
        outlines=_data_uri("png", palette_png_bytes(np.concatenate(lines), layer.palette)),
        slices=len(z),
        width=width,
        height=height,
        shown_height=height,
        first=z.index(first),
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


def _spread(span: slice, first: int, *, flat: bool) -> list[int]:
    """Choose slices evenly over a span; `first`, which lies in it, replaces the one next to it."""
    if flat:
        return [0]
    count = min(_MOST_SLICES, span.stop - span.start)
    places = np.linspace(span.start, span.stop - 1, count).round().astype(int)
    places[np.abs(places - first).argmin()] = first
    return [int(place) for place in places]


def _tile(channels: NDArray[np.generic], grey: GreyRange, size: tuple[int, int]) -> Grey:
    """Return a slice (C, Y, X) as grey (height, width) or colour (height, width, 3) pixels."""
    shown = channels if channels.shape[0] == 3 else channels[:1]
    parts = (np.nan_to_num(shown.astype(np.float32)) - grey.low) / (grey.high - grey.low)
    down, across = (
        linear_weights(old, new) for old, new in zip(parts.shape[1:], size[::-1], strict=True)
    )
    pixels = (
        (255 * (down @ np.clip(parts, 0, 1) @ across.T)).round().astype(np.uint8)
    )  # (C, height, width)
    return np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]


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
