"""Premises of a training, compared at --resume: files, names, splits, options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from hilum.dataset.annotation import (
    Annotation,
    DicomSegments,
    MaskFiles,
    annotation_files,
)
from hilum.dataset.channels import plain_name
from hilum.dataset.classes import (
    ClassTable,  # noqa: TC001  pydantic needs the type when the record is made
)
from hilum.dataset.labels import describe_labels
from hilum.errors import DataError, UsageError, some
from hilum.files import atomic_write_text
from hilum.io.content import content_hash, digest
from hilum.plan.plan import Record
from hilum.volume import LabelTable  # noqa: TC001  pydantic needs the type when the record is made

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hilum.dataset import Case, Dataset
    from hilum.plan import Plan
    from hilum.training.options import TrainOptions

PREMISES = "premises.json"
_KINDS = {
    "images": "images",
    "annotation": "annotations",
    "region": "regions to look at",
    "label": "classes",
    "patient": "patients",
}


class CasePremises(Record):
    """One case: content hashes of its files, and what tables say of it.

    `columns` are those that only describe it.
    """

    images: str
    annotation: str = ""
    region: str = ""
    label: str | None = None
    patient: str | None = None
    columns: str = ""


class Premises(Record):
    """Everything that a training depends on, as hashes and names.

    Args:
        channels: names in the data set's order.
        labels: of a segmentation.
        classes: of a classification, in their order: of two the second is the positive one.
        split: hash of the split that the data set brings; "" where it brings none.
        cases: by id.
        options: those that a continuation must repeat: seed and folds. Minutes, steps, device and
            memory are free.
        plan: its decisions by name, without their reasons; {} before the plan is made.
        weights: SHA-256 of the first weights; "" where they are random.
    """

    channels: tuple[str, ...]
    labels: LabelTable | None
    classes: ClassTable | None
    split: str
    cases: dict[str, CasePremises]
    options: dict[str, int | None]
    plan: dict[str, Any] = Field(default_factory=dict)
    weights: str = ""

    @classmethod
    def of(
        cls, dataset: Dataset, options: TrainOptions, *, progress: Callable[[int, int, str], None]
    ) -> Premises:
        """Hash every file of a data set's annotated or labelled cases.

        Args:
            dataset: as it was opened.
            options: of the training.
            progress: called as progress(done, total, case id).
        """
        folds = [(fold.train, fold.validation) for fold in dataset.splits]
        tests = () if folds or not dataset.tests else (tuple(sorted(dataset.tests)),)
        cases = {}
        for done, case in enumerate(dataset.cases, start=1):
            cases[case.id] = _of_case(case)
            progress(done, len(dataset.cases), case.id)
        return cls(
            channels=dataset.channels,
            labels=dataset.labels,
            classes=dataset.classes,
            split=digest([*folds, *tests]) if folds or tests else "",
            cases=cases,
            options={
                "seed": options.seed,
                "fold": options.fold if options.folds is None else None,
                "folds": options.folds,
            },
        )

    def with_plan(self, plan: Plan, weights: str) -> Premises:
        """Return the same with the plan that is followed and the hash of the first weights."""
        decisions = {
            name: decision.model_dump(mode="json")["value"]
            for name, decision in plan.decisions.items()
        }
        decisions |= {
            "channels": list(plan.channels),
            "answers": plan.table.model_dump(mode="json"),
        }
        return self.model_copy(update={"plan": decisions, "weights": weights})

    def save(self, folder: Path) -> None:
        """Write premises.json."""
        atomic_write_text(folder / PREMISES, self.model_dump_json() + "\n")

    @classmethod
    def load(cls, folder: Path) -> Premises | None:
        """Read the record that `save` wrote; None where there is none.

        Raises:
            DataError: it is damaged.
        """
        file = folder / PREMISES
        if not file.is_file():
            return None
        try:
            return cls.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise DataError(
                f"{file} is damaged",
                needed="the file as the training wrote it",
                cure="train into a new folder",
            ) from error

    def refuse_changes(self, before: Premises | None, *, holder: str) -> None:
        """Refuse to go on where anything changed that the training stands on.

        None: it began when nothing was recorded.

        Raises:
            DataError: data changed; every kind of change is listed with its first cases.
            UsageError: only options, plan or first weights changed.
        """
        if before is None:
            return
        of_data = [*self._changed_names(before), *self._changed_cases(before)]
        changes = [*of_data, *self._changed_options(before)]
        found = (
            f"{holder} cannot be resumed, because these changed since it began:"
            f" {'; '.join(changes)}"
        )
        needed = (
            "the same images, annotations, names, patients, folds, seed and plan as when it began"
        )
        cure = "undo the change, or train anew into another folder: out='ANOTHER'"
        if of_data:
            raise DataError(found, needed=needed, cure=cure)
        if changes:
            raise UsageError(found, needed=needed, cure=cure)

    def columns_changed(self, before: Premises) -> tuple[str, ...]:
        """Return the cases of which the table says something else that only describes them."""
        return tuple(
            name for name, case in self.cases.items() if case.columns != before.cases[name].columns
        )

    def _changed_names(self, before: Premises) -> list[str]:
        """List channels, labels, classes and split that differ from before."""
        channels = before.channels, self.channels
        if sorted(map(plain_name, before.channels)) == sorted(map(plain_name, self.channels)):
            channels = (), ()  # their order does not count
        named = {
            "channels": (", ".join(channels[0]), ", ".join(channels[1])),
            "labels": (_labels(before.labels), _labels(self.labels)),
            "classes": (_classes(before.classes), _classes(self.classes)),
        }
        found = [f"the {what}, {old} to {new}" for what, (old, new) in named.items() if old != new]
        return (
            found if self.split == before.split else [*found, "the split that the data set brings"]
        )

    def _changed_cases(self, before: Premises) -> list[str]:
        """List the cases that were added, removed or changed."""
        added = [name for name in self.cases if name not in before.cases]
        removed = [name for name in before.cases if name not in self.cases]
        both = [name for name in self.cases if name in before.cases]
        found = [
            f"cases {what}: {some(names)}"
            for what, names in (("added", added), ("removed", removed))
            if names
        ]
        for field, kind in _KINDS.items():
            names = [
                name
                for name in both
                if getattr(self.cases[name], field) != getattr(before.cases[name], field)
            ]
            found += [f"{kind} of {some(names)}"] if names else []
        return found

    def _changed_options(self, before: Premises) -> list[str]:
        """List the options and decisions that differ from before, each with both values."""
        pairs: list[tuple[str, Any, Any]] = [
            (name, before.options.get(name), value) for name, value in self.options.items()
        ]
        if self.plan and before.plan:
            pairs += [
                (f"{name} in the plan", before.plan.get(name), value)
                for name, value in self.plan.items()
            ]
            pairs.append(("first weights", before.weights[:12], self.weights[:12]))
        return [f"{name}, {_short(old)} to {_short(new)}" for name, old, new in pairs if old != new]


def _of_case(case: Case) -> CasePremises:
    """Hash what a training takes from one case."""
    where = (
        f"{_hash(case.region)} {case.centre_mm}"
        if case.region is not None or case.centre_mm is not None
        else ""
    )
    files = list(case.images.values())
    channels = sorted(  # plain name, position in its file, and file
        (plain_name(name), files[:n].count(files[n]), files[n])
        for n, name in enumerate(case.images)
    )
    return CasePremises(
        images=digest([(position, content_hash(file)) for _, position, file in channels]),
        annotation=_hash(case.annotation),
        region=where,
        label=case.label,
        patient=case.patient,
        columns=digest(sorted(case.columns.items())) if case.columns else "",
    )


def _hash(annotation: Annotation | None) -> str:
    """Hash an annotation's files and the ids of its labels; "" where there is none."""
    if annotation is None:
        return ""
    ids: Sequence[object] = ()
    if isinstance(annotation, MaskFiles):
        ids = list(annotation.masks)
    elif isinstance(annotation, DicomSegments):
        ids = sorted(annotation.ids.items())
    return digest((ids, [content_hash(file) for file in annotation_files(annotation)]))


def _labels(table: LabelTable | None) -> str:
    """Describe a label table in words, to compare two."""
    if table is None:
        return "none"
    return (
        describe_labels(table)
        if table.ignore is None
        else f"{describe_labels(table)}; {table.ignore} ignored"
    )


def _classes(table: ClassTable | None) -> str:
    return "none" if table is None else f"{', '.join(table.names)} ({table.kind})"


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
