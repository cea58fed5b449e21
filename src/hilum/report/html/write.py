"""The report of a folder that hilum wrote, as one HTML file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.errors import UsageError
from hilum.evaluation import Evaluation, Ranking, load_evaluation
from hilum.evaluation.comparison import COMPARISON, load_comparison
from hilum.evaluation.saved import SUMMARY
from hilum.files import OutputFolder
from hilum.inference.manifest import MANIFEST
from hilum.report.html.classes import class_report
from hilum.report.html.comparison import comparison_report
from hilum.report.html.document import render
from hilum.report.html.export import write_plots_and_tables
from hilum.report.html.label_maps import label_map_report
from hilum.report.html.model import model_report
from hilum.report.html.model_folder import ModelFolder, is_model_folder, read_run
from hilum.report.html.ranking import ranking_report
from hilum.report.html.run import run_report
from hilum.targets.run_file import RUN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hilum.report.html.document import Document


def write_report(
    source: Path, out: Path, *, images: Mapping[str, Path] | None = None, plots: Path | None = None
) -> None:
    """Write the report of a model, a prediction run, an evaluation or a comparison.

    Args:
        source: a folder that `hilum train`, `predict`, `evaluate` or `compare` wrote.
        out: the HTML file.
        images: of each case: of predictions, and where references are a plain folder.
        plots: folder for the plots as PNG and SVG and the tables as CSV and LaTeX; None for none.

    Raises:
        UsageError: the folder is none of these, or a file that no report wrote is in the way.
        DataError: its files are damaged.
        ResourceError: the file cannot be written.
    """
    document = _document(source, images or {})
    with OutputFolder(out.parent, "report") as folder:
        folder.refuse_foreign([out.name])
        if plots is not None:
            write_plots_and_tables(document, plots)
        folder.write({out.name: render(document)})


def _document(source: Path, images: Mapping[str, Path]) -> Document:
    """Make the report of what the folder holds."""
    if (source / COMPARISON).is_file():
        comparison = load_comparison(source)
        if isinstance(comparison, Ranking):
            return ranking_report(comparison)
        return comparison_report(comparison)
    if is_model_folder(source):
        return model_report(ModelFolder.read(source))
    if not (source / SUMMARY).is_file() and (source / RUN).is_file():
        return run_report(source, read_run(source / RUN), images=images)
    if not (source / SUMMARY).is_file():
        raise UsageError(
            f"{source} holds neither {SUMMARY}, {COMPARISON}, {MANIFEST} nor {RUN}",
            needed="a folder that `hilum train`, `predict`, `evaluate` or `compare` wrote",
            cure="give the folder itself: of a model, of predictions, of an evaluation",
        )
    evaluation = load_evaluation(source)
    if isinstance(evaluation, Evaluation):
        return label_map_report(evaluation, images=images)
    return class_report(evaluation, images=images)
