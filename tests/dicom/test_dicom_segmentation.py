"""DICOM SEG: kinds, places, names, colours, and what is refused."""

import highdicom as hd
import numpy as np
import pydicom
import pytest
from annotation_support import code, seg_frame, segment, series_uid, write_seg
from io_support import write_series
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from hilum.errors import FormatError, GeometryError, LabelError
from hilum.io import (
    inspect_file,
    is_dicom_annotation,
    read_dicom_annotation,
    read_labels,
    read_volume,
    segments_of,
    supported,
)
from hilum.volume import Geometry, Volume

LIVER, TUMOUR = segment(1, "Liver"), segment(2, "Tumour")


@pytest.fixture
def tmp_path(tmp_path):
    """A folder that other tests' studies are not near."""
    folder = tmp_path / "patient" / "study"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def labels(oblique):
    """Asymmetric labels 0, 1, 2 on the oblique grid; the first and last slice are empty."""
    array = np.zeros((1, 4, 5, 7), dtype=np.uint8)
    array[0, 1, 1:4, 1:6] = 1
    array[0, 2, 0:3, 2:7] = 1
    array[0, 2, 1, 3:5] = 2
    return Volume(array, oblique)


def frames_of(labels, numbers=(1, 2)):
    """A frame for each slice and number that is there."""
    array = labels.array[0]
    return [
        (n, z, array[z] == n) for n in numbers for z in range(len(array)) if (array[z] == n).any()
    ]


@pytest.fixture
def study(tmp_path, volume):
    """A folder with a series, and its UID."""
    return tmp_path, series_uid(write_series(tmp_path / "ct", volume))


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_binary_lies_on_the_grid_of_its_series(study, labels, syntax):
    folder, uid = study
    frames = frames_of(labels)[::-1]  # the order of frames says nothing
    path = write_seg(
        folder / "seg.dcm", labels.geometry, frames, [LIVER, TUMOUR], series=uid, syntax=syntax
    )
    read = read_labels(path)
    np.testing.assert_array_equal(read.array, labels.array)
    assert read.geometry == read_volume(folder / "ct").geometry
    facts = inspect_file(path)
    assert (facts.geometry, facts.dtype) == (read.geometry, read.array.dtype)
    assert [(one.name, one.value) for one in facts.segments] == [("Liver", 1), ("Tumour", 2)]


@pytest.mark.parametrize("place", ["beside", "in the same folder", "own folder", "below"])
def test_series_is_found_wherever_it_lies_in_the_study(tmp_path, volume, labels, place):
    series = {"own folder": "study/ct", "in the same folder": "study", "below": "study/a/b"}
    files = write_series(tmp_path / series.get(place, "ct"), volume)
    annotations = {"own folder": "study/seg", "in the same folder": "study", "below": "study"}
    folder = tmp_path / annotations.get(place, ".")
    folder.mkdir(parents=True, exist_ok=True)
    path = write_seg(
        folder / "seg",
        labels.geometry,
        frames_of(labels),
        [LIVER, TUMOUR],
        series=series_uid(files),
    )
    np.testing.assert_array_equal(read_labels(path).array, labels.array)


def test_series_is_found_by_the_frame_of_reference(study, labels):
    folder, _ = study
    path = write_seg(folder / "seg.dcm", labels.geometry, frames_of(labels), [LIVER, TUMOUR])
    np.testing.assert_array_equal(read_labels(path).array, labels.array)


def test_a_segmentation_without_modality_is_known_by_its_class(study, labels):
    folder, uid = study
    path = write_seg(
        folder / "seg.dcm", labels.geometry, frames_of(labels), [LIVER, TUMOUR], series=uid
    )
    header = pydicom.dcmread(path)
    del header.Modality
    header.save_as(path)
    assert is_dicom_annotation(path)
    np.testing.assert_array_equal(read_labels(path).array, labels.array)


def test_more_pixels_than_the_header_counts_are_refused(tmp_path, labels):
    path = write_seg(
        tmp_path / "seg.dcm", labels.geometry, frames_of(labels), [LIVER, TUMOUR], series="1.9"
    )
    header = pydicom.dcmread(path)
    header.PixelData += b"\xff" * 64
    header.save_as(path)
    with pytest.raises(FormatError, match="bytes of pixels, where its header counts"):
        read_labels(path)


