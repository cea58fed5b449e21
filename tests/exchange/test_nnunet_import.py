"""Weights by their names both ways, plans of every spelling, and what is refused.

NnU-Net is not needed.
"""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunet_models import architecture, resampling
from nnunet_weights import to_nnunet

from hilum import api
from hilum.errors import ModelError, UsageError
from hilum.exchange import read_nnunet
from hilum.exchange.nnunet.architecture import network_spec
from hilum.exchange.nnunet.names import to_hilum
from hilum.inference import Predictor, TrainedModel
from hilum.networks import build_network
from hilum.plan.plan import NetworkSpec
from hilum.volume import Geometry, Volume

SPECS = {
    "plain": ("plain_unet", 3, (2, 1, 2), (1, 2)),
    "residual": ("residual_unet", 3, (1, 2, 2), (2, 1)),
    "flat plain": ("plain_unet", 2, (2, 2, 2), (2, 2)),
    "flat residual": ("residual_unet", 2, (1, 1, 3), (1, 1)),
}


def spec_of(name, *, inputs=1, outputs=3):
    kind, dimensions, encoder, decoder = SPECS[name]
    z = 1 if dimensions == 2 else 2
    return NetworkSpec(
        kind=kind,
        dimensions=dimensions,
        in_channels=inputs,
        out_channels=outputs,
        features=(4, 8, 12),
        kernels=(
            (1, 3, 3),
            ((z + 1) | 1, 3, 3) if z == 2 else (1, 3, 3),
            ((z + 1) | 1, 3, 3) if z == 2 else (1, 3, 3),
        ),
        strides=((1, 1, 1), (1, 2, 2), (z, 2, 2)),
        encoder_blocks=encoder,
        decoder_blocks=decoder,
        deep_supervision=False,
    )


def drawn(spec, seed=0):
    network = build_network(spec, generator=torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network.eval()


def configuration_of(spec, **changes):
    drop = 3 - spec.dimensions
    name = {"plain_unet": "PlainConvUNet", "residual_unet": "ResidualEncoderUNet"}[spec.kind]
    return {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [8, 16, 16][drop:],
        "spacing": [2.0, 1.0, 0.9][drop:],
        "normalization_schemes": ["ZScoreNormalization"] * spec.in_channels,
        "use_mask_for_norm": [True] * spec.in_channels,
        **resampling(),
        "architecture": architecture(
            name,
            spec.dimensions,
            features=list(spec.features),
            kernels=[list(k[drop:]) for k in spec.kernels],
            strides=[list(k[drop:]) for k in spec.strides],
            blocks=list(spec.encoder_blocks),
            decoder=list(spec.decoder_blocks[::-1]),
        ),
        **changes,
    }


def write_model(
    folder,
    spec,
    *,
    folds=("0",),
    configuration=None,
    labels=None,
    trainer="nnUNetTrainer",
    weights=None,
    **plans,
):
    folder.mkdir(parents=True, exist_ok=True)
    whole = {
        "dataset_name": "Dataset001_Toy",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "configurations": {
            "parent": configuration or configuration_of(spec),
            "used": {"inherits_from": "parent"},
        },
        "foreground_intensity_properties_per_channel": {},
        "original_median_spacing_after_transp": [3.0, 1.0, 1.0],
        **plans,
    }
    dataset = {
        "channel_names": {str(n): f"channel {n}" for n in range(spec.in_channels)},
        "numTraining": 5,
        **(labels or {"labels": {"background": 0, "a": 1, "b": 2}}),
    }
    (folder / "plans.json").write_text(json.dumps(whole))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for number, fold in enumerate(folds):
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        checkpoint = {
            "network_weights": weights or to_nnunet(drawn(spec, seed=number).state_dict(), spec),
            "trainer_name": trainer,
            "init_args": {"configuration": "used"},
            "current_epoch": 1000,
            "inference_allowed_mirroring_axes": (0, 1),
        }
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


@pytest.mark.parametrize("name", SPECS)
def test_weights_go_there_and_back(name):
    spec = spec_of(name)
    ours = drawn(spec).state_dict()
    theirs = to_nnunet(ours, spec)
    back = to_hilum(theirs, spec)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[key], ours[key]) for key in ours)
    compiled = {f"_orig_mod.{key}": tensor for key, tensor in theirs.items()}
    assert to_hilum(compiled, spec).keys() == ours.keys()


