"""Small trainings of classifiers, for the tests of courses and of the probe."""

import numpy as np
import torch

from classification_toys import TWO, class_plan
from hilum.plan.plan import ClassifierSpec
from hilum.preprocess.classifier_store import ClassifierStore
from hilum.training import Budget, TrainedNetwork, TrainingJob, loop
from hilum.training.steps import ClassificationStep

CPU = torch.device("cpu")


def flat_plan(classes=TWO, *, dropout=0.0, **changes):
    """Pictures and a small backbone with batch norms."""
    spec = ClassifierSpec(
        kind="backbone",
        dimensions=2,
        in_channels=1,
        out_channels=classes.outputs,
        backbone="test_efficientnet",
        dropout=dropout,
    )
    return class_plan(
        classes, dimensions=2, patch=(1, 32, 32), orientation="source", network=spec, **changes
    )


def a_job(
    plan, folder, *, cases=12, signal=1.0, labels=None, seed=5, size=None, **more
) -> TrainingJob:
    """Noise whose mean tells the class, two cases a patient."""
    rng = np.random.default_rng(1)
    store = ClassifierStore(folder / "store")
    store.folder.mkdir(parents=True, exist_ok=True)
    names = plan.classes.names
    labels = labels or [names[n % len(names)] for n in range(cases)]
    ids = [f"c{n:02d}" for n in range(len(labels))]
    for case, label in zip(ids, labels, strict=True):
        members = np.flatnonzero(plan.classes.indicators(label))
        level = signal * (members.mean() if len(members) else -1.0)
        array = rng.normal(level, 1.0, (plan.inputs, *(size or plan.patch.value)))
        store.write(case, array.astype(np.float32), key="k")
    return TrainingJob(
        plan,
        store,
        tuple(ids),
        folder / "fold_0",
        Budget(steps=more.pop("steps", plan.steps.value)),
        CPU,
        seed=seed,
        checkpoint_seconds=0.0,
        labels=dict(zip(ids, labels, strict=True)),
        groups={case: f"P{n // 2}" for n, case in enumerate(ids)},
        **more,
    )


def fit(job, **calls) -> TrainedNetwork:
    """Train a classifier by the loop that users run."""
    return loop.fit(job, ClassificationStep(job), **calls)


def state(fitted) -> dict[str, torch.Tensor]:
    return fitted.network.state_dict()


def same(one, two) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


class Killed(BaseException):
    """Stands for whatever ends a process without asking."""