def test_two_series_of_the_frame_of_reference_are_refused(study, volume, labels):
    folder, _ = study
    write_series(folder / "second", volume)
    path = write_seg(folder / "seg.dcm", labels.geometry, frames_of(labels), [LIVER, TUMOUR])
    with pytest.raises(FormatError, match="names no series, and 2 have its frame of reference"):
        read_labels(path)


def test_without_images_it_lies_on_the_grid_of_its_frames(tmp_path, labels):
    frames = [(1, z, labels.array[0, z] == 1) for z in (2, 1)]
    path = write_seg(tmp_path / "seg.dcm", labels.geometry, frames, [LIVER], series="1.9")
    read = read_labels(path)
    np.testing.assert_array_equal(read.array, (labels.array == 1)[:, 1:3])
    assert read.geometry.is_close(labels.geometry.shifted((1, 0, 0), (2, 5, 7)))


def test_slices_without_a_frame_are_empty(tmp_path):
    grid = Geometry.from_spacing((9, 3, 4), (2, 1, 1))
    mask = np.ones((3, 4))
    frames = [(1, z, mask) for z in (0, 1, 6)]
    read = read_labels(write_seg(tmp_path / "seg.dcm", grid, frames, [LIVER]))
    assert read.array[0, :, 0, 0].tolist() == [1, 1, 0, 0, 0, 0, 1]
    frames = [(1, z, mask) for z in (2, 6, 8)]  # two slices apart, and said to be one
    path = write_seg(tmp_path / "seg2.dcm", grid, frames, [LIVER])
    data = pydicom.dcmread(path)
    measures = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = "2"
    data.save_as(path)
    assert read_labels(path).array[0, :, 0, 0].tolist() == [1, 0, 0, 0, 1, 0, 1]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rows", [1, -1])
@pytest.mark.parametrize("columns", [1, -1])
def test_frames_turned_in_their_plane_fall_into_place(study, labels, transposed, rows, columns):
    folder, uid = study
    steps = labels.geometry.affine[:3, :3].copy()
    steps[:, 1] *= rows
    steps[:, 2] *= columns
    start = (0, 4 if rows < 0 else 0, 6 if columns < 0 else 0)
    array = labels.array[0][:, ::rows, ::columns]
    if transposed:
        steps, array = steps[:, [0, 2, 1]], array.transpose(0, 2, 1)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps, labels.geometry.index_to_world(start)
    turned = Volume(array[None], Geometry(array.shape, affine))
    path = write_seg(
        folder / "seg.dcm", turned.geometry, frames_of(turned), [LIVER, TUMOUR], series=uid
    )
    np.testing.assert_array_equal(read_labels(path).array, labels.array)


def test_smaller_frames_lie_where_they_are_and_larger_ones_are_cut(study, labels, caplog):
    folder, uid = study
    grid = labels.geometry.shifted((0, 1, 2), (4, 3, 4))
    inner = labels.array[:, :, 1:4, 2:6]
    path = write_seg(
        folder / "seg.dcm", grid, frames_of(Volume(inner, grid)), [LIVER, TUMOUR], series=uid
    )
    expected = np.zeros_like(labels.array)
    expected[:, :, 1:4, 2:6] = inner
    np.testing.assert_array_equal(read_labels(path).array, expected)
    wide = labels.geometry.shifted((0, -2, -1), (4, 8, 10))
    frames = [(1, 1, np.ones((8, 10)))]
    path = write_seg(folder / "wide.dcm", wide, frames, [LIVER], series=uid)
    assert read_labels(path).array[0, 1].all()
    assert "45 voxels of it lie outside of the images" in caplog.text


def test_frames_between_slices_keep_their_own_grid(study, labels, caplog):
    folder, uid = study
    grid = labels.geometry.shifted((0.5, 0, 0), labels.geometry.shape)
    frames = frames_of(Volume(labels.array, grid))
    path = write_seg(folder / "seg.dcm", grid, frames, [LIVER, TUMOUR], series=uid)
    read = read_labels(path)
    assert read.geometry.is_close(grid.shifted((1, 0, 0), (2, 5, 7)))
    assert "3 of 3 frames lie on no pixels of" in caplog.text


def test_given_grid_is_taken_without_images(tmp_path, labels):
    path = write_seg(
        tmp_path / "seg.dcm", labels.geometry, frames_of(labels), [LIVER, TUMOUR], series="1.9"
    )
    read = read_dicom_annotation(path, grid=labels.geometry, ids={2: 7})
    assert read.geometry == labels.geometry
    np.testing.assert_array_equal(read.array, np.where(labels.array == 2, 7, 0))


