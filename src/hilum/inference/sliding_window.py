"""A network that sees patches, run over a volume of any size.

Overlapping outputs are averaged with Gaussian weights, so that a voxel counts most where it lies in the middle of a patch
(Isensee et al., nnU-Net, Nature Methods 2021). The average is kept as a running mean (West, CACM 1979): the output of an
identity network is the volume itself, bit for bit, and no second pass divides by the weights.
"""

from __future__ import annotations

import math
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from hilum.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

Three = tuple[int, int, int]
Slices = tuple[slice, slice, slice]

_SIGMA = 1 / 8  # of the patch size, as in nnU-Net
_SMALLEST_WEIGHT = 1e-3  # of the weight at the centre; keeps corners seen by one patch only well conditioned


def window_starts(size: int, patch: int, overlap: float) -> tuple[int, ...]:
    """First voxels of the patches along one axis: evenly spread, first and last flush with the ends.

    Args:
        size: voxels along the axis.
        patch: voxels of a patch.
        overlap: least fraction 0 <= overlap < 1 that neighbours share; the even spread may make it more.

    Returns:
        Rising starts; (0,) where the axis is no longer than the patch.
    """
    span = size - patch
    if span <= 0:
        return (0,)
    step = max(1.0, patch * (1.0 - overlap))
    gaps = math.ceil(span / step - 1e-9)
    return tuple((2 * i * span + gaps) // (2 * gaps) for i in range(gaps + 1))


def gaussian_weights(patch: Sequence[int], *, device: torch.device | str = "cpu") -> Tensor:
    """Weights of a patch's voxels, (Z, Y, X) float32, 1 at the centre and never below 0.001."""
    weights = torch.ones((), dtype=torch.float64)
    for size in patch:
        offsets = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
        weights = weights[..., None] * torch.exp(-0.5 * (offsets / (size * _SIGMA)) ** 2)
    return weights.clamp_min(_SMALLEST_WEIGHT).to(device=device, dtype=torch.float32)


@torch.inference_mode()
def sliding_window(
    volume: Tensor | NDArray[np.floating[Any]],
    network: Callable[[Tensor], Tensor],
    *,
    patch: Three,
    overlap: float,
    outputs: int,
    batch: int = 1,
    device: torch.device | str = "cpu",
    mirror_axes: Sequence[int] = (),
) -> Tensor:
    """Run a network over a volume, patch by patch.

    A volume smaller than the patch is padded with zeros on both sides (what training pads with), and the output cropped.
    With `mirror_axes` each patch is also seen mirrored along every combination of these axes, and the outputs averaged.

    Args:
        volume: (C, Z, Y, X), floating.
        network: maps (B, C, *patch) on `device` to logits (B, K, *patch) of any floating dtype.
        patch: (Z, Y, X) that the network takes.
        overlap: fraction 0 <= overlap < 1 shared by neighbouring patches.
        outputs: K.
        batch: patches a call.
        device: where the network is.
        mirror_axes: among 0 (Z), 1 (Y) and 2 (X).

    Returns:
        Logits (K, Z, Y, X), float32; on `device` where they fit there, else in main memory. Needs 4 (K + 1) bytes a voxel.

    Raises:
        UsageError: an option is out of its range or the volume is not (C, Z, Y, X).
        ModelError: the network returns another shape than (B, K, *patch).
    """
    _check(volume, patch, overlap, outputs, batch, mirror_axes)
    device = torch.device(device)
    image = _tensor(volume)  # (C, Z, Y, X)
    shape = image.shape[1:]
    before = [max(0, p - n) // 2 for n, p in zip(shape, patch, strict=True)]
    after = [max(0, p - n) - b for n, p, b in zip(shape, patch, before, strict=True)]
    if any(before) or any(after):
        image = functional.pad(image, [pad for axis in (2, 1, 0) for pad in (before[axis], after[axis])])
    padded = image.shape[1:]
    place = _place(device, 4 * (outputs + 1) * math.prod(padded))
    logits = torch.zeros((outputs, *padded), device=place)
    total = torch.zeros(tuple(padded), device=place)
    weights = gaussian_weights(patch, device=place)
    for windows in _batches(padded, patch, overlap, batch):
        patches = torch.stack([image[:, z, y, x] for z, y, x in windows]).to(device)  # (B, C, *patch)
        answers = _mirrored(network, patches, mirror_axes).to(place)  # (B, K, *patch)
        if answers.shape != (len(windows), outputs, *patch):
            raise ModelError(
                f"a network that answers {tuple(answers.shape)} to {tuple(patches.shape)}",
                needed=f"{(len(windows), outputs, *patch)}: one logit for each of {outputs} outputs at each voxel",
            )
        for answer, (z, y, x) in zip(answers, windows, strict=True):
            seen = total[z, y, x].add_(weights)
            logits[:, z, y, x].lerp_(answer, (weights / seen)[None])
    z, y, x = (slice(b, b + n) for b, n in zip(before, shape, strict=True))
    return logits[:, z, y, x]


def _tensor(volume: Tensor | NDArray[np.floating[Any]]) -> Tensor:
    """Float32 without a copy where possible; torch takes neither read-only arrays nor negative strides."""
    if isinstance(volume, torch.Tensor):
        return volume.float()
    return torch.from_numpy(np.require(volume, dtype=np.float32, requirements=["C", "W"]))


def _check(
    volume: Tensor | NDArray[np.floating[Any]],
    patch: Sequence[int],
    overlap: float,
    outputs: int,
    batch: int,
    mirror_axes: Sequence[int],
) -> None:
    if volume.ndim != 4:
        raise UsageError(f"a volume of shape {tuple(volume.shape)}", needed="(C, Z, Y, X)")
    if len(patch) != 3 or min(patch) < 1:
        raise UsageError(f"patch {tuple(patch)}", needed="three positive sizes (Z, Y, X)")
    if not 0 <= overlap < 1:
        raise UsageError(f"overlap {overlap}", needed="0 <= overlap < 1", cure="overlap=0.5")
    if outputs < 1 or batch < 1:
        raise UsageError(f"outputs {outputs}, batch {batch}", needed="at least 1 of each")
    if len(set(mirror_axes)) != len(mirror_axes) or not set(mirror_axes) <= {0, 1, 2}:
        raise UsageError(f"mirror_axes {tuple(mirror_axes)}", needed="distinct axes among 0 (Z), 1 (Y) and 2 (X)")


def _batches(shape: Sequence[int], patch: Three, overlap: float, batch: int) -> Iterator[list[Slices]]:
    """The windows over a volume, `batch` at a time."""
    starts = [window_starts(n, p, overlap) for n, p in zip(shape, patch, strict=True)]
    group: list[Slices] = []
    for z, y, x in product(*starts):
        group.append((slice(z, z + patch[0]), slice(y, y + patch[1]), slice(x, x + patch[2])))
        if len(group) == batch:
            yield group
            group = []
    if group:
        yield group


def _mirrored(network: Callable[[Tensor], Tensor], patches: Tensor, mirror_axes: Sequence[int]) -> Tensor:
    """The mean of the network's answers to the patches and to their mirror images, (B, K, *patch) float32."""
    mean = network(patches).float()
    flips = [[axis + 2 for axis in axes] for n in range(1, len(mirror_axes) + 1) for axes in combinations(mirror_axes, n)]
    for count, axes in enumerate(flips, start=2):
        answer = network(patches.flip(axes)).float().flip(axes)
        mean = mean + (answer - mean) / count
    return mean


def _place(device: torch.device, needed_bytes: int) -> torch.device:
    """Where the logits are kept: on the device, unless it is a GPU without three times that much to spare."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    return device if 3 * needed_bytes < free else torch.device("cpu")