@pytest.mark.parametrize("name", SPECS)
def test_an_imported_model_is_the_network_and_predicts(tmp_path, name):
    spec = spec_of(name)
    folder = write_model(tmp_path / "theirs", spec, folds=("0", "1"))
    api.import_nnunet(folder, tmp_path / "ours")
    model = TrainedModel.load(tmp_path / "ours", device="cpu")
    assert model.plan.network.value == spec
    assert len(model.networks) == 2
    for seed, network in enumerate(model.networks):
        expected = drawn(spec, seed=seed).state_dict()
        assert all(
            torch.equal(tensor, expected[key]) for key, tensor in network.state_dict().items()
        )
    assert model.plan.augmentation.value.mirror_axes == ((1, 2) if spec.dimensions == 2 else (0, 1))
    assert model.plan.steps.value == 250_000
    assert all(decision.because for decision in model.plan.decisions.values())
    image = Volume(
        np.random.default_rng(0).normal(size=(1, 9, 20, 21)).astype(np.float32),
        Geometry.from_spacing((9, 20, 21), (3.5, 1, 1)),
    )
    answer = Predictor(model, engine="torch").predict(image, case="one")
    assert answer.labels.geometry == image.geometry
    card = (tmp_path / "ours" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "nnU-Net" in card
    assert "Training:" not in card  # neither steps nor minutes are known
    assert "steps and time are not known" in card


def test_an_imported_model_is_not_written_among_its_source(tmp_path):
    (tmp_path / "plans.json").write_text("{}")
    with pytest.raises(UsageError, match=r"inputs of hilum import lie in"):
        api.import_nnunet(tmp_path, tmp_path)


def test_regions_decode_as_nnunet_writes_them(tmp_path):
    labels = {
        "labels": {"background": 0, "all": [1, 2, 3], "core": [2, 3], "tip": 3, "ignore": 4},
        "regions_class_order": [1, 2, 3],
    }
    table = read_nnunet(write_model(tmp_path, spec_of("plain"), labels=labels)).plan.labels
    assert [region.labels for region in table.regions] == [(1, 2, 3), (2, 3), (3,)]
    assert table.decode_ids == (1, 2, 3)
    assert table.ignore == 4
    lists = {
        "labels": {"background": 0, "a": [1], "b": [2]}
    }  # lists of one id each are no regions for nnU-Net
    assert read_nnunet(write_model(tmp_path, spec_of("plain"), labels=lists)).plan.labels.exclusive


def test_folds(tmp_path):
    folder = write_model(tmp_path, spec_of("plain"), folds=("0", "3", "all"))
    assert read_nnunet(folder).facts.details["folds"] == "0, 3"
    assert read_nnunet(folder, folds=("all",)).facts.details["folds"] == "all"
    with pytest.raises(UsageError, match="fold 7"):
        read_nnunet(folder, folds=("7",))
    with pytest.raises(UsageError, match="folds 0, all"):
        read_nnunet(folder, folds=("0", "all"))
    with pytest.raises(ModelError, match="checkpoint_best"):
        read_nnunet(folder, checkpoint="best")
    with pytest.raises(UsageError, match="last"):
        read_nnunet(folder, checkpoint="last")


def test_old_plans_describe_the_same_network():
    old = {
        "patch_size": [8, 16, 16],
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 12,
        "n_conv_per_stage_encoder": [2, 1, 2],
        "n_conv_per_stage_decoder": [2, 1],
        "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    }
    assert network_spec(old, inputs=1, outputs=3, source="plans.json") == spec_of("plain")
    del old["UNet_class_name"]
    with pytest.raises(ModelError, match='2d has neither "architecture" nor "UNet_class_name"'):
        network_spec(old, inputs=1, outputs=3, source="plans.json: configuration 2d")


def changed_architecture(**changes):
    configuration = configuration_of(spec_of("plain"))
    configuration["architecture"]["arch_kwargs"] |= changes
    return configuration


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"configuration": configuration_of(spec_of("plain"), previous_stage="3d_lowres")},
            "second stage of a cascade",
        ),
        ({"trainer": "nnUNetTrainerUMamba"}, "nnUNetTrainerUMamba"),
        ({"trainer": "nnUNetTrainerBN"}, "nnUNetTrainerBN"),
        (
            {"configuration": configuration_of(spec_of("plain"), preprocessor_name="Mine")},
            "preprocessor Mine",
        ),
        ({"trainer": "nnUNetTrainerAdamMyOtherNetwork"}, "MyOtherNetwork"),
        (
            {"trainer": "nnUNetTrainer" + "_1epoch" * 5000 + "!"},
            "may build another network",
        ),  # at once
        ({"image_reader_writer": "MyIO"}, "MyIO"),
        ({"image_reader_writer": "Tiff3DIO"}, "Tiff3DIO, which takes spacings from a .json"),
        (
            {"configuration": configuration_of(spec_of("plain"), normalization_schemes=["Mine"])},
            "normalisation Mine",
        ),
        (
            {
                "configuration": configuration_of(
                    spec_of("plain"), resampling_fn_data="resample_torch"
                )
            },
            "resample_torch",
        ),
        (
            {
                "configuration": changed_architecture(
                    norm_op="torch.nn.modules.batchnorm.BatchNorm3d"
                )
            },
            "BatchNorm3d",
        ),
        ({"configuration": changed_architecture(nonlin="torch.nn.ReLU")}, "nonlin='torch.nn.ReLU'"),
        (
            {"configuration": changed_architecture(nonlin_kwargs={"negative_slope": 0.2})},
            "negative_slope=0.2",
        ),
        (
            {"configuration": changed_architecture(norm_op_kwargs={"eps": 1e-3, "affine": True})},
            "norm_op_kwargs",
        ),
        ({"configuration": changed_architecture(squeeze_excitation=True)}, "squeeze_excitation"),
        ({"configuration": changed_architecture(features_per_stage=[4, 8, 16])}, "of shape"),
        ({"configurations": {"other": {}}}, "configuration 'used'"),
        ({"labels": {"labels": {"background": 0, "a": 1, "b": 5}}}, "labels"),
    ],
)
def test_what_cannot_be_done_alike_is_refused_by_name(tmp_path, changes, match):
    folder = write_model(tmp_path, spec_of("plain"), **changes)
    with pytest.raises(ModelError, match=match):
        read_nnunet(folder)


