"""Warnings of what may still show who a patient is, and no program here takes away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.datadict import tag_for_keyword

if TYPE_CHECKING:
    from hilum.deidentification.dataset import DicomFile
    from hilum.deidentification.profile import Options

BURNED_IN = "burned-in text"
FACE = "face"
DOCUMENT = "document"
REPORT = "report"
OVERLAY = "overlay in the pixels"
WEIGHT = "no SUV"
DATES = "no dates"
CAMERA = "photograph"

MEANINGS = {
    BURNED_IN: "The pixels may show names or numbers: the file says that they do, or images of its"
    " kind often do and it does not say that it shows none. Look at them: hilum changes no pixels.",
    FACE: "A face can be rebuilt from a volume of the head. Remove the face (for example with"
    " mri_deface) before the images leave the hospital.",
    DOCUMENT: "The content of an encapsulated document (PDF, CDA, 3D model) was replaced by zeros.",
    REPORT: "The texts of a structured report were kept, without known names and numbers. Read"
    " them.",
    OVERLAY: "An overlay in unused bits of the pixels was not removed. Look at it.",
    WEIGHT: "The patient's weight was removed from PET, so that SUV cannot be computed. Where SUV"
    " is needed, set retain_patient=True.",
    DATES: "Dates and times were removed from PET, so that neither decay nor SUV can be computed."
    " Where SUV is needed, set dates='shift'.",
    CAMERA: "A photograph may show a face, a tattoo, jewellery or a label. Look at it.",
}

_MODALITY, _BURNED, _BODY = (
    tag_for_keyword(name) or 0 for name in ("Modality", "BurnedInAnnotation", "BodyPartExamined")
)
_CLASS, _WEIGHT, _CONVERSION, _DESCRIPTION = (
    tag_for_keyword(name) or 0
    for name in ("SOPClassUID", "PatientWeight", "ConversionType", "StudyDescription")
)
_PROTOCOL = 0x00181030
_OVERLAY_BITS = (b"\x60\0\x01US\x02\0", b"\x60\0\x01\x02\0\0\0")
"""Header of Bits Allocated of an overlay without the first byte, explicit and implicit. An overlay
that is not among the pixels has 1 of them. These bytes stand behind the frames, so they are found
as bytes."""
_PIXELS = b"\xe0\x7f\x10\0"
_OFTEN_BURNED = {"US", "SC", "XA", "RF", "XC", "OT", "ES", "GM", "IVUS", "ECG", "BDUS", "DOC"}
_SCREENS = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.6", "1.2.840.10008.5.1.4.1.1.3.")
_DOCUMENTS = "1.2.840.10008.5.1.4.1.1.104."
_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_VISIBLE = "1.2.840.10008.5.1.4.1.1.77.1."
_HEADS = ("HEAD", "BRAIN", "FACE", "SKULL", "NEURO", "ORBIT", "SINUS", "KOPF", "CEREBR", "CRANI")
_HEADS_EXACT = ("EYE", "JAW", "NASAL", "EAR", "TMJ", "WHOLEBODY")


def warnings_of(file: DicomFile, options: Options) -> tuple[str, ...]:
    """Return the kinds of warnings that a source file calls for."""
    modality, sop_class = file.text(_MODALITY), file.text(_CLASS)
    found = {
        BURNED_IN: _may_be_burned(file, modality, sop_class),
        FACE: modality in {"CT", "MR", "PT", "NM"} and _is_head(file),
        DOCUMENT: sop_class.startswith(_DOCUMENTS),
        REPORT: sop_class.startswith(_REPORTS) and options.clean_structured_content,
        OVERLAY: _has_overlay_bits(file.data),
        WEIGHT: modality == "PT" and not options.retain_patient,
        DATES: modality == "PT" and options.dates == "remove",
        CAMERA: sop_class.startswith(_VISIBLE) and modality in {"XC", "OP", "ES", "GM"},
    }
    return tuple(kind for kind, applies in found.items() if applies)


def _may_be_burned(file: DicomFile, modality: str, sop_class: str) -> bool:
    """Return True where the file says that text is burned in, or does not say and often is."""
    said = file.text(_BURNED).upper()
    if said in {"YES", "NO"}:
        return said == "YES"
    return (
        modality in _OFTEN_BURNED or sop_class.startswith(_SCREENS) or bool(file.text(_CONVERSION))
    )


def _is_head(file: DicomFile) -> bool:
    """Return True where body part, study or protocol name the head."""
    if file.text(_BODY).upper().replace(" ", "") in _HEADS_EXACT:
        return True
    words = " ".join(file.text(tag).upper() for tag in (_BODY, _DESCRIPTION, _PROTOCOL))
    return any(head in words for head in _HEADS)


def _has_overlay_bits(data: bytes) -> bool:
    """Return True for an overlay whose bits lie among the pixels'."""
    end = data.find(_PIXELS)
    for head in _OVERLAY_BITS:
        at = data.find(head, 0, end)
        while at >= 0:
            if data[at + len(head) : at + len(head) + 2] != b"\x01\0":
                return True
            at = data.find(head, at + 1, end)
    return False
