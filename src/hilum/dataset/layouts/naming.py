"""Names of labels and channels: dataset.json, labels.json, or the values of the annotations."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hilum.dataset.conversion import background_of, contents_of
from hilum.dataset.labels import table_of_segments
from hilum.errors import DataError, FormatError, LabelError, ResourceError, some
from hilum.files.output import is_output
from hilum.files.text import is_known, name_key, read_json
from hilum.volume import LARGEST_ID, MOST_LABELS, Label, LabelTable, Region

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hilum.dataset.conversion import Colour

_SHOWN_LABELS = 20
_JSON_KINDS: dict[type, str] = {
    list: "an array",
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
}
"""JSON's names of values, by the type that Python reads them as."""
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
        kind = "null" if document is None else _JSON_KINDS[type(document)]
        raise FormatError(
            f"{path} holds {kind}",
            needed='a JSON object: {"key": ...}',
            cure=f"correct {path}, or copy it again from its source",
        )
    return document


def json_facts(folder: Path) -> dict[str, Any]:
    """Parse the dataset.json of a folder; {} where there is none.

    Raises:
        FormatError: it is not JSON, or no object.
    """
    file = folder / "dataset.json"
    return read_json_object(file) if file.is_file() else {}


def channel_names(facts: Mapping[str, object], source: Path) -> tuple[str, ...]:
    """Read channel names from dataset.json, by number; () where it has none.

    Two channels of the same name, but for letter case and blanks, get their number appended, so
    that each is unique.

    Raises:
        FormatError: the numbers are not 0, 1, 2, ...
    """
    names = facts.get("channel_names") or facts.get("modality") or {}
    keys = [str(number) for number in range(len(names))] if isinstance(names, dict) else []
    if not isinstance(names, dict) or set(names) != set(keys):
        raise FormatError(
            f"{source} numbers its channels {names!r}",
            needed='one name for each number from 0: {"0": "CT"}',
            cure=f'correct "channel_names" in {source}',
        )
    ordered = [
        str(names[key]).strip() if is_known(str(names[key])) else f"channel_{key}" for key in keys
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
    return channel_names(json_facts(folder), folder / "dataset.json")


def label_table(facts: Mapping[str, object], source: Path) -> LabelTable:
    """Make a label table from dataset.json's "labels".

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
            f"{source} names no labels",
            needed='"labels": {"background": 0, "liver": 1}',
            cure=f'add "labels" to {source}',
        )
    pairs = list(entries.items())
    if all(str(key).lstrip("-").isdigit() for key in entries):
        pairs = [(str(name), key) for key, name in pairs]
    pairs = [(_label_name(name, value), value) for name, value in pairs]
    counts = Counter(name_key(name) for name, _ in pairs)
    if twice := [name for name, _ in pairs if counts[name_key(name)] > 1]:
        raise LabelError(
            f"{source} gives several labels one name: {', '.join(map(repr, twice))}",
            needed="names that differ in more than letter case and blanks",
            cure=f"rename one of them in {source}",
        )
    named = {name: _ids(value, name, source) for name, value in pairs}
    ignore = named.pop("ignore", (None,))
    if len(ignore) != 1:
        raise LabelError(
            f'"ignore" names ids {list(ignore)} in {source}',
            needed="one id for voxels that are not annotated",
            cure=f'give "ignore" one number in {source}; other label maps must be renumbered to it',
        )
    for name, value in pairs:
        if name_key(name) in _BACKGROUND and named[name] != (0,):
            raise LabelError(
                f"the background {name!r} has the id {value!r} in {source}",
                needed="0 for the background, in the file and in the label maps",
                cure=(
                    "correct the ids; where label maps have another background, renumber them first"
                ),
            )
    if any(isinstance(value, list) for _, value in pairs):
        return _region_table(named, facts.get("regions_class_order"), ignore[0], source)
    names = {i: name for name, ids in named.items() for i in ids}
    if len(names) != len(named):
        shared = {name: ids[0] for name, ids in named.items() if names[ids[0]] != name}
        shared |= {names[i]: i for i in shared.values()}
        raise LabelError(
            f"{source} gives one id two names: {shared}",
            needed="one name for each id",
            cure=f"remove one of the names, or give it another id in {source}",
        )
    return LabelTable.from_names(names, ignore=ignore[0])


def _label_name(name: str, value: object) -> str:
    """Return a label's name as it is matched; one that is not known becomes the number."""
    if not is_known(name):
        return "background" if str(value) == "0" else f"label_{value}"
    return "ignore" if name_key(name) == "ignore" else name.strip()


def _ids(value: object, name: str, source: Path) -> tuple[int, ...]:
    """Read the ids of one label: a whole number or a list of them."""
    items: list[Any] = value if isinstance(value, list) else [value]
    try:
        ids = tuple(int(item) for item in items)
        whole = all(not isinstance(one, float) or one == int(one) for one in items)
    except (TypeError, ValueError, OverflowError):
        ids, whole = (), False
    needed = "a whole number, or a list of them"
    if ids and whole:
        if min(ids) >= 0 and max(ids) <= LARGEST_ID:
            return ids
        needed = f"whole numbers from 0 to {LARGEST_ID}"
    raise LabelError(
        f"label {name!r} has the id {value!r} in {source}",
        needed=needed,
        cure=f"correct the id of {name!r} in {source}",
    )


def _region_table(
    named: Mapping[str, tuple[int, ...]], order: object, ignore: int | None, source: Path
) -> LabelTable:
    """Make a label table of nnU-Net's regions and their order."""
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
    ids = sorted({0}.union(*regions.values()))
    names = {i: f"label_{i}" for i in ids} | {0: "background"}
    names |= {value[0]: name for name, value in named.items() if len({*value}) == 1}
    return LabelTable(
        labels=tuple(Label(id=i, name=names[i]) for i in ids),
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
    table, _ = stated_labels(folder)
    if table is None:
        table, note = labels_from_values(annotations)
        return table, (note,)
    name = table.labels[0].name
    if name_key(name) in _NOTHING:
        return table, ()
    return table, (f"0 is called {name!r}: it counts as the background, and is not learnt",)


def stated_labels(folder: Path) -> tuple[LabelTable | None, Path]:
    """Read the labels that dataset.json, else a labels.json not written by hilum, states.

    A labels.json which hilum wrote lies beside predictions.

    Returns:
        The table and the file that states it; None and the path of labels.json where none does.

    Raises:
        LabelError: a file gives no usable labels.
    """
    facts, names_file = json_facts(folder), folder / "labels.json"
    if facts.get("labels"):
        return label_table(facts, folder / "dataset.json"), folder / "dataset.json"
    stated = names_file.is_file() and not is_output(names_file)
    return labels_file(names_file) if stated else None, names_file


def labels_from_values(annotations: Sequence[Path]) -> tuple[LabelTable, str]:
    """Make a label table from what the annotations hold, where nothing names it.

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
    table = table_of_segments(annotations)
    if table is not None:
        shown = some([f"{one.id} = {one.name}" for one in table.foreground], shown=_SHOWN_LABELS)
        return (
            table,
            f"labels are named by the segments of the annotations: {shown}",
        )
    files: Counter[frozenset[int]] = Counter()
    colours: Counter[Colour] = Counter()
    for annotation in annotations:
        with suppress(DataError, ResourceError):  # the doctor reads them and says which and why
            contents = contents_of(annotation)
            files[contents.labels] += 1
            colours.update(contents.colours)
    values = sorted(frozenset[int]().union(*files))
    mixed = ""
    if values == [1, 255] and frozenset(values) not in files:
        ones, whites = files[frozenset({1})], files[frozenset({255})]
        values = [1 if ones > whites else 255]
        mixed = f"{ones} masks of 0 and 1 beside {whites} of 0 and 255 count as one label; "
    background = background_of(colours) if colours else None
    painted = sorted(set(colours) - {background})
    count = len(values) + len(painted)
    if not 0 < count < MOST_LABELS:
        return (
            LabelTable.from_names({}),
            f"no label names found, and none of the {len(annotations)} annotations holds labels",
        )
    labels = [Label(id=i, name="foreground" if count == 1 else f"label_{i}") for i in values]
    for number, colour in enumerate(painted, start=max(values, default=0) + 1):
        name = "colour_{:02x}{:02x}{:02x}".format(*colour)
        labels.append(Label(id=number, name=name, colour=colour))
    shown = some([f"{label.id} = {label.name}" for label in labels], shown=_SHOWN_LABELS)
    naming = f'{{"{labels[0].id}": "NAME"}}'
    if painted:
        first = f'{{"id": {labels[-1].id}, "name": "NAME", "colour": {list(painted[-1])}}}'
        naming = f'{{"labels": [{{"id": 0, "name": "background"}}, {first}, ...]}}'
    note = (
        f"{mixed}no label names found, so the values in the annotations decide: {shown}; a"
        f" labels.json {naming} in the folder names them"
    )
    zero = Label(id=0, name="background", colour=background if painted else None)
    return LabelTable(labels=(zero, *labels)), note
