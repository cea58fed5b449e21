"""The score of one case: every metric of every region."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.errors import GeometryError, LabelError, UsageError
from hilum.metrics import Lesions, Overlap, lesions, overlap, surface_distances, volume_ml
from hilum.volume import label_boxes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hilum.volume import LabelTable, Region

    Labels = NDArray[np.integer[Any]]
    Mask = NDArray[np.bool_]
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
        hd95: 95th percentile of the Hausdorff distance, mm.
        assd: average symmetric surface distance, mm.
        volume_reference_ml: volume of the reference.
        volume_prediction_ml: volume of the prediction.
        volume_error_ml: prediction minus reference.
        volume_error_relative: the same as a fraction of the reference.
        lesions_reference: connected components of the reference.
        lesions_found: those of them that were found.
        lesions_predicted: connected components of the prediction.
        lesions_real: those of them that lie on a lesion.
        lesion_recall: found / reference.
        lesion_precision: real / predicted.
        lesion_f1: harmonic mean of both.
    """

    region: str
    case: str = ""
    patient: str | None = None
    dice: float
    iou: float
    nsd: float
    hd95: float
    assd: float
    volume_reference_ml: float
    volume_prediction_ml: float
    volume_error_ml: float
    volume_error_relative: float
    lesions_reference: int
    lesions_found: int
    lesions_predicted: int
    lesions_real: int
    lesion_recall: float
    lesion_precision: float
    lesion_f1: float

    @property
    def group(self) -> str:
        """Group that the bootstrap resamples: the patient, or the case if none is known."""
        return f"case {self.case}" if self.patient is None else f"patient {self.patient}"


SCORE_FIELDS = tuple(f.name for f in fields(Score))
_SHOWN = 10
COUNT_FIELDS = ("lesions_reference", "lesions_found", "lesions_predicted", "lesions_real")


def score_labels(
    prediction: Labels,
    reference: Labels,
    *,
    spacing: Sequence[float],
    table: LabelTable,
    tolerance_mm: float = 2.0,
    case: str = "",
    patient: str | None = None,
) -> tuple[Score, ...]:
    """Score a label map against a reference: one row a scored region.

    Voxels that the reference marks with the table's ignore id are scored as neither right nor
    wrong. Each region is measured in the box around its own voxels, so time follows the structures,
    not the image.

    Args:
        prediction: (Z, Y, X) integers; a 2D picture has Z = 1 and is measured in its plane.
        reference: (Z, Y, X) integers on the same grid.
        spacing: mm along (Z, Y, X).
        table: what the integers mean; its `scored` regions are the rows, in that order.
        tolerance_mm: distance below which surfaces count as equal for the normalised surface
            distance.
        case: case id, kept in the rows.
        patient: patient id, kept in the rows.

    Raises:
        GeometryError: prediction and reference are not of one shape (Z, Y, X).
        LabelError: not integers, or a value that the table does not know.
        UsageError: a negative tolerance or an impossible spacing.
    """
    if not tolerance_mm >= 0:
        raise UsageError(f"a tolerance of {tolerance_mm} mm", needed="a tolerance of 0 mm or more")
    if prediction.shape != reference.shape or prediction.ndim != 3:
        raise GeometryError(
            f"a prediction of shape {prediction.shape} for a reference of shape {reference.shape}",
            needed="two label maps (Z, Y, X) on one grid",
            cure="resample the prediction onto the reference's grid",
        )
    boxes = _boxes("prediction", prediction, set(table.ids))
    known = set(table.ids) | ({table.ignore} if table.ignore is not None else set())
    for label, box in _boxes("reference", reference, known).items():
        boxes[label] = _union(boxes.get(label), box)
    pair = _Pair(prediction, reference, tuple(float(s) for s in spacing), table.ignore)
    return tuple(
        pair.score(region, boxes, tolerance_mm=tolerance_mm, case=case, patient=patient)
        for region in table.scored
    )


