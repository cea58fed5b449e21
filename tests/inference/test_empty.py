"""Air is found by a written rule, and left out only where the model answers background to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.inference import Predictor
from hilum.inference.empty import air_of, body_box, constant_of
from hilum.plan.plan import Normalisation
from hilum.volume import Geometry, Volume
from inference_toys import TABLE, make_model

CT = Normalisation(kind="ct", lower=-100.0, upper=300.0, mean=50.0, std=100.0)
IDS = np.array(TABLE.ids)


class Tissue(torch.nn.Module):
    """Liver above 100 HU, tumour above 200 HU; counts its patches.

    `bias` is what it says to air for the liver.
    """

    def __init__(self, bias=0.0):
        super().__init__()
        self.bias, self.patches = bias, 0

    def forward(self, x):
        self.patches += len(x)
        hu = x * CT.std + CT.mean
        return torch.cat(
            [torch.full_like(x, 1.0), 2.0 * (hu > 100) + self.bias, 4.0 * (hu > 200)], dim=1
        )


def study(shape=(12, 60, 60), *, spacing=(2.0, 2.0, 2.0)):
    array = np.full(shape, -1000, np.int16)
    array[2:10, 20:36, 24:40] = 40
    array[4:8, 24:32, 28:36] = 150
    array[5:7, 26:30, 30:34] = 250
    return Volume(array[None], Geometry.from_spacing(shape, spacing))


def labels_of(volume):
    return IDS[(volume.array > 100).astype(int) + (volume.array > 200)]


def predictor(network, **options):
    model = make_model(networks=(network,), normalisation=(CT,), patch=(4, 8, 8), overlap=0.5)
    return Predictor(model, engine="torch", precision="float32", **options)


def test_air_around_the_body_is_not_run_and_the_answer_is_the_same():
    image, network = study(), Tissue()
    sparing = predictor(network)
    prepared = sparing.prepare(image)
    answer = sparing.predict_prepared(prepared)
    assert np.array_equal(answer.labels.array, labels_of(image))
    assert answer.patches["outside"] > 500
    assert network.patches == answer.patches["run"] + 1  # air itself, once
    everything = Tissue()
    full = predictor(everything, every_patch=True).predict(image)
    assert np.array_equal(full.labels.array, answer.labels.array)
    assert full.patches == {"run": everything.patches, "constant": 0, "outside": 0}
    assert sum(answer.patches.values()) == everything.patches
    sparing.predict(image)
    assert (
        network.patches == 2 * answer.patches["run"] + 1
    )  # air is asked about once a model, not once a case


def test_a_model_that_sees_something_in_air_sees_every_patch():
    image, network = study(), Tissue(bias=3.0)
    answer = predictor(network).predict(image)
    assert answer.patches["outside"] == 0
    assert (answer.labels.array == 2).all()
    assert answer.patches["constant"] > 0  # air that is one constant is still run only once


def test_nothing_but_air_is_background_and_its_probabilities_say_so():
    shape = (12, 60, 60)
    image = Volume(
        np.full((1, *shape), -1000, np.int16), Geometry.from_spacing(shape, (2.0, 2.0, 2.0))
    )
    network = Tissue()
    answer = predictor(network).predict(image, probabilities=True)
    assert not answer.labels.array.any()
    assert network.patches == 1
    expected = torch.softmax(torch.tensor([1.0, 0.0, 0.0]), 0).numpy()
    assert np.allclose(answer.probabilities.array, expected[:, None, None, None], atol=1e-6)


def test_probabilities_beside_the_body_are_those_of_air():
    image = study()
    sparing, full = (
        predictor(Tissue(), every_patch=every).predict(image, probabilities=True)
        for every in (False, True)
    )
    np.testing.assert_allclose(sparing.probabilities.array, full.probabilities.array, atol=1e-6)


@pytest.mark.parametrize("spacing", [(0.05, 0.05, 0.05), (0.7, 0.6, 0.6), (2.0, 2.0, 2.0)])
def test_no_target_is_lost_however_small(spacing):
    """Micro-CT, a crop around a nodule, a metastasis far from the body: few cubic millimetres."""
    shape = (16, 60, 60)
    array = np.full(shape, -1000, np.int16)
    array[6:10, 26:36, 28:38] = 250  # 400 voxels: 0.00005 ml, 0.1 ml, 3.2 ml
    array[13, 50, 3] = 150  # and one voxel, alone
    image, network = Volume(array[None], Geometry.from_spacing(shape, spacing)), Tissue()
    answer = predictor(network).predict(image)
    assert np.array_equal(answer.labels.array, labels_of(image))
    assert answer.patches["outside"] > 200
    assert network.patches < 300


def test_a_target_of_a_fifth_of_a_millilitre_alone_is_found():
    shape = (40, 40, 40)
    array = np.full(shape, -1000, np.int16)
    array[17:23, 17:23, 17:23] = 250  # 216 mm3
    image = Volume(array[None], Geometry.from_spacing(shape, (1.0, 1.0, 1.0)))
    answer = predictor(Tissue()).predict(image)
    assert (answer.labels.array == IDS[2]).sum() == 216
    assert answer.patches["outside"] > answer.patches["run"]


def test_air_between_body_and_table_is_not_run():
    """A table and a speck in a corner make the box the whole.

    What is wholly air within it is still left out.
    """
    rng = np.random.default_rng(0)
    array = rng.integers(-100, -97, (12, 60, 60)).astype(
        np.int16
    )  # above the clip, within 1 % of the window
    array[2:10, 20:36, 24:40] = 250
    array[:, 58:, :] = 120
    array[0, 0, 0] = 40
    image, network = (
        Volume(array[None], Geometry.from_spacing(array.shape, (2.0, 2.0, 2.0))),
        Tissue(),
    )
    answer = predictor(network).predict(image)
    assert np.array_equal(answer.labels.array, labels_of(image))
    assert answer.patches["outside"] > answer.patches["run"]
    assert network.patches == answer.patches["run"] + 1
    assert (
        sum(answer.patches.values())
        == predictor(Tissue(), every_patch=True).predict(image).patches["run"]
    )


def test_an_answer_does_not_depend_on_the_cases_before_it():
    """The box saves one patch of the first image, which is not worth asking the model about air.

    Nor is it after another case.
    """

    class Leaning(Tissue):
        def forward(self, x):
            return super().forward(x) + torch.linspace(
                -0.4, 0.4, x.shape[-1]
            )  # where a window lies matters

    first = np.full((4, 8, 16), -98, np.int16)
    first[:, :, 5] = 60
    first = Volume(first[None], Geometry.from_spacing(first.shape, (4.0, 4.0, 4.0)))
    alone = predictor(Leaning()).predict(first, probabilities=True)
    used = predictor(Leaning())
    used.predict(study())
    after = used.predict(first, probabilities=True)
    assert alone.patches == after.patches
    assert np.array_equal(alone.labels.array, after.labels.array)
    assert np.array_equal(alone.probabilities.array, after.probabilities.array)


@given(
    start=st.tuples(st.integers(0, 6), st.integers(0, 20), st.integers(0, 20)),
    size=st.tuples(st.integers(1, 5), st.integers(1, 17), st.integers(1, 17)),
)
@settings(deadline=None, max_examples=50, derandomize=True)
def test_the_box_holds_every_voxel_that_counts(start, size):
    array = np.zeros((2, 11, 37, 37), np.float32)
    part = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
    array[(1, *part)] = 1
    assert body_box(array, [0.5, 0.5]) == part
    assert body_box(array, [0.5, 1.5]) is None


def test_only_a_window_of_ct_tells_what_air_is():
    plan = make_model(normalisation=(CT,)).plan
    assert air_of(plan) == ((CT.lower - CT.mean) / CT.std,)
    assert air_of(make_model(normalisation=(Normalisation(kind="case"),)).plan) is None
    assert (
        air_of(
            make_model(channels=("CT", "PET"), normalisation=(CT, Normalisation(kind="case"))).plan
        )
        is None
    )


def test_one_constant_a_channel():
    patch = np.full((2, 4, 5, 6), 3, np.float32)
    patch[1] = -1
    assert constant_of(patch) == (3.0, -1.0)
    patch[1, 2, 3, 1] = np.nextafter(np.float32(-1), np.float32(0))
    assert constant_of(patch) is None


@pytest.mark.parametrize("shape", [(3, 60, 60), (12, 5, 60)])
def test_images_smaller_than_a_patch_are_whole_along_that_axis(shape):
    array = np.full(shape, -1000, np.int16)
    array[:, 1:4, 30:50] = 250
    image = Volume(array[None], Geometry.from_spacing(shape, (4.0, 4.0, 4.0)))
    answer = predictor(Tissue()).predict(image)
    assert np.array_equal(answer.labels.array, labels_of(image))
    assert answer.patches["outside"] > 0