def test_overlap_goes_to_the_smaller_segment_and_is_said(study, labels, caplog):
    folder, uid = study
    whole = labels.array[0] > 0
    frames = [(2, 2, labels.array[0, 2] == 2), (1, 1, whole[1]), (1, 2, whole[2])]
    path = write_seg(folder / "seg.dcm", labels.geometry, frames, [LIVER, TUMOUR], series=uid)
    np.testing.assert_array_equal(read_labels(path).array, labels.array)
    assert "structures overlap: Liver and Tumour (2 voxels)" in caplog.text


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_fractional_counts_from_half_of_its_largest_value(study, labels, syntax, caplog):
    folder, uid = study
    values = np.array([[0, 99, 100, 101, 200]])
    pixels = np.pad(values, ((0, 4), (0, 2)))
    frames = [(1, 1, pixels)]
    path = write_seg(
        folder / "s", labels.geometry, frames, [LIVER], series=uid, kind="FRACTIONAL", syntax=syntax
    )
    assert read_labels(path).array[0, 1, 0].tolist() == [0, 0, 1, 1, 1, 0, 0]
    assert "from half of its largest value" in caplog.text


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_label_map_knows_padding_and_background(study, labels, syntax):
    folder, uid = study
    stored = labels.array[0] + 0
    stored[1][0, 0], stored[1][0, 1] = 5, 9
    frames = [(None, z, stored[z]) for z in (2, 1)]
    empty = segment(
        9, "rest", SegmentedPropertyTypeCodeSequence=code("125040", "Background", "DCM")
    )
    path = write_seg(
        folder / "seg.dcm",
        labels.geometry,
        frames,
        [LIVER, TUMOUR, empty],
        series=uid,
        kind="LABELMAP",
        syntax=syntax,
        PixelPaddingValue=5,
    )
    np.testing.assert_array_equal(read_labels(path).array, labels.array)
    assert [one.name for one in segments_of(path)] == ["Liver", "Tumour"]


def test_names_codes_and_colours_of_segments(tmp_path, labels):
    kidney = code("64033007", "Kidney")
    left = segment(3, "Kidney", SegmentedPropertyTypeCodeSequence=kidney)
    right = segment(4, "kidney", SegmentedPropertyTypeCodeSequence=code("64033007", "Kidney"))
    for one, side in ((left, "Left"), (right, "Right")):
        own = one.SegmentedPropertyTypeCodeSequence[0]
        own.SegmentedPropertyTypeModifierCodeSequence = code("7771000", side)
    lesions = [segment(5, "Lesion"), segment(7, "Lesion")]
    lesions[0].RecommendedDisplayCIELabValue = list(
        hd.color.CIELabColor.from_rgb(200, 30, 60).value
    )
    frames = [(n, 1, np.eye(5, 7) > 0) for n in (3, 4, 5, 7)]
    path = write_seg(tmp_path / "seg.dcm", labels.geometry, frames, [left, right, *lesions])
    found = segments_of(path)
    assert [(one.name, one.value, one.stored) for one in found] == [
        ("Kidney Left", 3, 3),
        ("kidney Right", 4, 4),
        ("Lesion", 5, 5),
        ("Lesion", 5, 7),
    ]
    assert found[0].code == ("64033007", "SCT", "Kidney")
    assert np.abs(np.subtract(found[2].colour, (200, 30, 60))).max() <= 1
    notes = inspect_file(path).notes
    assert any("one label each: Lesion (2 times)" in note for note in notes)


def test_picture_without_position_is_read_as_one(tmp_path):
    grid = Geometry.from_spacing((1, 3, 4))
    path = write_seg(tmp_path / "seg.dcm", grid, [(1, 0, np.eye(3, 4))], [LIVER])
    data = pydicom.dcmread(path)
    del data.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
    del data.FrameOfReferenceUID
    data.save_as(path)
    read = read_labels(path)
    np.testing.assert_array_equal(read.array[0, 0], np.eye(3, 4))
    assert any("do not say where they lie" in note for note in inspect_file(path).notes)


