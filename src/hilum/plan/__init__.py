"""The fingerprint of a data set, and the plan: every decision about a model with its reason."""

from hilum.plan.classification import ClassificationPlan
from hilum.plan.file import PLANS, load_plan, parse_plan, plan_schema, save_plan
from hilum.plan.fingerprint import Fingerprint, make_fingerprint
from hilum.plan.plan import Decision, Hardware, NetworkSpec, Plan
from hilum.plan.planner import STAGES, Overrides, make_plan
from hilum.plan.segmentation import SegmentationPlan

__all__ = [
    "PLANS",
    "STAGES",
    "ClassificationPlan",
    "Decision",
    "Fingerprint",
    "Hardware",
    "NetworkSpec",
    "Overrides",
    "Plan",
    "SegmentationPlan",
    "load_plan",
    "make_fingerprint",
    "make_plan",
    "parse_plan",
    "plan_schema",
    "save_plan",
]
