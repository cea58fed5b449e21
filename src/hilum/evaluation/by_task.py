"""Evaluation and comparison of label maps or of classes: what a folder holds says which."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Unpack, overload

from hilum.errors import DataError, UsageError, counted
from hilum.evaluation.classification.compare import class_study, scores_in_order
from hilum.evaluation.classification.evaluation import ClassEvaluation
from hilum.evaluation.classification.folder import evaluate_classes
from hilum.evaluation.comparison import known_margins
from hilum.evaluation.metric_table import CLASS_METRICS
from hilum.evaluation.page import some
from hilum.evaluation.saved import (
    CASES,
    ESTIMATES,
    OTHER_TOOLS,
    SUMMARY,
    SUMMARY_TEXT,
    read_record,
)
from hilum.evaluation.segmentation.compare import COMPARED, label_map_study
from hilum.evaluation.segmentation.evaluation import Evaluation, EvaluationRecord
from hilum.evaluation.segmentation.folder import evaluate_folder
from hilum.evaluation.segmentation.scoring import Scoring
from hilum.evaluation.study import compare_two, model_names, rank_models
from hilum.files import OutputFolder, nearest
from hilum.targets.predictions import predictions_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hilum.dataset import Dataset
    from hilum.evaluation.comparison import Comparison, Ranking
    from hilum.metrics import Resampling

AnyEvaluation = Evaluation | ClassEvaluation
Model: TypeAlias = AnyEvaluation | Path | str | Sequence[AnyEvaluation | Path | str]
"""An evaluation of a model, or the folder of one; of several runs of it a sequence of them."""

_NEEDED = (
    "a predictions.csv with the columns case and p_<class>, or a folder of label maps named"
    " <case>.nii.gz (.nrrd, .mha, .png, ...)"
)


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Options of an evaluation; each task takes those that concern it.

    Args:
        allow_missing: leave reference cases without a prediction out, and name them, instead of
            refusing.
        cross_validated: the cases are those of the folds that the models were trained on, which is
            said beside the figures.
        patients: of label maps: whose each case is, of cases of which the reference does not know.
        scoring: of label maps: how they are scored.
        threads: of label maps: cases scored at once.
        progress: of label maps: called with (cases done, cases in all, case id).
        threshold: of two classes, or of findings: an operating point, the probability from which
            one is called.
        positive: of two classes: which is the positive one; None: as the predictions have it.
        subgroups: columns of the reference whose subgroups are looked at; None takes those that
            describe a case.
        inputs: further files that were read for it, and so are not written over.
    """

    allow_missing: bool = False
    cross_validated: bool = False
    patients: Mapping[str, str] | None = None
    scoring: Scoring = field(default_factory=Scoring)
    threads: int = 2
    progress: Callable[[int, int, str], None] | None = None
    threshold: float | None = None
    subgroups: Sequence[str] | None = None
    positive: str | None = None
    inputs: Sequence[Path] = ()


def evaluate(
    predictions: Path | str,
    reference: Path | str | Dataset,
    out: Path | str,
    options: EvaluationOptions | None = None,
) -> AnyEvaluation:
    """Score predictions against a reference, and write the folder of the evaluation.

    Args:
        predictions: a folder of label maps, or a predictions.csv or the folder that holds one.
        reference: the reference, see `evaluate_folder` and `evaluate_classes`.
        out: folder for the results.
        options: further options.

    Raises:
        UsageError: the place holds no predictions, or files in `out` that no evaluation wrote are
            in the way.
        ResourceError: another process writes to `out`.
        HilumError: see `evaluate_folder` and `evaluate_classes`.
    """
    place = Path(predictions)
    against = Path(reference) if isinstance(reference, str) else reference
    options = options or EvaluationOptions()
    classes = predictions_file(place).is_file()
    if not classes and not (place.is_dir() and any(p.is_file() for p in place.glob("[!.]*"))):
        raise UsageError(
            f"there are no predictions in {place}"
            if place.exists()
            else f"{place} is not a folder",
            needed=_NEEDED,
            cure="" if place.exists() else nearest(place),
        )
    inputs = [place, against if isinstance(against, Path) else against.root, *options.inputs]
    outputs = [CASES, ESTIMATES, SUMMARY_TEXT, SUMMARY]
    outputs += [OTHER_TOOLS] if options.scoring.get("other_tools") else []
    outputs += ["curves.json", "curves.png", "confusion.png"] if classes else []
    with OutputFolder(out, "evaluate", inputs=inputs) as folder:
        folder.refuse_foreign(outputs)
        if classes:
            return evaluate_classes(
                place,
                against,
                folder.path,
                positive=options.positive,
                allow_missing=options.allow_missing,
                cross_validated=options.cross_validated,
                threshold=options.threshold,
                subgroups=options.subgroups,
            )
        if options.threshold is not None:
            raise UsageError(
                f"threshold={options.threshold:g} does not apply to label maps",
                needed="predictions of classes, for a threshold of probabilities",
                cure=f"leave out threshold={options.threshold:g}",
            )
        return evaluate_folder(
            place,
            against,
            folder.path,
            patients=options.patients,
            subgroups=options.subgroups,
            allow_missing=options.allow_missing,
            cross_validated=options.cross_validated,
            threads=options.threads,
            progress=options.progress,
            **options.scoring,
        )


