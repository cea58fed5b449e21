"""The input of a classifier: where each of its voxels lies in the case, and the way back.

And its store.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from classification_toys import changed, class_plan, write_cubes

sys.path.append(str(Path(__file__).parent.parent / "volume"))

from volume_strategies import CODES, FAST, geometries, oblique_geometry, random_volume

from hilum.dataset import open_dataset
from hilum.errors import DataError, GeometryError, UsageError
from hilum.io import read_volume, write_volume
from hilum.plan.classification import RegionSpec
from hilum.plan.plan import Decision, Normalisation
from hilum.preprocess import build_classifier_store, classifier_store, preprocess_classifier_input
from hilum.preprocess.classifier_input import InputWindow, classifier_input_hash
from hilum.volume import Geometry, Volume, reorient

MIDDLE, MASK, CENTRE = (
    RegionSpec(kind="middle"),
    RegionSpec(kind="mask", mask_channel=True),
    RegionSpec(kind="centre"),
)
SLOPE = np.array(
    [0.7, -0.4, 1.1]
)  # of a value that is linear in the world: any misplaced voxel has another one


def world_values(geometry: Geometry, index: np.ndarray | None = None) -> np.ndarray:
    index = np.stack(np.indices(geometry.shape), axis=-1) if index is None else index
    return geometry.index_to_world(index) @ SLOPE


def in_world(geometry: Geometry) -> Volume:
    return Volume(world_values(geometry)[None].astype(np.float32), geometry)


def points(view: InputWindow) -> np.ndarray:
    """Index on the turned grid of every voxel of the input, (Z, Y, X, 3)."""
    axes = [
        start + np.arange(n) * step
        for start, n, step in zip(view.start, view.shape, view.step, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def window(shape, spacing=(1.0, 1.0, 1.0), region=MIDDLE, **more):
    return class_plan(region=region, patch=shape, spacing=spacing, **more)


def picture(array) -> Volume:
    array = np.asarray(array, dtype=np.float32)
    return Volume(array[None, None], Geometry.from_spacing((1, *array.shape)))


def flat_plan(patch, region=RegionSpec(), **more):  # noqa: B008  (frozen)
    spec = class_plan().network.value.model_copy(
        update={"dimensions": 2, "in_channels": 1 + region.mask_channel}
    )
    return class_plan(
        region=region, patch=patch, dimensions=2, orientation="source", network=spec, **more
    )


# --- where it lies
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["source", *CODES])
def test_an_identity_view_gives_the_volume_back(code):
    geometry = oblique_geometry((4, 7, 5), spacing=(2.5, 0.7, 1.1))
    image = random_volume(geometry)
    turned = image if code == "source" else reorient(image, code)
    plan = window(turned.geometry.shape, turned.geometry.spacing, orientation=code)
    array, view = preprocess_classifier_input(image, plan)
    assert np.array_equal(array, turned.array)
    assert view.lay(array[0]) == image


def test_an_identity_view_gives_the_picture_back():
    image = picture(np.random.default_rng(0).normal(size=(9, 13)))
    array, view = preprocess_classifier_input(image, flat_plan((1, 9, 13)))
    assert np.array_equal(array, image.array)
    assert view.lay(array[0]) == image


@FAST
@given(
    geometry=geometries(st.tuples(*[st.integers(6, 13)] * 3)),
    code=st.sampled_from(["source", *CODES]),
    factor=st.tuples(*[st.floats(0.4, 1.0)] * 3),
    patch=st.tuples(*[st.integers(3, 6)] * 3),
)
def test_each_voxel_is_read_and_laid_where_it_lies_in_the_world(geometry, code, factor, patch):
    """Sample a value linear in the world, at finer steps than the image's, whatever its axes.

    Beyond the image the border's.
    """
    image = in_world(geometry)
    turned = (image if code == "source" else reorient(image, code)).geometry
    spacing = tuple(float(mm * f) for mm, f in zip(turned.spacing, factor, strict=True))
    array, view = preprocess_classifier_input(image, window(patch, spacing, orientation=code))
    at = points(view)
    centre = turned.index_to_world((np.array(turned.shape) - 1) / 2)
    np.testing.assert_allclose(turned.index_to_world(at.mean(axis=(0, 1, 2))), centre, atol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(np.diff(turned.index_to_world(at), axis=1), axis=-1), spacing[1], rtol=1e-6
    )
    expected = world_values(turned, np.clip(at, 0, np.array(turned.shape) - 1))
    np.testing.assert_allclose(array[0], expected, rtol=1e-4, atol=1e-3)

    laid = view.lay(array[0])
    assert laid.geometry == geometry
    back = laid if code == "source" else reorient(laid, code)
    own = np.stack(np.indices(turned.shape), axis=-1)
    place = (own - np.array(view.start)) / np.array(view.step)
    last = np.array(patch) - 1
    seen = ((place >= 0) & (place <= last)).all(axis=-1)
    clear = ((place < -0.501) | (place > last + 0.501)).any(axis=-1)
    np.testing.assert_allclose(
        back.array[0][seen], world_values(turned)[seen], rtol=1e-4, atol=1e-3
    )
    assert not back.array[0][clear].any()


@pytest.mark.parametrize("code", CODES)
def test_a_single_voxel_of_a_map_lands_on_its_own(code):
    """Coarser than the image, in every orientation of its storage.

    The brightest voxel is the nearest one in the world.
    """
    image = reorient(in_world(oblique_geometry((11, 17, 13), spacing=(2.0, 0.9, 1.3))), code)
    _, view = preprocess_classifier_input(image, window((5, 5, 5), (3.6, 3.1, 2.9)))
    spot = np.zeros((5, 5, 5), dtype=np.float32)
    spot[3, 1, 2] = 1.0
    laid = view.lay(spot)
    where = view.turned.index_to_world(points(view)[3, 1, 2])
    nearest = np.round(image.geometry.world_to_index(where)).astype(int)
    assert np.unravel_index(laid.array[0].argmax(), laid.array[0].shape) == tuple(nearest)
    assert laid.geometry == image.geometry


def test_a_map_of_another_shape_is_refused():
    _, view = preprocess_classifier_input(in_world(oblique_geometry()), window((4, 4, 4)))
    with pytest.raises(GeometryError, match=r"the map has shape \(4, 4, 5\)"):
        view.lay(np.zeros((4, 4, 5), dtype=np.float32))


# --- the whole image
# ------------------------------------------------------------------------------


def test_a_whole_picture_of_other_proportions_is_fitted_with_its_border_repeated():
    """20 x 40 pixels into 32 x 32.

    One input pixel is 40 / 32 = 1.25, so the 20 rows take 16 of 32, 8 above and 8 below.
    """
    rows, columns = np.indices((20, 40))
    plan = flat_plan((1, 32, 32))
    tall, view = preprocess_classifier_input(picture(rows), plan)
    assert view.step == (1.0, 1.25, 1.25)
    assert view.start == (0.0, 9.5 - 15.5 * 1.25, 19.5 - 15.5 * 1.25)
    np.testing.assert_allclose(
        tall[0, 0, :, 5], np.clip(-9.875 + 1.25 * np.arange(32), 0, 19), atol=1e-5
    )
    assert abs(tall[0, 0, :8]).max() < 1e-12
    assert tall[0, 0, -8:].min() == 19
    wide, _ = preprocess_classifier_input(picture(columns), plan)
    np.testing.assert_allclose(wide[0, 0, 3], 0.125 + 1.25 * np.arange(32), atol=1e-5)


def test_a_whole_volume_fits_with_its_proportions_in_millimetres():
    """20 x 24 x 20 mm into 8 x 8 x 10 voxels.

    24 mm over 8 is the coarsest, so a voxel is a cube of 3 mm.
    """
    geometry = oblique_geometry((10, 24, 16), spacing=(2.0, 1.0, 1.25))
    _, view = preprocess_classifier_input(in_world(geometry), class_plan(patch=(8, 8, 10)))
    np.testing.assert_allclose(np.array(view.step) * view.turned.spacing, 3.0)
    edges = (
        np.array(view.start) - np.array(view.step) / 2,
        np.array(view.start) + (np.array(view.shape) - 0.5) * view.step,
    )
    assert (edges[0] <= -0.5 + 1e-9).all()
    assert (edges[1] >= np.array(view.turned.shape) - 0.5 - 1e-9).all()


def test_a_volume_is_no_picture():
    image = random_volume(Geometry.from_spacing((5, 12, 12), (4.0, 1.0, 1.0)))
    with pytest.raises(DataError, match=r"a volume of shape \(5, 12, 12\)[\s\S]*a single picture"):
        preprocess_classifier_input(image, flat_plan((1, 12, 12)))


def test_a_larger_size_shows_more_around_the_same_middle():
    image = random_volume(oblique_geometry((12, 14, 10)))
    plan = window((4, 6, 4), (1.1, 0.9, 1.3))
    small, _ = preprocess_classifier_input(image, plan)
    large, _ = preprocess_classifier_input(image, plan, size=(8, 8, 6))
    np.testing.assert_allclose(large[:, 2:6, 1:7, 1:5], small, atol=1e-5)
    whole = changed(class_plan(patch=(6, 6, 6)))
    small, view = preprocess_classifier_input(image, whole)
    large, wider = preprocess_classifier_input(image, whole, size=(8, 10, 6))
    assert view.step == wider.step
    np.testing.assert_allclose(large[:, 1:7, 2:8], small, atol=1e-5)


# --- smoothing
# ------------------------------------------------------------------------------


@FAST
@given(
    steps=st.tuples(*[st.floats(0.5, 4.0)] * 3),
    shift=st.tuples(*[st.floats(-6, 6)] * 3),
    seed=st.integers(0, 9),
)
def test_it_is_scipys_gaussian_and_linear_interpolation(steps, shift, seed):
    """A window anywhere, read from the part of the image that it needs.

    Is the same as read from the whole one.
    """
    shape = (18, 22, 16)
    image = random_volume(Geometry.from_spacing(shape), seed=seed)
    middle = (np.array(shape) - 1) / 2 + np.array(shift)
    point = image.geometry.index_to_world(np.clip(middle, 0, np.array(shape) - 1))
    array, view = preprocess_classifier_input(
        image, window((5, 4, 6), steps, CENTRE), centre_mm=tuple(point)
    )
    sigma = [(step - 1) / 2 if step > 1 else 0.0 for step in view.step]
    smooth = ndimage.gaussian_filter(image.array[0].astype(np.float64), sigma, mode="nearest")
    expected = ndimage.map_coordinates(
        smooth, np.moveaxis(points(view), -1, 0), order=1, mode="nearest"
    )
    np.testing.assert_allclose(array[0], expected, atol=2e-5)


def test_shrinking_keeps_the_mean_and_takes_away_what_is_too_fine():
    rng = np.random.default_rng(1)
    noise = rng.normal(3.0, 1.0, size=(128, 128))
    stripes = np.tile([0.0, 2.0], (128, 64))
    small, _ = preprocess_classifier_input(picture(noise), flat_plan((1, 32, 32)))
    assert small.mean() == pytest.approx(noise.mean(), abs=0.02)
    assert small.std() < 0.35  # every fourth pixel alone would keep a deviation of 1
    even, _ = preprocess_classifier_input(picture(stripes), flat_plan((1, 32, 32)))
    np.testing.assert_allclose(
        even[0, 0, 4:-4, 4:-4], 1.0, atol=0.02
    )  # and these stripes would be all dark or all bright
    np.testing.assert_allclose(
        preprocess_classifier_input(picture(np.full((50, 70), 7.0)), flat_plan((1, 32, 32)))[0],
        7.0,
        rtol=1e-6,
    )


# --- windows
# ------------------------------------------------------------------------------


def test_a_window_around_a_mask_at_the_border_of_a_picture():
    """Mask in rows 0 and 1, columns 6 and 7 of 8 x 8.

    Its middle is (0.5, 6.5), the window rows -1 to 2, columns 5 to 8.
    """
    rows, columns = np.indices((8, 8))
    mask = np.zeros((1, 1, 8, 8), np.uint8)
    mask[0, 0, :2, 6:] = 1
    image = picture(10 * rows + columns)
    plan = flat_plan((1, 4, 4), MASK)
    array, view = preprocess_classifier_input(image, plan, region=Volume(mask, image.geometry))
    assert view.start == (0.0, -1.0, 5.0)
    assert array[0, 0].tolist() == [[5, 6, 7, 7], [5, 6, 7, 7], [15, 16, 17, 17], [25, 26, 27, 27]]
    assert array[1, 0].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    laid = view.lay(np.ones((1, 4, 4), np.float32)).array[0, 0]
    assert laid.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]] * 3 + [[0] * 8] * 5


def test_the_middle_of_a_mask_is_that_of_the_box_around_it():
    """Specks in columns 1, 8 and 9: the middle is 5, wherever most of the mask is."""
    mask = np.zeros((1, 1, 9, 11), np.uint8)
    mask[0, 0, [2, 2, 2, 6], [1, 8, 9, 9]] = 1
    image = picture(np.zeros((9, 11)))
    _, view = preprocess_classifier_input(
        image, flat_plan((1, 3, 3), MASK), region=Volume(mask, image.geometry)
    )
    assert view.start == (0.0, 3.0, 4.0)


@pytest.mark.parametrize("code", ["SPL", "ARI", "LIP"])
def test_a_window_around_a_mask_in_a_volume_however_it_is_stored(code):
    geometry = oblique_geometry((8, 14, 12), spacing=(2.0, 1.0, 1.5))
    mask = np.zeros((1, 8, 14, 12), np.uint8)
    mask[0, 5:8, 2:4, 8:11] = 1
    image, region = (
        reorient(Volume(array, geometry), code) for array in (world_values(geometry)[None], mask)
    )
    array, view = preprocess_classifier_input(
        image, window((10, 6, 6), (1.0, 1.0, 1.0), MASK), region=region
    )
    middle = geometry.index_to_world((6.0, 2.5, 9.0))
    np.testing.assert_allclose(
        view.turned.index_to_world(points(view).mean(axis=(0, 1, 2))), middle, atol=1e-6
    )
    at = points(view)
    inside = ((at >= -0.5) & (at <= np.array(view.turned.shape) - 0.5)).all(axis=-1)
    assert 0 < inside.sum() < inside.size
    assert not array[1][~inside].any()
    assert array[1].max() == 1
    assert array[1].sum() == pytest.approx(
        mask.sum() * 3.0, rel=0.15
    )  # voxels of 3 mm3 each, read at 1 mm3


def test_a_mask_may_say_where_to_look_without_being_seen():
    rng = np.random.default_rng(0)
    image = picture(rng.normal(size=(10, 10)))
    mask = Volume((rng.random((1, 1, 10, 10)) > 0.9).astype(np.uint8), image.geometry)
    array, _ = preprocess_classifier_input(
        image, flat_plan((1, 4, 4), RegionSpec(kind="mask")), region=mask
    )
    assert array.shape == (1, 1, 4, 4)
    whole, _ = preprocess_classifier_input(
        image, flat_plan((1, 10, 10)), region=mask
    )  # a plan that looks at all of it
    assert np.array_equal(whole, image.array)


def test_a_window_around_a_point():
    geometry = oblique_geometry((9, 14, 12))
    image = in_world(geometry)
    for index in ((4.0, 6.0, 5.0), (0.0, 13.0, 11.4), (-0.4, -0.4, -0.4)):
        point = geometry.index_to_world(index)
        _, view = preprocess_classifier_input(
            image, window((3, 5, 4), (1.0, 1.0, 1.0), CENTRE), centre_mm=tuple(point)
        )
        np.testing.assert_allclose(
            view.turned.index_to_world(points(view).mean(axis=(0, 1, 2))), point, atol=1e-6
        )


def test_intensities_are_normalised_over_the_whole_image_before_the_window_is_cut():
    image = random_volume(Geometry.from_spacing((9, 9, 9)), channels=2)
    how = (
        Normalisation(kind="case"),
        Normalisation(kind="ct", lower=-1, upper=1, mean=0.5, std=2.0),
    )
    plan = window((3, 3, 3), channels=("T1", "CT"), normalisation=how)
    before = image.array.copy()
    array, _ = preprocess_classifier_input(image, plan)
    cut = (slice(None), *[slice(3, 6)] * 3)
    first = (image.array[0] - image.array[0].mean()) / image.array[0].std()
    np.testing.assert_allclose(array[0], first[None][cut][0], atol=1e-5)
    np.testing.assert_allclose(
        array[1], (np.clip(image.array[1], -1, 1)[None][cut][0] - 0.5) / 2, atol=1e-6
    )
    assert np.array_equal(image.array, before)


IMAGE = random_volume(Geometry.from_spacing((6, 7, 8)))
EMPTY = Volume(np.zeros((1, 6, 7, 8), np.uint8), IMAGE.geometry)


@pytest.mark.parametrize(
    ("image", "region", "given", "kind", "message"),
    [
        (
            random_volume(IMAGE.geometry, channels=2),
            MIDDLE,
            {},
            DataError,
            r"2 channels[\s\S]*in this order: CT",
        ),
        (IMAGE, MASK, {}, DataError, "no mask of the region to classify"),
        (IMAGE, MASK, {"region": EMPTY}, DataError, "no mask of the region to classify"),
        (IMAGE, CENTRE, {}, DataError, r"no centre point of the region to classify[\s\S]*centre_x"),
        (
            IMAGE,
            CENTRE,
            {"centre_mm": (3.0, 3.0, 5.6)},
            GeometryError,
            r"the point \(3.0, 3.0, 5.6\) mm lies outside",
        ),
        (
            IMAGE.with_array(np.where(IMAGE.array > 2, np.nan, IMAGE.array)),
            MIDDLE,
            {},
            DataError,
            "NaN or infinite",
        ),
    ],
)
def test_what_cannot_be_seen_is_refused(image, region, given, kind, message):
    with pytest.raises(kind, match=message):
        preprocess_classifier_input(image, window((3, 3, 3), region=region), **given)


# --- the store
# ------------------------------------------------------------------------------


@pytest.fixture
def cubes(tmp_path):
    return open_dataset(write_cubes(tmp_path / "cubes", cases=4), task="classification")


@pytest.fixture
def worked(monkeypatch):
    """Ids of the cases that were really preprocessed."""
    done = []
    work = classifier_store.preprocess_classifier_input
    monkeypatch.setattr(
        classifier_store,
        "preprocess_classifier_input",
        lambda *args, **more: (done.append(1), work(*args, **more))[1],
    )
    return done


def test_stored_inputs_are_those_of_the_cases_in_half_precision(cubes, tmp_path):
    from hilum.dataset import read_case
    from hilum.dataset.reading import read_region

    plan = window((6, 6, 6), region=MASK)
    store = build_classifier_store(
        cubes, plan, tmp_path / "store", ["cube_01", "cube_02"], size=(8, 8, 8)
    )
    case = cubes["cube_02"]
    expected, _ = preprocess_classifier_input(
        read_case(case), plan, region=read_region(case), size=(8, 8, 8)
    )
    stored = store.read("cube_02")
    assert stored.dtype == np.float16
    np.testing.assert_allclose(stored, expected, atol=2e-3)
    assert sorted(path.name for path in store.folder.iterdir()) == [
        *("cube_01.json", "cube_01.npy", "cube_02.json", "cube_02.npy")
    ]


def test_the_store_keeps_what_is_there_and_renews_what_changed(cubes, tmp_path, worked):
    ids, plan = [case.id for case in cubes.cases], window((4, 4, 4), region=CENTRE)

    def build(dataset=cubes, plan=plan, size=(4, 4, 4)):
        worked.clear()
        build_classifier_store(dataset, plan, tmp_path / "store", ids, size=size)
        return len(worked)

    assert build() == 4
    assert build() == 0
    assert build(plan=changed(plan, batch=2, steps=7)) == 0  # what an input does not depend on
    assert build(size=(6, 6, 6)) == 4
    assert build() == 4
    moved = tuple(
        replace(case, centre_mm=tuple(x + 1 for x in case.centre_mm)) for case in cubes.cases[:1]
    )
    assert build(replace(cubes, cases=(*moved, *cubes.cases[1:]))) == 1
    assert build() == 1
    file = cubes.cases[2].images[cubes.channels[0]]
    write_volume(read_volume(file).with_array(read_volume(file).array + 1), file)
    assert build() == 1
    (tmp_path / "store" / f"{ids[1]}.json").unlink()  # killed before the record was written
    assert build() == 1
    assert build(plan=window((4, 4, 4), region=MASK)) == 4


def test_what_an_input_depends_on_is_in_its_key():
    plan = window((4, 4, 4))
    unit = Normalisation(kind="unit", upper=2.0)
    changes = {
        "orientation": "RAS",
        "spacing": (1.0, 1.0, 1.1),
        "patch": (4, 4, 6),
        "normalisation": (unit,),
        "region": RegionSpec(kind="mask"),
    }
    keys = {classifier_input_hash(plan, (4, 4, 4)), classifier_input_hash(plan, (6, 6, 6))}
    keys |= {
        classifier_input_hash(changed(plan, **{name: value}), (4, 4, 4))
        for name, value in changes.items()
    }
    keys.add(
        classifier_input_hash(
            plan.model_copy(update={"dimensions": Decision(value=2, because="the test says so")}),
            (4, 4, 4),
        )
    )
    assert len(keys) == 8
    assert classifier_input_hash(changed(plan, batch=9, coverage=0.8), (4, 4, 4)) in keys


def test_values_too_large_for_half_precision_are_clipped(tmp_path):
    store = classifier_store.ClassifierStore(tmp_path)
    store.write("a", np.array([[[[1e6, -1e9, 0.5]]]], np.float32), key="k")
    assert store.read("a").tolist() == [[[[65504.0, -65504.0, 0.5]]]]
    assert store.has("a", key="k")
    assert not store.has("a", key="other")
    assert not store.has("b", key="k")


def test_the_case_that_cannot_be_used_is_named(cubes, tmp_path):
    bare = replace(
        cubes, cases=(*cubes.cases[:2], replace(cubes.cases[2], region=None), cubes.cases[3])
    )
    with pytest.raises(DataError, match="cube_02"):
        build_classifier_store(
            bare,
            window((4, 4, 4), region=MASK),
            tmp_path,
            [case.id for case in cubes.cases],
            size=(4, 4, 4),
        )
    with pytest.raises(UsageError, match="no annotated case 'cube_9'"):
        build_classifier_store(cubes, window((4, 4, 4)), tmp_path, ["cube_9"], size=(4, 4, 4))
