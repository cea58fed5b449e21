"""The score of one case: every metric of every region."""

from __future__ import annotations

import math
from collections.abc import Mapping  # noqa: TC003  pydantic reads scores back
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Unpack

import numpy as np

from hilum.errors import GeometryError, LabelError, some
from hilum.evaluation.metric_table import METRICS, nsd_name
from hilum.evaluation.segmentation.scoring import ScoringRules
from hilum.metrics import (
    PeerValue,
    boundary_iou,
    cldice,
    components,
    count_lesions,
    match_objects,
    object_overlaps,
    overlap,
    peer_values,
    surface_distances,
    volume_ml,
)
from hilum.metrics.masks import steps_within
from hilum.metrics.overlap import ratio
from hilum.volume import label_boxes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.evaluation.segmentation.scoring import Scoring
    from hilum.metrics import SurfaceDistances
    from hilum.volume import LabelTable, Region

    Mask = NDArray[np.bool_]
    Labels = NDArray[np.integer]
    Box = tuple[slice, slice, slice]


@dataclass(frozen=True, kw_only=True)
class Score:
    """Every metric of one region of one case.

    NaN is undefined (docs/explanation/metrics.md says when).

    Args:
        region: name of the label or region.
        case: case id; "" where the caller has not said.
        patient: whose case it is; None where nobody knows, and the case then counts as a patient of
            its own.
        dice: 0..1.
        iou: intersection over union, 0..1.
        nsd: normalised surface distance at the tolerance, 0..1.
        hd95: 95th percentile of the Hausdorff distance, mm; the image's diagonal, the largest
            distance that there can be, where only one of the two has the region.
        hd: Hausdorff distance, mm; the same rule for this and the following distances.
        assd: average symmetric surface distance, mm: the mean over both surfaces together.
        masd: mean average surface distance, mm: the mean of both directions' means.
        volume_reference_ml: volume of the reference.
        volume_prediction_ml: volume of the prediction.
        volume_error_ml: prediction minus reference.
        volume_error_absolute_ml: its size.
        volume_error_relative: the error as a fraction of the reference.
        lesions_reference: connected components of the reference.
        lesions_found: those of them that were found.
        lesions_predicted: connected components of the prediction.
        lesions_real: those of them that lie on a lesion.
        lesion_recall: found / reference.
        lesion_precision: real / predicted.
        lesion_f1: harmonic mean of both.
        pq: panoptic quality of the components, matched where their IoU is above 0.5.
        sq: segmentation quality: mean IoU of the matched ones.
        rq: recognition quality: F1 of the components at that IoU.
        half_voxel_dice: Dice that the reference would have with a border half a voxel further out:
            how much of the metric is decided by the grid.
        roundness: 1 where the reference consists of balls (discs), less the longer or flatter its
            pieces are: the surface of balls as large as these over their own, cubed (of discs
            squared).
        further: by name, metrics that were asked for, see `Scoring`.
        peers: what other tools print, where it was asked for.
    """

    region: str
    case: str = ""
    patient: str | None = None
    dice: float
    iou: float
    nsd: float
    hd95: float
    hd: float
    assd: float
    masd: float
    volume_reference_ml: float
    volume_prediction_ml: float
    volume_error_ml: float
    volume_error_absolute_ml: float
    volume_error_relative: float
    lesions_reference: int
    lesions_found: int
    lesions_predicted: int
    lesions_real: int
    lesion_recall: float
    lesion_precision: float
    lesion_f1: float
    pq: float = math.nan
    sq: float = math.nan
    rq: float = math.nan
    half_voxel_dice: float = math.nan
    roundness: float = math.nan
    further: Mapping[str, float] = field(default_factory=dict, hash=False)
    peers: tuple[PeerValue, ...] = field(default=(), repr=False, compare=False)

    def __getitem__(self, metric: str) -> float:
        """Return a metric by its name.

        Raises:
            KeyError: there is no such metric in this score.
        """
        if metric in self.further:
            return self.further[metric]
        if metric not in METRICS:
            raise KeyError(metric)
        return float(getattr(self, metric))

    @property
    def one_sided(self) -> bool:
        """Only the reference has the region (it was missed), or only the prediction has it."""
        return (self.volume_reference_ml > 0) != (self.volume_prediction_ml > 0)

    @property
    def group(self) -> str:
        """Group that the bootstrap resamples: the patient, or the case if none is known."""
        return f"case {self.case}" if self.patient is None else f"patient {self.patient}"


_SHOWN = 10
OBJECTS = "objects"
"""Region of all instances together, where nobody names them."""


