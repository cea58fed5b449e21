"""Measurements of one case: sizes, intensities and labels, and samples to pool over cases."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from hilum.errors import DataError, GeometryError, LabelError, counted
from hilum.plan.plan import Record, Three
from hilum.volume import Box, Volume, places_of, reorient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.volume import LabelTable

    Labels = NDArray[np.integer]

SAMPLES = 10_000
"""Voxels drawn per case and channel, under the annotation and over the whole image each."""


class Intensities(Record):
    """Statistics of intensities: `p00_5`, `p50` and `p99_5` are percentiles 0.5, 50 and 99.5."""

    count: int
    mean: float
    std: float
    minimum: float
    p00_5: float
    p50: float
    p99_5: float
    maximum: float

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> Self:
        """Measure a one-dimensional array.

        Raises:
            DataError: it is empty.
        """
        if not values.size:
            raise DataError(
                "the image has no voxel whose intensity could be measured",
                needed="at least one voxel",
            )
        wide = values.astype(np.float64)
        low, middle, high = (float(v) for v in np.percentile(wide, (0.5, 50.0, 99.5)))
        return cls(
            count=int(wide.size),
            mean=float(wide.mean()),
            std=float(wide.std()),
            minimum=float(wide.min()),
            p00_5=low,
            p50=middle,
            p99_5=high,
            maximum=float(wide.max()),
        )


class ChannelFacts(Record):
    """One channel of one case.

    `nonzero` is the share of voxels that are not 0, `integral` whether every sampled voxel is a
    whole number, `foreground` the intensities under the annotation (None where nothing is
    annotated).
    """

    minimum: float
    maximum: float
    nonzero: float
    integral: bool
    foreground: Intensities | None


class LabelFacts(Record):
    """One label in one case.

    `components` counts 26-connected pieces; `piece_ml` is the volume of the typical one: half of
    the label's voxels lie in pieces that are not larger (specks hardly count); `centroid` is the
    centre of mass as a fraction 0..1 of the image along (Z, Y, X).
    """

    id: int
    voxels: int
    volume_ml: float
    components: int
    piece_ml: float
    centroid: tuple[float, float, float]


class CaseFacts(Record):
    """One case in the orientation SPL (single pictures: as stored), array order (Z, Y, X).

    `orientation` is how it is stored.

    `nonzero_shape` is the shape of the box around all voxels that are not 0 in some channel (1, 1,
    1 for an all-zero image). `labels` lists the labels that occur, by id, without background and
    ignore.
    """

    id: str
    shape: Three
    spacing: tuple[float, float, float]
    orientation: str
    nonzero_shape: Three
    channels: tuple[ChannelFacts, ...]
    labels: tuple[LabelFacts, ...]
    annotated: bool
    label: str | None = None
    """The class, where cases are classified."""
    region_mm: tuple[float, float, float] | None = None
    """Extent along (Z, Y, X) of the mask that says where to look, where cases are classified and
    have one."""
    centred: bool = False
    """True if the data set gives the point to look at."""


@dataclass(frozen=True)
class CaseSamples:
    """A case's facts with its sampled intensities, one array (n,) a channel."""

    facts: CaseFacts
    foreground: tuple[NDArray[np.float32], ...]
    whole: tuple[NDArray[np.float32], ...]


def measure_case(
    case_id: str,
    image: Volume,
    annotation: Volume | None,
    *,
    table: LabelTable,
    channels: Sequence[str],
) -> CaseSamples:
    """Measure one case.

    Args:
        case_id: seeds the sampling, and is named in errors.
        image: (C, Z, Y, X) in any orientation.
        annotation: (1, Z, Y, X) integers on the same grid, or None.
        table: what the integers mean.
        channels: names of the C channels.

    Raises:
        DataError: the image has another number of channels, or NaN or infinite voxels.
        GeometryError: the annotation lies on another grid.
        LabelError: it holds labels that the table does not know.
    """
    if image.channels != len(channels):
        raise DataError(
            f"case {case_id} has {counted(image.channels, 'channel')}",
            needed=f"{len(channels)} channels ({', '.join(channels)})",
            cure="add the missing channels, or leave the case out",
        )
    code = "source" if image.geometry.is_2d else "SPL"
    turned = reorient(image, code)
    array = turned.array
    labels: Labels | None = None
    if annotation is not None:
        if not image.geometry.is_close(annotation.geometry, tolerance_voxels=0.05):
            raise GeometryError(
                f"case {case_id}: the annotation (shape {annotation.geometry.shape}) does not lie"
                f" on the image's grid (shape {image.geometry.shape})",
                needed="one grid for image and annotation",
                cure="hilum check DATA --fix DIR",
            )
        labels = reorient(Volume(annotation.array, image.geometry), code).array[0]  # (Z, Y, X)
    box = Box.around((array != 0).any(axis=0))
    counts = _label_counts(case_id, labels, table)
    known = sorted(i for i in counts if i not in (0, table.ignore))
    generator = np.random.default_rng(zlib.crc32(case_id.encode()))
    inside, whole = _sample_voxels(labels, known, array.shape[1:], generator)
    foreground_samples = tuple(channel.flat[inside].astype(np.float32) for channel in array)
    whole_samples = tuple(channel.flat[whole].astype(np.float32) for channel in array)
    if not all(np.isfinite(one).all() for one in array):
        raise DataError(
            f"case {case_id} has voxels that are NaN or infinite",
            needed="finite intensities",
            cure="hilum check DATA --fix DIR",
        )
    facts = CaseFacts(
        id=case_id,
        shape=turned.geometry.shape,
        spacing=turned.geometry.spacing,
        orientation=image.geometry.orientation,
        nonzero_shape=(1, 1, 1) if box is None else box.shape,
        channels=tuple(
            ChannelFacts(
                minimum=float(channel.min()),
                maximum=float(channel.max()),
                nonzero=float(np.count_nonzero(channel) / channel.size),
                integral=bool((sampled == np.rint(sampled)).all()),
                foreground=Intensities.of(annotated) if annotated.size else None,
            )
            for channel, annotated, sampled in zip(
                array, foreground_samples, whole_samples, strict=True
            )
        ),
        labels=_label_facts(labels, known, counts, turned.geometry.voxel_volume_mm3),
        annotated=annotation is not None,
    )
    return CaseSamples(facts, foreground_samples, whole_samples)


