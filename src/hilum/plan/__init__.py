"""The fingerprint of a data set, and the plan: every decision about a model with its reason."""

from hilum.plan.classification import STAGES as STAGES
from hilum.plan.classification import ClassificationPlan as ClassificationPlan
from hilum.plan.file import PLANS as PLANS
from hilum.plan.file import load_plan as load_plan
from hilum.plan.file import parse_plan as parse_plan
from hilum.plan.file import plan_schema as plan_schema
from hilum.plan.file import save_plan as save_plan
from hilum.plan.fingerprint import Fingerprint as Fingerprint
from hilum.plan.fingerprint import make_fingerprint as make_fingerprint
from hilum.plan.plan import Decision as Decision
from hilum.plan.plan import Hardware as Hardware
from hilum.plan.plan import NetworkSpec as NetworkSpec
from hilum.plan.plan import Plan as Plan
from hilum.plan.planner import Overrides as Overrides
from hilum.plan.planner import make_plan as make_plan
from hilum.plan.segmentation import SegmentationPlan as SegmentationPlan
