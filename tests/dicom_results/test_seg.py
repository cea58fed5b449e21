"""DICOM Segmentations: what they say, and that they say the same each time."""

import itertools

import numpy as np
import pydicom
import pytest
from dicom_sources import FULL, SHAPE, geometry_of, make_source
from io_support import write_series
from pydicom.uid import DigitalXRayImageStorageForPresentation as DxImage
from seg_viewers import by_highdicom, by_highdicom_volume, dciodvfy

from hilum.dicom.stack import open_stack
from hilum.dicom_results import remarks
from hilum.dicom_results.producer import Producer
from hilum.dicom_results.seg import write_segmentation
from hilum.errors import FormatError, GeometryError, LabelError, UsageError
from hilum.volume import Geometry, Label, LabelTable, Volume

MODEL = Producer("0123456789abcdef", "0.0")
TABLE = LabelTable(
    labels=(
        Label(id=0, name="background"),
        Label(id=2, name="liver", code=("10200004", "SCT", "Liver"), colour=(221, 130, 101)),
        Label(id=5, name="liver tumour"),
        Label(id=300, name="mask"),
    )
)


@pytest.fixture(autouse=True)
def nothing_was_logged_before(monkeypatch):
    """Each kind of remark is logged once a process."""
    monkeypatch.setattr(remarks, "_known", set())


def labels_of(source, shape=SHAPE):
    labels = np.zeros((1, *shape), np.int16)
    labels[0, 1:4, 2:8, 3:15], labels[0, 2:4, 4:6, 6:9], labels[0, 5, 1:3, 1:3] = 2, 5, 300
    return Volume(labels, open_stack(source.folder).geometry)


def written(source, path, labels=None, table=TABLE, **options):
    labels = labels_of(source) if labels is None else labels
    reference = write_segmentation(labels, table, source.folder, path, producer=MODEL, **options)
    return reference, pydicom.dcmread(path)


@pytest.fixture
def source(tmp_path):
    return make_source(tmp_path / "series", "oblique")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "case.seg.dcm"


def test_segments_say_what_and_who(source, path):
    reference, seg = written(source, path)
    assert reference.segments == {2: 1, 5: 2, 300: 3}
    assert (reference.instance, reference.series) == (seg.SOPInstanceUID, seg.SeriesInstanceUID)
    assert reference.sop_class == seg.SOPClassUID
    liver, tumour, mask = seg.SegmentSequence
    assert [s.SegmentLabel for s in seg.SegmentSequence] == ["liver", "liver tumour", "mask"]
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    assert tumour.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Neoplasm"
    assert tumour.AnatomicRegionSequence[0].CodeMeaning == "Liver"
    assert mask.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    assert len({s.TrackingUID for s in seg.SegmentSequence}) == 3
    for segment in seg.SegmentSequence:
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert segment.TrackingID == segment.SegmentLabel
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert algorithm.AlgorithmName == "hilum model 0123456789abcdef"
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    assert seg.DeviceSerialNumber == MODEL.model


def test_colours_are_those_of_the_table_in_cielab(source, path):
    from highdicom.color import CIELabColor

    _, seg = written(source, path)
    for segment, (_, colour) in zip(
        seg.SegmentSequence, sorted(TABLE.colours.items()), strict=True
    ):
        value = CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue)
        assert np.allclose(value.to_rgb(), colour, atol=1)


def test_sides_are_modifiers_of_the_property(source, path):
    table = LabelTable.from_names({2: "left kidney", 5: "x", 300: "y"})
    _, seg = written(source, path, table=table)
    (kind,) = seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence
    (side,) = kind.SegmentedPropertyTypeModifierCodeSequence
    assert (kind.CodeMeaning, side.CodeMeaning) == ("Kidney", "Left")


def test_labels_without_a_code_are_named_in_the_log(source, path, caplog):
    written(source, path)
    assert "no SNOMED CT code for mask: written as tissue" in caplog.text


