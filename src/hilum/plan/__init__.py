"""What the data look like, and every decision about a model with its reason."""

from hilum.plan.file import load_plan, parse_plan, plan_schema, save_plan
from hilum.plan.fingerprint import Fingerprint, make_fingerprint
from hilum.plan.plan import Decision, Hardware, NetworkSpec, Plan
from hilum.plan.planner import Overrides, make_plan

__all__ = [
    "Decision",
    "Fingerprint",
    "Hardware",
    "NetworkSpec",
    "Overrides",
    "Plan",
    "load_plan",
    "make_fingerprint",
    "make_plan",
    "parse_plan",
    "plan_schema",
    "save_plan",
]
