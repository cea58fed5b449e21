"""The meaning of a table's columns by their names, and the numbers in their cells.

One vocabulary serves the choice of a label column, the leak audit, baselines and subgroups.

| role | a column is | examples |
|---|---|---|
| split | a part of the experiment | fold, data_split, subset |
| label | the label, or the label restated | label, Diagnosis_value, histology, benign |
| opinion | what a reader thinks of the same image | malignancy, BI-RADS, reader_score, margin |
| identifier | a name of the case or of the patient | patient_id, SeriesUID, accession |
| description | who was examined, where and how | sex, PatientAge, scanner, view |

The first role that fits is taken; a name that says nothing of the kind has the role "".
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal

from hilum.files.text import is_known

if TYPE_CHECKING:
    from collections.abc import Sequence

Role = Literal["split", "label", "opinion", "identifier", "description", ""]
COLUMN_NAMES = {
    "case": ("case", "case_id", "id", "name"),
    "patient": ("patient", "patient_id", "patientid", "subject", "subject_id", "group"),
    "image": ("image", "image_path", "file", "filename", "file_name", "path"),
    "mask": ("mask", "mask_path", "annotation", "segmentation", "seg"),
    "region": ("region", "region_path"),
}
"""Names of the columns that say what a row is of, in every table a user writes, in this order."""
LABEL_COLUMNS = (
    *("label", "class", "diagnosis", "target", "labels", "category", "outcome", "pathology"),
    *("class_name", "class_label"),
)
"""Names of the column that is learnt where the user names none, in this order."""
_SPLIT = {"fold", "split", "subset", "partition"}
_LABEL = {
    *("label", "labels", "class", "category", "diagnosis", "diagnoses", "target", "outcome"),
    *("finding", "findings", "pathology", "histology", "malignant", "benign"),
}
_OPINIONS = (
    *("score", "rating", "reader", "rater", "radiologist", "annotator", "consensus"),
    *("confidence", "suspicion", "birads", "lirads", "pirads", "grade", "malignancy"),
    *("subtlety", "spiculation", "lobulation", "margin", "sphericity", "texture"),
    *("calcification", "internalstructure"),
)
_IDENTIFIER_NAMES = {"case", "group", "image", "name", "patient", "subject"}
_IDENTIFIER = re.compile(
    r"((series|study|instance|image|patient|subject|case|scan)*u?id)|uuid|accession|mrn"
)
_DESCRIPTION = {
    *("sex", "gender", "age", "race", "ethnicity", "site", "centre", "center", "hospital"),
    *("institution", "vendor", "scanner", "manufacturer", "model", "device", "set", "side"),
    *("body", "laterality", "view", "kernel", "study", "series", "date", "year"),
}


def role_of(name: str) -> Role:
    """Return the role of a column by its name; see the table above."""
    words = words_of(name)
    joined = re.sub("[^a-z]", "", name.lower())
    if words & _SPLIT:
        return "split"
    if words & _LABEL:
        return "label"
    if any(word in joined for word in _OPINIONS):
        return "opinion"
    if name.lower() in _IDENTIFIER_NAMES or any(map(_IDENTIFIER.fullmatch, words)):
        return "identifier"
    return "description" if words & _DESCRIPTION else ""


def plain_header(header: Sequence[str]) -> dict[str, str]:
    """Map the plain spelling of each column, as in `COLUMN_NAMES`, to the table's own."""
    return {re.sub(r"[\s-]+", "_", name.lower()): name for name in header}


def find_column(header: Sequence[str], meaning: str) -> str:
    """Find the column of a meaning ("case", "patient") by its usual names; "" where none is."""
    plain = plain_header(header)
    return next((plain[name] for name in COLUMN_NAMES[meaning] if name in plain), "")


def group_notes(patient: str) -> tuple[str, ...]:
    """Note that the column of the patients is one of groups; () where it has another name."""
    if patient.lower() != "group":
        return ()
    return ('the column "group" stands for the patient: cases of one group count as one patient',)


def words_of(name: str) -> frozenset[str]:
    """Return the words of a column's name in small letters: PatientAge is patient and age."""
    return frozenset(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name))


def number(text: str) -> float:
    """Return the number that a cell holds; NaN where it holds none."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def is_numeric(values: Sequence[str]) -> bool:
    """Return True if every known value is a number, and there is one."""
    present = [value for value in values if is_known(value)]
    return bool(present) and not any(math.isnan(number(value)) for value in present)
