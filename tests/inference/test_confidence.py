"""Confidence of a predicted case: by hand, in files, in run.json and in a SEG."""

import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from confidence_samples import calibration, region
from scipy.special import expit

from hilum.errors import ModelError, UsageError
from hilum.examples.dicom import write_dicom_series
from hilum.inference import Predictor, RunReport, TrainedModel, predict_many
from hilum.inference.confidence import CaseConfidence, RegionConfidence
from hilum.inference.predictor import MIRRORED
from hilum.inference.unlike import unlike_held_out
from hilum.inference.voxel_calibration import CONFIDENCE, DiceCheck, VoxelCalibration
from hilum.inference.voxel_counter import region_volumes_ml
from hilum.io import read_volume, write_volume
from hilum.metrics.log_odds import BINS, EDGES, VoxelCounts
from hilum.volume import Geometry, LabelTable, Volume
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

ONE = LabelTable.from_names({1: "liver"})


def counts(regions=2, *, inside=100, outside=0, place=BINS - 1, voxel_ml=0.01):
    voxels = np.zeros((regions, 2, BINS), dtype=np.int64)
    voxels[:, 1, place], voxels[:, 0, 0] = inside, outside
    return VoxelCounts(voxels, voxel_ml, np.zeros_like(voxels), np.zeros(regions, dtype=np.int64))


def test_the_interval_by_hand():
    """Largest score of nine: 9 ml over 1 ml of spread and the floor, .05 of the mean 10 / 10."""
    judged = calibration().judge(counts(), (10.0, 10.0), 0.1).regions[0]
    floor, spread = 0.05, 100 * 0.01 * np.sqrt(expit(9.9375) * expit(-9.9375))
    reach = 9 / (1 + floor) * (spread + floor)
    assert judged.volume_ml == 10
    assert judged.low_ml == pytest.approx(10 - reach, rel=1e-4)
    assert judged.high_ml == pytest.approx(10 + reach, rel=1e-4)


def test_contours_by_hand():
    """At alpha .28 the share (9 r + 1) / 10 may be .2: the thresholds at 7.8 and -5.6."""
    inner, outer = region().thresholds(9, 0.28)
    assert EDGES[inner] == pytest.approx(20 * (1 - 0.2 / 0.9) - 10, abs=0.13)
    assert EDGES[outer] == pytest.approx(20 * 0.2 / 0.9 - 10, abs=0.13)
    assert region().probability_at(inner) == pytest.approx(expit(EDGES[inner] / 2))
    judged = calibration().judge(counts(outside=50), (1.0, 1.0), 0.28).regions[0]
    assert (judged.inner_ml, judged.outer_ml) == (1.0, 1.0)
    wide = calibration().judge(counts(place=outer), (1.0, 1.0), 0.28).regions[0]
    assert (wide.inner_ml, wide.outer_ml) == (0.0, 1.0)


def test_the_expected_dice_by_hand():
    """Voxels at log odds 9.94, at temperature 2 of 4.97; the worst of nine lost .4."""
    judged = calibration().judge(counts(), (1.0, 1.0), 0.1).regions[0]
    p = expit(9.9375 / 2)
    assert judged.dice == pytest.approx(2 * p / (1 + p), abs=1e-4)
    assert judged.least_dice == pytest.approx(2 * p / (1 + p) - 0.4, abs=1e-4)
    nothing = calibration().judge(counts(inside=0), (0.0, 0.0), 0.1).regions[0]
    assert (nothing.dice, nothing.least_dice) == (None, None)


def test_no_dice_is_expected_of_a_region_that_postprocessing_removed():
    removed = calibration().judge(counts(), (0.0, 0.0), 0.1).regions[0]
    assert (removed.dice, removed.least_dice) == (None, None)
    assert "Dice" not in removed.in_words


def test_too_few_patients_give_words_in_place_of_numbers():
    few = calibration(patients=4).model_copy(update={"impossible": ("4 patients",)})
    judged = few.judge(counts(), (1.0, 1.0))
    assert "4 held-out patients allow 0.2 or more" in judged.guarantee
    assert (judged.notes, judged.impossible) == ((), ("4 patients",))
    assert judged.smallest_alpha == pytest.approx(0.2)
    first = judged.regions[0]
    assert (first.low_ml, first.high_ml, first.inner_ml, first.outer_ml) == (None,) * 4
    assert first.least_dice is None
    assert first.in_words.startswith("1 ml, expected Dice 1.00")


def test_a_contour_that_is_not_possible_is_named():
    rare = region("tumour", patients_with=3)
    lost = region("liver", missed=(0.5,) * (BINS + 1))
    found = calibration().model_copy(update={"regions": (lost, rare)})
    judged = found.judge(counts(), (1.0, 1.0), 0.1)
    notes = judged.impossible
    assert judged.notes == ()
    assert any("liver: no outer contour, as at every threshold more than 10 %" in n for n in notes)
    assert any("tumour: no outer contour, as 3 held-out patients have it" in n for n in notes)


