"""Opening NIfTI, Analyze and MGH files by nibabel.

Whether a file is gzipped is read from its bytes, not from its name.
"""

from __future__ import annotations

import gzip
import io
import logging
from typing import TYPE_CHECKING, Any

from hilum.errors import FormatError
from hilum.files.names import data_of, header_of, image_suffix

if TYPE_CHECKING:
    from pathlib import Path

    from nibabel.analyze import AnalyzeHeader
    from nibabel.filebasedimages import FileBasedImage
    from nibabel.spatialimages import SpatialImage

_GZIP = b"\x1f\x8b"
_HEAD = 1024  # bytes in which every header says what it is
_GZIPPED_NAMES = (".gz", ".mgz")
_NOTES = (
    "the file is not gzipped, though its name says so; it was read as it is",
    "the file is gzipped, though its name does not say so; it was unpacked",
    "the file is gzipped twice; it was unpacked twice",
)
"""By how often the file is gzipped."""


def open_image(path: Path) -> tuple[SpatialImage, tuple[str, ...]]:
    """Open a file as nibabel's image, without its voxels.

    Returns:
        The image, and a note where the compression is another than the name says.

    Raises:
        FormatError: the other file of its pair is missing, or it is of no kind that is read.
    """
    import nibabel

    # what nibabel repairs is said by notes here
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    files, is_mgh = _files(path), image_suffix(path).startswith(".mg")
    layers = {name: _compression(file) for name, file in files.items()}
    wrong = [
        count
        for name, count in layers.items()
        if count != int(files[name].name.lower().endswith(_GZIPPED_NAMES))
    ]
    if not wrong and not is_mgh:  # nibabel leaves files of MGH open
        image: FileBasedImage = nibabel.load(files.get("header", path), mmap=False)
        # all kinds of NIfTI derive from the former
        if not isinstance(image, nibabel.Nifti1Pair | nibabel.AnalyzeImage):
            raise FormatError(
                f"{path} is a file of type {type(image).__name__}",
                needed="NIfTI or Analyze",
                cure="convert it to NIfTI with the program that wrote it",
            )
        return image, ()
    streams = {name: _unzip(file, layers[name]) for name, file in files.items()}
    return _from_streams(streams, mgh=is_mgh), tuple(
        _NOTES[count] for count in dict.fromkeys(wrong)
    )


def raw_header(image: SpatialImage) -> AnalyzeHeader:
    """Read the header as it is stored: nibabel mends some fields when it opens a file."""
    holder = image.file_map.get("header") or image.file_map["image"]
    kind: Any = type(image.header)  # nibabel's annotations are partial
    with holder.get_prepare_fileobj() as stream:
        stream.seek(0)
        header: AnalyzeHeader = kind.from_fileobj(stream, check=False)
        return header


def _files(path: Path) -> dict[str, Path]:
    """List the files of an image by nibabel's names for them."""
    suffix, header = image_suffix(path), header_of(path)
    data = data_of(header)
    if data is None and not suffix.startswith(".img"):
        return {"image": path}
    if data is None or not data.exists():
        other = suffix.replace("img", "hdr") if data is None else suffix.replace("hdr", "img")
        raise FormatError(
            f"{path}: the file {path.name[: -len(suffix)]}{other} of the pair is missing",
            needed="a header (.hdr) and its data (.img) side by side",
            cure="copy both files, or convert the image to .nii.gz where it is complete",
        )
    return {"header": header, "image": data}


def _compression(path: Path) -> int:
    """Count how often a file is gzipped, up to 2."""
    with path.open("rb") as stream:
        if stream.read(2) != _GZIP:
            return 0
    with gzip.open(path) as inner:
        return 2 if inner.read(2) == _GZIP else 1


def _unzip(path: Path, layers: int) -> io.BufferedIOBase:
    """Open a file's bytes in memory.

    Those of a gzipped one are unpacked as far as they are read.
    """
    stream: io.BufferedIOBase = io.BytesIO(path.read_bytes())
    for _ in range(layers):
        stream = gzip.GzipFile(fileobj=stream, mode="rb")
    return stream


def _from_streams(streams: dict[str, io.BufferedIOBase], *, mgh: bool) -> SpatialImage:
    """Open an image from the streams of its files."""
    import nibabel
    from nibabel.fileholders import FileHolder

    holders = {name: FileHolder(fileobj=stream) for name, stream in streams.items()}
    head = b"" if mgh else streams.get("header", streams["image"]).read(_HEAD)
    kinds: tuple[Any, ...] = (nibabel.Nifti1Image, nibabel.Nifti2Image)
    if "header" in streams:
        kinds = (nibabel.Nifti1Pair, nibabel.Nifti2Pair, nibabel.Spm2AnalyzeImage)
    for kind in (nibabel.MGHImage,) if mgh else kinds:
        if mgh or kind.header_class.may_contain_header(head):
            image: SpatialImage = kind.from_file_map(holders, mmap=False)
            return image
    raise ValueError("neither its name nor its first bytes are those of such a file")
