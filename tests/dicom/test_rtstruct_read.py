"""RTSTRUCT: contours by position, names, and what no mask can hold."""

import numpy as np
import pydicom
import pytest
from annotation_support import code, contour, on_slice, series_uid, structure, write_rtstruct
from io_support import write_series

from hilum.errors import FormatError
from hilum.io import inspect_file, read_dicom_annotation, read_geometry, read_labels, segments_of
from hilum.volume import Geometry, Volume


def box(top, left, bottom, right):
    return [(top, left), (top, right), (bottom, right), (bottom, left)]


@pytest.fixture
def grid():
    """9 slices of 12 x 17 pixels, of unequal spacing and not square, oblique."""
    from io_support import rotation

    turned = rotation(3)[:, [2, 1, 0]]
    return Geometry.from_spacing(
        (9, 12, 17), (2.5, 0.7, 0.9), origin=(-31.25, 5.5, 100.75), directions=turned
    )


@pytest.fixture
def study(tmp_path, grid):
    """A folder with a series on the grid, and its UID."""
    folder = tmp_path / "patient" / "study"
    image = Volume(np.zeros((1, *grid.shape), dtype=np.int16), grid)
    return folder, series_uid(write_series(folder / "ct", image))


def write(study, *structures, **values):
    folder, uid = study
    return write_rtstruct(folder / "rs.dcm", list(structures), series=uid, **values)


def test_square_with_a_hole_lies_on_its_slice(study, grid):
    contours = [
        contour(on_slice(grid, 3, box(0.5, 1.5, 8.5, 14.5))),
        contour(on_slice(grid, 3, box(2.5, 3.5, 5.5, 12.5))),
        contour(on_slice(grid, 4, box(0.5, 1.5, 2.5, 14.5))),
    ]
    labels = read_labels(write(study, structure(1, "Liver", contours)))
    expected = np.zeros((1, *grid.shape))
    expected[0, 3, 1:9, 2:15] = 1
    expected[0, 3, 3:6, 4:13] = 0
    expected[0, 4, 1:3, 2:15] = 1
    np.testing.assert_array_equal(labels.array, expected)
    assert labels.geometry == read_geometry(study[0] / "ct")


def test_keyhole_contour_has_its_hole(study, grid):
    outer, hole = box(0.5, 1.5, 8.5, 14.5), box(2.5, 3.5, 5.5, 12.5)
    points = [*outer, outer[0], *hole, hole[0]]
    labels = read_labels(write(study, structure(1, "Liver", [contour(on_slice(grid, 3, points))])))
    assert labels.array[0, 3].sum() == 8 * 13 - 3 * 9
    assert not labels.array[0, 3, 3:6, 4:13].any()


def test_voxel_belongs_where_half_of_it_is_covered(study, grid):
    bottoms = [(2, 4.94), (6, 5.06)]  # row 5, from 4.5 to 5.5, is covered by 0.44 and by 0.56
    contours = [contour(on_slice(grid, z, box(0.5, 1.5, bottom, 14.5))) for z, bottom in bottoms]
    labels = read_labels(write(study, structure(1, "Liver", contours))).array[0]
    assert not labels[2, 5].any()
    assert labels[6, 5, 2:15].all()


def test_contour_through_pixel_centres_holds_the_border(study, grid):
    contours = [contour(on_slice(grid, 3, box(2, 3, 6, 9)))]
    labels = read_labels(write(study, structure(1, "Liver", contours))).array[0, 3]
    assert labels[2:7, 3:10].sum() == labels.sum() == 5 * 7 - 4  # corners are covered by a quarter


def test_small_point_and_line_contours_are_counted(study, grid):
    contours = [
        contour(on_slice(grid, 3, box(2, 3, 6, 9))),
        contour(on_slice(grid, 4, box(2.0, 3.0, 2.4, 3.4))),  # below a pixel, on slices of its own
        contour(on_slice(grid, 5, box(2.6, 2.6, 3.4, 3.4))),  # below a pixel, and half of it
        contour(on_slice(grid, 6, [(2, 3), (4, 5)])),
        contour(on_slice(grid, 6, [(2, 3), (2, 3), (2, 3)])),
        contour(on_slice(grid, 6, [(2, 3)]), "POINT"),
        contour(on_slice(grid, 6, box(2, 3, 6, 9)), "OPEN_PLANAR"),
    ]
    path = write(study, structure(1, "Liver", contours), structure(2, "Empty", []))
    assert read_labels(path).array[0].sum(axis=(1, 2)).tolist() == [0, 0, 0, 31, 0, 1, 0, 0, 0]
    notes = "\n".join(read_notes(path))
    assert "contours smaller than a pixel are filled only where" in notes
    assert "Liver (2)" in notes
    assert "enclose nothing (closed of fewer than three points) are left out: Liver (2)" in notes
    assert "enclose nothing (POINT) are left out: Liver (1)" in notes
    assert "enclose nothing (OPEN_PLANAR) are left out: Liver (1)" in notes
    assert "structures without contours: Empty" in notes


