"""What a data set calls its labels and channels: dataset.json, labels.json, or the values that its annotations hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.errors import DataError, FormatError, LabelError
from hilum.io import read_labels
from hilum.io.text import read_json
from hilum.volume import Label, LabelTable, Region

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_MAX_GUESSED_LABELS = 256


def read_json_object(path: Path) -> dict[str, Any]:
    """Parse a JSON file that holds one object.

    Raises:
        FormatError: the file is not JSON, or holds something else.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise FormatError(f"{path} holds a JSON {type(document).__name__}", needed='a JSON object: {"key": ...}')
    return document


def channel_names(facts: Mapping[str, Any], source: Path) -> tuple[str, ...]:
    """Channel names from dataset.json's "channel_names" (nnU-Net) or "modality" (Decathlon), by number; () where it has none.

    Two channels of the same name get their number appended, so that each is unique.

    Raises:
        FormatError: the numbers are not 0, 1, 2, ...
    """
    names = facts.get("channel_names") or facts.get("modality") or {}
    if not isinstance(names, dict) or sorted(names, key=_as_number) != [str(n) for n in range(len(names))]:
        raise FormatError(
            f"channels {names!r} in {source}",
            needed='one name for each number from 0: {"0": "CT"}',
            cure=f'correct "channel_names" in {source}',
        )
    ordered = [str(names[str(n)]) for n in range(len(names))]
    return tuple(name if ordered.count(name) == 1 else f"{name}_{n}" for n, name in enumerate(ordered))


def _as_number(text: str) -> int:
    return int(text) if str(text).isdigit() else -1


def label_table(facts: Mapping[str, Any], source: Path) -> LabelTable:
    """Label table from dataset.json's "labels".

    Both spellings are understood: nnU-Net's {"liver": 1} and the Decathlon's {"1": "liver"}; a list of ids makes a region, learnt
    as an output of its own and written back in the order of "regions_class_order"; the name "ignore" marks voxels that were not
    annotated (nnU-Net's documentation/dataset_format.md, region_based_training.md, ignore_label.md).

    Args:
        facts: the parsed dataset.json.
        source: its path, for messages.

    Raises:
        LabelError: there are no labels, or an id is no whole number, or the regions have no order.
    """
    entries = facts.get("labels")
    if not isinstance(entries, dict) or not entries:
        raise LabelError(
            f"no labels in {source}", needed='"labels": {"background": 0, "liver": 1}', cure=f'add "labels" to {source}'
        )
    if all(str(key).lstrip("-").isdigit() for key in entries):
        entries = {str(name): key for key, name in entries.items()}
    named = {name: _ids(value, name, source) for name, value in entries.items()}
    ignore = named.pop("ignore", None)
    if ignore is not None and len(ignore) != 1:
        raise LabelError(f'"ignore" names ids {list(ignore)} in {source}', needed="one id")
    ignore_id = ignore[0] if ignore else None
    if any(isinstance(value, list) for value in entries.values()):
        return _region_table(named, facts.get("regions_class_order"), ignore_id, source)
    ids = [i for value in named.values() for i in value]
    if len(set(ids)) != len(ids):
        raise LabelError(f"an id with two names in {source}: {entries}", needed="one name for each id")
    return LabelTable.from_names({value[0]: name for name, value in named.items()}, ignore=ignore_id)


def _ids(value: Any, name: str, source: Path) -> tuple[int, ...]:
    items = value if isinstance(value, list) else [value]
    try:
        ids = tuple(int(item) for item in items)
    except (TypeError, ValueError) as error:
        raise LabelError(
            f"label {name!r} has the id {value!r} in {source}", needed="a whole number, or a list of them"
        ) from error
    if not ids or min(ids) < 0:
        raise LabelError(f"label {name!r} has the id {value!r} in {source}", needed="whole numbers from 0")
    return ids


def _region_table(named: Mapping[str, tuple[int, ...]], order: Any, ignore: int | None, source: Path) -> LabelTable:
    regions = {name: ids for name, ids in named.items() if set(ids) != {0}}
    if not isinstance(order, list) or len(order) != len(regions):
        raise LabelError(
            f'"regions_class_order" is {order!r} for the {len(regions)} regions {list(regions)} in {source}',
            needed="one label id for each region, in the order in which predictions are written, smallest region last",
            cure=f'add e.g. "regions_class_order": {list(range(1, len(regions) + 1))} to {source}',
        )
    ids = sorted({i for value in regions.values() for i in value} - {0})
    names = {value[0]: name for name, value in regions.items() if len(value) == 1}
    background = next((name for name, value in named.items() if set(value) == {0}), "background")
    labels = [Label(id=0, name=background)] + [Label(id=i, name=names.get(i, f"label_{i}")) for i in ids]
    return LabelTable(
        labels=tuple(labels),
        regions=tuple(Region(name=name, labels=value) for name, value in regions.items()),
        decode_ids=tuple(int(i) for i in order),
        ignore=ignore,
    )


def labels_file(path: Path) -> LabelTable:
    """Label table from a labels.json: either hilum's own (as in a trained-model folder) or {"1": "liver"} or {"liver": 1}.

    Raises:
        LabelError: the file gives no usable labels.
    """
    facts = read_json_object(path)
    if isinstance(facts.get("labels"), list):
        return LabelTable.model_validate(facts)
    return label_table(facts if isinstance(facts.get("labels"), dict) else {"labels": facts}, path)


def labels_from_values(annotations: Sequence[Path]) -> tuple[LabelTable, str]:
    """Label table from the values that the annotations hold, where nothing names them.

    A single value beside the background is called "foreground" (masks of {0, 1} and of {0, 255} alike); several are called
    "label_1", "label_2", ... Annotations that cannot be read, or that hold fractions, are passed over: the doctor names them.

    Args:
        annotations: label files; every one is read.

    Returns:
        The table, and a sentence that says where it came from.

    Raises:
        LabelError: no annotation holds anything, or there are so many values that they cannot be labels.
    """
    values: set[int] = set()
    for annotation in annotations:
        try:
            values.update(np.unique(read_labels(annotation).array).tolist())
        except DataError:  # the doctor reads them one by one and says which and why
            continue
    foreground = sorted(int(value) for value in values if value != 0)
    if not foreground or foreground[0] < 0 or len(foreground) > _MAX_GUESSED_LABELS or _lossy(annotations, foreground):
        raise LabelError(
            f"the {len(annotations)} annotations hold {len(foreground)} values beside 0 ({foreground[:8]}...)",
            needed="a label for each value, and files without lossy compression",
            cure='name the labels in a labels.json in the folder: {"1": "liver"}; for JPEG masks {"255": "liver"} and --fix',
        )
    names = {foreground[0]: "foreground"} if len(foreground) == 1 else {value: f"label_{value}" for value in foreground}
    shown = ", ".join(f"{value} = {name}" for value, name in names.items())
    naming = f'a labels.json {{"{foreground[0]}": "NAME"}} in the folder names them'
    note = f"no label names found, so the values in the annotations decide: {shown}; {naming}"
    return LabelTable.from_names(names), note


def _lossy(annotations: Sequence[Path], foreground: Sequence[int]) -> bool:
    return len(foreground) > 1 and any(path.suffix.lower() in {".jpg", ".jpeg"} for path in annotations)
