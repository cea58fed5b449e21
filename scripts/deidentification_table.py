"""Make src/hilum/deidentification/table.json, the table of PS3.15 E.1-1 that hilum applies.

    .venv/bin/python scripts/deidentification_table.py ANONYMIZER_WHEEL STANDARD_WHEEL

ANONYMIZER_WHEEL is dicom_anonymizer-2.1.0 (PyPI, BSD-3-Clause): the basic profile of edition 2026c.
STANDARD_WHEEL is dicom_standard-0.1.0 (PyPI, MIT): the columns of options, an edition of 2020. For
attributes that came later the columns follow from the value representation, as they do in every
row that has it in both (`_later_options`); nothing is retained that no row names. Attribute types
by IOD, which decide the combined action codes, are from highdicom's tables (MIT).
"""

import ast
import json
import sys
import zipfile
from collections import Counter, defaultdict
from importlib.resources import files
from pathlib import Path

from pydicom.datadict import dictionary_description, dictionary_VR, tag_for_keyword

OUT = Path(__file__).parents[1] / "src/hilum/deidentification/table.json"
BASIC = "dicomanonymizer/dicom_anonymization_databases/dicomfields_2026c.py"
OPTIONS = "dicom_standard-0.1.0.data/data/standard/confidentiality_profile_attributes.json"
CODES = {
    "D_TAGS": "D",
    "Z_TAGS": "Z",
    "X_TAGS": "X",
    "U_TAGS": "U",
    "Z_D_TAGS": "Z/D",
    "X_Z_TAGS": "X/Z",
    "X_D_TAGS": "X/D",
    "X_Z_D_TAGS": "X/Z/D",
    "X_Z_U_STAR_TAGS": "X/Z/U*",
}
COLUMNS = {
    "rtnUIDsOpt": "uids",
    "rtnDevIdOpt": "device",
    "rtnInstIdOpt": "institution",
    "rtnPatCharsOpt": "patient",
    "rtnLongFullDatesOpt": "full_dates",
    "rtnLongModifDatesOpt": "modified_dates",
    "cleanDescOpt": "descriptors",
    "cleanStructContOpt": "structured",
    "cleanGraphOpt": "graphics",
}
TEXT = {"LO", "LT", "SH", "ST", "UC", "UT"}
DESCRIBING = ("Description", "Label", "Comment", "Comments", "Reason")
NAMING = {"30060026", "30060004", "30020121", "300A000B", "00400310"}
"""ROI Name, Structure Set Name and others that the standard counts as descriptors since 2023."""


def basic_codes(wheel: Path) -> dict[str, str]:
    """Read action codes by tag: the lists of the module are literals and are not run."""
    module = ast.parse(zipfile.ZipFile(wheel).read(BASIC))
    codes = {}
    for node in module.body:
        name = node.targets[0].id if isinstance(node, ast.Assign) else ""
        for tag in ast.literal_eval(node.value) if name in CODES else ():
            if len(tag) == 2:  # the groups 50xx and 60xx are entered by hand below
                codes[f"{tag[0]:04X}{tag[1]:04X}"] = CODES[name]
    return codes


def option_columns(wheel: Path) -> dict[str, dict[str, str]]:
    """Read the columns of options by tag."""
    rows = json.loads(zipfile.ZipFile(wheel).read(OPTIONS))
    return {
        row["id"].upper(): {
            name: row[column] for column, name in COLUMNS.items() if row.get(column)
        }
        for row in rows
    }


def _later_options(tag: str) -> dict[str, str]:
    """Return the options of an attribute that came after the table of options."""
    vr, name = describe(tag)
    if vr in {"DA", "DT", "TM"}:
        return {"full_dates": "K", "modified_dates": "C"}
    if vr == "UI":
        return {"uids": "K"}
    if tag in NAMING or (vr in TEXT and name.endswith(DESCRIBING)):
        return {"descriptors": "C"}
    return {}


def describe(tag: str) -> tuple[str, str]:
    """Return the value representation and name of a tag, or two empty texts."""
    try:
        return dictionary_VR(int(tag, 16)), dictionary_description(int(tag, 16))
    except KeyError:
        return "", ""


def attribute_types(
    tags: set[int],
) -> dict[str, dict[str, dict[str, str]]]:
    """Return tag -> keyword of the sequence around it ("" for none) -> IOD -> type.

    "*" stands for the most frequent type, which IODs that are not named have. The strictest of
    several types of one IOD counts; 1C counts as 1 and 2C as 2.
    """
    folder = files("highdicom") / "_standard"
    modules = json.loads((folder / "module_attribute_map.json").read_text())
    found: dict[tuple[int, str], dict[str, str]] = defaultdict(dict)
    for iod, used in json.loads((folder / "iod_module_map.json").read_text()).items():
        for module in used:
            for attribute in modules.get(module["key"], ()):
                tag, kind = tag_for_keyword(attribute["keyword"]), str(attribute["type"])[:1]
                if tag in tags and kind in {"1", "2", "3"}:
                    types = found[tag, attribute["path"][-1] if attribute["path"] else ""]
                    types[iod] = min(kind, types.get(iod, "3"))
    table: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for (tag, parent), types in sorted(found.items()):
        usual = Counter(types.values()).most_common(1)[0][0]
        others = {iod: kind for iod, kind in sorted(types.items()) if kind != usual}
        table[f"{tag:08X}"][parent] = {"*": usual, **others}
    return table


def main(anonymizer: Path, standard: Path) -> None:
    """Write the table."""
    codes, options = basic_codes(anonymizer), option_columns(standard)
    rows = {}
    for tag, code in sorted(codes.items()):
        chosen = _later_options(tag)
        if tag in options and tag not in NAMING:
            chosen = options[tag]
        if describe(tag)[0] == "AE" and "device" in chosen:
            chosen = {"device": "C"}  # as every edition since 2023 has it
        rows[tag] = [code, *(f"{name}={action}" for name, action in chosen.items())]
    combined = {int(tag, 16) for tag, row in rows.items() if "/" in row[0]}
    iods = json.loads((files("highdicom") / "_standard/sop_class_iod_map.json").read_text())
    table = {
        "standard": "DICOM PS3.15 Annex E, table E.1-1",
        "edition": "basic profile 2026c; options 2020, later attributes by value representation",
        "source": "dicom-anonymizer 2.1.0 (BSD-3-Clause), dicom-standard 0.1.0 (MIT),"
        " highdicom 0.28 (MIT); made by scripts/deidentification_table.py",
        "groups": {"50": ["X", "graphics=C"], "60": ["X", "graphics=C"]},
        "attributes": rows,
        "types": attribute_types(combined),
        "iods": iods,
    }
    OUT.write_text(_compact(table) + "\n", encoding="utf-8")
    print(f"{len(rows)} attributes, {sum(tag in options for tag in rows)} with options of 2020")


def _compact(table: dict[str, object]) -> str:
    """Write JSON with one entry of a part a line, so that an edition can be compared."""
    parts = []
    for name, value in table.items():
        if isinstance(value, dict):
            lines = ",\n".join(
                f"  {json.dumps(key)}: {json.dumps(entry)}" for key, entry in value.items()
            )
            parts.append(f" {json.dumps(name)}: {{\n{lines}\n }}")
        else:
            parts.append(f" {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
