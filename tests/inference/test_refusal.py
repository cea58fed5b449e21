"""Refusal of images unlike the training cases: how often at most, how surely, and in files."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from hilum.errors import DataError, ModelError, UsageError
from hilum.inference import refusal as module
from hilum.inference.refusal import (
    INTENSITY_STATISTICS,
    Refusal,
    combine,
    fit_refusal,
    intensity_features,
)


def cloud(count, features=60, *, seed=0, kind=0):
    """Features of one kind of image: few directions vary, as a network's do.

    Another kind lies off them.
    """
    shared = np.random.default_rng(99)
    mixing = shared.normal(size=(8, features))
    shift = shared.normal(size=(5, features))[kind] * (1.5 if kind else 0.0)
    rng = np.random.default_rng((seed, kind))
    return (
        rng.normal(size=(count, 8)) @ mixing + rng.normal(0, 0.2, (count, features)) + shift + 3.0
    )


def blobs(seed):
    """A smooth image, normalised."""
    image = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(1, 40, 40)), (0, 4, 4))
    return ((image - image.mean()) / image.std())[None]


def noise(seed):
    """Noise, of the same mean and standard deviation."""
    image = np.random.default_rng(seed).normal(size=(1, 1, 40, 40))
    return (image - image.mean()) / image.std()


def refused(refusal, *arrays):
    return np.mean([verdict.refuse for verdict in refusal.judge(*arrays)])


# --- how often
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("training", "features"), [(60, 400), (400, 60)])
def test_images_of_another_kind_are_refused_and_like_ones_are_not(training, features):
    found = fit_refusal(cloud(training, features), cloud(200, features, seed=1), share=0.05)
    like = refused(found, cloud(1000, features, seed=2))
    # given these held-out cases the share refused is beta(10, 191)-distributed, and of 1000 cases
    # binomial around it
    assert stats.betabinom.cdf(like * 1000, 1000, 10, 191) < 0.999
    assert like > 0.005
    for kind in (1, 2, 3):
        assert refused(found, cloud(100, features, kind=kind)) == 1.0


def test_the_share_holds_on_average_over_held_out_cases():
    """The correction for 30 held-out cases: the plain quantile would refuse 6.5 % and not 5 %."""
    training = cloud(80, 20)
    shares = [
        refused(
            fit_refusal(training, cloud(39, 20, seed=seed), share=0.1),
            cloud(200, 20, seed=1000 + seed),
        )
        for seed in range(60)
    ]
    error = np.std(shares) / math.sqrt(len(shares))
    assert abs(np.mean(shares) - 0.1) < 3.5 * error
    assert error < 0.01


def test_p_values_are_those_of_ranks():
    found = fit_refusal(cloud(80), cloud(99, seed=1), share=0.05)
    held_out = found.features.held_out
    assert found.features.limit == held_out[94]  # rank ceil(100 x 0.95)
    assert found.guaranteed == pytest.approx(0.05)
    assert found.features.p_value(np.array([0.0, held_out[49], held_out[98], np.inf])).tolist() == [
        1.0,
        0.51,
        0.02,
        0.01,
    ]
    for verdict in found.judge(cloud(300, seed=2)):
        assert verdict.refuse == (verdict.p_value <= 0.05)
        assert verdict.because.startswith(
            "unlike the training cases: features" if verdict.refuse else "like the training"
        )


def test_p_values_are_uniform_at_most():
    found = fit_refusal(cloud(80), cloud(400, seed=1), share=0.05)
    p_values = np.array([verdict.p_value for verdict in found.judge(cloud(1500, seed=2))])
    for level in (0.05, 0.2, 0.5, 0.8):
        assert abs((p_values <= level).mean() - level) < 0.09


def test_few_held_out_cases_prove_little_and_say_so():
    training = cloud(80)
    found = [fit_refusal(training, cloud(20, seed=seed), share=0.01) for seed in range(40)]
    assert {round(one.guaranteed, 6) for one in found} == {round(1 / 21, 6)}
    assert all(one.features.limit >= one.features.held_out[-1] for one in found)
    like = np.mean([refused(one, cloud(100, seed=500 + i)) for i, one in enumerate(found)])
    assert like < 0.03  # the largest of 20 alone would refuse 4.8 %
    assert np.mean([refused(one, cloud(50, kind=1)) for one in found]) > 0.9


def test_held_out_cases_in_one_place_still_give_a_limit():
    twice = np.repeat(cloud(1, seed=1), 6, axis=0)
    found = fit_refusal(cloud(80), twice, share=0.01)
    assert found.features.limit == pytest.approx(found.features.held_out[-1])


# --- the distance
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("training", "features"), [(40, 90), (300, 12), (150, 149)])
def test_the_distance_is_sklearns(training, features):
    from sklearn.covariance import LedoitWolf

    cases, new = cloud(training, features), cloud(25, features, seed=1, kind=1)
    oracle = LedoitWolf().fit(cases)
    found = fit_refusal(cases, cloud(30, features, seed=2))
    np.testing.assert_allclose(found.distance(new), np.sqrt(oracle.mahalanobis(new)), rtol=1e-4)


def test_few_directions_are_kept(monkeypatch):
    cases, held_out, new = cloud(200, 400), cloud(100, 400, seed=1), cloud(50, 400, seed=2, kind=1)
    whole = fit_refusal(cases, held_out)
    monkeypatch.setattr(module, "_DIRECTIONS", 16)
    small = fit_refusal(cases, held_out)
    assert small.features.basis.shape == (16, 400)
    assert np.corrcoef(small.distance(new), whole.distance(new))[0, 1] > 0.95
    assert refused(small, new) == 1.0


@given(st.integers(0, 2**16))
@settings(max_examples=15, deadline=None)
def test_turning_and_moving_all_features_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(30, 30)))
    turned = [
        case @ turn * 2.5 - 1.0
        for case in (cloud(40, 30), cloud(20, 30, seed=1), cloud(9, 30, seed=2))
    ]
    found = fit_refusal(*turned[:2]).distance(turned[2])
    np.testing.assert_allclose(
        found,
        fit_refusal(cloud(40, 30), cloud(20, 30, seed=1)).distance(cloud(9, 30, seed=2)),
        rtol=1e-3,
    )


def test_what_is_no_number_is_refused():
    found = fit_refusal(cloud(80), cloud(99, seed=1), share=0.05)
    broken = cloud(2, seed=2)
    broken[0, 3], broken[1, 5] = np.nan, np.inf
    assert found.distance(broken).tolist() == [math.inf, math.inf]
    assert refused(found, broken) == 1.0


# --- intensities
# --------------------------------------------------------------------------------------------------


def test_statistics_of_a_picture_that_can_be_counted():
    image = np.zeros((2, 1, 4, 5))
    image[0, 0, :, 4] = 10.0  # four of twenty voxels
    image[1] = 7.0
    found = dict(zip(INTENSITY_STATISTICS, intensity_features(image).reshape(2, -1).T, strict=True))
    assert found["mean"].tolist() == [2.0, 7.0]
    assert found["std"].tolist() == [4.0, 0.0]
    assert found["percentile 50"].tolist() == [0.0, 7.0]
    assert found["percentile 99"].tolist() == [10.0, 7.0]
    assert found["flat"].tolist() == [0.75, 1.0]  # 12 of 16 neighbours along X
    assert found["roughness"].tolist() == [
        pytest.approx(40 / 31 / 4),
        0.0,
    ]  # 4 steps of 10 among 16 + 15
    with pytest.raises(UsageError, match=r"shape \(4, 5\)[\s\S]*Cure: image\[None\]"):
        intensity_features(image[0, 0])
    assert intensity_features(np.ones((1, 1, 1, 1))).tolist()[-2:] == [1.0, 0.0]


def test_intensities_catch_what_collapsed_features_let_pass():
    """Noise of the same mean and deviation, to a network whose features are the same for both."""
    train, held_out, new = (
        [intensity_features(blobs((part, seed))) for seed in range(n)]
        for part, n in enumerate((80, 80, 200))
    )
    other = [intensity_features(noise(seed)) for seed in range(20)]
    found = fit_refusal(
        cloud(80),
        cloud(80, seed=1),
        share=0.05,
        train_intensities=train,
        held_out_intensities=held_out,
    )
    assert found.features.share == found.intensities.share == 0.025
    assert refused(found, cloud(20, seed=2), other) == 1.0
    assert refused(found, cloud(200, seed=3), new) < stats.binom.ppf(0.999, 200, 0.09) / 200
    blank = np.array([intensity_features(np.zeros((1, 1, 40, 40)))])
    (verdict,) = found.judge(cloud(1, seed=2), blank)
    assert verdict.refuse
    assert verdict.because.startswith("unlike the training cases: intensities ")
    assert verdict.p_value == pytest.approx(2 / 81)
    assert verdict.features_distance < verdict.features_limit
    assert verdict.intensity_distance > verdict.intensity_limit
    nothing = np.array([intensity_features(np.full((1, 1, 40, 40), np.nan))])
    assert found.judge(cloud(1, seed=2), nothing)[0].refuse
    (verdict,) = found.judge(cloud(1, kind=1), [new[0]])
    assert verdict.because.startswith("unlike the training cases: features ")
    with pytest.raises(UsageError, match=r"no intensities[\s\S]*Cure: judge\("):
        found.judge(cloud(1))


def test_what_is_always_the_same_is_not_judged_by_its_rounding():
    """After normalisation by the case every mean is zero but for rounding."""
    train = [intensity_features(blobs(seed)) for seed in range(60)]
    found = fit_refusal(
        cloud(60), cloud(40, seed=1), train_intensities=train, held_out_intensities=train[:40]
    )
    moved = np.array(train[:5])
    moved[:, 0] += 1e-6
    np.testing.assert_allclose(
        found.intensities.distance(moved),
        found.intensities.distance(np.array(train[:5])),
        atol=1e-2,
    )
    assert refused(found, cloud(5, seed=2), np.array(train[:5]) + 0.7) == 1.0


# --- files
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_intensities", [False, True])
def test_a_way_through_files_changes_nothing(tmp_path, with_intensities):
    from safetensors.numpy import load_file, save_file

    more = (
        {"train_intensities": cloud(80, 11), "held_out_intensities": cloud(50, 11, seed=1)}
        if with_intensities
        else {}
    )
    found = fit_refusal(cloud(80), cloud(50, seed=1), share=0.05, **more)
    arrays, numbers = found.to_arrays()
    save_file(arrays, tmp_path / "refusal.safetensors")
    again = Refusal.from_arrays(
        load_file(tmp_path / "refusal.safetensors"), json.loads(json.dumps(numbers))
    )
    new = (cloud(30, seed=2), cloud(30, 11, seed=2)) if with_intensities else (cloud(30, seed=2),)
    assert again.judge(*new) == found.judge(*new)
    assert again.guaranteed == found.guaranteed
    assert again.share == 0.05
    verdict = found.judge(*new)[0]
    assert type(verdict).model_validate_json(verdict.model_dump_json()) == verdict


def test_a_record_is_small():
    rng = np.random.default_rng(0)
    arrays, _ = fit_refusal(rng.normal(size=(700, 1280)), rng.normal(size=(50, 1280))).to_arrays()
    assert sum(array.nbytes for array in arrays.values()) < 1.5e6


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("features.basis", lambda a: a[:, 1:]),
        ("features.mean", lambda a: a * np.nan),
        ("features.held_out", lambda a: a[::-1].copy()),
        ("features.variances", lambda a: -a),
        ("features.unit", lambda a: a[1:]),
    ],
)
def test_altered_records_are_not_trusted(name, change):
    arrays, numbers = fit_refusal(cloud(80), cloud(50, seed=1)).to_arrays()
    with pytest.raises(ModelError, match=r"the features of the check .* do not fit together"):
        Refusal.from_arrays(arrays | {name: change(arrays[name])}, numbers)


def test_records_with_parts_missing():
    arrays, numbers = fit_refusal(cloud(80), cloud(50, seed=1)).to_arrays()
    with pytest.raises(ModelError, match=r"lacks its part 'features\.unit'"):
        Refusal.from_arrays(
            {key: value for key, value in arrays.items() if key != "features.unit"}, numbers
        )
    with pytest.raises(ModelError, match="lacks its part 'share'"):
        Refusal.from_arrays(
            arrays, {key: value for key, value in numbers.items() if key != "share"}
        )


# --- ensembles
# --------------------------------------------------------------------------------------------------


def test_half_of_the_members_decide():
    found = [fit_refusal(cloud(80), cloud(99, seed=seed), share=0.05) for seed in (1, 2, 3)]
    like, unlike = found[0].judge(cloud(40, seed=5))[0], found[0].judge(cloud(1, kind=1))[0]
    assert not like.refuse
    assert unlike.refuse
    assert combine([like]) == like
    assert not combine([like, like, unlike]).refuse
    assert combine([like, unlike]).refuse
    both = combine([unlike, like, unlike])
    assert both.refuse
    assert both.because.endswith("(2 of 3 members refuse)")
    assert both.because.startswith(unlike.because)
    assert both.features_distance == unlike.features_distance
    assert both.p_value == pytest.approx(min(1.0, 2 * (2 * unlike.p_value + like.p_value) / 3))
    with pytest.raises(UsageError, match=r"has no verdict[\s\S]*Cure: combine"):
        combine([])


# --- calls that are wrong
# --------------------------------------------------------------------------------------------------


def test_what_cannot_be_fitted():
    good = cloud(80), cloud(50, seed=1)
    with pytest.raises(DataError, match=r"9 training and 50 held-out[\s\S]*Cure: add cases"):
        fit_refusal(good[0][:9], good[1])
    with pytest.raises(DataError, match="80 training and 4 held-out cases"):
        fit_refusal(good[0], good[1][:4])
    with pytest.raises(DataError, match=r"features are no numbers[\s\S]*Cure: leave out"):
        fit_refusal(good[0] * np.nan, good[1])
    with pytest.raises(DataError, match=r"20 training cases have the same[\s\S]*Cure: check"):
        fit_refusal(np.ones((20, 7)), np.ones((6, 7)))
    with pytest.raises(UsageError, match=r"\(80, 60\) and \(50, 59\)[\s\S]*Cure: compute both"):
        fit_refusal(good[0], good[1][:, 1:])
    for share in (0.0, 0.5, -1, float("nan")):
        with pytest.raises(UsageError, match=r"share=.* of refused cases[\s\S]*Cure: share=0\.01"):
            fit_refusal(*good, share=share)
    with pytest.raises(UsageError, match=r"or of held-out cases only[\s\S]*Cure: give"):
        fit_refusal(*good, train_intensities=good[0])
    with pytest.raises(UsageError, match=r"shape \(60,\)[\s\S]*\(B, 60\)[\s\S]*Cure: compute"):
        fit_refusal(*good).distance(good[0][0])


# --- real images
# --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.real_data
def test_another_modality_is_refused_and_radiographs_are_not(real_data):
    """Pretrained EfficientNet-Lite0, chest radiographs of 180 patients.

    Breast ultrasound and fundus photographs beside them.
    """
    import csv

    import torch
    from PIL import Image

    from hilum.networks import adopt, build_network, find_weights
    from hilum.plan.plan import ClassifierSpec

    spec = ClassifierSpec(
        kind="backbone",
        dimensions=2,
        in_channels=1,
        out_channels=2,
        backbone="tf_efficientnet_lite0",
    )
    network = build_network(spec).eval()
    adopt(network, find_weights(spec.backbone, hub=False))

    def judged_by(files):
        """Features and intensities of pictures."""
        features, intensities = [], []
        for file in files:
            pixels = np.asarray(
                Image.open(file).convert("L").resize((160, 160), Image.Resampling.BILINEAR),
                np.float32,
            )
            image = ((pixels / 255 - 0.45) / 0.225)[None, None]
            intensities.append(intensity_features(image))
            with torch.inference_mode():
                features.append(network.features(torch.from_numpy(image)[None])[0].numpy())
        return np.array(features), np.array(intensities)

    with (real_data / "chest_xray" / "cases.csv").open(encoding="utf-8") as table:
        patients = {
            row["patient_id"]: real_data / "chest_xray" / "images" / row["file"]
            for row in csv.DictReader(table)
        }
    radiographs = [patients[patient] for patient in sorted(patients)]
    order = np.random.default_rng(0).permutation(len(radiographs))[:180]
    train, held_out, new = (
        judged_by([radiographs[i] for i in part]) for part in np.split(order, [80, 140])
    )
    found = fit_refusal(
        train[0],
        held_out[0],
        share=0.05,
        train_intensities=train[1],
        held_out_intensities=held_out[1],
    )
    assert refused(found, *new) <= stats.binom.ppf(0.999, 40, found.guaranteed) / 40
    ultrasound = sorted((real_data / "breast_ultrasound" / "images").rglob("*.jpg"))[:200:10]
    fundus = sorted((real_data / "retina_vessels" / "images").glob("*"))
    for files in (ultrasound, fundus):
        others = judged_by(files)
        assert len(files) == 20
        assert refused(found, *others) >= 0.95
        alone = found.features.distance(others[0]) > found.features.limit
        assert (
            alone.mean() >= 0.95
        )  # features do it alone; intensities are for where these collapse
