"""A CSV table: one row a case, with columns such as case, patient, image or image_CT, mask or region, label, fold, site."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hilum.dataset.case import Case, Dataset
from hilum.dataset.layouts.listing import Orphan, guess_channels, image_entries, orphans_of, pair, some
from hilum.dataset.layouts.naming import channel_names, label_table, labels_file, labels_from_values, read_json_object
from hilum.dataset.layouts.paired_folders import ANNOTATION_FOLDERS, IMAGE_FOLDERS, sub_folder
from hilum.dataset.layouts.patients import PATIENTS_FILE
from hilum.dataset.layouts.splits import folds_from_column
from hilum.errors import DataError
from hilum.io import image_stem, supported

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hilum.volume import LabelTable

TABLE_FILES = ("cases.csv", "dataset.csv", "table.csv", "labels.csv", "metadata.csv")
_ALIASES = {
    "case": ("case", "case_id", "id", "name"),
    "patient": ("patient", "patient_id", "patientid", "subject", "subject_id"),
    "image": ("image", "image_path", "file", "filename", "file_name", "path"),
    "mask": ("mask", "mask_path", "annotation", "segmentation", "seg"),
    "region": ("region", "region_path"),
    "fold": ("fold", "split"),
}
_REGION_FOLDERS = ("regions", "region", *ANNOTATION_FOLDERS)
_GROUP = "group"
_CHANNEL_PREFIX = "image_"


def recognises(path: Path) -> bool:
    """Whether this is a CSV file, or a folder with one of the usual names that has a column of images."""
    if path.is_file():
        return path.suffix.lower() in {".csv", ".tsv"}
    file = _table_file(path)
    return file is not None and bool(_Columns.of(_header(file)).images)


def read(path: Path, *, values: bool = True) -> Dataset:
    """Open a table.

    Image, mask and region paths are relative to the table's folder, or to its images/, masks/ and regions/ folder; an image may
    be a folder with one DICOM series. Without a mask column, a file of the same name in a masks/ (labels/, annotations/) folder
    is the annotation, unless a column region says that masks only show where to look. All further columns stay with the case: the
    label (:mod:`hilum.dataset.layouts.labelling`), and site, age, ... for subgroups. Without a patient column, a column "group"
    (near-duplicates) is what folds keep together.

    Args:
        path: the CSV file or its folder.
        values: whether masks may be read to find out what the labels are.

    Raises:
        DataError: a needed column is missing, a file is missing, or two rows have the same id.
    """
    file = path if path.is_file() else _table_file(path)
    if file is None:
        raise DataError(f"no table in {path}", needed=f"a CSV file of a usual name: {', '.join(TABLE_FILES)}")
    rows, columns = _rows(file)
    cases = tuple(
        sorted((_case(row, columns, file, number) for number, row in enumerate(rows, start=2)), key=lambda case: case.id)
    )
    _refuse_repeated(cases, file)
    notes: list[str] = []
    if columns.patient == _GROUP:
        notes.append('the column "group" stands for the patient: cases of one group stay in one fold')
    cases, channels = _with_channels(cases, file)
    annotated = tuple(case for case in cases if case.annotation is not None) if values else ()
    labels: LabelTable | None = None
    if annotated:
        labels, label_notes = _labels(file, annotated)
        notes.extend(label_notes)
    usable = annotated or cases
    chosen = {case.id for case in usable}
    if len(usable) < len(cases):
        notes.append(f"{len(cases) - len(usable)} rows without annotation are counted as unlabelled")
    splits, split_note = folds_from_column({case.id: _fold_value(case, columns) for case in usable})
    return Dataset(
        name=file.parent.name if file.name in TABLE_FILES else file.stem,
        root=file.parent,
        layout="table",
        cases=usable,
        channels=channels,
        labels=labels,
        unlabelled=tuple(case for case in cases if case.id not in chosen),
        splits=splits,
        notes=(*notes, split_note) if split_note else tuple(notes),
    )


def orphans(path: Path) -> tuple[Orphan, ...]:
    """Files in the images/ and masks/ folders beside the table that have no partner."""
    root = path if path.is_dir() else path.parent
    images, masks = sub_folder(root, IMAGE_FOLDERS), sub_folder(root, ANNOTATION_FOLDERS)
    return orphans_of(image_entries(images), image_entries(masks)) if images and masks else ()


@dataclass(frozen=True)
class _Columns:
    """Which column of a table means what; "" where it has none."""

    case: str
    patient: str
    images: Mapping[str, str]
    mask: str
    region: str
    fold: str
    others: tuple[str, ...]

    @classmethod
    def of(cls, header: Sequence[str]) -> _Columns:
        lower = {name.strip().lower(): name for name in header}
        found = {key: next((lower[a] for a in aliases if a in lower), "") for key, aliases in _ALIASES.items()}
        channels = {
            lower[name][len(_CHANNEL_PREFIX) :]: lower[name]
            for name in lower
            if name.startswith(_CHANNEL_PREFIX) and name not in _ALIASES["image"] and name != "image_id"
        }
        images = channels or ({"": found["image"]} if found["image"] else {})
        used = {*found.values(), *images.values()}
        return cls(
            case=found["case"],
            patient=found["patient"] or lower.get(_GROUP, ""),
            images=images,
            mask=found["mask"],
            region=found["region"],
            fold=found["fold"],
            others=tuple(name for name in header if name not in used - {found["fold"]}),
        )


def _header(file: Path) -> list[str]:
    with file.open(newline="", encoding="utf-8-sig") as stream:
        return next(csv.reader(stream, delimiter=_delimiter(file)), [])


def _delimiter(file: Path) -> str:
    if file.suffix.lower() == ".tsv":
        return "\t"
    with file.open(encoding="utf-8-sig") as stream:
        first = stream.readline()
    return max(",;\t", key=first.count)


def _table_file(folder: Path) -> Path | None:
    if not folder.is_dir():
        return None
    named = next((folder / name for name in TABLE_FILES if (folder / name).is_file()), None)
    only = [file for file in sorted(folder.glob("*.csv")) if file.name != PATIENTS_FILE]
    return named or (only[0] if len(only) == 1 else None)


def _rows(file: Path) -> tuple[list[dict[str, str]], _Columns]:
    header = _header(file)
    columns = _Columns.of(header)
    if not columns.images:
        raise DataError(
            f"{file} has the columns {header}",
            needed="a column of image files: image, or image_CT and image_PET for several channels",
            cure=f"rename the column in the first line of {file}",
        )
    with file.open(newline="", encoding="utf-8-sig") as stream:
        rows = [
            {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
            for row in csv.DictReader(stream, delimiter=_delimiter(file))
        ]
    if not rows:
        raise DataError(f"{file} has no rows", needed="one row a case")
    return rows, columns


def _case(row: Mapping[str, str], columns: _Columns, file: Path, line: int) -> Case:
    images = {channel: _find(row[column], IMAGE_FOLDERS, file, line) for channel, column in columns.images.items()}
    first = next(iter(images.values()))
    stem = image_stem(first)
    case_id = (row[columns.case] if columns.case else "") or stem
    if not case_id or "/" in case_id or "\\" in case_id:
        raise DataError(f"{file}, line {line}: the case id {case_id!r}", needed="an id that can be a file name, without slashes")
    return Case(
        id=case_id,
        patient=(row[columns.patient] or None) if columns.patient else None,
        images=images,
        annotation=None if columns.region else _annotation(row, columns, file, line, stem),
        columns={name: row.get(name, "") for name in columns.others},
        region=_find(row[columns.region], _REGION_FOLDERS, file, line) if columns.region and row[columns.region] else None,
    )


def _annotation(row: Mapping[str, str], columns: _Columns, file: Path, line: int, stem: str) -> Path | None:
    if columns.mask:
        return _find(row[columns.mask], ANNOTATION_FOLDERS, file, line) if row[columns.mask] else None
    folder = sub_folder(file.parent, ANNOTATION_FOLDERS)
    if folder is None:
        return None
    candidates = {image_stem(entry): entry for entry in folder.glob(f"{_escaped(stem)}*") if supported(entry)}
    return pair({stem: folder}, candidates).get(stem)


def _escaped(stem: str) -> str:
    return "".join(f"[{character}]" if character in "[]*?" else character for character in stem)


def _find(text: str, folders: tuple[str, ...], file: Path, line: int) -> Path:
    """The file a cell names: relative to the table, or to one of the usual folders beside it."""
    roots = [file.parent, *(folder for folder in [sub_folder(file.parent, folders)] if folder is not None)]
    candidates = [root / text for root in roots]
    found = next((path for path in candidates if text and (path.exists() or "#" in text)), None)
    if found is None:
        raise DataError(
            f"{file}, line {line}: the file {text!r} does not exist",
            needed=f"a file relative to {' or '.join(str(root) for root in roots)}",
            cure="correct the path, or remove the row",
        )
    return found


def _refuse_repeated(cases: Sequence[Case], file: Path) -> None:
    ids = [case.id for case in cases]
    repeated = sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
    if repeated:
        raise DataError(
            f"{file} has several rows for {some(repeated)}",
            needed="one row a case",
            cure="add a column case with an id of its own for each row",
        )


def _with_channels(cases: tuple[Case, ...], file: Path) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """Name the only image column's channels: from a dataset.json beside the table, else from the first image."""
    names = tuple(cases[0].images)
    if names != ("",):
        return cases, names
    beside = file.parent / "dataset.json"
    facts = read_json_object(beside) if beside.is_file() else {}
    channels = channel_names(facts, beside) or guess_channels(cases[0].images[""])
    return tuple(replace(case, images=dict.fromkeys(channels, case.images[""])) for case in cases), channels


def _labels(file: Path, annotated: Sequence[Case]) -> tuple[LabelTable, list[str]]:
    facts_file, names_file = file.parent / "dataset.json", file.parent / "labels.json"
    if facts_file.is_file() and read_json_object(facts_file).get("labels"):
        return label_table(read_json_object(facts_file), facts_file), []
    if names_file.is_file():
        return labels_file(names_file), []
    table, note = labels_from_values([case.annotation for case in annotated if case.annotation is not None])
    return table, [note]


def _fold_value(case: Case, columns: _Columns) -> str:
    return case.columns.get(columns.fold, "") if columns.fold else ""
