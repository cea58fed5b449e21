"""Opening a data set where it lies, and reading its cases."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset.labels import with_segment_names
from hilum.dataset.layouts import LAYOUTS
from hilum.dataset.layouts.centres import with_centres
from hilum.dataset.layouts.class_folders import holds_folders, holds_one_class, no_classes
from hilum.dataset.layouts.label_options import LabelOptions
from hilum.dataset.layouts.labelling import with_classes
from hilum.dataset.layouts.listing import WRITE_TABLE
from hilum.dataset.layouts.patient_masks import META_FILE
from hilum.dataset.layouts.patients import (
    PATIENTS_FILE,
    read_patients,
    with_patients,
    with_plain_columns,
)
from hilum.dataset.layouts.splits import splits_file, with_given_splits, with_split_column
from hilum.dataset.layouts.study_folders import with_chosen_series
from hilum.dataset.layouts.table import table_file
from hilum.dicom.series import series_header
from hilum.dicom.sources import files_below
from hilum.dicom.study import read_volumes
from hilum.errors import DataError, UsageError, find_named, some
from hilum.files import is_output, nearest
from hilum.files.text import refuse_spreadsheet
from hilum.io.inventory import TEST_STUDY, take_inventory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.dataset.case import Case, Dataset
    from hilum.dataset.layouts import Layout

DESCRIPTIONS = (
    "dataset.json",
    "labels.json",
    PATIENTS_FILE,
    META_FILE,
    "participants.tsv",
    "dataset_description.json",
)
"""Files in a data set's folder that say something about it."""
_CERTAIN = {"nnunet", "decathlon", "table", "medmnist"}  # layouts that a file proves
_LOOKED_AT = 200  # files of a folder without layout, to tell whether they are DICOM images
_REFUSED = 2  # series without a label that are named, as they cannot be used
_TRIED = 50  # neighbours of a path that is no data set, to suggest one of them


def open_dataset(
    path: str | Path,
    *,
    layout: str | None = None,
    patients: str | None = None,
    label: str | Sequence[str] | None = None,
    classes: str | Sequence[str] | None = None,
    task: str | None = None,
    positive: str | None = None,
) -> Dataset:
    r"""Open a data set in place: nothing is renamed or copied, and images are not read.

    A data set with masks is a segmentation, any other a classification. Where `label`, `classes`,
    `positive` or the task "classification" is given, it is a classification all the same, and its
    masks say where to look (`Case.region`). The rules for labels are those of
    :mod:`hilum.dataset.layouts.labelling`, those for the point to look at of
    :mod:`hilum.dataset.layouts.centres`.

    Args:
        path: a folder, a CSV table or a MedMNIST .npz.
        layout: a key of `LAYOUTS`; None finds it out.
        patients: a regular expression for the patient in a case's id, e.g. "(Image_\d+)"; None
            takes the table's column or patients.csv in the folder.
        label: the column to learn, or several columns of 0 and 1, a finding each; None takes one
            that is named like a label.
        classes: "exclusive", "ordinal" or "multilabel"; None: multi-label where the values are
            written "A|B", else exclusive. Or the names of the classes that are learnt, ("benign",
            "malignant"): cases of others are left out, and the notes say so.
        task: "segmentation" or "classification"; None as above.
        positive: which of two classes is the positive one; None takes the one that is not named
            like a negative (benign, normal, no, ...), else the later in natural order.

    Returns:
        The data set, cases by id; `notes` says what had to be assumed.

    Raises:
        UsageError: the path does not exist, the layout, task or kind is unknown, there is no such
            column or class, or no column is named like a label.
        DataError: no layout fits, the data set has no usable case, two cases have one name but for
            letter case, or the column's values are no classes.
    """
    options = LabelOptions.of(label, classes, task, positive)
    root = Path(path)
    found = _layout_of(root, layout, classes=options.classification)
    dataset = _distinct(found.read(root, values=not options.classification))
    classified = with_classes(with_split_column(with_patients(dataset, patients)), options)
    named = with_segment_names(with_plain_columns(with_given_splits(classified)))
    opened, slices = with_chosen_series(named)
    images = [*slices, *(file for case in opened.every for file in case.images.values())]
    masks = [file for case in opened.every for file in case.masks]
    files = take_inventory(
        [root],
        [*images, *masks, *describing_files(root, opened.layout)],
        reasons={
            **{opened.root / name: TEST_STUDY for name in ("dicomTs", "labelsTs")},
            **opened.reasons,
        },
    )
    files.log()
    return replace(opened, files=files)


def open_cases(path: str | Path) -> tuple[Case, ...]:
    """List every case of a data set by id, with or without an annotation or a label.

    Where a table has the point to look at, the cases have it too; an annotation stands as the
    region to look at as well.

    Raises:
        UsageError: the path does not exist.
        DataError: no layout fits, or there is no case.
    """
    root = Path(path)
    dataset = _distinct(_layout_of(root, None).read(root, values=False))
    found = with_centres(with_patients(dataset, None)).every
    cases = (replace(case, region=case.region or case.annotation) for case in found)
    return tuple(sorted(cases, key=lambda case: case.id))