def test_weights_of_another_network_are_refused(tmp_path):
    spec = spec_of("plain")
    weights = to_nnunet(drawn(spec).state_dict(), spec)
    with pytest.raises(ModelError, match="no place for"):
        read_nnunet(
            write_model(tmp_path, spec, weights=weights | {"attention.weight": torch.zeros(2)})
        )
    weights.pop("decoder.transpconvs.0.weight")
    with pytest.raises(ModelError, match=r"decoder\.transpconvs\.0\.weight is missing"):
        read_nnunet(write_model(tmp_path, spec, weights=weights))


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(ModelError, match=r"no plans\.json"):
        read_nnunet(tmp_path)


@pytest.mark.parametrize(
    "trainer",
    [
        "nnUNetTrainer_onlyMirror01",
        "nnUNetTrainer_4000epochs_NoMirroring",
        "nnUNetTrainerDA5",
        "nnUNetTrainer_1epoch",
    ],
)
def test_nnunets_own_trainers_are_known(tmp_path, trainer):
    assert (
        read_nnunet(write_model(tmp_path, spec_of("plain"), trainer=trainer)).facts.details[
            "trainer"
        ]
        == trainer
    )


@pytest.mark.parametrize(
    "notes",
    [{"inference_allowed_mirroring_axes": [[0]]}, {"inference_allowed_mirroring_axes": [True]}],
)
def test_axes_that_are_none_are_refused(tmp_path, notes):
    folder = write_model(tmp_path, spec_of("plain"))
    path = folder / "fold_0" / "checkpoint_final.pth"
    torch.save(torch.load(path) | notes, path)
    with pytest.raises(ModelError, match="inference_allowed_mirroring_axes"):
        read_nnunet(folder)


def test_an_endless_number_of_epochs_is_not_told(tmp_path):
    folder = write_model(tmp_path, spec_of("plain"))
    path = folder / "fold_0" / "checkpoint_final.pth"
    torch.save(torch.load(path) | {"current_epoch": float("inf")}, path)
    assert read_nnunet(folder).facts.details["epochs"] is None


