"""One case from volume to answer: exact where nothing is resampled, on the source's grid always."""

from __future__ import annotations

import logging
import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.dataset.case import Case
from hilum.engines.memory import Budget, resident
from hilum.errors import DataError, ResourceError, UsageError
from hilum.inference import Predictor, TrainedModel
from hilum.inference.memory_plan import MemoryPlanner, Size
from hilum.io import write_volume
from hilum.plan.plan import Normalisation
from hilum.preprocess import preprocess_case
from hilum.volume import Geometry, Volume
from inference_toys import (
    REGIONS,
    SIGNED_AXES,
    TABLE,
    OneHot,
    index_volume,
    make_model,
    oblique_geometry,
    real_model,
)

IDS = np.array(TABLE.ids)


def as_ids(volume):
    return IDS[volume.array.astype(int)]


multiples = st.tuples(
    st.integers(1, 6),
    st.integers(1, 5).map(lambda n: 2 * n),
    st.integers(1, 4).map(lambda n: 2 * n),
)
grids = st.builds(
    oblique_geometry,
    st.tuples(st.integers(1, 9), st.integers(1, 13), st.integers(1, 11)),
    axes=st.sampled_from(SIGNED_AXES),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    degrees=st.floats(-20, 20),
)
plans = st.fixed_dictionaries(
    {
        "overlap": st.floats(0, 0.9),
        "patch": multiples,
        "crop": st.sampled_from(["none", "nonzero"]),
        "orientation": st.sampled_from(["SPL", "source", "RIA"]),
    }
)


@given(geometry=grids, plan=plans, tta=st.booleans())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_identity_network_gives_the_labels_back_exactly(geometry, plan, tta):
    image = index_volume(geometry)
    prediction = Predictor(make_model(**plan), tta=tta, engine="torch").predict(
        image
    )  # no compiling in each example
    assert prediction.labels.geometry == image.geometry
    assert np.array_equal(prediction.labels.array, as_ids(image))


@pytest.mark.parametrize("axes", SIGNED_AXES)
def test_each_of_48_orientations_gives_the_same_answer_in_space(axes):
    """The same patient stored along other axes gets the same label at the same millimetres."""
    image = index_volume(oblique_geometry())
    order, signs = axes
    turned = image.array[0].transpose(order)[tuple(slice(None, None, s) for s in signs)][None]
    steps = image.geometry.affine[:3, :3][:, list(order)] * np.array(signs)
    corner = np.zeros(3)
    for axis, sign in zip(order, signs, strict=True):
        corner[axis] = 0 if sign > 0 else image.geometry.shape[axis] - 1
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps, image.geometry.index_to_world(corner)
    other = Volume(np.ascontiguousarray(turned), type(image.geometry)(turned.shape[1:], affine))

    predictor = Predictor(real_model())
    straight, back = predictor.predict(image).labels, predictor.predict(other).labels
    assert back.geometry == other.geometry
    expected = straight.array[0].transpose(order)[tuple(slice(None, None, s) for s in signs)]
    assert np.array_equal(back.array[0], expected)
    assert len(np.unique(expected)) > 1


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.5, 2.0)])
def test_other_spacing_inside_gives_blocks_back_on_the_source_grid(spacing):
    geometry = oblique_geometry((12, 40, 30))
    array = np.zeros((1, *geometry.shape), np.float32)
    array[0, 3:9, 10:30, 4:20] = 1
    image = Volume(array, geometry)
    labels = Predictor(make_model(spacing=spacing, image_order=0)).predict(image).labels
    assert labels.geometry == geometry
    assert np.array_equal(labels.array[0, 5:7, 14:26, 8:16], np.full((2, 12, 8), 2))
    assert (labels.array != as_ids(image)).mean() < 0.06


def test_labels_have_the_smallest_dtype_that_holds_every_id():
    image = index_volume()
    assert Predictor(make_model()).predict(image).labels.array.dtype == np.uint16  # ids up to 300
    small = TABLE.from_names({1: "a", 2: "b"})
    assert Predictor(make_model(labels=small)).predict(image).labels.array.dtype == np.uint8


