"""From a data set to a trained-model folder: plan, store, folds, validation, model."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hilum.dataset import arranged, describe_folds, make_folds, open_dataset
from hilum.dataset.folds import fold_groups, patient_of
from hilum.dataset.layouts.listing import some
from hilum.errors import HilumError, ResourceError, UsageError
from hilum.inference import (
    Facts,
    ModelMetrics,
    RunClock,
    TrainedModel,
    describe_device,
    host_memory,
    resolve_device,
)
from hilum.inference.trained_model import MODEL_FILES
from hilum.io import OutputFolder
from hilum.plan import Hardware, Overrides, Plan, make_fingerprint, make_plan, save_plan
from hilum.training.assuring import ASSURANCES, Member
from hilum.training.evidence import EVIDENCE
from hilum.training.fold import FoldResult, train_fold
from hilum.training.given_plan import PLAN, given_plan
from hilum.training.laps import Laps, overrun
from hilum.training.leaks import attention, keep_audit, look_for_leaks
from hilum.training.log import loss_still_falls
from hilum.training.loop import CHECKPOINT, Assignment
from hilum.training.measure import choose_precision, rehearse_precision, step_timer
from hilum.training.new_network import pretrained
from hilum.training.options import Listener, TrainOptions
from hilum.training.premises import PREMISES, Premises
from hilum.training.schedule import Budget
from hilum.training.stores import STORES, absent_from_training
from hilum.training.tuning.afterwards import AFTERWARDS, Ending
from hilum.training.validators import VALIDATORS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hilum.dataset import Dataset, Fold
    from hilum.dataset.leaks import Audit
    from hilum.inference import Assurance
    from hilum.networks import Weights

WORK = "training"
"""Sub-folder of the model folder that holds plan, store, checkpoints, logs and validation."""
_USUAL_FOLDS = 5
_FEW_STEPS = 100
"""Trainings of fewer steps, or of less than one epoch, may get a warning at the end."""
_LONG_LOOK = 5.0
"""Seconds of hashing files and looking for leaks from which on that is said; they are no part of
the minutes."""


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
        dataset,
        cases=cases,
        progress=lambda done, total, case: listener.advance("looking", done, total, case),
    )
    precision = choose_precision(device)
    table = fingerprint.classes or fingerprint.labels
    timed = (
        precision.value if fingerprint.classes is None else "float32"
    )  # a classifier's own precision is settled last
    memory = options.memory_gb or _memory_gb(device, listener)
    hardware = Hardware(device=device.type, memory_gb=memory, minutes=options.minutes)
    made = make_plan(
        fingerprint,
        hardware,
        measure=step_timer(device, timed, table) if options.minutes is not None else None,
        precision=precision,
        overrides=overrides,
    )
    return SETTLED[made.task.value](made, device)


def _as_made(plan: Plan, device: torch.device) -> Plan:  # noqa: ARG001  (what every task's is asked)
    return plan


def _with_own_precision(plan: Plan, device: torch.device) -> Plan:
    """Settle the precision of a classifier, which may be any of timm's networks: its own gradient is tried in bfloat16."""
    return plan.model_copy(update={"precision": rehearse_precision(plan, device, pretrained(plan))})


SETTLED: dict[str, Callable[[Plan, torch.device], Plan]] = {
    "segmentation": _as_made,
    "classification": _with_own_precision,
}
"""What a plan still needs to be tried on the device, by task."""


