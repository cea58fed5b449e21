"""Files in and out: the only room that knows a file format."""

from hilum.io.dispatch import (
    in_colours,
    inspect_file,
    read_channels,
    read_geometry,
    read_labels,
    read_modality,
    read_volume,
    supported,
    write_labels,
    write_volume,
)
from hilum.io.files import (
    SUFFIXES,
    Readable,
    atomic_path,
    atomic_write_text,
    file_of,
    header_of,
    image_stem,
    image_suffix,
    longest_name,
    nearest,
    sha256,
)
from hilum.io.medmnist import ArchivePart, archive_parts
from hilum.io.output import OutputFolder, holds_files, is_output
from hilum.io.picture import palette_of
from hilum.io.record import FileFacts

__all__ = [
    "SUFFIXES",
    "ArchivePart",
    "FileFacts",
    "OutputFolder",
    "Readable",
    "archive_parts",
    "atomic_path",
    "atomic_write_text",
    "file_of",
    "header_of",
    "holds_files",
    "image_stem",
    "image_suffix",
    "in_colours",
    "inspect_file",
    "is_output",
    "longest_name",
    "nearest",
    "palette_of",
    "read_channels",
    "read_geometry",
    "read_labels",
    "read_modality",
    "read_volume",
    "sha256",
    "supported",
    "write_labels",
    "write_volume",
]
