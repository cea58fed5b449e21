"""A linear probe: the head alone, fitted by logistic regression on features that are computed once.

Frozen weights give a case the same features in every fold: they are kept beside the stored inputs,
for the folds that follow and for a training that is taken up again.
"""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

from hilum.files import atomic_path
from hilum.inference.predict_cases import UNLIMITED, Deadline, predict_cases
from hilum.training.augmentation import centre_of
from hilum.training.case_order import minimum_per_class_first, stratified_order
from hilum.training.steps.step import PreparedNetwork
from hilum.training.time_plan import PROBE_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from sklearn.linear_model import LogisticRegression

    from hilum.networks.classifier import ClassifierNetwork
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


def fit_probe(
    network: ClassifierNetwork,
    views: ViewSampler,
    job: TrainingJob[ClassificationPlan, ClassifierStore],
    tick: Callable[[float, int], None] | None = None,
    deadline: Deadline = UNLIMITED,
) -> PreparedNetwork:
    """Fit the last linear layer of a network on frozen features of the training cases, in place.

    One binary regression for each output that is not exclusive, a multinomial one for exclusive
    classes. Features are standardised for the fit, and the scaling is folded into the layer. Inner
    folds keep patients and near-duplicates together. `tick` is called with the share of the cases
    whose features are there.

    With a deadline the fit is on those cases whose features are kept, and on as many others as
    there is time for: a sample that represents the classes, at least `FEWEST` of each. The result
    lists what is left out.
    """
    classes = job.plan.classes
    cases, features = _case_features(network, views, job, tick, deadline)
    targets = np.array([views.target(case) for case in cases], dtype=np.float64)
    groups = [job.groups.get(case, case) for case in cases]
    mean, std = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    scaled = (features - mean) / std
    if classes.kind == "exclusive":
        weight, bias = _multinomial(scaled, targets.argmax(axis=1), groups, classes.outputs)
    else:
        pairs = [_multinomial(scaled, column.astype(int), groups, 2) for column in targets.T]
        weight, bias = (np.stack([pair[n][1] - pair[n][0] for pair in pairs]) for n in (0, 1))
    weight = weight / std
    bias = bias - weight @ mean
    layer = [part for part in network.head.modules() if isinstance(part, torch.nn.Linear)][-1]
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight).to(layer.weight))
        layer.bias.copy_(torch.from_numpy(bias).to(layer.bias))
    left_out = tuple(case for case in job.cases if case not in set(cases))
    note = (
        f"the probe was fitted on {len(cases)} of {len(job.cases)} training cases, a fair sample of"
        " the classes, because the time was up; more --minutes look at more"
    )
    return PreparedNetwork(complete=True, left_out=left_out, notes=(note,) if left_out else ())


def _case_features(
    network: ClassifierNetwork,
    views: ViewSampler,
    job: TrainingJob[ClassificationPlan, ClassifierStore],
    tick: Callable[[float, int], None] | None,
    deadline: Deadline,
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Compute the features of cases until the deadline, at least `FEWEST` a class.

    They are kept in the store's folder, and not computed again where they are there. Inputs are not
    augmented.

    Returns:
        The cases in the order of the job, and their features (N, F).
    """
    network.eval()
    file = job.store.folder / f"features-{_features_key(network, job)}.npy"
    stored = _read(file)
    before = len(stored)
    names = {case: f"{job.store.key(case)} {case}" for case in job.cases}

    def compute(case: str) -> NDArray[np.float32]:
        if names[case] not in stored:
            image = centre_of(views.view(case)[None], job.plan.patch.value).to(job.device)
            stored[names[case]] = network.features(image).float().cpu().numpy()[0]
        return stored[names[case]]

    labels = [job.labels[case] for case in job.cases]
    order, needed = minimum_per_class_first(
        stratified_order(job.cases, labels, job.plan.classes), labels, job.plan.classes, FEWEST
    )
    rank = {
        place: (names[job.cases[place]] not in stored) * (1 + (position >= needed))
        for position, place in enumerate(order)
    }  # 0 what is kept, 1 what is needed, 2 the others
    try:
        with torch.inference_mode():
            found = predict_cases(
                compute,
                job.cases,
                order=sorted(order, key=lambda place: rank[place]),
                deadline=deadline.part(PROBE_SHARE),
                least=sum(one < 2 for one in rank.values()),
                progress=None if tick is None else lambda done, total, _: tick(done / total, 0),
            )
    finally:  # also of a training that is interrupted, which takes them up again
        if len(stored) > before:
            _write(stored, file)
    if tick is not None:
        tick(1.0, 0)
    return tuple(found), np.array([*found.values()], dtype=np.float64)


def _features_key(
    network: ClassifierNetwork, job: TrainingJob[ClassificationPlan, ClassifierStore]
) -> str:
    """Hash the network below its head, and the part of a stored input that it gets."""
    plan = job.plan
    digest = hashlib.sha256(
        f"{plan.network.value.model_dump_json()} {plan.patch.value} {job.device.type}".encode()
    )
    for name, tensor in network.state_dict().items():
        if not name.startswith("head."):
            digest.update(name.encode())
            digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read features (F,) by stored input; none where there is no such file, or it is damaged."""
    if not path.is_file():
        return {}
    try:
        rows = np.load(path, allow_pickle=False)
        return dict(zip(rows["input"].tolist(), rows["features"], strict=True))
    except (OSError, ValueError, IndexError, EOFError):
        return {}


def _write(features: dict[str, NDArray[np.float32]], path: Path) -> None:
    """Write features by the name of their input to one .npy file."""
    width, longest = len(next(iter(features.values()))), max(map(len, features))
    rows = np.zeros(
        len(features), dtype=[("input", f"U{longest}"), ("features", np.float32, (width,))]
    )
    rows["input"], rows["features"] = list(features), list(features.values())
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, rows, allow_pickle=False)


def _multinomial(
    x: NDArray[np.float64], y: NDArray[np.int64], groups: list[str], outputs: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit weights (K, F) and biases (K,) by logistic regression; a class without cases gets -10."""
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


def _regression(
    x: NDArray[np.float64], y: NDArray[np.int64], groups: list[str]
) -> LogisticRegression | None:
    """Fit the regression with the best penalty; None where there is one class only."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2:
        return None
    folds = min(_INNER_FOLDS, int(counts.min()), len(set(groups)))
    best = 1e-2
    with warnings.catch_warnings():
        # lbfgs says that it stopped early, which is a form of regularisation too
        warnings.simplefilter("ignore")
        if folds >= 2:
            splits = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
            losses = [
                log_loss(
                    y,
                    cross_val_predict(
                        LogisticRegression(C=strength, max_iter=500),
                        x,
                        y,
                        groups=groups,
                        cv=splits,
                        method="predict_proba",
                    ),
                    labels=classes,
                )
                for strength in STRENGTHS
            ]
            best = STRENGTHS[int(np.argmin(losses))]
        return LogisticRegression(C=best, max_iter=2000).fit(x, y)
