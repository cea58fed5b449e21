"""The verbs. The command line parses, calls one of these, and shows what it returns."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilum import dataset as datasets
from hilum import evaluation as evaluations
from hilum.errors import ModelError, UsageError
from hilum.plan.planner.words import Network as Network  # noqa: PLC0414  (a name of this module too, for those who train)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hilum.dataset.doctor import Finding, FixLog
    from hilum.evaluation import ClassEvaluation, Evaluation
    from hilum.evaluation.families import AnyComparison, AnyEvaluation
    from hilum.inference import CaseOutcome, ExportedModel, RunReport, TrainedModel
    from hilum.inference.forecast import Advance
    from hilum.plan import Overrides, Plan
    from hilum.training import Listener
    from hilum.training.tuning import Tuning

    CaseProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Labelling:
    """What is learnt from a data set, where that is not clear; see `hilum.open_dataset`.

    Args:
        task: "segmentation" or "classification".
        label: the column of classes, or several columns of findings.
        classes: "exclusive", "ordinal" or "multilabel", or the names of those that are learnt.
        positive: which of two classes is the positive one.
    """

    task: str | None = None
    label: str | tuple[str, ...] | None = None
    classes: str | tuple[str, ...] | None = None
    positive: str | None = None

    def open(self, data: Path | str, *, patients: str | None = None) -> datasets.Dataset:
        """Open the data set.

        Raises:
            HilumError: see `hilum.open_dataset`.
        """
        return datasets.open_dataset(
            data, patients=patients, task=self.task, label=self.label, classes=self.classes, positive=self.positive
        )


@dataclass(frozen=True)
class CheckResult:
    """What the doctor found, and what was mended.

    Args:
        findings: errors first.
        fixes: the log of the corrected copy, where one was asked for.
    """

    findings: tuple[Finding, ...]
    fixes: FixLog | None = None

    @property
    def errors(self) -> int:
        """Number of findings with which training would fail or could not be trusted."""
        return sum(finding.severity == "error" for finding in self.findings)


def check(
    data: Path | str,
    *,
    fix: Path | str | None = None,
    patients: str | None = None,
    labelling: Labelling | None = None,
    progress: CaseProgress | None = None,
) -> CheckResult:
    """Find what is wrong with a data set; on request write a corrected copy.

    Args:
        data: what `hilum.open_dataset` opens.
        fix: folder for the corrected copy and its log; the source is never changed.
        patients: a regular expression for the patient in a case's id, where no table names patients.
        labelling: what is learnt from the data set, where that is not clear.
        progress: called as progress(done, total, case id).

    Raises:
        UsageError: no such data set, or the folder for the copy is in use.
        DataError: the data set cannot be opened at all.
    """
    from hilum.dataset import doctor

    dataset = (labelling or Labelling()).open(data, patients=patients)
    findings = doctor.check(dataset, progress=progress)
    if fix is None:
        return CheckResult(findings)
    return CheckResult(findings, doctor.fix(dataset, findings, fix, progress=progress))


def plan(  # noqa: PLR0913  (the verb's options, keyword-only)
    data: Path | str,
    *,
    minutes: float | None = None,
    device: str = "auto",
    memory_gb: float | None = None,
    labelling: Labelling | None = None,
    network: Network | None = None,
    overrides: Overrides | None = None,
    out: Path | str | None = None,
    listener: Listener | None = None,
) -> Plan:
    """Make the plan of a training without training.

    Args:
        data: what `hilum.open_dataset` opens.
        minutes: wall-clock time of one fold; a few training steps are then measured to size the network.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        memory_gb: what may be used; by default what is free.
        labelling: what is learnt from the data set, where that is not clear.
        network: what is asked of a classifier's network.
        overrides: what is not for the planner to decide, beside that.
        out: file for the plan as JSON, to be edited and given to `train`.
        listener: is told what happens.

    Raises:
        HilumError: the data cannot be opened, or not be planned for.
    """
    from hilum.plan import save_plan
    from hilum.training import Listener, TrainOptions, make_plan_for

    options = TrainOptions(minutes=minutes, device=device, memory_gb=memory_gb)
    fixed = {} if overrides is None else {one.name: getattr(overrides, one.name) for one in fields(overrides)}
    asked = (network or Network()).overrides(**{name: value for name, value in fixed.items() if value is not None})
    dataset = (labelling or Labelling()).open(data)
    made = make_plan_for(dataset, options, listener=listener or Listener(), overrides=asked)
    if out is not None:
        save_plan(made, out)
    return made


def train(  # noqa: PLR0913  (the verb's options, keyword-only)
    data: Path | str,
    out: Path | str,
    *,
    labelling: Labelling | None = None,
    network: Network | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    fold: int = 0,
    folds: int | None = None,
    seed: int = 0,
    device: str = "auto",
    memory_gb: float | None = None,
    plan: Path | str | Plan | None = None,
    patients: str | None = None,
    resume: bool = False,
    listener: Listener | None = None,
) -> TrainedModel:
    """Plan, preprocess, train, validate, and write a trained-model folder.

    Args:
        data: what `hilum.open_dataset` opens.
        out: the model folder; `training/` in it holds the plan, checkpoints, logs and validation.
        labelling: what is learnt, where that is not clear from the data.
        network: what is asked of a classifier's network.
        minutes: wall-clock time of one fold, all but the look for leaks included; None leaves the length to the plan's steps.
        steps: optimiser steps instead of minutes; the run is then a function of plan, data and seed alone.
        fold: which split is trained (0 ...).
        folds: cross-validation over so many folds; the model is the ensemble of all.
        seed: of folds, initial weights, sampling and augmentation.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        memory_gb: what may be used; by default what is free.
        plan: a plan, or the file of one, instead of making one.
        patients: a regular expression for the patient in a case's id, where no table names patients.
        resume: go on where `out` stopped.
        listener: is told what happens.

    Raises:
        HilumError: see `hilum.training.run`.
    """
    from hilum.training import TrainOptions, run

    learnt = labelling or Labelling()
    options = TrainOptions(
        minutes=minutes,
        steps=steps,
        fold=fold,
        folds=folds,
        seed=seed,
        device=device,
        memory_gb=memory_gb,
        plan=Path(plan) if isinstance(plan, str) else plan,
        patients=patients,
        task=learnt.task,
        label=learnt.label,
        classes=learnt.classes,
        positive=learnt.positive,
        overrides=(network or Network()).overrides(),
        resume=resume,
    )
    return run(data, out, options, listener=listener)


def load_model(folder: Path | str, *, device: str = "auto") -> TrainedModel | ExportedModel:
    """Load a model folder, trained or exported; see `hilum.inference.load_runnable`."""
    from hilum.inference import load_runnable

    return load_runnable(folder, device=device)


def predict(  # noqa: PLR0913  (the verb's options, keyword-only)
    model: Path | str | TrainedModel | ExportedModel,
    inputs: Sequence[Path | str] | Path | str,
    out: Path | str,
    *,
    formats: Sequence[str] | None = None,
    engine: str = "auto",
    precision: str = "auto",
    memory: str | int | None = None,
    overlap: float | None = None,
    every_patch: bool = False,
    tta: bool = False,
    probabilities: bool = False,
    pictures: bool = False,
    most_pictures: int = 50,
    explain: str | None = None,
    sets_per_class: bool = False,
    skip_existing: bool = False,
    device: str = "auto",
    progress: Callable[[CaseOutcome, int, int], None] | None = None,
    advance: Callable[[Advance], None] | None = None,
) -> RunReport:
    """Predict many cases into a folder; what fails is reported and the rest go on.

    Args:
        model: a trained model or an exported one, or its folder.
        inputs: files, folders of files, DICOM folders, data sets.
        out: folder for `<case>.nii.gz`, labels.json and run.json; of a classification for predictions.csv and `<case>.json`.
        formats: among `hilum.inference.FORMATS`, of a classification `CLASS_FORMATS`; None: those usual for the task.
        engine: what runs the network: "torch", "openvino", "onnx", or "auto", the fastest that is there.
        precision: "float32", "bfloat16", "float16", "int8", or "auto", the model's where the device gains by it.
        memory: what this process may hold, as "4GB" or a number of bytes; None: three quarters of what is free.
        overlap: of a segmentation: fraction shared by neighbouring patches, 0 <= overlap < 1; the plan's if None.
        every_patch: of a segmentation: also run patches that show nothing but air or one constant; see `hilum.inference.empty`.
        tta: average over the mirrored images that the plan allows.
        probabilities: also write the probabilities.
        pictures: also draw `pictures/<case>.png`: the outlines on three slices, or where a class's answer comes from.
        most_pictures: of so many cases at most, as they are slow to draw.
        explain: of a classifier, where in the image its answer comes from: grad_cam, hires_cam or occlusion, as
            `<case>_<class>_map.nii.gz`; with `pictures` grad_cam if None.
        sets_per_class: of a classifier: prediction sets that keep their promise among the cases of each class.
        skip_existing: leave out cases that are already there.
        device: "auto", "cpu", "cuda", "cuda:1", "mps"; a model that is loaded already stays where it is.
        progress: called with each outcome, how many are done, and how many there are.
        advance: called whenever patches are done, with how far the run is and how long the rest is expected to take.

    Raises:
        HilumError: the model cannot be loaded, or an input does not exist; nothing was predicted.
    """
    from hilum.inference import find_cases, make_predictor, predict_many, read_source
    from hilum.report import DRAWINGS

    loaded: Any = load_model(model, device=device) if isinstance(model, str | Path) else model
    sources = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    task, table, out = loaded.plan.task.value, loaded.plan.answers, Path(out)
    predictor = make_predictor(
        loaded,
        tta=tta,
        **RUNNING[task](engine=engine, precision=precision, memory=memory, overlap=overlap, every_patch=every_patch),
        **EXPLANATIONS[task](explain, pictures=most_pictures if pictures else 0, sets_per_class=sets_per_class),
    )
    found = find_cases(sources, loaded.plan.channels, annotated=predictor.asks_annotated)
    cases = {case.id: case for case in found}

    drawn: list[str] = []

    def finished(outcome: CaseOutcome, done: int, total: int) -> None:
        if pictures and outcome.status == "done" and len(drawn) < most_pictures:
            drawn.append(outcome.case)
            files = [out / name for name in outcome.files]
            DRAWINGS[task](read_source(cases[outcome.case]), files, table, out / "pictures" / f"{outcome.case}.png")
        if progress is not None:
            progress(outcome, done, total)

    return predict_many(
        predictor,
        sources,
        out,
        formats=formats,
        probabilities=probabilities,
        skip_existing=skip_existing,
        progress=finished,
        advance=advance,
    )


def export(
    model: Path | str | TrainedModel,
    out: Path | str,
    *,
    formats: str = "openvino",
    precision: str = "auto",
    data: Path | str | None = None,
    gate: float | None = None,
    progress: CaseProgress | None = None,
) -> ExportedModel:
    """Write a trained model as one folder that predicts without torch, checked after it is written.

    Args:
        model: a trained segmentation model, or its folder.
        out: a new folder; `hilum predict` and `api.predict` take it like a trained model's.
        formats: "openvino", "onnx" or "both".
        precision: in which the weights are stored: "auto" and "float32", "float16", or "int8".
        data: of int8: annotated cases, from which it takes its ranges and on which it is judged.
        gate: of int8: mean Dice that a label may lose; 0.005 if None.
        progress: of int8: called as progress(done, total, case id).

    Raises:
        HilumError: see `hilum.inference.export_model`.
    """
    from hilum.inference import TrainedModel, export_model

    loaded = model if isinstance(model, TrainedModel) else TrainedModel.load(model, device="cpu")
    return export_model(loaded, out, formats=formats, precision=precision, data=data, gate=gate, progress=progress)


def tune(
    model: Path | str | TrainedModel,
    data: Path | str,
    out: Path | str,
    *,
    cases: int | None = None,
    minutes: float | None = None,
    patients: str | None = None,
    device: str = "auto",
    listener: Listener | None = None,
) -> TuneResult:
    """Learn post-processing and the overlap of patches on cases that the model was not trained on; write the model anew.

    Args:
        model: a trained segmentation model, or its folder, which stays as it is.
        data: annotated cases; of the data set that it was trained on those of its validation folds are used.
        out: a new folder for the tuned model and tuning.json.
        cases: how many to use at most, spread evenly; None: all that may be used.
        minutes: wall-clock time that may be taken; None: as long as it takes.
        patients: a regular expression for the patient in a case's id, where no table names patients.
        device: "auto", "cpu", "cuda", "cuda:1", "mps"; a model that is loaded already stays where it is.
        listener: is told what happens.

    Raises:
        HilumError: see `hilum.training.tuning.tune`.
    """
    from hilum.training.tuning import TuneOptions
    from hilum.training.tuning import tune as run_tuning

    loaded = load_model(model, device=device) if isinstance(model, str | Path) else model
    return TuneResult(*run_tuning(loaded, data, out, TuneOptions(cases, minutes, patients), listener=listener))


@dataclass(frozen=True)
class TuneResult:
    """A tuned model, and why it is what it is."""

    model: TrainedModel
    tuning: Tuning


def import_nnunet(folder: Path | str, out: Path | str, *, folds: Sequence[str] = (), checkpoint: str = "final") -> TrainedModel:
    """Turn an nnU-Net v2 model folder into a trained model that predicts what nnU-Net predicts; none of its code is run.

    Args:
        folder: with plans.json, dataset.json and fold_*/checkpoint_final.pth.
        out: folder for the model.
        folds: "0", "1", ... or "all"; several are an ensemble; () takes every numbered fold.
        checkpoint: "final" or "best".

    Raises:
        HilumError: see `hilum.inference.read_nnunet`.
    """
    from hilum.inference import read_nnunet

    return read_nnunet(folder, folds=tuple(folds), checkpoint=checkpoint).save(out)


def _no_explanation(explain: str | None, *, pictures: int, sets_per_class: bool) -> dict[str, Any]:  # noqa: ARG001  (a segmentation's own)
    if explain is not None or sets_per_class:
        asked, option = ("prediction sets", "--sets-per-class") if sets_per_class else ("an explanation", "--explain")
        raise UsageError(f"{asked} of a segmentation", needed="a classifier", cure=f"leave out {option}")
    return {}


def _explanation(explain: str | None, *, pictures: int, sets_per_class: bool) -> dict[str, Any]:
    drawn_only = {"explain": "grad_cam" if pictures else None, "most_explained": pictures}
    return {"sets_per_class": sets_per_class, **({"explain": explain} if explain else drawn_only)}


EXPLANATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "segmentation": _no_explanation,
    "classification": _explanation,
}
"""What a predictor is asked to say beside its answer, by task."""


def _patches(*, precision: str, **options: Any) -> dict[str, Any]:
    return {"precision": None if precision == "auto" else precision, **options}


def _whole_images(
    *, engine: str, precision: str, memory: str | int | None, overlap: float | None, every_patch: bool
) -> dict[str, Any]:
    asked = {"--memory": memory is not None, "--overlap": overlap is not None, "--every-patch": every_patch}
    asked["--engine"] = engine not in {"auto", "torch"}
    wrong = [option for option, given in asked.items() if given]
    if wrong:
        raise UsageError(f"{wrong[0]} of a classifier", needed="a segmentation", cure=f"leave out {wrong[0]}")
    return {"precision": None if precision == "auto" else precision}


RUNNING: dict[str, Callable[..., dict[str, Any]]] = {"segmentation": _patches, "classification": _whole_images}
"""How a predictor is asked to run its network, by task: a classifier sees one small input, which torch runs."""


def evaluate(  # noqa: PLR0913  (the verb's options, keyword-only)
    predictions: Path | str,
    reference: Path | str | datasets.Dataset,
    out: Path | str,
    *,
    tolerance_mm: float = 2.0,
    allow_missing: bool = False,
    data: Path | str | None = None,
    labelling: Labelling | None = None,
    subgroups: Sequence[str] | None = None,
    pictures: bool = True,
    progress: CaseProgress | None = None,
) -> AnyEvaluation:
    """Score predictions against reference annotations; what the folder holds says whether they are label maps or classes.

    Args:
        predictions: folder of label maps named <case>.nii.gz (.nrrd, .mha, .png, ...), or of predictions.csv.
        reference: a data set, a folder of label maps, or a table of case and label.
        out: folder for cases.csv, summary.json and summary.md, of classes also curves.png and confusion.png.
        tolerance_mm: of the normalised surface distance.
        allow_missing: score what is there instead of refusing when predictions are missing.
        data: of label maps: a data set, or a table of case and patient, that says whose the cases of a plain folder are.
        labelling: where the reference's classes are, where that is not clear.
        subgroups: of classes: columns whose subgroups are looked at; None takes those that describe a case.
        pictures: draw the curves of classes.
        progress: called as progress(done, total, case id).

    Raises:
        HilumError: see `hilum.evaluation.evaluate`.
    """
    asked = evaluations.EvaluationOptions(
        tolerance_mm=tolerance_mm,
        allow_missing=allow_missing,
        patients=None if data is None else datasets.known_patients(data),
        subgroups=subgroups,
        progress=progress,
    )
    held = labelling.open(reference) if labelling is not None and not isinstance(reference, datasets.Dataset) else reference
    made = evaluations.evaluate(predictions, held, out, asked)
    if pictures and isinstance(made, evaluations.ClassEvaluation):
        _draw_classes(made, Path(out))
    return made


def _draw_classes(evaluation: ClassEvaluation, out: Path) -> None:
    from hilum.report import draw_confusion, draw_curves

    table = evaluation.record.summary.classes
    draw_curves(evaluation.scores, table, out / "curves.png")
    if table.kind != "multilabel":
        draw_confusion(evaluation.scores, table, out / "confusion.png")


def compare(a: Path | str, b: Path | str, *, out: Path | str | None = None) -> AnyComparison:
    """Compare two evaluations of the same cases by paired tests.

    Args:
        a: a folder that `evaluate` wrote.
        b: another one.
        out: folder for comparison.json and comparison.md.

    Raises:
        HilumError: see `hilum.evaluation.compare`.
    """
    comparison = evaluations.compare(Path(a), Path(b))
    if out is not None:
        comparison.save(out)
    return comparison


@dataclass(frozen=True)
class DemoResult:
    """Where the demo left what it made.

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
    out: Path | str = "out/demo", *, minutes: float = 3.0, class_minutes: float = 1.0, listener: Listener | None = None
) -> DemoResult:
    """Run the main jobs on synthetic CT: segment liver and tumours in DICOM studies, tell malignant lung nodules from benign.

    Args:
        out: a new folder.
        minutes: of training the segmentation.
        class_minutes: of training the classification.
        listener: is told what happens.

    Raises:
        UsageError: the folder is in use.
    """
    from hilum.training import Listener

    listener = listener or Listener()
    out = Path(out)
    if (out / "model").exists():
        raise UsageError(f"{out} already holds a demo", needed="a new folder", cure=f"hilum demo -o {out}_2")
    model, evaluation = _demo_segmentation(out, minutes, listener)
    classifier, class_evaluation = _demo_classification(out, class_minutes, listener)
    pictures = [*(out / "predictions" / "pictures").glob("*.png"), *(out / "nodule_predictions" / "pictures").glob("*.png")]
    pictures.append(out / "nodule_evaluation" / "curves.png")
    return DemoResult(out, model, evaluation, classifier, class_evaluation, tuple(sorted(pictures)))


