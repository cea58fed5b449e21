"""From a case's own grid to the network's: reorient, crop, normalise, resample."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING

import cc3d
import numpy as np

from hilum.errors import DataError, GeometryError, ResourceError, counted
from hilum.files.record import total_memory
from hilum.plan.plan import in_mm, resampled_size
from hilum.preprocess.resampling import logits_orders, resample_image, separate_axis
from hilum.preprocess.restore import Restore
from hilum.volume import Box, Volume, reorient, resample_labels_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.plan.plan import Normalisation, Plan
    from hilum.plan.segmentation import SegmentationPlan
    from hilum.volume import Geometry

_PREPROCESSING_VERSION = 1  # raised whenever the same plan would give other bytes


def preprocess_case(image: Volume, plan: SegmentationPlan) -> tuple[NDArray[np.float32], Restore]:
    """Bring a case to the network's grid and intensities.

    The order is nnU-Net's: reorient, crop, normalise, resample; statistics of a case are taken
    before resampling.

    Args:
        image: (C, Z, Y, X) with the plan's channels in the plan's order, any numeric dtype.
        plan: the decisions.

    Returns:
        a contiguous float32 array (C, Z, Y, X), and the way back.

    Raises:
        DataError: another number of channels than the plan's, or NaN or infinite voxels.
    """
    check_image(image, plan)
    code = network_orientation(image.geometry, plan)
    turned = reorient(image, code)
    box = Box.whole(turned.geometry.shape)
    if plan.crop.value != "none":  # an image that is zero everywhere is kept whole
        box = Box.around((turned.array != 0).any(axis=0)) or box
    array = np.ascontiguousarray(turned.array[(slice(None), *box.slices)], dtype=np.float32)
    if np.may_share_memory(array, image.array):
        array = array.copy()
    normalise_case(array, plan.normalisation.value)
    own, target = turned.geometry.spacing, target_spacing(turned.geometry, plan)
    how = plan.resampling.value
    shape = network_shape(turned.geometry, box, plan)
    size = 4 * image.channels * math.prod(shape)
    if size > total_memory():
        voxels, spacing = " x ".join(map(str, image.geometry.shape)), in_mm(image.geometry.spacing)
        raise ResourceError(
            f"an image of {voxels} voxels of {spacing} has {' x '.join(map(str, shape))} voxels at"
            f" the plan's spacing, {size / 2**30:.3g} GiB",
            needed=f"no more than the {total_memory() / 2**30:.3g} GiB of this machine",
            cure="correct the spacing in its header, or crop it",
        )
    restore = Restore(image.geometry, code, box, shape, logits_orders(how, target, own))
    if restore.resampled:
        array = resample_image(
            array, shape, how, plan.image_order.value, separate=separate_axis(how, own, target)
        )
    return array, restore


def check_image(image: Volume, plan: Plan) -> None:
    """Refuse an image that the plan does not fit.

    Raises:
        DataError: another number of channels than the plan's, or NaN or infinite voxels.
    """
    if image.channels != len(plan.channels):
        raise DataError(
            f"the image has {counted(image.channels, 'channel')}",
            needed=f"{len(plan.channels)} channels, in this order: {', '.join(plan.channels)}",
            cure="give every channel, in this order",
        )
    if not all(np.isfinite(channel).all() for channel in image.array):
        raise DataError(
            "the image has voxels that are NaN or infinite",
            needed="finite intensities",
            cure="give them a finite value, such as that of air: hilum check DATA --fix DIR",
        )


def preprocess_labels(labels: Volume, restore: Restore) -> NDArray[np.integer]:
    """Bring an annotation to the network's grid, along the very way of its image.

    Args:
        labels: (1, Z, Y, X) integers on the image's grid (headers may differ by rounding).
        restore: what `preprocess_case` gave for the image.

    Returns:
        (Z, Y, X) in the dtype of `labels`; where resampled, each voxel takes the label with the
        largest linear weight.

    Raises:
        GeometryError: the annotation lies on another grid.
    """
    if labels.channels != 1 or not restore.source.is_close(labels.geometry, tolerance_voxels=0.05):
        raise GeometryError(
            f"the annotation of shape {labels.array.shape} does not lie on its image's grid"
            f" {restore.source.shape}",
            needed="one grid for image and annotation",
            cure="hilum check DATA --fix DIR",
        )
    turned = reorient(Volume(labels.array, restore.source), restore.orientation)
    array = np.ascontiguousarray(turned.array[0][restore.box.slices])
    return resample_labels_array(array, restore.shape) if restore.resampled else array


def network_shape(geometry: Geometry, box: Box, plan: SegmentationPlan) -> tuple[int, int, int]:
    """Return the shape (Z, Y, X) that a box of a reoriented grid gets on the network's grid.

    A 2D plan keeps every slice: Z is never resampled. Spacings that differ by less than the plan
    says (1 %) count as the plan's.
    """
    if plan.spacing.value is None:
        return box.shape
    axes = zip(box.shape, geometry.spacing, plan.spacing.value, strict=True)
    sizes = [resampled_size(*one, same=plan.resampling.value.same) for one in axes]
    depth = box.shape[0] if plan.dimensions.value == 2 else sizes[0]
    return depth, sizes[1], sizes[2]


def target_spacing(geometry: Geometry, plan: SegmentationPlan) -> tuple[float, float, float]:
    """Return the spacing (Z, Y, X) in mm that a case is resampled to."""
    own, wanted = geometry.spacing, plan.spacing.value
    if wanted is None:
        return own
    return (own[0] if plan.dimensions.value == 2 else wanted[0]), wanted[1], wanted[2]


def network_orientation(geometry: Geometry, plan: SegmentationPlan) -> str:
    """Return the orientation that a case is brought to: the plan's, its axes in the plan's order.

    "source" where nothing moves.
    """
    code = plan.orientation.value
    if plan.axes.value == (0, 1, 2):
        return code
    letters = geometry.orientation if code == "source" else code
    return "".join(letters[axis] for axis in plan.axes.value)


def normalise_case(array: NDArray[np.float32], how: Sequence[Normalisation]) -> None:
    """Normalise all channels of an image (C, Z, Y, X) in place."""
    inside = None
    if any(one.kind == "case_filled" for one in how):
        inside = fill_holes((array != 0).any(axis=0))
    for channel, one in zip(array, how, strict=True):
        if one.kind == "case_filled" and inside is not None:
            _standardise_inside(channel, inside)
        else:
            normalise(channel, one)


def fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the holes of a mask (Z, Y, X): voxels without a path out across voxel faces."""
    pieces = cc3d.connected_components(~mask, connectivity=6)  # 0 where the mask is
    outside = np.zeros(int(pieces.max()) + 1, dtype=bool)
    for axis in range(3):
        outside[np.unique(np.take(pieces, (0, -1), axis=axis))] = True
    outside[0] = False
    return ~outside[pieces]


