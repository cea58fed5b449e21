"""A folder of DICOM studies: series of images, and a SEG or RTSTRUCT that refers to each."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset.annotation import DicomSegments
from hilum.dataset.case import Case, Dataset, Orphan
from hilum.dataset.channels import plain_name
from hilum.dataset.labels import table_of
from hilum.dataset.layouts.naming import stated_labels
from hilum.dicom.annotated import holds_annotations, read_annotated
from hilum.errors import DataError, LabelError, counted, some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hilum.dicom.annotated import AnnotatedStudies, AnnotationFile
    from hilum.dicom.study import SeriesVolume
    from hilum.volume import LabelTable

_UNSAFE = re.compile(r"[^\w.+-]+")
_SHOWN = 8
OTHER_SERIES = "a series that no annotation refers to"


@dataclass(frozen=True)
class _Study:
    """A volume with the annotations that were drawn on it; () where there is none."""

    volume: SeriesVolume
    annotations: tuple[AnnotationFile, ...] = ()

    @property
    def source(self) -> Path:
        """The source that `read_volume` reads."""
        return self.volume.source


def recognises(path: Path) -> bool:
    """Recognise a folder below which a DICOM annotation lies."""
    return path.is_dir() and holds_annotations(path)


def read(path: Path, *, values: bool = True) -> Dataset:
    """Open a folder of DICOM studies.

    A case is a series of images to which a SEG or RTSTRUCT refers, wherever both lie: in one folder
    or in folders of their own. Of several series in a study those without an annotation are left
    out; a study without any annotation is unlabelled where it has one series. Labels are the names
    of segments and structures over all cases, where letter case, blanks, underscores and hyphens do
    not count; a labels.json or dataset.json in the folder says which of them are learnt and by what
    id. Patients are those of the headers, as are the columns body_part, sex, age (in years) and
    scanner, where they are stated.

    Args:
        path: the folder, studies at any depth.
        values: whether the labels are wanted.

    Raises:
        DataError: no annotation refers to a series that is there.
        LabelError: the label file names none of the structures.
    """
    found = read_annotated(path)
    studies = _studies(found)
    annotated = [study for study in studies if study.annotations]
    if values and not annotated:
        faults = some(f"{one.path.name}: {one.fault}" for one in found.annotations)
        missing = dict.fromkeys(uid for one in found.annotations for uid in one.missing)
        raise DataError(
            f"no DICOM annotation of {path} refers to images that are there ({faults})",
            needed="a CT or MR series and a SEG or RTSTRUCT that refers to it, in each study",
            cure="copy the images into the folder too"
            + (f": series {some(missing)}" if missing else ""),
        )
    names = _names(path, studies)
    table, notes = _labels(path, annotated) if values else (None, ())
    modalities = Counter(study.volume.modality for study in annotated or studies)
    channel = next(iter(modalities)) if len(modalities) == 1 else ""
    if len(modalities) > 1:
        counts = ", ".join(f"{count} {name or 'unknown'}" for name, count in modalities.items())
        notes = (*notes, f"series of several modalities are read as one channel: {counts}")
    cases = [
        _case(path, names[study.source], study, channel or "image", table) for study in studies
    ]
    ordered = sorted(cases, key=lambda case: case.id)
    return Dataset(
        name=path.absolute().name,
        root=path,
        layout="dicom-studies",
        cases=tuple(case for case in ordered if case.annotation is not None),
        channels=(channel or "image",),
        labels=table,
        unlabelled=tuple(case for case in ordered if case.annotation is None),
        notes=tuple(filter(None, (*notes, *_notes(found, studies)))),
        orphans=tuple(_orphan(one) for one in found.annotations if one.volume is None),
        reasons=_reasons(found, studies),
    )


def _studies(found: AnnotatedStudies) -> list[_Study]:
    """List the volumes that are cases: those with an annotation, and the only one of a study."""
    drawn_on: dict[Path, list[AnnotationFile]] = defaultdict(list)
    volume_of: dict[Path, SeriesVolume] = {}
    for one in found.annotations:
        if one.volume is not None:
            drawn_on[one.volume.source].append(one)
            volume_of[one.volume.source] = one.volume
    referred = {volume.study for volume in volume_of.values()}
    alone = Counter(one.study for one in found.volumes)
    bare = [one for one in found.volumes if one.study not in referred and alone[one.study] == 1]
    return [
        *(_Study(volume_of[source], tuple(held)) for source, held in drawn_on.items()),
        *(_Study(one) for one in bare),
    ]


def _names(root: Path, studies: Sequence[_Study]) -> dict[Path, str]:
    """Name the cases after the folder of series and annotation, the patient, or the series."""
    parts: dict[Path, tuple[str, ...]] = {}
    for study in studies:
        folders = [study.volume.folder, *(one.path.parent for one in study.annotations)]
        common = Path(os.path.commonpath(folders))
        parts[study.source] = common.relative_to(root).parts if common != root else ()
    tops = Counter(own[:1] for own in parts.values())
    often = Counter(parts.values())
    names: dict[Path, str] = {}
    for study in studies:
        volume, own = study.volume, parts[study.source]
        words = own[:1] if own and tops[own[:1]] == 1 else own
        if not own or often[own] > 1:  # several series of one folder
            words = (*own, volume.patient or f"study_{volume.study.rpartition('.')[2]}")
        names[study.source] = _UNSAFE.sub("_", "__".join(words)).strip("_.") or "study"
    return _distinct(names, studies)


def _distinct(names: Mapping[Path, str], studies: Sequence[_Study]) -> dict[Path, str]:
    """Add date, series' number, end of its UID or key, each where it tells names apart."""
    distinct = dict(names)
    endings = (
        {one.source: one.volume.date for one in studies},
        {one.source: one.volume.number for one in studies},
        {one.source: one.volume.uid.rpartition(".")[2] for one in studies},
        {one.source: one.source.name for one in studies},  # key of a volume in a series
    )
    for ending in endings:
        alike: dict[str, list[Path]] = defaultdict(list)
        for source, name in distinct.items():
            alike[name.casefold()].append(source)
        for same in alike.values():
            for source in same if len({ending[source] for source in same}) > 1 else ():
                added = _UNSAFE.sub("_", ending[source])
                distinct[source] = f"{distinct[source]}_{added}".rstrip("_")
    return distinct


