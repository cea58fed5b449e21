"""A table, one row a case: columns such as case, patient, image_CT, mask, region, label."""

from __future__ import annotations

import glob
import unicodedata
from dataclasses import dataclass, replace
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING

from hilum.dataset.annotation import annotation_files
from hilum.dataset.case import Case, Dataset
from hilum.dataset.columns import COLUMN_NAMES, find_column, group_notes, plain_header
from hilum.dataset.layouts.listing import guess_channels, image_entries, orphans_of, pair
from hilum.dataset.layouts.naming import labels_of, stated_channels
from hilum.dataset.layouts.paired_folders import ANNOTATION_FOLDERS, IMAGE_FOLDERS, sub_folder
from hilum.dataset.layouts.patients import PATIENTS_FILE
from hilum.errors import DataError, FormatError
from hilum.files import image_stem, image_suffix, is_output
from hilum.files.text import is_known, name_key, read_header, read_table, unknown_words
from hilum.io import supported

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


TABLE_FILES = ("cases.csv", "dataset.csv", "table.csv", "labels.csv", "metadata.csv")
_MASKS_OR_CLASSES = ("label", "labels")
_REGION_FOLDERS = ("regions", "region", *ANNOTATION_FOLDERS)
_CHANNEL_PREFIX = "image_"
_NO_CHANNELS = {"image_path", "image_id"}


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
    """Read a data set that a table describes, one row a case.

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
            f"no table in {path}",
            needed=f"a CSV file of a usual name: {', '.join(TABLE_FILES)}",
            cure="rename the table, or open it in place of the folder",
        )
    table = read_table(file)
    columns = _Columns.of(table.header)
    if not columns.images:
        raise DataError(
            f"{file} has the columns {', '.join(table.header)}",
            needed="a column of image files: image, or image_CT and image_PET for several channels",
            cure=f"rename the column in the first line of {file}",
        )
    if not table.rows:
        raise DataError(
            f"{file} has no rows", needed="one row a case", cure="write a row for each case"
        )
    columns, notes = columns.with_masks(table.rows)
    named = filter(None, (columns.case, columns.patient, columns.mask, columns.region))
    notes += [*table.notes, *unknown_words(table.rows, named), *group_notes(columns.patient)]
    reader = _RowReader(file, columns)
    rows = zip(table.rows, table.lines, strict=True)
    cases = sorted((reader.case(row, line) for row, line in rows), key=lambda case: case.id)
    channels = tuple(columns.images)
    if channels == ("",):  # named by dataset.json, else by the images
        whole = {case.id: case.images[""] for case in cases if case.images}
        channels = stated_channels(file.parent) or guess_channels(whole.values())
        cases = [
            replace(one, images=dict.fromkeys(channels, whole[one.id])) if one.images else one
            for one in cases
        ]
    annotated = [case for case in cases if case.annotation is not None and values]
    labels = None
    if annotated:
        masks = [one for case in annotated for one in annotation_files(case.annotation)]
        labels, label_notes = labels_of(file.parent, masks)
        notes += label_notes
        if len(annotated) < len(cases):
            bare = len(cases) - len(annotated)
            notes.append(f"{bare} rows without annotation are counted as unlabelled")
    folders = [sub_folder(file.parent, names) for names in (IMAGE_FOLDERS, ANNOTATION_FOLDERS)]
    images, beside = (image_entries(folder) if folder is not None else {} for folder in folders)
    return Dataset(
        name=file.parent.name if file.name in TABLE_FILES else file.stem,
        root=file.parent,
        layout="table",
        cases=tuple(annotated or cases),
        channels=channels,
        labels=labels,
        unlabelled=tuple(case for case in cases if annotated and case.annotation is None),
        notes=tuple(notes),
        orphans=orphans_of(images, beside) if None not in folders else (),
    )


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
        """Find the column of each purpose by its usual names; "" where a header has none."""
        found = {meaning: find_column(header, meaning) for meaning in COLUMN_NAMES}
        image = found.pop("image")
        images = {
            column[len(_CHANNEL_PREFIX) :]: column
            for name, column in plain_header(header).items()
            if name.startswith(_CHANNEL_PREFIX) and name not in _NO_CHANNELS
        } or ({"": image} if image else {})
        used = {*found.values(), image, *images.values()}
        return cls(
            images=images, others=tuple(name for name in header if name not in used), **found
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
    """Return the table of a data set: the file itself.

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


