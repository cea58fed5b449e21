"""One case from the scanner's files to its score, room by room.

Read this to see how the house works.

ARCHITECTURE.md walks the same way in words. Each station is a fixture, made of the one before it;
each test says what it is.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hilum.dataset import make_folds, open_dataset, read_annotation, read_case
from hilum.evaluation import evaluate_folder, score_labels
from hilum.examples import make_abdomen_dataset
from hilum.inference import Predictor, TrainedModel
from hilum.inference.sliding_window import Sweep, sliding_window
from hilum.io import read_geometry, read_labels, read_volume
from hilum.networks import build_network
from hilum.plan import Hardware, Overrides, load_plan, make_fingerprint, make_plan, save_plan
from hilum.preprocess import (
    build_store,
    preprocess_case,
    preprocess_labels,
    restore_logits_to_labels,
)
from hilum.targets import IGNORE, SegmentationTask, decode_logits, deep_supervision_loss
from hilum.volume import CANONICAL

SHAPE = (10, 26, 34)  # Z, Y, X of every study: no two sizes alike
PATCH = (8, 16, 24)
STUDY = "abdomen_test_000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files as a hospital hands them over.

    Six annotated studies for training in data/, one test study as a DICOM series.
    """
    folder = tmp_path_factory.mktemp("walk")
    make_abdomen_dataset(
        folder / "data", cases=6, tests=1, seed=4, shape=SHAPE, structures=("liver", "spleen")
    )
    return folder


@pytest.fixture(scope="module")
def volume(folder):
    return read_volume(folder / "data" / "dicomTs" / STUDY)


@pytest.fixture(scope="module")
def dataset(folder):
    return open_dataset(folder / "data")


@pytest.fixture(scope="module")
def fingerprint(dataset):
    return make_fingerprint(dataset, threads=1)


@pytest.fixture(scope="module")
def plan(fingerprint):
    return make_plan(
        fingerprint, Hardware(memory_gb=4), overrides=Overrides(patch=PATCH, width=8, batch=2)
    )


@pytest.fixture(scope="module")
def preprocessed(volume, plan):
    return preprocess_case(volume, plan)


@pytest.fixture(scope="module")
def store(dataset, plan, folder):
    return build_store(
        dataset, plan, folder / "store", [case.id for case in dataset.cases[:2]], threads=1
    )


@pytest.fixture(scope="module")
def patch(store, dataset):
    return store.open(dataset.cases[0].id).patch(
        (-2, 3, 5), PATCH
    )  # two slices reach beyond the case


