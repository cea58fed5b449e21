"""The textbook's three lines."""

import re

import pytest
import torch
from classifier_toys import image
from torch import nn

from hilum.errors import UsageError
from hilum.networks import Classifier
from hilum.networks.classifier import ClassifierNetwork


@pytest.fixture(scope="module")
def model() -> Classifier:
    return Classifier(num_classes=4, backbone="tf_efficientnet_lite0", freeze=True, hub=False)


def test_pictures_and_images_are_taken(model: Classifier) -> None:
    model.eval()
    pictures = image(2, 3, 64, 48)
    with torch.inference_mode():
        assert model(pictures).shape == (2, 4)
        assert torch.equal(model(pictures), model(pictures[:, :, None]))
        assert torch.equal(model.features(pictures), model.features(pictures[:, :, None]))
    assert isinstance(model, ClassifierNetwork)


def test_frozen_only_the_head_learns_and_statistics_stay(model: Classifier) -> None:
    model.train()
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        "head.1.weight",
        "head.1.bias",
    ]
    assert not any(
        module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d)
    )
    before = {name: value.clone() for name, value in model.named_buffers()}
    model(image(2, 3, 64, 48)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_it_starts_from_pretrained_weights_and_says_so(model: Classifier) -> None:
    assert model.adoption is not None
    assert model.adoption.sentence.startswith("tf_efficientnet_lite0 starts from ")
    other = Classifier(4, "tf_efficientnet_lite0", pretrained=False)
    assert other.adoption is None
    assert not torch.equal(
        other.encoder.model.conv_stem.weight, model.encoder.model.conv_stem.weight
    )
    assert torch.equal(other.head[1].weight, model.head[1].weight)  # of the same seed


def test_not_frozen_everything_learns():
    model = Classifier(2, "resnet18", freeze=False, pretrained=False, in_channels=1).train()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())
    assert model(image(2, 1, 40, 40)).shape == (2, 2)


def test_a_seed_makes_the_network_and_no_global_random_number_is_drawn():
    before = torch.random.get_rng_state()
    a, b, c = (
        Classifier(2, "resnet18", pretrained=False, seed=seed).state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["head.1.weight"], c["head.1.weight"])


def test_a_file_of_weights_is_taken(tmp_path) -> None:
    source = Classifier(2, "resnet18", pretrained=False, seed=5)
    torch.save(source.encoder.model.state_dict(), tmp_path / "mine.pth")
    model = Classifier(2, "resnet18", weights=tmp_path / "mine.pth", hub=False)
    assert torch.equal(model.encoder.model.conv1.weight, source.encoder.model.conv1.weight)
    assert model.adoption.origin.startswith("the file mine.pth")


def test_it_can_be_trained_in_a_few_lines(model: Classifier) -> None:
    """A frozen backbone and a new head tell two textures apart."""
    x, target = 0.1 * image(8, 3, 64, 64), torch.tensor([0, 1] * 4)
    x[target == 1] += torch.sin(torch.arange(64) / 2)
    head = Classifier(2, "tf_efficientnet_lite0", hub=False).train()
    optimiser = torch.optim.Adam((p for p in head.parameters() if p.requires_grad), lr=1e-2)
    for _ in range(5):
        loss = nn.functional.cross_entropy(head(x), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (head.eval()(x).argmax(1) == target).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "0 classes"),
        ({"num_classes": 2, "in_channels": 0}, "0 channels"),
        ({"num_classes": 2, "dropout": 1.0}, "dropout 1.0"),
    ],
)
def test_impossible_numbers_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=f"a classifier cannot have .*{re.escape(message)}"):
        Classifier(backbone="resnet18", pretrained=False, **arguments)


def test_none_is_no_file_but_no_weights_as_on_the_command_line() -> None:
    drawn = Classifier(2, "resnet18", weights="none")
    assert drawn.adoption is None
    assert torch.equal(
        drawn(image(1, 3, 32, 32)), Classifier(2, "resnet18", pretrained=False)(image(1, 3, 32, 32))
    )