def test_other_regions_are_refused():
    with pytest.raises(UsageError, match="1 counted regions and 2 volumes"):
        calibration().judge(counts(1), (1.0, 1.0))


def test_it_is_saved_with_the_model_and_checked_by_its_hash(tmp_path):
    model = replace(real_model(), confidence=calibration())
    saved = model.save(tmp_path / "m")
    assert TrainedModel.load(tmp_path / "m").confidence == calibration()
    assert TrainedModel.load(tmp_path / "m").id == saved.id
    text = (tmp_path / "m" / CONFIDENCE).read_text()
    (tmp_path / "m" / CONFIDENCE).write_text(text.replace("2.0", "1.0"))
    with pytest.raises(ModelError, match="altered"):
        TrainedModel.load(tmp_path / "m")
    (tmp_path / CONFIDENCE).write_text("{}")
    with pytest.raises(ModelError, match=r"confidence\.json"):
        VoxelCalibration.load(tmp_path)


def test_a_prediction_carries_it_and_its_labels_are_the_same():
    plain = Predictor(real_model()).predict(index_volume())
    sure = Predictor(replace(real_model(), confidence=calibration()))
    judged = sure.predict(index_volume())
    np.testing.assert_array_equal(judged.labels.array, plain.labels.array)
    assert plain.confidence is None
    assert [one.region for one in judged.confidence.regions] == ["liver", "tumour"]
    volumes = region_volumes_ml(judged.labels, TABLE)
    found = [one.volume_ml for one in judged.confidence.regions]
    assert found == pytest.approx(volumes, rel=1e-4)
    assert judged.confidence.notes == ()


def test_options_that_the_held_out_cases_did_not_have_weaken_it():
    learnt = calibration().model_copy(update={"precision": "float32"})
    model = replace(real_model(), confidence=learnt)
    same, mirrored, other = (
        Predictor(model, engine="torch", precision="float32", **options)
        .predict(index_volume())
        .confidence.notes
        for options in ({}, {"tta": True}, {"overlap": 0.125})
    )
    assert (same, mirrored) == ((), (MIRRORED,))
    assert other[0].startswith("overlap of patches 0.125, of the held-out predictions 0.")
    unlike = learnt.model_copy(update={"precision": "bfloat16"})
    predictor = Predictor(replace(model, confidence=unlike), engine="torch", precision="float32")
    (note,) = predictor.predict(index_volume()).confidence.notes
    assert note.startswith("precision float32, of the held-out predictions bfloat16")


def test_the_guarantee_claims_no_more_than_is_proven():
    words = calibration().guarantee(0.1)
    assert "The Dice reaches its lower end in about 90 % of such patients" in words
    assert "On the network's grid" in words


def test_an_alpha_that_is_not_possible_is_refused():
    with pytest.raises(UsageError, match="carries no confidence"):
        Predictor(make_model(), alpha=0.1)
    sure = replace(make_model(), confidence=calibration())
    with pytest.raises(UsageError, match=r"alpha=0\.05 is too small with 9 held-out patients"):
        Predictor(sure, alpha=0.05)
    wide = Predictor(sure, alpha=0.5).predict(index_volume()).confidence.regions[0]
    narrow = Predictor(sure).predict(index_volume()).confidence.regions[0]
    assert wide.high_ml < narrow.high_ml


def test_run_json_holds_it(tmp_path):
    write_volume(index_volume(), tmp_path / "in" / "a.nii.gz")
    sure = replace(make_model(), confidence=calibration())
    predict_many(Predictor(sure, alpha=0.2), [tmp_path / "in"], tmp_path / "out")
    report = RunReport.load(tmp_path / "out" / "run.json")
    assert report.options["alpha"] == 0.2
    assert report.cases[0].confidence.alpha == 0.2
    fields = json.loads((tmp_path / "out" / "run.json").read_text())["cases"][0]["confidence"]
    assert fields["regions"][0]["low_ml"] <= fields["regions"][0]["volume_ml"]
    assert "9 held-out" in fields["guarantee"]


def test_a_segment_is_described_by_it(tmp_path):
    array = np.zeros((6, 20, 16), np.float32)
    array[1:4, 3:13, 2:10] = 1
    geometry = Geometry.from_spacing(array.shape, (3.0, 0.5, 0.75), origin=(1, -2, 3))
    series = tmp_path / "in" / "s"
    write_dicom_series(Volume(array[None], geometry), series)
    for out, model in (
        ("sure", replace(make_model(), confidence=calibration())),
        ("noted", replace(make_model(), confidence=calibration(notes=("a weakness",)))),
        ("plain", make_model()),
    ):
        predict_many(Predictor(model), [series], tmp_path / out, formats=["dicom-seg"])
    sure, noted, plain = (
        pydicom.dcmread(tmp_path / out / "s_seg.dcm") for out in ("sure", "noted", "plain")
    )
    words = sure.SegmentSequence[0].SegmentDescription
    assert words.startswith("Volume 0.27 ml (")
    assert "expected Dice" in words
    assert words.endswith("; 90 % intervals, for patients like the held-out ones")
    weak = noted.SegmentSequence[0].SegmentDescription
    assert weak == f"{words}, weakened: see run.json"
    assert "SegmentDescription" not in plain.SegmentSequence[0]
    assert sure.SOPInstanceUID != plain.SOPInstanceUID


