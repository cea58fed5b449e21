"""One study to be analysed, and the set of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hilum.dataset.annotation import Annotation, annotation_files
from hilum.errors import DataError, readable, some
from hilum.files import file_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from hilum.dataset.classes import ClassTable
    from hilum.io.inventory import Inventory
    from hilum.volume import LabelTable


@dataclass(frozen=True)
class Case:
    """One study with all its images, by reference: nothing is read yet.

    Args:
        id: unique in its data set, and a legal file name.
        patient: whose study it is; None where the data set does not say.
        images: channel name to image reference, in the data set's channel order. Every channel may
            name the same file, which then holds all channels (4D NIfTI, RGB picture). A reference
            into an archive is written "set.npz#train/12".
        annotation: label map, or one mask a label, or None (no annotation, or classification).
        label: for classification the class's name, of several "A|B", of none ""; None where it is
            not known, or for segmentation.
        columns: further columns of the table it came from (site, age, ...), for subgroups.
        region: for classification, a mask that says where to look; None where there is none.
        centre_mm: for classification, the point to look at, (x, y, z) in LPS millimetres, the world
            of :class:`Geometry`.
        positions: which channel of its file each channel is, by `images`; () where those of one
            file stand in its own order.
        label_ids: what the ids in the annotation's file are read as, where a model names the same
            labels by other ids.
        fault: why the case cannot be used, where the data set's layout knows; `images` are then
            those that are there.
    """

    id: str
    patient: str | None
    images: Mapping[str, Path]
    annotation: Annotation | None = None
    label: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    region: Annotation | None = None
    centre_mm: tuple[float, float, float] | None = None
    positions: tuple[int, ...] = ()
    label_ids: Mapping[int, int] = field(default_factory=dict)
    fault: DataError | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Make the names that became id, patient and class ones that every file can hold."""
        for name in ("id", "patient", "label"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else readable(value))

    @property
    def group(self) -> str:
        """Name of its patient, or of the case itself where none is known; they never meet."""
        return f"case:{self.id}" if self.patient is None else f"patient:{self.patient}"

    @property
    def masks(self) -> tuple[Path, ...]:
        """The files of its annotation and region."""
        return (*annotation_files(self.annotation), *annotation_files(self.region))

    @property
    def files(self) -> tuple[Path, ...]:
        """Its images, annotation and region, each file, archive or DICOM folder once."""
        return tuple(dict.fromkeys(map(file_of, (*self.images.values(), *self.masks))))


@dataclass(frozen=True)
class Orphan:
    """A file that has no partner.

    Args:
        case: the id the file would have as a case.
        path: the file.
        kind: "orphan-image" (an image without annotation) or "orphan-annotation".
        why: what keeps it from having one; "": no file has its name.
        cure: what to do about it; "": what is usual for its kind.
    """

    case: str
    path: Path
    kind: str
    why: str = ""
    cure: str = ""


