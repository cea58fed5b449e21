"""A table, one row a case: columns such as case, patient, image_CT, mask, region, label."""

from __future__ import annotations

import glob
import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING

from hilum.dataset.annotation import annotation_files
from hilum.dataset.case import Case, Dataset
from hilum.dataset.layouts.listing import Orphan, guess_channels, image_entries, orphans_of, pair
from hilum.dataset.layouts.naming import labels_of, stated_channels
from hilum.dataset.layouts.paired_folders import ANNOTATION_FOLDERS, IMAGE_FOLDERS, sub_folder
from hilum.dataset.layouts.patients import PATIENTS_FILE
from hilum.errors import DataError, FormatError
from hilum.io import image_stem, image_suffix, is_output, supported
from hilum.io.text import is_known, name_key, read_header, read_table, unknown_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hilum.io.text import Table
    from hilum.volume import LabelTable

TABLE_FILES = ("cases.csv", "dataset.csv", "table.csv", "labels.csv", "metadata.csv")
_ALIASES = {
    "case": ("case", "case_id", "id", "name"),
    "patient": ("patient", "patient_id", "patientid", "subject", "subject_id"),
    "image": ("image", "image_path", "file", "filename", "file_name", "path"),
    "mask": ("mask", "mask_path", "annotation", "segmentation", "seg"),
    "region": ("region", "region_path"),
}
_MASKS_OR_CLASSES = ("label", "labels")
_REGION_FOLDERS = ("regions", "region", *ANNOTATION_FOLDERS)
_GROUP = "group"
_CHANNEL_PREFIX = "image_"


def recognises(path: Path) -> bool:
    """Recognise a CSV file, or a folder with one of the usual names that has a column of images."""
    if path.is_file():
        return path.suffix.lower() in {".csv", ".tsv"}
    file = table_file(path)
    try:
        return file is not None and bool(_Columns.of(read_header(file)).images)
    except FormatError:
        if file is not None and file.name in TABLE_FILES:
            raise
        return False


def read(path: Path, *, values: bool = True) -> Dataset:
    """Open a table.

    Image, mask and region paths are relative to the table's folder, or to its images/, masks/ and
    regions/ folder; an image may be a folder with one DICOM series. Without a mask column, a file
    of the same name in a masks/ (labels/, annotations/) folder is the annotation, unless a column
    region says that masks only show where to look. All further columns stay with the case: the
    label (:mod:`hilum.dataset.layouts.labelling`), and site, age, ... for subgroups. Without a
    patient column, a column "group" (near-duplicates) is what folds keep together.

    Args:
        path: the CSV file or its folder.
        values: whether masks may be read to find out what the labels are.

    Raises:
        DataError: a needed column is missing.
    """
    file = table_file(path)
    if file is None:
        raise DataError(
            f"no table in {path}", needed=f"a CSV file of a usual name: {', '.join(TABLE_FILES)}"
        )
    table = read_table(file)
    columns = _Columns.of(table.header)
    _refuse_useless(table, columns, file)
    columns, notes = columns.with_masks(table.rows)
    rows = zip(table.rows, table.lines, strict=True)
    cases = tuple(
        sorted((_case(row, columns, file, line) for row, line in rows), key=lambda case: case.id)
    )
    notes += [
        *table.notes,
        *unknown_words(
            table.rows, filter(None, (columns.case, columns.patient, columns.mask, columns.region))
        ),
    ]
    if columns.patient.lower() == _GROUP:
        notes.append(
            'the column "group" stands for the patient: cases of one group stay in one fold'
        )
    cases, channels = _with_channels(cases, columns, file)
    annotated = tuple(case for case in cases if case.annotation is not None) if values else ()
    labels: LabelTable | None = None
    if annotated:
        labels, label_notes = labels_of(
            file.parent, [file for case in annotated for file in annotation_files(case.annotation)]
        )
        notes.extend(label_notes)
    usable = annotated or cases
    chosen = {case.id for case in usable}
    if len(usable) < len(cases):
        notes.append(
            f"{len(cases) - len(usable)} rows without annotation are counted as unlabelled"
        )
    return Dataset(
        name=file.parent.name if file.name in TABLE_FILES else file.stem,
        root=file.parent,
        layout="table",
        cases=usable,
        channels=channels,
        labels=labels,
        unlabelled=tuple(case for case in cases if case.id not in chosen),
        notes=tuple(notes),
    )


