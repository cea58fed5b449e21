"""Random changes of a batch of patches on the training device: sampled first, then applied.

Rotation, scaling and elastic deformation are one resampling of image and target. Everything is
batched, and a sample that draws no change is not touched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from hilum.plan.plan import AugmentationSpec

_ELASTIC_GRID = 5  # control points an axis; displacement between them is interpolated
_BLUR_RADIUS = 3


@dataclass(frozen=True)
class SpatialParameters:
    """One affine and one elastic field for each of the N samples that move.

    Args:
        index: (N,) which samples of the batch.
        matrix: (N, 3, 3) maps an offset from the patch's centre, in voxels (Z, Y, X), to the offset
            it is read from.
        shift: (N, 3) voxels (Z, Y, X).
        displacement: (N, 3, g, g, g) voxels (Z, Y, X) on a coarse grid, or None.
    """

    index: Tensor
    matrix: Tensor
    shift: Tensor
    displacement: Tensor | None


class Augmenter:
    """Augments batches (B, C, Z, Y, X) and their targets (B, 1 or R, Z, Y, X).

    Args:
        spec: strengths and probabilities.
        patch: output size (Z, Y, X); batches may be larger (see :func:`enlarged_patch`), their
            centre is kept.
        spacing: mm of a voxel (Z, Y, X), so that a rotation is one in space.
        dimensions: 2 leaves Z alone: rotation in plane only.
        masks: so many of the last channels are masks, whose values mean something: they move, but
            keep their intensities.
    """

    def __init__(
        self,
        spec: AugmentationSpec,
        patch: Sequence[int],
        *,
        spacing: Sequence[float],
        dimensions: int,
        masks: int = 0,
    ) -> None:
        self.spec, self.patch, self.dimensions, self.masks = spec, tuple(patch), dimensions, masks
        self.spacing = torch.tensor([float(s) for s in spacing])

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Augment one batch.

        Args:
            images: (B, C, Z', Y', X') float32.
            targets: (B, T, Z', Y', X') uint8, 255 where not annotated.
            generator: a CPU generator; the only source of randomness.

        Returns:
            Images and targets of the patch's size.
        """
        images, targets = self._move(images, targets, self._sample_spatial(len(images), generator))
        images, targets = self._mirror(images, targets, generator)
        if not self.masks:
            return self._change_intensities(images, generator), targets
        images, masks = images[:, : -self.masks], images[:, -self.masks :]
        return torch.cat([self._change_intensities(images, generator), masks], dim=1), targets

    def images(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment images (B, C, Z', Y', X') whose targets have no place: (B, C, *patch)."""
        nowhere = torch.empty(
            len(images), 0, *images.shape[2:], dtype=torch.uint8, device=images.device
        )
        return self(images, nowhere, generator)[0]

    # --- space
    # ---------------------------------------------------------------------------------------------

    def _sample_spatial(self, batch: int, generator: torch.Generator) -> SpatialParameters:
        """Sample rotation, scale, shift and elastic displacement for some images of the batch."""
        spec = self.spec
        index = _choose(batch, spec.spatial_probability, generator)
        n = len(index)
        degrees = torch.tensor(spec.rotation_degrees)
        if self.dimensions == 2:
            degrees = degrees * torch.tensor([1.0, 0.0, 0.0])
        angles = torch.deg2rad(_uniform((n, 3), (-1.0, 1.0), generator) * degrees)
        low, high = math.log(spec.scale[0]), math.log(spec.scale[1])
        scale = torch.exp(_uniform((n, 1), (low, high), generator)).expand(n, 3).clone()
        if self.dimensions == 2:
            scale[:, 0] = 1.0
        rotation = _rotations(angles)
        to_mm = torch.diag(self.spacing)
        matrix = torch.linalg.inv(to_mm) @ rotation @ to_mm / scale[:, None, :]
        shift = torch.zeros(n, 3)
        if spec.shift > 0:
            shift = _uniform((n, 3), (-spec.shift, spec.shift), generator) * torch.tensor(
                [float(p) for p in self.patch]
            )
            if self.dimensions == 2:
                shift[:, 0] = 0.0
        displacement = None
        if spec.elastic_mm > 0:
            shape = (n, 3, *([_ELASTIC_GRID] * 3))
            displacement = (
                torch.randn(shape, generator=generator)
                * spec.elastic_mm
                / self.spacing.view(1, 3, 1, 1, 1)
            )
            if self.dimensions == 2:
                displacement[:, 0] = 0.0
        return SpatialParameters(index, matrix, shift, displacement)

    def _move(
        self, images: Tensor, targets: Tensor, parameters: SpatialParameters
    ) -> tuple[Tensor, Tensor]:
        """Read images and targets through their transforms; the others are cut at the centre."""
        source = images.shape[2:]
        still_images, still_targets = self._centre(images), self._centre(targets)
        if len(parameters.index) == 0:
            return still_images, still_targets
        device = images.device
        index = parameters.index.to(device)
        grid = self._grid(parameters, source).to(
            device
        )  # (N, Z, Y, X, 3) in grid_sample's order x, y, z
        moved = F.grid_sample(
            images[index], grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        still_images, still_targets = still_images.clone(), still_targets.clone()
        still_images[index] = moved
        if targets.shape[1]:
            moved_targets = F.grid_sample(
                targets[index].float(),
                grid,
                mode="nearest",
                padding_mode="border",
                align_corners=False,
            )
            still_targets[index] = moved_targets.to(targets.dtype)
        return still_images, still_targets

    def _grid(self, parameters: SpatialParameters, source: Sequence[int]) -> Tensor:
        """Make the transforms' sampling grid (N, Z, Y, X, 3), as torch's grid_sample reads it."""
        axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in self.patch]
        offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # (Z, Y, X, 3)
        read = (
            torch.einsum("nij,zyxj->nzyxi", parameters.matrix, offsets)
            + parameters.shift[:, None, None, None]
        )
        if parameters.displacement is not None:
            field = F.interpolate(
                parameters.displacement, size=self.patch, mode="trilinear", align_corners=True
            )
            read = read + field.permute(0, 2, 3, 4, 1)
        size = torch.tensor([float(n) for n in source])
        return (read * 2.0 / size).flip(
            -1
        )  # offset from the centre -> -1..1 over the outer voxel faces

    def _centre(self, batch: Tensor) -> Tensor:
        return centre_of(batch, self.patch)

    def _mirror(
        self, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Mirror images and targets along each allowed axis, each with a chance of one half."""
        for axis in self.spec.mirror_axes:
            index = _choose(len(images), 0.5, generator).to(images.device)
            if len(index):
                images, targets = images.clone(), targets.clone()
                images[index] = images[index].flip(axis + 2)
                targets[index] = targets[index].flip(axis + 2)
        return images, targets

    # --- intensity
    # ---------------------------------------------------------------------------------------------

    def _change_intensities(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Apply each intensity change to a random part of the images (B, C, Z, Y, X)."""
        spec, batch, p = self.spec, len(images), self.spec.intensity_probability
        images = images.clone()
        for change in (
            self._noise,
            self._blur,
            self._brightness,
            self._contrast,
            self._low_resolution,
            self._gamma,
        ):
            index = _choose(batch, p, generator)
            if len(index) and spec.intensity_probability > 0:
                where = index.to(images.device)
                images[where] = change(images[where], generator)
        return images

    def _noise(self, x: Tensor, generator: torch.Generator) -> Tensor:
        std = _uniform((len(x), 1, 1, 1, 1), (0.0, self.spec.noise_std), generator)
        return x + (torch.randn(x.shape, generator=generator) * std).to(x.device)

    def _blur(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Blur each image by a Gaussian of its own width."""
        sigma = _uniform((len(x), 1), self.spec.blur_sigma, generator)
        offsets = torch.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1, dtype=torch.float32)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        kernel = (kernel / kernel.sum(dim=1, keepdim=True)).to(x.device)  # (N, 7)
        n, c = x.shape[:2]
        flat = x.reshape(1, n * c, *x.shape[2:])
        weights = kernel.repeat_interleave(c, dim=0)
        for axis in range(3):
            if x.shape[axis + 2] == 1:
                continue
            shape = [n * c, 1, 1, 1, 1]
            shape[axis + 2] = 2 * _BLUR_RADIUS + 1
            pad = [0] * 6
            pad[4 - 2 * axis] = pad[5 - 2 * axis] = _BLUR_RADIUS
            flat = F.conv3d(F.pad(flat, pad, mode="replicate"), weights.view(shape), groups=n * c)
        return flat.reshape(x.shape)

    def _brightness(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x * _uniform((*x.shape[:2], 1, 1, 1), self.spec.brightness, generator).to(x.device)

    def _contrast(self, x: Tensor, generator: torch.Generator) -> Tensor:
        factor = _uniform((*x.shape[:2], 1, 1, 1), self.spec.contrast, generator).to(x.device)
        mean = x.mean(dim=(2, 3, 4), keepdim=True)
        low, high = x.amin(dim=(2, 3, 4), keepdim=True), x.amax(dim=(2, 3, 4), keepdim=True)
        return torch.minimum(torch.maximum((x - mean) * factor + mean, low), high)

    def _gamma(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Raise each channel, scaled to 0..1, to a random power; its mean and spread stay."""
        power = _uniform((*x.shape[:2], 1, 1, 1), self.spec.gamma, generator).to(x.device)
        low, high = x.amin(dim=(2, 3, 4), keepdim=True), x.amax(dim=(2, 3, 4), keepdim=True)
        extent = (high - low).clamp_min(1e-7)
        bent = ((x - low) / extent).pow(power) * extent + low
        std, mean = torch.std_mean(x, dim=(2, 3, 4), keepdim=True)
        new_std, new_mean = torch.std_mean(bent, dim=(2, 3, 4), keepdim=True)
        return (bent - new_mean) / new_std.clamp_min(
            1e-7
        ) * std + mean  # gamma bends the histogram, it does not shift it

    def _low_resolution(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Shrink each image to a random size, and enlarge it again."""
        zooms = _uniform((len(x),), self.spec.low_resolution, generator).tolist()
        out = []
        for sample, zoom in zip(torch.split(x, 1), zooms, strict=True):
            small = [1 if n == 1 else max(2, round(n * zoom)) for n in sample.shape[2:]]
            coarse = F.interpolate(sample, size=small, mode="nearest-exact")
            out.append(
                F.interpolate(coarse, size=sample.shape[2:], mode="trilinear", align_corners=False)
            )
        return torch.cat(out)


def centre_of(batch: Tensor, patch: Sequence[int]) -> Tensor:
    """Return the middle (B, C, *patch) of a batch (B, C, Z, Y, X)."""
    starts = [(n - p) // 2 for n, p in zip(batch.shape[2:], patch, strict=True)]
    z, y, x = (slice(s, s + p) for s, p in zip(starts, patch, strict=True))
    return batch[:, :, z, y, x]


def enlarged_patch(
    spec: AugmentationSpec, patch: Sequence[int], *, dimensions: int
) -> tuple[int, int, int]:
    """The size to read so that a usual rotation and shrinking do not reach beyond what was read.

    Half of the strongest rotation and shrinking is covered; what lies further out repeats the
    border.
    """
    if spec.spatial_probability <= 0:
        z, y, x = patch
        return z, y, x
    angle = math.radians(
        min(max(spec.rotation_degrees) / 2, 45.0)
    )  # a square reaches furthest when turned by 45 degrees
    growth = (math.cos(angle) + math.sin(angle)) / (1 - (1 - spec.scale[0]) / 2)
    sizes = [
        n if n == 1 or (dimensions == 2 and axis == 0) else math.ceil(n * growth)
        for axis, n in enumerate(patch)
    ]
    z, y, x = sizes
    return z, y, x


def _choose(batch: int, probability: float, generator: torch.Generator) -> Tensor:
    return torch.nonzero(torch.rand(batch, generator=generator) < probability).flatten()


def _uniform(
    shape: Sequence[int], limits: tuple[float, float], generator: torch.Generator
) -> Tensor:
    low, high = limits
    return torch.rand(tuple(shape), generator=generator) * (high - low) + low


def _rotations(angles: Tensor) -> Tensor:
    """Turn angles (N, 3) about the axes Z, Y, X into rotations (N, 3, 3) of (z, y, x)."""
    matrix = torch.eye(3).expand(len(angles), 3, 3)
    for axis, (a, b) in enumerate(((1, 2), (0, 2), (0, 1))):
        cos, sin = torch.cos(angles[:, axis]), torch.sin(angles[:, axis])
        turn = torch.eye(3).repeat(len(angles), 1, 1)
        turn[:, a, a], turn[:, b, b], turn[:, a, b], turn[:, b, a] = cos, cos, -sin, sin
        matrix = matrix @ turn
    return matrix