@pytest.fixture
def network(plan):
    return build_network(plan.network.value, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model(plan, folder):
    network = build_network(plan.network.value, generator=torch.Generator().manual_seed(2))
    return TrainedModel(plan, (network.eval(),), torch.device("cpu")).save(folder / "model")


@pytest.fixture(scope="module")
def prediction(model, folder):
    return Predictor(model, precision="float32").predict(
        folder / "data" / "dicomTs" / STUDY, probabilities=True
    )


def test_01_a_dicom_series_becomes_a_volume(folder, volume):
    """io: files -> Volume(array (C, Z, Y, X), Geometry in LPS millimetres)."""
    series = folder / "data" / "dicomTs" / STUDY
    assert len(list(series.glob("*.dcm"))) == SHAPE[0]  # one file a slice

    assert volume.array.shape == (1, *SHAPE)
    assert volume.geometry.shape == SHAPE
    assert volume.array.min() >= -1024  # Hounsfield units: intercept -1024 is applied
    assert volume.geometry.orientation == CANONICAL == "SPL"
    assert volume.geometry.spacing == pytest.approx((210 / 10, 292 / 26, 380 / 34), rel=0.04)
    assert np.abs(volume.geometry.directions).max() < 1  # oblique: no patient lies quite straight
    assert volume.geometry.frame_of_reference is not None

    nifti = read_volume(
        folder / "data" / "imagesTs" / f"{STUDY}_0000.nii.gz"
    )  # the same study by another road
    assert np.array_equal(nifti.array, volume.array)
    assert nifti.geometry.is_close(volume.geometry, tolerance_voxels=1e-3)


def test_02_a_folder_becomes_cases_of_patients(dataset):
    """dataset: a folder, read in place -> Dataset of Cases, by reference; folds by patient."""
    assert (dataset.layout, dataset.channels, len(dataset.cases)) == ("nnunet", ("CT",), 6)
    assert dataset.labels is not None
    assert dataset.labels.ids == (0, 1, 2)
    assert [label.name for label in dataset.labels.foreground] == ["liver", "spleen"]
    assert [case.id for case in dataset.unlabelled] == [STUDY]
    assert len({case.patient for case in dataset.cases}) == 5  # the second patient came twice

    folds = make_folds(dataset, 3, seed=0)
    patient = {case.id: case.patient for case in dataset.cases}
    for fold in folds:
        assert not {patient[i] for i in fold.train} & {patient[i] for i in fold.validation}
        assert sorted(fold.train + fold.validation) == sorted(patient)

    case = dataset.cases[0]
    assert read_case(case).array.shape == (1, *SHAPE)
    assert read_annotation(case).geometry == read_case(case).geometry


def test_03_cases_become_a_fingerprint(fingerprint):
    """plan: what the data look like, in numbers."""
    assert len(fingerprint.cases) == 6
    assert fingerprint.cases[0].shape == SHAPE
    assert [channel.name for channel in fingerprint.channels] == ["CT"]
    assert fingerprint.channels[0].kind == "ct"


def test_04_a_fingerprint_becomes_a_plan(fingerprint, plan, folder):
    """plan: every decision with its reason, as JSON that can be edited."""
    assert all(decision.because for decision in plan.decisions.values())
    assert plan.dimensions.value == 3
    assert (
        plan.normalisation.value[0].kind == "ct"
    )  # by Hounsfield units of the data set, not by the case
    assert plan.patch.value == PATCH
    assert all(
        size % divisor == 0 for size, divisor in zip(PATCH, plan.network.value.divisor, strict=True)
    )
    assert (plan.network.value.in_channels, plan.network.value.out_channels) == (1, 3)
    spacings = np.array([case.spacing for case in fingerprint.cases])
    assert (
        spacings.min(axis=0).tolist() <= list(plan.spacing.value) <= spacings.max(axis=0).tolist()
    )

    save_plan(plan, folder / "plan.json")
    assert load_plan(folder / "plan.json") == plan


def test_05_a_volume_is_preprocessed_and_knows_the_way_back(volume, plan, preprocessed):
    """preprocess: reorient, crop, normalise, resample -> array (C, Z, Y.

    X) float32 and a Restore.
    """
    array, restore = preprocessed

    expected = tuple(
        round(n * own / target)
        for n, own, target in zip(SHAPE, volume.geometry.spacing, plan.spacing.value, strict=True)
    )
    assert array.dtype == np.float32
    assert array.shape[0] == 1
    assert all(
        abs(found - wanted) <= 1 for found, wanted in zip(array.shape[1:], expected, strict=True)
    )
    assert restore.shape == array.shape[1:]
    assert restore.source == volume.geometry
    normalisation = plan.normalisation.value[0]
    low, high = (
        (edge - normalisation.mean) / normalisation.std
        for edge in (normalisation.lower, normalisation.upper)
    )
    overshoot = 0.25 * (high - low)  # of a cubic spline beside an edge
    assert low - overshoot <= array.min() < 0 < array.max() <= high + overshoot


def test_06_training_cases_are_stored_and_read_by_the_patch(dataset, store, patch):
    """preprocess: StoredCase(image, target, restore), of which a patch is read without the rest."""
    case, other = dataset.cases[:2]
    stored = store.open(case.id)

    assert store.ids() == (case.id, other.id)
    assert stored.image.shape == (1, *stored.shape)
    assert stored.target.shape == stored.shape
    assert set(np.unique(stored.target)) == {0, 1, 2}
    assert np.array_equal(stored.target, preprocess_labels(read_annotation(case), stored.restore))
    assert set(stored.foreground) == {1, 2}
    assert stored.foreground[1].shape[1:] == (3,)
    assert (stored.target[tuple(stored.foreground[1].T)] == 1).all()

    image, target = patch
    assert image.shape == (1, *PATCH)
    assert target.shape == PATCH
    assert (target[:2] == -1).all()  # outside: no label has this id
    assert (image[:, :2] == 0).all()
    assert np.array_equal(image[:, 2:8], stored.image[:, 0:6, 3:19, 5:29])


def test_07_a_network_answers_with_logits(network, patch):
    """networks: patches (B, C, Z, Y, X) -> logits (B, K, Z, Y, X)."""
    image, _ = patch
    batch = torch.from_numpy(np.stack([image, image]))  # (B, C, Z, Y, X)

    full, *lower = network.forward_deep(batch)

    assert batch.shape == (2, 1, *PATCH)
    assert full.shape == (2, 3, *PATCH)  # K = 3: background, liver, spleen
    assert all(level.shape[:2] == (2, 3) for level in lower)
    sizes = [tuple(level.shape[2:]) for level in (full, *lower)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)  # each supervised resolution once, the full one first


def test_08_the_loss_falls(plan, network, patch):
    """tasks: label ids -> target the loss sees; a step against the gradient lowers it."""
    image, target = patch
    task = SegmentationTask(plan.labels)
    encoded = task.encode(
        np.maximum(target, 0)
    )  # (1, Z, Y, X): indices into the label table; outside the case background
    assert encoded.shape == (1, *PATCH)
    assert (encoded[:, :2] == 0).all()
    assert IGNORE not in encoded  # nothing here was left unannotated
    images, targets = (
        torch.from_numpy(np.stack([one, one])) for one in (image, encoded)
    )  # (B, C | 1, Z, Y, X)

    loss = task.loss(plan.loss.value)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    values = []
    for _ in range(3):
        value = deep_supervision_loss(loss, network.forward_deep(images), targets)
        assert value.shape == ()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < values[0]


def test_09_a_model_is_a_folder(plan, model, folder):
    """inference: a trained-model folder is complete and holds no pickle."""
    names = {path.name for path in (folder / "model").glob("[!.]*")}
    assert names == {
        "model.json",
        "plan.json",
        "labels.json",
        "weights.safetensors",
        "metrics.json",
        "MODEL_CARD.md",
    }
    loaded = TrainedModel.load(folder / "model", device="cpu")
    assert loaded.id == model.id
    assert loaded.plan == plan


def test_10_patches_become_the_whole_and_go_home(volume, preprocessed, plan, model, prediction):
    """inference: sliding window -> logits (K, Z, Y.

    X) -> restore -> labels on the source's own grid.
    """
    array, restore = preprocessed
    engine = model.make_engine(
        "torch", precision="float32"
    )  # patches (B, C, Z, Y, X) in, logits (B, K, Z, Y, X) out, in numpy
    logits = sliding_window(array, engine, Sweep(PATCH, overlap=0.5, outputs=3, batch=2))
    assert logits.shape == (3, *array.shape[1:])

    labels = restore_logits_to_labels(
        logits, lambda rows: decode_logits(rows, plan.labels), restore
    )
    assert labels.array.shape == (1, *SHAPE)
    assert labels.geometry == volume.geometry  # the very same grid, exactly
    assert set(np.unique(labels.array)) <= {0, 1, 2}
    assert labels.array.any()
    assert np.array_equal(
        prediction.labels.array, labels.array
    )  # the predictor, which users call, walks steps 5 to 10


def test_11_an_answer_is_a_prediction(volume, model, prediction):
    """inference: Predictor(model).predict(DICOM folder) -> Prediction."""
    assert prediction.case == STUDY
    assert prediction.model == model.id
    assert prediction.labels.array.shape == (1, *SHAPE)
    assert prediction.labels.geometry == volume.geometry
    assert prediction.probabilities.array.shape == (3, *SHAPE)
    assert np.allclose(prediction.probabilities.array.sum(axis=0), 1, atol=1e-5)


def test_12_a_prediction_becomes_a_file(volume, prediction, folder):
    """io: NIfTI whose voxels lie where the scanner's did."""
    labels, probabilities = prediction.save(folder / "predictions")

    assert labels.name == f"{STUDY}.nii.gz"
    assert probabilities.name == f"{STUDY}_probabilities.nii.gz"
    assert np.array_equal(read_labels(labels).array, prediction.labels.array)
    assert read_geometry(labels).is_close(volume.geometry, tolerance_voxels=1e-3)


def test_13_a_prediction_is_scored(plan, prediction, folder):
    """metrics, evaluation: labels against a human's -> a Score for each label.

    A folder -> tables with intervals.
    """
    reference = read_labels(folder / "data" / "labelsTs" / f"{STUDY}.nii.gz")
    assert reference.geometry.is_close(prediction.labels.geometry)

    spacing, table = reference.geometry.spacing, plan.labels
    scores = score_labels(
        prediction.labels.array[0], reference.array[0], spacing=spacing, table=table
    )
    assert [score.region for score in scores] == ["liver", "spleen"]
    assert all(0 <= score.dice <= 1 for score in scores)
    liver = np.count_nonzero(reference.array == 1) * reference.geometry.voxel_volume_mm3 / 1000
    assert scores[0].volume_reference_ml == pytest.approx(liver)

    perfect = score_labels(reference.array[0], reference.array[0], spacing=spacing, table=table)
    assert [(score.dice, score.nsd, score.hd95) for score in perfect] == [(1.0, 1.0, 0.0)] * 2

    replace(prediction, probabilities=None).save(folder / "scored")
    evaluation = evaluate_folder(
        folder / "scored",
        folder / "data" / "labelsTs",
        folder / "evaluation",
        table=table,
        threads=1,
    )
    assert [(score.case, score.region) for score in evaluation.scores] == [
        (STUDY, "liver"),
        (STUDY, "spleen"),
    ]
    assert [score.dice for score in evaluation.scores] == [score.dice for score in scores]
    assert {path.name for path in (folder / "evaluation").glob("[!.]*")} == {
        "cases.csv",
        "estimates.csv",
        "summary.json",
        "summary.md",
    }