def read_notes(path, **options):
    """Return the notes of reading an annotation."""
    from hilum.dicom.annotation import read_annotation

    return read_annotation(path, **options).notes


def test_structure_of_which_nothing_is_left_is_named(study, grid):
    tiny = [contour(on_slice(grid, 4, box(2.0, 3.0, 2.4, 3.4)))]
    path = write(study, structure(1, "Marker", tiny))
    assert not read_labels(path).array.any()
    assert any("cover half of no voxel" in n and "Marker (1)" in n for n in read_notes(path))


def test_contours_beside_the_image_and_its_slices_are_counted(study, grid):
    contours = [
        contour(on_slice(grid, 3, box(-5.5, -3.5, 1.5, 2.5))),  # cut at both borders
        contour(on_slice(grid, 3, box(20, 20, 30, 30))),
        contour(on_slice(grid, 8.8, box(2, 3, 6, 9))),
        contour(on_slice(grid, -1, box(2, 3, 6, 9))),
    ]
    path = write(study, structure(1, "Body", contours))
    labels = read_labels(path).array[0]
    assert labels[3, :2, :3].all()
    assert labels.sum() == 6
    notes = "\n".join(read_notes(path))
    assert "reach beyond the image's border are cut off there: Body (1)" in notes
    assert "contours outside of the image are left out: Body (1)" in notes
    assert "beyond the first or last slice are left out: Body (2)" in notes


def test_a_contour_around_a_corner_of_the_image_is_beside_it(study, grid):
    rows, columns = grid.shape[1:]
    corner = on_slice(
        grid,
        3,
        [(rows + 3, columns - 3), (rows + 3, columns + 3), (rows - 3, columns + 3)],
    )
    path = write(study, structure(1, "Cloth", [contour(corner)]))
    assert not read_labels(path).array.any()
    notes = "\n".join(read_notes(path))
    assert "contours outside of the image are left out: Cloth (1)" in notes
    assert "cut off there" not in notes


def test_contours_between_slices_go_to_the_nearest_and_the_rest_is_counted(study, grid):
    contours = [
        contour(on_slice(grid, z, box(0.5, 1.5, bottom + 0.5, 9.5)))
        for z, bottom in [(2.7, 3), (3.1, 5), (3.4, 7), (5.2, 4)]
    ]
    path = write(study, structure(1, "Liver", contours))
    rows = (read_labels(path).array[0].sum(axis=(1, 2)) / 8).tolist()
    assert rows == [0, 0, 0, 5, 0, 4, 0, 0, 0]
    notes = "\n".join(read_notes(path))
    assert "between slices are left out, as others are nearer to the slice: Liver (2)" in notes
    assert "beside the middle of their slice are taken for the nearest one: Liver (2)" in notes


def test_contours_across_slices_are_left_out_and_counted(study, grid):
    points = grid.index_to_world([(1, 2, 3), (1, 2, 9), (6, 2, 9), (6, 2, 3)])
    path = write(study, structure(1, "Sagittal", [contour(points)]))
    assert not read_labels(path).array.any()
    assert any("do not lie in the plane of the slices" in note for note in read_notes(path))


def test_contour_that_is_stored_twice_counts_once(study, grid):
    points = on_slice(grid, 3, box(0.5, 1.5, 4.5, 9.5))
    path = write(study, structure(1, "Liver", [contour(points), contour(np.roll(points, 1, 0))]))
    assert read_labels(path).array.sum() == 4 * 8
    assert any("stored twice count once: Liver (1)" in note for note in read_notes(path))


def test_slices_between_sparse_contours_stay_empty_and_it_is_said(study, grid):
    contours = [contour(on_slice(grid, z, box(0.5, 1.5, 4.5, 9.5))) for z in (1, 3, 6)]
    path = write(study, structure(1, "Liver", contours))
    assert read_labels(path).array[0].any(axis=(1, 2)).nonzero()[0].tolist() == [1, 3, 6]
    assert any("every second slice or fewer" in note for note in read_notes(path))


def test_each_slice_has_its_own_position(tmp_path):
    """Slices off their even places, as far as reading a series accepts it."""
    grid = Geometry.from_spacing((5, 6, 8), (3, 1, 1))
    depths = [0.0, 3.2, 6.0, 9.2, 12.0]
    folder = tmp_path / "patient" / "study"
    place = {"ImagePositionPatient": lambda z: [0, 0, depths[z]]}
    image = Volume(np.zeros((1, 5, 6, 8), dtype=np.int16), grid)
    uid = series_uid(write_series(folder / "ct", image, **place))
    contours = [
        contour([(x, y, depth) for y, x in box(0.5, 0.5, 2.5, z + 1.5)])
        for z, depth in enumerate(depths)
    ]
    path = write_rtstruct(folder / "rs.dcm", [structure(1, "Liver", contours)], series=uid)
    assert (read_labels(path).array[0].sum(axis=(1, 2)) / 2).tolist() == [1, 2, 3, 4, 5]
    assert read_notes(path) == ()