def test_patient_and_study_are_those_of_the_source(source, path):
    _, seg = written(source, path)
    for keyword, value in FULL.items():
        if keyword not in {"Manufacturer", "SeriesNumber"}:
            assert str(seg[keyword].value or "") == value, keyword
    first = pydicom.dcmread(source.files[0])
    assert seg.StudyInstanceUID == first.StudyInstanceUID
    assert seg.FrameOfReferenceUID == first.FrameOfReferenceUID
    assert seg.SeriesInstanceUID != first.SeriesInstanceUID


def test_geometry_is_the_sources_character_by_character(source, path):
    _, seg = written(source, path)
    files = {str(d.SOPInstanceUID): d for d in map(pydicom.dcmread, source.files)}
    shared = seg.SharedFunctionalGroupsSequence[0]
    first = next(iter(files.values()))

    def texts(data, keyword):
        value = data[keyword].value
        return [v.original_string for v in ([value] if data[keyword].VM == 1 else value)]

    for item, keyword in (
        (shared.PlaneOrientationSequence[0], "ImageOrientationPatient"),
        (shared.PixelMeasuresSequence[0], "PixelSpacing"),
        (shared.PixelMeasuresSequence[0], "SliceThickness"),
    ):
        assert texts(item, keyword) == texts(first, keyword)
    for group in seg.PerFrameFunctionalGroupsSequence:
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        position = group.PlanePositionSequence[0]
        of_source = files[str(image.ReferencedSOPInstanceUID)]
        assert texts(position, "ImagePositionPatient") == texts(of_source, "ImagePositionPatient")


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_writing_again_gives_the_same_bytes(source, path, kind):
    reference, _ = written(source, path, kind=kind)
    first = path.read_bytes()
    again, _ = written(source, path, kind=kind)
    assert (again, path.read_bytes()) == (reference, first)
    other = path.with_name("other.dcm")
    written(source, other, kind=kind)
    assert other.read_bytes() == first


def test_dates_are_the_sources(source, path):
    _, seg = written(source, path)
    for name in ("Content", "Series", "InstanceCreation"):
        assert (seg[f"{name}Date"].value, seg[f"{name}Time"].value) == ("20240102", "101112")


def test_labels_model_and_source_each_give_another_instance(source, path, tmp_path):
    first, _ = written(source, path)
    changed = labels_of(source).array.copy()
    changed[0, 0, 0, 0] = 2
    other_labels, _ = written(source, path, Volume(changed, open_stack(source.folder).geometry))
    other_kind, _ = written(source, path, kind="labelmap")
    moved = make_source(tmp_path / "again", "oblique")  # the same study, other instances
    other_source, _ = written(moved, path)
    renamed = TABLE.model_copy(update={"labels": (*TABLE.labels[:-1], Label(id=300, name="other"))})
    other_names, _ = written(source, path, table=renamed)
    uids = {one.instance for one in (first, other_labels, other_kind, other_source, other_names)}
    assert len(uids) == 5


def test_a_late_slice_makes_a_new_instance_with_a_predecessor(source, path):
    (late, file) = source.frames[-1], source.files[-1]
    held = file.read_bytes()
    file.unlink()
    labels = labels_of(source, (SHAPE[0] - 1, *SHAPE[1:]))
    before, seg = written(source, path, labels)
    assert "ReferencedImageSequence" not in seg
    tracked = [s.TrackingUID for s in seg.SegmentSequence]

    file.write_bytes(held)
    after, seg = written(source, path)
    assert after.instance != before.instance
    assert after.series != before.series
    (earlier,) = seg.ReferencedImageSequence
    assert earlier.ReferencedSOPInstanceUID == before.instance
    assert earlier.ReferencedSOPClassUID == before.sop_class
    assert earlier.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Temporal Predecessor"
    assert [s.TrackingUID for s in seg.SegmentSequence] == tracked
    assert late[0] in {
        str(i.ReferencedSOPInstanceUID)
        for i in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }

    first = path.read_bytes()
    written(source, path)
    assert path.read_bytes() == first


