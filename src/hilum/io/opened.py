"""Opening NIfTI, Analyze and MGH files by nibabel.

Whether a file is gzipped is read from its bytes, not from its name.
"""

from __future__ import annotations

import gzip
import io
import logging
import zlib
from typing import TYPE_CHECKING, Any

from hilum.errors import FormatError
from hilum.io.files import data_of, header_of, image_suffix

if TYPE_CHECKING:
    from pathlib import Path

_GZIP = b"\x1f\x8b"
_HEAD = 1024  # bytes in which every header says what it is
_GZIPPED_NAMES = (".gz", ".mgz")


def open_image(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Open a file as nibabel's image, without its voxels.

    Returns:
        The image, and a note where the compression is another than the name says.

    Raises:
        FormatError: the file, or the other file of its pair, is missing, damaged, or of no kind
            that nibabel reads.
    """
    import nibabel

    logging.getLogger("nibabel.global").setLevel(
        logging.CRITICAL
    )  # what nibabel repairs is said by notes here
    try:
        files = _files(path)
        kinds = {name: _compression(file) for name, file in files.items()}
        wrong = {
            n: layers
            for n, layers in kinds.items()
            if layers != int(files[n].name.lower().endswith(_GZIPPED_NAMES))
        }
        if not wrong and not image_suffix(path).startswith(
            ".mg"
        ):  # nibabel leaves files of MGH open
            image = nibabel.load(files.get("header", path), mmap=False)
            if not isinstance(
                image, nibabel.Nifti1Pair | nibabel.AnalyzeImage
            ):  # all kinds of NIfTI derive from the former
                raise FormatError(
                    f"{path}: a file of type {type(image).__name__}", needed="NIfTI or Analyze"
                )
            return image, ()
        streams = {name: _unzipping(file, kinds[name]) for name, file in files.items()}
        image = _from_streams(streams, mgh=image_suffix(path).startswith(".mg"))
        return image, tuple(_words(layers) for layers in dict.fromkeys(wrong.values()))
    except (
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        OSError,
        EOFError,
        zlib.error,
        ValueError,
    ) as error:
        raise FormatError(
            f"{path}: not a readable file of the kind {image_suffix(path)} ({error})",
            needed="a complete NIfTI, Analyze or MGH file",
            cure="copy or download it again",
        ) from error


def raw_header(image: Any) -> Any:
    """Read the header as it is stored: nibabel mends some fields when it opens a file."""
    holder = image.file_map.get("header") or image.file_map["image"]
    with holder.get_prepare_fileobj() as stream:
        stream.seek(0)
        return type(image.header).from_fileobj(stream, check=False)


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


def _unzipping(path: Path, layers: int) -> io.BufferedIOBase:
    """Open a file's bytes in memory.

    Those of a gzipped one are unpacked as far as they are read.
    """
    stream: io.BufferedIOBase = io.BytesIO(path.read_bytes())
    for _ in range(layers):
        stream = gzip.GzipFile(fileobj=stream, mode="rb")
    return stream


def _from_streams(streams: dict[str, io.BufferedIOBase], *, mgh: bool) -> Any:
    """Open an image from the streams of its files."""
    import nibabel
    from nibabel.fileholders import FileHolder

    holders = {name: FileHolder(fileobj=stream) for name, stream in streams.items()}
    mgh_image: Any = nibabel.MGHImage  # nibabel's annotations are partial
    if mgh:
        return mgh_image.from_file_map(holders, mmap=False)
    head = streams.get("header", streams["image"]).read(_HEAD)
    kinds: list[Any] = (
        [nibabel.Nifti1Pair, nibabel.Nifti2Pair, nibabel.Spm2AnalyzeImage]
        if "header" in streams
        else [nibabel.Nifti1Image, nibabel.Nifti2Image]
    )
    for kind in kinds:
        if kind.header_class.may_contain_header(head):
            return kind.from_file_map(holders, mmap=False)
    raise ValueError("neither its name nor its first bytes are those of such a file")


def _words(layers: int) -> str:
    """Describe how often a file is gzipped."""
    return (
        "the file is not gzipped, though its name says so; it was read as it is",
        "the file is gzipped, though its name does not say so; it was unpacked",
        "the file is gzipped twice; it was unpacked twice",
    )[layers]
