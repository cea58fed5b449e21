"""DICOM files with identifiers planted wherever one can stand, for the tests of de-identification.

The planter knows the standard's dictionary and the table of the profile; it does not use the code
under test.
"""

import json
import struct
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pydicom
from pydicom import config
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

import hilum

TABLE = Path(hilum.__file__).parent / "deidentification/table.json"
STUDY, SERIES = "1.3.6.1.4.1.55555.1.1", "1.3.6.1.4.1.55555.1.2"
_BINARY = {"OB", "OW", "UN"}
_UNSEARCHED = {"AS", "US", "TM"}
_FORCED = {  # what a reader needs, and what the planter writes by itself
    "PatientID",
    "PatientName",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "SourceImageSequence",
    "PatientSize",
    "PatientWeight",
    "EncapsulatedDocument",
}


def letters(number: int) -> str:
    """Return a word that stands for a number and occurs nowhere else."""
    return "".join(chr(ord("a") + int(digit)) for digit in f"{number:04d}") + "zqx"


@dataclass
class Planter:
    """Makes identifiers, and remembers them.

    Attributes:
        words: every planted text that must be gone and be named in the report.
        gone: further bytes that must be gone; the report lists them as not searchable.
    """

    words: list[str] = field(default_factory=list)
    gone: list[bytes] = field(default_factory=list)
    number: int = 0

    def value(self, vr: str) -> object:
        """Make a new identifier of a VR."""
        self.number += 1
        word = letters(self.number)
        made = {
            "AE": f"AE{word}",
            "AS": f"{self.number % 80 + 10:03d}Y",
            "CS": f"CS{word}".upper(),
            "DA": (date(1702, 1, 1) + timedelta(days=40 * self.number)).strftime("%Y%m%d"),
            "DS": f"{7000000 + self.number}.5",
            "DT": (date(1702, 1, 1) + timedelta(days=40 * self.number)).strftime("%Y%m%d")
            + "112233.25",
            "IS": str(91000000 + self.number),
            "PN": f"Fam{word}^Giv{word}",
            "TM": "112233",
            "UI": f"1.3.6.1.4.1.55555.9.{self.number}.77",
            "UR": f"http://{word}.example/of/{self.number}",
            "US": self.number,
        }.get(vr, f"Value {word}")
        if vr in _BINARY:
            made = f"Bytes {word}!".encode()
            self.gone.append(made)
        elif vr not in _UNSEARCHED:
            self.words.append(str(made))
        return made

    def element(self, tag: int, vr: str, value: object = None) -> DataElement:
        """Make an element that holds a new identifier."""
        if value is None and vr == "SQ":
            value = Sequence([self.item()])
        made = self.value(vr) if value is None else value
        return DataElement(tag, vr, made, validation_mode=config.IGNORE)

    def item(self) -> Dataset:
        """Make an item with a person, an identification and an address."""
        item = Dataset()
        for keyword in ("PersonName", "InstitutionName", "PersonAddress"):
            tag = tag_for_keyword(keyword)
            item.add(self.element(tag, dictionary_VR(tag)))
        return item


def table_tags() -> list[int]:
    """Return the attributes of the profile that a data set may hold."""
    rows = json.loads(TABLE.read_text())["attributes"]
    tags = [int(tag, 16) for tag in rows]
    forced = {tag_for_keyword(keyword) for keyword in _FORCED}
    return [
        tag
        for tag in tags
        if dictionary_has_tag(tag) and 0x0008 <= tag >> 16 < 0xFF00 and tag not in forced
    ]


