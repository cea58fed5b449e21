"""A linear probe: the head alone, fitted by logistic regression on features that are computed once.

Frozen weights give a case the same features in every fold: they are kept beside the stored inputs,
for the folds that follow and for a training that is taken up again.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hilum.io import atomic_path
from hilum.training.augmentation import centre_of
from hilum.training.case_order import minimum_per_class_first, stratified_order
from hilum.training.steps.step import PreparedNetwork

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from hilum.plan.classification import ClassificationPlan
    from hilum.preprocess import ClassifierStore
    from hilum.training.loop import TrainingJob
    from hilum.training.sampling import ViewSampler

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse penalties that are tried; the one with the lowest log loss over inner folds of the
training cases is taken."""
_INNER_FOLDS = 5
FEWEST = 10
"""Cases of each class, or all that there are, whose features are computed however long that takes:
two for each inner fold."""
_FIT_SECONDS = 1.5
_FIT_SECONDS_PER_NUMBER = 0.4e-6
"""The regressions, a feature of a case and output; measured on one core with 512 to 1024 features
of 500 to 2000 cases."""


def fit_probe(
    network: Any,
    sampler: ViewSampler,
    plan: ClassificationPlan,
    job: TrainingJob[ClassificationPlan, ClassifierStore],
    tick: Callable[[float, int], None] | None = None,
    seconds: float | None = None,
) -> PreparedNetwork:
    """Fit the last linear layer of a network on frozen features of the training cases, in place.

    One binary regression for each output that is not exclusive, a multinomial one for exclusive
    classes. Features are standardised for the fit, and the scaling is folded into the layer. Inner
    folds keep patients and near-duplicates together. `tick` is told the share of the cases whose
    features are there.

    Where `seconds` bound it, the fit is on those cases whose features are kept, and on as many
    others as there is time for: a fair sample of the classes, at least `FEWEST` of each. What is
    left out is in the answer.
    """
    clock = _Clock(seconds, plan.classes.outputs)
    cases, features = _features(network, sampler, plan, job, tick, clock)
    looked = clock.elapsed
    targets = np.array([sampler.target(case) for case in cases], dtype=np.float64)
    groups = [job.units.get(case, case) for case in cases]
    mean, std = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    scaled = (features - mean) / std
    if plan.classes.kind == "exclusive":
        weight, bias = _multinomial(scaled, targets.argmax(axis=1), groups, plan.classes.outputs)
    else:
        rows = [_binary(scaled, targets[:, n].astype(int), groups) for n in range(targets.shape[1])]
        weight, bias = np.stack([row for row, _ in rows]), np.array([one for _, one in rows])
    weight = weight / std
    bias = bias - weight @ mean
    layer = _last_linear(network)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight).to(layer.weight))
        layer.bias.copy_(torch.from_numpy(bias).to(layer.bias))
    fitted = set(cases)
    left_out = tuple(case for case in job.cases if case not in fitted)
    return PreparedNetwork(
        complete=True, left_out=left_out, notes=_notes(len(cases), len(left_out), looked, seconds)
    )


def _notes(used: int, left_out: int, looked: float, seconds: float | None) -> tuple[str, ...]:
    """A sentence where the time left cases out."""
    if not left_out or seconds is None:
        return ()
    late = (
        f"even these took {looked:.0f} s of the {seconds:.0f} that were left; "
        if looked > seconds
        else ""
    )
    said = (
        f"the probe was fitted on {used} of {used + left_out} training cases, a fair sample of the"
        " classes"
    )
    return (f"{said}, because the time was up; {late}more --minutes look at more",)


def _last_linear(network: Any) -> nn.Linear:
    layers: list[nn.Linear] = [
        module for module in network.head.modules() if isinstance(module, torch.nn.Linear)
    ]
    return layers[-1]


def _features(
    network: Any,
    sampler: ViewSampler,
    plan: ClassificationPlan,
    job: TrainingJob[ClassificationPlan, ClassifierStore],
    tick: Callable[[float, int], None] | None,
    clock: _Clock,
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """The cases, in the job's order, and their features (N, F), without augmentation.

    Those that are kept, and the others as far as the clock allows, which are kept now and then.
    """
    network.eval()
    store = job.store
    kept = store.folder / f"features-{_seen_by(network, plan, job)}.npy"
    names = {case: f"{store.key(case)} {case}" for case in job.cases}
    known = _read(kept)
    there = len(known)
    used = {case for case in job.cases if names[case] in known}
    missing, needed = _missing(used, plan, job, bounded=clock.seconds is not None)
    try:
        with torch.inference_mode():
            for done, case in enumerate(missing):
                if done >= needed and clock.is_up(done, known, len(used)):
                    break
                image = centre_of(sampler.view(case)[None], plan.patch.value).to(job.device)
                known[names[case]] = network.features(image).float().cpu().numpy()[0]
                used.add(case)
                if clock.to_save(job.checkpoint_seconds):
                    _write(known, kept)
                    there = len(known)
                if tick is not None:
                    tick(max(len(used) / len(names), clock.share), 0)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"the features of {len(used)} of {len(names)} cases are kept"
        ) from None
    finally:
        if len(known) > there:
            _write(known, kept)
    if tick is not None:
        tick(1.0, 0)
    cases = tuple(case for case in job.cases if case in used)
    return cases, np.array([known[names[case]] for case in cases], dtype=np.float64)


