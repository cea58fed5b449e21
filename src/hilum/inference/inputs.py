"""Sources of a prediction: files, folders, data sets, DICOM series."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hilum.dataset.case import Case
from hilum.dataset.channels import arrange_channels
from hilum.errors import DataError, counted
from hilum.files import image_stem
from hilum.io import in_colours, read_channels, read_volume
from hilum.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
Source = Volume | Case | Path | str | Mapping[str, Path]
"""Source of one prediction: a volume, a case, a file or DICOM folder, or one file a channel.
"""


def in_order(source: Source, channels: Sequence[str]) -> Source:
    """Bring a source's channels to a model's order, where the source names channels.

    Raises:
        DataError: it has others; see `hilum.dataset.channels.match_channels`.
    """
    if isinstance(source, Mapping):
        source = Case(id=case_id(source), patient=None, images=source)
    return arrange_channels(source, channels) if isinstance(source, Case) else source


def read_source(source: Source, channels: Sequence[str] = ()) -> Volume:
    """Read the image (C, Z, Y, X) of one case.

    A grey picture three times where `channels` are red, green and blue.

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


def channel_files(source: Source) -> tuple[Path, ...]:
    """List the file or DICOM folder of each channel, in their order; none for a volume.

    A file that holds several once, or as often as it is named.
    """
    if isinstance(source, Volume):
        return ()
    if isinstance(source, Path | str):
        return (Path(source),)
    return tuple((source.images if isinstance(source, Case) else source).values())


def image_files(source: Source) -> tuple[Path, ...]:
    """List the files and DICOM folders that a case is read from, each once; none for a volume."""
    return tuple(dict.fromkeys(channel_files(source)))


def wrong_channels(case: str, image: Volume, channels: Sequence[str]) -> DataError:
    """Make the error for an image of another number of channels than a model has.

    Its cure is about what the image probably is.
    """
    what = "an image"
    cure = "give the image of this channel alone: a file or series that holds nothing else"
    if len(channels) > 1:
        cure = (
            f"give one file a channel, named {case}_0000.nii.gz, {case}_0001.nii.gz, ... in this"
            " order"
        )
    elif image.geometry.is_2d and image.channels in {3, 4}:
        what = "a colour picture"
        cure = f"this is not what the model learnt from; give it images of {channels[0]}"
    return DataError(
        f"{case}: {what} with {counted(image.channels, 'channel')} for a model of {len(channels)}",
        needed=", ".join(channels),
        cure=cure,
    )


def case_id(source: Source) -> str:
    """Name a case: by its id, or its file without suffix and first channel's number.

    "case" for a volume.
    """
    if isinstance(source, Volume):
        return "case"
    if isinstance(source, Case):
        return source.id
    path = Path(next(iter(source.values())) if isinstance(source, Mapping) else source)
    return image_stem(path).removesuffix("_0000")
