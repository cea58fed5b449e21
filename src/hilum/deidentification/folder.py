"""A folder of DICOM files, de-identified into another, then searched for what was removed."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from hilum.deidentification.dicomdir import NAME as DIRECTORY
from hilum.deidentification.dicomdir import write_directory
from hilum.deidentification.key import open_key
from hilum.deidentification.profile import Options, load_table
from hilum.deidentification.removed import Removed
from hilum.deidentification.report import (
    DeidentificationReport,
    FileResult,
    ValueResult,
    attribute_name,
)
from hilum.deidentification.search.second_pass import Question, ask
from hilum.deidentification.workers import NO_DICOM, Workers, processes_for
from hilum.errors import DataError, UsageError, counted
from hilum.files.archive import is_zip, unpacked
from hilum.files.atomic import atomic_write_bytes
from hilum.files.names import nearest
from hilum.files.output import OutputFolder, is_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hilum.deidentification.key import Key
    from hilum.deidentification.one_file import Deidentified

    Progress = Callable[[str, int, int], None]

VERB = "deidentify"
_OF_DICOM = {".dcm", ".ima"}
_ARCHIVE = "zip archive: not opened; de-identify it by itself"


def deidentify_folder(  # noqa: PLR0913  (options of the verb, keyword-only)
    source: Path,
    out: Path,
    key: Path,
    *,
    options: Options,
    report: Path,
    search: bool = True,
    uid_map: bool = False,
    workers: int | None,
    most_workers: int,
    progress: Progress | None = None,
) -> DeidentificationReport:
    """De-identify a file, or all files below a folder or in a zip archive.

    Args:
        source: file, folder or zip archive; never changed.
        out: folder for the files, named by patient, study, series and instance.
        key: key file; made where there is none.
        options: of the profile.
        report: folder for report.md and report.json, which hold identifiers.
        search: run the second pass.
        uid_map: write the table of old and new UIDs into the folder of the report.
        workers: number of processes; None: as many as the files are worth.
        most_workers: number of processes where `workers` is None and the files are large.
        progress: called as progress(stage, done, total).

    Raises:
        UsageError: the folders lie in each other, or hold files of other programs.
        DataError: there is no DICOM file, or the archive is damaged.
        ResourceError: a process was killed; the output is not to be given away.
    """
    begun = perf_counter()
    _refuse_nested(source, out, key, report)
    with unpacked([source]) as (folder,):
        paths = _files(folder)
        with (
            OutputFolder(out, VERB, inputs=[source]) as written,
            OutputFolder(report, VERB) as told,
        ):
            told.refuse_foreign(["report.md", "report.json"])
            secret, note = open_key(key)
            run = _Run(folder if folder.is_dir() else folder.parent, written, secret, progress)
            run.media = any(path.name.upper() == DIRECTORY for path in paths)
            number = processes_for(paths, workers, most_workers)
            with Workers(secret, options, number) as processes:
                run.write(paths, processes.first_pass(paths))
                if not run.outputs:
                    none = f"none of {counted(len(paths), 'file')} is a DICOM file"
                    reason = next((one.error for one in run.results if one.error), none)
                    raise DataError(
                        f"{source}: no file could be de-identified; {reason}",
                        needed="DICOM files",
                        cure="name the folder that holds them",
                    )
                question = ask(run.removed, times=options.dates == "remove")
                places = run.search(question, processes) if search else {}
            result = DeidentificationReport(
                options=str(options),
                profile=load_table().edition,
                key=note,
                files=tuple(run.results),
                actions={
                    f"{action.value} {kind}": number
                    for (action, kind), number in run.removed.counts.items()
                },
                values=_values(question, places),
                not_searchable={str(kind): number for kind, number in question.common.items()},
                searched=len(run.outputs) if search else 0,
                walked=run.walked,
                seconds=round(perf_counter() - begun, 1),
                place=str(report),
            )
            texts = {"report.md": result.markdown()}
            texts["report.json"] = result.model_dump_json(indent=1)
            if uid_map:
                texts["uid_map.csv"] = _uid_map(run.removed, secret)
            told.write(texts)
    return result


@dataclass
class _Run:
    """The de-identification of one folder: its files so far, and what they lost."""

    root: Path
    folder: OutputFolder
    key: Key
    progress: Progress | None
    media: bool = False
    removed: Removed = field(default_factory=Removed)
    results: list[FileResult] = field(default_factory=list)
    outputs: dict[Path, str] = field(default_factory=dict)
    walked: int = 0

    def write(self, paths: list[Path], results: Iterator[Deidentified | str]) -> None:
        """Write each file as it comes, and note what it lost."""
        for number, (path, result) in enumerate(zip(paths, results, strict=True), start=1):
            name = os.path.relpath(path, self.root)
            if result == NO_DICOM and path.suffix.lower() not in _OF_DICOM:
                remark = _ARCHIVE if is_zip(path) else NO_DICOM
                self.results.append(FileResult(source=name, remark=remark))
            elif isinstance(result, str):
                self.results.append(FileResult(source=name, error=result))
            else:
                self.removed.add(result.removed)
                self.results.append(self._write(name, result))
            self._tell("de-identify", number, len(paths))
        if self.media and self.outputs:
            self._write_directory()

    def _write(self, name: str, result: Deidentified) -> FileResult:
        """Write one file to its new name, but no DICOMDIR, which is made anew."""
        if result.is_directory:
            return FileResult(source=name, remark="directory of media: made anew")
        *folders, last = result.names
        place = self.folder.path.joinpath(*folders, last + self._suffix)
        if place in self.outputs:  # two files of one instance
            last = self.key.file_name(f"{last} {name}")
            place = place.with_name(last + self._suffix)
        top = self.folder.path / folders[0]
        if self.folder.entry(top) is None:
            self.folder.refuse_foreign([top])
            top.mkdir(exist_ok=True)
            self.folder.record(top)
        atomic_write_bytes(place, result.data)
        self.outputs[place] = result.instance
        shown = str(place.relative_to(self.folder.path))
        return FileResult(source=name, output=shown, warnings=result.warnings)

    @property
    def _suffix(self) -> str:
        """Return the suffix of outputs: names of DICOM media have none."""
        return "" if self.media else ".dcm"

    def _write_directory(self) -> None:
        """Write the DICOMDIR and enter what it could not take."""
        self.folder.refuse_foreign([DIRECTORY])
        remarks = write_directory(self.folder.path, self.outputs)
        if (self.folder.path / DIRECTORY).exists():
            self.folder.record(DIRECTORY)
            self.outputs[self.folder.path / DIRECTORY] = ""
            self.results.append(FileResult(source="", output=DIRECTORY, remark="made anew"))
        self.results += [FileResult(source=DIRECTORY, error=remark) for remark in remarks]

    def search(self, question: Question, processes: Workers) -> dict[int, list[str]]:
        """Return the places at which values stand in the output, by their numbers."""
        places: dict[int, list[str]] = {}
        paths = list(self.outputs)
        found = processes.second_pass(paths, question)
        for number, (path, one) in enumerate(zip(paths, found, strict=True), start=1):
            self.walked += one.walked
            shown = path.relative_to(self.folder.path)
            for value, held in one.places.items():
                places.setdefault(value, []).extend(f"{shown}: {place}" for place in held)
            self._tell("search", number, len(paths))
        return places

    def _tell(self, stage: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(stage, done, total)


def _files(source: Path) -> list[Path]:
    """List the files of a source that hilum did not write.

    Raises:
        UsageError: there is no such file or folder.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UsageError(f"there is no {source}", needed="a file or folder", cure=nearest(source))
    return sorted(
        path
        for path in source.rglob("*")
        if path.is_file() and not path.name.startswith(".") and not is_output(path)
    )


