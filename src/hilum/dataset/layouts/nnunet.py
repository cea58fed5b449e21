"""Raw folders of nnU-Net and the Decathlon: imagesTr, labelsTr, imagesTs and dataset.json.

They differ in one thing: nnU-Net's images end in a channel number (case_0000.nii.gz), the
Decathlon's do not, and hold all their channels in one file. The files on disk decide which it is,
for dataset.json is often copied from one to the other.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hilum.dataset.case import Case, Dataset
from hilum.dataset.layouts.listing import (
    Entries,
    Orphan,
    guess_channels,
    image_entries,
    orphans_of,
    some,
)
from hilum.dataset.layouts.naming import channel_names, labels_of, read_json_object
from hilum.errors import DataError, FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


@dataclass(frozen=True)
class _Images:
    """The images of a folder.

    Args:
        files: case to channel number to file; a case stored whole has channel 0 only.
        faults: what is wrong with a case's files.
    """

    files: Mapping[str, Mapping[int, Path]]
    faults: Mapping[str, DataError]


def recognises_nnunet(path: Path) -> bool:
    """Recognise imagesTr, or a "dataset" list, with channel numbers in the file names."""
    return _is_raw(path) and _is_channelled(path)


def recognises_decathlon(path: Path) -> bool:
    """Recognise imagesTr whose files carry no channel number."""
    return _is_raw(path) and not _is_channelled(path)


def read_nnunet(path: Path, *, values: bool = True) -> Dataset:
    """Open an nnU-Net raw folder.

    Args:
        path: the folder that holds imagesTr and labelsTr; dataset.json may be absent, then names
            come from the files.
        values: whether annotations may be read to find out what the labels are.

    Raises:
        DataError: no image has an annotation.
    """
    return _read(path, "nnunet", values=values)


def read_decathlon(path: Path, *, values: bool = True) -> Dataset:
    """Open a Medical Segmentation Decathlon folder: one file a case, which holds all its channels.

    Args:
        path: the folder that holds imagesTr and labelsTr; dataset.json may be absent, then names
            come from the files.
        values: whether annotations may be read to find out what the labels are.

    Raises:
        DataError: no image has an annotation.
    """
    return _read(path, "decathlon", values=values)


def orphans(path: Path) -> tuple[Orphan, ...]:
    """Images in imagesTr without a file in labelsTr, and the other way about."""
    facts = _facts(path)
    annotations = _annotations(path, facts)
    firsts = {
        case: files[min(files)] for case, files in _images(path, facts, annotations).files.items()
    }
    return orphans_of(firsts, annotations)


def _is_raw(path: Path) -> bool:
    return path.is_dir() and (
        (path / "imagesTr").is_dir() or isinstance(_facts(path).get("dataset"), dict)
    )


def _is_channelled(path: Path) -> bool:
    facts = _facts(path)
    if isinstance(facts.get("dataset"), dict):
        return True
    images = image_entries(path / "imagesTr", ending=_ending(path / "imagesTr", facts))
    annotations = _annotations(path, facts)
    whole = sum(stem in annotations for stem in images)
    return (
        sum(
            (match := _CHANNEL.match(stem)) is not None and match["case"] in annotations
            for stem in images
        )
        > whole
    )


def _facts(path: Path) -> dict[str, Any]:
    file = path / "dataset.json"
    return read_json_object(file) if file.is_file() else {}


def _annotations(path: Path, facts: Mapping[str, Any]) -> Entries:
    listed = facts.get("dataset")
    if isinstance(listed, dict):
        entries = Entries()
        entries.update(
            {case: path / entry["label"] for case, entry in listed.items() if entry.get("label")}
        )
        return entries
    return image_entries(path / "labelsTr", ending=_ending(path / "labelsTr", facts))


def _ending(folder: Path, facts: Mapping[str, Any]) -> str | None:
    """The stated file ending where the folder really has such files; else every file counts."""
    ending = facts.get("file_ending")
    if not isinstance(ending, str) or not folder.is_dir():
        return None
    names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    return ending if any(name.endswith(ending) for name in names) else None


def _images(path: Path, facts: Mapping[str, Any], annotations: Mapping[str, Path]) -> _Images:
    """The images of imagesTr."""
    listed = facts.get("dataset")
    if isinstance(listed, dict):
        return _Images(
            {
                case: dict(enumerate(path / name for name in entry["images"]))
                for case, entry in listed.items()
            },
            {},
        )
    folder = path / "imagesTr"
    return _group(
        image_entries(folder, ending=_ending(folder, facts)),
        annotations,
        channelled=_is_channelled(path),
    )


def _group(images: Entries, annotations: Mapping[str, Path], *, channelled: bool) -> _Images:
    cases: dict[str, dict[int, Path]] = {}
    faults: dict[str, DataError] = {}
    for stem, file in images.items():
        match = _CHANNEL.match(stem) if channelled and stem not in annotations else None
        case, channel = (match["case"], int(match["channel"])) if match else (stem, 0)
        cases.setdefault(case, {})[channel] = file
        if stem in images.faults:
            faults[case] = images.faults[stem]
    return _Images(cases, faults)


def _read(path: Path, layout: str, *, values: bool) -> Dataset:
    facts = _facts(path)
    source = path / "dataset.json"
    annotations = _annotations(path, facts)
    found = _images(path, facts, annotations)
    images = found.files
    annotated = [case for case in sorted(images) if case in annotations]
    if not annotated:
        raise DataError(
            f"no image in {path / 'imagesTr'} has an annotation of the same name in"
            f" {path / 'labelsTr'}",
            needed="imagesTr/CASE_0000.nii.gz (or imagesTr/CASE.nii.gz) with labelsTr/CASE.nii.gz",
            cure="rename the files so that an image and its annotation share their name",
        )
    channels = channel_names(facts, source) or _channels_on_disk(
        [images[case] for case in annotated]
    )
    notes: list[str] = []
    labels = None
    if values:
        labels, label_notes = labels_of(path, [annotations[case] for case in annotated])
        notes.extend(label_notes)
    extra = sorted(set(images) - set(annotated))
    lonely = sorted(set(annotations) - set(images))
    if extra:
        notes.append(f"{some(extra)} in imagesTr without annotation: counted as unlabelled")
    if lonely:
        notes.append(f"{some(lonely)} in labelsTr without image: left out")
    test_folder = path / "imagesTs"
    tests = _group(
        image_entries(test_folder, ending=_ending(test_folder, facts)),
        {},
        channelled=layout == "nnunet",
    )
    files = {
        **{case: one for case, one in tests.files.items() if case not in annotations},
        **images,
    }
    faults = {**tests.faults, **annotations.faults, **found.faults}
    several = any(len(images[case]) > 1 for case in annotated)
    cases = [
        _case(case, files[case], channels, annotations.get(case), faults.get(case), several=several)
        for case in sorted(files)
    ]
    return Dataset(
        name=str(facts.get("name") or path.name),
        root=path,
        layout=layout,
        cases=tuple(case for case in cases if case.annotation is not None),
        channels=channels,
        labels=labels,
        unlabelled=tuple(case for case in cases if case.annotation is None),
        splits=(),
        notes=tuple(notes),
    )


def _channels_on_disk(images: Sequence[Mapping[int, Path]]) -> tuple[str, ...]:
    """The channels that most cases have."""
    counts = Counter(tuple(sorted(files)) for files in images)
    numbers = max(counts, key=lambda numbers: (counts[numbers], len(numbers)))
    if len(numbers) == 1:
        return guess_channels(files[numbers[0]] for files in images if numbers[0] in files)
    return tuple(f"channel_{number}" for number in numbers)


def _case(
    case: str,
    files: Mapping[int, Path],
    channels: tuple[str, ...],
    annotation: Path | None,
    fault: DataError | None,
    *,
    several: bool,
) -> Case:
    """A case.

    The only file holds all its channels (4D NIfTI, colour picture), unless others have `several`.
    """
    if set(files) == {0} and not (several and len(channels) > 1):
        return Case(case, None, dict.fromkeys(channels, files[0]), annotation, fault=fault)
    lacking = sorted(set(range(len(channels))) - set(files))
    if set(files) != set(range(len(channels))):
        fault = fault or FormatError(
            f"case {case} has the channel numbers {sorted(files)} in {files[min(files)].parent}",
            needed=f"the numbers 0 to {len(channels) - 1} for the channels {', '.join(channels)}",
            cure=(
                f"add the missing file, e.g. {case}_{lacking[0] if lacking else 0:04d}.nii.gz, "
                "or correct channel_names in dataset.json"
            ),
        )
    names = {
        number: channels[number] if number < len(channels) else f"channel_{number}"
        for number in sorted(files)
    }
    return Case(
        case, None, {name: files[number] for number, name in names.items()}, annotation, fault=fault
    )
