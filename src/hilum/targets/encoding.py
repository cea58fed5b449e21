"""Encoding of labels as a target and decoding of logits to labels: numpy only, no torch.

An annotation (Z, Y, X) of label ids becomes a target with one channel of class indices (exclusive
labels) or one binary channel a region (overlapping regions). `IGNORE` marks voxels that were not
annotated, in every channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import LabelError
from hilum.volume import MOST_LABELS, places_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hilum.volume import LabelTable

IGNORE = 255
"""The target's value for voxels that are not learnt; it is why a table has at most
`hilum.volume.MOST_LABELS`."""

_BLOCK = 2**15  # voxels that are decoded at a time


def encode_target(labels: NDArray[np.generic], table: LabelTable) -> NDArray[np.uint8]:
    """Turn label ids into the target that the loss sees.

    Args:
        labels: label ids (Z, Y, X), of an integer type.
        table: what the ids mean.

    Returns:
        uint8 (1, Z, Y, X) of indices into `table.ids`, or (R, Z, Y, X) of 0 and 1 for each of R
        regions; `IGNORE` where the
        annotation has `table.ignore`. An empty annotation gives an empty target.

    Raises:
        LabelError: when the labels are not a (Z, Y, X) array of integers, hold an id that the table
            does not know, or the table has more than 255 labels.
    """
    if labels.ndim != 3 or not np.issubdtype(labels.dtype, np.integer):
        raise LabelError(
            f"the annotation has shape {labels.shape} and type {labels.dtype}",
            needed="an integer array (Z, Y, X)",
            cure="volume.array[0] of a label volume",
        )
    ids = table.ids
    if len(ids) > MOST_LABELS:
        raise LabelError(
            f"the label table has {len(ids)} labels",
            needed=f"at most {MOST_LABELS}; the target keeps {IGNORE} for ignored voxels",
            cure="join labels, or train several models for a part of them each",
        )
    present = np.unique(labels)
    ignored = {} if table.ignore is None else {table.ignore: IGNORE}
    unknown = [int(i) for i in present if int(i) not in ids and int(i) not in ignored]
    if unknown:
        also = f", ignored: {table.ignore}" if table.ignore is not None else ""
        raise LabelError(
            f"the annotation holds labels {unknown[:10]}, which the label table does not know",
            needed=f"labels of the table: {list(ids)}{also}",
            cure="add them to the data set's labels, or run `hilum check DATA`",
        )
    channels = (
        [{i: n for n, i in enumerate(ids)}]
        if table.exclusive
        else [{i: int(i in region.labels) for i in ids} for region in table.regions]
    )
    if not labels.size:
        return np.zeros((len(channels), *labels.shape), dtype=np.uint8)
    places = places_of(labels, present)
    return np.stack(
        [
            np.array([(channel | ignored)[int(i)] for i in present], dtype=np.uint8)[places]
            for channel in channels
        ]
    )


def decode_regions(regions: NDArray[np.bool_], table: LabelTable) -> NDArray[np.int32]:
    """Decode regions (R, ...) to label ids (...), int32; later regions overwrite earlier ones.

    Raises:
        LabelError: when there are not as many channels as regions.
    """
    if len(regions) != len(table.regions):
        raise LabelError(
            f"there are {len(regions)} channels for {len(table.regions)} regions",
            needed="one channel for each region",
            cure="decode with the label table that the network was trained with",
        )
    labels = np.zeros(regions.shape[1:], dtype=np.int32)
    for inside, label in zip(regions, table.decode_ids, strict=True):
        labels[inside] = label
    return labels


def decode_logits(logits: NDArray[np.float32], table: LabelTable) -> NDArray[np.unsignedinteger]:
    """Decode logits (K, ...) to label ids (...), of the smallest unsigned type for every id.

    Exclusive labels: the label with the largest logit, the first of equal ones. Regions: those with
    a probability above one half, written in order of the table, later ones over earlier ones. The
    ignored id is never answered.

    Raises:
        LabelError: the first axis is not K.
    """
    _check_outputs(logits, table)
    dtype = np.min_scalar_type(max(table.ids))
    if not table.exclusive:
        return decode_regions(logits > 0, table).astype(dtype)
    ids = np.asarray(table.ids, dtype=dtype)
    labels = np.empty(logits.shape[1:], dtype=dtype)
    columns, out = logits.reshape(len(logits), -1), labels.reshape(-1)
    # a running maximum in the processor's cache; argmax over the first axis strides
    for start in range(0, out.size, _BLOCK):
        best = columns[0, start : start + _BLOCK].copy()
        chosen = np.full(best.shape, ids[0], dtype=dtype)
        for values, label in zip(columns[1:, start : start + _BLOCK], ids[1:], strict=True):
            np.copyto(chosen, label, where=values > best)
            np.maximum(best, values, out=best)
        out[start : start + _BLOCK] = chosen
    return labels


def activate_logits(logits: NDArray[np.float32], table: LabelTable) -> NDArray[np.float32]:
    """Return probabilities (K, ...) of logits (K, ...): softmax over labels, or sigmoids.

    Raises:
        LabelError: the first axis is not K.
    """
    _check_outputs(logits, table)
    if not table.exclusive:
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -80, 80))), dtype=np.float32)
    likely = np.exp(logits - logits.max(axis=0))
    likely /= likely.sum(axis=0)
    return np.asarray(likely, dtype=np.float32)


def _check_outputs(logits: NDArray[np.float32], table: LabelTable) -> None:
    """Refuse logits of another number of outputs than the label table has."""
    if logits.ndim < 1 or len(logits) != table.outputs:
        names = [region.name for region in table.regions]
        raise LabelError(
            f"the logits have shape {logits.shape}",
            needed=f"({table.outputs}, ...), one entry for each of {names or 'the labels'}",
            cure="one case at a time: logits[0]" if logits.ndim == 5 else "",
        )
