"""Plans as JSON that people edit, read with errors that name the field and the cure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema

from hilum.errors import NEWER_HILUM, FormatError, HilumError, UsageError, did_you_mean, find_named
from hilum.files import OutputFolder
from hilum.files.text import read_text
from hilum.plan.classification import ClassificationPlan
from hilum.plan.plan import PLAN_VERSION, Decision, Plan
from hilum.plan.segmentation import SegmentationPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

PLANS: dict[str, type[SegmentationPlan | ClassificationPlan]] = {
    "segmentation": SegmentationPlan,
    "classification": ClassificationPlan,
}
"""The plan of each task."""


def save_plan(plan: Plan, path: Path | str) -> None:
    """Write a plan as indented JSON, completely or not at all.

    The same plan always gives the same bytes.

    Raises:
        UsageError: a file that no plan was written to, or that was edited since, is in the way.
        ResourceError: the folder cannot be written, or another process writes to it.
    """
    with OutputFolder(Path(path).parent, "plan") as out:
        out.write({Path(path).name: plan.model_dump_json(indent=2) + "\n"})


def load_plan(path: Path | str) -> Plan:
    """Read a plan, edited by hand or not.

    A decision may be shortened to its value (`"batch": 4`): its reason is then that it was edited.

    Raises:
        UsageError: the file is missing, is no JSON or no plan, is of a newer version, or a field is
            unknown, missing or of the wrong type; every such field is named, with the name that was
            probably meant.
    """
    try:
        text = read_text(path)
    except FormatError as error:
        raise UsageError(error.found, needed="a plan", cure="hilum plan DATA writes one") from error
    return parse_plan(text, source=str(path))


def parse_plan(text: str, *, source: str = "plan") -> Plan:
    """Read a plan from JSON text; `source` names it in errors.

    Raises:
        UsageError: as `load_plan`.
    """
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{source} is no JSON: {error.msg} in line {error.lineno}, column {error.colno}",
            needed="a plan as JSON",
            cure="correct it there; `hilum plan DATA` writes a plan to begin with",
        ) from error
    fields = fields if isinstance(fields, dict) else {}
    version = fields.get("version")
    if version != PLAN_VERSION:
        newer = isinstance(version, int)
        raise UsageError(
            f"{source}: version {version!r} cannot be read",
            needed=f"a plan of version {PLAN_VERSION}",
            cure=NEWER_HILUM if newer else "hilum plan DATA",
        )
    task = fields.get("task")
    task = task.get("value") if isinstance(task, dict) else task
    kind = find_named(f"{source}: task", "", str(task), PLANS)
    try:
        return kind.model_validate_json(json.dumps(_complete(fields, kind)))
    except ValidationError as error:
        problems = [_explain(problem, kind) for problem in error.errors()]
        raise UsageError(
            f"{source}: " + "; ".join(problems),
            needed="a plan as its schema says",
            cure="hilum plan DATA writes one to begin with",
        ) from error
    except HilumError as error:  # the label table's own checks
        raise UsageError(
            f"{source}: labels: {error.found}", needed=error.needed, cure=error.cure
        ) from error


def plan_schema() -> dict[str, object]:
    """Return the JSON schema of a plan of any task, for editors and other programs.

    Shipped as `plan.schema.json` beside this file.
    """
    _, schema = models_json_schema([(kind, "validation") for kind in PLANS.values()])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Plan",
        "oneOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in PLANS.values()],
        **schema,
    }


def _complete(fields: Mapping[str, object], kind: type[Plan]) -> dict[str, object]:
    """Turn bare values of decisions into decisions."""
    whole = dict(fields)
    for name, field in kind.model_fields.items():
        decision = isinstance(field.annotation, type) and issubclass(field.annotation, Decision)
        given = whole.get(name)
        bare = not (isinstance(given, dict) and {"value", "because"} & set(given))
        if decision and name in whole and bare:
            whole[name] = {"value": given, "because": "edited by hand"}
    return whole


def _explain(problem: ErrorDetails, kind: type[Plan]) -> str:
    """Say one problem of pydantic's in our words."""
    where = problem["loc"]
    shown = ".".join(str(part) for part in where) or "the plan"
    if problem["type"] == "extra_forbidden":
        record: type[BaseModel] = kind
        for part in where[:-1]:
            if isinstance(part, str) and part in record.model_fields:
                record = _record_in(record.model_fields[part].annotation) or record
        known = list(record.model_fields)
        meant = did_you_mean(str(where[-1]), known) or f"known are {', '.join(known)}"
        return f"unknown field {shown!r}, {meant}"
    if problem["type"] == "missing":
        return f"field {shown!r} is missing"
    if problem["type"] == "value_error":
        return f"{shown}: {problem['msg'].removeprefix('Value error, ')}"
    message = problem["msg"]
    return f"{shown} is {json.dumps(problem['input'])[:60]}: {message[0].lower()}{message[1:]}"


def _record_in(annotation: object) -> type[BaseModel] | None:
    """Return the first record within an annotation such as `tuple[Normalisation, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(
        (found for part in get_args(annotation) if (found := _record_in(part)) is not None), None
    )
