"""Classification at the seam.

Targets, losses and probabilities, held to torch, to the metrics and to numbers by hand.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from classification_toys import FINDINGS, GRADES, TABLES, THREE, TWO
from hilum import metrics
from hilum.dataset import ClassTable
from hilum.errors import LabelError, UsageError
from hilum.plan.classification import ClassLossSpec
from hilum.targets import ClassificationTask, ClassLoss
from hilum.targets.class_score import ClassScore, decide
from hilum.targets.predictions import called_classes, in_file_names

SLOW = settings(deadline=None, max_examples=30, derandomize=True)


def logits_of(rows: int, outputs: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(rows, outputs, generator=torch.Generator().manual_seed(seed))


def finite(outputs: int):
    return arrays(
        np.float64, st.tuples(st.integers(1, 5), st.just(outputs)), elements=st.floats(-30, 30)
    )


# --- targets
# ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "label", "target"),
    [
        (TWO, "benign", [1, 0]),
        (TWO, "malignant", [0, 1]),
        (THREE, "adenoma", [0, 1, 0]),
        (GRADES, "I", [0, 0, 0]),
        (GRADES, "III", [1, 1, 0]),
        (GRADES, "IV", [1, 1, 1]),
        (FINDINGS, "", [0, 0, 0]),
        (FINDINGS, "nodule|effusion", [1, 0, 1]),
    ],
)
def test_a_label_becomes_a_target(table, label, target):
    task = ClassificationTask(table)
    encoded = task.encode(label)
    assert encoded.tolist() == target
    assert encoded.dtype == np.float32
    assert len(encoded) == task.outputs == table.outputs


def test_a_label_that_is_none_is_refused():
    with pytest.raises(LabelError, match=r"class 'V'[\s\S]*I, II, III, IV"):
        ClassificationTask(GRADES).encode("V")


# --- losses
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0)])
def test_exclusive_classes_have_torchs_cross_entropy(smoothing, weights):
    logits, classes = logits_of(9, 3), torch.arange(9) % 3
    soft = F.one_hot(classes, 3).float()
    mixed = 0.7 * soft + 0.3 * soft.roll(1, 0)
    loss = ClassificationTask(THREE).loss(
        ClassLossSpec(class_weights=weights, label_smoothing=smoothing)
    )
    own = None if weights is None else torch.tensor(weights)
    for targets in (soft, mixed):
        expected = F.cross_entropy(logits, targets, weight=own, label_smoothing=smoothing)
        torch.testing.assert_close(loss(logits, targets), expected)
    if weights is None:
        torch.testing.assert_close(
            loss(logits, soft), F.cross_entropy(logits, classes, label_smoothing=smoothing)
        )


@pytest.mark.parametrize("table", [FINDINGS, GRADES])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0)])
def test_findings_and_grades_have_torchs_binary_cross_entropy(table, smoothing, weights):
    logits = logits_of(6, 3)
    targets = torch.from_numpy(
        np.stack([ClassificationTask(table).encode(label) for label in _labels(table)])
    )
    loss = ClassificationTask(table).loss(
        ClassLossSpec(class_weights=weights, label_smoothing=smoothing)
    )
    own = None if weights is None else torch.tensor(weights)
    softened = targets * (1 - smoothing) + smoothing / 2
    torch.testing.assert_close(
        loss(logits, targets), F.binary_cross_entropy_with_logits(logits, softened, weight=own)
    )


def _labels(table):
    return (
        ["", "mass", "effusion|mass", "nodule", "effusion", ""]
        if table is FINDINGS
        else ["I", "II", "III", "IV", "II", "I"]
    )


def test_losses_by_hand():
    """Logits of 0 say one half, or one in K: log 2 and log K, whatever the target.

    Ln(1 + e) - 1 where 1 speaks for the truth.
    """
    for table in TABLES.values():
        task = ClassificationTask(table)
        expected = math.log(len(table.names)) if table.kind == "exclusive" else math.log(2)
        targets = torch.from_numpy(task.encode(table.names[-1]))[None]
        value = task.loss(ClassLossSpec())(torch.zeros(1, task.outputs), targets)
        assert float(value) == pytest.approx(expected)
    value = ClassificationTask(TWO).loss(ClassLossSpec())(
        torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 1.0]])
    )
    assert float(value) == pytest.approx(math.log(1 + math.e) - 1)


def test_the_loss_is_of_single_precision_and_its_weights_move_with_it():
    loss = ClassLoss(ClassLossSpec(class_weights=(1.0, 3.0)), exclusive=True)
    value = loss(torch.zeros(2, 2, dtype=torch.bfloat16), torch.eye(2))
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(2 * math.log(2))
    assert [name for name, _ in loss.named_buffers()] == ["weights"]
    assert not loss.state_dict()  # what the plan holds need not be in a checkpoint too


# --- probabilities
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TABLES)
def test_probabilities_are_those_of_the_metrics_at_temperature_one(kind):
    table = TABLES[kind]
    logits = logits_of(50, table.outputs, seed=3)
    found = ClassificationTask(table).probabilities(logits)
    assert found.dtype == torch.float64
    assert found.shape == (50, len(table.names))
    np.testing.assert_allclose(
        found, metrics.apply_temperature(logits.numpy(), kind=table.kind), atol=1e-9
    )


def test_probabilities_of_grades_by_hand():
    """P(above I) = 0.8, above II 0.5, above III 0.9.

    Which cannot be more than that of II and is made 0.5.
    """
    logits = torch.logit(torch.tensor([[0.8, 0.5, 0.9]], dtype=torch.float64))
    found = ClassificationTask(GRADES).probabilities(logits)
    np.testing.assert_allclose(found, [[0.2, 0.3, 0.0, 0.5]], atol=1e-12)


@SLOW
@given(finite(3))
def test_probabilities_are_probabilities(logits):
    for table in (THREE, GRADES, FINDINGS):
        found = ClassificationTask(table).probabilities(torch.from_numpy(logits)).numpy()
        assert ((found >= 0) & (found <= 1)).all()
        if table is not FINDINGS:
            np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)
        else:
            np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), atol=1e-12)


def classes_of(logits, table):
    """The classes that are called from logits, joined as a label."""
    rows = ClassificationTask(table).probabilities(logits).numpy()
    return tuple(
        "|".join(name for name, yes in zip(table.names, row, strict=True) if yes)
        for row in decide(rows, table)
    )


@SLOW
@given(finite(3))
def test_called_classes_are_those_of_predictions(logits):
    for table in (THREE, GRADES, FINDINGS):
        rows = ClassificationTask(table).probabilities(torch.from_numpy(logits)).numpy()
        for label, row in zip(classes_of(torch.from_numpy(logits), table), rows, strict=True):
            score = ClassScore(case="a", probabilities=tuple(np.clip(row, 0, 1)))
            assert label == "|".join(called_classes(score, table))


def test_called_classes_by_hand():
    assert classes_of(torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]]), TWO) == (
        *("malignant", "benign", "malignant"),  # the positive one from one half on
    )
    assert classes_of(torch.tensor([[0.0, 2.0, 1.0]]), THREE) == ("adenoma",)
    # the median grade: 0.45 I, 0.15 II, 0.4 III; the most probable one would err by two grades in
    # 40 %
    above = torch.logit(torch.tensor([[0.55, 0.4, 0.0001]]))
    assert classes_of(above, GRADES) == ("II",)
    assert classes_of(torch.tensor([[1.0, -1.0, 0.5], [-1.0, -1.0, -1.0]]), FINDINGS) == (
        "effusion|nodule",
        "",
    )


@pytest.mark.parametrize("shape", [(3,), (1, 2), (1, 4), (1, 3, 1)])
def test_logits_of_another_shape_are_refused(shape):
    with pytest.raises(UsageError, match=r"the logits have shape[\s\S]*\(B, 3\)"):
        ClassificationTask(GRADES).probabilities(torch.zeros(shape))


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("benign", "grade 3/4"), ["benign", "grade-3-4"]),
        (("none", "ER+", "ER-"), ["none", "ER--1", "ER--2"]),
        (("a", "A", "b"), ["a-0", "A-1", "b"]),
        (("ER+", "ER-", "ER--0"), ["ER--0", "ER--1", "ER--0-2"]),
    ],
)
def test_classes_have_file_names_of_their_own(names, parts):
    found = in_file_names(ClassTable(names=names))
    assert found == dict(zip(names, parts, strict=True))