def score_labels(
    prediction: Labels,
    reference: Labels,
    *,
    spacing: Sequence[float],
    table: LabelTable,
    case: str = "",
    patient: str | None = None,
    **how: Unpack[Scoring],
) -> tuple[Score, ...]:
    """Score a label map against a reference: one row a scored region.

    Voxels that the reference marks with the table's ignore id are scored as neither right nor
    wrong. Each region is measured in the box around its own voxels, so time follows the structures,
    not the image.

    Args:
        prediction: (Z, Y, X) integers; a 2D picture has Z = 1 and is measured in its plane.
        reference: (Z, Y, X) integers on the same grid.
        spacing: mm along (Z, Y, X).
        table: what the integers mean; its `scored` regions are the rows, in that order. Of
            instances there is one row, named after the only label, or else "objects".
        case: case id, kept in the rows.
        patient: patient id, kept in the rows.
        how: see `Scoring`.

    Raises:
        GeometryError: prediction and reference are not of one shape (Z, Y, X).
        LabelError: not integers, or a value that the table does not know.
        UsageError: a negative tolerance, an unknown metric or an impossible spacing.
    """
    rules = ScoringRules(**how)
    _check_shapes(prediction, reference)
    if rules.instances:
        ignored = None if table.ignore is None else reference == table.ignore
        if ignored is not None:
            prediction, reference = (np.where(ignored, 0, one) for one in (prediction, reference))
        pair = _Pair(prediction, reference, tuple(map(float, spacing)), table.ignore, rules)
        objects = _as_objects(prediction), _as_objects(reference)
        names = [label.name for label in table.foreground]
        name = names[0] if len(names) == 1 else OBJECTS
        row = pair.score_objects(name, *objects, ignored)
        return (replace(row, case=case, patient=patient),)
    known = {*table.ids, *([] if table.ignore is None else [table.ignore])}
    boxes = [
        _boxes("prediction", prediction, set(table.ids)),
        _boxes("reference", reference, known),
    ]
    pair = _Pair(prediction, reference, tuple(map(float, spacing)), table.ignore, rules)
    return tuple(
        replace(
            pair.score(
                region, [of[label] for of in boxes for label in region.labels if label in of]
            ),
            case=case,
            patient=patient,
        )
        for region in table.scored
    )


def _check_shapes(prediction: Labels, reference: Labels) -> None:
    """Refuse two label maps that are not of one shape (Z, Y, X).

    Raises:
        GeometryError: they are not.
    """
    if prediction.ndim != 3 or reference.ndim != 3:
        raise GeometryError(
            f"label maps of {prediction.ndim} and {reference.ndim} axes",
            needed="three axes (Z, Y, X)",
            cure="labels[np.newaxis] for a picture",
        )
    if prediction.shape != reference.shape:
        raise GeometryError(
            f"the prediction has shape {prediction.shape}, the reference {reference.shape}",
            needed="two label maps (Z, Y, X) on one grid",
            cure="resample the prediction onto the reference's grid",
        )


