"""From a fingerprint to the plan of its task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from hilum.errors import UsageError
from hilum.plan.plan import Hardware, decide
from hilum.plan.planner.classification import plan_classification
from hilum.plan.planner.overrides import Overrides, Precision
from hilum.plan.planner.segmentation import plan_segmentation

if TYPE_CHECKING:
    from hilum.plan.fingerprint import Fingerprint
    from hilum.plan.plan import Plan
    from hilum.plan.planner.sizing import Measure


def make_plan(
    fingerprint: Fingerprint,
    hardware: Hardware | None = None,
    *,
    measure: Measure | None = None,
    precision: Precision | None = None,
    overrides: Overrides | None = None,
) -> Plan:
    """Decide everything that makes a model.

    Args:
        fingerprint: what the data look like.
        hardware: device, memory and minutes; a CPU with 8 GB and no time limit if None.
        measure: seconds of one training step for (network, patch, batch) on the device, in the
            precision given; without it steps are estimated from the number of operations.
        precision: in which the device computes; float32 if None.
        overrides: what the user fixes.

    Raises:
        UsageError: the user fixed what the task does not have, or what does not go together.
    """
    fixed = overrides or Overrides()
    fixed.refuse_foreign(fingerprint.task)
    planner = plan_segmentation if fingerprint.classes is None else plan_classification
    usual: Precision = decide("float32", "no device was given whose precision could be known")
    try:
        return planner(
            fingerprint,
            hardware or Hardware(),
            measure=measure,
            precision=precision or usual,
            overrides=fixed,
        )
    except ValidationError as error:
        if overrides is None:
            raise
        found = [problem["msg"].removeprefix("Value error, ") for problem in error.errors()]
        raise UsageError(
            f"these options contradict each other: {'; '.join(found)}",
            needed="options that fit together",
            cure="change or leave out one of those named",
        ) from error
