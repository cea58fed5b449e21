"""timm's backbones as hilum uses them: what goes in, where the maps lie, what is refused."""

import pytest
import timm
import torch
from classifier_toys import SPECS, classifier_spec, image

from hilum.errors import UsageError
from hilum.networks import Encoder, build_network


def same_weights(name: str, encoder: Encoder, **options: object) -> torch.nn.Module:
    """timm's own network with the encoder's weights."""
    model = timm.create_model(name, in_chans=encoder.scale.numel(), num_classes=0, **options).eval()
    model.load_state_dict(encoder.model.state_dict())
    return model


@pytest.mark.parametrize(
    "backbone",
    ["resnet18", "tf_efficientnet_lite0", "convnext_atto", "swin_tiny_patch4_window7_224"],
)
def test_features_are_those_of_timm(backbone: str) -> None:
    encoder = build_network(classifier_spec(backbone=backbone)).eval().encoder
    size = 224 if "224" in backbone else 64
    x = image(2, 2, size, size)
    with torch.inference_mode():
        expected = same_weights(backbone, encoder)(x)
        torch.testing.assert_close(encoder.pool(encoder.maps(x)), expected, atol=1e-4, rtol=1e-4)


def test_a_transformer_s_features_are_the_mean_of_its_patches():
    name = "vit_tiny_patch16_224"
    encoder = build_network(classifier_spec(backbone=name)).eval().encoder
    x = image(2, 2, 224, 224)
    with torch.inference_mode():
        expected = same_weights(name, encoder, global_pool="avg", fc_norm=False)(x)
        maps = encoder.maps(x)
        tokens = encoder.model.forward_features(x)[:, 1:]
        torch.testing.assert_close(encoder.pool(maps), expected, atol=1e-5, rtol=1e-4)
    assert maps.shape == (2, 192, 14, 14)
    torch.testing.assert_close(maps[:, :, 3, 5], tokens[:, 3 * 14 + 5])  # rows first


def test_pictures_are_padded_to_whole_patches_below_and_right():
    encoder = build_network(classifier_spec(backbone="vit_tiny_patch16_224")).eval().encoder
    x = image(1, 2, 33, 40)
    padded = torch.zeros(1, 2, 48, 48)
    padded[:, :, :33, :40] = x
    with torch.inference_mode():
        assert torch.equal(encoder.maps(x), encoder.maps(padded))


