"""The seam: encode, loss, decode, probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hilum.tasks
from hilum.errors import UsageError
from hilum.plan.segmentation import LossSpec
from hilum.tasks import SegmentationTask, encode_target
from hilum.volume import LabelTable, Region

EXCLUSIVE = LabelTable.from_names({2: "liver", 7: "tumour"}, ignore=9)
REGIONS = EXCLUSIVE.model_copy(
    update={"regions": (Region(name="organ", labels=(2, 7)), Region(name="lesion", labels=(7,))), "decode_ids": (2, 7)}
)
LABELS = np.array([[[0, 2, 7], [7, 7, 0]], [[2, 2, 0], [0, 7, 2]]], dtype=np.int16)
tables = pytest.mark.parametrize("table", [EXCLUSIVE, REGIONS], ids=["exclusive", "regions"])


def perfect(table: LabelTable, labels: np.ndarray) -> torch.Tensor:
    target = torch.from_numpy(encode_target(labels, table))
    truth = torch.nn.functional.one_hot(target[0].long(), 3).movedim(-1, 0) if table.exclusive else target
    return truth.float() * 20 - 10


@tables
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_perfect_answer_decodes_to_the_annotation(table: LabelTable, dtype: torch.dtype) -> None:
    task = SegmentationTask(table)
    logits = perfect(table, LABELS).to(dtype)
    decoded = task.decode(logits)
    assert decoded.dtype == np.int32
    assert np.array_equal(decoded, LABELS)
    if dtype == torch.float32:
        assert np.array_equal(task.decode(logits.numpy()), LABELS)
    assert task.loss(LossSpec())(logits[None], torch.from_numpy(task.encode(LABELS))[None]).item() < 1e-2


@tables
def test_probabilities_are_in_float32(table: LabelTable) -> None:
    logits = torch.tensor([0.0, 1.0, -1.0])[: table.outputs, None, None, None].bfloat16()
    values = SegmentationTask(table).probabilities(logits)
    assert values.dtype == torch.float32
    assert values.shape == logits.shape
    if table.exclusive:
        assert values.sum().item() == pytest.approx(1)
        assert values[1].item() == pytest.approx(np.exp(1) / (1 + np.exp(1) + np.exp(-1)))
    else:
        assert values.flatten().tolist() == pytest.approx([0.5, 1 / (1 + np.exp(-1))])


def test_ties_go_to_the_first_label_and_half_is_not_inside() -> None:
    assert SegmentationTask(EXCLUSIVE).decode(torch.zeros(3, 1, 1, 1)).item() == 0
    assert SegmentationTask(REGIONS).decode(torch.zeros(2, 1, 1, 1)).item() == 0


def test_any_shape_of_slab_is_decoded() -> None:
    logits = perfect(EXCLUSIVE, LABELS)
    assert np.array_equal(SegmentationTask(EXCLUSIVE).decode(logits[:, 0]), LABELS[0])
    assert SegmentationTask(EXCLUSIVE).decode(logits[:, :0]).shape == (0, 2, 3)


@tables
def test_outputs_are_the_table_s(table: LabelTable) -> None:
    assert SegmentationTask(table).outputs == (3 if table.exclusive else 2)


@tables
@pytest.mark.parametrize("method", ["decode", "probabilities"])
def test_logits_of_another_table_are_refused(table: LabelTable, method: str) -> None:
    with pytest.raises(UsageError, match=r"logits of shape \(5, 1, 1, 1\)"):
        getattr(SegmentationTask(table), method)(torch.zeros(5, 1, 1, 1))
    with pytest.raises(UsageError, match=r"one case at a time: logits\[0\]"):
        getattr(SegmentationTask(table), method)(torch.zeros(1, table.outputs, 1, 1, 1))


def test_the_front_door_is_complete() -> None:
    assert all(hasattr(hilum.tasks, name) for name in hilum.tasks.__all__)
    assert hilum.tasks.__all__ == sorted(hilum.tasks.__all__, key=lambda name: (not name.isupper(), name.islower(), name))
    with pytest.raises(AttributeError, match="no attribute 'anything'"):
        _ = hilum.tasks.anything
