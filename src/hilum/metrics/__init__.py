"""Metrics of predictions: arrays in, numbers out.

Of segmentation: overlap, surface, boundary, centreline and lesion-wise metrics of two boolean
masks (Z, Y, X), panoptic quality of two maps of objects.
Of classification: how well scores tell classes apart, what decisions are worth, whether
probabilities mean what they say, sets that hold the class as often as they say. Intervals resample
patients. An undefined value is NaN; a table at the head of each module, and
docs/explanation/metrics.md, say when a value is undefined.
"""

from hilum.metrics.bootstrap import Interval as Interval
from hilum.metrics.bootstrap import IntervalRequest as IntervalRequest
from hilum.metrics.bootstrap import Resampling as Resampling
from hilum.metrics.bootstrap import bootstrap_difference as bootstrap_difference
from hilum.metrics.bootstrap import bootstrap_interval as bootstrap_interval
from hilum.metrics.bootstrap import bootstrap_statistic as bootstrap_statistic
from hilum.metrics.bootstrap import bootstrap_statistics as bootstrap_statistics
from hilum.metrics.boundary import boundary_iou as boundary_iou
from hilum.metrics.calibration import CalibrationCurve as CalibrationCurve
from hilum.metrics.calibration import calibration_curve as calibration_curve
from hilum.metrics.calibration import calibration_in_the_large as calibration_in_the_large
from hilum.metrics.calibration import calibration_intercept as calibration_intercept
from hilum.metrics.calibration import calibration_noise as calibration_noise
from hilum.metrics.calibration import calibration_slope as calibration_slope
from hilum.metrics.calibration import expected_calibration_error as expected_calibration_error
from hilum.metrics.calibration import top_class as top_class
from hilum.metrics.calibration import wilson_interval as wilson_interval
from hilum.metrics.centreline import centreline as centreline
from hilum.metrics.centreline import cldice as cldice
from hilum.metrics.conformal import SetQuality as SetQuality
from hilum.metrics.conformal import conformal_threshold as conformal_threshold
from hilum.metrics.conformal import multilabel_conformal_threshold as multilabel_conformal_threshold
from hilum.metrics.conformal import multilabel_prediction_set as multilabel_prediction_set
from hilum.metrics.conformal import prediction_set as prediction_set
from hilum.metrics.conformal import set_quality as set_quality
from hilum.metrics.confusion import accuracy as accuracy
from hilum.metrics.confusion import balanced_accuracy as balanced_accuracy
from hilum.metrics.confusion import confusion as confusion
from hilum.metrics.confusion import confusion_statistic as confusion_statistic
from hilum.metrics.confusion import f1 as f1
from hilum.metrics.confusion import macro_f1 as macro_f1
from hilum.metrics.confusion import mcc as mcc
from hilum.metrics.confusion import npv as npv
from hilum.metrics.confusion import ppv as ppv
from hilum.metrics.confusion import quadratic_kappa as quadratic_kappa
from hilum.metrics.confusion import sensitivity as sensitivity
from hilum.metrics.confusion import specificity as specificity
from hilum.metrics.decision_curve import DecisionCurve as DecisionCurve
from hilum.metrics.decision_curve import net_benefit as net_benefit
from hilum.metrics.decision_curve import net_benefit_at as net_benefit_at
from hilum.metrics.delong import AurocInterval as AurocInterval
from hilum.metrics.delong import AurocTest as AurocTest
from hilum.metrics.delong import delong_interval as delong_interval
from hilum.metrics.delong import delong_test as delong_test
from hilum.metrics.diameter import Diameter as Diameter
from hilum.metrics.diameter import Diameters as Diameters
from hilum.metrics.diameter import diameters as diameters
from hilum.metrics.diameter import widest_slice as widest_slice
from hilum.metrics.holm import holm as holm
from hilum.metrics.instances import Matches as Matches
from hilum.metrics.instances import match_instances as match_instances
from hilum.metrics.instances import match_objects as match_objects
from hilum.metrics.instances import object_overlaps as object_overlaps
from hilum.metrics.lesion import Lesions as Lesions
from hilum.metrics.lesion import components as components
from hilum.metrics.lesion import count_lesions as count_lesions
from hilum.metrics.lesion import lesions as lesions
from hilum.metrics.median import median_interval as median_interval
from hilum.metrics.overlap import Overlap as Overlap
from hilum.metrics.overlap import dice as dice
from hilum.metrics.overlap import iou as iou
from hilum.metrics.overlap import overlap as overlap
from hilum.metrics.overlap import relative_volume_error as relative_volume_error
from hilum.metrics.overlap import volume_error_ml as volume_error_ml
from hilum.metrics.overlap import volume_ml as volume_ml
from hilum.metrics.paired import PairedTest as PairedTest
from hilum.metrics.paired import equivalence_p as equivalence_p
from hilum.metrics.paired import paired_test as paired_test
from hilum.metrics.paired import patients_needed as patients_needed
from hilum.metrics.roc import OperatingPoint as OperatingPoint
from hilum.metrics.roc import PrecisionRecall as PrecisionRecall
from hilum.metrics.roc import Roc as Roc
from hilum.metrics.roc import auprc as auprc
from hilum.metrics.roc import auroc as auroc
from hilum.metrics.roc import macro_auroc as macro_auroc
from hilum.metrics.roc import point_at_sensitivity as point_at_sensitivity
from hilum.metrics.roc import point_at_specificity as point_at_specificity
from hilum.metrics.roc import precision_recall_curve as precision_recall_curve
from hilum.metrics.roc import roc_curve as roc_curve
from hilum.metrics.roc import sensitivity_at_specificity as sensitivity_at_specificity
from hilum.metrics.roc import specificity_at_sensitivity as specificity_at_sensitivity
from hilum.metrics.roc import youden_point as youden_point
from hilum.metrics.scoring_rules import brier as brier
from hilum.metrics.scoring_rules import log_loss as log_loss
from hilum.metrics.scoring_rules import multiclass_brier as multiclass_brier
from hilum.metrics.scoring_rules import multiclass_log_loss as multiclass_log_loss
from hilum.metrics.surface import Surface as Surface
from hilum.metrics.surface import SurfaceDistances as SurfaceDistances
from hilum.metrics.surface import assd as assd
from hilum.metrics.surface import hausdorff as hausdorff
from hilum.metrics.surface import hd95 as hd95
from hilum.metrics.surface import nsd as nsd
from hilum.metrics.surface import surface_distances as surface_distances
from hilum.metrics.temperature import Temperature as Temperature
from hilum.metrics.temperature import apply_temperature as apply_temperature
from hilum.metrics.temperature import fit_temperature as fit_temperature
from hilum.metrics.validation import indicator as indicator