def run(
    data: Path | str, out: Path | str, options: TrainOptions, *, listener: Listener | None = None
) -> TrainedModel:
    """Train a model on a data set and write its folder.

    Args:
        data: what `open_dataset` opens.
        out: the model folder; `training/` in it holds checkpoints, logs and validation.
        options: what is asked for.
        listener: is told what happens.

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
        return _run(data, folder, options, listener or Listener())


def _run(
    data: Path | str, folder: OutputFolder, options: TrainOptions, listener: Listener
) -> TrainedModel:
    device, started = resolve_device(options.device), time.perf_counter()
    clock = RunClock(
        "train",
        device=describe_device(device),
        engine="torch",
        options=_plain(options),
        seeds={"seed": options.seed},
    )
    out, work = folder.path, folder.path / WORK
    dataset, premises, given = _opened(data, folder, options, listener)
    leaks = look_for_leaks(dataset, premises, work, options, listener)
    for note in leaks.sentences:
        listener.say(note)
    units = fold_groups(dataset, leaks.groups)
    if options.minutes is not None and (looked := time.perf_counter() - started) > _LONG_LOOK:
        listener.say(
            f"Hashing files and looking for leaks took {looked:.0f} s; the {options.minutes:g}"
            " minutes begin now."
        )
    started = time.perf_counter()
    chosen = _split(dataset, leaks, options, listener)
    plan, weights = _planned(given, dataset, premises, chosen, folder, options, listener)
    keep_audit(leaks, premises, work)
    store = STORES[plan.task.value](
        dataset,
        plan,
        work / "store",
        sorted({case for _, fold in chosen for case in fold.train}),
        progress=lambda done, total, case: listener.advance("preprocessing", done, total, case),
    )
    absent = absent_from_training(dataset, plan, store, chosen, listener)
    members: list[Member] = []
    for number, fold in chosen:
        held_out = set(fold.validation)
        cases = tuple(case for case in dataset.cases if case.id in held_out)
        validator = VALIDATORS[plan.task.value](plan, device, cases)
        fold_started = started if not members else time.perf_counter()
        job = Assignment(
            plan=plan,
            store=store,
            cases=fold.train,
            folder=work / f"fold_{number}",
            budget=Budget(steps=options.steps or plan.steps.value),
            device=device,
            seed=options.seed + number,
            resume=options.resume,
            checkpoint_seconds=options.checkpoint_seconds,
            labels={case.id: case.label for case in dataset.cases if case.label is not None},
            units=units,
            weights=weights,
        )
        result = train_fold(number, job, validator, options, listener, started=fold_started)
        members.append(Member(number, result, fold.train, cases))
    laps = Laps("preparing, training and scoring")
    learnt = laps.of(
        "learning what follows the network",
        AFTERWARDS[plan.task.value],
        plan,
        members,
        Ending(work, device, options, listener, fold_started),
    )
    plan, members = learnt.plan, list(learnt.members)
    scores, assurance, told = laps.of(
        "learning how sure it is", _assured, plan, members, store, units, options, listener
    )
    baselines = laps.of(
        "figures and baselines",
        _evidence,
        dataset,
        plan,
        [fold for _, fold in chosen],
        scores,
        work / "out_of_fold",
        units,
        listener,
    )
    evidence = (*attention(leaks), *absent, *learnt.notes, *told, *baselines)
    trained = _Trained(
        dataset, plan, device, tuple(chosen), tuple(members), scores, assurance, evidence, weights
    )
    model = _assemble(trained, options, started=started).save(out)
    shutil.rmtree(work / "store", ignore_errors=True)  # a copy of what the data set holds
    for sentence in (
        *learnt.notes,
        *filter(None, (_few_steps(plan, member) for member in members)),
        *overrun(started, laps.ends, options.minutes, len(members)),
    ):
        listener.say(sentence)
    report = clock.report(files=dataset.files)
    folder.write(
        {
            "run.json": (
                report.model_copy(
                    update={"model": model.id, "precision": plan.precision.value}
                ).as_json()
            )
        }
    )
    return model


def _split(
    dataset: Dataset, leaks: Audit, options: TrainOptions, listener: Listener
) -> list[tuple[int, Fold]]:
    """Divide the cases into folds, and choose those that are trained."""
    folds = make_folds(
        dataset, options.folds or _usual_folds(dataset), seed=options.seed, together=leaks.groups
    )
    listener.say(describe_folds(dataset, folds, together=leaks.groups))
    chosen = _chosen_folds(folds, options)
    if options.folds not in {None, len(folds)}:
        listener.say(f"--folds {options.folds} is ignored: the data set brings a split of its own.")
    return chosen


def _planned(
    given: Plan | None,
    dataset: Dataset,
    premises: Premises,
    chosen: list[tuple[int, Fold]],
    folder: OutputFolder,
    options: TrainOptions,
    listener: Listener,
) -> tuple[Plan, Weights | None]:
    """The plan, given or new, and the first weights.

    What the training stands on is compared with what it began with, and kept.

    A new plan looks at the training cases alone, where one fold is trained. The members of an
    ensemble share one plan, so that of several folds looks at all their cases, and the model says
    so.
    """
    work, folds = folder.path / WORK, [fold for _, fold in chosen]
    looked_at = (
        folds[0].train
        if len(folds) == 1
        else sorted({case for fold in folds for case in (*fold.train, *fold.validation)})
    )
    plan = given or make_plan_for(
        dataset, options, listener=listener, cases=looked_at, overrides=options.overrides
    )
    weights = pretrained(plan)
    premises = premises.with_plan(plan, "" if weights is None else weights.sha256)
    if options.resume and given is not None:
        premises.refuse_changes(Premises.load(work), holder=str(work.parent))
    folder.record(WORK)
    work.mkdir(
        parents=True, exist_ok=True
    )  # only now: a mistyped path or plan leaves no folder that refuses the next try
    premises.save(work)
    path = work / PLAN
    if given is None or (
        options.plan is not None and not _same_file(options.plan, path)
    ):  # not over the file that it was read from
        save_plan(plan, path)
    network = plan.network.value
    listener.say(
        f"Plan: {plan.dimensions.value}D {network.title}, patch"
        f" {' x '.join(map(str, plan.patch.value))}, batch {plan.batch.value},"
        f" {plan.precision.value}; every decision with its reason: {path}"
    )
    if weights is not None:
        listener.say(f"First weights: {weights.origin}.")
    return plan, weights


def _opened(
    data: Path | str, folder: OutputFolder, options: TrainOptions, listener: Listener
) -> tuple[Dataset, Premises, Plan | None]:
    """Open the data set, with the names of the plan that is there already, and compare it with what a resumed training had."""
    opened = open_dataset(
        data,
        patients=options.patients,
        label=options.label,
        classes=options.classes,
        task=options.task,
        positive=options.positive,
    )
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
        else arranged(opened, given.channels, given.table, holder="the plan")
    )
    for note in dataset.notes:
        listener.say(note)
    return dataset, premises, given


@dataclass(frozen=True)
class _Trained:
    """All that a model is put together from."""

    dataset: Dataset
    plan: Plan
    device: torch.device
    chosen: tuple[tuple[int, Fold], ...]
    members: tuple[Member, ...]
    scores: tuple[Any, ...]
    assurance: Assurance | None
    evidence: tuple[str, ...]
    weights: Weights | None

    @property
    def results(self) -> tuple[FoldResult, ...]:
        """Of each fold."""
        return tuple(member.result for member in self.members)


def _assured(
    plan: Plan,
    members: list[Member],
    store: Any,
    units: Mapping[str, str],
    options: TrainOptions,
    listener: Listener,
) -> tuple[tuple[Any, ...], Assurance | None, tuple[str, ...]]:
    """The answers, what the model learns from them, and what it could not learn, which is said too."""
    told: list[str] = []
    learn, device = ASSURANCES[plan.task.value], resolve_device(options.device)
    scores, assurance = learn(
        plan, members, store, device, told.append, units=units, minutes=options.minutes
    )
    for sentence in told:
        listener.say(sentence)
    return scores, assurance, tuple(told)


def _evidence(
    dataset: Dataset,
    plan: Plan,
    folds: list[Fold],
    scores: tuple[Any, ...],
    folder: Path,
    units: Mapping[str, str],
    listener: Listener,
) -> tuple[str, ...]:
    """Make the card's sentences on the baselines; a fault in them costs no trained model."""
    try:
        return EVIDENCE[plan.task.value](dataset, plan, folds, scores, folder, units)
    except HilumError as error:
        sentence = f"the baselines beside the network could not be made: {error.found}"
        listener.say(sentence)
        return (sentence,)


