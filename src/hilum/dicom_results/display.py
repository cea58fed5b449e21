"""Key images: a source frame in grey, what was found on it in colours, and words below it.

Everything is pixels: a secondary capture has no layers, and a picture that is sent again must be
the same, byte by byte. A frame is enlarged so that its pixels are square.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from hilum.metrics import Diameter

    Colour = tuple[int, int, int]
    Pixels = NDArray[np.uint8]
    """(Y, X, 3), sRGB."""

T = TypeVar("T", bound=np.generic)
_SIDE = 768
"""Pixels of a picture's longer side."""
_OUTLINE = 2
"""Pixels of an outline's width."""
_LETTER, _ROW, _MARGIN = 16, 22, 8
"""Pixels: height of letters, of a row of words, and the space around them."""
_WHITE, _YELLOW = (235, 235, 235), (255, 221, 85)
_FAINTEST, _STRENGTH = 0.15, 0.55
"""A heat map below this share of its largest value is not coloured; how strongly the rest is."""


@dataclass(frozen=True)
class Words:
    """Words below a picture, in a colour."""

    text: str
    colour: Colour = _WHITE


@dataclass(frozen=True, eq=False)
class DisplayFrame:
    """A source frame to draw on.

    Args:
        shown: (rows, columns), or with three colours (rows, columns, 3), 0..1.
        pixel_mm: mm between (rows, columns).
    """

    shown: NDArray[np.float32]
    pixel_mm: tuple[float, float]

    @property
    def size(self) -> tuple[int, int]:
        """(Y, X) of the picture: square pixels, the longer side fixed."""
        high, wide = (n * mm for n, mm in zip(self.shown.shape[:2], self.pixel_mm, strict=True))
        scale = _SIDE / max(high, wide)
        return max(1, round(high * scale)), max(1, round(wide * scale))

    @property
    def pixels(self) -> Pixels:
        """The frame enlarged, in three channels."""
        y, x = self.size
        stored = Image.fromarray(np.rint(self.shown * 255).astype(np.uint8)).convert("RGB")
        return np.array(stored.resize((x, y), Image.Resampling.BILINEAR))

    def enlarge(self, values: NDArray[T]) -> NDArray[T]:
        """Enlarge values (rows, columns) to the picture's pixels, each the nearest one's."""
        (rows, columns), (y, x) = self.shown.shape[:2], self.size
        down = ((np.arange(y) + 0.5) * rows / y).astype(int)
        along = ((np.arange(x) + 0.5) * columns / x).astype(int)
        return np.asarray(values[down[:, None], along])

    def place(self, point: tuple[float, float]) -> tuple[float, float]:
        """Find the picture's (x, y) of a frame's (row, column); whole numbers are pixel centres."""
        (rows, columns), (y, x) = self.shown.shape[:2], self.size
        row, column = point
        return (column + 0.5) * x / columns - 0.5, (row + 0.5) * y / rows - 0.5


def with_outlines(
    frame: DisplayFrame,
    labels: NDArray[np.integer],
    colours: Mapping[int, Colour],
    lines: Sequence[Diameter] = (),
) -> Pixels:
    """Draw the outlines of labels (rows, columns) on a frame, and measured lines."""
    from scipy import ndimage

    picture, shown = frame.pixels, frame.enlarge(labels)
    for label, colour in colours.items():
        mask = np.pad(shown == label, 1)
        inner = ndimage.binary_erosion(mask, iterations=_OUTLINE)
        picture[(mask & ~inner)[1:-1, 1:-1]] = colour
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    for line in lines:
        ends = [round(v) for end in (line.start, line.end) for v in frame.place(end)]
        pen.line(ends, fill=_YELLOW, width=1)
    return np.array(image)


def with_heat(frame: DisplayFrame, heat: NDArray[np.float32], most: float) -> Pixels:
    """Draw a heat map (rows, columns) over a frame; `most` is the largest value of the map."""
    from matplotlib import colormaps

    share = np.clip(frame.enlarge(heat) / max(most, 1e-6), 0, 1)
    colours = np.asarray(colormaps["inferno"](share))[:, :, :3] * 255
    strength = np.where(share > _FAINTEST, _STRENGTH, 0.0)[:, :, None]
    mixed = frame.pixels * (1 - strength) + colours * strength
    return np.asarray(np.rint(mixed), dtype=np.uint8)


def with_caption(picture: Pixels, rows: Sequence[Sequence[Words]]) -> Pixels:
    """Write rows of words below a picture; what does not fit into a row goes on in the next."""
    font, width = _font(), picture.shape[1]
    placed: list[tuple[float, int, Words]] = []
    place, y = float(_MARGIN), 0
    for row in rows:
        for words in row:
            length = font.getlength(words.text) + 2 * _MARGIN
            if place > _MARGIN and place + length > width:
                place, y = float(_MARGIN), y + 1
            placed.append((place, y, words))
            place += length
        place, y = float(_MARGIN), y + 1
    below = np.zeros((y * _ROW + 2 * _MARGIN, width, 3), dtype=np.uint8)
    image = Image.fromarray(np.concatenate([picture, below]))
    pen = ImageDraw.Draw(image)
    for x, line, words in placed:
        top = picture.shape[0] + _MARGIN + line * _ROW
        pen.text((x, top), words.text, font=font, fill=words.colour)
    return np.array(image)


def grey_of(values: NDArray[np.generic], window: tuple[float, float] | None) -> NDArray[np.float32]:
    """Map values to 0..1: a window (centre, width), or 1st to 99th percentile."""
    shown = np.nan_to_num(values.astype(np.float32))
    if window is None:
        low, high = (float(v) for v in np.percentile(shown, (1, 99)))
    else:
        low, high = window[0] - window[1] / 2, window[0] + window[1] / 2
    return np.asarray(np.clip((shown - low) / max(high - low, 1e-6), 0, 1), dtype=np.float32)


@cache
def _font() -> ImageFont.FreeTypeFont:
    """Load the font of all of hilum's pictures, which matplotlib brings along."""
    import matplotlib as mpl

    path = Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(str(path), _LETTER)