def orphans(path: Path) -> tuple[Orphan, ...]:
    """Files in the images/ and masks/ folders beside the table that have no partner."""
    root = path if path.is_dir() else path.parent
    images, masks = sub_folder(root, IMAGE_FOLDERS), sub_folder(root, ANNOTATION_FOLDERS)
    return orphans_of(image_entries(images), image_entries(masks)) if images and masks else ()


@dataclass(frozen=True)
class _Columns:
    """Meaning of a table's columns; "" where it has none."""

    case: str
    patient: str
    images: Mapping[str, str]
    mask: str
    region: str
    others: tuple[str, ...]

    @classmethod
    def of(cls, header: Sequence[str]) -> _Columns:
        lower = {re.sub(r"[\s-]+", "_", name.lower()): name for name in header}
        found = {
            key: next((lower[a] for a in aliases if a in lower), "")
            for key, aliases in _ALIASES.items()
        }
        channels = {
            lower[name][len(_CHANNEL_PREFIX) :]: lower[name]
            for name in lower
            if name.startswith(_CHANNEL_PREFIX)
            and name not in _ALIASES["image"]
            and name != "image_id"
        }
        images = channels or ({"": found["image"]} if found["image"] else {})
        used = {*found.values(), *images.values()}
        return cls(
            case=found["case"],
            patient=found["patient"] or lower.get(_GROUP, ""),
            images=images,
            mask=found["mask"],
            region=found["region"],
            others=tuple(name for name in header if name not in used),
        )

    def with_masks(self, rows: Sequence[Mapping[str, str]]) -> tuple[_Columns, list[str]]:
        """Take a column of files named "label" as that of the masks, with a note."""
        column = next((name for name in self.others if name_key(name) in _MASKS_OR_CLASSES), "")
        cells = [row[column] for row in rows if is_known(row[column])] if column else []
        if self.mask or self.region or not cells or not all(image_suffix(cell) for cell in cells):
            return self, []
        others = tuple(name for name in self.others if name != column)
        return replace(self, mask=column, others=others), [
            f"the column {column!r} names files: it is that of the masks"
        ]


def table_file(folder: Path) -> Path | None:
    """The table of a data set: the file itself.

    In a folder the one of a usual name, or the only one.
    """
    if not folder.is_dir():
        return folder
    tables = [
        file
        for file in sorted(folder.glob("*.csv"))
        if file.name != PATIENTS_FILE and not is_output(file)
    ]
    named = next((folder / name for name in TABLE_FILES if folder / name in tables), None)
    return named or (tables[0] if len(tables) == 1 else None)


def _refuse_useless(table: Table, columns: _Columns, file: Path) -> None:
    if not columns.images:
        raise DataError(
            f"{file} has the columns {', '.join(table.header)}",
            needed="a column of image files: image, or image_CT and image_PET for several channels",
            cure=f"rename the column in the first line of {file}",
        )
    if not table.rows:
        raise DataError(f"{file} has no rows", needed="one row a case")


def _cell(row: Mapping[str, str], column: str) -> str:
    """Return a row's text in a column; "" where it is not known or there is no such column."""
    return row[column] if column and is_known(row[column]) else ""


