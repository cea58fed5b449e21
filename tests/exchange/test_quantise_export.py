"""int8 is accepted only where the Dice on validation cases says so."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from hilum import api
from hilum.dataset import open_dataset
from hilum.dataset.case import Fold
from hilum.engines.openvino_library import ov
from hilum.errors import DataError, ModelError, UsageError
from hilum.exchange.quantise import (
    FEWEST_PATIENTS,
    _refuse_beyond,
    calibration_patches,
    compare_engines,
    split_cases,
)
from hilum.files import atomic_write_text
from hilum.inference import Facts
from hilum.inference.export_manifest import LabelQuality, Quantisation
from hilum.inference.exported import TestVectors
from hilum.io import write_labels, write_volume
from hilum.plan.plan import Normalisation
from hilum.volume import Geometry, LabelTable, Volume
from inference_toys import real_model

SHAPE = (8, 16, 12)
TRAINED, HELD = ("c0", "c1", "c2", "c3", "c4", "c5"), ("c10", "c11", "c6", "c7", "c8", "c9")
LABELS = LabelTable.from_names({1: "large", 2: "small"})


def write_data(folder, *, cases=12, each=2, annotated=None):
    """Blocks of two brightnesses in noise; so many cases of each patient.

    The first ones annotated, or all.
    """
    rng = np.random.default_rng(0)
    geometry = Geometry.from_spacing(SHAPE, (2.0, 1.0, 1.5))
    for number in range(cases):
        labels = np.zeros((1, *SHAPE), np.uint8)
        z, y, x = (int(v) for v in rng.integers((1, 1, 1), (3, 5, 4)))
        labels[0, z : z + 4, y : y + 8, x : x + 4] = 1
        labels[0, z : z + 3, y : y + 8, x + 4 : x + 7] = 2
        image = rng.normal(0, 0.1, labels.shape) + labels
        write_volume(
            Volume(image.astype(np.float32), geometry),
            folder / "imagesTr" / f"c{number}_0000.nii.gz",
        )
        if annotated is None or number < annotated:
            write_labels(Volume(labels, geometry), folder / "labelsTr" / f"c{number}.nii.gz")
    names = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "large": 1, "small": 2},
        "file_ending": ".nii.gz",
    }
    atomic_write_text(folder / "dataset.json", json.dumps(names | {"numTraining": cases}))
    rows = "\n".join(f"c{n},P{n // each}" for n in range(cases))
    atomic_write_text(folder / "patients.csv", f"case,patient\n{rows}\n")
    return folder


def learnt(data, *, steps=80):
    """A tiny network, trained until it tells the blocks apart."""
    model = real_model(
        labels=LABELS,
        patch=SHAPE,
        channels=("MR",),
        normalisation=(Normalisation(kind="unit", upper=1.0),),
    )
    images, targets = [], []
    plan = model.plan
    from hilum.dataset import read_annotation, read_case
    from hilum.preprocess import preprocess_case, preprocess_labels

    for case in open_dataset(data).cases:
        array, restore = preprocess_case(read_case(case), plan)
        images.append(torch.from_numpy(np.ascontiguousarray(array)))
        targets.append(
            torch.from_numpy(preprocess_labels(read_annotation(case), restore).astype(np.int64))
        )
    network = model.networks[0].train()
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-2)
    for _ in range(steps):
        loss = functional.cross_entropy(network(torch.stack(images)), torch.stack(targets))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    details = {"fold 0": {"train": list(TRAINED), "validation": sorted(HELD), "steps": steps}}
    return replace(
        model, facts=Facts(dataset="blocks", cases=12, steps=steps, seconds=1.0, details=details)
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("blocks"))


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    return learnt(data).save(tmp_path_factory.mktemp("model"))


@pytest.mark.slow
def test_int8_that_keeps_the_dice_is_exported_with_its_figures(model, data, tmp_path):
    made = api.export(model, tmp_path / "int8", precision="int8", data=data, gate=0.02)
    record = made.manifest.quantisation
    assert record.calibrated_on == TRAINED
    assert record.validated_on == HELD
    assert record.patients == 3
    assert record.notes == ()
    assert [one.region for one in record.labels] == ["large", "small"]
    for one in record.labels:
        assert one.reference > 0.9
        assert one.int8 >= one.reference - 0.02
        assert 0.9 < one.agreement <= 1
        assert one.cases == 6
    assert made.manifest.stored == "int8"
    engine = made.make_engine()
    assert (engine.name, engine.precision) == ("openvino", "int8")
    assert 0 <= made.check(engine) < 0.1
    exactly = TestVectors.load(made.folder / "test_vectors.npz")
    assert (
        made.manifest.differences["openvino"] < 1e-4 < record.distance < 0.5
    )  # the first is of int8 from itself
    assert exactly.difference(model.make_engine("torch", "float32")) == pytest.approx(
        record.distance, rel=0.2
    )
    for name in ("MODEL_CARD.md", "metrics.json"):
        text = (made.folder / name).read_text()
        assert f"the model in float32 (id {model.id})" in text
        assert "on 6 cases of 3 patients: large: Dice" in text
    with pytest.raises(UsageError, match="stored as int8"):
        made.make_engine(precision="float32")
    page = (made.folder / "README.md").read_text()
    assert "| small | 0.9" in page
    patch = np.random.default_rng(0).standard_normal((1, 1, *SHAPE), dtype=np.float32)
    exact = model.make_engine("torch", "float32")(patch)
    assert np.abs(engine(patch) - exact).max() > 0  # it is another network
    network = ov.Core().read_model(made.folder / "network.xml")
    quantised = [
        node.input(0).get_source_output().get_node().get_type_name() == "FakeQuantize"
        for node in network.get_ordered_ops()
        if node.get_type_name() in {"Convolution", "ConvolutionBackpropData"}
    ]
    assert not quantised[0]
    assert not quantised[-1]
    assert sum(quantised) > 1
    report = api.predict(made.folder, data / "imagesTr", tmp_path / "out")
    assert report.status == "done"
    assert report.precision == "int8"


@pytest.mark.slow
def test_int8_that_loses_is_refused_with_the_figures_and_leaves_nothing(
    model, data, tmp_path, monkeypatch
):
    from hilum.exchange import quantise

    honest = quantise._quantise_network

    def spoilt(network, patches):
        return honest(
            network, [np.zeros_like(patch) for patch in patches]
        )  # ranges of nothing: everything saturates

    monkeypatch.setattr(quantise, "_quantise_network", spoilt)
    with pytest.raises(
        ModelError,
        match=r"(?s)int8 costs too much: .*large: Dice 0\.9\d+ in float32, 0\.\d+ in int8",
    ) as caught:
        api.export(model, tmp_path / "out" / "int8", precision="int8", data=data)
    assert "at most 0.005" in str(caught.value)
    assert "6 validation cases of 3 patients" in str(caught.value)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def told(model, details):
    return replace(model, facts=model.facts.model_copy(update={"details": details}))


def test_cases_are_split_as_the_training_had_them(model, data):
    split = split_cases(model, open_dataset(data))
    assert tuple(case.id for case in split.calibration) == TRAINED
    assert tuple(case.id for case in split.validation) == HELD
    assert split.notes == ()


def test_a_patient_is_never_on_both_sides(model, data):
    # c2 and c4 are patients of c3 and c5
    details = {"fold 0": {"train": ["c0", "c1", "c2", "c4"], "validation": ["c3", "c5", "c6"]}}
    split = split_cases(told(model, details), open_dataset(data))
    assert {case.patient for case in split.calibration}.isdisjoint(
        {case.patient for case in split.validation}
    )
    assert [case.id for case in split.calibration] == ["c0", "c1"]


def test_patients_are_those_that_training_was_told_of(model, tmp_path):
    """The patients stand nowhere but in the names: c1, c10, c11 are of one patient."""
    data = write_data(tmp_path, each=1)
    (data / "patients.csv").unlink()
    seen = []

    def split(found, dataset):
        seen.append(split_cases(told(found, {}), dataset))
        raise DataError("far enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hilum.exchange.quantise.split_cases", split)
        for patients in (None, "c(.)"):
            with pytest.raises(DataError, match="far enough"):
                api.export(model, tmp_path / "out", precision="int8", data=data, patients=patients)
    alone, together = seen
    assert {case.patient for case in (*alone.calibration, *alone.validation)} == {None}
    sides = [
        {case.id for case in side} & {"c1", "c10", "c11"}
        for side in (together.calibration, together.validation)
    ]
    assert sorted(map(len, sides)) == [0, 3]


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({}, "are of 0 patients"),
        (
            {
                "fold 0": {"train": ["c0", "c1"], "validation": ["c2", "c3"]},
                "fold 1": {"train": ["c2", "c3"], "validation": ["c0", "c1"]},
            },
            "are of 0 patients",
        ),
        ({"fold 0": {"train": ["other"], "validation": ["another"]}}, "are of 0 patients"),
        ({"origin": "an import that names no cases"}, "are of 0 patients"),
        (
            {"fold 0": {"train": list(TRAINED), "validation": ["c6", "c7", "c8"]}},
            "are of 2 patients, and 3 and others are needed",
        ),
        (
            {"fold 0": {"train": ["c6", "c8", "c10"], "validation": ["c7", "c9", "c11"]}},
            "are of 3 patients",
        ),
    ],
)
def test_where_too_little_was_held_out_a_fold_is_and_the_note_says_why(model, data, details, words):
    split = split_cases(told(model, details), open_dataset(data))
    assert split.calibration
    assert len({case.patient for case in split.validation}) >= FEWEST_PATIENTS
    assert {case.patient for case in split.calibration}.isdisjoint(
        {case.patient for case in split.validation}
    )
    assert words in split.notes[0]
    assert "may have learnt from" in split.notes[0]


def test_a_fold_is_of_annotated_cases_only(model, tmp_path):
    data = open_dataset(write_data(tmp_path, cases=30, each=1, annotated=4))
    split = split_cases(told(model, {}), data)
    assert {case.id for case in (*split.calibration, *split.validation)} <= {"c0", "c1", "c2", "c3"}
    given = replace(data, splits=(Fold(("c4",), ("c5",)), Fold(("c0",), ("c1", "c2", "c3"))))
    assert [case.id for case in split_cases(told(model, {}), given).calibration] == ["c0"]


@pytest.mark.parametrize(
    "options",
    [{"cases": 1}, {"cases": 8, "each": 8}, {"cases": 6}, {"cases": 8, "annotated": 3, "each": 1}],
)
def test_too_few_patients_are_refused(model, tmp_path, options):
    data = open_dataset(write_data(tmp_path, **options))
    with pytest.raises(
        UsageError, match=r"(?s)annotated cases? of [1-3] patients?.*at least 4 patients"
    ):
        split_cases(model, data)


def record_of(*references, gate=0.005):
    labels = tuple(
        LabelQuality(
            region=f"r{n}", reference=one, int8=one, agreement=one, cases=0 if one is None else 3
        )
        for n, one in enumerate(references)
    )
    cases = ("c0", "c1", "c2")
    return Quantisation(
        dataset="d",
        calibrated_on=(),
        patches=1,
        validated_on=cases,
        patients=3,
        distance=0.1,
        gate=gate,
        labels=labels,
        method="m",
    )


def test_labels_that_nothing_judges():
    _refuse_beyond(record_of(0.9, 0.9, 0.9, None))
    with pytest.raises(
        ModelError,
        match=(
            r"(?s)1 of 3 labels are in none of 3 validation cases of 3 patients: r1.*at least 75%"
        ),
    ):
        _refuse_beyond(record_of(0.9, None, 0.9))
    with pytest.raises(ModelError, match="1 of 1 labels"):
        _refuse_beyond(record_of(None))


def test_calibration_sees_what_the_network_sees(model, data):
    cases = open_dataset(data).cases
    patches = calibration_patches(model.plan, cases)
    assert len(patches) == 4 * len(cases)
    assert {patch.shape for patch in patches} == {(1, 1, *SHAPE)}
    again = calibration_patches(model.plan, cases)
    assert all(np.array_equal(a, b) for a, b in zip(patches, again, strict=True))
    larger = real_model(labels=LABELS, patch=(16, 16, 12), channels=("MR",)).plan
    padded = calibration_patches(larger, cases[:1])
    assert {patch.shape for patch in padded} == {(1, 1, 16, 16, 12)}


def test_two_engines_are_compared_by_label(model, data):
    cases = open_dataset(data).cases[-2:]
    right = model.make_engine("torch", "float32")

    class NeverSmall:
        def __getattr__(self, name):
            return getattr(right, name)

        def __call__(self, patches):
            logits = right(patches)
            logits[:, 2] = -1e6
            return logits

    large, small = compare_engines(model, right, NeverSmall(), cases)
    assert large.reference > 0.9
    assert large.cases == small.cases == 2
    assert small.reference > 0.9
    assert small.int8 == small.agreement == 0
    same = compare_engines(model, right, right, cases)
    assert [one.agreement for one in same] == [1, 1]
    assert [one.int8 for one in same] == [one.reference for one in same]


def test_what_cannot_be_quantised(model, data, tmp_path):
    with pytest.raises(UsageError, match="gate=2 is no loss"):
        api.export(model, tmp_path / "a", precision="int8", data=data, gate=2)
    two = real_model(channels=("a", "b"))
    with pytest.raises(DataError, match=r"1 channel \(MR\)"):
        api.export(two.save(tmp_path / "two"), tmp_path / "b", precision="int8", data=data)
    one = write_data(tmp_path / "one", cases=1)
    with pytest.raises(UsageError, match="1 annotated case of 1 patient"):
        api.export(model, tmp_path / "c", precision="int8", data=one)
    assert not [name for name in "abc" if (tmp_path / name).exists()]