def normalise(channel: NDArray[np.float32], how: Normalisation) -> None:
    """Normalise one channel (Z, Y, X) in place.

    `case_filled`, which looks at all channels, is for `normalise_case`.

    A channel without contrast (standard deviation 0, or no voxel that is not 0) becomes all zeros.
    """
    if how.kind == "ct":
        np.clip(channel, how.lower, how.upper, out=channel)
        _shift_and_scale(channel, how.mean, how.std)
    elif how.kind == "unit":
        channel /= np.float32(how.upper)
    elif how.kind == "case":
        _standardise(channel)
    elif how.kind == "range":
        channel -= channel.min()
        channel /= max(channel.max(), np.float32(1e-8))
    elif how.kind == "case_nonzero":
        _standardise_inside(channel, channel != 0)


def preprocessing_hash(plan: SegmentationPlan) -> str:
    """Hash the part of a plan that preprocessed bytes depend on, as 16 hexadecimal digits."""
    parts = {
        "version": _PREPROCESSING_VERSION,
        "channels": plan.channels,
        "labels": plan.labels.model_dump(mode="json"),
        "dimensions": plan.dimensions.value,
        "orientation": plan.orientation.value,
        "crop": plan.crop.value,
        "spacing": plan.spacing.value,
        "image_order": plan.image_order.value,
        "normalisation": [one.model_dump(mode="json") for one in plan.normalisation.value],
    }
    for name in ("axes", "resampling"):
        # added where they say something, so that stores made before they were known stay good
        if getattr(plan, name).value != type(plan).model_fields[name].default.value:
            parts[name] = getattr(plan, name).model_dump(mode="json")["value"]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _standardise_inside(channel: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
    values = channel[mask]
    if values.size:
        _standardise(values)
        channel[mask] = values


def _standardise(values: NDArray[np.float32]) -> None:
    _shift_and_scale(
        values, float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    )


def _shift_and_scale(values: NDArray[np.float32], mean: float, std: float) -> None:
    values -= np.float32(mean)
    values *= np.float32(1.0 / std) if std > 1e-8 else np.float32(0.0)
