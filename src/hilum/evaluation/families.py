"""The kinds of predictions that can be evaluated: what a folder holds says which one it is.

Each kind has its own scores, summary and comparison; a family says how to recognise its predictions
and how to go on. Nobody asks what task it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilum.errors import DataError, UsageError
from hilum.evaluation.classification.compare import ClassComparison, compare_class_evaluations
from hilum.evaluation.classification.evaluation import ClassEvaluation
from hilum.evaluation.classification.folder import evaluate_classes
from hilum.evaluation.segmentation import Comparison, Evaluation, evaluate_folder
from hilum.evaluation.segmentation import compare as compare_labels
from hilum.evaluation.segmentation.evaluation import SUMMARY
from hilum.io import OutputFolder, nearest
from hilum.tasks.predictions import predictions_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hilum.dataset import Dataset

AnyEvaluation = Evaluation | ClassEvaluation
AnyComparison = Comparison | ClassComparison


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Options of an evaluation; each task takes those that concern it.

    Args:
        allow_missing: leave reference cases without a prediction out, and name them, instead of
            refusing.
        patients: of label maps: whose each case is, of cases of which the reference does not know.
        tolerance_mm: of label maps: tolerance of the normalised surface distance.
        threads: of label maps: cases scored at once.
        progress: of label maps: called with (cases done, cases in all, case id).
        threshold: of two classes, or of findings: an operating point, the probability from which
            one is called.
        positive: of two classes: which is the positive one; None: as the predictions have it.
        subgroups: of classes: columns whose subgroups are looked at; None takes those that describe
            a case.
        inputs: further files that were read for it, and so are not written over.
    """

    allow_missing: bool = False
    patients: Mapping[str, str] | None = None
    tolerance_mm: float = 2.0
    threads: int = 2
    progress: Callable[[int, int, str], None] | None = None
    threshold: float | None = None
    subgroups: Sequence[str] | None = None
    positive: str | None = None
    inputs: Sequence[Path] = ()


@dataclass(frozen=True)
class Family:
    """One kind of predictions.

    Args:
        needs: what its predictions are, for people.
        recognises: whether a place holds such predictions.
        outputs: names of the files that its evaluation writes.
        evaluate: scores them against a reference into a folder.
        evaluation: what it gives, which `load` reads from that folder.
        compare: compares two of them: compare(a, b, level=, resamples=, seed=).
    """

    needs: str
    recognises: Callable[[Path], bool]
    outputs: tuple[str, ...]
    evaluate: Callable[[Path, Path | Dataset, Path, EvaluationOptions], AnyEvaluation]
    evaluation: type[AnyEvaluation]
    compare: Callable[..., AnyComparison]


def _evaluate_classes(
    predictions: Path, reference: Path | Dataset, out: Path, asked: EvaluationOptions
) -> ClassEvaluation:
    return evaluate_classes(
        predictions,
        reference,
        out,
        positive=asked.positive,
        allow_missing=asked.allow_missing,
        threshold=asked.threshold,
        subgroups=asked.subgroups,
    )


def _evaluate_label_maps(
    predictions: Path, reference: Path | Dataset, out: Path, asked: EvaluationOptions
) -> Evaluation:
    if asked.threshold is not None:
        raise UsageError(
            f"a threshold of {asked.threshold:g} for label maps",
            needed="predictions of classes, for a threshold of probabilities",
            cure="leave --threshold out",
        )
    return evaluate_folder(
        predictions,
        reference,
        out,
        tolerance_mm=asked.tolerance_mm,
        patients=asked.patients,
        allow_missing=asked.allow_missing,
        threads=asked.threads,
        progress=asked.progress,
    )


