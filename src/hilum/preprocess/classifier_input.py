"""The input of a classifier: a window or the whole image, and the way back to the image."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from scipy import ndimage

from hilum.errors import DataError, GeometryError
from hilum.preprocess.steps import check_image, normalise
from hilum.volume import Volume, reorient, reorient_geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.plan.classification import ClassificationPlan
    from hilum.plan.plan import Three
    from hilum.volume import Geometry

Value = TypeVar("Value", bound=np.generic)
_INPUT_VERSION = 1  # raised whenever the same plan would give other bytes


@dataclass(frozen=True)
class InputWindow:
    """Position of an input in its case: input voxel *k* is read at index start + k * step.

    Args:
        source: the case's own grid.
        orientation: the code it was reoriented to, or "source".
        start: index (z, y, x), fractional, of the first input voxel; may lie outside the image.
        step: source voxels an input voxel.
        shape: (Z, Y, X) of the input.
    """

    source: Geometry
    orientation: str
    start: tuple[float, float, float]
    step: tuple[float, float, float]
    shape: Three

    @property
    def turned(self) -> Geometry:
        """The source's grid in the input's orientation."""
        return reorient_geometry(self.source, self.orientation)

    def lay(self, array: NDArray[np.float32]) -> Volume:
        """Resample a map (Z, Y, X) of the input onto the image's grid; 0 outside the window.

        Raises:
            GeometryError: the map has not the input's shape.
        """
        if array.shape != self.shape:
            raise GeometryError(
                f"the map has shape {array.shape}", needed=f"the input's shape, {self.shape}"
            )
        turned = self.turned
        out = np.asarray(array, dtype=np.float32)
        for axis, (n, start, step) in enumerate(
            zip(turned.shape, self.start, self.step, strict=True)
        ):
            at = np.asarray((np.arange(n) - start) / step, dtype=np.float64)
            inside = (at >= -0.5) & (at <= self.shape[axis] - 0.5)
            out = _read_along(out, at, axis) * _along(inside, axis)
        volume = Volume(np.ascontiguousarray(out[np.newaxis], dtype=np.float32), turned)
        back = reorient(volume, self.source.orientation)
        return Volume(np.ascontiguousarray(back.array), self.source)


def preprocess_classifier_input(
    image: Volume,
    plan: ClassificationPlan,
    *,
    region: Volume | None = None,
    centre_mm: Sequence[float] | None = None,
    size: Three | None = None,
) -> tuple[NDArray[np.float32], InputWindow]:
    """Bring a case to the input of a classifier: reorient, normalise, read the window.

    Linear, smoothed first along axes that shrink (a Gaussian of (step - 1) / 2 voxels, as
    scikit-image does). Beyond the image its border is repeated; the mask is 0 there.

    Args:
        image: (C, Z, Y, X) with the plan's channels in the plan's order.
        plan: the decisions.
        region: (1, Z, Y, X) mask on the image's grid, where the plan looks at one.
        centre_mm: the point to look at in LPS mm (x, y, z), where the plan looks at one.
        size: input (Z, Y, X); the plan's patch if None. Larger ones show more around it.

    Returns:
        a contiguous float32 array (C, or C + 1 with the mask, *size), and where it lies.

    Raises:
        DataError: another number of channels than the plan's, voxels that are NaN or infinite, no
            mask or point though the plan needs one.
        GeometryError: the point lies outside the image.
    """
    check_image(image, plan)
    if plan.dimensions.value == 2 and not image.geometry.is_2d:
        raise DataError(
            f"the image is a volume of shape {image.geometry.shape}",
            needed="a single picture, as the model was trained on",
            cure="give the slice as a picture, or train on volumes",
        )
    code = plan.orientation.value
    turned = reorient(image, code)
    mask = None
    if region is not None and plan.region.value.kind == "mask":
        mask = reorient(region, code).array[0] != 0
    window = _find_window(image.geometry, plan, mask, centre_mm, size or plan.patch.value)
    channels = []
    for raw, how in zip(turned.array, plan.normalisation.value, strict=True):
        channel = raw.astype(np.float32, copy=True)
        normalise(channel, how)
        channels.append(_read(channel, window))
    if plan.region.value.mask_channel and mask is not None:
        channel = _read(mask.astype(np.float32), window)
        for axis, n in enumerate(mask.shape):
            at = window.start[axis] + np.arange(window.shape[axis]) * window.step[axis]
            channel = channel * _along((at >= -0.5) & (at <= n - 0.5), axis)
        channels.append(channel)
    return np.ascontiguousarray(np.stack(channels), dtype=np.float32), window


def classifier_input_hash(plan: ClassificationPlan, size: Three) -> str:
    """Hash the part of a plan that the bytes of an input depend on, as 16 hexadecimal digits."""
    parts = {
        "version": _INPUT_VERSION,
        "channels": plan.channels,
        "dimensions": plan.dimensions.value,
        "orientation": plan.orientation.value,
        "region": plan.region.value.model_dump(mode="json"),
        "spacing": plan.spacing.value,
        "patch": plan.patch.value,
        "normalisation": [one.model_dump(mode="json") for one in plan.normalisation.value],
        "size": size,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _find_window(
    source: Geometry,
    plan: ClassificationPlan,
    mask: NDArray[np.bool_] | None,
    centre_mm: Sequence[float] | None,
    size: Three,
) -> InputWindow:
    """Find the window in the reoriented source: its start, and its step in voxels."""
    turned = reorient_geometry(source, plan.orientation.value)
    region, flat = plan.region.value, plan.dimensions.value == 2
    shape, own = np.array(turned.shape), np.array(turned.spacing)
    target = np.array(plan.spacing.value or own)
    if region.kind == "whole":  # mm an input voxel, so that all of it fits
        extents = shape * own / np.array(plan.patch.value)
        target = np.full(3, float(extents[1 if flat else 0 :].max()))
    if flat:
        target[0] = own[0]  # a picture is one slice thick, whatever its scale
    centre = _find_centre(region.kind, turned, mask, centre_mm)
    step = target / own
    start = centre - (np.array(size) - 1) / 2 * step
    z, y, x = (float(one) for one in start)
    dz, dy, dx = (float(one) for one in step)
    return InputWindow(source, plan.orientation.value, (z, y, x), (dz, dy, dx), size)


def _find_centre(
    kind: str,
    turned: Geometry,
    mask: NDArray[np.bool_] | None,
    point: Sequence[float] | None,
) -> NDArray[np.float64]:
    """Return the fractional index (z, y, x) of the window's centre."""
    if kind == "mask":
        if mask is None or not mask.any():
            raise DataError(
                "there is no mask of the region to classify",
                needed="a mask for every case, as the model was trained with",
                cure="give the data set's table, with a column mask, or a folder with masks/"
                " beside images/",
            )
        spans = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        return np.array([(span[0] + span[-1]) / 2 for span in spans])
    if kind != "centre":
        return (np.array(turned.shape) - 1) / 2
    if point is None:
        raise DataError(
            "there is no centre point of the region to classify",
            needed="centre_x, centre_y and centre_z (LPS mm) for every case, as in training",
            cure="give the data set's table, with these columns",
        )
    index = turned.world_to_index(np.asarray(point, dtype=np.float64))
    if np.any(index < -0.5) or np.any(index > np.array(turned.shape) - 0.5):
        raise GeometryError(
            f"the point {tuple(float(x) for x in point)} mm lies outside the image",
            needed="a point in the image, in LPS mm (x, y, z)",
            cure="correct the point; negate x and y of coordinates as NIfTI has them",
        )
    return np.asarray(index)


