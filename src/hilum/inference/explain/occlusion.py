"""Occlusion: how much of a class's log-odds goes when a block of the image is covered.

Slow, but it asks the network itself.
"""

from __future__ import annotations

import itertools
import math
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

from hilum.errors import UsageError
from hilum.inference.explain.grid import scale_to_one, upsample
from hilum.inference.explain.score import as_networks, log_odds, one_image, undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from hilum.dataset.classes import ClassKind
    from hilum.inference.explain.score import Networks
    from hilum.networks import ClassifierNetwork

    Three = tuple[int, int, int]

_BLOCKS = {2: 8, 3: 6}
"""Blocks along each axis of a picture and of a volume where no size is given: 64 and 216 passes."""
_MOST_PASSES = 1000
_BATCH = 8  # images that pass at once


def _mean(image: Tensor, block: Three) -> Tensor:
    """Each channel's mean everywhere."""
    del block  # of any size
    return image.mean(dim=(1, 2, 3), keepdim=True).expand_as(image)


def _blur(image: Tensor, block: Three) -> Tensor:
    """The image so blurred that nothing as small as a block is left of it."""
    sigma = [0.0 if size == 1 else float(b) for b, size in zip(block, image.shape[1:], strict=True)]
    return torch.from_numpy(
        ndimage.gaussian_filter(image.cpu().numpy(), (0.0, *sigma), mode="nearest")
    )


FILLS: dict[str, Callable[[Tensor, Three], Tensor]] = {"blur": _blur, "mean": _mean}
"""What a block is covered with: image (C, Z, Y, X) and block to an image of the same shape."""


def occlusion_passes(
    size: Sequence[int], *, block: Three | None = None, stride: Three | None = None
) -> int:
    """Count the network passes that `occlusion` of an image of this size (Z, Y, X) takes."""
    block, stride = _steps(size, block, stride)
    return 1 + math.prod(len(starts) for starts in _starts(size, block, stride))


def occlusion(
    network: Networks,
    image: Tensor,
    index: int,
    *,
    kind: ClassKind = "exclusive",
    block: Three | None = None,
    stride: Three | None = None,
    fill: str = "blur",
    most_passes: int = _MOST_PASSES,
) -> NDArray[np.float32]:
    """The drop of a class's log-odds when a block is covered (Zeiler and Fergus 2014).

    Args:
        network: a classifier, or the members of an ensemble: the mean of their drops.
        image: (C, Z, Y, X), preprocessed.
        index: of the class.
        kind: of the classes; decides what is explained, see `log_odds`.
        block: voxels that are covered at once; an eighth of each axis of a picture, a sixth of a
            volume's where not given.
        stride: voxels from block to block; the block itself where not given. The last ones move in
            to end with the image.
        fill: among `FILLS`. "blur" leaves the surroundings' own intensity, "mean" puts the image's
            there, which in an image with much background is an edge, and edges may be news to the
            network.
        most_passes: refuse to begin with more through one network (see `occlusion_passes`). Blocks
            that are not given always take fewer than it allows by itself, whatever the image and
            however many the members.

    Returns:
        (Z, Y, X) float32, 0 to 1.

    Raises:
        UsageError: no network, no such class, not one image, an unknown fill, sizes below 1, or too
            many passes.
    """
    networks = as_networks(network)
    one_image(image, networks[0])  # says so where it is not one
    size = image.shape[1:]
    if fill not in FILLS:
        meant = get_close_matches(fill, FILLS, n=1)
        raise UsageError(
            f"fill {fill!r}",
            needed=f"one of {', '.join(FILLS)}",
            cure=f"fill={meant[0]!r}" if meant else "",
        )
    passes = occlusion_passes(size, block=block, stride=stride)
    if passes > most_passes:
        raise UsageError(
            f"occlusion in {passes} passes",
            needed=f"at most {most_passes}",
            cure="a larger block or stride, or more most_passes",
        )
    block, stride = _steps(size, block, stride)
    starts = _starts(size, block, stride)
    cover = FILLS[fill](image.detach().float(), block)
    corners = list(itertools.product(*starts))
    drops = [
        _drops(member, image, cover, corners, block, index=index, kind=kind) for member in networks
    ]
    coarse = np.mean(drops, axis=0).reshape([len(s) for s in starts])
    centres = [np.array(s) + (b - 1) / 2 for s, b in zip(starts, block, strict=True)]
    return scale_to_one(upsample(np.maximum(coarse, 0.0), size, centres))


def _steps(size: Sequence[int], block: Three | None, stride: Three | None) -> tuple[Three, Three]:
    """Block and stride, chosen where they are not given, never larger than the image."""
    if block is None:
        blocks = _BLOCKS[2 if size[0] == 1 else 3]
        block = (
            math.ceil(size[0] / blocks),
            math.ceil(size[1] / blocks),
            math.ceil(size[2] / blocks),
        )
    stride = stride or block
    if len(block) != 3 or len(stride) != 3 or min(*block, *stride) < 1:
        raise UsageError(
            f"block {block} and stride {stride}",
            needed="three sizes (Z, Y, X) of at least one voxel",
        )
    return (min(block[0], size[0]), min(block[1], size[1]), min(block[2], size[2])), stride


def _starts(size: Sequence[int], block: Three, stride: Three) -> list[list[int]]:
    """First voxels of the blocks along each axis: evenly spread, at most a stride apart."""
    spread = []
    for voxels, covered, step in zip(size, block, stride, strict=True):
        count = 1 + math.ceil((voxels - covered) / step)
        spread.append([round(start) for start in np.linspace(0, voxels - covered, count)])
    return spread


def _drops(
    network: ClassifierNetwork,
    image: Tensor,
    cover: Tensor,
    corners: Sequence[Sequence[int]],
    block: Three,
    *,
    index: int,
    kind: ClassKind,
) -> NDArray[np.float64]:
    """The drop of one network's log-odds for each covered block, (blocks,)."""
    whole = one_image(image, network)
    cover = cover.to(whole.device)
    drops = []
    with undisturbed(network, whole.device), torch.no_grad():
        before = log_odds(network(whole), index, kind)
        for first in range(0, len(corners), _BATCH):
            group = corners[first : first + _BATCH]
            copies = whole.repeat(len(group), 1, 1, 1, 1)  # (B, C, Z, Y, X)
            for copy, corner in zip(copies, group, strict=True):
                covered = (
                    slice(None),
                    *(slice(c, c + b) for c, b in zip(corner, block, strict=True)),
                )
                copy[covered] = cover[covered]
            drops.append(before - log_odds(network(copies), index, kind))
    return torch.cat(drops).double().cpu().numpy()
