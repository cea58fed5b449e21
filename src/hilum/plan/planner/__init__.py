"""From a fingerprint to a plan: each decision in a short function that gives a value and its reason."""

from hilum.plan.planner.make import Overrides, make_plan

__all__ = ["Overrides", "make_plan"]
