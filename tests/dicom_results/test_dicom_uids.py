"""UIDs that follow from what an object says."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from hilum.dicom_results.uids import ObjectUids, derive_uid, tracking_uid


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_a_derived_uid_is_the_number_of_a_uuid(parts):
    uid = derive_uid(*parts)
    number = uid.removeprefix("2.25.")
    assert number.isdecimal()
    assert len(uid) <= 64
    assert uuid.UUID(int=int(number)).version == 8
    assert uuid.UUID(int=int(number)).variant == uuid.RFC_4122
    assert uid == derive_uid(*parts)


def test_texts_that_join_to_the_same_give_other_uids():
    assert len({derive_uid("ab", "c"), derive_uid("a", "bc"), derive_uid("abc")}) == 3
    assert derive_uid("a", "b") != derive_uid("b", "a")


def test_a_derived_uid_never_changes_with_a_release():
    assert derive_uid("a", "b") == "2.25.333375932222145012773997809258604277625"


def test_a_slice_more_gives_another_object():
    made = {"model": "m", "content": "c"}
    first = ObjectUids.of("SEG", frames=["1.1", "1.2"], **made)
    assert first == ObjectUids.of("SEG", frames=["1.2", "1.1"], **made)
    late = ObjectUids.of("SEG", frames=["1.1", "1.2", "1.3"], **made)
    assert len({first.instance, first.series, late.instance, late.series}) == 4


def test_kind_model_and_content_each_give_another_object():
    base = {"frames": ["1.1"], "model": "m", "content": "c"}
    changed = [
        ObjectUids.of("SR", **base),
        ObjectUids.of("SEG", **base | {"model": "n"}),
        ObjectUids.of("SEG", **base | {"content": "d"}),
        ObjectUids.of("SEG", **base),
    ]
    assert len({one.instance for one in changed}) == 4


def test_a_finding_keeps_its_tracking_uid():
    assert tracking_uid("1.2", "m", "liver") == tracking_uid("1.2", "m", "liver")
    assert tracking_uid("1.2", "m", "liver") != tracking_uid("1.2", "m", "tumour")