def _case(row: Mapping[str, str], columns: _Columns, file: Path, line: int) -> Case:
    found = {
        channel: _find(row[column], IMAGE_FOLDERS, file, line)
        for channel, column in columns.images.items()
    }
    images = {
        channel: place for channel, place in found.items() if not isinstance(place, DataError)
    }
    first = next(
        iter(images.values()),
        file.parent / PureWindowsPath(row[next(iter(columns.images.values()))]).name,
    )
    stem = image_stem(first)
    mask = None if columns.region else _annotation(row, columns, file, line, stem)
    region = _mask(row, columns.region, _REGION_FOLDERS, file, line)
    faults = [place for place in found.values() if isinstance(place, DataError)]
    case_id = _cell(row, columns.case) or stem
    if not case_id or "/" in case_id or "\\" in case_id:
        raise DataError(
            f"{file}, line {line}: the case id {case_id!r}",
            needed="an id that can be a file name, without slashes",
        )
    return Case(
        id=case_id,
        patient=_cell(row, columns.patient) or None,
        images=images,
        annotation=mask,
        columns={name: row.get(name, "") for name in columns.others},
        region=region,
        fault=faults[0] if faults else None,
    )


def _annotation(
    row: Mapping[str, str], columns: _Columns, file: Path, line: int, stem: str
) -> Path | None:
    if columns.mask:
        return _mask(row, columns.mask, ANNOTATION_FOLDERS, file, line)
    folder = sub_folder(file.parent, ANNOTATION_FOLDERS)
    if folder is None:
        return None
    candidates = {
        image_stem(entry): entry
        for entry in folder.glob(f"{glob.escape(stem)}*")
        if supported(entry)
    }
    return pair({stem: folder}, candidates).get(stem)


def _mask(
    row: Mapping[str, str], column: str, folders: tuple[str, ...], file: Path, line: int
) -> Path | None:
    """The file of a mask.

    Where it is not there, whoever reads it says so, and an image alone is enough to predict.
    """
    text = _cell(row, column)
    found = _find(text, folders, file, line) if text else None
    return file.parent / text if isinstance(found, DataError) else found


def _find(text: str, folders: tuple[str, ...], file: Path, line: int) -> Path | DataError:
    """Find the file a cell names: relative to the table, or to a usual folder beside it.

    A file that is not there is given as the error that says so, so that the other rows go on.
    """
    roots = [
        file.parent,
        *(folder for folder in [sub_folder(file.parent, folders)] if folder is not None),
    ]
    slashed = text.replace("\\", "/")
    names = dict.fromkeys(
        (text, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD")))
    )  # a Mac has the latter
    candidates = [root / name for name in names for root in roots]
    found = next(
        (path for path in candidates if is_known(text) and (path.exists() or "#" in text)), None
    )
    if found is None:
        what = (
            f"the file {text!r} does not exist"
            if is_known(text)
            else f"the image is not known ({text!r})"
        )
        return DataError(
            f"{file}, line {line}: {what}",
            needed=f"a file relative to {' or '.join(str(root) for root in roots)}",
            cure=_meant(text, roots) or "correct the path, or remove the row",
        )
    return found


def _meant(text: str, roots: Sequence[Path]) -> str:
    """Suggest the path that was meant: its end, or a file of its name with another suffix."""
    parts = PureWindowsPath(text).parts  # which knows slashes of either kind
    ends = ["/".join(parts[start:]) for start in range(1, len(parts))]
    there = next((end for end in ends for root in roots if (root / end).exists()), "")
    if there:
        return f"write {there}: paths of another computer or folder do not lead here"
    wanted = parts[-1].casefold() if parts else ""
    files = [entry for root in roots for entry in root.iterdir() if supported(entry)]
    near = next(
        (
            file.name
            for file in files
            if wanted in {file.name.casefold(), image_stem(file).casefold()}
        ),
        "",
    )
    return f"write {near}, with its suffix as the file has it" if near else ""


def _with_channels(
    cases: tuple[Case, ...], columns: _Columns, file: Path
) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """Name the only image column's channels: from dataset.json, else from the first image."""
    if "" not in columns.images:
        return cases, tuple(columns.images)
    channels = stated_channels(file.parent) or guess_channels(
        case.images[""] for case in cases if case.images
    )
    return (
        tuple(
            replace(one, images=dict.fromkeys(channels, one.images[""])) if one.images else one
            for one in cases
        ),
        channels,
    )
