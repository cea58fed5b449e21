"""The plan of a training: given, resumed, or made for the data and the device."""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from hilum.engines import host_memory, resolve_device
from hilum.errors import ResourceError
from hilum.files import atomic_write_text
from hilum.plan import Decision, Hardware, Overrides, make_fingerprint, save_plan
from hilum.plan.data_card import DATA_CARD, make_data_card
from hilum.training.benchmark_step import time_step
from hilum.training.given_plan import PLAN
from hilum.training.init_network import find_pretrained, new_network
from hilum.training.options import WORK, Listener, TrainOptions
from hilum.training.premises import Premises
from hilum.training.time_plan import LOOKS_TO_PREPROCESS, TRIAL_SHARE, Pace, TimePlan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hilum.dataset import Case, Dataset, Fold
    from hilum.files import OutputFolder
    from hilum.networks import Weights
    from hilum.plan import Fingerprint
    from hilum.training.task import P, S, StoreT, Task

_TIMING = "timing networks"
"""Stage of the progress."""


def make_plan_for(
    dataset: Dataset,
    task: Task[P, StoreT, S],
    options: TrainOptions,
    *,
    listener: Listener,
    cases: Sequence[str] | None = None,
    overrides: Overrides | None = None,
    measured: Callable[[Fingerprint], None] = lambda _: None,
) -> tuple[P, Pace | None]:
    """Look at the data, measure the device, decide.

    Args:
        dataset: opened.
        task: its task.
        options: device, memory and time.
        listener: is told what happens.
        cases: ids to look at; all annotated cases if None.
        overrides: what is not for the planner to decide.
        measured: is called with the fingerprint.

    Returns:
        The plan, and its pace on the device where there is a time limit.

    Raises:
        HilumError: see `make_fingerprint`; the data cannot be planned for.
    """
    device, started = resolve_device(options.device), time.perf_counter()
    fingerprint = make_fingerprint(
        dataset,
        cases=cases,
        progress=lambda done, total, case: listener.advance("measuring cases", done, total, case),
    )
    looked = time.perf_counter() - started
    measured(fingerprint)
    hardware = Hardware(
        device=device.type,
        memory_gb=options.memory_gb or _memory_gb(device, listener),
        minutes=options.minutes,
    )
    begun = time.perf_counter()
    limit = TRIAL_SHARE * 60 * (options.minutes or math.inf)

    def allowed(trial: str) -> bool:
        share = (time.perf_counter() - begun) / limit
        listener.advance(_TIMING, min(share, 1.0), 1.0, trial)
        return share < 1

    plan = task.make_plan(fingerprint, hardware, device, overrides, allowed)
    if options.minutes is None:
        return plan, None
    ids = [case.id for case in fingerprint.cases]
    pace = measure_pace(plan, task, device, dataset[ids[0]], listener)
    if overrides is not None and overrides.steps is not None:
        return plan, pace
    needs = task.needs(plan, pace, trained=len(ids), validated=len(dataset.cases) // 5)
    needs = {**needs, "preprocessing": LOOKS_TO_PREPROCESS * looked}
    seconds = TimePlan.of(options.minutes, needs, started=started).steps or 1.0
    steps = Decision[int](
        value=max(1, int(seconds / pace.step)),
        because=(
            f"at most: {options.minutes:g} minutes leave about {seconds / 60:.1f} for steps of"
            f" {pace.step:.3g} s (the quickest measured, with augmentation), and a busy machine"
            " makes fewer; the schedule ends with the time"
        ),
    )
    return plan.model_copy(update={"steps": steps}), pace


def measure_pace(
    plan: P, task: Task[P, StoreT, S], device: torch.device, case: Case, listener: Listener
) -> Pace:
    """Measure a training step, and predicting and scoring a case, with an untrained network."""
    listener.advance(_TIMING, 0.0, 1.0, "a step of the plan")
    step = time_step(plan, device, partial(task.trial_step, plan))
    listener.advance(_TIMING, 0.5, 1.0, f"predicting {case.id}")
    validator = task.validator(plan, device, (case,))
    seconds = validator.seconds_per_case(new_network(plan, 0).to(device))
    listener.advance(_TIMING, 1.0, 1.0, "")
    return Pace(step=max(1e-6, step), case=max(1e-6, seconds))


def prepare_plan(
    given: P | None,
    dataset: Dataset,
    task: Task[P, StoreT, S],
    premises: Premises,
    chosen: list[tuple[int, Fold]],
    folder: OutputFolder,
    options: TrainOptions,
    listener: Listener,
) -> tuple[P, Weights | None, Pace | None]:
    """Take the given plan or make one, find the first weights, and write both down.

    The premises of a resumed training are compared with those it began with.

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
    fingerprints: list[Fingerprint] = []
    if given is None:
        plan, pace = make_plan_for(
            dataset,
            task,
            options,
            listener=listener,
            cases=looked_at,
            overrides=options.overrides,
            measured=fingerprints.append,
        )
    else:
        plan, device = given, resolve_device(options.device)
        limited = options.minutes is not None
        case = dataset[looked_at[0]]
        pace = measure_pace(plan, task, device, case, listener) if limited else None
    weights = find_pretrained(plan)
    premises = premises.with_plan(plan, "" if weights is None else weights.sha256)
    if options.resume and given is not None:
        premises.refuse_changes(Premises.load(work), holder=str(work.parent))
    folder.record(WORK)
    work.mkdir(
        parents=True, exist_ok=True
    )  # only now: a mistyped path or plan leaves no folder that refuses the next try
    premises.save(work)
    path = work / PLAN
    if given is None or not (work / DATA_CARD).is_file():
        card = make_data_card(dataset, fingerprints[0] if fingerprints else None)
        atomic_write_text(work / DATA_CARD, card.as_json())
    source = options.plan
    own = isinstance(source, Path) and path.exists() and path.samefile(source)
    if given is None or (source is not None and not own):  # not over the file it was read from
        save_plan(plan, path)
    network = plan.network.value
    listener.say(
        f"Plan: {plan.dimensions.value}D {network.title}, patch"
        f" {' x '.join(map(str, plan.patch.value))}, batch {plan.batch.value},"
        f" {plan.precision.value}; every decision with its reason: {path}"
    )
    if weights is not None:
        listener.say(f"First weights: {weights.origin}.")
    return plan, weights, pace


def _memory_gb(device: torch.device, listener: Listener) -> float:
    """Return the memory to plan for: all there is, rounded down to a power of two."""
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
