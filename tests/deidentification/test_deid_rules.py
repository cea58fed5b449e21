"""The rules of de-identification: keys, dates, actions by type, options, warnings."""

import stat
from datetime import date, timedelta

import pydicom
import pytest
from deid_planted import Planter, base, write
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, CTImageStorage, PositronEmissionTomographyImageStorage

from hilum import DataError, DeidentifyOptions, UsageError, deidentify
from hilum.deidentification.dates import limit_age, shift_date, shift_date_time
from hilum.deidentification.key import Key, open_key, read_key
from hilum.deidentification.profile import Action, Options, Place, action_of, iod_of, load_table
from hilum.deidentification.warn import MEANINGS

KEY, OTHER = Key(b"k" * 32), Key(b"o" * 32)
DAYS = st.dates(date(1600, 1, 1), date(2100, 1, 1))
UIDS = st.from_regex(r"1\.2\.(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,5})){1,5}", fullmatch=True)


def once(folder, ds, **options):
    """De-identify one data set, and read what was written."""
    write(ds, folder / "in" / "a.dcm")
    chosen = DeidentifyOptions(**options)
    report = deidentify(folder / "in", folder / "out", key=folder / "key", options=chosen)
    (output,) = [one.output for one in report.files]
    return pydicom.dcmread(folder / "out" / output), report


def image(**values):
    """A CT image with some attributes."""
    ds = base(Planter(), "1.2.3.4.5")
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


# --- the key


@given(UIDS)
def test_new_uids_are_valid_and_follow_from_the_key(uid):
    new = KEY.uid(uid)
    assert UID(new).is_valid
    assert len(new) <= 64
    assert new == KEY.uid(uid) != OTHER.uid(uid)
    assert new != uid


@given(st.lists(UIDS, min_size=2, max_size=30, unique=True))
def test_different_uids_stay_different(uids):
    assert len({KEY.uid(uid) for uid in uids}) == len(uids)


def test_uids_of_the_standard_stay():
    assert KEY.uid(CTImageStorage) == CTImageStorage
    assert KEY.uid("") == ""


def test_key_file_is_made_for_its_owner_alone(tmp_path):
    key, note = open_key(tmp_path / "new" / "key")
    assert "was made" in note
    assert stat.S_IMODE((tmp_path / "new" / "key").stat().st_mode) == 0o600
    again, note = open_key(tmp_path / "new" / "key")
    assert again == key
    assert "chmod" not in note
    assert key.secret.hex() not in repr(key)
    (tmp_path / "new" / "key").chmod(0o644)
    assert "chmod 600" in open_key(tmp_path / "new" / "key")[1]


def test_other_files_are_no_keys(tmp_path):
    with pytest.raises(UsageError, match="there is no key file"):
        read_key(tmp_path / "key")
    (tmp_path / "key").write_text("secret")
    with pytest.raises(DataError, match="is no key file"):
        open_key(tmp_path / "key")


# --- dates


@given(DAYS, DAYS, st.text(max_size=10))
def test_intervals_of_a_patient_stay(first, second, patient):
    days = KEY.days(patient)
    assert -3653 < days <= -366
    moved = [shift_date(f"{one:%Y%m%d}".rjust(8, "0"), days) for one in (first, second)]
    parsed = [date(int(one[:4]), int(one[4:6]), int(one[6:])) for one in moved]
    assert parsed[1] - parsed[0] == second - first
    assert parsed[0] - first == timedelta(days=days)


@given(DAYS, st.times(), st.sampled_from(["", "+0100", "-1130"]))
def test_date_times_keep_time_and_zone(day, time, zone):
    text = f"{day:%Y%m%d}".rjust(8, "0") + f"{time:%H%M%S.%f}"
    moved = shift_date_time(text + zone, -400)
    assert moved[8:] == text[8:] + zone
    assert moved[:8] == shift_date(text[:8], -400)


@given(st.text(max_size=30))
def test_no_text_makes_dates_fail(text):
    for shift in (shift_date, shift_date_time):
        moved = shift(text, -400)
        assert moved is None or (moved != text and len(moved) <= len(text))


def test_dates_of_other_forms():
    assert shift_date("2026.03.01", -1) == "2026.02.28"
    assert shift_date("20260230", -1) is None
    assert shift_date("00010101", -1) is None
    assert shift_date_time("2026", -366) == "2024"
    assert shift_date_time("202603", -1) == "202602"
    assert shift_date_time("20260301101500.123456+0100", -1) == "20260228101500.123456+0100"
    assert shift_date_time("202610 ", -1) == "202609"
    assert shift_date_time("2026x", -1) is None


