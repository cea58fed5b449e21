"""From a data set to a trained-model folder: plan, store, folds, validation, model."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from hilum.dataset import describe_folds, make_folds, open_dataset
from hilum.dataset.folds import patient_of
from hilum.errors import ResourceError, UsageError
from hilum.evaluation import summarise
from hilum.inference import Facts, Metric, ModelMetrics, RunClock, TrainedModel, describe_device, host_memory, resolve_device
from hilum.plan import Hardware, Overrides, Plan, load_plan, make_fingerprint, make_plan, save_plan
from hilum.plan.planner.grid import decide_dimensions
from hilum.preprocess import build_store
from hilum.training.fold import FoldResult, train_fold
from hilum.training.loop import Assignment
from hilum.training.measure import choose_precision, step_timer
from hilum.training.options import Listener, TrainOptions
from hilum.training.schedule import Budget
from hilum.training.validation import Validator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.dataset import Dataset, Fold
    from hilum.evaluation import Score

WORK = "training"
"""Sub-folder of the model folder that holds plan, store, checkpoints, logs and validation."""
_USUAL_FOLDS = 5


def make_plan_for(
    dataset: Dataset,
    options: TrainOptions,
    *,
    listener: Listener,
    cases: Sequence[str] | None = None,
    overrides: Overrides | None = None,
) -> Plan:
    """Look at the data, measure the device, decide.

    Args:
        dataset: opened.
        options: device, memory and time.
        listener: is told what happens.
        cases: ids to look at; all annotated cases if None.
        overrides: what is not for the planner to decide.

    Raises:
        HilumError: see `make_fingerprint`; the data cannot be planned for.
    """
    device = resolve_device(options.device)
    fingerprint = make_fingerprint(
        dataset, cases=cases, progress=lambda done, total, case: listener.advance("looking", done, total, case)
    )
    asked = None if overrides is None else overrides.dimensions
    precision = choose_precision(device, asked or decide_dimensions(fingerprint).value)
    table = fingerprint.labels
    memory = options.memory_gb or _rounded(_free_memory_gb(device))
    hardware = Hardware(device=device.type, memory_gb=memory, minutes=options.minutes)
    return make_plan(
        fingerprint,
        hardware,
        measure=step_timer(device, precision.value, table) if options.minutes is not None else None,
        precision=precision,
        overrides=overrides,
    )


def run(data: Path | str, out: Path | str, options: TrainOptions, *, listener: Listener | None = None) -> TrainedModel:
    """Train a model on a data set and write its folder.

    Args:
        data: what `open_dataset` opens.
        out: the model folder; `training/` in it holds checkpoints, logs and validation.
        options: what is asked for.
        listener: is told what happens.

    Raises:
        UsageError: the folder is in use, or the fold does not exist.
        HilumError: anything that `fit`, `build_store` or `make_fingerprint` raises.
    """
    listener = listener or Listener()
    out, device = Path(out), resolve_device(options.device)
    started = time.perf_counter()
    clock = RunClock("train", device=device, options=_plain(options), seeds={"seed": options.seed})
    _refuse_overwriting(out, options)
    work = out / WORK

    dataset = open_dataset(data, patients=options.patients)
    for note in dataset.notes:
        listener.say(note)
    folds = make_folds(dataset, options.folds or _usual_folds(dataset), seed=options.seed)
    listener.say(describe_folds(dataset, folds))
    chosen = _chosen_folds(folds, options)
    if options.folds not in {None, len(folds)}:
        listener.say(f"--folds {options.folds} is ignored: the data set brings a split of its own.")

    plan = _plan(dataset, work, options, listener, chosen)
    needed = sorted({case for _, fold in chosen for case in fold.train})
    store = build_store(
        dataset,
        plan,
        work / "store",
        needed,
        progress=lambda done, total, case: listener.advance("preprocessing", done, total, case),
    )
    results: list[FoldResult] = []
    for number, fold in chosen:
        folder = work / f"fold_{number}"
        cases = tuple(case for case in dataset.cases if case.id in set(fold.validation))
        validator = Validator(plan, device, cases)
        fold_started = started if not results else time.perf_counter()
        job = Assignment(
            plan=plan,
            store=store,
            cases=fold.train,
            folder=folder,
            budget=Budget(steps=options.steps or plan.steps.value),
            device=device,
            seed=options.seed + number,
            resume=options.resume,
            checkpoint_seconds=options.checkpoint_seconds,
        )
        results.append(train_fold(number, job, validator, options, listener, started=fold_started))
    model = _assemble(dataset, plan, device, chosen, results, options, started=started).save(out)
    shutil.rmtree(work / "store", ignore_errors=True)  # a copy of what the data set holds
    report = clock.report()
    report.model_copy(update={"model": model.id, "precision": plan.precision.value}).save(out / "run.json")
    return model


def _plan(dataset: Dataset, work: Path, options: TrainOptions, listener: Listener, chosen: list[tuple[int, Fold]]) -> Plan:
    """The plan of the run: the user's, the one of the run that is resumed, or a new one.

    A new one looks at the training cases alone, where one fold is trained. The members of an ensemble share one plan, so that of
    several folds looks at all their cases, and the model says so.
    """
    path = work / "plan.json"
    if options.plan is not None:
        plan = options.plan if isinstance(options.plan, Plan) else load_plan(options.plan)
    elif options.resume and path.is_file():
        plan = load_plan(path)
    else:
        looked_at = chosen[0][1].train if len(chosen) == 1 else None
        plan = make_plan_for(dataset, options, listener=listener, cases=looked_at)
    work.mkdir(parents=True, exist_ok=True)  # only now: a mistyped path or plan leaves no folder that refuses the next try
    save_plan(plan, path)
    network = plan.network.value
    listener.say(
        f"Plan: {plan.dimensions.value}D {network.kind.replace('_', ' ')}, width {network.features[0]}, {len(network.features)} "
        f"stages, patch {' x '.join(map(str, plan.patch.value))}, batch {plan.batch.value}, {plan.precision.value}; every "
        f"decision with its reason: {path}"
    )
    return plan


def _usual_folds(dataset: Dataset) -> int:
    """Five, or as many as there are patients."""
    return min(_USUAL_FOLDS, max(2, len(set(patient_of(dataset).values()))))


def _chosen_folds(folds: tuple[Fold, ...], options: TrainOptions) -> list[tuple[int, Fold]]:
    if options.folds is not None:
        return list(enumerate(folds))
    if not 0 <= options.fold < len(folds):
        raise UsageError(
            f"fold {options.fold}", needed=f"a fold from 0 to {len(folds) - 1}", cure="--fold 0, or --folds 5 for all"
        )
    return [(options.fold, folds[options.fold])]


def _refuse_overwriting(out: Path, options: TrainOptions) -> None:
    """Nothing is lost: a folder that holds a training is continued on request, never overwritten."""
    if options.resume:
        return
    held = [name for name in ("model.json", WORK) if (out / name).exists()]
    if held:
        raise UsageError(
            f"{out} already holds {' and '.join(held)}",
            needed="an empty or new folder",
            cure="--resume to go on where it stopped, or another folder with -o",
        )


def _rounded(memory_gb: float) -> float:
    """Down to a power of two, so that the same command makes the same plan whatever a few other programs take."""
    return float(2.0 ** math.floor(math.log2(max(memory_gb, 0.5))))


def _assemble(
    dataset: Dataset,
    plan: Plan,
    device: torch.device,
    chosen: list[tuple[int, Fold]],
    results: list[FoldResult],
    options: TrainOptions,
    *,
    started: float,
) -> TrainedModel:
    """Put the folds' networks, what was measured on them and the facts together."""
    every = [score for result in results for score in result.scores]
    scores = tuple({(score.case, score.region): score for score in reversed(every)}.values())[::-1]
    unscored = sum(result.unscored for result in results)
    patients = {case.patient for case in dataset.cases}
    trained = {case for _, fold in chosen for case in fold.train}
    notes = list(dataset.notes)
    if unscored:
        notes.append(
            f"{unscored} validation cases were not scored, because the time was up; `hilum predict` and `hilum evaluate` do it"
        )
    if len(scores) < len(every):
        notes.append("a case that several folds of the given split validate on counts once, as the first of them scored it")
    if len(results) > 1:
        notes.append("the folds share one plan, for which all cases were looked at (spacings, sizes, intensity statistics)")
        notes.append("each case was predicted by the one member that had not seen it; the ensemble itself was not measured")
    facts = Facts(
        dataset=dataset.name,
        cases=len(trained),
        patients=len(patients) if None not in patients else None,
        steps=sum(result.progress.step for result in results),
        seconds=round(time.perf_counter() - started, 1),
        device=describe_device(device),
        seed=options.seed,
        details={
            f"fold {number}": {
                "train": list(fold.train),
                "validation": list(fold.validation),
                "steps": result.progress.step,
                "training_seconds": round(result.progress.seconds, 1),
            }
            for (number, fold), result in zip(chosen, results, strict=True)
        },
    )
    return TrainedModel(
        plan=plan,
        networks=tuple(result.network for result in results),
        device=device,
        metrics=_metrics(dataset, scores, chosen, notes, options),
        facts=facts,
    )


