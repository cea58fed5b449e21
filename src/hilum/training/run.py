"""From a data set to a trained-model folder: plan, store, folds, validation, model."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset import describe_folds, make_folds, match_dataset
from hilum.dataset.folds import fold_groups, patient_of
from hilum.engines import describe_device, resolve_device
from hilum.errors import ModelError, UsageError, some
from hilum.files import OutputFolder
from hilum.inference import RunClock, TrainedModel
from hilum.inference.trained_model import MODEL_FILES
from hilum.training.assemble import assemble_model, few_scored, few_steps, first_scores
from hilum.training.fold import TrainedFold, train_fold
from hilum.training.given_plan import given_plan
from hilum.training.leaks import keep_audit, leak_warnings, look_for_leaks
from hilum.training.loop import CHECKPOINT, TrainingJob, load_progress, plan_hash
from hilum.training.options import WORK, Listener, TrainOptions
from hilum.training.planning import prepare_plan
from hilum.training.premises import PREMISES, Premises
from hilum.training.schedule import Budget
from hilum.training.task import P, S, StoreT, TrainedFolds, TrainingData
from hilum.training.time_plan import TimePlan

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import torch

    from hilum.dataset import Dataset, Fold
    from hilum.training.task import Task

_USUAL_FOLDS = 5
"""Or as many as there are patients."""
_LONG_LOOK = 5.0
"""Seconds of hashing files and looking for leaks from which on that is said; they are no part of
the minutes."""


def run(
    opened: Dataset,
    task: Task[P, StoreT, S],
    out: Path | str,
    options: TrainOptions,
    *,
    listener: Listener | None = None,
) -> TrainedModel:
    """Train a model on a data set and write its folder.

    Args:
        opened: the data set, see `TrainOptions.open`.
        task: its task, see `hilum.pipelines.task_of`.
        out: the model folder; `training/` in it holds checkpoints, logs and validation.
        options: of the training.
        listener: is notified.

    Raises:
        UsageError: the folder holds a training, data or files of others, or the fold does not
            exist.
        ResourceError: another process writes to the folder.
        HilumError: anything that `fit`, `build_store` or `make_fingerprint` raises.
    """
    with OutputFolder(
        out, "train", inputs=[options.plan] if isinstance(options.plan, Path) else []
    ) as folder:
        _refuse_overwriting(folder, options)
        return _run(opened, task, folder, options, listener or Listener())


def _run(
    opened: Dataset,
    task: Task[P, StoreT, S],
    folder: OutputFolder,
    options: TrainOptions,
    listener: Listener,
) -> TrainedModel:
    """Train every chosen fold in its order, and assemble and save the model."""
    device, started = resolve_device(options.device), time.perf_counter()
    clock = RunClock(
        "train",
        device=describe_device(device),
        engine="torch",
        options=options.as_json(),
        seeds={"seed": options.seed},
    )
    work = folder.path / WORK
    dataset, premises, given = _compare_premises(opened, task, folder, options, listener)
    leaks = look_for_leaks(dataset, premises, work, options, listener)
    for note in leaks.sentences:
        listener.say(note)
    if options.minutes is not None and (looked := time.perf_counter() - started) > _LONG_LOOK:
        listener.say(
            f"Hashing files and looking for leaks took {looked:.0f} s; the {options.minutes:g}"
            " minutes begin now."
        )
    started = time.perf_counter()
    chosen = choose_folds(dataset, options, listener, together=leaks.groups)
    if given is not None and options.resume:
        finished = _finished_model(folder.path, given, premises, chosen, device)
        if finished is not None:
            listener.say(
                f"{folder.path} holds a finished model: nothing is left to do, and it stays as it"
                " is. For a longer training choose another folder."
            )
            return finished
    plan, weights, pace = prepare_plan(
        given, dataset, task, premises, chosen, folder, options, listener
    )
    keep_audit(leaks, premises, work)
    store = task.build_store(
        dataset,
        plan,
        work / "store",
        sorted({case for _, fold in chosen for case in fold.train}),
        lambda done, total, case: listener.advance("preprocessing", done, total, case),
    )
    data = TrainingData(dataset, plan, store, fold_groups(dataset, leaks.groups))
    absent = names_absent(data, task, chosen, listener)
    members: list[TrainedFold[S]] = []
    for number, fold in chosen:
        held = set(fold.validation)
        cases = tuple(case for case in dataset.cases if case.id in held)
        time_plan = TimePlan.of(
            options.minutes,
            {}
            if pace is None
            else task.needs(plan, pace, trained=len(fold.train), validated=len(cases)),
            started=time.perf_counter() if members else started,
        )
        job = TrainingJob(
            plan=plan,
            store=store,
            cases=fold.train,
            folder=work / f"fold_{number}",
            budget=Budget(options.steps or plan.steps.value, time_plan.steps),
            device=device,
            seed=options.seed + number,
            resume=options.resume,
            checkpoint_seconds=options.checkpoint_seconds,
            labels={case.id: case.label for case in dataset.cases if case.label is not None},
            groups=data.groups,
            weights=weights,
        )
        validator = task.validator(plan, device, cases)
        members.append(train_fold(number, task, job, validator, time_plan, pace, listener))
    folds = TrainedFolds(
        data,
        plan,
        tuple(chosen),
        tuple(members),
        work,
        device,
        options,
        listener,
        time_plan=time_plan,
        scores=first_scores(members),
        notes=(*leak_warnings(leaks), *absent),
    )
    folds = task.write_report(task.fit_uncertainty(task.after_training(folds)))
    model = assemble_model(folds, task, weights, started=started).save(folder.path)
    shutil.rmtree(work / "store", ignore_errors=True)  # a copy of what the data set holds
    for sentence in (
        few_scored(folds.members),
        *(few_steps(folds.plan, fold) for fold in folds.members),
        time_plan.overrun(started, len(members)),
    ):
        if sentence:
            listener.say(sentence)
    report = clock.report(files=dataset.files)
    report = report.model_copy(update={"model": model.id, "precision": folds.plan.precision.value})
    folder.write({"run.json": report.as_json()})
    return model


def names_absent(
    data: TrainingData[P, StoreT],
    task: Task[P, StoreT, S],
    folds: Sequence[tuple[int, Fold]],
    listener: Listener,
) -> tuple[str, ...]:
    """Say which labels or classes no training case of a fold has; one sentence a fold."""
    sentences = []
    for number, fold in folds:
        present = task.names_present(data, fold.train)
        absent = [name for name, found in present.items() if not found]
        if absent:
            which = some(absent, shown=8)
            sentences.append(
                f"Attention: no training case of fold {number} holds {which}: what is not there"
                " cannot be learnt."
            )
            listener.say(sentences[-1])
    return tuple(sentences)


def choose_folds(
    dataset: Dataset,
    options: TrainOptions,
    listener: Listener,
    *,
    together: Sequence[Collection[str]] = (),
) -> list[tuple[int, Fold]]:
    """Divide the cases into folds, and choose those that are trained, with their numbers.

    Args:
        dataset: annotated cases.
        options: folds, fold and seed.
        listener: is told how the cases are divided.
        together: see `make_folds`.

    Raises:
        UsageError: the fold does not exist, or see `make_folds`.
    """
    usual = min(_USUAL_FOLDS, max(2, len(set(patient_of(dataset).values()))))
    folds = make_folds(dataset, options.folds or usual, seed=options.seed, together=together)
    listener.say(describe_folds(dataset, folds, together=together))
    if options.folds is not None:
        if options.folds != len(folds):
            listener.say(
                f"folds={options.folds} is ignored: the data set brings a split of its own."
            )
        return list(enumerate(folds))
    if not 0 <= options.fold < len(folds):
        raise UsageError(
            f"fold {options.fold} is not there",
            needed=f"a fold from 0 to {len(folds) - 1}",
            cure="fold=0" + (f", or folds={len(folds)} for all" if len(folds) > 1 else ""),
        )
    return [(options.fold, folds[options.fold])]


def _compare_premises(
    opened: Dataset,
    task: Task[P, StoreT, S],
    folder: OutputFolder,
    options: TrainOptions,
    listener: Listener,
) -> tuple[Dataset, Premises, P | None]:
    """Hash the data, compare them with those of a resumed training, and match names with its plan.

    Returns:
        The data set with the names of the plan that is given or resumed, its premises, and that
        plan.
    """
    folder.refuse_among([opened.root, *(file for case in opened.cases for file in case.files)])
    opened.refuse_faults()
    work = folder.path / WORK
    premises = Premises.of(
        opened,
        options,
        progress=lambda done, total, case: listener.advance("hashing", done, total, case),
    )
    if options.resume:
        before = Premises.load(work)
        premises.refuse_changes(before, holder=str(work.parent))
        if before is None and work.is_dir():
            listener.say(
                f"{work} has no {PREMISES}: whether the data are those that this training began"
                " with is not known."
            )
        elif before is not None and (changed := premises.columns_changed(before)):
            listener.say(
                f"The table says something else of {some(changed)}: leaks are looked for again."
            )
    given = given_plan(work, options)
    dataset = (
        opened
        if given is None
        else match_dataset(opened, given.channels, given.table, holder="the plan")
    )
    for note in dataset.notes:
        listener.say(note)
    return dataset, premises, None if given is None else task.check_plan(given)


def _finished_model(
    out: Path,
    plan: P,
    premises: Premises,
    chosen: Sequence[tuple[int, Fold]],
    device: torch.device,
) -> TrainedModel | None:
    """Load the model in a folder; None where a fold, its table or a file leaves something to do."""
    before = Premises.load(out / WORK)
    if before is not None and premises.columns_changed(before):
        return None
    for number, _ in chosen:
        progress = load_progress(out / WORK / f"fold_{number}")
        if progress is None or not progress.finished or progress.plan != plan_hash(plan):
            return None
    try:
        model = TrainedModel.load(out, device=device)
    except ModelError:
        return None  # it is made again from the checkpoints
    held = set() if model.facts is None else set(model.facts.details)
    return model if held == {f"fold {number}" for number, _ in chosen} else None


def _refuse_overwriting(out: OutputFolder, options: TrainOptions) -> None:
    """Refuse files of others, a model, and a training that is not to be resumed."""
    out.refuse_foreign((*MODEL_FILES, *out.path.glob("weights*.safetensors"), "run.json", WORK))
    held = [name for name in ("model.json", f"{WORK}/*/{CHECKPOINT}") if any(out.path.glob(name))]
    if held and not options.resume:
        finished = held[0] == "model.json"
        raise UsageError(
            f"{out.path} already holds a {'finished model' if finished else 'training'}",
            needed="an empty or new folder",
            cure=(
                "choose another folder, also for a longer training"
                if finished
                else "resume=True to go on where it stopped, or another folder for out"
            ),
        )