def _read(channel: NDArray[np.float32], window: InputWindow) -> NDArray[np.float32]:
    """Read one channel (Z, Y, X) at the window's points."""
    block = channel
    for axis in range(3):
        at = window.start[axis] + np.arange(window.shape[axis]) * window.step[axis]
        margin = 4 * window.step[axis] + 2  # what smoothing reaches
        low = int(np.clip(np.floor(at[0] - margin), 0, block.shape[axis] - 1))
        high = int(np.clip(np.ceil(at[-1] + margin) + 1, low + 1, block.shape[axis]))
        block = block[(slice(None),) * axis + (slice(low, high),)]
        if window.step[axis] > 1 and block.shape[axis] > 1:
            block = ndimage.gaussian_filter1d(
                block, (window.step[axis] - 1) / 2, axis=axis, mode="nearest"
            )
        block = _read_along(block, np.asarray(at - low, dtype=np.float64), axis)
    return block


def _read_along(
    array: NDArray[np.float32], at: NDArray[np.float64], axis: int
) -> NDArray[np.float32]:
    """Linear interpolation at fractional indices along one axis; the border is repeated."""
    last = array.shape[axis] - 1
    clipped = np.clip(at, 0, last)
    low = np.floor(clipped).astype(np.intp)
    high = np.minimum(low + 1, last)
    weight = _along((clipped - low).astype(np.float32), axis)
    lower = np.take(array, low, axis=axis)
    return np.asarray(lower + weight * (np.take(array, high, axis=axis) - lower), dtype=np.float32)


def _along(values: NDArray[Value], axis: int) -> NDArray[Value]:
    """Lay values (n,) along an axis of (Z, Y, X)."""
    return values.reshape([-1 if one == axis else 1 for one in range(3)])