def _same_file(plan: Path | Plan, path: Path) -> bool:
    return isinstance(plan, Path) and path.exists() and path.samefile(plan)


def _usual_folds(dataset: Dataset) -> int:
    """Five, or as many as there are patients."""
    return min(_USUAL_FOLDS, max(2, len(set(patient_of(dataset).values()))))


def _chosen_folds(folds: tuple[Fold, ...], options: TrainOptions) -> list[tuple[int, Fold]]:
    if options.folds is not None:
        return list(enumerate(folds))
    if not 0 <= options.fold < len(folds):
        raise UsageError(
            f"fold {options.fold}",
            needed=f"a fold from 0 to {len(folds) - 1}",
            cure="--fold 0, or --folds 5 for all",
        )
    return [(options.fold, folds[options.fold])]


def _refuse_overwriting(out: OutputFolder, options: TrainOptions) -> None:
    """Refuse files of others, a model, and a training with a checkpoint that is not to be resumed."""
    out.refuse_foreign((*MODEL_FILES, *out.path.glob("weights*.safetensors"), "run.json", WORK))
    held = [name for name in ("model.json", f"{WORK}/*/{CHECKPOINT}") if any(out.path.glob(name))]
    if held and not options.resume:
        raise UsageError(
            f"{out.path} already holds a {'model' if held[0] == 'model.json' else 'training'}",
            needed="an empty or new folder",
            cure="--resume to go on where it stopped, or another folder with -o",
        )


def _memory_gb(device: torch.device, listener: Listener) -> float:
    """Return the memory to plan for: what there is, down to a power of two, whatever other programs take of it just now."""
    host = host_memory()
    both = torch.cuda.mem_get_info(device) if device.type == "cuda" else (host.free, host.total)
    free, total = (amount / 2**30 for amount in both)
    if free < 1.0:
        raise ResourceError(
            f"{free:.1f} GiB of memory are free",
            needed="at least 1 GiB",
            cure="close other programs",
        )
    planned = float(2.0 ** math.floor(math.log2(total)))
    if planned > free:
        listener.say(
            f"Attention: the plan counts on {planned:g} GiB of memory, and {free:.1f} are free;"
            " --memory bounds it."
        )
    return planned


