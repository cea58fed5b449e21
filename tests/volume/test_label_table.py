"""Label tables: order, regions, and the refusals."""

import pytest
from pydantic import ValidationError

from hilum.errors import LabelError
from hilum.volume import Label, LabelTable, Region

NAMES = {0: "background", 1: "liver", 4: "tumour"}
REGIONS = (Region(name="whole liver", labels=(1, 4)), Region(name="tumour", labels=(4,)))


def table(**options) -> LabelTable:
    return LabelTable(labels=tuple(Label(id=i, name=n) for i, n in NAMES.items()), **options)


def test_exclusive_labels():
    labels = LabelTable.from_names({4: "tumour", 1: "liver"}, ignore=255)
    assert labels.ids == (0, 1, 4)
    assert [label.name for label in labels.foreground] == ["liver", "tumour"]
    assert labels.exclusive
    assert labels.outputs == 3
    assert labels.scored == (Region(name="liver", labels=(1,)), Region(name="tumour", labels=(4,)))
    assert labels.ignore == 255


def test_regions_are_learnt_and_scored_instead_of_labels():
    labels = table(regions=REGIONS, decode_ids=(1, 4))
    assert not labels.exclusive
    assert labels.outputs == 2
    assert labels.scored == REGIONS


def test_json_round_trip():
    labels = LabelTable(
        labels=(
            Label(id=0, name="background"),
            Label(id=2, name="liver", code=("10200004", "SCT", "Liver"), colour=(221, 130, 101)),
        )
    )
    assert LabelTable.model_validate_json(labels.model_dump_json()) == labels


@pytest.mark.parametrize("ids", [(), (1, 2), (0, 2, 1), (0, 1, 1)])
def test_ids_begin_with_the_background_and_rise(ids):
    with pytest.raises(LabelError, match="distinct ids in rising order"):
        LabelTable(labels=tuple(Label(id=i, name=f"label {i}") for i in ids))


def test_ignore_is_no_label():
    with pytest.raises(LabelError, match="ignore id 4 is also a label"):
        table(ignore=4)


def test_regions_are_of_known_labels():
    with pytest.raises(LabelError, match=r"name labels \[9\]"):
        table(regions=(Region(name="stone", labels=(1, 9)),), decode_ids=(1,))


@pytest.mark.parametrize("decode_ids", [(), (1,), (1, 9)])
def test_each_region_decodes_to_a_known_label(decode_ids):
    with pytest.raises(LabelError, match="one known label id for each region"):
        table(regions=REGIONS, decode_ids=decode_ids)


def test_unknown_fields_and_empty_names_are_refused():
    with pytest.raises(ValidationError, match="extra"):
        Label(id=1, name="liver", snomed="10200004")
    with pytest.raises(ValidationError, match="at least 1 character"):
        Label(id=1, name="")
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Label(id=-1, name="liver")


def test_labels_of_one_name_are_refused():
    with pytest.raises(LabelError, match="several labels have one name: 1 lesion, 2 Lesion"):
        LabelTable.from_names({1: "lesion", 2: "Lesion "})
