"""A classifier's prediction, computed by hand: probabilities, refusal, maps, files."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from classification_toys import FINDINGS, TABLES, THREE, Means, class_model, class_plan, write_cubes
from hilum.dataset import Case, open_cases
from hilum.errors import DataError, ModelError, UsageError
from hilum.inference import ClassPredictor, TrainedModel, make_predictor, predict_many
from hilum.inference.assurance import ARRAYS, NUMBERS, Assurance, Calibration
from hilum.inference.refusal import fit_refusal, intensity_features
from hilum.io import read_volume, write_volume
from hilum.networks import build_network
from hilum.plan.classification import RegionSpec
from hilum.plan.plan import AugmentationSpec
from hilum.volume import Geometry, Volume
from house_sources import python
from inference_toys import oblique_geometry

MASK = RegionSpec(kind="mask", mask_channel=True)


def even(value, shape=(6, 9, 7), channels=1, geometry=None) -> Volume:
    """A volume of one value, whatever is seen of it."""
    geometry = geometry or oblique_geometry(shape)
    return Volume(np.full((channels, *geometry.shape), value, dtype=np.float32), geometry)


def sigmoid(x) -> float:
    return 1 / (1 + math.exp(-x))


# --- one answer
# --------------------------------------------------------------------------------------------------


def test_probabilities_by_hand():
    """Logits (0, m) of an image of the value m."""
    said = ClassPredictor(class_model()).predict(even(1.5))
    assert said.score.probabilities == pytest.approx((1 - sigmoid(1.5), sigmoid(1.5)))
    assert said.probabilities == pytest.approx(
        {"benign": 1 - sigmoid(1.5), "malignant": sigmoid(1.5)}
    )
    assert said.label == "malignant"
    assert (said.case, said.score.patient, said.score.reference, said.score.refuse) == (
        "case",
        None,
        None,
        None,
    )
    assert said.score.calibrated is said.score.prediction_set is said.verdict is None
    assert said.maps == {}
    assert said.seconds.network > 0
    three = ClassPredictor(class_model(class_plan(THREE))).predict(even(-1.0)).score.probabilities
    assert three == pytest.approx(np.exp([0, -1, -2]) / np.exp([0, -1, -2]).sum())


def test_every_kind_of_source_gives_the_same_answer(tmp_path):
    image = even(0.7)
    write_volume(image, tmp_path / "nodule_7.nii.gz")
    predictor = ClassPredictor(class_model())
    columns = {"site": "A", "age": "61"}
    case = Case(
        id="n7",
        patient="P1",
        images={"CT": tmp_path / "nodule_7.nii.gz"},
        label="benign",
        columns=columns,
    )
    path = tmp_path / "nodule_7.nii.gz"
    answers = [predictor.predict(source) for source in (image, path, str(path), {"CT": path}, case)]
    assert len({one.score.probabilities for one in answers}) == 1
    assert [one.case for one in answers] == ["case", "nodule_7", "nodule_7", "nodule_7", "n7"]
    assert (answers[-1].score.patient, answers[-1].score.reference) == ("P1", "benign")
    assert answers[-1].score.columns == columns
    assert predictor.predict(path, case="mine").case == "mine"
    assert class_model().predict(image).score == answers[0].score  # the model's own way
    assert isinstance(make_predictor(class_model(), tta=True), ClassPredictor)


def test_members_of_an_ensemble_are_averaged_before_they_are_probabilities():
    members = [Means([[0.0], [weight]]).eval() for weight in (1.0, 4.0)]
    predictor = ClassPredictor(class_model(class_plan(), *members))
    assert predictor.predict(even(0.6)).score.probabilities[1] == pytest.approx(sigmoid(2.5 * 0.6))
    array = predictor.prepare(even(0.6)).array
    assert [found.tolist() for found in predictor.features(array)] == [[pytest.approx(0.6)]] * 2


class Corner(Means):
    """Sees one corner only."""

    def pooled(self, maps):
        return maps[:, :, 0, 0, 0]


def test_mirrored_copies_are_averaged_along_the_axes_that_the_plan_allows():
    image = Volume(
        np.arange(2 * 3 * 4, dtype=np.float32).reshape(1, 2, 3, 4) / 10,
        Geometry.from_spacing((2, 3, 4)),
    )
    spec = AugmentationSpec(spatial_probability=0.0, mirror_axes=(0, 2))
    plan = class_plan(patch=(2, 3, 4), augmentation=spec)
    network = Corner([[0.0], [1.0]]).eval()
    plain = ClassPredictor(class_model(plan, network)).predict(image)
    assert plain.score.probabilities[1] == pytest.approx(sigmoid(0.0))
    network.seen.clear()
    mirrored = ClassPredictor(class_model(plan, network), tta=True).predict(image)
    corners = np.mean([0.0, 0.3, 1.2, 1.5])  # front and back, left and right
    assert mirrored.score.probabilities[1] == pytest.approx(sigmoid(corners))
    assert len(network.seen) == 4


def test_networks_are_in_evaluation_mode_meanwhile_and_as_they_were_afterwards():
    network = Means([[0.0], [1.0]]).train()
    modes = []
    network.head.register_forward_hook(lambda module, *_: modes.append(module.training))
    ClassPredictor(class_model(class_plan(), network)).predict(even(1.0))
    assert modes == [False]
    assert network.training


def test_what_is_sure_is_said_in_calibrated_numbers():
    assurance = Assurance(Calibration(temperature=2.0, thresholds=(0.35, 0.35)))
    predictor = ClassPredictor(class_model(assurance=assurance))
    said = predictor.predict(even(1.0))
    assert said.score.probabilities[1] == pytest.approx(sigmoid(1.0))
    assert said.probabilities["malignant"] == pytest.approx(sigmoid(0.5))
    assert said.score.prediction_set == ("benign", "malignant")
    assert predictor.predict(even(2.0)).score.prediction_set == ("malignant",)
    assert said.score.certain is None
    unsure = ClassPredictor(class_model(assurance=Assurance(Calibration(temperature=2.0)))).predict(
        even(1.0)
    )
    assert unsure.score.prediction_set is None


def test_sets_of_older_models_are_of_calibrated_probabilities():
    """The network says .731, at temperature 2 .622: threshold .3 lets benign in or not."""
    for scale, expected in (("calibrated", ("benign", "malignant")), ("network", ("malignant",))):
        calibration = Calibration(temperature=2.0, thresholds=(0.3, 0.3), scale=scale)
        said = ClassPredictor(class_model(assurance=Assurance(calibration))).predict(even(1.0))
        assert said.score.prediction_set == expected


def test_sets_per_class_on_request():
    calibration = Calibration(
        thresholds=(0.4, 0.4), class_thresholds=(0.4, 0.1), scale="network", coverage=0.8, cases=31
    )
    model = class_model(assurance=Assurance(calibration))
    assert ClassPredictor(model).predict(even(-1.0)).score.prediction_set == ("benign",)
    said = ClassPredictor(model, sets_per_class=True).predict(even(-1.0))
    assert said.score.prediction_set == ("benign", "malignant")
    assert json.loads(said.as_json())["promise"] == {
        "coverage": 0.8,
        "among": "the cases of each class",
        "cases": 31,
        "measured_on": "the model's own held-out cases",
    }
    older = class_model(assurance=Assurance(Calibration(thresholds=(0.4, 0.4))))
    for without in (older, class_model()):
        with pytest.raises(
            UsageError,
            match=r"has not learnt sets per class[\s\S]*sets_per_class=True",
        ):
            ClassPredictor(without, sets_per_class=True)


def test_an_ensemble_says_that_its_sets_were_not_measured():
    assurance = Assurance(Calibration(thresholds=(0.4, 0.4)))
    two = class_model(
        class_plan(),
        Means([[0.0], [1.0]]).eval(),
        Means([[0.0], [3.0]]).eval(),
        assurance=assurance,
    )
    said = ClassPredictor(two).predict(even(1.0))
    assert (
        "the ensemble itself was not measured"
        in json.loads(said.as_json())["promise"]["measured_on"]
    )


def test_each_member_sees_an_image_once_for_answer_and_verdict():
    rng = np.random.default_rng(0)
    refusals = tuple(
        fit_refusal(rng.normal(size=(20, 1)), rng.normal(size=(20, 1))) for _ in range(2)
    )
    networks = [Means([[0.0], [float(n)]]).eval() for n in (1, 3)]
    plan = class_plan(augmentation=AugmentationSpec(mirror_axes=(2,)))
    model = class_model(plan, *networks, assurance=Assurance(Calibration(), refusals))
    gates = [refusal.features for refusal in refusals]
    for tta, passes in ((False, 1), (True, 2)):
        predictor = ClassPredictor(model, tta=tta)
        prepared = predictor.prepare(even(0.5))
        for network in networks:
            network.seen.clear()
        verdict = predictor.predict_prepared(prepared).verdict
        assert [len(network.seen) for network in networks] == [passes, passes]
        assert verdict is not None
        by_hand = [float(gate.distance(np.array([[0.5]]))[0]) for gate in gates]
        assert any(verdict.features_distance == pytest.approx(far, rel=1e-5) for far in by_hand)


def test_findings_are_called_one_by_one_and_certain_ones_are_said():
    """Logits (0, m, 2m): probabilities 0.5, 0.88 and 0.98 of an image of 2."""
    thresholds = (0.4, 0.4, 0.1, 0.6, 0.6, 0.6)
    model = class_model(
        class_plan(FINDINGS), assurance=Assurance(Calibration(thresholds=thresholds))
    )
    said = ClassPredictor(model).predict(even(2.0))
    assert said.label == "effusion|mass|nodule"
    assert said.score.prediction_set == ("mass", "nodule")
    assert said.score.certain == ("mass", "nodule")
    none = ClassPredictor(model).predict(even(-3.0))
    assert none.label == "effusion"  # 0.5
    assert none.score.certain == ()
    assert json.loads(none.as_json())["certain"] == []


# --- refusal
# --------------------------------------------------------------------------------------------------


def noise(seed, level=0.0) -> Volume:
    rng = np.random.default_rng(seed)
    values = rng.normal(level + 0.3 * rng.normal(), 1.0 + 0.1 * rng.random(), (1, 8, 10, 12))
    return Volume(values.astype(np.float32), Geometry.from_spacing((8, 10, 12)))


@pytest.fixture(scope="module")
def wary():
    """A model of two members that has seen noise."""
    members = [Means([[0.0], [weight]]).eval() for weight in (1.0, 2.0)]
    predictor = ClassPredictor(class_model(class_plan(), *members))
    train, held = (
        [predictor.prepare(noise(seed)).array for seed in seeds]
        for seeds in (range(60), range(60, 160))
    )
    refusal = fit_refusal(
        np.array([predictor.features(array)[0] for array in train]),
        np.array([predictor.features(array)[0] for array in held]),
        share=0.05,
        train_intensities=np.array([intensity_features(array) for array in train]),
        held_out_intensities=np.array([intensity_features(array) for array in held]),
    )
    return ClassPredictor(
        class_model(class_plan(), *members, assurance=Assurance(Calibration(), (refusal, refusal)))
    )


def test_an_image_of_another_kind_is_marked(wary):
    like = [wary.predict(noise(seed)) for seed in range(1000, 1040)]
    assert sum(one.score.refuse for one in like) <= 6
    assert all(one.score.distance == one.verdict.features_distance for one in like)
    smooth = np.indices((8, 10, 12)).sum(axis=0)[None] / 12 - 1
    for other in (
        even(0.0),
        even(50.0),
        noise(0, level=9.0),
        noise(0).with_array(smooth.astype(np.float32)),
    ):
        said = wary.predict(other)
        assert said.score.refuse
        assert "unlike the training cases" in said.verdict.because
        assert json.loads(said.as_json())["refuse"] is True
        assert json.loads(said.as_json())["refusal"]["p_value"] < 0.05


def test_the_report_of_many_cases_names_marked_images(wary, tmp_path):
    for name, image in (("like", noise(1000)), ("other", noise(0, level=9.0))):
        write_volume(image, tmp_path / "in" / f"{name}.nii.gz")
    like, other = predict_many(wary, [tmp_path / "in"], tmp_path / "out").cases
    assert not any("unlike the training cases" in text for text in like.unlike)
    assert any("unlike the training cases" in text for text in other.unlike)


def test_without_refusals_nothing_is_refused():
    said = ClassPredictor(class_model(assurance=Assurance(Calibration()))).predict(even(1e4))
    assert said.verdict is None
    assert json.loads(said.as_json())["refuse"] is None


# --- what cannot be answered
# ------------------------------------------------------------------------------------------------


def test_what_the_model_needs_and_has_not_got_is_named(tmp_path):
    with pytest.raises(DataError, match=r"an image with 2 channels for a model of 1[\s\S]*CT"):
        ClassPredictor(class_model()).predict(even(1.0, channels=2))
    write_volume(even(1.0), tmp_path / "a.nii.gz")
    masked = ClassPredictor(class_model(class_plan(region=MASK)))
    for source in (even(1.0), tmp_path / "a.nii.gz"):
        with pytest.raises(DataError, match=r"no mask of the region to classify[\s\S]*column mask"):
            masked.predict(source)
    case = Case(id="a", patient=None, images={"CT": tmp_path / "a.nii.gz"})
    with pytest.raises(DataError, match="case a has no mask"):
        masked.predict(case)
    write_volume(even(0.0).with_array(np.zeros((1, 6, 9, 7), np.uint8)), tmp_path / "mask.nii.gz")
    with pytest.raises(DataError, match=r"the mask .* is empty"):
        masked.predict(replace(case, region=tmp_path / "mask.nii.gz"))
    with pytest.raises(DataError, match="no centre point of the region to classify"):
        ClassPredictor(class_model(class_plan(region=RegionSpec(kind="centre")))).predict(case)
    with pytest.raises(UsageError, match="the model has no network"):
        TrainedModel(plan=class_plan(), networks=(), device=torch.device("cpu"))


def test_the_mask_of_a_case_is_looked_at_whatever_the_data_set_calls_it(tmp_path):
    """Means of image and mask in a window: the mask has 4 x 5 x 4 voxels of 3 mm3 in (12 mm)3."""
    cases = open_cases(write_cubes(tmp_path, cases=2))
    assert cases[0].annotation is not None
    plan = class_plan(region=MASK, patch=(12, 12, 12))
    predictor = ClassPredictor(class_model(plan, Means([[0.0, 0.0], [0.0, 1.0]]).eval()))
    named = replace(cases[0], region=cases[0].annotation, annotation=None)
    answers = [predictor.predict(case).score.probabilities[1] for case in (cases[0], named)]
    assert answers[0] == answers[1]
    assert math.log(answers[0] / (1 - answers[0])) == pytest.approx(240 / 1728, rel=0.05)


# --- as files
# --------------------------------------------------------------------------------------------------


def test_an_answer_is_saved_to_a_file_or_a_folder(tmp_path):
    assurance = Assurance(Calibration(temperature=2.0, thresholds=(0.4, 0.4)))
    predictor = ClassPredictor(class_model(assurance=assurance), explain="grad_cam")
    said = predictor.predict(even(1.0), case="n 1")
    assert said.save(tmp_path / "deep" / "mine.json") == (tmp_path / "deep" / "mine.json",)
    files = said.save(str(tmp_path / "out"))
    assert [file.name for file in files] == ["n 1.json", "n 1_malignant_map.nii.gz"]
    assert json.loads(files[0].read_text()) == {
        "case": "n 1",
        "model": "unsaved",
        "predicted": "malignant",
        "probabilities": pytest.approx({"benign": 1 - sigmoid(1.0), "malignant": sigmoid(1.0)}),
        "calibrated": pytest.approx({"benign": 1 - sigmoid(0.5), "malignant": sigmoid(0.5)}),
        "prediction_set": ["malignant"],
        "certain": None,
        "promise": {
            "coverage": 0.9,
            "among": "all cases",
            "cases": 0,
            "measured_on": "the model's own held-out cases",
        },
        "refuse": None,
        "refusal": None,
    }
    np.testing.assert_allclose(read_volume(files[1]).array, said.maps["malignant"].array, atol=1e-6)
    assert read_volume(files[1]).geometry.is_close(even(1.0).geometry)
    assert [file.name for file in said.save(tmp_path / "csv", formats=("csv",))] == [
        "n 1_malignant_map.nii.gz"
    ]
    with pytest.raises(UsageError, match=r"format 'jsn'[\s\S]*csv, json[\s\S]*formats='json'"):
        said.save(tmp_path / "out", formats=("jsn",))


def test_class_names_that_are_no_file_names(tmp_path):
    from hilum.dataset import ClassTable

    table = ClassTable(names=("a", "grade 3/4 (late)"))
    said = ClassPredictor(class_model(class_plan(table)), explain="grad_cam").predict(even(1.0))
    assert [file.name for file in said.save(tmp_path)] == [
        "case.json",
        "case_grade-3-4--late-_map.nii.gz",
    ]


@pytest.mark.parametrize("kind", TABLES)
def test_a_models_folder_is_complete_and_answers_the_same(kind, tmp_path):
    plan = class_plan(TABLES[kind])
    networks = [
        build_network(plan.network.value, generator=torch.Generator().manual_seed(n)).eval()
        for n in range(2)
    ]
    rng = np.random.default_rng(0)
    refusals = tuple(
        fit_refusal(rng.normal(size=(20, 8)), rng.normal(size=(20, 8))) for _ in networks
    )
    thresholds = (0.3,) * (len(plan.classes.names) * (1 + (kind == "multilabel")))
    calibration = Calibration(
        temperature=1.7, thresholds=thresholds, cases=40, because="it was fitted"
    )
    saved = class_model(plan, *networks, assurance=Assurance(calibration, refusals)).save(
        tmp_path / "model"
    )
    files = {path.name for path in (tmp_path / "model").iterdir()} - {".hilum.json"}
    assert files == {
        *(
            "model.json",
            "plan.json",
            "labels.json",
            "metrics.json",
            "MODEL_CARD.md",
            NUMBERS,
            ARRAYS,
        ),
        *("weights_0.safetensors", "weights_1.safetensors"),
    }
    assert set(json.loads((tmp_path / "model" / "model.json").read_text())["files"]) == files - {
        "model.json"
    }
    loaded = TrainedModel.load(tmp_path / "model", device="cpu")
    assert loaded.id == saved.id
    assert loaded.plan == plan
    image = Volume(
        rng.normal(size=(1, 8, 10, 12)).astype(np.float32), Geometry.from_spacing((8, 10, 12))
    )
    one, two = (
        ClassPredictor(model, explain="grad_cam").predict(image) for model in (saved, loaded)
    )
    assert one.score == two.score
    assert one.as_json() == two.as_json()
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    assert "Calibration: logits are divided by 1.7 (it was fitted)" in card
    assert "Refusal: an image unlike the training cases is marked" in card
    assert "40 held-out ones" in card


def real_folder(folder, **more) -> Path:
    plan = class_plan()
    class_model(plan, build_network(plan.network.value).eval(), **more).save(folder)
    return folder


def test_the_card_tells_that_sets_of_few_cases_hold_all_classes(tmp_path):
    calibration = Calibration(thresholds=(0.0, 0.0), cases=1)
    card = (real_folder(tmp_path, assurance=Assurance(calibration)) / "MODEL_CARD.md").read_text()
    assert (
        "every set holds all classes; 1 held-out case is too few to leave one out at 90 %" in card
    )
    assert "hold the class in 90 %" not in card


@pytest.mark.parametrize("name", [NUMBERS, ARRAYS])
def test_an_altered_assurance_is_refused(name, tmp_path):
    rng = np.random.default_rng(0)
    refusal = fit_refusal(rng.normal(size=(20, 8)), rng.normal(size=(20, 8)))
    file = real_folder(tmp_path, assurance=Assurance(Calibration(), (refusal,))) / name
    before = file.read_bytes()
    file.write_bytes(before[:-2] + b" \n")
    with pytest.raises(ModelError, match=name):
        TrainedModel.load(tmp_path, device="cpu")
    file.unlink()
    with pytest.raises(ModelError, match=name):
        TrainedModel.load(tmp_path, device="cpu")
    file.write_bytes(before)
    assert len(TrainedModel.load(tmp_path, device="cpu").assurance.refusals) == 1


def test_a_model_without_assurance_has_no_files_of_it(tmp_path):
    real_folder(tmp_path, assurance=Assurance(Calibration()))
    real_folder(tmp_path)  # written over the other
    assert TrainedModel.load(tmp_path, device="cpu").assurance is None
    assert "Calibration" not in (tmp_path / "MODEL_CARD.md").read_text()


def test_another_class_table_than_the_plans_is_refused(tmp_path):
    real_folder(tmp_path)
    from hilum.inference.manifest import Manifest, hash_files

    (tmp_path / "labels.json").write_text(THREE.model_dump_json())
    manifest = Manifest.load(tmp_path)
    manifest.with_files({**manifest.files, **hash_files(tmp_path, ("labels.json",))}).save(tmp_path)
    with pytest.raises(ModelError, match="name different labels"):
        TrainedModel.load(tmp_path, device="cpu")


ALONE = """
import sys
class Alone:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("hilum.training", "hilum.api", "hilum.examples", "hilum.evaluation")):
            raise ImportError("inference reached " + name)