def _assemble(trained: _Trained, options: TrainOptions, *, started: float) -> TrainedModel:
    """Put the folds' networks, what was measured on them and the facts together."""
    dataset, results, every = trained.dataset, trained.results, trained.scores
    scores = tuple(
        {(score.case, getattr(score, "region", "")): score for score in reversed(every)}.values()
    )[::-1]
    unscored = sum(result.unscored for result in results)
    cases = {
        case
        for result in results
        for case in set(result.progress.cases) - set(result.progress.left_out)
    }
    patients = {case.patient for case in dataset.cases if case.id in cases}
    notes = [*dataset.notes, *trained.evidence]
    if unscored:
        notes.append(
            f"{unscored} validation cases were not scored, because the time was up; `hilum predict`"
            " and `hilum evaluate` do it"
        )
    if len({score.case for score in scores}) < sum(
        len({score.case for score in result.scores}) for result in results
    ):
        notes.append(
            "a case that several folds of the given split validate on counts once, as the first of"
            " them scored it"
        )
    few = [sentence for member in trained.members if (sentence := _few_steps(trained.plan, member))]
    notes += few
    notes += [
        f"fold {member.number}: {note}"
        for member in trained.members
        for note in member.result.progress.notes
    ]
    if len(results) > 1:
        notes.append(
            "the folds share one plan, for which all cases were looked at (spacings, sizes,"
            " intensity statistics)"
        )
        notes.append(
            "each case was predicted by the one member that had not seen it; the ensemble itself"
            " was not measured"
        )
    facts = Facts(
        dataset=dataset.name,
        cases=len(cases),
        patients=len(patients) if None not in patients else None,
        steps=sum(result.progress.step for result in results),
        seconds=round(time.perf_counter() - started, 1),
        device=describe_device(trained.device),
        seed=options.seed,
        notes=(
            ()
            if trained.weights is None
            else (f"First weights: {trained.weights.origin}, SHA-256 {trained.weights.sha256}.",)
        ),
        details={
            f"fold {number}": {
                "train": list(fold.train),
                "validation": list(fold.validation),
                "steps": result.progress.step,
                "training_seconds": round(result.progress.seconds, 1),
                **(
                    {"left_out": list(result.progress.left_out)} if result.progress.left_out else {}
                ),
            }
            for (number, fold), result in zip(trained.chosen, results, strict=True)
        },
    )
    return TrainedModel(
        plan=trained.plan,
        networks=tuple(result.network for result in results),
        device=trained.device,
        metrics=_metrics(trained, scores, notes, options),
        facts=facts,
        assurance=trained.assurance,
    )


def _few_steps(plan: Plan, member: Member) -> str:
    """Make a warning for a training that was too short.

    "" for one that was not, or whose loss no longer fell.
    """
    progress, cases = member.result.progress, len(member.trained)
    epochs = progress.step * plan.batch.value / max(1, cases)
    if progress.step == 0 or (
        progress.step >= _FEW_STEPS and epochs >= 1
    ):  # a linear probe makes no step
        return ""
    if epochs >= 1 and not loss_still_falls(progress.rows):
        return ""
    why = "its loss was still falling" if epochs >= 1 else "not every training case was used"
    return (
        f"Warning: fold {member.number} trained for only {progress.step} steps ({epochs:.2g} epochs"
        f" of {cases} cases) and {why}: a longer training in another folder would be better."
    )


def _metrics(
    trained: _Trained, scores: tuple[Any, ...], notes: list[str], options: TrainOptions
) -> ModelMetrics:
    """Collect the metrics that the model card shows."""
    if not scores:
        return ModelMetrics(measured_on="not measured: no validation cases", notes=tuple(notes))
    rows, level = VALIDATORS[trained.plan.task.value](trained.plan, trained.device, ()).metrics(
        scores
    )
    cases = len({score.case for score in scores})
    one = len(trained.chosen) == 1
    split = (
        f"fold {trained.chosen[0][0]}" if one else f"{len(trained.chosen)}-fold cross-validation"
    )
    return ModelMetrics(
        measured_on=(
            f"{cases} validation cases of {trained.dataset.name} ({split}, seed {options.seed};"
            f" torch in {trained.plan.precision.value})"
        ),
        metrics=rows,
        level=level,
        notes=tuple(notes),
    )


def _plain(options: TrainOptions) -> dict[str, str | float | int | bool | None]:
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    values["overrides"] = None if options.overrides is None else str(options.overrides)
    values["label"] = (
        options.label
        if options.label is None or isinstance(options.label, str)
        else ", ".join(options.label)
    )
    values["classes"] = (
        options.classes
        if options.classes is None or isinstance(options.classes, str)
        else ", ".join(options.classes)
    )
    values["plan"] = (
        None
        if options.plan is None
        else "given"
        if isinstance(options.plan, Plan)
        else str(options.plan)
    )
    return values