FAMILIES: dict[str, Family] = {
    "hilum-class-evaluation": Family(
        needs="a predictions.csv with the columns case and p_<class>",
        recognises=lambda place: predictions_file(place).is_file(),
        outputs=(
            "cases.csv",
            "curves.json",
            "summary.md",
            "summary.json",
            "curves.png",
            "confusion.png",
        ),
        evaluate=_evaluate_classes,
        evaluation=ClassEvaluation,
        compare=compare_class_evaluations,
    ),
    "hilum-evaluation": Family(
        needs="a folder of label maps named <case>.nii.gz (.nrrd, .mha, .png, ...)",
        recognises=lambda place: (
            place.is_dir() and any(entry.is_file() for entry in place.glob("[!.]*"))
        ),
        outputs=("cases.csv", "summary.md", "summary.json"),
        evaluate=_evaluate_label_maps,
        evaluation=Evaluation,
        compare=compare_labels,
    ),
}
"""Every kind, by the `format` that its summary.json states; the first that recognises a folder
takes it."""


def evaluate(
    predictions: Path | str,
    reference: Path | str | Dataset,
    out: Path | str,
    options: EvaluationOptions | None = None,
) -> AnyEvaluation:
    """Score predictions of any kind against a reference and write cases.csv, summary.json and summary.md.

    Args:
        predictions: a folder of label maps, or a predictions.csv or the folder that holds one.
        reference: what they are held to, see `evaluate_folder` and `evaluate_classes`.
        out: folder for the results.
        options: what is asked beyond that.

    Raises:
        UsageError: the place holds no predictions, or files in `out` that no evaluation wrote are
            in the way.
        ResourceError: another process writes to `out`.
        HilumError: see `evaluate_folder` and `evaluate_classes`.
    """
    place = Path(predictions)
    against = Path(reference) if isinstance(reference, str) else reference
    asked = options or EvaluationOptions()
    inputs = [place, against if isinstance(against, Path) else against.root, *asked.inputs]
    for family in FAMILIES.values():
        if family.recognises(place):
            with OutputFolder(out, "evaluate", inputs=inputs) as folder:
                folder.refuse_foreign(family.outputs)
                return family.evaluate(place, against, folder.path, asked)
    raise UsageError(
        f"no predictions in {place}" if place.exists() else f"{place} is no folder",
        needed=", or ".join(family.needs for family in FAMILIES.values()),
        cure="" if place.exists() else nearest(place),
    )


def load_evaluation(folder: Path | str) -> AnyEvaluation:
    """Read the evaluation of any kind that `evaluate` wrote.

    Raises:
        UsageError: the folder holds no evaluation.
        DataError: its files are damaged, or of another version or kind.
    """
    file = Path(folder) / SUMMARY
    if not file.is_file():
        return Evaluation.load(folder)  # says what is missing
    try:
        written: Any = json.loads(file.read_text(encoding="utf-8"))
        family = FAMILIES[written["format"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} is damaged or of another kind: {error!r}",
            needed=f"an evaluation: {', '.join(FAMILIES)}",
            cure="evaluate again with this version of hilum",
        ) from error
    return family.evaluation.load(folder)


def compare(
    a: AnyEvaluation | Path | str,
    b: AnyEvaluation | Path | str,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> AnyComparison:
    """Compare two evaluations of one kind case by case.

    Args:
        a: an evaluation, or the folder of one.
        b: another.
        level: coverage of the intervals.
        resamples: bootstrap draws of patients.
        seed: same seed, same intervals.

    Raises:
        UsageError: a folder holds no evaluation, or the two are of different kinds, tolerances or
            classes.
        DataError: they share no case, or do not agree on what it is.
    """
    first, second = (e if isinstance(e, AnyEvaluation) else load_evaluation(e) for e in (a, b))
    if type(first) is not type(second):
        kinds = ", or ".join(family.needs for family in FAMILIES.values())
        raise UsageError(
            "evaluations of two kinds of predictions", needed=f"two of one kind: {kinds}"
        )
    return FAMILIES[first.record.format].compare(
        first, second, level=level, resamples=resamples, seed=seed
    )
