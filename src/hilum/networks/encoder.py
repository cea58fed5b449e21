"""A timm backbone without its head, for any number of channels and any picture size."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hilum.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.networks.classifier import Groups

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
"""Arguments with which families of timm take pictures of any size: ViTs, windowed transformers, and
those that always do."""

_TOO_SMALL = re.compile("Output size is too small|greater than actual input size")


class Encoder(nn.Module):
    """A timm backbone: pictures (N, C, Y, X) to maps (N, F, y, x) to features (N, F').

    `to_3d` turns the convolutions in `model` to 3D; then all of this has a Z too.

    The input has mean 0 and standard deviation 1. Weights that were trained on photographs in other
    units, ``(photo - mean) / std``, get what a photograph of ImageNet would have become: ``x *
    scale + shift`` with ``scale = imagenet_std / std`` and ``shift = (imagenet_mean - mean) /
    std``. That is x itself for nearly all weights, whose mean and std are ImageNet's; it is about
    0.45 x for those with 0.5 and 0.5. With another number of channels than three, each gets the
    mean over red, green, blue.

    A transformer's map is its patch tokens; their mean is the feature, and class and register
    tokens are left out, because what the answer comes from must have a place in the picture.
    Pictures are padded with 0, their mean, to whole patches.

    Args:
        name: timm's, with or without the tag of its weights ("resnet50", "resnet50.a1_in1k").
        in_channels: C.

    Raises:
        UsageError: timm has no such backbone, or it has no map.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, name: str, in_channels: int) -> None:
        super().__init__()
        self.name = name
        self.model: Any = _create(name, in_channels)
        self.width = int(getattr(self.model, "head_hidden_size", None) or self.model.num_features)
        self.register_buffer("scale", torch.ones(in_channels))
        self.register_buffer("shift", torch.zeros(in_channels))

    def expect(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Rescale the input for weights trained on (photo - mean) / std, three of each."""
        scale = torch.tensor(IMAGENET_STD) / torch.tensor(std)
        shift = (torch.tensor(IMAGENET_MEAN) - torch.tensor(mean)) / torch.tensor(std)
        if len(self.scale) != 3:
            scale, shift = scale.mean(), shift.mean()
        self.scale.copy_(scale)
        self.shift.copy_(shift)

    def maps(self, picture: Tensor) -> Tensor:
        """Compute maps (N, F, y, x) of pictures (N, C, Y, X); (N, F, z, y, x) of volumes in 3D.

        Raises:
            UsageError: the backbone refuses the size.
        """
        each = (-1,) + (1,) * (picture.ndim - 2)
        patch, (height, width) = self._patch, picture.shape[-2:]
        x, grid = picture, (height, width)
        if patch is not None:  # padded to whole patches of a transformer
            down, right = -height % patch[0], -width % patch[1]
            x = functional.pad(picture, (0, right, 0, down)) if down or right else picture
            grid = ((height + down) // patch[0], (width + right) // patch[1])
        x = x * self.scale.view(each) + self.shift.view(each)
        order = torch.channels_last_3d if picture.ndim == 5 else torch.channels_last
        try:
            maps: Tensor = self.model.forward_features(x.contiguous(memory_format=order))
        except (AssertionError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _TOO_SMALL.search(str(error)):
                raise
            raise UsageError(
                f"backbone {self.name!r} refuses images of {tuple(picture.shape[2:])} pixels:"
                f" {error}",
                needed="a size that it was made for",
                cure="another size, or a backbone that takes any (resnet50, tf_efficientnet_lite0)",
            ) from error
        if maps.ndim == 3:  # (N, tokens, F)
            tokens = maps[:, getattr(self.model, "num_prefix_tokens", 0) :].transpose(1, 2)
            if not self._has_tokens or tokens.shape[2] != grid[0] * grid[1]:
                raise _without_map(self.name)
            return tokens.reshape(*tokens.shape[:2], *grid)
        return maps.permute(0, 3, 1, 2) if self._channels_are_last else maps

    def covered(self, size: tuple[int, int], cells: tuple[int, int]) -> tuple[int, int]:
        """Count the pixels that maps of (y, x) cells cover, for pictures of size (Y, X).

        More than the picture has where a transformer pads it below and right: to whole patches, and
        where it merges patches to whole merged ones.
        """
        patch = self._patch
        if patch is None:
            return size
        merged: int = self.model.feature_info[-1]["reduction"]
        height, width = patch if self._has_tokens else (merged, merged)
        return max(size[0], cells[0] * height), max(size[1], cells[1] * width)

    def pool(self, maps: Tensor) -> Tensor:
        """Pool maps (N, F, y, x) to features (N, F') as the backbone does; volumes by the mean."""
        if maps.ndim == 5:
            return maps.mean((2, 3, 4))
        if self._has_tokens:
            features: Tensor = getattr(self.model, "fc_norm", nn.Identity())(maps.mean((2, 3)))
        else:
            maps = maps.permute(0, 2, 3, 1) if self._channels_are_last else maps
            features = self.model.forward_head(maps, pre_logits=True)
        return features

    def groups(self) -> Groups:
        """Group every parameter from input to output as timm does: stem, stages or blocks."""
        from timm.models import group_parameters

        named = dict(self.model.named_parameters())
        numbered = group_parameters(self.model, self.model.group_matcher(coarse=True))
        return tuple(tuple(named[name] for name in numbered[number]) for number in sorted(numbered))

    @property
    def _patch(self) -> tuple[int, int] | None:
        """Height and width of a transformer's patches; None of other backbones."""
        embedding = getattr(self.model, "patch_embed", None)
        patch: tuple[int, int] | None = getattr(embedding, "patch_size", None)
        return patch

    @property
    def _has_tokens(self) -> bool:
        return hasattr(self.model, "num_prefix_tokens")

    @property
    def _channels_are_last(self) -> bool:
        return getattr(self.model, "output_fmt", "NCHW") == "NHWC"


def check_backbone(name: str) -> None:
    """Raise unless timm has a backbone of this name, tag included.

    Raises:
        UsageError: it has not; the nearest names are told.
    """
    import timm

    plain = name.partition(".")[0]
    if not plain or not timm.is_model(name):
        near = " or ".join(get_close_matches(plain, timm.list_models(), n=3, cutoff=0.5))
        listed = "python -c 'import timm; print(timm.list_models())'"
        raise UsageError(
            f"backbone {name!r} is not known to timm",
            needed="the name of a network in timm, for instance resnet50, tf_efficientnet_lite0 or"
            " vit_small_patch16_224",
            cure=f"did you mean {near}?" if near else listed,
        )
    tags = timm.list_pretrained(f"{plain}.*")
    if "." in name and name not in tags:
        raise UsageError(
            f"backbone {name!r} has a tag of weights that timm does not know",
            needed=f"one of {', '.join(tags)}" if tags else f"{plain!r}, which has no tags",
            cure=did_you_mean(name, tags) or f"backbone={plain!r}, without a tag",
        )


def _create(name: str, in_channels: int) -> Any:
    """Create the backbone with weights drawn anew; nothing is fetched."""
    import timm

    check_backbone(name)
    model = None
    for options in _ANY_SIZE:
        try:
            model = timm.create_model(
                name, pretrained=False, num_classes=0, in_chans=in_channels, **options
            )
        except TypeError:  # this family has no such option
            if not options:
                raise
        else:
            break
    if not hasattr(model, "forward_features") or not hasattr(model, "group_matcher"):
        raise _without_map(name)
    return model


def _without_map(name: str) -> UsageError:
    """Return the error of a backbone without a feature map."""
    return UsageError(
        f"the features of backbone={name!r} have no place in the picture",
        needed="a backbone with a feature map",
        cure="backbone='resnet50'",
    )