def lose(path, change):
    """Damage a file in one element."""
    data = pydicom.dcmread(path)
    change(data)
    data.save_as(path)
    return path


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda d: d.PerFrameFunctionalGroupsSequence.pop(), "3 frames, and 2 items that describe"),
        (
            lambda d: d.PerFrameFunctionalGroupsSequence[1].pop("PlanePositionSequence"),
            "the frames do not say where they lie",
        ),
        (
            lambda d: d.SharedFunctionalGroupsSequence[0].pop("PlaneOrientationSequence"),
            "the frames do not say where they lie",
        ),
        (
            lambda d: [
                one.pop("PlanePositionSequence") for one in d.PerFrameFunctionalGroupsSequence
            ],
            "the frames do not say where they lie",
        ),
    ],
)  # fmt: skip
def test_frames_that_lost_their_place_are_refused(tmp_path, labels, change, found):
    path = write_seg(tmp_path / "seg.dcm", labels.geometry, frames_of(labels), [LIVER, TUMOUR])
    with pytest.raises(FormatError, match=found):
        read_labels(lose(path, change))


def test_annotation_is_no_image(tmp_path, labels, volume):
    path = write_seg(tmp_path / "seg.dcm", labels.geometry, frames_of(labels), [LIVER, TUMOUR])
    assert is_dicom_annotation(path)
    assert supported(path)
    with pytest.raises(FormatError, match=r"a DICOM annotation \(SEG\), which is no image"):
        read_volume(path)
    files = write_series(tmp_path / "ct", volume)
    assert not is_dicom_annotation(files[0])
    assert not is_dicom_annotation(tmp_path)
    assert not is_dicom_annotation(tmp_path / "nothing.dcm")
    assert segments_of(files[0]) == ()


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ({"SegmentationType": "OTHER"}, FormatError, "a segmentation of the type OTHER"),
        ({"SegmentationType": None}, FormatError, "that states no SegmentationType"),
        ({"TotalPixelMatrixRows": 100}, FormatError, "of a whole slide, stored in tiles"),
        ({"PerFrameFunctionalGroupsSequence": None}, FormatError, "do not say which segment"),
        ({"SegmentSequence": [segment(4, "other")]}, LabelError, "frames of the segments 1, which"),
        ({"PixelData": b"\0\0"}, FormatError, "cannot be read as a DICOM segmentation"),
    ],
)
def test_faulty_segmentations_are_refused(tmp_path, labels, values, error, text):
    frames = [(1, 1, labels.array[0, 1] == 1)]
    path = write_seg(tmp_path / "seg.dcm", labels.geometry, frames, [LIVER], **values)
    with pytest.raises(error, match=text) as caught:
        read_labels(path)
    assert caught.value.cure


def test_frames_without_a_segment_are_refused(tmp_path, labels):
    path = write_seg(tmp_path / "s.dcm", labels.geometry, frames_of(labels), [LIVER, TUMOUR])
    data = pydicom.dcmread(path)
    del data.PerFrameFunctionalGroupsSequence[1].SegmentIdentificationSequence
    data.save_as(path)
    with pytest.raises(FormatError, match="the frames do not say which segment they are of"):
        read_labels(path)


def test_frames_of_no_grid_are_refused_without_their_images(tmp_path):
    grid = Geometry.from_spacing((9, 3, 4), (2, 1, 1))
    frames = [(1, z, np.ones((3, 4))) for z in (0, 1, 2.4, 3.4)]
    path = write_seg(tmp_path / "uneven.dcm", grid, frames, [LIVER])
    with pytest.raises(GeometryError, match="of 4 frames lie off the even, perpendicular grid"):
        read_labels(path)
    frames = [(1, z, np.ones((3, 4))) for z in range(3)]
    path = write_seg(tmp_path / "tilted.dcm", grid, frames, [LIVER])
    data = pydicom.dcmread(path)
    for z, group in enumerate(data.PerFrameFunctionalGroupsSequence):
        group.PlanePositionSequence[0].ImagePositionPatient = [0, 0.8 * z, 2 * z]
    data.save_as(path)
    with pytest.raises(GeometryError, match="2 of 3 frames lie off the even"):
        read_labels(path)


def test_frames_of_two_orientations_are_refused(tmp_path, labels):
    path = write_seg(tmp_path / "s.dcm", labels.geometry, frames_of(labels), [LIVER, TUMOUR])
    data = pydicom.dcmread(path)
    own = data.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    other = pydicom.Dataset()
    other.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    del data.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    for index, group in enumerate(data.PerFrameFunctionalGroupsSequence):
        group.PlaneOrientationSequence = own if index else pydicom.Sequence([other])
    data.save_as(path)
    with pytest.raises(GeometryError, match="frames of several orientations or pixel sizes"):
        read_labels(path)
    assert seg_frame(None, (0, 0, 0)).PlanePositionSequence