def _missing(
    known: set[str],
    plan: ClassificationPlan,
    job: TrainingJob[ClassificationPlan, ClassifierStore],
    *,
    bounded: bool,
) -> tuple[list[str], int]:
    """Order cases for computing features, with the number that is computed in any case."""
    if not bounded:
        missing = [case for case in job.cases if case not in known]
        return missing, len(missing)
    labels = [job.labels[case] for case in job.cases]
    order = sorted(
        stratified_order(job.cases, labels, plan.classes),
        key=lambda place: job.cases[place] not in known,
    )
    order, needed = minimum_per_class_first(order, labels, plan.classes, FEWEST)
    first = [job.cases[place] for place in order[:needed]]
    return [case for place in order if (case := job.cases[place]) not in known], sum(
        case not in known for case in first
    )


class _Clock:
    """Remaining seconds that features and regressions may take.

    Args:
        seconds: of both together; None does not bound them.
        outputs: of the head.
    """

    def __init__(self, seconds: float | None, outputs: int) -> None:
        self.seconds, self._outputs = seconds, outputs
        self._begun = self._saved = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds that have passed."""
        return time.perf_counter() - self._begun

    @property
    def share(self) -> float:
        """Of the seconds, what has passed; 0 where nothing bounds them."""
        return min(1.0, self.elapsed / self.seconds) if self.seconds else 0.0

    def is_up(self, done: int, known: dict[str, NDArray[np.float32]], used: int) -> bool:
        """Return True if one more case, and the regressions on all of them, would take too long."""
        if self.seconds is None:
            return False
        width = len(next(iter(known.values()))) if known else 0
        fit = _FIT_SECONDS + _FIT_SECONDS_PER_NUMBER * (used + 1) * width * self._outputs
        return self.elapsed * (1 + 1 / max(done, 1)) + fit > self.seconds

    def to_save(self, every: float) -> bool:
        """Return True if it is time to write the features again."""
        if time.perf_counter() - self._saved <= every:
            return False
        self._saved = time.perf_counter()
        return True


def _seen_by(
    network: Any, plan: ClassificationPlan, job: TrainingJob[ClassificationPlan, ClassifierStore]
) -> str:
    """Changes where the network below its head, or what of a stored input it sees, does."""
    digest = hashlib.sha256(
        f"{plan.network.value.model_dump_json()} {plan.patch.value} {job.device.type}".encode()
    )
    for name, tensor in network.state_dict().items():
        if not name.startswith("head."):
            digest.update(name.encode())
            digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    """Features (F,) by stored input; none where there is no such file, or it is damaged."""
    if not path.is_file():
        return {}
    try:
        rows = np.load(path, allow_pickle=False)
        return dict(zip(rows["input"].tolist(), rows["features"], strict=True))
    except (OSError, ValueError, IndexError, EOFError):
        return {}


def _write(known: dict[str, NDArray[np.float32]], path: Path) -> None:
    width, longest = len(next(iter(known.values()))), max(map(len, known))
    rows = np.zeros(
        len(known), dtype=[("input", f"U{longest}"), ("features", np.float32, (width,))]
    )
    rows["input"], rows["features"] = list(known), list(known.values())
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, rows, allow_pickle=False)


def _multinomial(x: Any, y: NDArray[np.int64], groups: list[str], outputs: int) -> tuple[Any, Any]:
    model = _regression(x, y, groups)
    if model is None:  # one class only: its prior
        return np.zeros((outputs, x.shape[1])), np.log(
            (np.bincount(y, minlength=outputs) + 1.0) / (len(y) + outputs)
        )
    weight, bias = np.zeros((outputs, x.shape[1])), np.full(outputs, -10.0)
    if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes
        weight[model.classes_[1]], bias[model.classes_[1]] = model.coef_[0], model.intercept_[0]
        bias[model.classes_[0]] = 0.0
    else:
        weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weight, bias


def _binary(x: Any, y: NDArray[np.int64], groups: list[str]) -> tuple[Any, float]:
    model = _regression(x, y, groups)
    if model is None:
        share = (y.sum() + 1.0) / (len(y) + 2.0)
        return np.zeros(x.shape[1]), float(np.log(share / (1 - share)))
    return model.coef_[0], float(model.intercept_[0])


def _regression(x: Any, y: NDArray[np.int64], groups: list[str]) -> Any:
    """The regression with the best penalty; None where there is one class only."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedGroupKFold

    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2:
        return None
    folds = min(_INNER_FOLDS, int(counts.min()), len(set(groups)))
    best = 1e-2
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # lbfgs says that it stopped early, which is a form of regularisation too
        if folds >= 2:
            splits = list(
                StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(x, y, groups)
            )
            losses = []
            for strength in STRENGTHS:
                answers = np.full((len(y), len(classes)), 1 / len(classes))
                for train, held in splits:
                    if len(np.unique(y[train])) == len(classes):
                        answers[held] = (
                            LogisticRegression(C=strength, max_iter=500)
                            .fit(x[train], y[train])
                            .predict_proba(x[held])
                        )
                losses.append(log_loss(y, answers, labels=classes))
            best = STRENGTHS[int(np.argmin(losses))]
        return LogisticRegression(C=best, max_iter=2000).fit(x, y)
