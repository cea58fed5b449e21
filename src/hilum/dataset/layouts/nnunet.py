"""Raw folders of nnU-Net and the Decathlon: imagesTr, labelsTr, imagesTs and dataset.json.

They differ in one thing: nnU-Net's images end in a channel number (case_0000.nii.gz), the
Decathlon's do not, and hold all their channels in one file. The files on disk decide which it is,
for dataset.json is often copied from one to the other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hilum.dataset.layouts.listing import Entries, image_entries, orphans_of
from hilum.dataset.layouts.naming import json_facts
from hilum.dataset.layouts.shared_images import NumberedFiles, read_numbered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hilum.dataset.case import Dataset

    Images = dict[str, dict[int, Path]]
    """Case to channel number to file; a case stored whole has channel 0 only."""

_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def recognises_nnunet(path: Path) -> bool:
    """Recognise channel numbers in the names of imagesTr, or a "dataset" list in dataset.json."""
    return _has_nnunet_shape(path) and _is_channelled(path)


def recognises_decathlon(path: Path) -> bool:
    """Recognise imagesTr whose files carry no channel number."""
    return _has_nnunet_shape(path) and not _is_channelled(path)


def _has_nnunet_shape(path: Path) -> bool:
    """Recognise a folder with an imagesTr, or a dataset.json that lists cases under "dataset"."""
    listed = path.is_dir() and json_facts(path).get("dataset")
    return isinstance(listed, dict) or (path / "imagesTr").is_dir()


def _is_channelled(path: Path) -> bool:
    """Return True if the images' names end in nnU-Net's number of a channel (_0000)."""
    facts = json_facts(path)
    if isinstance(facts.get("dataset"), dict):
        return True
    images, annotations = (_entries(path / part, facts) for part in ("imagesTr", "labelsTr"))
    matches = [_CHANNEL.match(stem) for stem in images]
    numbered = sum(match is not None and match["case"] in annotations for match in matches)
    return numbered > sum(stem in annotations for stem in images)


def _entries(folder: Path, facts: Mapping[str, object]) -> Entries:
    """Return the images of a folder, of the stated file ending where it really has such files."""
    ending = facts.get("file_ending")
    if not isinstance(ending, str) or not folder.is_dir():
        return image_entries(folder)
    names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    return image_entries(folder, ending=ending if any(n.endswith(ending) for n in names) else None)


def _group(entries: Entries, annotations: Mapping[str, Path], *, channelled: bool) -> Images:
    """Sort files by case and channel; a name that an annotation has too is a case by itself."""
    cases: Images = {}
    for stem, file in entries.items():
        match = _CHANNEL.match(stem) if channelled and stem not in annotations else None
        case, channel = (match["case"], int(match["channel"])) if match else (stem, 0)
        cases.setdefault(case, {})[channel] = file
        if case != stem and stem in entries.faults:
            entries.faults[case] = entries.faults[stem]
    return cases


def read(path: Path, *, layout: str, values: bool = True) -> Dataset:
    """Open a folder of either layout; files without a partner are noted or left out.

    Args:
        path: the folder that holds imagesTr and labelsTr; dataset.json may be absent, then names
            come from the files.
        layout: "nnunet", or "decathlon": one file a case, which holds all its channels.
        values: whether annotations may be read to find out what the labels are.

    Raises:
        DataError: no image has an annotation.
    """
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
    held_out = _entries(path / "imagesTs", facts)
    tests = _group(held_out, {}, channelled=layout == "nnunet")
    found = NumberedFiles(
        images,
        annotations,
        (path / "imagesTr", path / "labelsTr"),
        "imagesTr/CASE_0000.nii.gz (or imagesTr/CASE.nii.gz) with labelsTr/CASE.nii.gz",
        held_out.faults | annotations.faults | entries.faults,
        {case: files for case, files in tests.items() if case not in annotations},
        orphans_of({case: files[min(files)] for case, files in images.items()}, annotations),
    )
    return read_numbered(path, layout, found, values=values)