sys.meta_path.insert(0, Alone())
import numpy as np, safetensors.torch, hilum.inference
from hilum.inference import TrainedModel
from hilum.volume import Geometry, Volume
def refuse(event, arguments):
    network = {"socket.connect", "socket.getaddrinfo"}
    if event in {"pickle.find_class", "subprocess.Popen", "os.system"} | network:
        sys.exit(f"{event} {arguments}")
sys.addaudithook(refuse)
model = TrainedModel.load(sys.argv[1], device="cpu")
volume = Volume(np.ones((1, 5, 9, 7), np.int16), Geometry.from_spacing((5, 9, 7), (3.0, 1.0, 1.5)))
said = model.predict(volume)
print(len(said.score.probabilities), said.score.refuse)
"""


def test_a_folder_is_all_that_a_prediction_needs(tmp_path):
    rng = np.random.default_rng(0)
    refusal = fit_refusal(rng.normal(size=(20, 8)), rng.normal(size=(20, 8)))
    folder = real_folder(tmp_path, assurance=Assurance(Calibration(), (refusal,)))
    assert python(ALONE, folder).split()[0] == "2"


def test_the_check_of_a_series_names_what_the_network_has_not_met(wary, tmp_path):
    """Between series of equal points a classifier looks at features too."""
    for name, image in (("like", noise(1000)), ("other", noise(0, level=9.0))):
        write_volume(image, tmp_path / f"{name}.nii.gz")
    assert not any("cases" in text for text in wary.unlike_training(tmp_path / "like.nii.gz"))
    found = wary.unlike_training(tmp_path / "other.nii.gz")
    assert any("unlike the training cases" in text for text in found)
    masked = ClassPredictor(class_model(class_plan(region=MASK)))
    assert isinstance(masked.unlike_training(tmp_path / "like.nii.gz"), tuple)
