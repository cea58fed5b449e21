"""The parts that all plans share: decisions, each with its reason, as versioned JSON."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hilum.dataset.classes import (
    ClassTable,  # noqa: TC001  pydantic needs the type when the record is made
)
from hilum.volume import LabelTable  # noqa: TC001  pydantic needs the type when the record is made

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
PLAN_VERSION: Literal[1] = 1
Three = tuple[int, int, int]
Range = tuple[float, float]


SAME_SPACING = 0.01
"""Spacings that differ by less than this fraction are one spacing, written with other roundings:
nothing is resampled."""


def resampled_size(
    size: float, own_mm: float, target_mm: float, *, same: float = SAME_SPACING
) -> int:
    """Return the voxels along an axis after resampling from `own_mm` to `target_mm`, at least 1.

    `same` is the fraction by which two spacings may differ and still be one.
    """
    if abs(own_mm / target_mm - 1) < same:
        return int(size)
    return max(1, round(own_mm / target_mm * size))


def in_mm(values: Iterable[float]) -> str:
    """Format a spacing in mm."""
    return " x ".join(f"{float(v):.3g}" for v in values) + " mm"


class Record(BaseModel):
    """A frozen record that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Decision(Record, Generic[T_co]):
    """A value and the reason it was chosen."""

    value: T_co
    because: str = Field(min_length=1)


def decide(value: T, because: str) -> Decision[T]:
    """Make a decision of a value and its reason."""
    return Decision(value=value, because=because)


class Normalisation(Record):
    """The mapping from the intensities of one channel to network input.

    `ct`: clip to [lower, upper], subtract mean, divide by std, all from the data set's annotated
    voxels (HU is absolute). `case`: subtract the case's own mean, divide by its own standard
    deviation (MR, PET, ultrasound: no absolute scale). `case_nonzero`: the same from the non-zero
    voxels only, zero stays zero (skull-stripped MR). `case_filled`: the same from what is not zero
    in any channel, its holes filled; outside of it everything stays as it is (nnU-Net's z-score
    within its mask). `unit`: divide by the fixed `upper` (8-bit pictures: 255). `range`: the case's
    own least value becomes 0, its largest 1. `none`: intensities stay as they are.
    """

    kind: Literal["ct", "case", "case_nonzero", "case_filled", "unit", "range", "none"]
    lower: float = 0.0
    upper: float = 0.0
    mean: float = 0.0
    std: float = 1.0


class NetworkSpec(Record):
    """Parameters of `hilum.networks.build_network`; one entry a stage, highest resolution first.

    `strides[0]` is all ones. 2D networks have kernels and strides whose first entry (Z) is 1.
    """

    kind: Literal["unet", "plain_unet", "residual_unet"]
    dimensions: Literal[2, 3]
    in_channels: int = Field(ge=1)
    out_channels: int = Field(ge=1)
    features: tuple[int, ...] = Field(min_length=2)
    kernels: tuple[Three, ...]
    strides: tuple[Three, ...]
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    deep_supervision: bool = True

    @model_validator(mode="after")
    def _one_entry_a_stage(self) -> Self:
        """Refuse lists of another length than the stages."""
        n = len(self.features)
        lists = (self.kernels, self.strides, self.encoder_blocks, self.decoder_blocks)
        if (found := [len(one) for one in lists]) != [n, n, n, n - 1]:
            raise ValueError(
                f"{n} stages of features need {n} kernels, strides and encoder_blocks and {n - 1}"
                f" decoder_blocks; found {', '.join(map(str, found))}"
            )
        return self

    @property
    def title(self) -> str:
        """The network in a few words."""
        kind = self.kind.replace("_", " ")
        return f"{kind}, width {self.features[0]}, {len(self.features)} stages"

    @property
    def divisor(self) -> Three:
        """The product of the strides along each axis; multiples of it need no padding."""
        z, y, x = (math.prod(along) for along in zip(*self.strides, strict=True))
        return z, y, x


class ClassifierSpec(Record):
    """Parameters of `hilum.networks.build_network` for a classifier.

    `backbone`: a timm backbone on pictures, or slice by slice (the mean of the slices' logits).
    `inflated` and `acs`: the same backbone with its kernels turned to 3D (Carreira and Zisserman
    2017; Yang et al. 2021). `slices`: a slice encoder with attention pooling over slices and planes
    (Ilse et al. 2018). `resnet3d`: a plain 3D residual network of `features`, `blocks`.
    """

    kind: Literal["backbone", "inflated", "acs", "slices", "resnet3d"]
    dimensions: Literal[2, 3]
    in_channels: int = Field(ge=1)
    out_channels: int = Field(ge=1)
    backbone: str = ""
    """timm's name; empty for `resnet3d`."""
    planes: Literal["axial", "three"] = "axial"
    """Planes that `slices` looks at: axial slices, or axial, coronal and sagittal ones."""
    features: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()
    norm: Literal["group", "batch"] = "group"
    """Norm of `resnet3d`: group norms ask nothing of a batch; batch norms learn more from batches
    of eight or more."""
    dropout: float = Field(default=0.2, ge=0, lt=1)

    @property
    def title(self) -> str:
        """The network in a few words."""
        layers = f" of {self.backbone}" if self.backbone else f", width {self.features[0]}"
        return f"{self.kind}{layers}"