def base(planter: Planter, instance: str, *, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    """Make a small CT image of one patient."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = instance
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, SERIES
    ds.PatientName, ds.PatientID = "Qwertz^Zappa", "HOSP-778899"
    ds.StudyDate, ds.StudyTime, ds.Modality = "20240305", "101112", "CT"
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = (
        "StudyZappa",
        4,
        int(instance.rsplit(".", 1)[-1]),
    )
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 4, 6, 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = np.arange(24, dtype="<u2").tobytes()
    planter.words += [
        "Qwertz^Zappa",
        "HOSP-778899",
        "StudyZappa",
        "20240305",
        STUDY,
        SERIES,
        instance,
    ]
    return ds


def plant_table(ds: Dataset, planter: Planter) -> None:
    """Plant in every attribute of the profile's table."""
    for tag in table_tags():
        ds.add(planter.element(tag, dictionary_VR(tag).split(" or ")[0]))


def plant_nested(ds: Dataset, planter: Planter) -> None:
    """Plant at several depths of sequences that stay."""
    for depth, keyword in enumerate(
        ("ReferencedSeriesSequence", "SharedFunctionalGroupsSequence", "SourceImageSequence"),
        start=1,
    ):
        inner = planter.item()
        inner.ReferencedSOPClassUID = CTImageStorage
        inner.add(planter.element(tag_for_keyword("ReferencedSOPInstanceUID"), "UI"))
        inner.add(planter.element(tag_for_keyword("ImageComments"), "LT"))
        for _ in range(depth):
            outer = planter.item()
            outer.add_new(tag_for_keyword("ReferencedImageSequence"), "SQ", Sequence([inner]))
            inner = outer
        ds.add_new(tag_for_keyword(keyword), "SQ", Sequence([inner]))


def plant_private(ds: Dataset, planter: Planter) -> None:
    """Plant in private blocks of two creators, in every VR, and in private sequences."""
    for group, creator in ((0x0011, "ACME SCANNER 1"), (0x0029, "ACME PATIENTS")):
        block = ds.private_block(group, creator, create=True)
        planter.words.append(creator)
        vrs = ("AE", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "OB", "PN", "SH", "ST", "UC")
        for offset, vr in enumerate((*vrs, "UI", "UN", "UR", "UT"), start=1):
            made = planter.element(block.get_tag(offset), vr)
            text = made.value
            if planter.words[-1] == str(text) and not any(one.isalpha() for one in str(text)):
                planter.gone.append(str(planter.words.pop()).encode())  # digits of a private block
            ds.add(made)
        ds.add(planter.element(block.get_tag(0x40), "SQ"))


def plant_overlays(ds: Dataset, planter: Planter) -> None:
    """Plant in an overlay, in its comments and label, and in a curve."""
    bits = b"Overlay bits zzqx"
    planter.gone += [bits, b"Curve bytes zzqx!!"]
    ds.add_new(0x60003000, "OW", bits + b"\0")
    ds.add_new(0x60000010, "US", 4)
    ds.add(planter.element(0x60004000, "LT"))
    ds.add(planter.element(0x60001500, "LO"))
    ds.add_new(0x50003000, "OW", b"Curve bytes zzqx!!")
    ds.add(planter.element(0x50000040, "LO"))


def write(ds: Dataset, path: Path, *, preamble: bytes = b"") -> None:
    """Write a file, also one that the standard would not have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.preamble = preamble.ljust(128, b"\0")
    before = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    try:
        pydicom.dcmwrite(path, ds, enforce_file_format=True)
    finally:
        config.settings.writing_validation_mode = before


def lose_vrs(path: Path, planter: Planter) -> None:
    """Append to a file a name, a text and a sequence whose VR is UN, as old archives write them."""
    sequence = Dataset()
    sequence.add(planter.element(tag_for_keyword("PersonName"), "PN"))
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    pydicom.filewriter.write_dataset(buffer, sequence)
    content = buffer.getvalue()
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content
    lost = b""
    for tag, value in (
        (0x00104000, str(planter.value("LT")).encode()),
        (0x00324000, str(planter.value("LT")).encode()),
        (0x0040A730, item),
    ):
        padded = value + b" " * (len(value) % 2)
        lost += struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, b"UN", 0, len(padded)) + padded
    raw = path.read_bytes()
    pixels = raw.index(b"\xe0\x7f\x10\x00OW")
    path.write_bytes(raw[:pixels] + lost + raw[pixels:])


def plant_study(folder: Path) -> Planter:
    """Write a study of five files with identifiers in all places, and a DICOMDIR."""
    planter = Planter()
    for number, syntax in enumerate(
        (ExplicitVRLittleEndian, ImplicitVRLittleEndian, "1.2.840.10008.1.2.1.99"), start=1
    ):
        ds = base(planter, f"1.3.6.1.4.1.55555.1.3.{number}", syntax=syntax)
        if number == 1:
            plant_table(ds, planter)
            title = planter.value("AE")
            ds.file_meta.SourceApplicationEntityTitle = title
            ds.file_meta.PrivateInformationCreatorUID = "1.3.6.1.4.1.55555.8"
            ds.file_meta.PrivateInformation = str(planter.value("LO")).encode() + b" "
        plant_nested(ds, planter)
        plant_private(ds, planter)
        plant_overlays(ds, planter)
        preamble = str(planter.value("LT")).encode() if number == 1 else b""
        write(ds, folder / "Qwertz_Zappa" / f"{number}.dcm", preamble=preamble)
    document = base(planter, "1.3.6.1.4.1.55555.1.3.4")
    del document.PixelData
    document.file_meta.MediaStorageSOPClassUID = document.SOPClassUID = EncapsulatedPDFStorage
    document.MIMETypeOfEncapsulatedDocument, document.DocumentTitle = "application/pdf", ""
    document.ConceptNameCodeSequence = []
    document.ContentDate, document.ContentTime = "20240305", "101112"
    document.add(planter.element(tag_for_keyword("EncapsulatedDocument"), "OB"))
    write(document, folder / "Qwertz_Zappa" / "4.dcm")
    plain = base(planter, "1.3.6.1.4.1.55555.1.3.9")
    write(plain, folder / "Qwertz_Zappa" / "9.dcm")
    lose_vrs(folder / "Qwertz_Zappa" / "9.dcm", planter)
    return planter
