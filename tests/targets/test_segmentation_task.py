"""Target, loss, labels and probabilities of a label table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import hilum.targets
from hilum.errors import LabelError
from hilum.plan.segmentation import LossSpec
from hilum.targets import (
    SegmentationTask,
    activate_logits,
    decode_logits,
    decode_regions,
    encode_target,
)
from hilum.volume import LabelTable, Region

EXCLUSIVE = LabelTable.from_names({2: "liver", 7: "tumour"}, ignore=9)
REGIONS = EXCLUSIVE.model_copy(
    update={
        "regions": (Region(name="organ", labels=(2, 7)), Region(name="lesion", labels=(7,))),
        "decode_ids": (2, 7),
    }
)
LABELS = np.array([[[0, 2, 7], [7, 7, 0]], [[2, 2, 0], [0, 7, 2]]], dtype=np.int16)
tables = pytest.mark.parametrize("table", [EXCLUSIVE, REGIONS], ids=["exclusive", "regions"])


def perfect(table: LabelTable, labels: np.ndarray) -> np.ndarray:
    target = encode_target(labels, table)
    truth = np.stack([target[0] == n for n in range(3)]) if table.exclusive else target
    return truth.astype(np.float32) * 20 - 10


@tables
def test_perfect_logits_decode_to_the_annotation(table: LabelTable) -> None:
    task, logits = SegmentationTask(table), perfect(table, LABELS)
    decoded = decode_logits(logits, table)
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, LABELS)
    target = torch.from_numpy(task.encode(LABELS))[None]
    assert task.loss(LossSpec())(torch.from_numpy(logits)[None], target).item() < 1e-2


@tables
@given(
    logits=hnp.arrays(
        np.float32,
        (3, 2, 3, 4),
        elements=st.floats(-50, 50, width=32) | st.sampled_from([np.float32(0), np.float32(1)]),
    )
)
@settings(deadline=None, max_examples=30, derandomize=True)
def test_decoding_agrees_with_torch(table: LabelTable, logits: np.ndarray) -> None:
    scores = logits[: table.outputs]
    if table.exclusive:
        expected = np.take(
            table.ids, torch.from_numpy(scores).argmax(dim=0).numpy()
        )  # the first of equal ones
        likely = torch.from_numpy(scores).softmax(dim=0).numpy()
    else:
        expected = decode_regions(torch.from_numpy(scores).sigmoid().numpy() > 0.5, table)
        likely = torch.from_numpy(scores).sigmoid().numpy()
    if (
        table.exclusive or not ((scores > 0) & (likely == 0.5)).any()
    ):  # a logit of 1e-9 is one half after rounding
        assert np.array_equal(decode_logits(scores, table), expected)
    np.testing.assert_allclose(activate_logits(scores, table), likely, rtol=1e-5, atol=1e-7)


@tables
def test_probabilities_are_in_float32(table: LabelTable) -> None:
    logits = np.array([0.0, 1.0, -1.0], np.float32)[: table.outputs, None, None, None]
    values = activate_logits(logits, table)
    assert values.dtype == np.float32
    assert values.shape == logits.shape
    if table.exclusive:
        assert values.sum() == pytest.approx(1)
        assert values[1].item() == pytest.approx(np.exp(1) / (1 + np.exp(1) + np.exp(-1)))
    else:
        assert values.ravel().tolist() == pytest.approx([0.5, 1 / (1 + np.exp(-1))])


def test_ties_go_to_the_first_label_and_half_is_not_inside() -> None:
    assert decode_logits(np.zeros((3, 1, 1, 1), np.float32), EXCLUSIVE).item() == 0
    assert decode_logits(np.zeros((2, 1, 1, 1), np.float32), REGIONS).item() == 0


def test_any_shape_of_slab_is_decoded() -> None:
    logits = perfect(EXCLUSIVE, LABELS)
    assert np.array_equal(decode_logits(logits[:, 0], EXCLUSIVE), LABELS[0])
    assert decode_logits(logits[:, :0], EXCLUSIVE).shape == (0, 2, 3)


@tables
def test_outputs_are_the_table_s(table: LabelTable) -> None:
    assert SegmentationTask(table).outputs == (3 if table.exclusive else 2)


@tables
@pytest.mark.parametrize("function", [decode_logits, activate_logits])
def test_logits_of_another_table_are_refused(table: LabelTable, function) -> None:
    with pytest.raises(LabelError, match=r"the logits have shape \(5, 1, 1, 1\)"):
        function(np.zeros((5, 1, 1, 1), np.float32), table)
    with pytest.raises(LabelError, match=r"one case at a time: logits\[0\]"):
        function(np.zeros((1, table.outputs, 1, 1, 1), np.float32), table)


def test_the_front_door_is_complete() -> None:
    assert all(hasattr(hilum.targets, name) for name in hilum.targets.__all__)
    with pytest.raises(AttributeError, match="no attribute 'anything'"):
        _ = hilum.targets.anything