def _label_counts(case_id: str, labels: Labels | None, table: LabelTable) -> dict[int, int]:
    """Count the voxels of every value that occurs."""
    if labels is None:
        return {}
    if labels.min() < 0 or labels.max() > 65535:
        values, counts = np.unique(labels, return_counts=True)
    else:  # counted plane by plane in little memory
        size = int(labels.max()) + 1
        all_counts = np.sum([np.bincount(one.ravel(), minlength=size) for one in labels], axis=0)
        values = np.flatnonzero(all_counts)
        counts = all_counts[values]
    known = {*table.ids, *(() if table.ignore is None else (table.ignore,))}
    unknown = sorted({int(v) for v in values} - known)
    if unknown:
        raise LabelError(
            f"case {case_id} holds labels {unknown[:5]} that the label table does not know",
            needed=f"labels among {sorted(known)}",
            cure="hilum check DATA lists every such case",
        )
    return {int(v): int(n) for v, n in zip(values, counts, strict=True)}


def _sample_voxels(
    labels: Labels | None,
    ids: Sequence[int],
    shape: tuple[int, ...],
    generator: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sample flat indices of voxels, under the annotation and of the whole image."""
    size = int(np.prod(shape))
    whole = np.arange(size) if size <= SAMPLES else np.sort(generator.integers(0, size, SAMPLES))
    if labels is None or not ids:
        return np.empty(0, dtype=np.int64), whole
    inside = np.flatnonzero(np.isin(labels, ids))
    if inside.size > SAMPLES:
        inside = inside[np.sort(generator.integers(0, inside.size, SAMPLES))]
    return inside, whole


def _label_facts(
    labels: Labels | None, ids: Sequence[int], counts: dict[int, int], voxel_mm3: float
) -> tuple[LabelFacts, ...]:
    """Measure each label's voxels, volume, pieces and place."""
    import cc3d
    from scipy import ndimage

    box = Box.around(np.isin(labels, ids)) if labels is not None and ids else None
    if labels is None or box is None:
        return ()  # nothing annotated
    part = labels[box.slices]
    small = places_of(part, ids) + 1  # 0 where none of them is
    pieces = cc3d.connected_components(small, connectivity=26)
    sizes = np.bincount(pieces.ravel())
    of_piece = np.zeros(int(pieces.max()) + 1, dtype=np.int64)
    of_piece[pieces.ravel()] = small.ravel()  # every piece holds one label only
    extents = ndimage.find_objects(small)
    facts = []
    for number, (i, extent) in enumerate(zip(ids, extents, strict=True), start=1):
        offset = [at.start + start for at, start in zip(extent, box.start, strict=True)]
        indices = np.nonzero(small[extent] == number)
        centre = [
            (float(np.mean(at)) + o + 0.5) / n
            for at, o, n in zip(indices, offset, labels.shape, strict=True)
        ]
        rising = np.sort(sizes[of_piece == number])
        typical = rising[np.searchsorted(np.cumsum(rising), rising.sum() / 2)]  # by size
        facts.append(
            LabelFacts(
                id=i,
                voxels=counts[i],
                volume_ml=counts[i] * voxel_mm3 / 1000.0,
                components=len(rising),
                piece_ml=float(typical) * voxel_mm3 / 1000.0,
                centroid=(centre[0], centre[1], centre[2]),
            )
        )
    return tuple(facts)
