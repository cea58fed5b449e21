"""Opening a data set where it lies, and reading its cases."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset.annotation import read_label_map
from hilum.dataset.grids import UNLIKE, Grids, compare_grids, cure_of_unplaced, grid_words
from hilum.dataset.labels import relabel
from hilum.dataset.layouts import LAYOUTS
from hilum.dataset.layouts.centres import with_centres
from hilum.dataset.layouts.class_folders import holds_folders, holds_one_class, no_classes
from hilum.dataset.layouts.label_options import LabelOptions, did_you_mean
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
from hilum.dataset.layouts.table import table_file
from hilum.dataset.segments import with_segment_names
from hilum.errors import DataError, GeometryError, LabelError, UsageError, some
from hilum.io import is_output, nearest, read_channels, read_geometry
from hilum.io.inventory import TEST_STUDY, take_inventory
from hilum.io.text import refuse_spreadsheet
from hilum.volume import Volume

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
    opened = with_segment_names(with_plain_columns(with_given_splits(classified)))
    images = [file for case in opened.every for file in case.images.values()]
    masks = [file for case in opened.every for file in case.masks]
    files = take_inventory(
        [root],
        [*images, *masks, *describing_files(root, opened.layout)],
        reasons={opened.root / name: TEST_STUDY for name in ("dicomTs", "labelsTs")},
    )
    files.log()
    return replace(opened, files=files)


def open_cases(
    path: str | Path, *, layout: str | None = None, patients: str | None = None
) -> tuple[Case, ...]:
    """List every case of a data set by id, with or without an annotation or a label.

    Where a table has the point to look at, the cases have it too; an annotation stands as the
    region to look at as well.

    Raises:
        UsageError: the path does not exist, or the layout is unknown.
        DataError: no layout fits, or there is no case.
    """
    root = Path(path)
    dataset = _distinct(_layout_of(root, layout).read(root, values=False))
    found = with_centres(with_patients(dataset, patients)).every
    cases = (replace(case, region=case.region or case.annotation) for case in found)
    return tuple(sorted(cases, key=lambda case: case.id))


def _distinct(dataset: Dataset) -> Dataset:
    """The data set, where files can be named after its cases on every file system."""
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
    table = table_file(path) if (layout or _recognised(path)) == "table" else None
    files = [*described, splits_file(home), table]
    return tuple(file for file in files if file is not None and file.is_file())


def _recognised(path: Path) -> str | None:
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
    if not root.exists():
        raise UsageError(
            f"{root} does not exist", needed="the folder or file of a data set", cure=nearest(root)
        )
    refuse_spreadsheet(root)
    name = layout or _recognised(root)
    if name is None and (holds_one_class(root) or (classes and holds_folders(root))):
        name = "class-folders"  # of one class it says what is missing
    if name is None and (root / "cases.csv").is_file():
        name = "table"  # which says what its columns are
    if name is None and holds_folders(root):
        raise no_classes(root)
    if name is None:
        known = (f"  {key}: {layout.looks_like}" for key, layout in LAYOUTS.items())
        raise DataError(
            f"{root} has no layout that hilum knows",
            needed="\n".join(("one of:", *known)),
            cure=WRITE_TABLE,
        )
    if name not in LAYOUTS:
        raise UsageError(
            f"layout {name!r}",
            needed=f"one of {', '.join(LAYOUTS)}",
            cure=did_you_mean(name, LAYOUTS, "layout"),
        )
    return LAYOUTS[name]


def read_case(case: Case) -> Volume:
    """Read all images of a case as one volume (C, Z, Y, X), in the stored dtype.

    Raises:
        DataError: the fault of the case.
        FormatError: a file cannot be read.
        GeometryError: the channels lie on different grids.
    """
    if case.fault is not None:
        raise case.fault
    return read_channels(case.images, case.positions)


def read_annotation(case: Case) -> Volume:
    """Read the label map of a case, on its image's own grid: integers, (1, Z, Y, X).

    Where the headers differ by rounding, or two pictures of the same size state different
    resolutions, the image's grid is taken.

    Raises:
        DataError: the case has none.
        FormatError: the file cannot be read.
        LabelError: it holds fractions.
        GeometryError: it lies on another grid than the image.
    """
    if case.fault is not None:
        raise case.fault
    if case.annotation is None:
        raise DataError(f"case {case.id} has no annotation", needed="an annotated case")
    try:
        labels = relabel(read_label_map(case.annotation), case.label_ids)
    except LabelError as error:
        raise LabelError(
            error.found,
            needed=error.needed,
            cure="hilum check DATA --fix FOLDER writes a copy with labels where that is safe",
        ) from error
    grid = read_geometry(next(iter(case.images.values())))
    relation = compare_grids(grid, labels.geometry)
    if relation in UNLIKE:
        cure = "hilum check DATA --fix FOLDER writes a copy with the annotation on the image's grid"
        raise GeometryError(
            f"case {case.id}: the annotation lies on {grid_words(labels.geometry)}, the image on"
            f" {grid_words(grid)}",
            needed="one grid for both",
            cure=cure_of_unplaced(grid, labels.geometry) if relation is Grids.UNPLACED else cure,
        )
    return Volume(labels.array, grid)
