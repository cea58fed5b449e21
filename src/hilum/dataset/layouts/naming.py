"""Names of labels and channels: dataset.json, labels.json, or the values of the annotations."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from hilum.dataset.conversion import background_of, contents_of
from hilum.dataset.layouts.listing import some
from hilum.dataset.segments import names_of_segments
from hilum.errors import DataError, FormatError, LabelError, ResourceError
from hilum.io.output import is_output
from hilum.io.text import is_known, name_key, read_json
from hilum.volume import LARGEST_ID, MOST_LABELS, Label, LabelTable, Region

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hilum.dataset.conversion import Colour

_SHOWN_LABELS = 20
_BACKGROUND = {"background", "bg"}
_NOTHING = _BACKGROUND | {
    *("clear label", "unlabelled", "unlabeled", "none", "nothing", "void", "empty", "exterior"),
    *("other", "air"),
}


def read_json_object(path: Path) -> dict[str, Any]:
    """Parse a JSON file that holds one object.

    Raises:
        FormatError: the file is not JSON, or holds something else.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise FormatError(
            f"{path} holds a JSON {type(document).__name__}", needed='a JSON object: {"key": ...}'
        )
    return document


def channel_names(facts: Mapping[str, Any], source: Path) -> tuple[str, ...]:
    """Read channel names from dataset.json, by number; () where it has none.

    Two channels of the same name, but for letter case and blanks, get their number appended, so
    that each is unique.

    Raises:
        FormatError: the numbers are not 0, 1, 2, ...
    """
    names = facts.get("channel_names") or facts.get("modality") or {}
    if not isinstance(names, dict) or sorted(names, key=_as_number) != [
        str(n) for n in range(len(names))
    ]:
        raise FormatError(
            f"channels {names!r} in {source}",
            needed='one name for each number from 0: {"0": "CT"}',
            cure=f'correct "channel_names" in {source}',
        )
    ordered = [
        str(names[key]).strip() if is_known(str(names[key])) else f"channel_{key}"
        for key in map(str, range(len(names)))
    ]
    counts = Counter(map(name_key, ordered))
    return tuple(
        name if counts[name_key(name)] == 1 else f"{name}_{n}" for n, name in enumerate(ordered)
    )


def stated_channels(folder: Path) -> tuple[str, ...]:
    """Channel names that a dataset.json in the folder states.

    () where it states none, or is not there.

    Raises:
        FormatError: it is no JSON object, or its numbers are not 0, 1, 2, ...
    """
    file = folder / "dataset.json"
    return channel_names(read_json_object(file), file) if file.is_file() else ()


def _as_number(text: str) -> int:
    return int(text) if str(text).isdigit() else -1


def label_table(facts: Mapping[str, Any], source: Path) -> LabelTable:
    """Label table from dataset.json's "labels".

    Both spellings are understood: nnU-Net's {"liver": 1} and the Decathlon's {"1": "liver"}; a list
    of ids makes a region, learnt as an output of its own and written back in the order of
    "regions_class_order"; the name "ignore" marks voxels that were not annotated (nnU-Net's
    documentation/dataset_format.md, region_based_training.md, ignore_label.md).

    Args:
        facts: the parsed dataset.json.
        source: its path, for messages.

    Raises:
        LabelError: there are no labels, two have one name, an id is no whole number, or the regions
            have no order.
    """
    entries = facts.get("labels")
    if not isinstance(entries, dict) or not entries:
        raise LabelError(
            f"no labels in {source}",
            needed='"labels": {"background": 0, "liver": 1}',
            cure=f'add "labels" to {source}',
        )
    if all(str(key).lstrip("-").isdigit() for key in entries):
        pairs = [(_label_name(str(name), key), key) for key, name in entries.items()]
    else:
        pairs = [(_label_name(name, value), value) for name, value in entries.items()]
    counts = Counter(name_key(name) for name, _ in pairs)
    if twice := [name for name, _ in pairs if counts[name_key(name)] > 1]:
        raise LabelError(
            f"labels of one name in {source}: {', '.join(map(repr, twice))}",
            needed="names that differ in more than letter case and blanks",
        )
    entries = dict(pairs)
    named = {name: _ids(value, name, source) for name, value in entries.items()}
    ignore = named.pop("ignore", None)
    if ignore is not None and len(ignore) != 1:
        raise LabelError(f'"ignore" names ids {list(ignore)} in {source}', needed="one id")
    ignore_id = ignore[0] if ignore else None
    if misplaced := [
        name for name, ids in named.items() if name_key(name) in _BACKGROUND and ids != (0,)
    ]:
        raise LabelError(
            f"{misplaced[0]!r} has the id {entries[misplaced[0]]!r} in {source}",
            needed="0 for the background, in the file and in the label maps",
            cure="correct the ids; where label maps have another background, renumber them first",
        )
    if any(isinstance(value, list) for value in entries.values()):
        return _region_table(named, facts.get("regions_class_order"), ignore_id, source)
    ids = [i for value in named.values() for i in value]
    if len(set(ids)) != len(ids):
        raise LabelError(
            f"an id with two names in {source}: {entries}", needed="one name for each id"
        )
    return LabelTable.from_names(
        {value[0]: name for name, value in named.items()}, ignore=ignore_id
    )