def _demo_segmentation(out: Path, minutes: float, listener: Listener) -> tuple[TrainedModel, Evaluation]:
    from hilum.examples import make_abdomen_dataset

    listener.say("Making a synthetic abdominal CT data set: 16 studies to train on, 4 test studies as DICOM series.")
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
    report = predict(
        model,
        studies,
        out / "predictions",
        pictures=True,
        progress=lambda outcome, done, total: listener.advance("predicting", done, total, outcome.case),
    )
    _refuse_failures(report)
    return model, evaluations.evaluate_folder(out / "predictions", data / "labelsTs", out / "evaluation")


def _demo_classification(out: Path, minutes: float, listener: Listener) -> tuple[TrainedModel, ClassEvaluation]:
    from hilum.examples import make_nodule_dataset

    listener.say("Making synthetic lung nodules, benign and malignant: 60 to train on, 30 of other patients to test with.")
    data = make_nodule_dataset(out / "nodules", cases=60)
    tests = make_nodule_dataset(out / "nodules_test", cases=30, seed=1)
    labelling = Labelling(task="classification", positive="malignant")
    plain = Network(kind="resnet3d")  # in a minute on a CPU it makes many times the steps of a pretrained backbone
    model = train(data, out / "nodule_model", labelling=labelling, network=plain, minutes=minutes, listener=listener)
    report = predict(
        model,
        tests,
        out / "nodule_predictions",
        pictures=True,
        progress=lambda outcome, done, total: listener.advance("predicting nodules", done, total, outcome.case),
    )
    _refuse_failures(report)
    made = evaluate(out / "nodule_predictions", tests, out / "nodule_evaluation", labelling=labelling)
    if not isinstance(made, evaluations.ClassEvaluation):
        raise ModelError(f"{out / 'nodule_predictions'} holds no classes")
    return model, made


