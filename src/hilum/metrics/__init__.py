"""Metrics of predictions: arrays in, numbers out.

Of segmentation: overlap, surface distance and lesion-wise metrics of two boolean masks (Z, Y, X).
Of classification: how well scores tell classes apart, what decisions are worth, whether
probabilities mean what they say, sets that hold the class as often as they say. Intervals resample
patients. An undefined value is NaN; a table at the head of each module, and
docs/explanation/metrics.md, say when a value is undefined.
"""

from hilum.metrics.bootstrap import Interval, PairedTest, bootstrap_interval, paired_test
from hilum.metrics.calibration import (
    CalibrationCurve,
    CalibrationLine,
    calibration_curve,
    calibration_in_the_large,
    calibration_intercept,
    calibration_line,
    calibration_noise,
    calibration_slope,
    expected_calibration_error,
    top_class,
    wilson_interval,
)
from hilum.metrics.cases import indicator
from hilum.metrics.conformal import (
    SetQuality,
    conformal_threshold,
    multilabel_conformal_threshold,
    multilabel_prediction_set,
    prediction_set,
    set_quality,
)
from hilum.metrics.confusion import (
    accuracy,
    balanced_accuracy,
    confusion,
    confusion_statistic,
    f1,
    macro_f1,
    mcc,
    npv,
    ppv,
    quadratic_kappa,
    sensitivity,
    specificity,
)
from hilum.metrics.decision import DecisionCurve, net_benefit, net_benefit_at
from hilum.metrics.delong import AurocInterval, AurocTest, delong_interval, delong_test
from hilum.metrics.holm import holm
from hilum.metrics.lesion import Lesions, lesions
from hilum.metrics.overlap import (
    Overlap,
    dice,
    iou,
    overlap,
    relative_volume_error,
    volume_error_ml,
    volume_ml,
)
from hilum.metrics.proper import brier, log_loss, multiclass_brier, multiclass_log_loss
from hilum.metrics.resample import (
    IntervalRequest,
    bootstrap_difference,
    bootstrap_statistic,
    bootstrap_statistics,
)
from hilum.metrics.roc import (
    OperatingPoint,
    PrecisionRecall,
    Roc,
    auprc,
    auroc,
    macro_auroc,
    point_at_sensitivity,
    point_at_specificity,
    precision_recall_curve,
    roc_curve,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
    youden_point,
)
from hilum.metrics.surface import SurfaceDistances, assd, hausdorff, hd95, nsd, surface_distances
from hilum.metrics.temperature import Temperature, apply_temperature, fit_temperature

__all__ = [
    "AurocInterval",
    "AurocTest",
    "CalibrationCurve",
    "CalibrationLine",
    "DecisionCurve",
    "Interval",
    "IntervalRequest",
    "Lesions",
    "OperatingPoint",
    "Overlap",
    "PairedTest",
    "PrecisionRecall",
    "Roc",
    "SetQuality",
    "SurfaceDistances",
    "Temperature",
    "accuracy",
    "apply_temperature",
    "assd",
    "auprc",
    "auroc",
    "balanced_accuracy",
    "bootstrap_difference",
    "bootstrap_interval",
    "bootstrap_statistic",
    "bootstrap_statistics",
    "brier",
    "calibration_curve",
    "calibration_in_the_large",
    "calibration_intercept",
    "calibration_line",
    "calibration_noise",
    "calibration_slope",
    "conformal_threshold",
    "confusion",
    "confusion_statistic",
    "delong_interval",
    "delong_test",
    "dice",
    "expected_calibration_error",
    "f1",
    "fit_temperature",
    "hausdorff",
    "hd95",
    "holm",
    "indicator",
    "iou",
    "lesions",
    "log_loss",
    "macro_auroc",
    "macro_f1",
    "mcc",
    "multiclass_brier",
    "multiclass_log_loss",
    "multilabel_conformal_threshold",
    "multilabel_prediction_set",
    "net_benefit",
    "net_benefit_at",
    "npv",
    "nsd",
    "overlap",
    "paired_test",
    "point_at_sensitivity",
    "point_at_specificity",
    "ppv",
    "precision_recall_curve",
    "prediction_set",
    "quadratic_kappa",
    "relative_volume_error",
    "roc_curve",
    "sensitivity",
    "sensitivity_at_specificity",
    "set_quality",
    "specificity",
    "specificity_at_sensitivity",
    "surface_distances",
    "top_class",
    "volume_error_ml",
    "volume_ml",
    "wilson_interval",
    "youden_point",
]
