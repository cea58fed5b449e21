"""The verbs. The command line parses, calls one of these, and shows what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hilum import dataset as datasets
from hilum import evaluation as evaluations
from hilum.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hilum.dataset.doctor import Finding, FixLog
    from hilum.evaluation import Comparison, Evaluation
    from hilum.inference import CaseOutcome, RunReport, TrainedModel
    from hilum.plan import Overrides, Plan
    from hilum.training import Listener

    CaseProgress = Callable[[int, int, str], None]


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
    data: Path | str, *, fix: Path | str | None = None, patients: str | None = None, progress: CaseProgress | None = None
) -> CheckResult:
    """Find what is wrong with a data set; on request write a corrected copy.

    Args:
        data: what `hilum.open_dataset` opens.
        fix: folder for the corrected copy and its log; the source is never changed.
        patients: a regular expression for the patient in a case's id, where no table names patients.
        progress: called as progress(done, total, case id).

    Raises:
        UsageError: no such data set, or the folder for the copy is in use.
        DataError: the data set cannot be opened at all.
    """
    from hilum.dataset import doctor

    dataset = datasets.open_dataset(data, patients=patients)
    findings = doctor.check(dataset, progress=progress)
    if fix is None:
        return CheckResult(findings)
    return CheckResult(findings, doctor.fix(dataset, findings, fix, progress=progress))


def plan(
    data: Path | str,
    *,
    minutes: float | None = None,
    device: str = "auto",
    memory_gb: float | None = None,
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
        overrides: what is not for the planner to decide.
        out: file for the plan as JSON, to be edited and given to `train`.
        listener: is told what happens.

    Raises:
        HilumError: the data cannot be opened, or not be planned for.
    """
    from hilum.plan import save_plan
    from hilum.training import Listener, TrainOptions, make_plan_for

    options = TrainOptions(minutes=minutes, device=device, memory_gb=memory_gb)
    made = make_plan_for(datasets.open_dataset(data), options, listener=listener or Listener(), overrides=overrides)
    if out is not None:
        save_plan(made, out)
    return made


def train(  # noqa: PLR0913  (the verb's options, keyword-only)
    data: Path | str,
    out: Path | str,
    *,
    task: str | None = None,
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
        task: what is learnt; found out from the data if None.
        minutes: wall-clock time of one fold, everything included; None leaves the length to the plan's steps.
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
    from hilum.tasks import TASKS
    from hilum.training import TrainOptions, run

    if task is not None and task not in TASKS:
        raise UsageError(f"task {task!r}", needed=f"one of {', '.join(TASKS)}", cure="--task segmentation, or leave it out")
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
        resume=resume,
    )
    return run(data, out, options, listener=listener)


def load_model(folder: Path | str, *, device: str = "auto") -> TrainedModel:
    """Load a trained-model folder; see `TrainedModel.load`."""
    from hilum.inference import TrainedModel

    return TrainedModel.load(folder, device=device)


def predict(  # noqa: PLR0913  (the verb's options, keyword-only)
    model: Path | str | TrainedModel,
    inputs: Sequence[Path | str] | Path | str,
    out: Path | str,
    *,
    formats: Sequence[str] = ("nifti",),
    tta: bool = False,
    probabilities: bool = False,
    pictures: bool = False,
    skip_existing: bool = False,
    device: str = "auto",
    progress: Callable[[CaseOutcome, int, int], None] | None = None,
) -> RunReport:
    """Predict many cases into a folder; what fails is reported and the rest go on.

    Args:
        model: a trained model, or its folder.
        inputs: files, folders of files, DICOM folders, data sets.
        out: folder for `<case>.nii.gz`, labels.json and run.json.
        formats: among `hilum.inference.FORMATS`.
        tta: average over the mirrored images that the plan allows.
        probabilities: also write the probabilities.
        pictures: also draw `pictures/<case>.png`, the outlines on three slices.
        skip_existing: leave out cases that are already there.
        device: "auto", "cpu", "cuda", "cuda:1", "mps"; a model that is loaded already stays where it is.
        progress: called with each outcome, how many are done, and how many there are.

    Raises:
        HilumError: the model cannot be loaded, or an input does not exist; nothing was predicted.
    """
    from hilum.inference import Predictor, TrainedModel, find_cases, predict_many, read_source
    from hilum.io import atomic_write_text, read_labels
    from hilum.report import draw_overlay

    loaded = model if isinstance(model, TrainedModel) else TrainedModel.load(model, device=device)
    sources = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    cases = {case.id: case for case in find_cases(sources, loaded.plan.channels)}
    table, out = loaded.plan.labels, Path(out)

    def finished(outcome: CaseOutcome, done: int, total: int) -> None:
        if pictures and outcome.status == "done":
            labels = read_labels(out / outcome.files[0])
            draw_overlay(read_source(cases[outcome.case]), labels, table, out / "pictures" / f"{outcome.case}.png")
        if done == 1:
            atomic_write_text(out / "labels.json", table.model_dump_json(indent=2) + "\n")
        if progress is not None:
            progress(outcome, done, total)

    return predict_many(
        Predictor(loaded, tta=tta),
        sources,
        out,
        formats=formats,
        probabilities=probabilities,
        skip_existing=skip_existing,
        progress=finished,
    )


def evaluate(
    predictions: Path | str,
    reference: Path | str,
    out: Path | str,
    *,
    tolerance_mm: float = 2.0,
    allow_missing: bool = False,
    progress: CaseProgress | None = None,
) -> Evaluation:
    """Score predictions against reference annotations; see `hilum.evaluation.evaluate_folder`.

    Args:
        predictions: folder of label maps named <case>.nii.gz (.nrrd, .mha, .png, ...).
        reference: a data set or a folder of label maps.
        out: folder for cases.csv, summary.json and summary.md.
        tolerance_mm: of the normalised surface distance.
        allow_missing: score what is there instead of refusing when predictions are missing.
        progress: called as progress(done, total, case id).

    Raises:
        HilumError: see `hilum.evaluation.evaluate_folder`.
    """
    return evaluations.evaluate_folder(
        predictions, reference, out, tolerance_mm=tolerance_mm, allow_missing=allow_missing, progress=progress
    )


def compare(a: Path | str, b: Path | str, *, out: Path | str | None = None) -> Comparison:
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
        model: the trained model.
        evaluation: scores on the test patients.
        pictures: overlays to look at.
    """

    folder: Path
    model: TrainedModel
    evaluation: Evaluation
    pictures: tuple[Path, ...]


def demo(out: Path | str = "out/demo", *, minutes: float = 3.0, listener: Listener | None = None) -> DemoResult:
    """Run the main job on synthetic CT: make data, train, predict a DICOM study, evaluate, draw.

    Args:
        out: a new folder.
        minutes: of training.
        listener: is told what happens.

    Raises:
        UsageError: the folder is in use.
    """
    from hilum.examples import make_abdomen_dataset
    from hilum.training import Listener

    listener = listener or Listener()
    out = Path(out)
    if (out / "model").exists():
        raise UsageError(f"{out} already holds a demo", needed="a new folder", cure=f"hilum demo -o {out}_2")
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
    failed = [outcome for outcome in report.cases if outcome.status == "failed"]
    if failed:
        raise ModelError(f"the demo's own study {failed[0].case} failed: {failed[0].error}")
    evaluation = evaluate(out / "predictions", data / "labelsTs", out / "evaluation")
    pictures = tuple(sorted((out / "predictions" / "pictures").glob("*.png")))
    return DemoResult(out, model, evaluation, pictures)


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