def _refuse_failures(report: RunReport) -> None:
    failed = [outcome for outcome in report.cases if outcome.status == "failed"]
    if failed:
        raise ModelError(f"the demo's own study {failed[0].case} failed: {failed[0].error}")


def environment() -> dict[str, str]:
    """What this machine offers, in words: for `hilum doctor` and for reports of faults."""
    import platform

    import psutil

    from hilum.inference import bfloat16_gain, describe_device, host_memory, resolve_device
    from hilum.inference.run_report import package_versions

    device = resolve_device("auto")
    gains = {f"{dimensions}D": bfloat16_gain(device, dimensions) for dimensions in (2, 3)}
    memory = host_memory()
    facts = {
        "device": describe_device(device),
        "bfloat16": "; ".join(
            f"{gain:.1f} times the speed of float32 in {where}" + ("" if gain > 1.2 else ", so float32 is used")
            for where, gain in gains.items()
        ),
        "memory": f"{memory.free / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free",
        "disk": f"{psutil.disk_usage('.').free / 2**30:.1f} GiB free here",
        "cores": str(psutil.cpu_count(logical=True)),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    return facts | package_versions()


def to_json(value: object) -> str:
    """JSON of what a verb returned, for `--json`; what is undefined is null."""
    from pydantic_core import to_json as dump

    return dump(value, indent=2, inf_nan_mode="null").decode()
