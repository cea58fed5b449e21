"""From a fingerprint to a plan: one short function for each decision and its reason."""

from hilum.plan.planner.make import make_plan as make_plan
from hilum.plan.planner.overrides import Overrides as Overrides
