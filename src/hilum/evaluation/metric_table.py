"""Every metric of an evaluation: its title, and whether higher values are better."""

from __future__ import annotations

import math
import re
from typing import NamedTuple


class Metric(NamedTuple):
    """Title of a metric, and its direction.

    Args:
        title: its name for people.
        higher_is_better: None where neither more nor less is better.
        unscaled: its title for pictures without a physical scale; "" where it is the same.
        least: the smallest value that it can have, where an interval ends.
        most: the largest.
    """

    title: str
    higher_is_better: bool | None
    unscaled: str = ""
    least: float = -math.inf
    most: float = math.inf


LABEL_METRICS = {
    "dice": Metric("Dice", higher_is_better=True, least=0, most=1),
    "iou": Metric("IoU", higher_is_better=True, least=0, most=1),
    "nsd": Metric("NSD", higher_is_better=True, least=0, most=1),
    "hd95": Metric("HD95, mm", higher_is_better=False, unscaled="HD95, pixels", least=0),
    "hd": Metric("HD, mm", higher_is_better=False, unscaled="HD, pixels", least=0),
    "assd": Metric("ASSD, mm", higher_is_better=False, unscaled="ASSD, pixels", least=0),
    "masd": Metric("MASD, mm", higher_is_better=False, unscaled="MASD, pixels", least=0),
    "volume_error_ml": Metric(
        "volume error, ml", higher_is_better=None, unscaled="area error, 1000 pixels"
    ),
    "volume_error_absolute_ml": Metric(
        "volume error, size, ml",
        higher_is_better=False,
        unscaled="area error, size, 1000 pixels",
        least=0,
    ),
    "volume_error_relative": Metric("volume error, relative", higher_is_better=None, least=-1),
    "lesion_recall": Metric("lesion recall", higher_is_better=True, least=0, most=1),
    "lesion_precision": Metric("lesion precision", higher_is_better=True, least=0, most=1),
    "lesion_f1": Metric("lesion F1", higher_is_better=True, least=0, most=1),
    "pq": Metric("panoptic quality", higher_is_better=True, least=0, most=1),
    "sq": Metric("segmentation quality", higher_is_better=True, least=0, most=1),
    "rq": Metric("recognition quality", higher_is_better=True, least=0, most=1),
}
"""Metrics of label maps, in the order in which they are shown."""

ON_REQUEST = {
    "boundary_iou": Metric("boundary IoU", higher_is_better=True, least=0, most=1),
    "cldice": Metric("centreline Dice", higher_is_better=True, least=0, most=1),
}
"""Metrics of label maps that are computed where they are asked for."""

FROC = {"froc": Metric("FROC, mean sensitivity", higher_is_better=True, least=0, most=1)}
"""Metric of all lesions together, where predictions have probabilities; see `LesionCurve`."""

_NSD = re.compile(r"nsd_(\d+(?:\.\d+)?(?:e-?\d+)?)mm")

