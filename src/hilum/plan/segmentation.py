"""The plan of a segmentation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hilum.plan.plan import SAME_SPACING, Decision, NetworkSpec, Plan, Record, Three, decide
from hilum.volume import LabelTable  # noqa: TC001  pydantic needs the type when the record is made


class LossSpec(Record):
    """Parameters of `hilum.targets.build_loss`."""

    kind: Literal["cross_entropy", "dice", "dice_ce", "tversky", "focal"] = "dice_ce"
    batch_dice: bool = False
    class_weights: tuple[float, ...] | None = None
    tversky_alpha: float = 0.3
    tversky_beta: float = 0.7
    focal_gamma: float = 2.0


class PostprocessingStep(Record):
    """One change of a finished label map, on the case's own grid; see `hilum.targets.postprocess`.

    `largest_component`: only the largest piece of the region stays. `minimum_volume`: pieces
    smaller than `minimum` go. `fill_holes`: background that the region encloses becomes part of it.
    """

    kind: Literal["largest_component", "minimum_volume", "fill_holes"]
    region: str = Field(min_length=1)
    """Name of what it changes, for people."""
    labels: tuple[int, ...] = Field(min_length=1)
    """Its label ids, taken as one mask."""
    connectivity: Literal[6, 18, 26] = 26
    """Voxels that share a face, an edge or a corner are one piece (in a picture 6 is 4, the others
    are 8)."""
    minimum: float = Field(default=0.0, ge=0)
    """The smallest piece that stays."""
    unit: Literal["ml", "voxels"] = "ml"
    """Unit of `minimum`; voxels in images without a physical scale."""

    @property
    def title(self) -> str:
        """The step in a few words."""
        words = {
            "largest_component": f"largest component of {self.region}",
            "minimum_volume": f"{self.region} of at least {self.minimum:g} {self.unit}",
            "fill_holes": f"holes of {self.region} filled",
        }
        return words[self.kind]

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        """Refuse a step on the background, and a minimum that its kind has not."""
        if 0 in self.labels:
            raise ValueError(f"post-processing of {self.region!r} names the background (label 0)")
        if (self.kind == "minimum_volume") != (self.minimum > 0):
            raise ValueError(
                f"{self.kind} of {self.region!r} with a minimum of {self.minimum:g} {self.unit}"
            )
        return self


class ResamplingSpec(Record):
    """Resampling of images to the plan's spacing and of logits back."""

    same: float = Field(default=SAME_SPACING, ge=0)
    """Spacings that differ by less than this fraction are one: nothing is resampled along that
    axis."""
    separate: Literal["never", "anisotropic", "always"] = "never"
    """Condition for resampling the axis of the largest spacing by an order of its own, after the
    slices across it. "anisotropic": where the largest spacing, of the case or of the plan, is more
    than `anisotropy` times the smallest (nnU-Net's rule)."""
    anisotropy: float = Field(default=3.0, ge=1)
    separate_order: Literal[0, 1, 3] = 0
    """Order for an image along an axis that is resampled separately."""
    logits_order: Literal[0, 1] = 1
    separate_logits_order: Literal[0, 1] = 0
    clip: bool = False
    """True if splines may not go beyond the range of what they interpolate: a channel, or a slice
    of it where an axis is resampled separately (scikit-image's `resize`)."""


class SegmentationPlan(Plan):
    """Every decision of a segmentation model."""

    task: Decision[Literal["segmentation"]]
    labels: LabelTable
    crop: Decision[Literal["none", "nonzero"]]
    network: Decision[NetworkSpec]
    loss: Decision[LossSpec]
    foreground_fraction: Decision[float]
    """Share of a batch's patches that are centred on an annotated foreground voxel."""
    overlap: Decision[float]
    """Fraction 0..1 shared by neighbouring patches at inference."""
    postprocessing: Decision[tuple[PostprocessingStep, ...]] = decide(
        (), "not learnt: `hilum tune` learns it on cases that the model was not trained on"
    )
    """Changes of the predicted labels, one after the other."""
    axes: Decision[Three] = decide((0, 1, 2), "the axes stay in the order of `orientation`")
    """The axes of the reoriented image that become (Z, Y, X) of the network's grid, nnU-Net's
    transpose_forward. All sizes and spacings of the plan are in the order after it."""
    resampling: Decision[ResamplingSpec] = decide(
        ResamplingSpec(), "images by one order along all axes, logits linearly on the way back"
    )
    weighting: Decision[Literal["gaussian", "nnunet"]] = decide(
        "gaussian", "a voxel counts most where it lies in the middle of a patch"
    )
    """Weights of the voxels of a patch where patches overlap; "nnunet" is nnU-Net's map, whose
    centre is half a voxel off in patches of even size and whose least weight is far smaller."""

    @property
    def table(self) -> LabelTable:
        """The meaning of the predicted integers."""
        return self.labels

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse decisions that contradict each other."""
        self._check_network(in_channels=len(self.channels))
        if sorted(self.axes.value) != [0, 1, 2]:
            raise ValueError(f"axes {self.axes.value}, which are not 0, 1 and 2 in some order")
        patch = self.patch.value
        wrong = [
            f"{p} is not a multiple of {d}"
            for p, d in zip(patch, self.network.value.divisor, strict=True)
            if p % d
        ]
        if wrong:
            raise ValueError(f"patch {patch}: " + "; ".join(wrong))
        changed = {label for step in self.postprocessing.value for label in step.labels}
        if unknown := changed - set(self.labels.ids):
            raise ValueError(
                f"post-processing of labels {sorted(unknown)}, which the label table does not know"
            )
        return self
