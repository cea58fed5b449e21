"""Post-processing of labels held to scipy and SimpleITK, to hand-made cases.

And to what must always hold.
"""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from scipy import ndimage

from hilum.errors import LabelError, ResourceError
from hilum.plan.segmentation import PostprocessingStep
from hilum.targets import apply_postprocessing
from hilum.targets.postprocess import BYTES_A_VOXEL
from hilum.volume import Geometry, LabelTable, Volume

TABLE = LabelTable.from_names({1: "liver", 2: "tumour", 5: "spleen"})
SPACING = (2.5, 0.7, 1.1)
QUICK = settings(deadline=None, max_examples=60)  # no test fails because the machine is busy
STRUCTURES = {
    n: ndimage.generate_binary_structure(3, rank) for n, rank in ((6, 1), (18, 2), (26, 3))
}


def step(kind="largest_component", labels=(1,), **more):
    return PostprocessingStep(kind=kind, region="r", labels=labels, **more)


def volume(array, spacing=SPACING):
    array = np.asarray(array)
    geometry = Geometry.from_spacing(array.shape, spacing, origin=(-12.5, 40.25, 101.0))
    return Volume(array[None], geometry)


def applied(array, *steps, spacing=SPACING):
    return apply_postprocessing(volume(array, spacing), steps, TABLE).array[0]


LABELS = arrays(
    np.uint8,
    st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 8)),
    elements=st.sampled_from([0, 0, 0, 1, 1, 2, 5]),
)
STEPS = st.builds(
    lambda kind, labels, connectivity, smallest: step(
        kind,
        labels,
        connectivity=connectivity,
        **({"minimum": float(smallest), "unit": "voxels"} if kind == "minimum_volume" else {}),
    ),
    st.sampled_from(["largest_component", "minimum_volume", "fill_holes"]),
    st.sampled_from([(1,), (2,), (5,), (1, 2), (1, 2, 5)]),
    st.sampled_from([6, 18, 26]),
    st.integers(1, 12),
)


@QUICK
@given(LABELS, STEPS)
def test_once_more_changes_nothing(array, one):
    once = applied(array, one)
    np.testing.assert_array_equal(applied(once, one), once)


@QUICK
@given(LABELS, st.lists(STEPS, min_size=1, max_size=4))
def test_no_label_is_invented_and_the_grid_stays(array, steps):
    before = volume(array)
    copy = array.copy()
    after = apply_postprocessing(before, steps, TABLE)
    assert after.geometry == before.geometry
    assert after.array.dtype == array.dtype
    assert set(np.unique(after.array)) <= set(np.unique(array)) | {0}
    np.testing.assert_array_equal(array, copy)


@QUICK
@given(LABELS, STEPS)
def test_only_the_region_loses_voxels_and_only_background_is_filled(array, one):
    after = applied(array, one)
    inside = np.isin(array, one.labels)
    if one.kind == "fill_holes":
        assert not array[after != array].any()
        assert np.isin(after[after != array], one.labels).all()
    else:
        assert inside[after != array].all()
        assert not np.isin(after[after != array], one.labels).any()


@QUICK
@given(LABELS, st.sampled_from([6, 18, 26]), st.sampled_from([(1,), (1, 2)]))
def test_the_largest_component_is_that_of_scipy(array, connectivity, labels):
    numbered, count = ndimage.label(np.isin(array, labels), STRUCTURES[connectivity])
    sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
    kept = np.isin(applied(array, step(labels=labels, connectivity=connectivity)), labels)
    assert kept.sum() == (sizes.max() if count else 0)
    assert len(set(numbered[kept])) == min(count, 1)


@QUICK
@given(LABELS, st.integers(1, 12))
def test_the_minimum_is_that_of_simpleitk(array, smallest):
    components = sitk.ConnectedComponent(
        sitk.GetImageFromArray((array == 1).astype(np.uint8)), True
    )
    kept = sitk.GetArrayFromImage(sitk.RelabelComponent(components, minimumObjectSize=smallest)) > 0
    found = applied(array, step("minimum_volume", minimum=float(smallest), unit="voxels"))
    np.testing.assert_array_equal(found == 1, kept)


@QUICK
@given(arrays(np.uint8, (5, 8, 7), elements=st.sampled_from([0, 1, 1, 1])))
def test_holes_are_those_of_scipy(array):
    np.testing.assert_array_equal(
        applied(array, step("fill_holes")) == 1, ndimage.binary_fill_holes(array == 1)
    )


@QUICK
@given(arrays(np.uint8, (1, 9, 7), elements=st.sampled_from([0, 1, 1])))
def test_holes_of_a_picture_are_those_in_its_plane(array):
    np.testing.assert_array_equal(
        applied(array, step("fill_holes"))[0] == 1, ndimage.binary_fill_holes(array[0] == 1)
    )


def test_a_ring_in_one_slice_of_a_volume_has_no_hole():
    array = np.zeros((3, 7, 7), np.uint8)
    array[1, 2:5, 2:5] = 1
    array[1, 3, 3] = 0
    np.testing.assert_array_equal(applied(array, step("fill_holes")), array)


def test_a_speck_of_tumour_in_the_liver_becomes_liver_and_one_outside_background():
    array = np.zeros((4, 12, 11), np.uint8)
    array[:, 2:9, 1:8] = 1
    array[1, 3, 3] = 2  # in the liver
    array[2, 10, 9] = 2  # outside
    array[1:3, 5:8, 4:7] = 2  # the tumour itself
    found = applied(array, step("minimum_volume", (2,), minimum=5, unit="voxels"))
    assert found[1, 3, 3] == 1
    assert found[2, 10, 9] == 0
    assert (found == 2).sum() == 18
    np.testing.assert_array_equal(found, applied(array, step("largest_component", (2,))))