def _metrics(
    dataset: Dataset,
    scores: tuple[Score, ...],
    chosen: list[tuple[int, Fold]],
    notes: list[str],
    options: TrainOptions,
) -> ModelMetrics:
    """What the model card shows."""
    if not scores:
        return ModelMetrics(measured_on="not measured: no validation cases", notes=tuple(notes))
    summary = summarise(scores)
    cases = len({score.case for score in scores})
    split = f"fold {chosen[0][0]}" if len(chosen) == 1 else f"{len(chosen)}-fold cross-validation"
    rows = [
        Metric(
            region=region.region,
            name=name,
            mean=_defined(metric.mean),
            median=_defined(metric.median),
            lower=_defined(metric.low),
            upper=_defined(metric.high),
            cases=metric.n,
        )
        for region in summary.regions
        for name, metric in region.metrics.items()
    ]
    return ModelMetrics(
        measured_on=f"{cases} validation cases of {dataset.name} ({split}, seed {options.seed}), on the cases' own grids",
        metrics=tuple(rows),
        level=summary.level,
        notes=tuple(notes),
    )


def _defined(value: float) -> float | None:
    return None if value != value else value  # noqa: PLR0124  (NaN is the one number that is not itself)


def _plain(options: TrainOptions) -> dict[str, str | float | int | bool | None]:
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    values["plan"] = None if options.plan is None else "given" if isinstance(options.plan, Plan) else str(options.plan)
    return values


def _free_memory_gb(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0]) / 2**30
    free = host_memory().free / 2**30
    if free < 1.0:
        raise ResourceError(f"{free:.1f} GiB of memory are free", needed="at least 1 GiB", cure="close other programs")
    return free
