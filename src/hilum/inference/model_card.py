"""MODEL_CARD.md, written from plan, metrics and training (Mitchell et al., Model Cards, 2019)."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from hilum.inference.manifest import CARD, LABELS, METRICS, PLAN
from hilum.metrics.resampling import NO_INTERVAL

if TYPE_CHECKING:
    from hilum.inference.assurance import Assurance
    from hilum.inference.manifest import Facts, Metric, ModelMetrics
    from hilum.inference.voxel_calibration import VoxelCalibration
    from hilum.plan.plan import Plan


def model_texts(
    plan: Plan,
    metrics: ModelMetrics,
    facts: Facts | None,
    *,
    networks: int,
    created: str,
    assurance: Assurance | None = None,
    confidence: VoxelCalibration | None = None,
) -> dict[str, str]:
    """Write plan, labels, metrics and card of a model folder, by file name.

    The card is from the template of the plan's task.
    """

    def interval(metric: Metric) -> str:
        if metric.lower is None or metric.upper is None:
            return "" if metric.mean is None else NO_INTERVAL
        return f"{metric.lower:.4g} to {metric.upper:.4g}"

    card = markdown_template("hilum.inference.cards", f"{plan.task.value}.md.j2").render(
        plan=plan,
        metrics=metrics,
        facts=facts,
        members=networks,
        created=created,
        network=plan.network.value,
        spacing=_spacing(plan.spacing.value, plan.dimensions.value),
        number=lambda value: "not defined" if value is None else f"{value:.4g}",
        assurance=assurance,
        confidence=confidence,
        interval=interval,
    )
    texts = {
        PLAN: plan.model_dump_json(indent=2),
        LABELS: plan.table.model_dump_json(indent=2),
        METRICS: metrics.model_dump_json(indent=2),
        CARD: re.sub(r"\n{3,}", "\n\n", card),
    }
    return {name: text.rstrip("\n") + "\n" for name, text in texts.items()}


def markdown_template(package: str, name: str) -> Template:
    """Load a template of Markdown from a package, with those that it includes."""
    files = resources.files(package)
    environment = Environment(
        undefined=StrictUndefined,
        # Markdown, not HTML: _clean takes out what would break a table
        autoescape=False,  # noqa: S701
        keep_trailing_newline=True,
        finalize=_clean,
        loader=FunctionLoader(lambda name: files.joinpath(name).read_text(encoding="utf-8")),
    )
    return environment.get_template(name)


def _clean(value: object) -> object:
    """Keep names from files on one line of one table cell, and without markup."""
    if not isinstance(value, str):
        return value
    return re.sub(r"\s+", " ", value.replace("|", "/").replace("<", "&lt;"))


def _spacing(spacing: tuple[float, float, float] | None, dimensions: int) -> str:
    """Say to which spacing an image is resampled inside."""
    if spacing is None:
        own = (
            "pixels, as the training pictures have no sure scale," if dimensions == 2 else "spacing"
        )
        return f"it keeps its own {own} inside"
    return f"it is resampled to {' x '.join(f'{s:.4g}' for s in spacing)} mm (Z, Y, X) inside"
