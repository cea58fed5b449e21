"""Report of a de-identification, for people and programs. It holds identifiers: keep it apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict
from pydicom.datadict import dictionary_has_tag, keyword_for_tag

from hilum.deidentification.search.values import RULE
from hilum.deidentification.warn import MEANINGS
from hilum.errors import counted
from hilum.files.names import Readable

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHOWN, _NAMED = 200, 3
IDENTIFYING = ("name", "id", "date", "uid", "address", "institution", "device")
LIMITS = (
    "This does not prove that nobody can be recognised. Pixels were not read, names and numbers"
    " that stand only within free text were not known, and a rare finding can identify a patient"
    " by itself. Look at a sample of the output before it leaves the hospital."
)
_MUST_SEE = "These identify somebody. Look at each place before the output is used:"
_ALSO_KEPT = (
    "These are descriptions and private texts, mostly technical terms. They also stand in"
    " attributes that the profile keeps:"
)
_ACTIONS = {
    "X": "removed",
    "Z": "emptied",
    "D": "replaced by a value that says nothing",
    "U": "replaced by a new UID",
    "C": "known names and numbers cut out",
    "moved date": "moved by days",
    "new patient id": "replaced by the new patient id",
    "age limited": "limited to 90 years",
}
"""Actions in words, by the names in `DeidentificationReport.actions`."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class FileResult(_Record):
    """Outcome of one file: where it was written, or why it was not.

    Args:
        source: path below the input folder.
        output: path below the output folder; "" for one that was not written.
        error: why it was not; "" for one that was.
        warnings: kinds of warnings.
        remark: what else is to be said.
    """

    source: Readable
    output: str = ""
    error: Readable = ""
    warnings: tuple[str, ...] = ()
    remark: str = ""


class ValueResult(_Record):
    """One value that was removed, and where it was found again.

    Args:
        kind: of information.
        attribute: "(0010,0010) PatientName".
        value: as it was.
        places: "output path: path of the attribute".
    """

    kind: str
    attribute: str
    value: Readable
    places: tuple[str, ...] = ()

    @property
    def identifies(self) -> bool:
        """Return True for a kind of value that names somebody, and not a technique."""
        return self.kind in IDENTIFYING


class DeidentificationReport(_Record):
    """Record of one de-identification.

    Args:
        options: of the profile.
        profile: edition of the table.
        key: what was done about the key.
        files: each input file.
        actions: number of attributes by action and kind, such as "X date".
        values: every value that was searched for.
        not_searchable: number of values that are too common to be searched for, by kind.
        searched: number of output files that were searched; 0 where no search was asked for.
        walked: how many of them pydicom read, too.
        seconds: of both passes.
        place: folder of this report.
    """

    options: str
    profile: str
    key: str
    files: tuple[FileResult, ...]
    actions: dict[str, int]
    values: tuple[ValueResult, ...]
    not_searchable: dict[str, int]
    searched: int
    walked: int
    seconds: float
    place: Readable

    @property
    def written(self) -> int:
        """Count the files that were written."""
        return sum(bool(one.output) for one in self.files)

    @property
    def failed(self) -> tuple[FileResult, ...]:
        """Return the files that could not be de-identified."""
        return tuple(one for one in self.files if one.error)

    @property
    def left_aside(self) -> int:
        """Count the files that are no DICOM files: they were not copied."""
        return sum(not one.output and not one.error for one in self.files)

    @property
    def found(self) -> tuple[ValueResult, ...]:
        """Return the identifying values that stand in the output."""
        return tuple(one for one in self.values if one.places and one.identifies)

    @property
    def also_kept(self) -> tuple[ValueResult, ...]:
        """Return the other values that stand in the output: mostly technical terms."""
        return tuple(one for one in self.values if one.places and not one.identifies)

    def warnings(self) -> dict[str, int]:
        """Count files by kind of warning."""
        kinds = [kind for one in self.files for kind in one.warnings]
        return {kind: kinds.count(kind) for kind in MEANINGS if kind in kinds}

    def summary(self) -> str:
        """Say in a few lines what was done and what is left to do."""
        failed = f"{len(self.failed)} failed" if self.failed else "none failed"
        lines = [f"{counted(self.written, 'file')} written, {failed}. Options: {self.options}."]
        if self.left_aside:
            lines.append(f"{counted(self.left_aside, 'file')} not copied: not DICOM.")
        lines += [f"Not de-identified: {one.source}: {one.error}" for one in self.failed[:_NAMED]]
        if len(self.failed) > _NAMED:
            lines.append(f"Not de-identified: {len(self.failed) - _NAMED} more, see the report.")
        lines.append(self._search_result())
        lines += [
            f"Warning of {counted(n, 'file')}: {kind}. {MEANINGS[kind]}"
            for kind, n in self.warnings().items()
        ]
        lines += [self.key, LIMITS]
        return "\n".join(lines)

    def _search_result(self) -> str:
        """Say what the search of the output found."""
        if not self.searched:
            return "The output was not searched for removed values."
        values = counted(len(self.values), "removed value")
        searched = f"The {counted(self.searched, 'file')} written were searched for {values}"
        if not self.found:
            return f"{searched}: none that identifies somebody was found."
        return (
            f"{searched}: {len(self.found)} FOUND that may identify somebody. Look at them in the"
            " report before the output is used."
        )

    def markdown(self) -> str:
        """Write the report for people."""
        return "\n".join(_markdown(self)) + "\n"