def test_regions_are_decoded_in_their_order():
    image = index_volume()

    class Regions(torch.nn.Module):
        def forward(self, x):
            return torch.cat([(x >= 1).float() * 8 - 4, (x == 2).float() * 8 - 4], dim=1)

    prediction = Predictor(make_model(networks=(Regions(),), labels=REGIONS)).predict(
        image, probabilities=True
    )
    assert np.array_equal(prediction.labels.array, as_ids(image))
    assert prediction.probabilities.channels == 2
    inside = image.array[0] == 2
    assert prediction.probabilities.array[:, inside].min() > 0.9


def test_probabilities_lie_on_the_source_grid_and_add_up_to_one():
    image = index_volume()
    image = image.with_array(
        np.pad(image.array, ((0, 0), (2, 0), (0, 3), (1, 0)))[:, :9, :13, :11].copy()
    )
    prediction = Predictor(real_model(crop="nonzero", spacing=(2.0, 1.0, 1.0))).predict(
        image, probabilities=True
    )
    assert prediction.probabilities.geometry == image.geometry
    assert prediction.probabilities.array.dtype == np.float32
    np.testing.assert_allclose(prediction.probabilities.array.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(
        prediction.probabilities.array[0, 0], np.ones((13, 11))
    )  # cropped away: background for certain
    winner = IDS[prediction.probabilities.array.argmax(axis=0)]
    assert (winner == prediction.labels.array[0]).mean() > 0.999
    assert Predictor(real_model()).predict(image).probabilities is None


def test_ensemble_is_the_mean_of_its_members_logits():
    image = index_volume()
    model = real_model(members=3)
    singles = [
        TrainedModel(plan=model.plan, networks=(one,), device=model.device)
        for one in model.networks
    ]
    array = Predictor(model).prepare(image).array
    mean = sum(Predictor(one).logits(array) for one in singles) / 3
    np.testing.assert_allclose(Predictor(model).logits(array), mean, atol=1e-5, rtol=1e-5)


def test_mirrors_only_on_request_and_only_where_the_plan_allows():
    image = index_volume(oblique_geometry((9, 12, 11)))  # along Y the windows lie symmetrically
    model = real_model()
    plain, mirrored = Predictor(model), Predictor(model, tta=True)
    assert (plain.mirror_axes, mirrored.mirror_axes) == ((), (1, 2))
    array = plain.prepare(image).array
    assert not np.array_equal(plain.logits(array), mirrored.logits(array))
    flipped = mirrored.logits(np.ascontiguousarray(array[:, :, ::-1]))
    np.testing.assert_allclose(
        np.flip(flipped, 2), mirrored.logits(array), atol=1e-5, rtol=1e-4
    )  # symmetric by construction


def test_networks_are_evaluated_and_given_back_as_they_were():
    network = OneHot().train()
    Predictor(make_model(networks=(network,)), batch=2, engine="torch").predict(index_volume())
    assert network.training
    assert {training for training, _ in network.seen} == {False}
    assert max(batch for _, batch in network.seen) == 2


def test_source_may_be_a_path_a_case_or_one_file_a_channel(tmp_path):
    image = index_volume()
    path = tmp_path / "study_7_0000.nii.gz"
    write_volume(image, path)
    predictor = Predictor(make_model())
    case = Case(id="study_7", patient=None, images={"CT": path})
    answers = [predictor.predict(source) for source in (path, str(path), case, {"CT": path})]
    assert [answer.case for answer in answers] == ["study_7"] * 4
    for answer in answers:
        assert np.array_equal(answer.labels.array, as_ids(image))
        assert answer.labels.geometry.is_close(image.geometry)
        assert answer.seconds.network > 0
        assert answer.seconds.total >= answer.seconds.network
    assert predictor.predict(image).case == "case"
    assert predictor.predict(image, case="liver 3").case == "liver 3"


def test_two_channels_in_their_order():
    image = index_volume()
    both = image.with_array(np.concatenate([np.full_like(image.array, 9), image.array]))

    class Second(OneHot):
        def forward(self, x):
            return super().forward(x[:, 1:])

    model = make_model(networks=(Second(),), channels=("PET", "CT"))
    assert np.array_equal(Predictor(model).predict(both).labels.array, as_ids(image))
    with pytest.raises(
        DataError, match=r"case: an image with 1 channel for a model of 2"
    ) as caught:
        Predictor(model).predict(image)
    assert "PET, CT" in str(caught.value)


def test_images_that_exceed_the_memory_are_refused(tmp_path, monkeypatch):
    size = Size(patches=1, bytes=2**30)
    monkeypatch.setattr(MemoryPlanner, "size", lambda *_, **__: size)
    write_volume(index_volume(), tmp_path / "a.nii.gz")
    for source in (index_volume(), tmp_path / "a.nii.gz"):
        predictor = Predictor(make_model(), memory="40GB")
        budget = Budget(resident() + 2**20, given=True)
        predictor._memory = replace(predictor._memory, budget=budget)
        with pytest.raises(
            ResourceError,
            match=r"(?s)its images take 1\.00 GiB .* that are allowed.*crop the image",
        ):
            predictor.predict(source)


def test_a_process_that_is_itself_larger_than_the_memory_says_so():
    with pytest.raises(
        ResourceError,
        match=r"hilum and the model alone hold \d\.\d\d GiB, which is more than the 0\.00",
    ) as caught:
        Predictor(make_model(), memory=2_000_000).predict(index_volume())
    assert "crop the image" not in str(caught.value)
    assert re.search(
        r"at least \d\.\d GiB, of which the images take 0\.00 GiB\n.*memory='\d\.\dGiB'",
        str(caught.value),
    )


@pytest.mark.parametrize("kind", ["unit", "range", "case", "case_nonzero", "case_filled"])
def test_preprocessing_takes_no_more_than_was_said(kind):
    shape = (40, 96, 96)
    array = np.random.default_rng(0).integers(1, 900, shape).astype(np.int16)
    array[:, :20] = 0
    image = Volume(array[None], Geometry.from_spacing(shape, (1.0, 1.0, 1.0)))
    predictor = Predictor(
        make_model(normalisation=(Normalisation(kind=kind, upper=900.0),), spacing=(1.0, 1.1, 1.1))
    )
    said = predictor._memory.size(image.geometry, stored=0).bytes
    preprocess_case(image, predictor.model.plan)  # what is loaded once
    tracemalloc.start()
    preprocess_case(image, predictor.model.plan)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= said


def test_device_out_of_memory_halves_the_batch_and_says_so(caplog):
    class Greedy(OneHot):
        limit = 1

        def forward(self, x):
            if len(x) > self.limit:
                raise torch.OutOfMemoryError
            return super().forward(x)

    network = Greedy()
    with caplog.at_level(logging.WARNING, "hilum"):
        prediction = Predictor(make_model(networks=(network,)), batch=4, engine="torch").predict(
            index_volume()
        )
    assert np.array_equal(prediction.labels.array, as_ids(index_volume()))
    assert "ran out of memory with 4 patches" in caplog.text
    network.limit = 0
    with pytest.raises(ResourceError, match="not enough memory for one patch"):
        Predictor(make_model(networks=(network,)), engine="torch").predict(index_volume())


def test_model_without_a_network_is_refused():
    with pytest.raises(UsageError, match="the model has no network"):
        TrainedModel(plan=make_model().plan, networks=(), device=torch.device("cpu"))


def test_prediction_is_repeatable_bit_for_bit():
    image = index_volume()
    first, second = (
        Predictor(real_model(precision="bfloat16")).predict(image, probabilities=True)
        for _ in range(2)
    )
    assert np.array_equal(first.probabilities.array, second.probabilities.array)


def test_model_predicts_one_case_by_itself(tmp_path):
    image = index_volume()
    write_volume(image, tmp_path / "a.nii.gz")
    answer = make_model().predict(tmp_path / "a.nii.gz", probabilities=True)
    assert answer.case == "a"
    assert np.array_equal(answer.labels.array, as_ids(image))
    assert answer.probabilities is not None