@dataclass(frozen=True)
class _Pair:
    """Two label maps (Z, Y, X) on one grid."""

    prediction: Labels
    reference: Labels
    spacing: tuple[float, ...]
    ignore: int | None

    def score(
        self,
        region: Region,
        boxes: dict[int, Box],
        *,
        tolerance_mm: float,
        case: str,
        patient: str | None,
    ) -> Score:
        """The row of one region."""
        picture = self.reference.shape[0] == 1
        box: Box | None = None
        for label in region.labels:
            if label in boxes:
                box = _union(box, boxes[label])
        prediction, reference, ignored = self._masks(
            region, box, margin=(0 if picture else 1, 1, 1)
        )
        surfaces = surface_distances(
            prediction, reference, self.spacing, ignore=ignored, picture=picture
        )
        if ignored is not None:
            prediction, reference = prediction & ~ignored, reference & ~ignored
        return _row(
            (region.name, case, patient),
            overlap(prediction, reference),
            lesions(prediction, reference),
            (surfaces.nsd(tolerance_mm), surfaces.hausdorff(95.0), surfaces.assd()),
            volume_ml(1, self.spacing),
        )

    def _masks(
        self, region: Region, box: Box | None, *, margin: tuple[int, int, int]
    ) -> tuple[Mask, Mask, Mask | None]:
        """Cut prediction, reference and ignored voxels of a region to its box.

        The box is one voxel wider where the image allows.
        """
        where = box or (slice(0, 1), slice(0, 1), slice(0, 1))
        wide = tuple(
            slice(max(s.start - m, 0), s.stop + m) for s, m in zip(where, margin, strict=True)
        )
        prediction, reference = self.prediction[wide], self.reference[wide]
        ignored = reference == self.ignore if self.ignore is not None else None
        if ignored is not None and not ignored.any():
            ignored = None
        return _mask(prediction, region), _mask(reference, region), ignored


def _row(
    who: tuple[str, str, str | None],
    voxels: Overlap,
    found: Lesions,
    surface: tuple[float, float, float],
    voxel_ml: float,
) -> Score:
    region, case, patient = who
    nsd, hd95, assd = surface
    more = voxels.predicted - voxels.referenced
    return Score(
        region=region,
        case=case,
        patient=patient,
        dice=voxels.dice,
        iou=voxels.iou,
        nsd=nsd,
        hd95=hd95,
        assd=assd,
        volume_reference_ml=voxels.referenced * voxel_ml,
        volume_prediction_ml=voxels.predicted * voxel_ml,
        volume_error_ml=more * voxel_ml,
        volume_error_relative=more / voxels.referenced if voxels.referenced else math.nan,
        lesions_reference=found.reference,
        lesions_found=found.found,
        lesions_predicted=found.predicted,
        lesions_real=found.real,
        lesion_recall=found.recall,
        lesion_precision=found.precision,
        lesion_f1=found.f1,
    )


def _mask(labels: Labels, region: Region) -> Mask:
    """Boolean mask of a region.

    Comparisons are faster than isin for the few labels that a region has.
    """
    mask = labels == region.labels[0]
    for label in region.labels[1:]:
        mask |= labels == label
    return np.asarray(mask, dtype=np.bool_)


def _boxes(name: str, labels: Labels, known: set[int]) -> dict[int, Box]:
    """Box of every label above 0, found in one pass.

    Raises:
        LabelError: not integers, or a value that is not known.
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise LabelError(
            f"a {name} of dtype {labels.dtype}",
            needed="integer labels",
            cure="round it, or threshold a probability",
        )
    lowest = int(labels.min(initial=0))
    found = label_boxes(labels)
    unknown = sorted({*found, lowest} - known)
    if unknown:
        raise LabelError(
            f"{'label' if len(unknown) == 1 else 'labels'} {', '.join(map(str, unknown[:_SHOWN]))}"
            f" in the {name}",
            needed=f"labels among {sorted(known)}",
            cure="score with the label table that belongs to these files",
        )
    return found


def _union(a: Box | None, b: Box) -> Box:
    if a is None:
        return b
    z, y, x = (slice(min(s.start, t.start), max(s.stop, t.stop)) for s, t in zip(a, b, strict=True))
    return z, y, x
