"""What people hand over to be predicted: files, folders, data sets, DICOM series."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset.case import Case
from hilum.dataset.channels import arrange_channels
from hilum.errors import DataError, UsageError
from hilum.io import header_of, image_stem, image_suffix, in_colours, nearest, read_channels, read_volume, supported
from hilum.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Source = Volume | Case | Path | str | Mapping[str, Path]
"""What one prediction starts from: a volume, a case, a file or DICOM folder, or one file a channel."""

_CHANNEL = re.compile(r"_(\d{4})$")  # nnU-Net's <case>_0000, <case>_0001, ...
_DATASET_FILES = (".csv", ".tsv", ".npz")
_DATASET_FOLDERS = ("imagesTs", "imagesTr", "images")


def in_order(source: Source, channels: Sequence[str]) -> Source:
    """The source with the channels of a model in its order, where the source names channels.

    Raises:
        DataError: it has others; see `hilum.dataset.channels.match_channels`.
    """
    if isinstance(source, Mapping):
        source = Case(id=case_id(source), patient=None, images=source)
    return arrange_channels(source, channels) if isinstance(source, Case) else source


def read_source(source: Source, channels: Sequence[str] = ()) -> Volume:
    """Read the image (C, Z, Y, X) of one case; a grey picture three times where `channels` are red, green and blue.

    Raises:
        DataError: it cannot be read.
    """
    if isinstance(source, Volume):
        return source
    if isinstance(source, Case):
        return read_channels(source.images, source.positions)
    if isinstance(source, Mapping):
        return read_channels(source)
    return in_colours(read_volume(source), channels)


def image_files(source: Source) -> tuple[Path, ...]:
    """The files and DICOM folders that a case is read from, each once; none for a volume."""
    if isinstance(source, Volume):
        return ()
    if isinstance(source, Case):
        return tuple(dict.fromkeys(source.images.values()))
    if isinstance(source, Mapping):
        return tuple(dict.fromkeys(source.values()))
    return (Path(source),)


def channel_files(source: Source) -> tuple[Path, ...]:
    """The file or DICOM folder of each channel, in their order; a file that holds several once, or as often as it is named."""
    if isinstance(source, Case):
        return tuple(source.images.values())
    return tuple(source.values()) if isinstance(source, Mapping) else image_files(source)


def wrong_channels(case: str, image: Volume, channels: Sequence[str]) -> DataError:
    """The error for an image of another number of channels than a model has; its cure is about what the image probably is."""
    colour = image.geometry.is_2d and image.channels in {3, 4} and len(channels) == 1
    many = f"give one file a channel, named {case}_0000.nii.gz, {case}_0001.nii.gz, ... in this order"
    single = "give the image of this channel alone: a file or series that holds nothing else"
    return DataError(
        f"{case}: {'a colour picture' if colour else 'an image'} with {image.channels} channels for a model of {len(channels)}",
        needed=", ".join(channels),
        cure=f"this is not what the model learnt from; give it images of {channels[0]}"
        if colour
        else many
        if len(channels) > 1
        else single,
    )


def case_id(source: Source) -> str:
    """The id of a case: its own, or its file's name without suffix and first channel's number; "case" for a volume."""
    if isinstance(source, Volume):
        return "case"
    if isinstance(source, Case):
        return source.id
    path = Path(next(iter(source.values())) if isinstance(source, Mapping) else source)
    return image_stem(path).removesuffix("_0000")


def find_cases(sources: Sequence[Path | str], channels: Sequence[str], *, annotated: bool = False) -> tuple[Case, ...]:
    """The cases in what the user named, in order of their ids.

    A source is an image file (`<case>_0000.nii.gz`, `<case>_0001.nii.gz` are the channels of one case; where there is no 0000,
    as in `amos_0019.nii.gz`, the number is a part of the case's name); a folder of such files; a DICOM folder, or a folder of
    DICOM folders, one a case; a data set as for training (its cases without annotation where it has any, else all); or a table
    (.csv) or archive (.npz).

    Args:
        sources: files and folders.
        channels: the model's channel names, in order. A case with too few or too many images is found all the same: reading
            it says what is wrong, and the others go on.
        annotated: take all cases of a data set, also where some have no annotation: a mask is no answer to a classifier.

    Raises:
        UsageError: a source does not exist or holds no image, or two cases have the same id.
    """
    cases: list[Case] = []
    files: list[Path] = []
    for source in map(Path, sources):
        if not source.exists() and not source.is_symlink():
            raise UsageError(f"{source}: no such file or folder", cure=nearest(source) or "check the path")
        if source.is_dir() or source.suffix in _DATASET_FILES:
            cases.extend(_in_folder(source, channels, annotated=annotated))
        else:
            files.append(header_of(source))
    cases.extend(_group(dict.fromkeys(files), channels))
    return _distinct(cases)


def _in_folder(folder: Path, channels: Sequence[str], *, annotated: bool) -> tuple[Case, ...]:
    """The cases of a folder, table or archive."""
    from hilum.dataset import LAYOUTS, open_cases

    if _is_dataset(folder):
        cases = tuple(arrange_channels(case, channels, where=str(folder)) for case in open_cases(folder))
        return tuple(case for case in cases if annotated or case.annotation is None) or cases
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    images = [e for e in entries if not e.is_dir() and image_suffix(e) not in ("", ".dcm", ".npz") and header_of(e) == e]
    if images:
        return _group(images, channels)
    if supported(folder):
        return (_one_image(folder, folder.name, channels),)
    series = [entry for entry in entries if entry.is_dir() and supported(entry)]
    if not series and any(known.recognises(folder) for known in LAYOUTS.values()):  # folders of classes
        return tuple(arrange_channels(case, channels, where=str(folder)) for case in open_cases(folder))
    if not series:
        raise UsageError(
            f"{folder}: no image in it",
            needed="images, a DICOM series, folders of DICOM series, or a data set",
            cure="name the folder that holds the images themselves",
        )
    return tuple(_one_image(entry, entry.name, channels) for entry in series)


def _is_dataset(path: Path) -> bool:
    from hilum.dataset import LAYOUTS

    named = path.suffix in _DATASET_FILES or (path / "dataset.json").is_file() or LAYOUTS["table"].recognises(path)
    return named or any((path / name).is_dir() for name in _DATASET_FOLDERS)


def _group(files: Iterable[Path], channels: Sequence[str]) -> tuple[Case, ...]:
    """Image files to cases, channels of one case together."""
    single: list[Case] = []
    grouped: dict[tuple[Path, str], dict[int, Path]] = {}
    for file in files:
        stem = image_stem(file)
        number = _CHANNEL.search(stem)
        if number is None:
            single.append(_one_image(file, stem, channels))
        else:
            grouped.setdefault((file.parent, stem[: number.start()]), {})[int(number[1])] = file
    many: list[Case] = []
    for (_, stem), images in grouped.items():
        if 0 in images:
            many.append(Case(id=stem, patient=None, images=_named(images, channels)))
        else:  # numbered cases, no channels
            single.extend(_one_image(image, image_stem(image), channels) for image in images.values())
    return (*single, *many)


def _named(images: Mapping[int, Path], channels: Sequence[str]) -> dict[str, Path]:
    """Channel numbers to the model's names, where the numbers are the model's."""
    if sorted(images) == list(range(len(channels))):
        return {channels[n]: images[n] for n in sorted(images)}
    return {f"channel {n}": images[n] for n in sorted(images)}


def _one_image(path: Path, name: str, channels: Sequence[str]) -> Case:
    """A case whose channels are all in one file or series."""
    return Case(id=name, patient=None, images=dict.fromkeys(channels, path))


def _distinct(cases: Iterable[Case]) -> tuple[Case, ...]:
    known: dict[str, Case] = {}
    for case in cases:
        if case.id in known:
            first, second = (next(iter(one.images.values())) for one in (known[case.id], case))
            raise UsageError(
                f"two cases with the id {case.id!r}: {first} and {second}",
                needed="one name a case, as the outputs are named after them",
                cure="predict them into two folders, or rename one",
            )
        known[case.id] = case
    return tuple(known[name] for name in sorted(known))
