"""Targets from annotations and back, without torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hilum.errors import LabelError
from hilum.targets import IGNORE, decode_logits, decode_regions, encode_target
from hilum.volume import Label, LabelTable, Region

TUMOUR = LabelTable(
    labels=tuple(
        Label(id=i, name=n)
        for i, n in ((0, "background"), (1, "oedema"), (2, "core"), (4, "enhancing"))
    ),
    regions=(
        Region(name="whole", labels=(1, 2, 4)),
        Region(name="tumour core", labels=(2, 4)),
        Region(name="enhancing", labels=(4,)),
    ),
    decode_ids=(1, 2, 4),
    ignore=9,
)


def test_exclusive_labels_become_indices() -> None:
    table = LabelTable.from_names({3: "liver", 7: "tumour"}, ignore=200)
    labels = np.array([[[0, 3], [7, 200]], [[3, 200], [0, 7]]], dtype=np.int16)
    target = encode_target(labels, table)
    assert target.dtype == np.uint8
    assert target.tolist() == [[[[0, 1], [2, IGNORE]], [[1, IGNORE], [0, 2]]]]


def test_regions_become_channels_that_overlap() -> None:
    labels = np.array([[[0, 1, 2, 4, 9, 0]]], dtype=np.int32)
    target = encode_target(labels, TUMOUR)
    assert target.dtype == np.uint8
    assert target[:, 0, 0].tolist() == [
        [0, 1, 1, 1, IGNORE, 0],
        [0, 0, 1, 1, IGNORE, 0],
        [0, 0, 0, 1, IGNORE, 0],
    ]


def test_regions_are_decoded_in_order_and_later_ones_win() -> None:
    members = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]], dtype=bool)[:, None, None]
    assert decode_regions(members, TUMOUR).tolist() == [[[1, 2, 4, 0]]]


@st.composite
def tables(draw: st.DrawFn) -> LabelTable:
    ids = draw(st.lists(st.integers(1, 100_000), min_size=0, max_size=6, unique=True))
    return LabelTable.from_names(
        {i: f"label {i}" for i in ids}, ignore=draw(st.sampled_from([None, 100_001]))
    )


@settings(deadline=None, max_examples=40, derandomize=True)
@given(table=tables(), data=st.data())
def test_indices_decode_to_the_annotation(table: LabelTable, data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=5))
    labels = data.draw(hnp.arrays(np.int32, shape, elements=st.sampled_from(table.ids)))
    target = encode_target(labels, table)
    assert target.shape == (1, *shape)
    logits = np.stack([target[0] == n for n in range(table.outputs)]).astype(np.float32)
    assert np.array_equal(decode_logits(logits, table), labels)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(labels=hnp.arrays(np.uint8, (2, 3, 5), elements=st.sampled_from([0, 1, 2, 4])))
def test_nested_regions_decode_to_the_annotation(labels: np.ndarray) -> None:
    assert np.array_equal(decode_regions(encode_target(labels, TUMOUR) == 1, TUMOUR), labels)


@pytest.mark.parametrize("table", [LabelTable.from_names({1: "organ"}), TUMOUR])
def test_an_empty_annotation_gives_an_empty_target(table: LabelTable) -> None:
    channels = 1 if table.exclusive else 3
    assert encode_target(np.zeros((0, 4, 5), dtype=np.uint8), table).shape == (channels, 0, 4, 5)


def test_as_many_labels_as_fit() -> None:
    full = LabelTable.from_names({i: str(i) for i in range(1, 255)})
    labels = np.arange(255, dtype=np.int16).reshape(3, 5, 17)
    assert np.array_equal(encode_target(labels, full)[0], labels)
    with pytest.raises(LabelError, match="256 labels"):
        encode_target(labels, LabelTable.from_names({i: str(i) for i in range(1, 256)}))


def test_unknown_labels_are_named() -> None:
    table = LabelTable.from_names({1: "organ"}, ignore=5)
    with pytest.raises(
        LabelError,
        match=(
            r"labels \[3, 7\], which the label table does not know\n"
            r"Needed: labels of the table: \[0, 1\], ignored: 5"
        ),
    ):
        encode_target(np.array([[[0, 1, 3, 7, 5]]]), table)
    with pytest.raises(LabelError, match=r"labels \[-2\]"):
        encode_target(np.array([[[-2, 1]]]), table)


@pytest.mark.parametrize(
    "labels",
    [np.zeros((1, 2, 3)), np.zeros((2, 3), dtype=np.int16), np.zeros((1, 1, 2, 3), dtype=np.int16)],
)
def test_an_annotation_is_an_integer_array_of_three_axes(labels: np.ndarray) -> None:
    with pytest.raises(LabelError, match="the annotation has shape"):
        encode_target(labels, LabelTable.from_names({1: "organ"}))


def test_channels_that_are_not_the_regions_are_refused() -> None:
    with pytest.raises(LabelError, match="2 channels for 3 regions"):
        decode_regions(np.zeros((2, 1, 1, 1), dtype=bool), TUMOUR)


def test_encoding_needs_no_torch() -> None:
    code = (
        "import sys; from hilum.targets import encode_target; import hilum.targets.encoding;"
        " sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
