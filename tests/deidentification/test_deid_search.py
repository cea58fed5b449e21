"""The second pass finds removed values wherever they are put back, and shares no code."""

import ast
from pathlib import Path

import pydicom
import pytest
from deid_planted import Planter, base, write
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

import hilum.deidentification.search as second
from hilum.deidentification.removed import Attribute, Removed
from hilum.deidentification.search.second_pass import IN_BYTES, Finder, ask
from hilum.deidentification.search.values import needles_of, too_common

NAME = Attribute("name", 0x00100010, "PN")
ID = Attribute("id", 0x00100020, "LO")
DAY = Attribute("date", 0x00080020, "DA")
UID = Attribute("uid", 0x0020000D, "UI")
TEXT = Attribute("text", 0x00104000, "LT")


def finder(*values, charset="", **options):
    removed = Removed()
    for attribute, raw in values:
        removed.note(attribute, charset, raw)
    removed.written |= options.get("written", set())
    return Finder(ask(removed, times=False))


def places(finder, path):
    """Return the places of values, by their text."""
    found = finder.search(path)
    return {finder.question.values[number].text: list(held) for number, held in found.items()}


def image(path, **values):
    ds = base(Planter(), "1.2.3.4.5")
    ds.PatientName = ds.PatientID = "P1"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    write(ds, path)
    return path


@pytest.mark.parametrize(
    ("attribute", "raw", "values", "place"),
    [
        (NAME, b"Zappa^Qwertz", {"Manufacturer": "of zappa's"}, "Manufacturer"),
        (NAME, b"Zappa^Qwertz", {"ImageComments": "QWERTZ, Z."}, "ImageComments"),
        (NAME, b"Lee^A", {"ImageComments": "seen by Lee today"}, "ImageComments"),
        (ID, b"HOSP-778899", {"DeviceSerialNumber": "778899HOSP778899"}, None),
        (ID, b"HOSP-778899", {"ImageComments": "id hosp778899."}, "ImageComments"),
        (DAY, b"20240305", {"ImageComments": "on 5 Mar 2024"}, "ImageComments"),
        (DAY, b"20240305", {"ImageComments": "on 05.03.2024"}, "ImageComments"),
        (DAY, b"20240305", {"AcquisitionDateTime": "20240305101112"}, None),
        (DAY, b"20240305", {"ContentDate": "20240305"}, "ContentDate"),
        (UID, b"1.2.3.99", {"ImageComments": "1.2.3.999"}, None),
        (UID, b"1.2.3.456789", {"ImageComments": "1.2.3.456789.1"}, None),
        (UID, b"1.2.3.456789", {"ImageComments": "see 1.2.3.456789"}, "ImageComments"),
        (TEXT, b"smokes a lot", {"ImageComments": "He SMOKES A LOT"}, "ImageComments"),
    ],
)
def test_values_are_found_in_other_forms(tmp_path, attribute, raw, values, place):
    values = {"StudyDate": "20230101", **values}
    found = places(finder((attribute, raw)), image(tmp_path / "a", **values))
    assert [held for held in found.values() if held] == ([] if place is None else [[place]])


def test_values_are_found_in_nested_and_private_attributes(tmp_path):
    item = Dataset()
    item.ImageComments = "zappa"
    ds = base(Planter(), "1.2.3.4.5")
    ds.PatientName, ds.ReferencedImageSequence = "P1", Sequence([item])
    ds.private_block(0x0011, "ACME", create=True).add_new(1, "UN", b"by Zappa")
    write(ds, tmp_path / "a")
    (held,) = places(finder((NAME, b"Zappa^Q")), tmp_path / "a").values()
    assert held == ["ReferencedImageSequence[0].ImageComments", "(0011,1001)"]


@pytest.mark.parametrize(
    "inserted",
    [b"\0\0Zappa\0\0", "\0Zappa \0".encode("utf-16-le"), b"\0/home/ZAPPA/x\0"],
)
def test_values_are_found_among_bytes(tmp_path, inserted):
    path = image(tmp_path / "a")
    raw = path.read_bytes()
    path.write_bytes(inserted.ljust(128, b"\0")[:128] + raw[128:])
    assert list(places(finder((NAME, b"Zappa^Q")), path).values()) == [[IN_BYTES]]


