"""The verbs that judge: evaluate, compare, report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from hilum import dataset as datasets
from hilum import evaluation as evaluations
from hilum.errors import UsageError
from hilum.files import OutputFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.api.data import CaseProgress
    from hilum.dataset.open import Labelling
    from hilum.evaluation import ClassEvaluation, Comparison, Ranking, Scoring
    from hilum.evaluation.by_task import AnyEvaluation


def evaluate(  # noqa: PLR0913  (the verb's options, keyword-only)
    predictions: Path | str,
    reference: Path | str | datasets.Dataset,
    out: Path | str,
    *,
    allow_missing: bool = False,
    cross_validated: bool = False,
    data: Path | str | None = None,
    labelling: Labelling | None = None,
    subgroups: Sequence[str] | None = None,
    threshold: float | None = None,
    pictures: bool = True,
    progress: CaseProgress | None = None,
    **scoring: Unpack[Scoring],
) -> AnyEvaluation:
    """Score predictions against reference annotations.

    What the folder holds says whether they are label maps or classes.

    Args:
        predictions: folder of label maps named <case>.nii.gz (.nrrd, .mha, .png, ...), or of
            predictions.csv.
        reference: a data set, a folder of label maps, or a table of case and label.
        out: folder for cases.csv, estimates.csv, summary.json, summary.md, of classes curves.json,
            curves.png and confusion.png.
        allow_missing: score what is there instead of refusing when predictions are missing.
        cross_validated: the cases are those of the folds that the models were trained on: the
            figures are then called cross-validated, and optimistic. Out-of-fold predictions of
            hilum say so themselves.
        data: of label maps: a data set, or a table of case and patient, that says whose the cases
            of a plain folder are.
        labelling: where the reference's classes are, where that is not clear.
        subgroups: columns of the reference whose subgroups are looked at; None takes those that
            describe a case.
        threshold: of two classes, or of findings: the probability, chosen on other cases, from
            which one is called; sensitivity and specificity at it stand beside those of the usual
            decision.
        pictures: draw the curves of classes.
        progress: called as progress(done, total, case id).
        scoring: of label maps: tolerances, surface, further metrics, see
            `hilum.evaluation.Scoring`.

    Raises:
        HilumError: see `hilum.evaluation.evaluate`.
    """
    options = evaluations.EvaluationOptions(
        scoring=scoring,
        allow_missing=allow_missing,
        cross_validated=cross_validated,
        patients=None if data is None else datasets.known_patients(data),
        subgroups=subgroups,
        positive=None if labelling is None else labelling.positive,
        threshold=threshold,
        progress=progress,
        inputs=[Path(one) for one in (reference, data) if isinstance(one, str | Path)],
    )
    if labelling is not None and not isinstance(reference, datasets.Dataset):
        reference = labelling.open(reference)
    with OutputFolder(out, "evaluate") as folder:
        made = evaluations.evaluate(predictions, reference, out, options)
        if pictures and isinstance(made, evaluations.ClassEvaluation):
            _plot_classes(made, folder)
    return made


def plot_evaluation(folder: Path) -> None:
    """Write curves.png and confusion.png into a folder that holds an evaluation of classes."""
    if (folder / "summary.json").is_file():
        made = evaluations.load_evaluation(folder)
        if isinstance(made, evaluations.ClassEvaluation):
            with OutputFolder(folder, "evaluate") as out:
                _plot_classes(made, out)


def _plot_classes(evaluation: ClassEvaluation, out: OutputFolder) -> None:
    """Plot the curves of classes, and the confusion of exclusive ones."""
    from hilum.report import plot_confusion, plot_curves

    table = evaluation.record.summary.classes
    drawings = {"curves.png": plot_curves}
    if table.kind != "multilabel":
        drawings["confusion.png"] = plot_confusion
    for name, plot in drawings.items():
        out.refuse_foreign([name])
        plot(evaluation.scores, table, out.path / name)
        out.record(name)


def compare(
    *models: Path | str | Sequence[Path | str],
    margins: Mapping[str, float] | Sequence[str] = (),
    out: Path | str | None = None,
) -> Comparison | Ranking:
    """Compare models by evaluations of the same cases: paired tests, ranks, spread over runs.

    Args:
        models: of each model a folder that `evaluate` wrote; of several runs of it (such as other
            seeds) a sequence of them, or a text of them with commas between.
        margins: by metric ({"dice": 0.01}, or ["dice=0.01"]) the largest difference that does not
            matter: of these metrics equivalence is tested.
        out: folder for comparison.json and comparison.md.

    Returns:
        Of two models of one run each a `Comparison`, of all else a `Ranking`.

    Raises:
        HilumError: see `hilum.evaluation.compare`.
    """
    margins = margins if isinstance(margins, Mapping) else _read_margins(margins)
    runs = [_runs_of(model) for model in models]
    if out is None:
        return evaluations.compare(*runs, margins=margins)
    with OutputFolder(out, "compare") as folder:
        folder.refuse_foreign(["comparison.md", "comparison.json"])
        comparison = evaluations.compare(*runs, margins=margins)
        comparison.save(out)
    return comparison


def _runs_of(model: Path | str | Sequence[Path | str]) -> list[Path]:
    """List the folders of a model's runs; a folder may have a comma in its name."""
    if isinstance(model, Path) or (isinstance(model, str) and Path(model).exists()):
        return [Path(model)]
    return [Path(run) for run in (model.split(",") if isinstance(model, str) else model)]


def report(
    source: Path | str,
    out: Path | str,
    *,
    images: Path | str | None = None,
    plots: Path | str | None = None,
) -> None:
    """Write one HTML file of a model, a prediction run, an evaluation or a comparison.

    Args:
        source: a folder that `train`, `predict`, `evaluate` or `compare` wrote.
        out: the HTML file, which needs no network.
        images: where the images of the cases are, of predictions and of references in a plain
            folder: found as `predict` finds them.
        plots: folder for the plots as PNG and SVG and the tables as CSV and LaTeX; None for none.

    Raises:
        HilumError: the folder is none of these, or a file that no report wrote is in the way.
    """
    from hilum.inference import find_cases
    from hilum.report import write_report

    found = () if images is None else find_cases([images], ("image",), annotated=True)
    first = {case.id: next(iter(case.images.values())) for case in found}
    folder = None if plots is None else Path(plots)
    write_report(Path(source), Path(out), images=first, plots=folder)


def _read_margins(texts: Sequence[str]) -> dict[str, float]:
    """Read margins from texts such as "dice=0.01".

    Raises:
        UsageError: one that is no metric and number.
    """
    margins = {}
    for text in texts:
        metric, _, number = text.partition("=")
        try:
            margins[metric.strip()] = float(number)
        except ValueError:
            raise UsageError(
                f"margin {text!r} cannot be read",
                needed="a metric and a number",
                cure="margin dice=0.01",
            ) from None
    return margins