def _distinct(dataset: Dataset) -> Dataset:
    """Return the data set, where files can be named after its cases on every file system."""
    often = Counter(case.id.casefold() for case in dataset.every)
    repeated = sorted(case.id for case in dataset.every if often[case.id.casefold()] > 1)
    if repeated:
        raise DataError(
            f"{dataset.root} has several cases of one name: {some(repeated)}",
            needed=(
                "one row or file a case, and ids that differ in more than letter case, for files"
                " are named after them"
            ),
            cure="rename the files; of a table, give each row an id of its own in a column case",
        )
    return dataset


def describing_files(path: Path, layout: str | None = None) -> tuple[Path, ...]:
    """List the files that describe a data set: its table, labels, patients and splits.

    `layout` is found out if None.
    """
    home = path if path.is_dir() else path.parent
    described = [home / one for one in DESCRIPTIONS if not is_output(home / one)]
    table = table_file(path) if (layout or _recognise_layout(path)) == "table" else None
    files = [*described, splits_file(home), table]
    return tuple(file for file in files if file is not None and file.is_file())


def _recognise_layout(path: Path) -> str | None:
    return next((name for name, known in LAYOUTS.items() if known.recognises(path)), None)


def known_patients(path: str | Path) -> dict[str, str]:
    """Map case id to patient where known: of a data set, or of a table of case and patient.

    Raises:
        UsageError: the path does not exist.
        DataError: it is neither.
    """
    place = Path(path)
    if place.suffix.lower() in {".csv", ".tsv"} and place.is_file():
        with suppress(
            DataError
        ):  # of other columns: a table of a data set, which says what it lacks
            rows, _ = read_patients(place)
            return {case: row["patient"] for case, row in rows.items() if row["patient"]}
    return {case.id: case.patient for case in open_cases(place) if case.patient is not None}


def _layout_of(root: Path, layout: str | None, *, classes: bool = False) -> Layout:
    """Find the layout of a folder or file, by its name where one is given."""
    if not root.exists():
        raise UsageError(
            f"{root} does not exist", needed="the folder or file of a data set", cure=nearest(root)
        )
    refuse_spreadsheet(root)
    name = layout or _recognise_layout(root)
    if name is None and (holds_one_class(root) or (classes and holds_folders(root))):
        name = "class-folders"  # of one class it says what is missing
    if name is None and (root / "cases.csv").is_file():
        name = "table"  # which says what its columns are
    if name is None and _holds_images_of_dicom(root):
        volumes, _ = read_volumes(files_below(root))
        bad = sorted(
            (one for one in volumes if one.fault is not None), key=lambda one: one.no_volume
        )
        refused = some((f"{one.title} ({one.refused})" for one in bad), shown=_REFUSED)
        raise DataError(
            f"{root} holds DICOM images, and no mask, annotation or label of them"
            + (f"; series that cannot be used: {refused}" if refused else ""),
            needed="a SEG or RTSTRUCT that refers to each series, or a table",
            cure=(
                f"`hilum series {root}` lists the series with a verdict each; to learn from them"
                f" {WRITE_TABLE}; an image is a study's folder; to predict, the folder will do"
            ),
        )
    if name is None and holds_folders(root):
        raise no_classes(root)
    if name is None:
        known = (f"  {key}: {layout.looks_like}" for key, layout in LAYOUTS.items())
        beside = [root.parent, *(sorted(root.iterdir())[:_TRIED] if root.is_dir() else ())]
        meant = [place for place in beside if _recognise_layout(place) in _CERTAIN]
        raise DataError(
            f"{root} has no layout that hilum knows",
            needed="\n".join(("one of:", *known)),
            cure=f"give {meant[0]}, which has one" if meant else WRITE_TABLE,
        )
    return find_named("layout", "layout", name, LAYOUTS)


def _holds_images_of_dicom(root: Path) -> bool:
    """Return True if a DICOM image is among the first files below a folder."""
    headers = map(series_header, islice(files_below(root), _LOOKED_AT)) if root.is_dir() else ()
    return any(header is not None and header.image for header in headers)


@dataclass(frozen=True)
class Labelling:
    """Options of what is learnt from a data set; see `open_dataset`.

    Args:
        task: "segmentation" or "classification"; None finds it out from the data.
        label: the column of classes, or several columns of findings.
        classes: "exclusive", "ordinal" or "multilabel", or the names of those that are learnt.
        positive: which of two classes is the positive one.
    """

    task: str | None = None
    label: str | tuple[str, ...] | None = None
    classes: str | tuple[str, ...] | None = None
    positive: str | None = None

    def open(self, data: Path | str, *, patients: str | None = None) -> Dataset:
        """Open the data set.

        Raises:
            HilumError: see `open_dataset`.
        """
        return open_dataset(data, patients=patients, **asdict(self))