def _labels(root: Path, studies: Sequence[_Study]) -> tuple[LabelTable, tuple[str, ...]]:
    """Make the labels of all structures' names, or take those that a label file states."""
    files = {one.path: one.segments for study in studies for one in study.annotations}
    stated, file = stated_labels(root)
    table = stated or table_of(files.values())
    if table is None:
        raise LabelError(
            f"the annotations of {root} name no structure with a voxel or contour",
            needed="segments or structures",
            cure="hilum check lists what each annotation holds",
        )
    known = {plain_name(label.name): label.name for label in table.foreground}
    held = {path: {plain_name(one.name) for one in segments} for path, segments in files.items()}
    counts = Counter(name for names in held.values() for name in names)
    if not known.keys() & counts.keys():
        raise LabelError(
            f"{file} names {some(known.values())}; the annotations hold"
            f" {some((one.name for held in files.values() for one in held), shown=_SHOWN)}",
            needed="names of structures, spelt as in the annotations",
            cure=f"correct {file}, or remove it: all structures are then learnt",
        )
    lacking = [
        f"{label} (in {counts[name]} of {len(files)})"
        for name, label in known.items()
        if counts[name] < len(files)
    ]
    spelt = {plain_name(one.name): one.name for held in files.values() for one in held}
    others = [spelt[name] for name in counts if name not in known]
    names = some((f"{label.id} = {label.name}" for label in table.foreground), shown=20)
    return table, (
        f"labels are named by the structures of the annotations: {names}" if stated is None else "",
        "structures that not every annotation has, so that their voxels count as background where"
        f" nobody outlined them: {some(lacking, shown=_SHOWN)}"
        if lacking
        else "",
        f"structures that {file.name} does not name are left out: {some(others, shown=_SHOWN)}"
        if others
        else "",
    )