CLASS_METRICS = {
    "auroc": Metric("AUROC", higher_is_better=True, least=0, most=1),
    "auprc": Metric("AUPRC", higher_is_better=True, least=0, most=1),
    "accuracy": Metric("accuracy", higher_is_better=True, least=0, most=1),
    "balanced_accuracy": Metric("balanced accuracy", higher_is_better=True, least=0, most=1),
    "sensitivity": Metric("sensitivity", higher_is_better=True, least=0, most=1),
    "specificity": Metric("specificity", higher_is_better=True, least=0, most=1),
    "sensitivity_at_point": Metric(
        "sensitivity at the operating point", higher_is_better=True, least=0, most=1
    ),
    "specificity_at_point": Metric(
        "specificity at the operating point", higher_is_better=True, least=0, most=1
    ),
    **{
        f"{metric}_at_{other}_{share}": Metric(
            f"{metric} at {other} 0.{share}", higher_is_better=True, least=0, most=1
        )
        for metric, other in (("sensitivity", "specificity"), ("specificity", "sensitivity"))
        for share in (90, 95)
    },
    "f1": Metric("F1", higher_is_better=True, least=0, most=1),
    "mcc": Metric("MCC", higher_is_better=True, least=-1, most=1),
    "quadratic_kappa": Metric("quadratic kappa", higher_is_better=True, least=-1, most=1),
    "mean_absolute_error": Metric("mean absolute error, grades", higher_is_better=False, least=0),
    "brier": Metric("Brier score", higher_is_better=False, least=0, most=2),
    "log_loss": Metric("log loss, nats", higher_is_better=False, least=0),
    "ece": Metric("expected calibration error", higher_is_better=False, least=0, most=1),
    "ece_noise": Metric("calibration error by chance alone", higher_is_better=None),
    "calibration_slope": Metric("calibration slope", higher_is_better=None),
    "calibration_intercept": Metric("calibration intercept", higher_is_better=None),
    "calibration_in_the_large": Metric("calibration in the large", higher_is_better=None),
    "coverage": Metric("coverage of the prediction sets", higher_is_better=None),
    "set_size": Metric("classes in a prediction set", higher_is_better=None),
}
"""Metrics of classes, in the order in which they are shown."""

DISTANCES = ("hd95", "hd", "assd", "masd")
"""Metrics of label maps that have no value where one of the two surfaces is empty; there the
image's diagonal counts, see `Score`."""

NOT_COMPARED = ("hd", "masd", "volume_error_absolute_ml", "sq", "rq")
"""Metrics of label maps that say nearly what another one says (signed volume errors are compared by
their size): each further test would make every difference harder to show."""

LESION_METRICS = ("lesion_recall", "lesion_precision", "lesion_f1", "pq", "sq", "rq")
"""Metrics of label maps that mean something of regions with several components only."""

RATIOS = ("dice", "iou", "nsd", "auroc")
"""Metrics from 0 to 1 of which it is said how many patients would show a small difference."""

CALIBRATION = tuple(
    name for name in CLASS_METRICS if name.startswith(("brier", "log_loss", "ece", "calibration_"))
)
"""Metrics of probabilities, which calibration is to change."""

METRICS = tuple(LABEL_METRICS)
"""Names of the metrics of label maps, which are fields of `Score`."""

HIGHER_IS_BETTER = {
    name: metric.higher_is_better
    for name, metric in LABEL_METRICS.items()
    if metric.higher_is_better is not None
}
"""Direction of the metrics of label maps; signed volume errors have none and are not in it."""

_ALL = LABEL_METRICS | ON_REQUEST | FROC | CLASS_METRICS


def nsd_name(tolerance_mm: float) -> str:
    """Name the normalised surface distance at a further tolerance: nsd_0.5mm."""
    return f"nsd_{tolerance_mm:g}mm"


def metric_of(name: str) -> Metric:
    """Return the metric of a name.

    Raises:
        KeyError: there is no such metric.
    """
    found = _NSD.fullmatch(name)
    if found is None:
        return _ALL[name]
    return LABEL_METRICS["nsd"]._replace(
        title=f"NSD at {found[1]} mm", unscaled=f"NSD at {found[1]} pixels"
    )


def difference_range(name: str) -> tuple[float, float]:
    """Return the least and the largest difference of two values of a metric.

    Signed errors are compared by their size, whose differences have no end.
    """
    kind = metric_of(name)
    return kind.least - kind.most, kind.most - kind.least


def title(metric: str, *, scaled: bool = True) -> str:
    """Give a metric's name for people: with mm, or where not `scaled` with pixels."""
    known = metric_of(metric)
    return (not scaled and known.unscaled) or known.title


def higher_is_better(metric: str) -> bool:
    """Return False for metrics whose lower, or smaller absolute, values are better."""
    return bool(metric_of(metric).higher_is_better)