def test_input_is_rescaled_to_what_the_weights_expect():
    """A photograph reaches the backbone as the weights' own normalisation would make it."""
    encoder = Encoder("resnet18", 3).eval()
    photograph = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    mean, std = (
        torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.inference_mode():
        expected = encoder.maps((photograph - 0.5) / 0.25)
        encoder.expect((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        torch.testing.assert_close(
            encoder.maps((photograph - mean) / std),
            encoder.model.forward_features((photograph - 0.5) / 0.25),
        )
    assert not torch.allclose(expected, encoder.maps((photograph - mean) / std))


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_numbers_of_channels_get_the_mean_rescaling(channels: int) -> None:
    encoder = Encoder("resnet18", channels)
    encoder.expect((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert encoder.scale.tolist() == pytest.approx([2 * (0.229 + 0.224 + 0.225) / 3] * channels)
    assert encoder.shift.tolist() == pytest.approx(
        [2 * ((0.485 + 0.456 + 0.406) / 3 - 0.5)] * channels
    )


def test_imagenet_s_own_statistics_change_nothing():
    encoder = Encoder("resnet18", 3)
    encoder.expect((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert encoder.scale.tolist() == pytest.approx([1] * 3)
    assert encoder.shift.tolist() == [0] * 3


@pytest.mark.parametrize("name", ["resnet", "vit", "swin"])
def test_a_backbone_answers_a_volume_by_the_mean_of_its_slices_logits(name: str) -> None:
    network = build_network(SPECS[name]).eval()
    x = image(2, 2, 3, 40, 33)
    with torch.inference_mode():
        slices = torch.stack([network(x[:, :, z : z + 1]) for z in range(3)]).mean(0)
        torch.testing.assert_close(network(x), slices, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            network.maps(x)[:, :, 1], network.maps(x[:, :, 1:2])[:, :, 0], atol=1e-4, rtol=1e-4
        )


def test_a_place_of_the_maps_lies_where_it_saw_the_image():
    network = build_network(SPECS["resnet"])
    weights = torch.zeros(1, 3, 2, 4)
    weights[0, 1, 0, 3] = 1
    shown = network.on_image(weights, (3, 20, 40))[0]
    assert shown.shape == (3, 20, 40)
    assert divmod(int(shown.argmax()) % 800, 40)[0] < 10
    assert int(shown.argmax()) // 800 == 1
    assert int(shown[1].argmax()) % 40 >= 30
    assert not shown[1, 10:, :20].any()


@pytest.mark.parametrize("backbone", ["test_vit", "swin_tiny_patch4_window7_224"])
@pytest.mark.parametrize("planes", ["one", "axial", "three"])
def test_a_place_of_a_padded_picture_s_maps_lies_where_it_saw_the_image(
    backbone: str, planes: str
) -> None:
    """38 by 50 pixels are padded to 48 by 64 by patches of 16.

    To 64 by 64 by windows whose cells are 32 in the end.
    """
    size, cell = (3, 38, 50), 16 if backbone == "test_vit" else 32
    spec = (
        classifier_spec(backbone=backbone)
        if planes == "one"
        else classifier_spec("slices", backbone, planes=planes)
    )
    network = build_network(spec).eval()
    with torch.inference_mode():
        shape = network.maps(image(1, 2, *size)).shape
    assert shape[2:] == (91 if planes == "three" else 3, -(-38 // cell), -(-50 // cell))
    rows, columns = (torch.arange(count).float() for count in shape[3:])
    weights = torch.zeros(1, *shape[2:])
    weights[0, :3] = (
        rows[:, None] + 10 * columns
    )  # linear between the cells' middles, constant beyond the last
    pixels = [
        ((torch.arange(n) + 0.5) / cell - 0.5).clamp(0, len(c) - 1)
        for n, c in ((38, rows), (50, columns))
    ]
    expected = (pixels[0][:, None] + 10 * pixels[1]).expand(size)
    torch.testing.assert_close(network.on_image(weights, size)[0], expected, atol=1e-4, rtol=1e-4)


def test_a_place_of_a_padded_plane_is_cut_off_before_it_is_turned() -> None:
    """Coronal slices, 3 by 50, are seen at 38 by 50.

    What is said of their padding, rows from 38 on, lies nowhere.
    """
    network = build_network(classifier_spec("slices", "test_vit", planes="three"))
    weights = torch.zeros(1, 3 + 38 + 50, 3, 4)
    weights[0, 3:41, :, 0] = torch.arange(3.0)
    shown = network.on_image(weights, (3, 38, 50))[0]
    wanted = [max((row + 0.5) * 38 / 3 / 16 - 0.5, 0.0) for row in range(3)]
    assert shown[:, 20, 3].tolist() == pytest.approx(wanted, abs=0.05)


@pytest.mark.parametrize(
    ("backbone", "size", "message"),
    [
        (
            "densenet121",
            (1, 20, 20),
            "'densenet121' refuses images of .20, 20. pixels: .*too small",
        ),
        ("mixer_s32_224", (1, 64, 64), "'mixer_s32_224' refuses images of .64, 64. pixels"),
    ],
)
def test_sizes_that_a_backbone_cannot_take_are_refused(
    backbone: str, size: tuple[int, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build_network(classifier_spec(backbone=backbone)).eval()(torch.zeros(1, 2, *size))


def test_errors_that_are_not_about_size_are_told_as_they_are():
    encoder = Encoder("resnet18", 2)
    with pytest.raises(RuntimeError, match="must match the size"):
        encoder.maps(torch.zeros(1, 3, 32, 32))


def test_features_without_a_place_are_refused():
    with pytest.raises(UsageError, match="features of backbone='mixer_s32_224' have no place"):
        build_network(classifier_spec(backbone="mixer_s32_224")).eval()(
            torch.zeros(1, 2, 1, 224, 224)
        )


def test_a_backbone_without_maps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: torch.nn.Linear(1, 1))
    with pytest.raises(UsageError, match="features of backbone='resnet18' have no place"):
        Encoder("resnet18", 2)
