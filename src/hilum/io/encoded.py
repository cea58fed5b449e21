"""Pictures as bytes in memory, for pages that hold their pictures themselves."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Colour = tuple[int, int, int, int]


def jpeg_bytes(pixels: NDArray[np.uint8], *, quality: int) -> bytes:
    """Encode grey (Y, X) or colour (Y, X, 3) pixels as JPEG, quality 1 to 95."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()


def palette_png_bytes(indices: NDArray[np.uint8], palette: Sequence[Colour]) -> bytes:
    """Encode indices (Y, X) of a palette of red, green, blue and opacity, 0..255, as PNG."""
    from PIL import Image

    picture = Image.fromarray(indices, mode="P")
    picture.putpalette([part for colour in palette for part in colour[:3]])
    stream = io.BytesIO()
    picture.save(stream, "PNG", transparency=bytes(colour[3] for colour in palette), optimize=True)
    return stream.getvalue()