def test_overlapping_structures_keep_the_smaller_one(study, grid):
    body = [contour(on_slice(grid, z, box(0.5, 0.5, 10.5, 15.5))) for z in (3, 4)]
    organ = [contour(on_slice(grid, 3, box(2.5, 2.5, 5.5, 9.5)))]
    path = write(study, structure(8, "organ", organ), structure(3, "BODY", body))
    labels = read_labels(path).array[0]
    assert labels[3, 3, 3] == 8
    assert labels[3, 1, 1] == labels[4, 3, 3] == 3
    assert any("overlap: BODY and organ (21 voxels)" in note for note in read_notes(path))
    alone = read_dicom_annotation(path, ids={3: 1})
    assert alone.array.sum() == 2 * 10 * 15  # what is left out hides nothing


def test_names_numbers_colours_and_codes_of_structures(study, grid):
    some = [contour(on_slice(grid, 3, box(0.5, 0.5, 10.5, 15.5)))]
    path = write(
        study,
        structure(0, "Liver", some, colour=(255, 10, 20)),
        structure(12, "GTV", some),
        structure(13, "gtv ", some),
        structure(14, "nothing", None),
    )
    data = pydicom.dcmread(path)
    seen = pydicom.Dataset()
    seen.ReferencedROINumber = 12
    seen.RTROIIdentificationCodeSequence = code("86049000", "Neoplasm")
    data.RTROIObservationsSequence = pydicom.Sequence([seen])
    data.save_as(path)
    found = segments_of(path)
    assert [(one.name, one.stored, one.value) for one in found] == [
        ("Liver", 0, 1),
        ("GTV", 12, 2),
        ("gtv", 13, 2),
    ]
    assert found[0].colour == (255, 10, 20)
    assert found[1].code == ("86049000", "SCT", "Neoplasm")
    facts = inspect_file(path)
    assert facts.segments == found
    assert "structures without contours: nothing" in facts.notes


def test_contours_name_no_image_and_are_found_by_position(tmp_path, grid, study):
    folder, _ = study
    path = write_rtstruct(
        folder / "rs.dcm",
        [structure(1, "Liver", [contour(on_slice(grid, 3, box(0.5, 1.5, 4.5, 9.5)))])],
    )
    assert read_labels(path).array[0, 3].sum() == 4 * 8


def test_contours_without_images_are_refused_or_take_a_given_grid(tmp_path, grid):
    contours = [contour(on_slice(grid, 3, box(0.5, 1.5, 4.5, 9.5)))]
    folder = tmp_path / "patient" / "study"
    folder.mkdir(parents=True)
    path = write_rtstruct(folder / "rs.dcm", [structure(1, "Liver", contours)], series="1.9.9")
    for read in (read_labels, inspect_file):
        with pytest.raises(FormatError, match=r"the images of the series 1\.9\.9 are not near"):
            read(path)
    labels = read_dicom_annotation(path, grid=grid)
    assert labels.geometry == grid
    assert labels.array[0, 3, 1:5, 2:10].sum() == labels.array.sum() == 32
    assert read_dicom_annotation(path, grid=grid, ids={}).array.sum() == 0


def test_structures_of_another_frame_of_reference_are_named(study, grid):
    some = [contour(on_slice(grid, 3, box(0.5, 0.5, 10.5, 15.5)))]
    path = write(
        study, structure(1, "Liver", some), structure(2, "GTV", some, frame_of_reference="1.9")
    )
    (note,) = [note for note in read_notes(path) if "frame of reference" in note]
    assert "GTV" in note
    assert "Liver" not in note


def test_damaged_structure_sets_are_refused(study, grid):
    broken = contour(on_slice(grid, 3, box(0.5, 1.5, 4.5, 9.5)))
    broken.ContourData = broken.ContourData[:-1]
    path = write(study, structure(1, "Liver", [broken]))
    with pytest.raises(FormatError, match="cannot be read as an RT structure set"):
        read_labels(path)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda d: d.pop("ROIContourSequence"), "a structure set without ROIContourSequence"),
        (lambda d: d.pop("StructureSetROISequence"), "without StructureSetROISequence"),
        (
            lambda d: d.StructureSetROISequence.pop(),
            r"contours of structures that it does not describe \(2\)",
        ),
        (
            lambda d: setattr(
                d.ROIContourSequence[0].ContourSequence[0], "NumberOfContourPoints", 5
            ),
            "a contour of 4 points that states 5",
        ),
        (
            lambda d: d.ROIContourSequence[0].ContourSequence[0].pop("ContourData"),
            "a contour of 0 points that states 4",
        ),
    ],
)  # fmt: skip
def test_lost_structures_contours_and_points_are_refused(study, grid, change, found):
    drawn = [contour(on_slice(grid, 3, box(0.5, 1.5, 8.5, 14.5)))]
    path = write(study, structure(1, "Liver", drawn), structure(2, "Tumour", drawn))
    data = pydicom.dcmread(path)
    change(data)
    data.save_as(path)
    with pytest.raises(FormatError, match=found):
        read_labels(path)
