"""Label maps of a folder by case: image files, and SEG or RTSTRUCT files of DICOM."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from hilum.dataset.channels import plain_name
from hilum.dataset.labels import describe_labels, ids_by_name, ids_of_segments, relabel
from hilum.errors import LabelError, UsageError, some
from hilum.files import header_of, image_stem, image_suffix, is_output, nearest
from hilum.io import (
    inspect_file,
    is_dicom_annotation,
    read_dicom_annotation,
    read_labels,
    segments_of,
    supported,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hilum.volume import Geometry, LabelTable, Volume

_log = logging.getLogger("hilum")
_NAMED = "label maps named <case>.nii.gz (.nrrd, .mha, .png, .dcm, ...)"
_DICOM = {"", ".dcm"}
_ENDING = re.compile(r"[_.-](?:seg|rtstruct)$", re.IGNORECASE)


def find_label_maps(folder: Path) -> dict[str, Path]:
    """Label map of each case id in a folder, by id; hidden files are passed over.

    Raises:
        UsageError: no folder, no label maps, or two of one case.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is not a folder", needed=f"a folder of {_NAMED}", cure=nearest(folder)
        )
    files: dict[str, Path] = {}
    for entry in sorted(folder.glob("[!.]*")):
        if not is_label_map(entry) or header_of(entry) != entry:
            continue
        case = _case_of(entry)
        other = files.setdefault(case, entry)
        if other is not entry and _is_copy(other, entry):
            files[case] = min(other, entry, key=_exactness)
        elif other is not entry:
            own = [file.name for file in (other, entry) if is_output(file)]
            written = f"; hilum wrote {own[0]}" if len(own) == 1 else ""
            raise UsageError(
                f"{other.name} and {entry.name} in {folder} are two label maps of case {case}"
                f"{written}",
                needed="one file a case",
                cure="keep predictions and references in folders of their own, each in one format",
            )
    if not files:
        raise UsageError(
            f"there are no label maps in {folder}",
            needed=_NAMED,
            cure="name the folder that holds the label maps",
        )
    return files


def is_label_map(entry: Path) -> bool:
    """Return True for a file that may hold labels: by its name, of DICOM by its header."""
    if image_suffix(entry) in _DICOM:
        return is_dicom_annotation(entry)
    return image_suffix(entry) != ".npz" and not entry.is_dir()


def holds_label_maps(folder: Path) -> bool:
    """Return True if label maps lie in a folder, and no DICOM images beside those of DICOM."""
    files = [entry for entry in sorted(folder.iterdir()) if entry.is_file()]
    dicom = [file for file in files if image_suffix(file) in _DICOM and supported(file)]
    others = any(image_suffix(file) not in {*_DICOM, ".npz"} for file in files)
    return others or (bool(dicom) and all(map(is_dicom_annotation, dicom)))


def is_unscaled(file: Path) -> bool:
    """Return True for a picture without a physical scale; DICOM annotations have one."""
    return not is_dicom_annotation(file) and inspect_file(file).geometry.unscaled


def _case_of(entry: Path) -> str:
    """Return the case that a label map is named after: "s" of s.nii.gz and of s_seg.dcm."""
    stem = image_stem(entry)
    return _ENDING.sub("", stem) or stem if image_suffix(entry) in _DICOM else stem


def _is_copy(first: Path, second: Path) -> bool:
    """Return True for one prediction that hilum wrote in several formats, DICOM among them."""
    dicom = any(image_suffix(one) in _DICOM for one in (first, second))
    return dicom and is_output(first) and is_output(second)


def _exactness(entry: Path) -> tuple[bool, bool]:
    """Put label maps before SEG, and SEG before contours."""
    return image_suffix(entry) in _DICOM, entry.stem.lower().endswith("rtstruct")


def read_by_name(
    file: Path,
    table: LabelTable,
    *,
    grid: Geometry | None = None,
    ids: Mapping[int, int] | None = None,
) -> Volume:
    """Read a label map with the ids of a table, by the names of its segments where it has any.

    Args:
        file: of an image format, or a DICOM annotation. Structures of the latter that the table
            does not name are left out, and logged.
        table: what the ids shall mean.
        grid: of a DICOM annotation whose images are not near.
        ids: what the ids of a file without names are.

    Raises:
        LabelError: the names are others.
        DataError: the file cannot be read.
    """
    if not is_dicom_annotation(file):
        named = ids_of_segments(file, table, holder="the reference")
        return relabel(read_labels(file), named or ids or {})
    segments, known = segments_of(file), ids_by_name(table)
    if not known or not segments:
        return relabel(read_dicom_annotation(file, grid=grid), ids or {})
    wanted = {
        one.stored: known[plain_name(one.name)] for one in segments if plain_name(one.name) in known
    }
    others = [one.name for one in segments if one.stored not in wanted]
    if not wanted:
        raise LabelError(
            f"{file} has the structures {some(others, shown=8)}; wanted are"
            f" {describe_labels(table)}",
            needed="the same names on both sides",
            cure="rename the labels in labels.json, or the structures",
        )
    if others:
        _log.info("%s: structures of other names are left out: %s", file, some(others, shown=8))
    return read_dicom_annotation(file, ids=wanted, grid=grid)