@dataclass(frozen=True)
class _RowReader:
    """Makes cases of rows.

    Args:
        file: the table.
        columns: what its columns mean.
    """

    file: Path
    columns: _Columns

    def case(self, row: Mapping[str, str], line: int) -> Case:
        """Make a case of a row; an image that is not there is its fault, so that others go on."""
        columns, folder = self.columns, self.file.parent
        images: dict[str, Path] = {}
        fault = None
        for channel, column in columns.images.items():
            place = self._find(row[column], IMAGE_FOLDERS)
            if place is not None:
                images[channel] = place
            elif fault is None:
                fault = self._gone(row[column], line)
        named = PureWindowsPath(row[next(iter(columns.images.values()))]).name
        stem = image_stem(next(iter(images.values()), folder / named))
        case_id = _cell(row, columns.case) or stem
        if not case_id or "/" in case_id or "\\" in case_id:
            raise DataError(
                f"{self.file}, line {line} has the case id {case_id!r}",
                needed="an id that can be a file name, without slashes",
                cure="write another id in that row",
            )
        annotation = self._mask(row, columns.mask, ANNOTATION_FOLDERS)
        beside = sub_folder(folder, ANNOTATION_FOLDERS)
        if not columns.mask and beside is not None:
            entries = filter(supported, beside.glob(f"{glob.escape(stem)}*"))
            annotation = pair({stem: folder}, {image_stem(one): one for one in entries}).get(stem)
        return Case(
            id=case_id,
            patient=_cell(row, columns.patient) or None,
            images=images,
            annotation=annotation if not columns.region else None,
            columns={name: row.get(name, "") for name in columns.others},
            region=self._mask(row, columns.region, _REGION_FOLDERS),
            fault=fault,
        )

    def _mask(self, row: Mapping[str, str], column: str, folders: tuple[str, ...]) -> Path | None:
        """Return the file of a mask.

        Where it is not there, whoever reads it says so, and an image alone is enough to predict.
        """
        text = _cell(row, column)
        return self._find(text, folders) or self.file.parent / text if text else None

    def _roots(self, folders: tuple[str, ...]) -> list[Path]:
        beside = sub_folder(self.file.parent, folders)
        return [self.file.parent, *([beside] if beside is not None else [])]

    def _find(self, text: str, folders: tuple[str, ...]) -> Path | None:
        """Find the file a cell names: relative to the table, or to a usual folder beside it."""
        slashed = text.replace("\\", "/")
        names = [
            unicodedata.normalize(form, slashed) for form in ("NFC", "NFD")
        ]  # Macs: the latter
        paths = [root / name for name in (text, *names) for root in self._roots(folders)]
        known = (path for path in paths if is_known(text) and (path.exists() or "#" in text))
        return next(known, None)

    def _gone(self, text: str, line: int) -> DataError:
        """Make the error for an image file that is not there, with the path that was meant."""
        roots = self._roots(IMAGE_FOLDERS)
        what = f"the file {text!r} does not exist"
        if not is_known(text):
            what = f"the image is not known ({text!r})"
        return DataError(
            f"{self.file}, line {line}: {what}",
            needed=f"a file relative to {' or '.join(map(str, roots))}",
            cure=_meant(text, roots) or "correct the path, or remove the row",
        )


def _cell(row: Mapping[str, str], column: str) -> str:
    """Return a row's text in a column; "" where it is not known or there is no such column."""
    return row[column] if column and is_known(row[column]) else ""


def _meant(text: str, roots: Sequence[Path]) -> str:
    """Suggest the path that was meant: its end, or a file of its name with another suffix."""
    parts = PureWindowsPath(text).parts  # which knows slashes of either kind
    for end in ("/".join(parts[start:]) for start in range(1, len(parts))):
        if any((root / end).exists() for root in roots):
            return f"write {end}: paths of another computer or folder do not lead here"
    wanted = parts[-1].casefold() if parts else ""
    for file in (entry for root in roots for entry in root.iterdir() if supported(entry)):
        if wanted in {file.name.casefold(), image_stem(file).casefold()}:
            return f"write {file.name}, with its suffix as the file has it"
    return ""
