"""Coded concepts of labels, by their names and codes."""

import pytest

from hilum.dicom_results.concepts import ABNORMAL, ANATOMY, TISSUE, concepts_of
from hilum.volume import Label


def found(name, code=None):
    return concepts_of(Label(id=1, name=name, code=code))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("liver", "10200004"),
        ("Liver", "10200004"),
        ("spleen", "78961009"),
        ("urinary bladder", "89837001"),
        ("Inferior_Vena_Cava", "64131007"),
        ("vertebrae_L1", "66794005"),
        ("small bowel", "30315005"),
        ("oesophagus", "32849002"),
        ("lungs", "39607008"),
    ],
)
def test_anatomy_is_found_by_its_words(name, value):
    concepts = found(name)
    assert concepts.category == ANATOMY
    assert concepts.kind[:2] == (value, "SCT")
    assert not concepts.modifiers
    assert not concepts.generic


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("left kidney", "64033007", ["Left"]),
        ("kidney_right", "64033007", ["Right"]),
        ("hippocampus, anterior", "5366008", ["Anterior"]),
        ("Posterior Hippocampus", "5366008", ["Posterior"]),
        ("left atrium", "82471001", []),  # a property of its own
    ],
)
def test_sides_and_parts_are_modifiers(name, value, parts):
    concepts = found(name)
    assert concepts.kind[0] == value
    assert [meaning for _, _, meaning in concepts.modifiers] == parts


@pytest.mark.parametrize(
    ("name", "value", "region"),
    [
        ("tumour", "108369006", None),
        ("cancer", "108369006", None),
        ("liver tumor", "108369006", "10200004"),
        ("lung nodule", "27925004", "39607008"),
        ("pulmonary nodules", "27925004", "39607008"),
        ("Kidney Cyst", "367643001", "64033007"),
    ],
)
def test_abnormal_structures_have_the_anatomy_they_lie_in(name, value, region):
    concepts = found(name)
    assert concepts.category == ABNORMAL
    assert concepts.kind[0] == value
    assert (concepts.region and concepts.region[0]) == region


@pytest.mark.parametrize("name", ["anterior", "mask", "label 7", "portal and splenic vein", "ÄÖ"])
def test_unknown_names_are_tissue_and_marked(name):
    concepts = found(name)
    assert concepts.category == concepts.kind == TISSUE
    assert concepts.generic
    assert not concepts.modifiers


@pytest.mark.parametrize(
    ("code", "category"),
    [
        (("10200004", "SCT", "Liver"), ANATOMY),
        (("126851005", "SCT", "Neoplasm of liver"), ABNORMAL),
        (("27925004", "SCT", "Nodule"), ABNORMAL),
        (("xyz", "99MINE", "Something of mine"), ANATOMY),
        (("84640000", "SCT", "Nucleus"), ANATOMY),
    ],
)
def test_a_code_of_the_table_is_taken_as_it_is(code, category):
    concepts = found("any name", code)
    assert concepts.kind == code
    assert concepts.category == category
    assert not concepts.generic


def test_a_meaning_has_at_most_64_characters():
    assert len(found("x", ("1", "99MINE", "long " * 30)).kind[2]) == 64