def test_ages_over_89_become_90():
    ages = ("089Y", "090Y", "104Y", "012M", "old")
    assert [limit_age(age) for age in ages] == ["089Y", "090Y", "090Y", "012M", "old"]


# --- actions


def act(keyword, iod="", parent="", vr=None, **options):
    tag = tag_for_keyword(keyword)
    vr = vr or pydicom.datadict.dictionary_VR(tag)
    return action_of(tag, vr, Options(**options), Place(iod, parent))


def test_table_is_the_standards():
    table = load_table()
    assert len(table.attributes) > 640
    assert "2026c" in table.edition
    codes = {rule.code for rule in table.attributes.values()}
    assert codes == {"X", "Z", "D", "U", "Z/D", "X/Z", "X/D", "X/Z/D", "X/Z/U*"}


@pytest.mark.parametrize(
    ("keyword", "sop_class", "expected"),
    [
        ("SeriesDate", CTImageStorage, Action.REMOVE),  # X/D, type 3 in CT
        ("SeriesDate", PositronEmissionTomographyImageStorage, Action.DUMMY),  # type 1 in PET
        ("AcquisitionDate", CTImageStorage, Action.REMOVE),  # X/Z, type 3
        ("AcquisitionDate", PositronEmissionTomographyImageStorage, Action.EMPTY),  # type 2
        ("ContentDate", CTImageStorage, Action.EMPTY),  # Z/D, type 2
        ("DeviceSerialNumber", "1.2.840.10008.5.1.4.1.1.4.1", Action.DUMMY),  # X/Z/D, type 1
        ("DeviceSerialNumber", CTImageStorage, Action.REMOVE),
        ("DeviceSerialNumber", "1.3.12.2.1107.5.9.1", Action.DUMMY),  # unknown kind of object
    ],
)
def test_type_of_the_attribute_decides_combined_codes(keyword, sop_class, expected):
    assert act(keyword, iod_of(sop_class), dates="remove") is expected


def test_attributes_outside_of_the_table():
    assert act("Rows") is Action.KEEP
    assert act("SOPClassUID") is Action.KEEP
    assert act("TargetFrameOfReferenceUID") is Action.UID
    assert act("TargetFrameOfReferenceUID", retain_uids=True) is Action.KEEP
    assert act("EvaluatorName") is Action.EMPTY
    assert act("ExpiryDate") is Action.SHIFT
    assert act("ExpiryDate", dates="remove") is Action.EMPTY
    assert action_of(0x00091001, "LO", Options()) is Action.REMOVE
    assert action_of(0x0018FFFE, "LO", Options()) is Action.REMOVE


def test_options_retain_what_their_column_names():
    assert act("StationName", retain_device=True) is Action.KEEP
    assert act("InstitutionName", retain_institution=True) is Action.KEEP
    assert act("PatientWeight", retain_patient=True) is Action.KEEP
    assert act("PatientAge", retain_patient=True) is Action.AGE
    assert act("StudyInstanceUID", retain_uids=True) is Action.KEEP
    assert act("SeriesDescription", clean_descriptors=True) is Action.CLEAN
    assert act("ContentSequence", clean_structured_content=True) is Action.KEEP
    assert act("GraphicAnnotationSequence", clean_graphics=True) is Action.KEEP
    assert action_of(0x60003000, "OW", Options(clean_graphics=True)) is Action.REMOVE
    assert act("StudyDate", dates="keep") is Action.KEEP
    assert act("PatientBirthDate", dates="keep") is Action.EMPTY
    assert act("PerformedStationAETitle", retain_device=True) is Action.CLEAN


# --- whole files


def test_marks_say_what_was_done(tmp_path):
    ds, _ = once(tmp_path, image(PatientIdentityRemoved="NO"), retain_device=True)
    assert ds.PatientIdentityRemoved == "YES"
    assert ds.DeidentificationMethod == ["hilum", "dates=shift", "retain_device"]
    codes = {item.CodeValue for item in ds.DeidentificationMethodCodeSequence}
    assert codes == {"113100", "113107", "113109"}
    assert ds.LongitudinalTemporalInformationModified == "MODIFIED"
    assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    assert ds.preamble == bytes(128)


def test_patient_gets_one_id_by_the_key(tmp_path):
    ds, _ = once(tmp_path, image())
    assert ds.PatientID == str(ds.PatientName) == read_key(tmp_path / "key").patient("HOSP-778899")


