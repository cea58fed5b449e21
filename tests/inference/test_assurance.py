"""Uncertainty of a classifier: calibration, prediction sets, refusal, by hand and in files."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from classification_toys import FINDINGS, GRADES, STILL, TABLES, THREE, TWO, class_model, class_plan
from hilum import metrics
from hilum.errors import ModelError
from hilum.inference import ClassPredictor
from hilum.inference.assurance import ARRAYS, NUMBERS, Assurance, Calibration, logits_of
from hilum.inference.refusal import fit_refusal
from hilum.volume import Geometry, Volume

PROPERTY = settings(deadline=None, max_examples=40, derandomize=True)


def refusal(seed=0, intensities=True):
    rng = np.random.default_rng(seed)
    more = {
        "train_intensities": rng.normal(size=(30, 11)),
        "held_out_intensities": rng.normal(size=(20, 11)),
    }
    return fit_refusal(
        rng.normal(size=(30, 6)),
        rng.normal(size=(20, 6)),
        share=0.05,
        **(more if intensities else {}),
    )


# --- calibration
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TABLES)
@PROPERTY
@given(data=st.data())
def test_probabilities_and_logits_are_one_thing(kind, data):
    table = TABLES[kind]
    raw = data.draw(arrays(np.float64, (4, table.outputs), elements=st.floats(-8, 8)))
    probabilities = metrics.apply_temperature(raw, kind=table.kind)
    np.testing.assert_allclose(Calibration().apply(probabilities, table), probabilities, atol=1e-9)
    hot = Calibration(temperature=3.0).apply(probabilities, table)
    if table.kind == "ordinal":
        raw = np.minimum.accumulate(
            raw, axis=1
        )  # what a step says beyond the one before it, probabilities do not keep
    np.testing.assert_allclose(
        hot, metrics.apply_temperature(raw / 3.0, kind=table.kind), atol=1e-7
    )


def test_temperature_by_hand():
    """Odds of 1 to 9 become, at temperature 2, their roots: 1 to 3."""
    two = Calibration(temperature=2.0)
    np.testing.assert_allclose(two.apply(np.array([[0.1, 0.9]]), TWO), [[0.25, 0.75]])
    np.testing.assert_allclose(
        two.apply(np.array([[0.9, 0.5, 0.1]]), FINDINGS), [[0.75, 0.5, 0.25]]
    )
    # P(above I, II, III) = 0.9, 0.5, 0.1
    np.testing.assert_allclose(
        two.apply(np.array([[0.1, 0.4, 0.4, 0.1]]), GRADES), [[0.25, 0.25, 0.25, 0.25]]
    )


def test_bias_by_hand():
    """Odds of 1 to 9, at temperature 2 of 1 to 3, times one third: even."""
    two = Calibration(temperature=2.0, bias=(0.0, -float(np.log(3))))
    np.testing.assert_allclose(two.apply(np.array([[0.1, 0.9]]), TWO), [[0.5, 0.5]])


def test_a_calibration_of_before_there_were_biases_is_read(tmp_path):
    Assurance(Calibration(temperature=2.0, bias=(0.5, -0.5))).save(tmp_path)
    assert Assurance.load(tmp_path).calibration.bias == (0.5, -0.5)
    content = json.loads((tmp_path / NUMBERS).read_text())
    del content["calibration"]["bias"]
    (tmp_path / NUMBERS).write_text(json.dumps(content))
    assert Assurance.load(tmp_path).calibration == Calibration(temperature=2.0)


@pytest.mark.parametrize("kind", TABLES)
def test_certain_answers_stay_finite(kind):
    table = TABLES[kind]
    sure = np.eye(len(table.names))
    assert np.isfinite(logits_of(sure, table)).all()
    np.testing.assert_allclose(Calibration().apply(sure, table), sure, atol=1e-9)


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"coverage": 1.0}, {"cases": -1}, {"cold": 1}]
)
def test_a_calibration_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValidationError):
        Calibration(**wrong)


# --- prediction sets
# --------------------------------------------------------------------------------------------------


def test_sets_by_hand():
    three = Calibration(thresholds=(0.3, 0.3, 0.3))
    rows = np.array([[0.1, 0.55, 0.35], [0.98, 0.01, 0.01], [0.29, 0.28, 0.43]])
    assert three.sets(rows, THREE) == (("adenoma", "carcinoma"), ("cyst",), ("carcinoma",))
    assert Calibration(thresholds=(0.6, 0.6)).sets(np.array([[0.45, 0.55]]), TWO) == (
        ("malignant",),
    )  # never empty
    grades = Calibration(thresholds=(0.3,) * 4)
    assert grades.sets(np.array([[0.35, 0.1, 0.15, 0.4]]), GRADES) == (
        ("I", "II", "III", "IV"),
    )  # without a gap
    assert Calibration(thresholds=(0.0, 0.0)).sets(np.array([[0.999, 0.001]]), TWO) == (TWO.names,)
    assert Calibration().sets(rows, THREE) == ((), (), ())


def test_findings_that_may_be_there_and_those_that_must():
    """Absence from 0.4 on, presence from 0.25 on: 0.9 is certain, 0.5 possible, 0.2 ruled out."""
    calibration = Calibration(thresholds=(0.4, 0.4, 0.4, 0.25, 0.25, 0.25))
    rows = np.array([[0.9, 0.5, 0.2], [0.1, 0.65, 0.61]])
    assert calibration.sets(rows, FINDINGS) == (("effusion", "mass"), ("mass", "nodule"))
    assert calibration.certain(rows, FINDINGS) == (("effusion",), ("mass", "nodule"))
    own = Calibration(
        thresholds=(0.9, 0.1, 0.1, 0.9, 0.1, 0.9)
    )  # absence of each, then presence of each
    # of the effusion neither is in, so absence is, the first of two; of the nodule absence
    assert own.sets(np.full((1, 3), 0.5), FINDINGS) == (("mass",),)
    assert own.certain(np.full((1, 3), 0.5), FINDINGS) == ((),)
    assert calibration.certain(rows[:, :2], TWO) is None
    assert Calibration().certain(rows, FINDINGS) is None


@PROPERTY
@given(
    arrays(np.float64, (5, 3), elements=st.floats(0, 1)),
    arrays(np.float64, 6, elements=st.floats(0, 1)),
)
def test_what_is_certain_is_possible(rows, least):
    calibration = Calibration(thresholds=tuple(least.tolist()))
    for possible, certain in zip(
        calibration.sets(rows, FINDINGS), calibration.certain(rows, FINDINGS), strict=True
    ):
        assert set(certain) <= set(possible)


def test_what_is_promised_of_mirrored_copies_says_that_they_were_not_measured():
    plan = class_plan(augmentation=STILL.model_copy(update={"mirror_axes": (2,)}))
    model = class_model(plan, assurance=Assurance(Calibration(thresholds=(0.1, 0.1), cases=30)))
    image = Volume(np.zeros((1, 8, 10, 12), np.float32), Geometry.from_spacing((8, 10, 12)))
    plain, mirrored = (
        ClassPredictor(model, tta=tta).predict(image, case="c").promise.measured_on
        for tta in (False, True)
    )
    assert plain == "the model's own held-out cases"
    assert mirrored.startswith(f"{plain}; those were given without mirrored copies (tta)")


# --- files
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [0, 1, 3])
def test_round_trip(members, tmp_path):
    calibration = Calibration(
        temperature=1.0 / 3, because="it fits", thresholds=(0.1, 0.7), coverage=0.8, cases=31
    )
    refusals = tuple(refusal(n, intensities=n != 1) for n in range(members))
    assert Assurance(calibration, refusals).save(tmp_path) == (NUMBERS, ARRAYS)
    loaded = Assurance.load(tmp_path)
    assert loaded.calibration == calibration
    assert len(loaded.refusals) == members
    rng = np.random.default_rng(9)
    features, intensities = rng.normal(size=(8, 6)) * 3, rng.normal(size=(8, 11)) * 3
    for one, two in zip(refusals, loaded.refusals, strict=True):
        assert one.judge(features, intensities) == two.judge(features, intensities)
    again = tmp_path / "again"
    again.mkdir()
    loaded.save(again)
    assert [(again / name).read_bytes() for name in (NUMBERS, ARRAYS)] == [
        (tmp_path / name).read_bytes() for name in (NUMBERS, ARRAYS)
    ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / NUMBERS).unlink(),
        lambda folder: (folder / ARRAYS).unlink(),
        lambda folder: (folder / NUMBERS).write_text("{"),
        lambda folder: (folder / NUMBERS).write_text("[]"),
        lambda folder: (folder / NUMBERS).write_text('{"refusals": []}'),
        lambda folder: (folder / NUMBERS).write_text(
            '{"refusals": [], "calibration": {"temperature": -1}}'
        ),
        lambda folder: (folder / ARRAYS).write_bytes(b"not safetensors"),
    ],
)
def test_damaged_files_are_refused(damage, tmp_path):
    Assurance(Calibration(), (refusal(),)).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ModelError, match=r"assurance[\s\S]*copy the model folder again"):
        Assurance.load(tmp_path)


def test_a_refusal_without_its_arrays_is_refused(tmp_path):
    Assurance(Calibration(), (refusal(),)).save(tmp_path)
    content = json.loads((tmp_path / NUMBERS).read_text())
    content["refusals"] *= 2
    (tmp_path / NUMBERS).write_text(json.dumps(content))
    with pytest.raises(ModelError, match="lacks its part"):
        Assurance.load(tmp_path)