def _case(root: Path, name: str, study: _Study, channel: str, table: LabelTable | None) -> Case:
    """Make a case; one of several annotations has a fault, for nothing says which is meant."""
    columns = _columns(study.volume)
    case = Case(name, study.volume.patient or None, {channel: study.source}, columns=columns)
    if not study.annotations:
        return case
    first = study.annotations[0]
    known = {} if table is None else {plain_name(one.name): one.id for one in table.foreground}
    ids = {
        one.stored: known[plain_name(one.name)]
        for one in first.segments
        if plain_name(one.name) in known
    }
    case = replace(case, annotation=DicomSegments(first.path, ids, study.source))
    if len(study.annotations) == 1:
        return case
    fault = _several_annotations(root, name, study)
    return replace(case, fault=fault)


def _columns(volume: SeriesVolume) -> dict[str, str]:
    """List what the headers state of who was examined and how, and nothing that names anybody."""
    stated = {
        "body_part": volume.body_part,
        "sex": volume.sex,
        "age": volume.age,
        "scanner": volume.scanner,
    }
    return {name: text for name, text in stated.items() if text}


def _several_annotations(root: Path, name: str, study: _Study) -> DataError:
    """List the annotations of one series, and the ways to choose one."""
    paths = [os.path.relpath(one.path, root) for one in study.annotations]
    held = [some((own.name for own in one.segments), shown=_SHOWN) for one in study.annotations]
    listed = "; ".join(f"{path} ({names})" for path, names in zip(paths, held, strict=True))
    row = f"{name},{os.path.relpath(study.source, root)},{paths[0]}"
    return DataError(
        f"{len(paths)} annotations of case {name}: {listed}",
        needed="one annotation for each series of images",
        cure=(
            "move all but one out of the folder, or write a cases.csv of the columns"
            f" case,image,mask that names the one to take: {row}"
        ),
    )


def _orphan(annotation: AnnotationFile) -> Orphan:
    """Describe an annotation whose images are not here, with the series to add."""
    if annotation.missing:
        cure = f"add series {some(annotation.missing)} to the folder"
    else:
        cure = "export it again, so that it names the series it was drawn on"
    path, cure = annotation.path, f"{cure}; or remove the file (--fix leaves it out)"
    return Orphan(path.stem, path, "orphan-annotation", annotation.fault, cure)


def _notes(found: AnnotatedStudies, studies: Sequence[_Study]) -> tuple[str, ...]:
    """Note annotations without images, and studies without annotation."""
    faults = [f"{one.path.name} ({one.fault})" for one in found.annotations if one.volume is None]
    bare = sum(not study.annotations for study in studies)
    taken = {study.volume.study for study in studies}
    unclear = {one.study for one in found.volumes} - taken
    return (
        f"annotations that are left out: {some(faults, shown=_SHOWN)}" if faults else "",
        f"{counted(bare, 'study')} without annotation counted as unlabelled" if bare else "",
        f"{counted(len(unclear), 'study')} of several series and no annotation left out"
        if unclear
        else "",
    )


def _reasons(found: AnnotatedStudies, studies: Sequence[_Study]) -> dict[Path, str]:
    """Say of the files of series that are no case why they are left out."""
    taken = {file for study in studies for file in study.volume.files}
    used = {one.path for study in studies for one in study.annotations[:1]}
    reasons = {
        file: volume.left_out if volume.fault is not None else OTHER_SERIES
        for volume in found.volumes
        for file in volume.files
        if file not in taken
    }
    others = {
        one.path: one.fault or "one of several annotations of a case"
        for one in found.annotations
        if one.path not in used
    }
    return {**found.aside, **reasons, **others}
