"""The main jobs on synthetic images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hilum import evaluation as evaluations
from hilum.api.learning import train
from hilum.api.running import predict
from hilum.api.scoring import evaluate, report
from hilum.dataset.open import Labelling
from hilum.errors import ModelError, UsageError
from hilum.files import OutputFolder

if TYPE_CHECKING:
    from hilum.evaluation import ClassEvaluation, Evaluation
    from hilum.inference import TrainedModel
    from hilum.training import Listener

_FOLDERS = (
    *("data", "model", "predictions", "evaluation", "nodules", "nodules_test"),
    *("nodule_model", "nodule_predictions", "nodule_evaluation"),
)


@dataclass(frozen=True)
class DemoResult:
    """Folders and scores that the demo left.

    Args:
        folder: everything.
        model: the segmentation model.
        evaluation: its scores on the test patients.
        classifier: the classification model.
        class_evaluation: its figures on nodules of other patients.
        pictures: what to look at.
    """

    folder: Path
    model: TrainedModel
    evaluation: Evaluation
    classifier: TrainedModel
    class_evaluation: ClassEvaluation
    pictures: tuple[Path, ...]


def demo(
    out: Path | str = "out/demo",
    *,
    minutes: float = 3.0,
    class_minutes: float = 1.0,
    listener: Listener | None = None,
) -> DemoResult:
    """Segment livers and tumours, and classify lung nodules, on synthetic CT.

    Args:
        out: a new folder.
        minutes: of training the segmentation.
        class_minutes: of training the classification.
        listener: is told what happens.

    Raises:
        UsageError: the folder is in use.
    """
    from hilum.training import Listener, TrainOptions

    listener = listener or Listener()
    out = Path(out)
    if (out / "model").exists():
        raise UsageError(
            f"{out} already holds a demo",
            needed="a new folder",
            cure=f"choose another folder: out='{out}_2'",
        )
    for limit in (minutes, class_minutes):
        TrainOptions(minutes=limit)  # refuses what is no time
    with OutputFolder(out, "demo") as folder:
        folder.refuse_foreign(_FOLDERS)
        folder.record(*_FOLDERS)
        model, evaluation = _demo_segmentation(out, minutes, listener)
        classifier, class_evaluation = _demo_classification(out, class_minutes, listener)
    pictures = [*out.glob("*predictions/pictures/*.png"), out / "nodule_evaluation" / "curves.png"]
    return DemoResult(out, model, evaluation, classifier, class_evaluation, tuple(sorted(pictures)))


def _demo_segmentation(
    out: Path, minutes: float, listener: Listener
) -> tuple[TrainedModel, Evaluation]:
    """Train, predict and evaluate a segmentation of liver and tumour."""
    from hilum.examples import make_abdomen_dataset

    listener.say(
        "Making a synthetic abdominal CT data set: 16 studies to train on, 4 test studies as DICOM"
        " series."
    )
    data = make_abdomen_dataset(
        out / "data",
        cases=16,
        tests=4,
        structures=("liver", "liver tumour"),
        progress=lambda done, total, case: listener.advance("making data", done, total, case),
    )
    model = train(data, out / "model", minutes=minutes, listener=listener)
    listener.say("Predicting the test studies from their DICOM series.")
    studies = sorted(path for path in (data / "dicomTs").iterdir() if path.is_dir())
    _predict(model, studies, out / "predictions", "predicting", listener)
    made = evaluations.evaluate_folder(out / "predictions", data / "labelsTs", out / "evaluation")
    report(out / "evaluation", out / "report.html", images=data / "dicomTs")
    report(out / "model", out / "model_report.html")
    return model, made


def _demo_classification(
    out: Path, minutes: float, listener: Listener
) -> tuple[TrainedModel, ClassEvaluation]:
    """Train, predict and evaluate a classification of lung nodules."""
    from hilum.examples import make_nodule_dataset

    listener.say(
        "Making synthetic lung nodules, benign and malignant: 60 to train on, 30 of other patients"
        " to test with."
    )
    data = make_nodule_dataset(out / "nodules", cases=60)
    tests = make_nodule_dataset(out / "nodules_test", cases=30, seed=1, prefix="test_nodule")
    labelling = Labelling(task="classification", positive="malignant")
    model = train(
        data, out / "nodule_model", labelling=labelling, minutes=minutes, listener=listener
    )
    _predict(model, [tests], out / "nodule_predictions", "predicting nodules", listener)
    made = evaluate(
        out / "nodule_predictions", tests, out / "nodule_evaluation", labelling=labelling
    )
    report(out / "nodule_evaluation", out / "nodule_report.html")
    report(out / "nodule_model", out / "nodule_model_report.html")
    if not isinstance(made, evaluations.ClassEvaluation):
        raise ModelError(
            f"{out / 'nodule_predictions'} holds no classes",
            cure="report this as a bug, with what `hilum doctor` prints",
        )
    return model, made


def _predict(
    model: TrainedModel, inputs: list[Path], out: Path, stage: str, listener: Listener
) -> None:
    """Predict into a folder, with pictures.

    Raises:
        ModelError: a case failed.
    """
    report = predict(
        model,
        inputs,
        out,
        pictures=True,
        progress=lambda outcome, done, total: listener.advance(stage, done, total, outcome.case),
    )
    for outcome in report.cases:
        if outcome.status == "failed":
            raise ModelError(
                f"the demo's own case {outcome.case} failed: {outcome.error}",
                cure="report this as a bug, with what `hilum doctor` prints",
            )