def attribute_name(tag: int) -> str:
    """Write a tag with its keyword: "(0010,0010) PatientName"."""
    if not tag:
        return "preamble of the file"
    name = keyword_for_tag(tag) if dictionary_has_tag(tag) else ""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {name}".rstrip()


def _markdown(report: DeidentificationReport) -> Iterator[str]:
    """Yield the lines of report.md."""
    yield "# De-identification\n"
    yield "**This report holds names and numbers of patients. Keep it with the key, apart from the"
    yield "output.**\n"
    yield report.summary().replace("\n", "\n\n") + "\n"
    yield f"Rules: DICOM PS3.15 Annex E, {report.profile}.\n"
    yield "## What was done\n"
    yield "| kind of information | what was done | attributes |\n|---|---|--:|"
    for name, number in sorted(report.actions.items()):
        action, _, kind = name.rpartition(" ")
        yield f"| {kind} | {_ACTIONS.get(action, action)} | {number} |"
    yield from _found(report)
    yield from _list(report)
    yield from _files(report)


def _found(report: DeidentificationReport) -> Iterator[str]:
    """Yield the tables of removed values that stand in the output again."""
    yield "\n## Removed values that were found in the output\n"
    if not report.searched:
        yield "Not searched."
    elif not report.found and not report.also_kept:
        yield "None."
    for title, values in ((_MUST_SEE, report.found), (_ALSO_KEPT, report.also_kept)):
        if values:
            yield f"{title}\n\n| value | was in | times found | first place |\n|---|---|--:|---|"
        for one in values[:_SHOWN]:
            yield (
                f"| {_cell(one.value)} | {one.attribute} | {len(one.places)} |"
                f" {_cell(one.places[0])} |"
            )
        if len(values) > _SHOWN:
            yield f"\nand {len(values) - _SHOWN} more in report.json."
        if values:
            yield ""
    yield f"{RULE}\n"
    if report.not_searchable:
        yield "| kind of information | values not searched for |\n|---|--:|"
        yield from (f"| {kind} | {n} |" for kind, n in sorted(report.not_searchable.items()))


def _list(report: DeidentificationReport) -> Iterator[str]:
    """Yield the table of removed values that may identify somebody."""
    values = [one for one in report.values if one.identifies]
    yield f"\n## Removed values that may identify somebody ({len(values)})\n"
    yield "| kind | value | was in |\n|---|---|---|"
    for one in values[:_SHOWN]:
        yield f"| {one.kind} | {_cell(one.value)} | {one.attribute} |"
    if len(values) > _SHOWN:
        yield f"\nand {len(values) - _SHOWN} more in report.json."


def _files(report: DeidentificationReport) -> Iterator[str]:
    """Yield the table of source files, their outputs and remarks."""
    yield f"\n## Files ({len(report.files)})\n"
    yield "| source | output | remarks |\n|---|---|---|"
    for one in report.files[:_SHOWN]:
        remarks = one.error or ", ".join(filter(None, (*one.warnings, one.remark)))
        yield f"| {_cell(one.source)} | {one.output} | {_cell(remarks)} |"
    if len(report.files) > _SHOWN:
        yield f"\nand {len(report.files) - _SHOWN} more in report.json."


def _cell(text: str) -> str:
    """Write a text so that it stays one cell of a table."""
    return " ".join(text.replace("|", "\\|").split())[:120]
