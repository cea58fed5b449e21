"""From stored numbers to labels: integers in the smallest dtype, or a clear error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import LabelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hilum.volume import Volume

_DTYPES = (np.uint8, np.int16, np.int32)


def as_labels(volume: Volume, source: str) -> Volume:
    """Convert labels to the smallest of uint8, int16 and int32 that holds them.

    Args:
        volume: one channel; or several equal ones, as in a grey picture that was stored as RGB.
        source: what to call it in an error.

    Returns:
        A volume of one channel.

    Raises:
        LabelError: channels that differ, fractional numbers, NaN, or numbers beyond 32 bits.
    """
    array = volume.array
    if volume.channels > 1:
        if not all(np.array_equal(array[0], channel) for channel in array[1:]):
            raise LabelError(
                f"{source}: {volume.channels} channels that differ",
                needed="labels in one channel",
                cure=(
                    "store one integer for each voxel (for coloured masks: replace each colour by"
                    " its label)"
                ),
            )
        array = array[:1]
    return volume.with_array(minimal_integers(array, source))


def minimal_integers(array: NDArray[np.generic], source: str) -> NDArray[np.generic]:
    """Convert an array to the smallest of uint8, int16 and int32 that holds all its values.

    Not copied where it already has that dtype.

    Raises:
        LabelError: fractional numbers, NaN, or numbers beyond 32 bits.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        _refuse_fractions(array, source)
    low, high = array.min(initial=0), array.max(initial=0)
    for dtype in _DTYPES:
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return array.astype(dtype, copy=False)
    raise LabelError(
        f"{source}: labels from {low} to {high}",
        needed="labels of at most 32 bits",
        cure="number the labels anew, from 0",
    )


def _refuse_fractions(array: NDArray[np.generic], source: str) -> None:
    """Raise where real numbers are not all whole."""
    with np.errstate(invalid="ignore"):
        wrong = array != np.rint(array)  # NaN differs from itself
    wrong |= np.isinf(array)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise LabelError(
            f"{source}: {int(wrong.sum())} voxels hold no whole number, the first"
            f" {array[index]:.6g} at (z, y, x) = {index[-3:]}",
            needed="an integer label in every voxel",
            cure=(
                'write 0 for NaN (or the number of "ignore" in dataset.json, where nobody looked)'
                if np.isnan(array[index])
                else (
                    "threshold probabilities, resample labels by nearest neighbour, round numbers"
                    " that are nearly whole"
                )
            ),
        )