@pytest.mark.parametrize(
    "configuration",
    [
        changed_architecture(n_stages=None),
        changed_architecture(n_stages=10**9, features_per_stage=4),
        changed_architecture(features_per_stage=[4, 8, 10**6]),
        changed_architecture(n_conv_per_stage=[2, 1, 10**9]),
        configuration_of(spec_of("plain"), normalization_schemes=["ZScoreNormalization"] * 2),
        configuration_of(spec_of("plain"), patch_size=3),
        configuration_of(spec_of("plain"), spacing=[0, 1, 1]),
    ],
)
def test_damaged_plans_are_refused(tmp_path, configuration):
    with pytest.raises(ModelError):
        read_nnunet(write_model(tmp_path, spec_of("plain"), configuration=configuration))


def test_a_network_of_other_weights_takes_no_memory(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(torch.nn.Module, "to_empty", lambda self, **_: made.append(self))
    assert read_nnunet(
        write_model(
            tmp_path / "own", spec_of("plain"), weights=to_nnunet(WEIGHTS, spec_of("plain"))
        )
    )
    huge = write_model(
        tmp_path / "huge",
        spec_of("plain"),
        configuration=changed_architecture(features_per_stage=[4, 8, 4096]),
        weights=to_nnunet(WEIGHTS, spec_of("plain")),
    )
    with pytest.raises(ModelError, match="of shape"):
        read_nnunet(huge)
    assert made == []


WEIGHTS = drawn(spec_of("plain")).state_dict()
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 5),
    st.sampled_from(
        [
            10**12,
            1e400,
            -1.5,
            "",
            "x",
            "3d",
            [],
            {},
            [[0]],
            {"a": 1},
            [1, 2],
            ["1"],
            [None, None, None],
        ]
    ),
)


def places(value):
    """Every place of a document, as its container and key."""
    for key, part in list(value.items()) if isinstance(value, dict) else list(enumerate(value)):
        yield value, key
        if isinstance(part, dict | list):
            yield from places(part)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("toy"), spec_of("plain"))


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(["plans.json", "dataset.json"]), other=ANYTHING)
def test_damaged_descriptions_are_refused_or_read(toy, data, name, other):
    whole = (toy / name).read_text()
    document = json.loads(whole)
    owner, key = data.draw(st.sampled_from(list(places(document))))
    owner[key] = other
    try:
        (toy / name).write_text(json.dumps(document))
        with contextlib.suppress(ModelError):  # anything else that it raises is an escape
            assert read_nnunet(toy).plan
    finally:
        (toy / name).write_text(whole)


def told(folder, **held):
    """The summaries of nnU-Net's own validation; numTraining of the toy is 5."""
    facts = json.loads((folder / "dataset.json").read_text()) | {"file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(facts))
    for fold, cases in held.items():
        path = folder / fold / "validation" / "summary.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        entries = [{"prediction_file": f"/results/{case}.nii.gz", "metrics": {}} for case in cases]
        path.write_text(json.dumps({"metric_per_case": entries}))


def test_the_cases_of_each_fold_are_told_where_the_folder_tells_all(tmp_path):
    folder = write_model(tmp_path / "a", spec_of("plain"), folds=("0", "1"))
    told(folder, fold_0=["a", "b"], fold_1=["c", "d"])
    assert (
        "fold 0" not in read_nnunet(folder).facts.details
    )  # the fifth case may have been in either
    told(folder, fold_1=["c", "d", "e"])
    details = read_nnunet(folder).facts.details
    assert details["fold 0"] == {"train": ["c", "d", "e"], "validation": ["a", "b"]}
    assert details["fold 1"] == {"train": ["a", "b"], "validation": ["c", "d", "e"]}
    splits = [{"train": ["x"], "val": ["y"]}, {"train": ["y"], "val": ["x"]}]
    (folder / "splits_final.json").write_text(json.dumps(splits))
    assert read_nnunet(folder, folds=("1",)).facts.details["fold 1"] == {
        "train": ["y"],
        "validation": ["x"],
    }
    (folder / "splits_final.json").write_text(json.dumps(splits[:1]))
    assert "fold 0" not in read_nnunet(folder).facts.details  # never some of the networks
    (folder / "splits_final.json").write_text("[3]")
    with pytest.raises(ModelError, match="is no list of folds"):
        read_nnunet(folder)
