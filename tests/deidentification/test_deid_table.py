"""Every row of the standard's table, under every option: an attribute is planted, and read again.

The expected action is taken from the table's letters alone, as PS3.15 table E.1-1a defines them.
"""

import json

import pydicom
import pytest
from deid_planted import TABLE, Planter, base, write
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.sequence import Sequence
from pydicom.uid import UID

from hilum import DeidentifyOptions, deidentify

ROWS = {int(tag, 16): row for tag, row in json.loads(TABLE.read_text())["attributes"].items()}
COLUMNS = {
    "retain_uids": "uids",
    "retain_device": "device",
    "retain_institution": "institution",
    "retain_patient": "patient",
    "clean_descriptors": "descriptors",
    "clean_structured_content": "structured",
    "clean_graphics": "graphics",
}
OPTIONS = [
    *({"dates": dates} for dates in ("shift", "keep", "remove")),
    *({name: True} for name in COLUMNS),
    {"retain_safe_private": True},
    dict.fromkeys(COLUMNS, True),
]
OTHER_PLACES = {  # of network commands, file meta information and directories: not in a data set
    *(0x00001000, 0x00001001, 0x00020003, 0x00041511),
}
REPLACED = {"PatientID", "PatientName", "StudyID"}
"""Attributes that get a value of their own, whatever the table's letter."""


def planted_tags():
    """The rows that a data set can hold."""
    return [tag for tag in ROWS if dictionary_has_tag(tag) and tag >> 16 >= 0x0008]


def vr_of(tag):
    return dictionary_VR(tag).split(" or ")[0]


def expected(tag, options):
    """The letters that the table allows for an attribute, and S for a moved date."""
    code, *columns = ROWS[tag]
    letters = dict(column.split("=") for column in columns)
    vr, dates = vr_of(tag), options.get("dates", "shift")
    if "full_dates" in letters and vr in {"DA", "DT", "TM"} and dates != "remove":
        return {"K"} if dates == "keep" or vr == "TM" else {"S"}
    for option, column in COLUMNS.items():
        if options.get(option) and column in letters:
            letter = letters[column]
            if letter == "C" and vr == "OB":  # bytes cannot be cleaned of words
                continue
            # the elements of a sequence have rows of their own; an age under 90 stays
            return {"K"} if letter == "C" and vr in {"SQ", "AS"} else {letter}
    if keyword_for_tag(tag) in REPLACED:
        return {"D"}
    if code == "X/Z/U*":  # a sequence whose references are replaced
        return {"K"}
    if vr == "UI" and code != "X":
        return {"K"} if options.get("retain_uids") else {"U"}
    return set(code.split("/"))


def value_of(tag, letters, planter):
    """A value to be planted; one that is to be cleaned holds the patient's name."""
    if vr_of(tag) == "SQ":
        item = planter.item()
        item.BitsAllocated = 16  # stays in a sequence that stays
        return Sequence([item])
    if "C" in letters:
        return f"Kept {planter.number} of Zappa"
    return None


@pytest.fixture(scope="module", params=OPTIONS, ids="-".join)
def read_again(request, tmp_path_factory):
    """Options, the planted data set, and what is left of it."""
    folder, planter = tmp_path_factory.mktemp("table"), Planter()
    ds = base(planter, "1.2.3.4.5")
    for tag in planted_tags():
        value = value_of(tag, expected(tag, request.param), planter)
        if keyword_for_tag(tag) != "PatientName":  # its words are those that are cleaned away
            ds.add(planter.element(tag, vr_of(tag), value))
    write(ds, folder / "in" / "a.dcm")
    options = DeidentifyOptions(**request.param)
    report = deidentify(folder / "in", folder / "out", key=folder / "key", options=options)
    (output,) = [one.output for one in report.files]
    return request.param, ds, pydicom.dcmread(folder / "out" / output)


def letter_of(old, new):
    """Return the action that was taken on an element."""
    if new is None:
        return "X"
    if not new.value and new.value != 0:
        return "Z"
    if old.VR == "SQ":
        return "K" if new.value[0].get("BitsAllocated") == 16 else "D"
    return letter_of_value(old, str(old.value), str(new.value))


def letter_of_value(old, before, after):
    """Return the action that was taken on a value."""
    if before == after:
        return "K"
    if "Zappa" in before:
        return "C" if after.startswith("Kept") and "Zappa" not in after else "D"
    if old.VR == "UI":
        return "U" if UID(after).is_valid else "?"
    shifted = len(before) == len(after) and after[:8].isdigit() and after[8:] == before[8:]
    return "S" if old.VR in {"DA", "DT"} and shifted and after[:4] != "1900" else "D"


def test_each_row_of_the_table_is_followed(read_again):
    options, old, new = read_again
    wrong = {
        f"{keyword_for_tag(tag)} {tag:08X} {ROWS[tag]}": (letters, found)
        for tag in planted_tags()
        if (found := letter_of(old[tag], new.get(tag))) not in (letters := expected(tag, options))
    }
    assert wrong == {}


def test_all_rows_are_planted():
    left_out = set(ROWS) - set(planted_tags())
    assert {tag for tag in left_out if dictionary_has_tag(tag)} == OTHER_PLACES
    assert len(planted_tags()) > 600
