"""Occlusion: how much of a class's log-odds goes when a block of the image is covered.

Slow, but it asks the network itself.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

from hilum.errors import UsageError
from hilum.explain.score import (
    as_networks,
    evaluation_mode,
    log_odds,
    one_image,
    scale_to_one,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from hilum.dataset.classes import ClassKind
    from hilum.explain.score import Networks

    Three = tuple[int, int, int]

_BLOCKS = {2: 8, 3: 6}
"""Blocks along each axis of a picture and of a volume where no size is given: 64 and 216 passes."""
_MOST_PASSES = 1000
_BATCH = 8  # images that pass at once
FILLS = ("blur", "mean")
"""Contents of a covered block: the image so blurred that nothing as small as a block is left of
it, or each channel's mean."""


def occlusion_passes(
    size: Sequence[int], *, block: Three | None = None, stride: Three | None = None
) -> int:
    """Count the network passes that `occlusion` of an image of this size (Z, Y, X) takes."""
    return 1 + math.prod(len(starts) for starts in _blocks(size, block, stride)[1])


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
    """Map the drop of a class's log-odds when a block is covered (Zeiler and Fergus 2014).

    Args:
        network: a classifier, or the networks of an ensemble: the mean of their drops.
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
            however many the networks.

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
        raise UsageError(
            f"fill={fill!r} is no way to cover a block",
            needed=f"one of {', '.join(FILLS)}",
            cure="fill='blur'",
        )
    block, starts = _blocks(size, block, stride)
    corners = list(itertools.product(*starts))
    if 1 + len(corners) > most_passes:
        raise UsageError(
            f"occlusion in {1 + len(corners)} passes would take too long",
            needed=f"at most {most_passes}",
            cure="a larger block or stride, or more most_passes",
        )
    cover = image.detach().float()
    if fill == "mean":
        cover = cover.mean(dim=(1, 2, 3), keepdim=True).expand_as(cover)
    else:
        sigma = (0.0, *(0.0 if n == 1 else float(b) for b, n in zip(block, size, strict=True)))
        cover = torch.from_numpy(
            ndimage.gaussian_filter(cover.cpu().numpy(), sigma, mode="nearest")
        )
    drops = []
    for one in networks:
        whole = one_image(image, one)
        covers = cover.to(whole.device)
        left = []
        with evaluation_mode(one, whole.device), torch.no_grad():
            before = log_odds(one(whole), index, kind)
            for first in range(0, len(corners), _BATCH):
                group = corners[first : first + _BATCH]
                copies = whole.repeat(len(group), 1, 1, 1, 1)  # (B, C, Z, Y, X)
                for copy, corner in zip(copies, group, strict=True):
                    sides = [slice(c, c + b) for c, b in zip(corner, block, strict=True)]
                    copy[:, *sides] = covers[:, *sides]
                left.append(before - log_odds(one(copies), index, kind))
        drops.append(torch.cat(left).double().cpu().numpy())  # (blocks,)
    coarse = np.mean(drops, axis=0).reshape([len(s) for s in starts])
    centres = [np.array(s) + (b - 1) / 2 for s, b in zip(starts, block, strict=True)]
    return scale_to_one(upsample(np.maximum(coarse, 0.0), size, centres))


def _blocks(
    size: Sequence[int], block: Three | None, stride: Three | None
) -> tuple[Three, list[list[int]]]:
    """Return the block, never larger than the image, and its first voxels along each axis.

    They are evenly spread, at most a stride apart.
    """
    z, y, x = size
    if block is None:
        count = _BLOCKS[2 if z == 1 else 3]
        block = (math.ceil(z / count), math.ceil(y / count), math.ceil(x / count))
    stride = stride or block
    if len(block) != 3 or len(stride) != 3 or min(*block, *stride) < 1:
        raise UsageError(
            f"block={block} and stride={stride} are not sizes",
            needed="three sizes (Z, Y, X) of at least one voxel",
        )
    block = (min(block[0], z), min(block[1], y), min(block[2], x))
    starts = []
    for voxels, covered, step in zip(size, block, stride, strict=True):
        steps = math.ceil((voxels - covered) / step)
        starts.append([round(start) for start in np.linspace(0, voxels - covered, 1 + steps)])
    return block, starts


def upsample(
    coarse: NDArray[np.floating], size: Sequence[int], centres: Sequence[NDArray[np.floating]]
) -> NDArray[np.float64]:
    """Interpolate a coarse map (z, y, x) to the image's grid (Z, Y, X), linearly between centres.

    Args:
        coarse: one value a cell.
        size: (Z, Y, X).
        centres: of the cells, in voxels, one array an axis. Half pixels count: that of voxels 0 and
            1 is 0.5.
    """
    fine = np.asarray(coarse, np.float64)
    for axis, (voxels, known) in enumerate(zip(size, centres, strict=True)):
        # one column a cell: how much of it each voxel takes
        shares = np.stack(
            [np.interp(np.arange(voxels), known, cell) for cell in np.eye(len(known))], axis=1
        )  # (voxels, cells)
        fine = np.moveaxis(np.tensordot(shares, fine, axes=(1, axis)), 0, axis)
    return fine