@dataclass(frozen=True)
class _Pair:
    """Two label maps (Z, Y, X) on one grid."""

    prediction: Labels
    reference: Labels
    spacing: tuple[float, ...]
    ignore: int | None
    rules: ScoringRules

    @property
    def diagonal_mm(self) -> float:
        """Distance between the centres of opposite corner voxels."""
        steps = (n - 1 for n in self.reference.shape)
        return math.hypot(*(n * mm for n, mm in zip(steps, self.spacing, strict=True)))

    @property
    def _margin(self) -> tuple[int, int, int]:
        """Voxels around a region that decide: one, behind an ignored rim at a boundary's width."""
        z = 0 if self.reference.shape[0] == 1 else 1
        if self.ignore is None or "boundary_iou" not in self.rules.also:
            return z, 1, 1
        steps = steps_within(self.rules.tolerances[0], self.spacing, self.reference.shape)
        return steps[0] + z, steps[1] + 1, steps[2] + 1

    def score(self, region: Region, boxes: Sequence[Box]) -> Score:
        """Return the row of one region, measured in the union of boxes and a margin around it."""
        wide = _union(boxes, margin=self._margin)
        prediction, reference = (
            reduce(np.logical_or, (labels[wide] == label for label in region.labels))  # beats isin
            for labels in (self.prediction, self.reference)
        )
        ignored = None if self.ignore is None else self.reference[wide] == self.ignore
        if ignored is not None and not ignored.any():
            ignored = None
        if ignored is not None:
            prediction, reference = prediction & ~ignored, reference & ~ignored
        objects = components(prediction)[0], components(reference)[0]
        return self.score_objects(region.name, *objects, ignored)

    def score_objects(
        self, name: str, predicted: Labels, referenced: Labels, ignored: Mask | None = None
    ) -> Score:
        """Return the row of two maps of objects (Z, Y, X), of the whole image or a part of it."""
        prediction, reference = predicted != 0, referenced != 0
        picture = self.reference.shape[0] == 1
        surfaces = surface_distances(
            prediction,
            reference,
            self.spacing,
            ignore=ignored,
            picture=picture,
            surface=self.rules.surface,
        )
        voxels, shared = overlap(prediction, reference), object_overlaps(predicted, referenced)
        found = count_lesions(shared, min_overlap=self.rules.lesion_overlap)
        matches = match_objects(shared)
        half_voxel, roundness = self._shape(shared.referenced, float(surfaces.reference_area.sum()))
        more, voxel_ml = voxels.predicted - voxels.referenced, volume_ml(1, self.spacing)
        one_sided = (voxels.predicted > 0) != (voxels.referenced > 0)
        return Score(
            region=name,
            dice=voxels.dice,
            iou=voxels.iou,
            nsd=surfaces.nsd(self.rules.tolerances[0]),
            hd95=self.diagonal_mm if one_sided else surfaces.hausdorff(95.0),
            hd=self.diagonal_mm if one_sided else surfaces.hausdorff(),
            assd=self.diagonal_mm if one_sided else surfaces.assd(),
            masd=self.diagonal_mm if one_sided else surfaces.masd(),
            volume_reference_ml=voxels.referenced * voxel_ml,
            volume_prediction_ml=voxels.predicted * voxel_ml,
            volume_error_ml=more * voxel_ml,
            volume_error_absolute_ml=abs(more) * voxel_ml,
            volume_error_relative=ratio(more, voxels.referenced),
            lesions_reference=found.reference,
            lesions_found=found.found,
            lesions_predicted=found.predicted,
            lesions_real=found.real,
            lesion_recall=found.recall,
            lesion_precision=found.precision,
            lesion_f1=found.f1,
            pq=matches.pq,
            sq=matches.sq,
            rq=matches.rq,
            half_voxel_dice=half_voxel,
            roundness=roundness,
            further=self._further(prediction, reference, ignored, surfaces),
            peers=self._peers(prediction, reference),
        )

    def _peers(self, prediction: Mask, reference: Mask) -> tuple[PeerValue, ...]:
        """Return what other tools print, where it was asked for."""
        if not self.rules.other_tools:
            return ()
        return peer_values(
            prediction,
            reference,
            self.spacing,
            tolerance_mm=self.rules.tolerances[0],
            picture=self.reference.shape[0] == 1,
        )

    def _shape(self, voxels: Labels, surface: float) -> tuple[float, float]:
        """Return `half_voxel_dice` and `roundness` of a reference, NaN where it has no surface.

        Args:
            voxels: those of each of its components or objects.
            surface: mm2; of a picture the length of its contour in mm.
        """
        if not voxels.size or not surface:
            return math.nan, math.nan
        spacing = self.spacing[1:] if self.reference.shape[0] == 1 else self.spacing
        dimensions, voxel = len(spacing), math.prod(spacing)
        sizes = voxels * voxel
        whole, layer = float(sizes.sum()), surface * voxel ** (1 / dimensions) / 2
        ball = 4 * math.pi if dimensions == 2 else 36 * math.pi
        least = float(((ball * sizes ** (dimensions - 1)) ** (1 / dimensions)).sum())  # of balls
        return 2 * whole / (2 * whole + layer), (least / surface) ** dimensions

    def _further(
        self,
        prediction: Mask,
        reference: Mask,
        ignored: Mask | None,
        surfaces: SurfaceDistances,
    ) -> dict[str, float]:
        """Return the metrics that were asked for."""
        further = {nsd_name(mm): surfaces.nsd(mm) for mm in self.rules.tolerances[1:]}
        if "boundary_iou" in self.rules.also:
            further["boundary_iou"] = boundary_iou(
                prediction,
                reference,
                self.spacing,
                width_mm=self.rules.tolerances[0],
                ignore=ignored,
                picture=self.reference.shape[0] == 1,
            )
        if "cldice" in self.rules.also:
            further["cldice"] = cldice(prediction, reference)
        return further


def _union(boxes: Sequence[Box], *, margin: tuple[int, int, int]) -> Box:
    """Return the smallest box around boxes, and a margin around it; a corner where there is none.

    The margin may reach over the image's end.
    """
    around = [
        slice(max(min(s.start for s in axis) - more, 0), max(s.stop for s in axis) + more)
        for axis, more in zip(
            zip(*(boxes or [(slice(0, 1),) * 3]), strict=True), margin, strict=True
        )
    ]
    z, y, x = around
    return z, y, x


def _as_objects(labels: Labels) -> Labels:
    """Return a map of objects; of a mask, which has one id, its components."""
    ids = labels[labels != 0]
    one = ids.size == 0 or ids.min() == ids.max()
    return components(labels != 0)[0] if one else labels


def _boxes(name: str, labels: Labels, ids: set[int]) -> dict[int, Box]:
    """Return the box of every label above 0, found in one pass.

    Raises:
        LabelError: not integers, or a value that is none of the ids.
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise LabelError(
            f"the {name} has dtype {labels.dtype}",
            needed="integer labels",
            cure="round it, or threshold a probability",
        )
    lowest = int(labels.min(initial=0))
    found = label_boxes(labels)
    unknown = sorted({*found, lowest} - ids)
    if unknown:
        raise LabelError(
            f"the {name} holds labels that are not in the label table:"
            f" {some(map(str, unknown), shown=_SHOWN)}",
            needed=f"labels among {sorted(ids)}",
            cure="score with the label table that belongs to these files",
        )
    return found
