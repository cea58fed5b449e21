"""One file, de-identified in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.datadict import tag_for_keyword

from hilum.deidentification.coding import Coding, elements, end_of
from hilum.deidentification.dataset import put_together, take_apart
from hilum.deidentification.profile import Options, iod_of
from hilum.deidentification.removed import Attribute, Removed, is_text, kind_of
from hilum.deidentification.rewrite import Source, rewrite
from hilum.deidentification.subject import Subject, holds_word, identifying_words, word_pattern
from hilum.deidentification.warn import warnings_of

if TYPE_CHECKING:
    from hilum.deidentification.dataset import DicomFile
    from hilum.deidentification.key import Key
    from hilum.deidentification.plans import Plans


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag


CHARSET, SOP_CLASS, INSTANCE = _tag("SpecificCharacterSet"), _tag("SOPClassUID"), 0x00080018
PATIENT_ID, PATIENT_NAME = _tag("PatientID"), _tag("PatientName")
STUDY, SERIES = _tag("StudyInstanceUID"), _tag("SeriesInstanceUID")
_MARK = (_tag("PatientIdentityRemoved"), "CS", b"YES")
_METHOD, _CODES = _tag("DeidentificationMethod"), _tag("DeidentificationMethodCodeSequence")
_DATES = _tag("LongitudinalTemporalInformationModified")
_DATES_MEAN = {"shift": b"MODIFIED", "keep": b"UNMODIFIED", "remove": b"REMOVED"}
_OF_META = {0x00020016, 0x00020017, 0x00020018, 0x00020026, 0x00020027, 0x00020028, 0x00020102}
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"


@dataclass(frozen=True)
class Deidentified:
    """A file without what identifies somebody.

    Args:
        data: the bytes to be written.
        names: new file names of patient, study, series and instance.
        instance: its new SOP Instance UID.
        removed: what it lost.
        warnings: kinds of what no program has looked at.
        is_directory: this is a DICOMDIR, which is made anew from the output.
    """

    data: bytes
    names: tuple[str, str, str, str]
    instance: str
    removed: Removed
    warnings: tuple[str, ...]
    is_directory: bool


@dataclass(frozen=True)
class Deidentifier:
    """The first pass over files, with what is kept between them.

    Args:
        key: the user's.
        plans: decisions by options.
    """

    key: Key
    plans: Plans

    @property
    def options(self) -> Options:
        """Return the options of the profile."""
        return self.plans.options

    def deidentify(self, raw: bytes, start: int) -> Deidentified:
        """De-identify a file.

        Args:
            raw: its bytes.
            start: where its data elements begin.

        Raises:
            FormatError: it is damaged or cut short.
        """
        file = take_apart(raw, start)
        subject = Subject(self.key, patient_of(file))
        data_set, removed = self._rewrite(file, subject)
        self._note_outside(file, raw[: min(start, 128)], removed)
        instance = file.text(INSTANCE)
        new = instance if self.options.retain_uids else self.key.uid(instance)
        sop_class = file.text(SOP_CLASS) or file.meta.get(0x00020002, b"").decode("latin-1")
        marked = mark(data_set, file.coding, self.options)
        return Deidentified(
            data=put_together(marked, file.syntax, sop_class, new),
            names=self._names(file, subject, raw),
            instance=new,
            removed=removed,
            warnings=warnings_of(file, self.options),
            is_directory=sop_class == DIRECTORY_CLASS,
        )

    def _rewrite(self, file: DicomFile, subject: Subject) -> tuple[bytes, Removed]:
        """Rewrite the data set, a second time where words are left that the first one removed."""
        source = Source(
            file.data,
            file.start,
            file.coding,
            iod_of(file.text(SOP_CLASS)),
            file.text(CHARSET),
        )
        once, removed = rewrite(source, self.plans, subject)
        chosen = self.options
        clean = chosen.clean_descriptors or chosen.clean_graphics or chosen.clean_structured_content
        words = identifying_words(removed.values)
        sweep = holds_word(once, words)
        if not clean and not sweep:
            return once, removed
        if clean:
            words = identifying_words(removed.values, everybody=True)
        cut = word_pattern(words, with_guesses=clean)
        return rewrite(source, self.plans, subject, cut=cut, sweep=sweep)

    def _note_outside(self, file: DicomFile, preamble: bytes, removed: Removed) -> None:
        """Note what preamble and file meta information held."""
        if (text := preamble.strip(b"\0")) and is_text(text):
            removed.note(Attribute("text", 0, "UT"), "", text)
        for tag in _OF_META & set(file.meta):
            vr = "AE" if tag < 0x00020026 else "UR" if tag < 0x00020100 else "UN"
            kind = "private" if vr == "UN" else kind_of(tag, vr)
            removed.note(Attribute(kind, tag, vr), "", file.meta[tag])

    def _names(self, file: DicomFile, subject: Subject, raw: bytes) -> tuple[str, str, str, str]:
        """Return new file names: of the UIDs, for what has none of the contents."""
        name = self.key.file_name
        instance = file.text(INSTANCE) or file.meta.get(0x00020003, b"").decode("latin-1")
        return (
            name(f"patient {subject.patient}"),
            name(file.text(STUDY) or "no study"),
            name(file.text(SERIES) or "no series"),
            name(instance or raw.hex()),
        )


def patient_of(file: DicomFile) -> str:
    """Return what a file's patient is known by: the id, else the name, else the study's UID."""
    return file.text(PATIENT_ID) or file.text(PATIENT_NAME) or file.text(STUDY)


def mark(data_set: bytes, coding: Coding, options: Options) -> bytes:
    """Write into a data set that it was de-identified, and by which options."""
    method = "\\".join(["hilum", *str(options).split(", ")]).encode("ascii")
    codes = b"".join(_code(code, meaning, coding) for code, meaning in options.codes)
    wanted = {
        _MARK[0]: coding.element(*_MARK),
        _METHOD: coding.element(_METHOD, "LO", method),
        _CODES: coding.element(_CODES, "SQ", codes),
        _DATES: coding.element(_DATES, "CS", _DATES_MEAN[options.dates]),
    }
    return insert(data_set, wanted, coding)


def _code(code: str, meaning: str, coding: Coding) -> bytes:
    """Write the item of a sequence that holds one code of DICOM."""
    content = b"".join(
        (
            coding.element(0x00080100, "SH", code.encode("ascii")),
            coding.element(0x00080102, "SH", b"DCM"),
            coding.element(0x00080104, "LO", meaning.encode("ascii")),
        )
    )
    return coding.head(0xFFFEE000, "", len(content)) + content


def insert(data_set: bytes, wanted: dict[int, bytes], coding: Coding) -> bytes:
    """Put elements into the outermost data set, each in its place, instead of those there."""
    pieces: list[bytes] = []
    rest = sorted(wanted)
    copied = at = 0
    for one in elements(data_set, 0, len(data_set), coding):
        while rest and rest[0] < one.tag:
            pieces += (data_set[copied:at], wanted[rest.pop(0)])
            copied = at
        if not rest:
            break
        end = end_of(data_set, one, coding)
        if one.tag == rest[0]:
            pieces += (data_set[copied:at], wanted[rest.pop(0)])
            copied = end
        at = end
    if rest:
        pieces += (data_set[copied:], *(wanted[tag] for tag in rest))
        copied = len(data_set)
    return b"".join((*pieces, data_set[copied:]))