@pytest.mark.parametrize("table", [TABLE, REGIONS])
def test_contours_are_the_voxels_above_the_thresholds(table):
    """Probabilities on the image's own grid against the codes, for any orientation of it."""
    image = index_volume(oblique_geometry(axes=SIGNED_AXES[13]))
    names = tuple(one.name for one in table.scored)
    sure = replace(real_model(labels=table), confidence=calibration(names, patients=19))
    found = Predictor(sure, alpha=0.28, contours=True).predict(image, probabilities=True)
    inner, outer = sure.confidence.probability_thresholds(0.28).T[:, :, None, None, None]
    p = found.probabilities.array[1 if table.exclusive else 0 :]
    np.testing.assert_array_equal(found.contours.array, np.where(p >= inner, 2, p >= outer))
    assert found.contours.geometry.is_close(image.geometry)


def test_contours_are_written_and_kept_in_a_file_where_memory_is_short(tmp_path):
    write_volume(index_volume(), tmp_path / "a.nii.gz")
    predictor = Predictor(replace(make_model(), confidence=calibration()), contours=True)
    report = predict_many(predictor, [tmp_path / "a.nii.gz"], tmp_path / "out")
    assert report.cases[0].files == ("a.nii.gz", "a_contours.nii.gz")
    written = read_volume(tmp_path / "out" / "a_contours.nii.gz")
    prepared = predictor.prepare(index_volume())
    short = replace(predictor.plan_memory(prepared), contours_in_file=True)
    again = predictor.predict_prepared(prepared, memory=short).contours
    np.testing.assert_array_equal(written.array, again.array)
    with pytest.raises(UsageError, match="or contours were given, and the model carries no"):
        Predictor(make_model(), contours=True)


def test_contours_of_a_model_that_is_good_enough_are_one():
    """Both lie at even odds, or next to them, where the outer one may lie within the inner one."""
    good = region(missed=tuple(np.linspace(0, 0.1, BINS + 1)), false=(0.0,) * (BINS + 1))
    assert good.thresholds(9, 0.28) == (BINS // 2, BINS // 2)


def held_like(**changes):
    """Twelve held-out cases with 8 to 12 ml and an expected Dice of .8 to .9."""
    volumes, dice = tuple(np.linspace(8, 12, 12)), tuple(np.linspace(0.8, 0.9, 12))
    check = DiceCheck(cases=tuple(range(12)), expected=dice, real=dice)
    one = region(patients=12, predicted_ml=volumes, dice=check).model_copy(update=changes)
    return calibration(patients=12).model_copy(update={"regions": (one,)})


def judged_as(volume_ml, dice):
    one = RegionConfidence(region="liver", volume_ml=volume_ml, dice=dice)
    return CaseConfidence(alpha=0.1, smallest_alpha=0.1, patients=9, guarantee="", regions=(one,))


def test_a_prediction_like_the_held_out_ones_is_not_unlike():
    assert unlike_held_out(judged_as(3.0, 0.71), held_like()) == ()
    assert unlike_held_out(judged_as(35.0, 0.9), held_like()) == ()


@pytest.mark.parametrize(
    ("volume_ml", "dice", "words"),
    [
        (0.0, None, "no liver, of which every one of 12 held-out cases has some"),
        (2.5, 0.9, "2.5 ml of liver, of which the held-out cases have 8 to 12 ml"),
        (37.0, 0.9, "37 ml of liver"),
        (10.0, 0.69, "an expected Dice of 0.69 of liver, which is 0.80 or more"),
    ],
)
def test_what_the_network_made_of_an_image_can_be_unlike(volume_ml, dice, words):
    (found,) = unlike_held_out(judged_as(volume_ml, dice), held_like())
    assert found.startswith(words)
    few = held_like(predicted_ml=(10.0,) * 9, dice=None)
    assert unlike_held_out(judged_as(volume_ml, dice), few) == ()


def test_a_region_that_some_cases_lack_may_be_absent():
    some = held_like(predicted_ml=(0.0, *np.linspace(8, 12, 12)))
    assert unlike_held_out(judged_as(0.0, None), some) == ()


def test_an_unlike_prediction_is_reported(tmp_path):
    write_volume(index_volume(), tmp_path / "a.nii.gz")
    model = replace(make_model(labels=ONE, networks=(OneHot(2),)), confidence=held_like())
    report = predict_many(Predictor(model), [tmp_path / "a.nii.gz"], tmp_path / "out")
    assert any("ml of liver, of which the held-out" in words for words in report.cases[0].unlike)