def load_evaluation(folder: Path | str) -> AnyEvaluation:
    """Read the evaluation that `evaluate` wrote.

    Raises:
        UsageError: the folder holds no evaluation.
        DataError: its files are damaged, or of another version or kind.
    """
    file = Path(folder) / SUMMARY
    if not file.is_file():
        read_record(folder, EvaluationRecord)  # raises: it names the missing file
    kinds: dict[str, type[AnyEvaluation]] = {
        "hilum-class-evaluation": ClassEvaluation,
        "hilum-evaluation": Evaluation,
    }
    try:
        kind = kinds[json.loads(file.read_text(encoding="utf-8"))["format"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} is no evaluation, or damaged: {error!r}",
            needed=f"a summary.json of `hilum evaluate`, whose format is {' or '.join(kinds)}",
            cure="evaluate again with this version of hilum",
        ) from error
    return kind.load(folder)


@overload
def compare(
    a: AnyEvaluation | Path | str,
    b: AnyEvaluation | Path | str,
    /,
    *,
    margins: Mapping[str, float] | None = None,
    **how: Unpack[Resampling],
) -> Comparison: ...


@overload
def compare(
    *models: Model, margins: Mapping[str, float] | None = None, **how: Unpack[Resampling]
) -> Comparison | Ranking: ...


def compare(
    *models: Model, margins: Mapping[str, float] | None = None, **how: Unpack[Resampling]
) -> Comparison | Ranking:
    """Compare models, or runs of models, by evaluations of one kind of the same cases.

    Args:
        models: of each model an evaluation, or the folder of one; of several runs of it (such as
            other seeds) a sequence of them.
        margins: by metric ("dice": 0.01) the largest difference that does not matter: of these
            metrics equivalence is tested.
        how: see `hilum.metrics.Resampling`.

    Returns:
        Of two models of one run each a `Comparison`, of all else a `Ranking`.

    Raises:
        UsageError: nothing to compare, a folder that holds no evaluation, or evaluations of
            different kinds, tolerances or classes.
        DataError: they share no case, or do not agree on its label or patient.
    """
    runs = [[_loaded(run) for run in _runs_of(model)] for model in models]
    flat = [run for model in runs for run in model]
    if len(flat) < 2 or not all(runs):
        raise UsageError(
            f"there is {counted(len(flat), 'evaluation')}",
            needed="two models, or two runs of one",
            cure="give the evaluations of both",
        )
    names = [[run.record.predictions for run in model] for model in runs]
    of_maps = [[run for run in model if isinstance(run, Evaluation)] for model in runs]
    of_classes = [[run for run in model if isinstance(run, ClassEvaluation)] for model in runs]
    if of_maps == runs:
        margins = known_margins(margins, COMPARED)
        study = label_map_study(of_maps, how)
    elif of_classes == runs:
        margins = known_margins(margins, CLASS_METRICS)
        table = of_classes[0][0].classes
        scores = [[scores_in_order(table, run) for run in model] for model in of_classes]
        study = class_study(scores, table, names, how)
    else:
        raise UsageError(
            f"{some([name for model in names for name in model])} are of different kinds: label"
            " maps and classes",
            needed="evaluations of the same kind of predictions",
            cure="compare evaluations of models that predict the same",
        )
    if len(models) == len(flat) == 2:
        return compare_two(study, margins, how)
    folders = [[_folder_of(run) for run in _runs_of(model)] for model in models]
    return rank_models(study, model_names(folders), margins, how)


def _runs_of(model: Model) -> Sequence[AnyEvaluation | Path | str]:
    return [model] if isinstance(model, AnyEvaluation | Path | str) else model


def _folder_of(run: AnyEvaluation | Path | str) -> str:
    """Return the folder that a run was given by, or else that of its predictions."""
    return run.record.predictions if isinstance(run, AnyEvaluation) else str(run)


def _loaded(run: AnyEvaluation | Path | str) -> AnyEvaluation:
    return run if isinstance(run, AnyEvaluation) else load_evaluation(run)