def test_the_smaller_label_wins_a_tie_inside_the_image():
    array = np.zeros((1, 3, 4), np.uint8)
    array[0, 0, 0] = 1  # in the corner: right of it spleen, below it background
    array[0, 0, 1] = 5
    array[0, 2, 2:] = 1
    assert applied(array, step())[0, 0, 0] == 0
    array[0, 1, 0] = 5
    assert applied(array, step())[0, 0, 0] == 5


def test_a_piece_that_is_the_whole_image_becomes_background():
    array = np.full((2, 3, 2), 1, np.uint8)
    assert not applied(array, step("minimum_volume", minimum=100, unit="voxels")).any()


def test_millilitres_are_of_the_images_own_voxels():
    array = np.zeros((4, 10, 10), np.uint8)
    array[1, 1, 1:5] = 1  # 4 voxels of 2 x 5 x 5 mm: 0.2 ml
    one = step("minimum_volume", minimum=0.2)
    assert applied(array, one, spacing=(2, 5, 5)).sum() == 4  # what is just as large stays
    assert applied(array, one, spacing=(2, 5, 4.9)).sum() == 0


def test_holes_that_another_label_shares_stay_open():
    array = np.zeros((5, 9, 9), np.uint8)
    array[0:5, 1:8, 1:8] = 1
    array[2, 4, 4] = 0
    array[2, 4, 5] = 2
    np.testing.assert_array_equal(applied(array, step("fill_holes")), array)
    assert (
        applied(array, step("fill_holes", (1, 2)))[2, 4, 4] == 1
    )  # of the region of both it is a hole, mostly of liver


def test_the_steps_come_one_after_the_other():
    array = np.zeros((3, 9, 20), np.uint8)
    array[1, 1:8, 1:8] = 1
    array[1, 3:6, 3:6] = 2
    array[1, 4, 15] = 5
    array[1, 4, 14] = array[1, 4, 16] = array[1, 3, 15] = array[1, 5, 15] = 1
    steps = (
        step("largest_component", (1,)),
        step("minimum_volume", (5,), minimum=2, unit="voxels"),
    )
    found = applied(array, *steps)
    assert set(np.unique(found[:, :, 12:])) == {0}
    np.testing.assert_array_equal(found, applied(applied(array, steps[0]), steps[1]))


def test_nothing_to_do_is_the_very_same_volume():
    before = volume(np.ones((2, 3, 4), np.uint8))
    assert apply_postprocessing(before, (), TABLE) is before


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint32, np.int64])
def test_any_integer_type_and_large_ids(dtype):
    table = LabelTable.from_names({100: "a"})
    array = np.zeros((3, 4, 5), dtype)
    array[0, 0, 0], array[1, 2:, 2:] = 100, 100
    found = apply_postprocessing(volume(array), (step(labels=(100,)),), table).array[0]
    assert found.dtype == dtype
    assert found[0, 0, 0] == 0
    assert (found == 100).sum() == 6


def test_what_is_no_label_map_and_unknown_labels_are_refused():
    with pytest.raises(LabelError, match="the labels have type float32"):
        applied(np.zeros((1, 2, 2), np.float32), step())
    with pytest.raises(LabelError, match=r"labels \[3\][\s\S]*hilum tune"):
        applied(np.zeros((1, 2, 2), np.uint8), step(labels=(3,)))
    two = Volume(np.zeros((2, 1, 2, 2), np.uint8), Geometry.from_spacing((1, 2, 2)))
    with pytest.raises(LabelError, match="one channel"):
        apply_postprocessing(two, (step(),), TABLE)


def test_a_region_beyond_the_memory_limit_is_refused():
    array = np.zeros((30, 40, 50), np.uint8)
    array[2:8, 3:7, 4:9] = 1
    needed = array.nbytes + BYTES_A_VOXEL * 8 * 6 * 7  # of its box, one voxel wider on every side
    found = apply_postprocessing(volume(array), (step(),), TABLE, limit_bytes=needed)
    assert found.array.sum() == 120
    with pytest.raises(
        ResourceError,
        match=r"(?s)largest component of .*extends over 8 x 6 x 7 voxels.*memory='8GB'",
    ):
        apply_postprocessing(volume(array), (step(),), TABLE, limit_bytes=needed - 1)
    assert (
        apply_postprocessing(
            volume(0 * array), (step(),), TABLE, limit_bytes=array.nbytes
        ).array.sum()
        == 0
    )


def test_a_step_that_means_nothing_is_refused():
    with pytest.raises(ValidationError, match="names the background"):
        step(labels=(0, 1))
    with pytest.raises(ValidationError, match="with a minimum of 0 ml"):
        step("minimum_volume")
    with pytest.raises(ValidationError, match="with a minimum of 3 ml"):
        step("fill_holes", minimum=3.0)


@pytest.mark.slow
@pytest.mark.real_data
def test_a_real_liver_with_noise_against_scipy(real_data):
    from hilum.io import read_labels

    labels = read_labels(next((real_data / "liver_ct" / "labelsTr").glob("*.nii.gz")))
    rng = np.random.default_rng(0)
    array = labels.array.astype(np.uint8)
    array[rng.random(array.shape) < 0.002] = 1
    table = LabelTable.from_names({1: "liver", 2: "tumour"})
    found = apply_postprocessing(labels.with_array(array), (step(),), table).array[0]
    numbered, count = ndimage.label(array[0] == 1, STRUCTURES[26])
    sizes = np.bincount(numbered.ravel(), minlength=count + 1)
    sizes[0] = 0
    np.testing.assert_array_equal(found == 1, numbered == sizes.argmax())
    assert count > 1000