def test_values_are_found_in_deflated_and_encoded_texts(tmp_path):
    ds = base(Planter(), "1.2.3.4.5", syntax="1.2.840.10008.1.2.1.99")
    ds.PatientName, ds.ImageComments = "P1", "Zappa"
    write(ds, tmp_path / "a")
    raw = (tmp_path / "a").read_bytes()
    assert b"Zappa" not in raw
    assert places(finder((NAME, b"Zappa^Q")), tmp_path / "a") == {"Zappa^Q": ["ImageComments"]}
    japanese = "山田^太郎太"
    ds = base(Planter(), "1.2.3.4.5")
    ds.SpecificCharacterSet, ds.PatientName, ds.ImageComments = "ISO_IR 192", "P1", "器 山田^太郎太"
    write(ds, tmp_path / "b")
    escaped = pydicom.charset.encode_string(japanese, ["iso8859", "iso2022_jp"])
    one = finder((NAME, escaped), charset="\\ISO 2022 IR 87")
    assert places(one, tmp_path / "b") == {japanese: ["ImageComments"]}


def test_short_words_in_compressed_pixels_are_no_find(tmp_path):
    ds = base(Planter(), "1.2.3.4.5", syntax=RLELossless)
    ds.PatientName = ds.PatientID = "P1"
    ds.PixelData = encapsulate([b"\0\0Lee \0\0Zappaman \0"])
    ds["PixelData"].is_undefined_length = True
    write(ds, tmp_path / "a")
    assert places(finder((NAME, b"Lee^A")), tmp_path / "a") == {}
    assert list(places(finder((NAME, b"Zappaman^A")), tmp_path / "a")) == ["Zappaman^A"]


def test_bytes_behind_the_pixels_are_searched(tmp_path):
    path = image(tmp_path / "a", PixelData=b"Zappaman".ljust(48, b"\0"))
    one = finder((NAME, b"Zappaman^A"))
    assert places(one, path) == {}  # numbers of pixels
    path.write_bytes(path.read_bytes() + b"\xfc\xff\xfc\xffOB\0\0\x0a\0\0\0 Zappaman ")
    assert list(places(one, path)) == ["Zappaman^A"]


def test_long_headers_are_searched_as_bytes_alone(tmp_path):
    path = image(tmp_path / "a", TextValue="x" * 200_000)
    one = finder((NAME, b"Zappa^Q"))
    assert (one.search(path), one.walked) == ({}, 0)
    path = image(tmp_path / "b", TextValue="x" * 200_000, Manufacturer="Zappa")
    assert places(one, path) == {"Zappa^Q": ["Manufacturer"]}
    assert one.walked == 1


@pytest.mark.parametrize(
    ("attribute", "raw"),
    [
        (NAME, b"Dr^X"),
        (ID, b"1"),
        (ID, b"12345"),
        (TEXT, b"M"),
        (TEXT, b"000000000"),
        (UID, b"1.2.840.10008.1.2"),
        (DAY, b"2024"),
        (Attribute("time", 0x00080030, "TM"), b"101112"),
    ],
)
def test_common_values_are_not_searched_for(attribute, raw):
    one = finder((attribute, raw))
    assert one.question.values == ()
    assert one.question.common == {attribute.kind: 1}


def test_moved_dates_of_other_studies_are_not_searched_for():
    assert finder((DAY, b"20240305"), written={b"20240305"}).question.common == {"date": 1}
    assert finder((DAY, b"20240305"), written={b"20200101"}).question.common == {}


def test_forms_of_a_value():
    assert needles_of(NAME, b"van der Zappa^Qw\xe9rtz", "ISO_IR 100") == {
        *(b"zappa", b"qw\xc3\xa9rtz", b"qw\xe9rtz", b"qwertz", b"van der zappa"),
    }
    assert too_common("name", "van")
    assert b"2024-03-05" in needles_of(DAY, b"20240305", "")
    assert needles_of(DAY, b"20249999", "") == set()


def test_second_pass_shares_no_code_with_the_first():
    allowed = {"search", "removed"}  # records of what was removed, for type checkers alone
    for path in Path(second.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and "deidentify" in (node.module or ""):
                assert node.module.split(".deidentify.")[1].split(".")[0] in allowed
