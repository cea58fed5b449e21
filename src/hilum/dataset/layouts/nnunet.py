"""Raw folders of nnU-Net and the Decathlon: imagesTr, labelsTr, imagesTs and dataset.json.

They differ in one thing: nnU-Net's images end in a channel number (case_0000.nii.gz), the
Decathlon's do not, and hold all their channels in one file. The files on disk decide which it is,
for dataset.json is often copied from one to the other.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from hilum.dataset.case import Case, Dataset
from hilum.dataset.layouts.listing import Entries, guess_channels, image_entries, orphans_of
from hilum.dataset.layouts.naming import channel_names, json_facts, labels_of
from hilum.dataset.layouts.shared_images import dataset_of
from hilum.errors import DataError, FormatError, some

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Images = dict[str, dict[int, Path]]
    """Case to channel number to file; a case stored whole has channel 0 only."""

_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def recognises_nnunet(path: Path) -> bool:
    """Recognise channel numbers in the names of imagesTr, or a "dataset" list in dataset.json."""
    return _has_nnunet_shape(path) and _is_channelled(path)


def recognises_decathlon(path: Path) -> bool:
    """Recognise imagesTr whose files carry no channel number."""
    return _has_nnunet_shape(path) and not _is_channelled(path)


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


def _has_nnunet_shape(path: Path) -> bool:
    """Recognise a folder with an imagesTr, or a dataset.json that lists cases under "dataset"."""
    listed = path.is_dir() and json_facts(path).get("dataset")
    return isinstance(listed, dict) or (path / "imagesTr").is_dir()


def _is_channelled(path: Path) -> bool:
    facts = json_facts(path)
    if isinstance(facts.get("dataset"), dict):
        return True
    images, annotations = (_entries(path / part, facts) for part in ("imagesTr", "labelsTr"))
    matches = [_CHANNEL.match(stem) for stem in images]
    numbered = sum(match is not None and match["case"] in annotations for match in matches)
    return numbered > sum(stem in annotations for stem in images)


def _entries(folder: Path, facts: Mapping[str, object]) -> Entries:
    """The images of a folder, of the stated file ending where it really has such files."""
    ending = facts.get("file_ending")
    if not isinstance(ending, str) or not folder.is_dir():
        return image_entries(folder)
    names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    return image_entries(folder, ending=ending if any(n.endswith(ending) for n in names) else None)


def _group(entries: Entries, annotations: Mapping[str, Path], *, channelled: bool) -> Images:
    cases: Images = {}
    for stem, file in entries.items():
        match = _CHANNEL.match(stem) if channelled and stem not in annotations else None
        case, channel = (match["case"], int(match["channel"])) if match else (stem, 0)
        cases.setdefault(case, {})[channel] = file
        if case != stem and stem in entries.faults:
            entries.faults[case] = entries.faults[stem]
    return cases


def _read(path: Path, layout: str, *, values: bool) -> Dataset:
    """Read a folder of either layout; files without a partner are noted or left out."""
    facts = json_facts(path)
    listed = facts.get("dataset")
    if isinstance(listed, dict):
        entries, annotations = Entries(), Entries()
        annotations |= {c: path / one["label"] for c, one in listed.items() if one.get("label")}
        images: Images = {
            case: dict(enumerate(path / name for name in one["images"]))
            for case, one in listed.items()
        }
    else:
        entries, annotations = (_entries(path / part, facts) for part in ("imagesTr", "labelsTr"))
        images = _group(entries, annotations, channelled=_is_channelled(path))
    annotated = [case for case in sorted(images) if case in annotations]
    if not annotated:
        raise DataError(
            f"no image in {path / 'imagesTr'} has an annotation of the same name in"
            f" {path / 'labelsTr'}",
            needed="imagesTr/CASE_0000.nii.gz (or imagesTr/CASE.nii.gz) with labelsTr/CASE.nii.gz",
            cure="rename the files so that an image and its annotation share their name",
        )
    channels = channel_names(facts, path / "dataset.json")
    if not channels:
        counts = Counter(tuple(sorted(images[case])) for case in annotated)
        numbers = max(counts, key=lambda numbers: (counts[numbers], len(numbers)))
        channels = tuple(f"channel_{number}" for number in numbers)
        if len(numbers) == 1:
            held = [images[case] for case in annotated if numbers[0] in images[case]]
            channels = guess_channels(files[numbers[0]] for files in held)
    labels, notes = (
        labels_of(path, [annotations[case] for case in annotated]) if values else (None, ())
    )
    extra = some(sorted(set(images) - set(annotated)))
    lonely = some(sorted(set(annotations) - set(images)))
    notes += (
        f"{extra} in imagesTr without annotation: counted as unlabelled" if extra else "",
        f"{lonely} in labelsTr without image: left out" if lonely else "",
    )
    tests = _entries(path / "imagesTs", facts)
    grouped = _group(tests, {}, channelled=layout == "nnunet")
    files = {case: one for case, one in grouped.items() if case not in annotations} | images
    faults = tests.faults | annotations.faults | entries.faults
    several = any(len(images[case]) > 1 for case in annotated)
    cases = [
        _case(case, held, channels, annotations.get(case), faults.get(case), several=several)
        for case, held in files.items()
    ]
    return dataset_of(
        path,
        layout,
        cases,
        channels=channels,
        labels=labels,
        notes=notes,
        orphans=orphans_of({c: held[min(held)] for c, held in images.items()}, annotations),
        name=facts.get("name"),
    )


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
    wanted = range(len(channels))
    if set(files) != set(wanted) and fault is None:
        lacking = min(set(wanted) - set(files), default=0)
        fault = FormatError(
            f"case {case} has the channel numbers {sorted(files)} in {files[min(files)].parent}",
            needed=f"the numbers 0 to {len(channels) - 1} for the channels {', '.join(channels)}",
            cure=(
                f"add the missing file, e.g. {case}_{lacking:04d}.nii.gz, or correct channel_names"
                " in dataset.json"
            ),
        )
    images = {
        channels[number] if number in wanted else f"channel_{number}": files[number]
        for number in sorted(files)
    }
    return Case(case, None, images, annotation, fault=fault)