def _label_name(name: str, value: object) -> str:
    """A label's name as it is matched; one that is not known becomes the number."""
    if not is_known(name):
        return "background" if str(value) == "0" else f"label_{value}"
    return "ignore" if name_key(name) == "ignore" else name.strip()


def _ids(value: Any, name: str, source: Path) -> tuple[int, ...]:
    items = value if isinstance(value, list) else [value]
    try:
        ids = tuple(int(item) for item in items)
    except (TypeError, ValueError, OverflowError):
        ids = ()
    if not ids or any(
        isinstance(item, float) and item != number for item, number in zip(items, ids, strict=True)
    ):
        raise LabelError(
            f"label {name!r} has the id {value!r} in {source}",
            needed="a whole number, or a list of them",
        )
    if min(ids) < 0 or max(ids) > LARGEST_ID:
        raise LabelError(
            f"label {name!r} has the id {value!r} in {source}",
            needed=f"whole numbers from 0 to {LARGEST_ID}",
        )
    return ids


def _region_table(
    named: Mapping[str, tuple[int, ...]], order: Any, ignore: int | None, source: Path
) -> LabelTable:
    regions = {name: ids for name, ids in named.items() if set(ids) != {0}}
    if not isinstance(order, list) or len(order) != len(regions):
        raise LabelError(
            f'"regions_class_order" is {order!r} for the {len(regions)} regions {list(regions)} in'
            f" {source}",
            needed=(
                "one label id for each region, in the order in which predictions are written,"
                " smallest region last"
            ),
            cure=f'add e.g. "regions_class_order": {list(range(1, len(regions) + 1))} to {source}',
        )
    ids = sorted({i for value in regions.values() for i in value} - {0})
    names = {value[0]: name for name, value in regions.items() if len(value) == 1}
    background = next((name for name, value in named.items() if set(value) == {0}), "background")
    labels = [Label(id=0, name=background)] + [
        Label(id=i, name=names.get(i, f"label_{i}")) for i in ids
    ]
    return LabelTable(
        labels=tuple(labels),
        regions=tuple(Region(name=name, labels=value) for name, value in regions.items()),
        decode_ids=tuple(int(i) for i in order),
        ignore=ignore,
    )


def labels_file(path: Path) -> LabelTable:
    """Read a label table from a labels.json: hilum's own, {"1": "liver"} or {"liver": 1}.

    Raises:
        LabelError: the file gives no usable labels.
    """
    facts = read_json_object(path)
    if isinstance(facts.get("labels"), list):
        return LabelTable.model_validate(facts)
    return label_table(facts if isinstance(facts.get("labels"), dict) else {"labels": facts}, path)