class AugmentationSpec(Record):
    """Strength of each random change; probabilities are per sample of a batch."""

    rotation_degrees: tuple[float, float, float] = (15.0, 15.0, 15.0)
    scale: tuple[float, float] = (0.8, 1.25)
    shift: float = 0.0
    """Furthest move along each axis, as a fraction of the patch; with rotation and scale one
    resampling."""
    elastic_mm: float = 0.0
    spatial_probability: float = 0.3
    mirror_axes: tuple[int, ...] = ()
    noise_std: float = 0.1
    blur_sigma: tuple[float, float] = (0.5, 1.0)
    brightness: tuple[float, float] = (0.75, 1.25)
    contrast: tuple[float, float] = (0.75, 1.25)
    gamma: tuple[float, float] = (0.7, 1.5)
    low_resolution: tuple[float, float] = (0.5, 1.0)
    intensity_probability: float = 0.15


class OptimiserSpec(Record):
    """Optimiser and schedule."""

    kind: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    warmup_fraction: float = 0.03
    ema_decay: float = 0.999
    gradient_clip: float = 12.0


class Hardware(Record):
    """The hardware and time that the plan was made for."""

    device: str = "cpu"
    memory_gb: float = Field(default=8.0, gt=0)
    minutes: float | None = Field(default=None, gt=0)


class ChannelRange(Record):
    """One channel of the training images."""

    name: str
    kind: str = "unknown"
    """As `hilum.dataset.channels.Kind`: ct, mr, pet, us, xray, rgb, picture, unknown."""
    minimum: Range | None = None
    """The least value of an image: over all images from ... to; None where that is not known."""


class TrainingRanges(Record):
    """The training images in a few numbers.

    Ranges run over all of them, axes are (Z, Y, X) in `orientation`.
    """

    channels: tuple[ChannelRange, ...]
    cases: int = Field(default=0, ge=0)
    pictures: bool = False
    """True if each was a single picture."""
    orientation: str = "SPL"
    """Orientation of the axes below; "source" where they are as stored."""
    spacing: tuple[Range, Range, Range] | None = None
    extent_mm: tuple[Range, Range, Range] | None = None
    """The field of view."""


class Plan(Record):
    """Every decision of a model, whatever it learns.

    Complete: the same plan, data and seed give the same preprocessed bytes.

    Sizes and spacings are in array order (Z, Y, X) after `orientation`. What belongs to one task
    alone is in the plan of that task: `SegmentationPlan`, `ClassificationPlan`.
    """

    version: Literal[1] = PLAN_VERSION
    name: str
    hardware: Hardware
    channels: tuple[str, ...]
    task: Decision[str]
    dimensions: Decision[Literal[2, 3]]
    orientation: Decision[Annotated[str, Field(pattern="^([LRPASI]{3}|source)$")]]
    spacing: Decision[tuple[float, float, float] | None]
    """Target spacing in mm; None keeps each case's own (2D pictures without a physical scale)."""
    image_order: Decision[Literal[0, 1, 3]]
    normalisation: Decision[tuple[Normalisation, ...]]
    patch: Decision[Three]
    batch: Decision[int]
    network: Decision[NetworkSpec | ClassifierSpec]
    augmentation: Decision[AugmentationSpec]
    optimiser: Decision[OptimiserSpec]
    steps: Decision[int]
    precision: Decision[Literal["float32", "bfloat16"]]
    seen: TrainingRanges | None = None
    """Ranges of the training images, to notice an image unlike them
    (`hilum.inference.unlike`); changes no prediction."""

    @property
    def decisions(self) -> dict[str, Decision[object]]:
        """Every decision by its name, in the order of the file."""
        named = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in named.items() if isinstance(value, Decision)}

    @property
    @abstractmethod
    def table(self) -> LabelTable | ClassTable:
        """The meaning of the network's outputs."""

    def _check_network(self, *, in_channels: int) -> None:
        """Check the rules that hold for every network.

        Raises:
            ValueError: it has other inputs, outputs or dimensions than the plan.
        """
        network, patch = self.network.value, self.patch.value
        normalisations = len(self.normalisation.value)
        if network.in_channels != in_channels or normalisations != len(self.channels):
            raise ValueError(
                f"{in_channels} channels, but the network takes {network.in_channels} and there are"
                f" {normalisations} normalisations"
            )
        if network.out_channels != self.table.outputs:
            raise ValueError(
                f"the label table has {self.table.outputs} outputs, the network"
                f" {network.out_channels}"
            )
        dimensions = self.dimensions.value
        if network.dimensions != dimensions or (dimensions == 2 and patch[0] != 1):
            raise ValueError(
                f"a {dimensions}D plan with a {network.dimensions}D network and patch {patch}"
            )