def _refuse_nested(source: Path, out: Path, key: Path, report: Path) -> None:
    """Refuse folders that lie in each other: outputs would be inputs, or identifiers outputs."""
    places = {name: one.resolve() for name, one in (("IN", source), ("out", out))}
    inside, outside = places["out"], places["IN"]
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise UsageError(
            f"{source} and {out} lie in each other",
            needed="an output folder outside of the input",
            cure="choose another output folder",
        )
    for name, path in (("key", key), ("report", report)):
        if inside == path.resolve() or inside in path.resolve().parents:
            raise UsageError(
                f"the {name} {path} would lie in the output {out}, which is to be given away",
                needed="a place apart from the output: it leads back to the patients",
                cure=f"choose another place for the {name}",
            )


def _values(question: Question, places: dict[int, list[str]]) -> tuple[ValueResult, ...]:
    """Return each value with the places at which it was found, the found ones first."""
    values = [
        ValueResult(
            kind=sought.attribute.kind,
            attribute=attribute_name(sought.attribute.tag),
            value=sought.text,
            places=tuple(places.get(number, ())),
        )
        for number, sought in enumerate(question.values)
    ]
    return tuple(sorted(values, key=lambda one: (not one.places, one.kind, one.value)))


def _uid_map(removed: Removed, key: Key) -> str:
    """Write old and new UIDs as a table."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("old", "new"))
    old = {
        uid
        for (attribute, _), raws in removed.values.items()
        if attribute.kind == "uid"
        for raw in raws
        for uid in raw.decode("latin-1").split("\\")
    }
    table.writerows((uid, key.uid(uid)) for uid in sorted(old))
    return text.getvalue()