def labels_of(folder: Path, annotations: Sequence[Path]) -> tuple[LabelTable, tuple[str, ...]]:
    """Read a data set's label table from dataset.json, labels.json, or its annotations' values.

    Args:
        folder: where these files lie, if they do.
        annotations: label files; read only where no file names the labels.

    Returns:
        The table, and a sentence that says what had to be assumed.

    Raises:
        LabelError: a file gives no usable labels.
    """
    facts_file, names_file = folder / "dataset.json", folder / "labels.json"
    facts = read_json_object(facts_file) if facts_file.is_file() else {}
    if facts.get("labels"):
        return _with_note(label_table(facts, facts_file))
    if names_file.is_file() and not is_output(names_file):
        return _with_note(labels_file(names_file))
    table, note = labels_from_values(annotations)
    return table, (note,)


def _with_note(table: LabelTable) -> tuple[LabelTable, tuple[str, ...]]:
    """The table, and a note where its background is named like a structure."""
    name = table.labels[0].name
    if name_key(name) in _NOTHING:
        return table, ()
    return table, (f"0 is called {name!r}: it counts as the background, and is not learnt",)


def labels_from_values(annotations: Sequence[Path]) -> tuple[LabelTable, str]:
    """Label table from what the annotations hold, where nothing names it.

    A single value beside the background is called "foreground" (masks of {0, 1} and of {0, 255}
    alike); several are called "label_1", "label_2", ...; colours are numbered and called
    "colour_ff0000", ... Numbers that are no labels yet count as what the doctor makes of them.
    Annotations that hold nothing of the kind add nothing: the doctor says what each of them holds.

    Args:
        annotations: label files; every one is read.

    Returns:
        The table, the background alone where no annotation holds a label, and a sentence that says
        where it came from.
    """
    segments = names_of_segments(annotations)
    if segments:
        shown = some([f"{value} = {name}" for value, name in segments.items()], shown=_SHOWN_LABELS)
        return (
            LabelTable.from_names(segments),
            f"labels are named by the segments of the annotations: {shown}",
        )
    values: set[int] = set()
    files: Counter[frozenset[int]] = Counter()
    colours: Counter[Colour] = Counter()
    for annotation in annotations:
        try:
            contents = contents_of(annotation)
        except (
            DataError,
            ResourceError,
        ):  # the doctor reads them one by one and says which and why
            continue
        values.update(contents.labels)
        files[contents.labels] += 1
        colours.update(contents.colours)
    ones, whites = files[frozenset({1})], files[frozenset({255})]
    mixed = ""
    if values == {1, 255} and frozenset(values) not in files:
        values = {1 if ones > whites else 255}
        mixed = f"{ones} masks of 0 and 1 beside {whites} of 0 and 255 count as one label; "
    painted = sorted(set(colours) - {background_of(colours)}) if colours else []
    if len(values) + len(painted) >= MOST_LABELS:
        values, painted = set(), []
    if not values and not painted:
        return (
            LabelTable.from_names({}),
            f"no label names found, and none of the {len(annotations)} annotations holds labels",
        )
    foreground = sorted(values)
    names = (
        {foreground[0]: "foreground"}
        if len(foreground) == 1 and not painted
        else {i: f"label_{i}" for i in foreground}
    )
    labels = [Label(id=i, name=name) for i, name in names.items()]
    for number, colour in enumerate(painted, start=max(foreground, default=0) + 1):
        labels.append(
            Label(id=number, name="colour_{:02x}{:02x}{:02x}".format(*colour), colour=colour)
        )
    background = Label(id=0, name="background", colour=background_of(colours) if painted else None)
    shown = some([f"{label.id} = {label.name}" for label in labels], shown=_SHOWN_LABELS)
    naming = f'a labels.json {{"{labels[0].id}": "NAME"}} in the folder names them'
    if painted:
        first = f'{{"id": {labels[-1].id}, "name": "NAME", "colour": {list(painted[-1])}}}'
        naming = (
            f'a labels.json {{"labels": [{{"id": 0, "name": "background"}}, {first}, ...]}} in the'
            " folder names them"
        )
    return (
        LabelTable(labels=(background, *labels)),
        f"{mixed}no label names found, so the values in the annotations decide: {shown}; {naming}",
    )