@dataclass(frozen=True)
class Fold:
    """One split of cross-validation: case ids."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """Cases that share channels and labels.

    Args:
        name: for people.
        root: the folder or file it was opened from.
        layout: which layout it has ("nnunet", "decathlon", "table", "class-folders",
            "paired-folders", "medmnist", "patient-folders", "patient-masks", "bids",
            "dicom-studies").
        cases: annotated cases, by id; for classification those whose label is known.
        unlabelled: the others (imagesTs, rows with an empty label), by id.
        channels: channel names in order, e.g. ("PET", "CT").
        labels: what the integers mean; None for classification.
        classes: what a case's label may be; None for segmentation.
        splits: the split that the data set itself brings (splits_final.json, a fold column), else
            ().
        tests: ids of annotated cases that the data set keeps for testing: `make_folds` puts them
            into no fold.
        orphans: images without annotation and annotations without image.
        reasons: why files are left out, where the layout knows.
        files: the account of every file of the data set; None before it is opened wholly.
        notes: what the reader had to assume, for the user to see ("no patient column: each case
            counts as one patient").
    """

    name: str
    root: Path
    layout: str
    cases: tuple[Case, ...]
    channels: tuple[str, ...]
    labels: LabelTable | None
    unlabelled: tuple[Case, ...] = ()
    classes: ClassTable | None = None
    splits: tuple[Fold, ...] = ()
    tests: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    orphans: tuple[Orphan, ...] = field(default=(), compare=False)
    reasons: Mapping[Path, str] = field(default_factory=dict, compare=False)
    files: Inventory | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Make the name one that every file can hold."""
        object.__setattr__(self, "name", readable(self.name))

    @property
    def every(self) -> tuple[Case, ...]:
        """All cases, the annotated ones first."""
        return (*self.cases, *self.unlabelled)

    def with_cases(self, cases: Iterable[Case]) -> Dataset:
        """Return the data set with other cases in the places of those of `every`."""
        replaced, count = tuple(cases), len(self.cases)
        return replace(self, cases=replaced[:count], unlabelled=replaced[count:])

    def with_notes(self, *notes: str) -> Dataset:
        """Return the data set with further notes; "" is none."""
        return replace(self, notes=(*self.notes, *filter(None, notes)))

    @property
    def summary(self) -> str:
        """One sentence: the layout, task, number of cases and patients, channels, labels."""
        patients = len({case.patient or case.id for case in self.cases})
        task, names = (
            ("classification", self.classes.names)
            if self.classes is not None
            else ("segmentation", [label.name for label in self.labels.foreground])
            if self.labels is not None
            else ("segmentation", [])
        )
        more = f", {len(self.unlabelled)} more without annotation" if self.unlabelled else ""
        channels = some(self.channels, shown=8)
        return (
            f"Read as {self.layout.replace('-', ' ')}: {task} of {some(names, shown=8)}; cases:"
            f" {len(self.cases)}, patients: {patients}{more}; channels: {channels}"
        )

    @property
    def not_tests(self) -> tuple[Case, ...]:
        """The annotated cases that are not kept for testing."""
        return tuple(case for case in self.cases if case.id not in self.tests)

    def refuse_faults(self) -> None:
        """Refuse to work on cases that cannot be used.

        All of them are named, and nothing is read for it.

        Raises:
            DataError: a case has a fault, or its annotation is not there.
        """
        faults: dict[str, DataError] = {}
        for case in self.cases:
            gone = [file for file in case.masks if not file.exists()]
            if case.fault is not None:
                faults[case.id] = case.fault
            elif gone:
                needed = "the annotation of the case"
                faults[case.id] = DataError(
                    f"{gone[0]} does not exist",
                    needed=needed,
                    cure=f"restore the file, or leave case {case.id} out",
                )
        refuse(faults, len(self.cases), str(self.root))

    def __getitem__(self, case_id: str) -> Case:
        """Return the annotated case of that id.

        Raises:
            KeyError: there is none.
        """
        for case in self.cases:
            if case.id == case_id:
                return case
        raise KeyError(case_id)


def refuse(faults: Mapping[str, DataError], cases: int, where: str) -> None:
    """Raise one error for all cases that cannot be used.

    Args:
        faults: case id to what is wrong with it; nothing is raised where there are none.
        cases: how many cases there are.
        where: the data set.

    Raises:
        DataError: the only fault as it is, or one that lists all.
    """
    if len(faults) == 1:
        raise next(iter(faults.values()))
    if faults:
        listed = "".join(f"\n  {case}: {fault.found}" for case, fault in faults.items())
        raise DataError(
            f"{len(faults)} of {cases} cases of {where} cannot be used:{listed}",
            needed="cases whose files are all there and can be read",
            cure=(
                "hilum check DATA says what each needs; hilum check DATA --fix FOLDER writes a copy"
                " without them"
            ),
        )
