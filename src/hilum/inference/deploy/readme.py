"""README.md of an exported folder, for the engineer who installs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.inference.engines.choose import ENGINES
from hilum.inference.manifest import hilum_version
from hilum.inference.model_card import markdown_template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.inference.deploy.exported import Quantisation
    from hilum.inference.trained_model import TrainedModel


def readme(
    model: TrainedModel, engines: Sequence[str], stored: str, record: Quantisation | None
) -> str:
    """The page as Markdown."""
    return markdown_template("hilum.inference.deploy", "README.md.j2").render(
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
