"""README.md of an exported folder, for the engineer who installs it."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

from hilum.inference.engines.choose import ENGINES
from hilum.inference.manifest import hilum_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.inference.deploy.exported import Quantisation
    from hilum.inference.trained_model import TrainedModel


def readme(
    model: TrainedModel, engines: Sequence[str], stored: str, record: Quantisation | None
) -> str:
    """The page as Markdown."""
    environment = Environment(undefined=StrictUndefined, autoescape=False, finalize=_clean)  # noqa: S701  (Markdown, not HTML)
    template = (
        resources.files("hilum.inference.deploy")
        .joinpath("README.md.j2")
        .read_text(encoding="utf-8")
    )
    return environment.from_string(template).render(
        plan=model.plan,
        several=len(model.plan.channels) > 1,
        source=model.id,
        version=hilum_version(),
        members=len(model.networks),
        stored=stored,
        packages=[ENGINES[engine].package for engine in engines],
        record=record,
        number=lambda value: "not defined" if value is None else f"{value:.4f}",
    )


def _clean(value: object) -> object:
    """Names come from files: keep them on one line of one table cell, and without markup."""
    return (
        re.sub(r"\s+", " ", value.replace("|", "/").replace("<", "&lt;"))
        if isinstance(value, str)
        else value
    )