def test_descriptors_are_cleaned_of_names_and_numbers(tmp_path):
    text = "T1 of qwertz, 12345678, 5.3.2024 by Dr. Miller: 3.0/2 mm"
    values = {"SeriesDescription": text, "StudyDescription": "Zappa", "ProtocolName": "t2 2026"}
    ds, _ = once(tmp_path, image(**values), clean_descriptors=True)
    assert ds.SeriesDescription == "T1 of , , by : 3.0/2 mm"
    assert ds.StudyDescription == "REMOVED"
    assert ds.ProtocolName == "t2 2026"


def test_names_are_swept_out_of_kept_texts(tmp_path):
    ds, report = once(tmp_path, image(ManufacturerModelName="Unit of ZAPPA", KVP="120"))
    assert ds.ManufacturerModelName == "Unit of"
    assert ds.KVP == 120
    assert report.actions["C text"] == 1
    assert report.found == ()


def test_names_of_several_bytes_a_letter_are_swept(tmp_path):
    ds = image(SpecificCharacterSet="ISO_IR 192")
    ds.PatientName, ds.ManufacturerModelName = "山田^太郎太", "器械 山田"
    new, report = once(tmp_path, ds)
    assert "山田" not in str(new)
    assert {one.value for one in report.values if one.kind == "name"} >= {"山田^太郎太"}


def test_safe_private_attributes_stay_with_their_creator(tmp_path):
    ds = image()
    block = ds.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", "0.25")
    block.add_new(0x01, "LO", "Zappa")
    other = ds.private_block(0x7053, "ACME", create=True)
    other.add_new(0x00, "DS", "1.5")
    new, _ = once(tmp_path, ds, retain_safe_private=True)
    kept = [element for element in new if element.tag.is_private]
    assert [str(element.value) for element in kept] == ["Philips PET Private Group", "0.25"]


def test_reports_become_a_comment_unless_cleaned(tmp_path):
    def report():
        person = Dataset()
        person.ValueType, person.PersonName, person.RelationshipType = "PNAME", "X^Y", "CONTAINS"
        words = Dataset()
        words.ValueType, words.TextValue = "TEXT", "Seen: Zappa"
        ds = image(ContentSequence=Sequence([words, person]))
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.22"
        return ds

    removed, _ = once(tmp_path / "a", report())
    (item,) = removed.ContentSequence
    assert item.TextValue == "Removed by de-identification"
    cleaned, told = once(tmp_path / "b", report(), clean_structured_content=True)
    assert [item.ValueType for item in cleaned.ContentSequence] == ["TEXT", "PNAME"]
    assert cleaned.ContentSequence[0].TextValue == "Seen:"
    assert cleaned.ContentSequence[1].PersonName == "REMOVED"
    assert told.warnings() == {"report": 1}


def test_sequences_of_persons_become_one_dummy(tmp_path):
    person = Dataset()
    person.VerifyingObserverName, person.VerifyingOrganization = "Obs^Erver", "Ward 7"
    person.VerificationDateTime = "20240305101112"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "77", "99X", "Obs Erver"
    code.ReferencedWaveformChannels = [1, 2]
    person.VerifyingObserverIdentificationCodeSequence = Sequence([code])
    ds, _ = once(tmp_path, image(VerifyingObserverSequence=Sequence([person, person])))
    (item,) = ds.VerifyingObserverSequence
    assert item.VerifyingObserverName == "REMOVED"
    assert item.VerificationDateTime == "19000101000000"
    (code,) = item.VerifyingObserverIdentificationCodeSequence
    assert code.CodeMeaning == "REMOVED"
    assert code.ReferencedWaveformChannels == [0, 0]


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ({"Modality": "US"}, ["burned-in text"]),
        ({"Modality": "US", "BurnedInAnnotation": "NO"}, []),
        ({"BurnedInAnnotation": "YES"}, ["burned-in text"]),
        ({"ConversionType": "WSD"}, ["burned-in text"]),
        ({"BodyPartExamined": "HEAD"}, ["face"]),
        ({"StudyDescription": "MR Schaedel brain"}, ["face"]),
        ({"BodyPartExamined": "CHEST"}, []),
        ({"Modality": "PT"}, ["no SUV"]),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, ["document"]),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.4", "Modality": "XC"}, None),
    ],
)
def test_warnings_say_what_was_not_looked_at(tmp_path, values, kinds):
    _, report = once(tmp_path, image(**values))
    expected = ["burned-in text", "photograph"] if kinds is None else kinds
    assert list(report.warnings()) == expected
    assert all(MEANINGS[kind] in report.summary() for kind in expected)


def test_overlays_in_the_pixels_are_warned_of(tmp_path):
    ds = image()
    ds.add_new(0x60000100, "US", 16)
    ds.add_new(0x60000102, "US", 12)
    _, report = once(tmp_path, ds)
    assert list(report.warnings()) == ["overlay in the pixels"]
