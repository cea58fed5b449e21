"""The plan that a training follows: the user's, or that of the resumed training."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, get_args

from hilum.dataset.classes import ClassKind
from hilum.errors import UsageError
from hilum.plan import Plan, load_plan
from hilum.plan.classification import ClassificationPlan

if TYPE_CHECKING:
    from pathlib import Path

    from hilum.dataset import ClassTable
    from hilum.plan import Overrides
    from hilum.training.options import TrainOptions

PLAN = "plan.json"


def given_plan(work: Path, options: TrainOptions) -> Plan | None:
    """Return the plan that the user gives, or the one of the training that is resumed.

    None where one is to be made.

    Raises:
        UsageError: it is no plan, or options ask for something else.
    """
    path = work / PLAN
    if options.plan is not None:
        plan, holder = (
            options.plan if isinstance(options.plan, Plan) else load_plan(options.plan),
            "the plan that is given",
        )
    elif options.resume and path.is_file():
        plan, holder = load_plan(path), "the training that is resumed"
    else:
        return None
    _refuse_another(plan, options.overrides, holder)
    if isinstance(plan, ClassificationPlan):
        _refuse_other_classes(plan.classes, options, holder)
    return plan


def _refuse_other_classes(table: ClassTable, options: TrainOptions, holder: str) -> None:
    """Refuse a kind of classes or a positive class that the plan does not have.

    Raises:
        UsageError: it is asked for.
    """
    kind = options.labelling.classes if options.labelling.classes in get_args(ClassKind) else None
    positive = table.names[-1] if table.binary else None
    for name, wanted, found in (
        ("classes", kind, table.kind),
        ("positive class", options.labelling.positive, positive),
    ):
        if wanted is not None and wanted != found:
            raise UsageError(
                f"{name} {wanted} was asked for, but {holder} has {found or 'none'}",
                needed="options that agree with it",
                cure="leave it out, or train into another folder (out) without that plan",
            )


def _refuse_another(plan: Plan, overrides: Overrides | None, holder: str) -> None:
    """Refuse decisions that differ from those of a plan that is there already.

    Raises:
        UsageError: it is not.
    """
    if overrides is None:
        return
    network = plan.network.value
    found = {name: decision.value for name, decision in plan.decisions.items()}
    found |= {"network": network.kind, "backbone": getattr(network, "backbone", None)}
    for field in fields(overrides):
        wanted = getattr(overrides, field.name)
        if wanted is not None and field.name in found and found[field.name] != wanted:
            raise UsageError(
                f"{field.name.replace('_', ' ')} {wanted} was asked for, but {holder} has"
                f" {found[field.name]}",
                needed="options that agree with it",
                cure="leave it out, or train into another folder: out='ANOTHER'",
            )