@pytest.mark.parametrize("there", ["another model", "another series", "no DICOM"])
def test_what_is_no_earlier_version_is_no_predecessor(source, path, tmp_path, there):
    labels = labels_of(source)
    if there == "another model":
        write_segmentation(labels, TABLE, source.folder, path, producer=Producer("b", "0.0"))
    elif there == "another series":
        other = make_source(tmp_path / "other", "oblique", SeriesInstanceUID="1.2.9")
        written(other, path)
    else:
        path.write_text("text")
    _, seg = written(source, path)
    assert "ReferencedImageSequence" not in seg


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_nothing_found_is_one_empty_frame_a_segment(source, path, kind):
    labels = labels_of(source)
    empty = labels.with_array(np.zeros_like(labels.array))
    _, seg = written(source, path, empty, kind=kind)
    assert seg.NumberOfFrames == (3 if kind == "binary" else 1)
    assert not seg.pixel_array.any()
    assert len(seg.SegmentSequence) == 3
    assert len(seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == SHAPE[0]


def test_a_label_map_has_no_segment_for_the_background(source, path):
    _, seg = written(source, path, kind="labelmap")
    assert [s.SegmentNumber for s in seg.SegmentSequence] == [1, 2, 3]
    assert seg.PixelPaddingValue == 0


@pytest.mark.parametrize(("count", "kind"), [(8, "BINARY"), (9, "LABELMAP")])
def test_more_than_eight_labels_make_a_label_map(source, path, count, kind, caplog):
    table = LabelTable.from_names({n + 1: f"structure {n}" for n in range(count)})
    labels = labels_of(source)
    _, seg = written(source, path, labels.with_array(np.minimum(labels.array, count)), table)
    assert seg.SegmentationType == kind
    assert ("9 labels, of which each" in caplog.text) == (kind == "LABELMAP")


def test_frames_that_begin_within_a_byte_make_a_label_map(tmp_path, path, caplog):
    shape = (6, 11, 13)
    source = make_source(tmp_path / "odd", "axial", shape=shape)
    labels = labels_of(source, shape)
    _, seg = written(source, path, labels)
    assert seg.SegmentationType == "LABELMAP"
    assert "binary frames of 11 x 13 pixels begin within a byte" in caplog.text
    _, seg = written(source, path, labels, kind="binary")
    assert seg.SegmentationType == "BINARY"
    assert "kind='labelmap' is safer" in caplog.text


def test_ids_of_eight_bits_are_the_numbers_of_a_label_map(source, path):
    labels = labels_of(source)
    table = LabelTable.from_names({2: "liver", 5: "x", 200: "y"})
    small = labels.with_array(np.minimum(labels.array, 200))
    reference, seg = written(source, path, small, table, kind="labelmap")
    assert reference.segments == {2: 2, 5: 5, 200: 200}
    assert sorted({*np.unique(seg.pixel_array).tolist()} - {0}) == [2, 5, 200]


def test_a_source_that_highdicom_refuses_is_repaired(source, path):
    faults = (
        *("PatientName", "PatientSex", "StudyID", "AccessionNumber", "FrameOfReferenceUID"),
        *("SliceThickness", "StudyDate"),
    )
    for file in source.files:
        data = pydicom.dcmread(file)
        for keyword in faults:
            del data[keyword]
        data.LossyImageCompression, data.SOPClassUID = "01", "1.2.3"
        data.save_as(file)
    _, seg = written(source, path)
    assert str(seg.PatientName) == ""
    assert seg.FrameOfReferenceUID.startswith("2.25.")
    assert seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 2.5
    assert seg.LossyImageCompressionRatio >= 1
    (series,) = seg.ReferencedSeriesSequence
    classes = {str(i.ReferencedSOPClassUID) for i in series.ReferencedInstanceSequence}
    assert classes == {"1.2.840.10008.5.1.4.1.1.2"}


def test_text_is_written_in_utf_8(source, path):
    table = LabelTable.from_names({2: "Leber größer", 5: "肝臓", 300: "x"})
    _, seg = written(source, path, table=table)
    assert seg.SpecificCharacterSet == "ISO_IR 192"
    assert [s.SegmentLabel for s in seg.SegmentSequence][:2] == ["Leber größer", "肝臓"]
    assert str(seg.PatientName) == "Müller^Jörg"


def test_labels_on_another_grid_are_refused(source, path):
    labels = labels_of(source)
    affine = labels.geometry.affine.copy()
    affine[0, 3] += 0.5
    moved = Volume(labels.array, Geometry(labels.geometry.shape, affine))
    with pytest.raises(GeometryError, match="the labels lie on another grid than"):
        written(source, path, moved)
    assert not path.exists()


def test_labels_without_a_name_are_refused(source, path):
    with pytest.raises(LabelError, match="hold 5, 300, which the label table does not name"):
        written(source, path, table=LabelTable.from_names({2: "liver"}))


def test_a_table_without_labels_is_refused(source, path):
    labels = labels_of(source)
    with pytest.raises(LabelError, match="has no label beside the background"):
        written(
            source,
            path,
            labels.with_array(np.zeros_like(labels.array)),
            LabelTable.from_names({}),
        )


def test_an_unknown_kind_is_refused(source, path):
    with pytest.raises(UsageError, match="kind"):
        written(source, path, kind="fractional")


def test_a_source_that_is_no_dicom_is_refused(tmp_path, source, path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="no DICOM image"):
        write_segmentation(labels_of(source), TABLE, tmp_path / "empty", path, producer=MODEL)


def orientations():
    """The 48 orders and directions of three axes."""
    return [
        (order, flips)
        for order in itertools.permutations(range(3))
        for flips in itertools.product((False, True), repeat=3)
    ]


@pytest.mark.slow
def test_all_48_orientations_give_the_same_voxels_in_the_world(tmp_path):
    base = np.zeros((4, 8, 12), np.uint8)
    base[1:3, 2:5, 3:9], base[3, 6:, :2], base[0, 0, 11] = 1, 2, 3
    table = LabelTable.from_names({1: "liver", 2: "spleen", 3: "left kidney"})
    affine = geometry_of("oblique").affine

    def at(world):
        """Indices of the base grid at places in the world."""
        indices = (world - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        assert np.abs(indices - np.rint(indices)).max() < 1e-3
        return tuple(np.rint(indices).astype(int).T)

    for number, (order, flips) in enumerate(orientations()):
        turned = affine.copy()
        turned[:3, :3] = affine[:3, list(order)]
        shape = tuple(base.shape[axis] for axis in order)
        for axis, flipped in enumerate(flips):
            if flipped:
                turned[:3, 3] += (shape[axis] - 1) * turned[:3, axis]
                turned[:3, axis] *= -1
        volume = Volume(np.zeros((1, *shape), np.int16), Geometry(shape, turned))
        folder, path = tmp_path / f"series{number}", tmp_path / f"{number}.seg.dcm"
        write_series(folder, volume, **FULL)
        grid = open_stack(folder).geometry
        indices = np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)
        world = indices @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        labels = Volume(base[at(world)].reshape(1, *grid.shape), grid)
        write_segmentation(labels, table, folder, path, producer=MODEL)
        found = np.zeros_like(base)
        for label, where in by_highdicom_volume(path).items():
            found[at(where)] = label
        np.testing.assert_array_equal(found, base)


def test_a_picture_has_a_segmentation_without_a_place(tmp_path, path):
    source = make_source(tmp_path / "series", "axial", shape=(1, 16, 24))
    (file,) = source.files
    data = pydicom.dcmread(file)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"):
        del data[keyword]
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = DxImage
    data.Modality, data.ImagerPixelSpacing = "DX", data.PixelSpacing
    del data.PixelSpacing
    data.save_as(file)
    labels = np.zeros((1, 1, 16, 24), np.uint8)
    labels[0, 0, 2:9, 3:15], labels[0, 0, 11:, :2] = 1, 2
    volume = Volume(labels, open_stack(source.folder).geometry)
    table = LabelTable.from_names({1: "lung", 2: "heart"})
    _, seg = written(source, path, volume, table)
    assert "FrameOfReferenceUID" not in seg
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == data.SeriesInstanceUID
    np.testing.assert_array_equal(by_highdicom(path, source), labels[0])
    assert dciodvfy(path) == []
