"""To the network's grid and back: exact where nothing is resampled, for every orientation."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from restored import restore_probabilities
from scipy import ndimage

from hilum.errors import DataError, GeometryError, ResourceError
from hilum.plan import Overrides, make_plan
from hilum.plan.case_facts import measure_case
from hilum.plan.fingerprint import summarise
from hilum.plan.plan import Decision, Normalisation
from hilum.preprocess import (
    Restore,
    preprocess_case,
    preprocess_labels,
    preprocessing_hash,
    restore_logits_to_labels,
)
from hilum.volume import Geometry, LabelTable, Volume, reorient

TABLE = LabelTable.from_names({1: "organ", 2: "tumour"})
SHAPE = (11, 17, 23)
SPACING = (2.5, 0.9, 0.7)
CODES = sorted(
    {
        "".join(p)
        for axes in itertools.permutations(("SI", "PA", "LR"))
        for p in itertools.product(*axes)
    }
)


def oblique(degrees=12.0):
    a, b = np.deg2rad(degrees), np.deg2rad(degrees / 3)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_z @ about_x @ np.eye(3)[:, ::-1]


def make_case(*, empty_border=True):
    geometry = Geometry.from_spacing(
        SHAPE, SPACING, origin=(-31.0, 55.5, 1200.25), directions=oblique()
    )
    array = np.random.default_rng(4).uniform(1, 900, (1, *SHAPE)).astype(np.float32)
    if empty_border:
        array[:, :3] = 0
        array[:, :, -4:] = 0
        array[:, :, :, :5] = 0
    labels = np.zeros((1, *SHAPE), dtype=np.uint8)
    labels[:, 4:8, 2:9, 7:20] = 1
    labels[:, 5:7, 4:6, 9:12] = 2
    return Volume(array, geometry), Volume(labels, geometry)


@pytest.fixture(scope="module")
def plan():
    image, labels = make_case()
    fingerprint = summarise(
        "toy", ("T1",), TABLE, [measure_case("a", image, labels, table=TABLE, channels=("T1",))]
    )
    return make_plan(fingerprint, overrides=Overrides(dimensions=3))


def changed(plan, **values):
    return plan.model_copy(
        update={
            name: Decision(value=value, because="for the test") for name, value in values.items()
        }
    )


def one_hot(labels):
    return np.stack([labels == i for i in TABLE.ids]).astype(np.float32)


def decode(logits):
    return logits.argmax(axis=0).astype(np.uint8)


def test_48_orientations_are_48():
    assert len(CODES) == 48


@pytest.mark.parametrize("code", CODES)
def test_identity_is_exact_in_every_orientation(plan, code):
    assert plan.crop.value == "nonzero"
    image, labels = (reorient(volume, code) for volume in make_case())
    array, restore = preprocess_case(image, plan)
    target = preprocess_labels(labels, restore)
    assert array.shape[1:] == target.shape == restore.shape == (8, 13, 18)
    back = restore.labels(target)
    assert back == Volume(np.ascontiguousarray(labels.array), labels.geometry)
    assert restore_logits_to_labels(one_hot(target), decode, restore) == back
    same = reorient(image, "SPL").array[(slice(None), *restore.box.slices)]
    assert restore.array(np.ascontiguousarray(same)) == Volume(
        np.ascontiguousarray(image.array), image.geometry
    )
    assert Restore.from_json(restore.to_json()) == restore


@pytest.mark.parametrize("code", ["SPL", "RAS", "LSA", "IRP"])
def test_every_road_gives_the_same_bytes(plan, code):
    plan = changed(plan, spacing=(1.7, 1.1, 1.3))
    image, labels = make_case()
    array, restore = preprocess_case(image, plan)
    other, other_restore = preprocess_case(reorient(image, code), plan)
    assert array.tobytes() == other.tobytes()
    target = preprocess_labels(labels, restore)
    assert target.tobytes() == preprocess_labels(reorient(labels, code), other_restore).tobytes()


def test_input_is_left_alone_and_the_same_bytes_come_again(plan):
    image, _ = make_case()
    before = image.array.copy()
    first, _ = preprocess_case(image, plan)
    second, _ = preprocess_case(image, plan)
    assert np.array_equal(image.array, before)
    assert first.tobytes() == second.tobytes()
    assert first.dtype == np.float32
    assert first.flags.c_contiguous


def test_network_grid_lies_where_the_image_lies(plan):
    image, _ = make_case()
    array, restore = preprocess_case(image, changed(plan, spacing=(1.25, 1.8, 0.7)))
    assert restore.shape == array.shape[1:] == (16, 6, 18)
    geometry = restore.geometry
    assert geometry.spacing == pytest.approx((1.25, 13 * 0.9 / 6, 0.7), rel=1e-3)
    corner = np.array(restore.box.start) - 0.5
    assert geometry.index_to_world((-0.5, -0.5, -0.5)) == pytest.approx(
        image.geometry.index_to_world(corner)
    )


@settings(max_examples=15, deadline=None, derandomize=True)
@given(spacing=st.tuples(st.floats(1.0, 6.0), st.floats(0.4, 2.0), st.floats(0.4, 2.0)))
def test_the_way_back_is_scipys(plan, spacing):
    image, _ = make_case()
    _, restore = preprocess_case(image, changed(plan, spacing=spacing))
    logits = np.random.default_rng(0).normal(size=(3, *restore.shape)).astype(np.float32)
    inside = reorient(restore.array(logits), "SPL").array[(slice(None), *restore.box.slices)]
    zoom = [n / m for n, m in zip(restore.box.shape, restore.shape, strict=True)]
    oracle = np.stack(
        [ndimage.zoom(one, zoom, order=1, mode="nearest", grid_mode=True) for one in logits]
    )
    np.testing.assert_allclose(inside, oracle, atol=2e-5)


def test_probabilities_and_what_lies_outside(plan):
    image, _ = make_case()
    _, restore = preprocess_case(image, changed(plan, spacing=(2.0, 1.0, 1.0)))
    logits = np.random.default_rng(0).normal(size=(3, *restore.shape)).astype(np.float32)

    def softmax(values):
        e = np.exp(values)
        return e / e.sum(axis=0)

    volume = restore_probabilities(logits, softmax, restore, outside=(1.0, 0.0, 0.0))
    assert volume.geometry == image.geometry
    np.testing.assert_allclose(volume.array.sum(axis=0), 1.0, atol=1e-5)
    assert volume.array[:, 0, 0, 0].tolist() == [1.0, 0.0, 0.0]
    with pytest.raises(
        GeometryError, match="2 probabilities were given for what lies outside the box"
    ):
        restore_probabilities(logits, softmax, restore, outside=(1.0, 0.0))
    with pytest.raises(GeometryError, match="rows of logits were given, not all"):
        restore_probabilities(logits[:, 1:], softmax, restore, outside=(1.0, 0.0, 0.0))


def test_resampled_labels_come_back_nearly(plan):
    image, labels = make_case()
    _, restore = preprocess_case(image, changed(plan, spacing=(1.25, 0.45, 0.35)))
    back = restore.labels(preprocess_labels(labels, restore))
    assert back == labels  # twice as fine and back loses nothing


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (
            Normalisation(kind="ct", lower=-100, upper=300, mean=50, std=25),
            lambda a: (np.clip(a, -100, 300) - 50) / 25,
        ),
        (Normalisation(kind="unit", upper=255), lambda a: a / 255),
        (Normalisation(kind="case"), lambda a: (a - a.mean()) / a.std()),
        (
            Normalisation(kind="case_nonzero"),
            lambda a: np.where(a == 0, 0, (a - a[a != 0].mean()) / a[a != 0].std()),
        ),
    ],
)
def test_normalisation_against_its_definition(plan, how, expected):
    image, _ = make_case()
    array, _ = preprocess_case(image, changed(plan, normalisation=(how,), crop="none"))
    np.testing.assert_allclose(
        array, expected(image.array.astype(np.float64)), rtol=1e-4, atol=1e-4
    )


def test_an_image_without_contrast_becomes_zeros(plan):
    image, labels = make_case()
    for kind in ("case", "case_nonzero"):
        for value in (0.0, 7.0):
            flat = image.with_array(np.full_like(image.array, value))
            array, restore = preprocess_case(
                flat, changed(plan, normalisation=(Normalisation(kind=kind),))
            )
            assert not array.any()
            assert restore.shape == SHAPE
            assert preprocess_labels(labels, restore).shape == SHAPE


def test_integers_and_2d(plan):
    image, _ = make_case()
    array, _ = preprocess_case(image.with_array(image.array.astype(np.int16)), plan)
    assert array.dtype == np.float32
    flat = changed(plan, dimensions=2, spacing=(99.0, 1.8, 1.4), crop="none")
    assert preprocess_case(image, flat)[0].shape == (1, 11, 8, 12)  # a 2D plan keeps every slice


def test_pictures_stay_as_they_are_stored(plan):
    flat = changed(plan, dimensions=2, orientation="source", spacing=None, crop="none")
    geometry = Geometry.from_spacing((1, 30, 20), (1.0, 0.5, 0.4), directions=np.eye(3))
    image = Volume(
        np.random.default_rng(0).normal(size=(1, 1, 30, 20)).astype(np.float32), geometry
    )
    labels = Volume((image.array > 0).astype(np.uint8), geometry)
    array, restore = preprocess_case(image, flat)
    assert array.shape == (1, 1, 30, 20)
    assert restore.geometry == geometry
    assert restore.labels(preprocess_labels(labels, restore)) == labels
    assert Restore.from_json(restore.to_json()) == restore


def test_spacings_within_a_percent_are_not_resampled(plan):
    image, _ = make_case()
    near = tuple(s * 1.008 for s in SPACING)
    array, restore = preprocess_case(image, changed(plan, spacing=near, crop="none"))
    assert not restore.resampled
    assert array.shape[1:] == SHAPE
    assert preprocess_case(image, changed(plan, spacing=(2.5, 0.9, 0.7 * 1.06), crop="none"))[
        1
    ].shape == (11, 17, 22)


def test_errors(plan):
    image, labels = make_case()
    with pytest.raises(DataError, match="2 channels"):
        preprocess_case(image.with_array(np.repeat(image.array, 2, axis=0)), plan)
    broken = image.array.copy()
    broken[0, 5, 5, 9] = np.nan
    with pytest.raises(DataError, match="NaN or infinite"):
        preprocess_case(image.with_array(broken), plan)
    _, restore = preprocess_case(image, plan)
    with pytest.raises(GeometryError, match="does not lie on its image's grid"):
        preprocess_labels(Volume(labels.array, Geometry.from_spacing(SHAPE, SPACING)), restore)
    with pytest.raises(GeometryError, match="to restore"):
        restore.labels(np.zeros((1, 2, 3), dtype=np.uint8))
    with pytest.raises(GeometryError, match="to restore has shape"):
        restore_logits_to_labels(np.zeros((3, 1, 2, 3), dtype=np.float32), decode, restore)


@pytest.mark.parametrize("spacing", [1e9, 1e4])
def test_a_grid_beyond_the_memory_is_refused(plan, spacing):
    fine = plan.model_copy(update={"spacing": Decision(value=(1e-2, 1e-2, 1e-2), because="fine")})
    image = Volume(
        np.zeros((1, 4, 5, 6), np.int16), Geometry.from_spacing((4, 5, 6), (spacing,) * 3)
    )
    with pytest.raises(
        ResourceError,
        match=r"4 x 5 x 6 voxels of .* mm has .* voxels at the plan's spacing, .* GiB",
    ):
        preprocess_case(image, fine)


def test_hash_tells_what_changes_the_bytes(plan):
    assert preprocessing_hash(plan) == preprocessing_hash(changed(plan, batch=7, steps=3))
    for name, value in {
        "spacing": (2.0, 2.0, 2.0),
        "crop": "none",
        "image_order": 1,
        "orientation": "RAS",
        "normalisation": (Normalisation(kind="unit", upper=2.0),),
    }.items():
        assert preprocessing_hash(plan) != preprocessing_hash(changed(plan, **{name: value}))
