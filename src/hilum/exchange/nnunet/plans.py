"""plans.json and dataset.json of an nnU-Net v2 model, as decisions of ours."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hilum.dataset.channels import named_kind
from hilum.dataset.layouts.naming import channel_names, label_table, read_json_object
from hilum.errors import HilumError, ModelError
from hilum.exchange.nnunet.architecture import network_spec
from hilum.plan.fingerprint import ranges_along_axes
from hilum.plan.plan import (
    AugmentationSpec,
    ChannelRange,
    Hardware,
    Normalisation,
    OptimiserSpec,
    TrainingRanges,
)
from hilum.plan.segmentation import LossSpec, SegmentationPlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hilum.volume import LabelTable

_AS_STORED = ("source", "nnU-Net's reader takes the voxels as they are stored")
_TURNED = ("SAR", "nnU-Net's reader turns every image: axes to Superior, Anterior and Right")
_READERS = {
    "SimpleITKIO": _AS_STORED,
    "NibabelIO": _AS_STORED,
    "NaturalImage2DIO": ("source", "pictures are taken as they are stored"),
    "NibabelIOWithReorient": _TURNED,
    "SimpleITKIOWithReorient": _TURNED,
}
_TRAINERS = re.compile(
    r"nnUNetTrainer("
    r"|DA5|DA5ord0|DA5Segord0|DA5_10epochs|NoDA|_DASegOrd0|_DASegOrd0_NoMirroring|_noDummy2DDA"
    r"|NoMirroring|_onlyMirror01(_1500ep|_DASegOrd0|_DA5)?|_warmup|CosAnneal"
    r"|Adan|Adan1en3|Adan3en4|Adan1en1|AdanCosAnneal"
    r"|Adam|VanillaAdam|VanillaAdam1en3|VanillaAdam3en4|Adam1en3|Adam3en4"
    r"|DiceLoss|DiceCELoss_noSmooth|Topk10Loss|Topk10LossLS01|DiceTopK10Loss|CELoss|CELoss_5epochs"
    r"|NoDeepSupervision|_probabilisticOversampling(_033|_010)?"
    r"|Benchmark_5epochs|Benchmark_5epochs_noDataLoading"
    r"|_[0-9]{1,6}epochs?(_NoMirroring)?"
    r")"
)
"""The trainers of nnU-Net 2.8.1 (nnunetv2/training/nnUNetTrainer) that change neither the network
nor how it is run."""
_NORMALISATIONS: dict[str, Literal["case", "range", "unit", "none"]] = {
    "ZScoreNormalization": "case",
    "RescaleTo01Normalization": "range",
    "RGBTo01Normalization": "unit",
    "NoNormalization": "none",
}
_RESAMPLING = "resample_data_or_seg_to_shape"
_Size = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Statistics = dict[str, dict[str, float]]


class _Resampling(BaseModel):
    """Options of nnU-Net's default resampling."""

    model_config = ConfigDict(extra="forbid")

    is_seg: bool = False
    order: int = 3
    order_z: int = 0
    force_separate_z: bool | None = False
    anisotropy: float = Field(default=3.0, alias="separate_z_anisotropy_threshold")


class _Configuration(BaseModel):
    """An entry of plans.json: "3d_fullres"; its network is read by `network_spec`."""

    patch_size: list[int] = Field(min_length=2, max_length=3)
    spacing: list[_Size]
    normalization_schemes: list[str]
    use_mask_for_norm: list[bool]
    batch_dice: bool = False
    previous_stage: str | None = None
    preprocessor_name: str = "DefaultPreprocessor"
    resampling_fn_data: str
    images: _Resampling = Field(alias="resampling_fn_data_kwargs")
    resampling_fn_probabilities: str
    outputs: _Resampling = Field(alias="resampling_fn_probabilities_kwargs")


class PlansFile(BaseModel):
    """plans.json beside its configurations."""

    plans_name: str = "plans"
    dataset_name: str | None = None
    image_reader_writer: str = "SimpleITKIO"
    transpose_forward: tuple[int, int, int] = (0, 1, 2)
    original_median_spacing_after_transp: list[_Size] = Field(default=[1.0], min_length=1)
    foreground_intensity_properties_per_channel: _Statistics | None = None
    foreground_intensity_properties_by_modality: _Statistics | None = None


class _Fingerprint(BaseModel):
    """dataset_fingerprint.json."""

    spacings: list[tuple[_Size, _Size, _Size]] = []
    shapes_after_crop: list[tuple[_Size, _Size, _Size]] = []


@dataclass(frozen=True)
class Described:
    """Contents of a model folder's two JSON files, as far as they do not depend on the checkpoint.

    Args:
        folder: the model's.
        name: of the configuration: "3d_fullres".
        configuration: its entry in plans.json, inherited fields filled in.
        plans: the whole file.
        dataset: dataset.json.
    """

    folder: Path
    name: str
    configuration: Mapping[str, object]
    plans: Mapping[str, object]
    dataset: Mapping[str, object]


def read_plans(folder: Path) -> tuple[dict[str, object], dict[str, object]]:
    """Read plans.json and dataset.json of a model folder.

    Raises:
        ModelError: one is missing.
        FormatError: one is no JSON object.
    """
    for name in ("plans.json", "dataset.json"):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder} has no {name} in it",
                needed="an nnU-Net v2 model folder, e.g."
                " nnUNet_results/Dataset004_X/nnUNetTrainer__nnUNetPlans__3d_fullres",
                cure="a zip of nnU-Net's model sharing must be unpacked first; models of nnU-Net"
                " v1 are of another format",
            )
    return read_json_object(folder / "plans.json"), read_json_object(folder / "dataset.json")


def resolve_configuration(plans: Mapping[str, object], name: str, source: str) -> dict[str, object]:
    """Return a configuration with what it inherits.

    Raises:
        ModelError: there is no such configuration, or it inherits from itself.
    """
    named = plans.get("configurations")
    known: dict[str, object] = named if isinstance(named, dict) else {}
    whole: dict[str, object] = {}
    resolved: list[str] = []
    current: object = name
    while isinstance(current, str):
        entry = known.get(current)
        if not isinstance(entry, dict) or current in resolved:
            raise ModelError(
                f"{source} has no usable configuration {current[:80]!r}",
                needed=f"one of {', '.join(known)}, none its own parent",
                cure="copy plans.json again from where the model was trained",
            )
        resolved.append(current)
        whole = {**entry, **whole}
        current = entry.get("inherits_from")
    return whole


def make_nnunet_plan(
    described: Described, *, trainer: str, mirror_axes: Sequence[int], epochs: int | None
) -> SegmentationPlan:
    """Make the plan that predicts as nnU-Net does, a reason for each decision.

    Args:
        described: the model folder's JSON files.
        trainer: class of the trainer, by the checkpoint.
        mirror_axes: along which it may be mirrored, by the checkpoint; numbers of the network's own
            axes.
        epochs: that it was trained for, where the checkpoint says so.

    Raises:
        ModelError: a cascade, an unknown trainer, or anything else that hilum cannot do alike; it
            is named.
        KeyError, ValidationError: a field is missing or of another kind.
    """
    configuration = _Configuration.model_validate(described.configuration)
    plans = PlansFile.model_validate(described.plans)
    _refuse_unknown(described, configuration, plans, trainer)
    says, source = (
        f"nnU-Net's {plans.plans_name}, {described.name}",
        described.folder / "plans.json",
    )
    patch, spacing = tuple(configuration.patch_size), tuple(configuration.spacing)
    flat = len(patch) == 2
    if max(mirror_axes, default=0) >= len(patch):
        raise ModelError(
            f"{described.folder}: the model mirrors along the axes {mirror_axes}, which its"
            " patch does not have",
            needed="axes of the patch",
            cure="predict with nnU-Net itself",
        )
    channels = channel_names(described.dataset, described.folder / "dataset.json")
    if not channels:
        raise ModelError(
            f"{described.folder / 'dataset.json'} has no channel_names",
            needed='"channel_names": {"0": "CT"}',
            cure="add the names to that file",
        )
    labels = _labels(described)
    pictures = plans.image_reader_writer == "NaturalImage2DIO"
    orientation, why_orientation = _READERS[plans.image_reader_writer]
    images, outputs = configuration.images, configuration.outputs
    force = images.force_separate_z
    network = network_spec(
        described.configuration,
        inputs=len(channels),
        outputs=labels.outputs,
        source=f"{source}: configuration {described.name}",
    )
    loss = LossSpec(batch_dice=configuration.batch_dice)
    mirrors = AugmentationSpec(mirror_axes=tuple(axis + flat for axis in mirror_axes))
    if flat:  # each case keeps its slices; the spacing across them is only shown
        spacing = (plans.original_median_spacing_after_transp[0], *spacing)
    decisions: dict[str, tuple[object, str]] = {
        "task": ("segmentation", "nnU-Net segments"),
        "dimensions": (len(patch), f"{says}: a {len(patch)}D patch"),
        "orientation": (orientation, f"{why_orientation} ({plans.image_reader_writer})"),
        "axes": (plans.transpose_forward, f"{says}: transpose_forward"),
        "crop": ("nonzero", "nnU-Net cuts every image to what is not zero in any channel"),
        "spacing": (None if pictures else spacing, f"{says}: spacing; pictures have none"),
        "image_order": (images.order, f"{says}: order of resampling_fn_data"),
        "resampling": (
            {
                "same": 0.0,
                "separate": "anisotropic" if force is None else "always" if force else "never",
                "anisotropy": images.anisotropy,
                "separate_order": images.order_z,
                "logits_order": outputs.order,
                "separate_logits_order": outputs.order_z,
                "clip": True,
            },
            f"{says}: resampling_fn_data and resampling_fn_probabilities, scikit-image's resize",
        ),
        "normalisation": (
            _normalisations(configuration, plans, source),
            f"{says}: normalization_schemes, use_mask_for_norm",
        ),
        "patch": ((1, *patch) if flat else patch, f"{says}: patch_size"),
        "batch": (2, "patches at a time; changes no prediction"),
        "network": (network, f"{says}: the architecture of {trainer}, one head"),
        "loss": (loss, f"the loss of {trainer} is nearest to this"),
        "augmentation": (mirrors, "inference_allowed_mirroring_axes of the checkpoint"),
        "optimiser": (
            OptimiserSpec(kind="sgd", learning_rate=1e-2, weight_decay=3e-5),
            f"the usual of {trainer}",
        ),
        "foreground_fraction": (0.33, "nnU-Net's oversampling of the foreground"),
        "steps": (250 * (epochs or 0), f"{epochs} epochs of 250 steps, by the checkpoint"),
        "precision": ("float32", "nnU-Net computes in float32 on a processor"),
        "overlap": (0.5, "nnU-Net's tile_step_size"),
        "weighting": ("nnunet", "nnU-Net's map of weights, for the same predictions"),
    }
    fields: dict[str, object] = {
        "name": plans.dataset_name or described.folder.parent.name,
        "hardware": Hardware(),
        "channels": channels,
        "labels": labels,
        "seen": training_ranges(described.folder, plans, channels, orientation),
    }
    return SegmentationPlan.model_validate(
        fields | {key: {"value": value, "because": why} for key, (value, why) in decisions.items()}
    )


def _refuse_unknown(
    described: Described, configuration: _Configuration, plans: PlansFile, trainer: str
) -> None:
    """Refuse what changes predictions in a way that ours do not follow."""
    source = described.folder / "plans.json"
    if configuration.previous_stage is not None:
        raise ModelError(
            f"{source}: {described.name} is the second stage of a cascade: it also gets the labels"
            f" that {configuration.previous_stage} predicts",
            needed="a configuration that stands by itself",
            cure="import the 3d_fullres, 3d_lowres or 2d model of the same data set",
        )
    if not _TRAINERS.fullmatch(trainer):
        raise ModelError(
            f"{described.folder} was trained by {trainer[:80]!r}, which may build another"
            " network or predict in another way",
            needed="nnUNetTrainer, or one of nnU-Net's variants that change neither",
            cure="predict with nnU-Net itself",
        )
    reader = plans.image_reader_writer
    if reader not in _READERS:
        note = ", which takes spacings from a .json beside each image; NIfTI holds them itself"
        raise ModelError(
            f"{source}: images are read by {reader}{note if reader == 'Tiff3DIO' else ''}",
            needed=f"one of {', '.join(_READERS)}",
            cure="predict with nnU-Net itself",
        )
    images, outputs = configuration.images, configuration.outputs
    checks: tuple[tuple[str, object, object], ...] = (
        ("preprocessor", configuration.preprocessor_name, "DefaultPreprocessor"),
        ("resampling of images by", configuration.resampling_fn_data, _RESAMPLING),
        ("resampling of outputs by", configuration.resampling_fn_probabilities, _RESAMPLING),
        ("outputs with force_separate_z", outputs.force_separate_z, images.force_separate_z),
        ("outputs with separate_z_anisotropy_threshold", outputs.anisotropy, images.anisotropy),
        ("the axes of transpose_forward", sorted(plans.transpose_forward), [0, 1, 2]),
        ("the number of spacings", len(configuration.spacing), len(configuration.patch_size)),
    )
    for what, found, needed in checks:
        if found != needed:
            raise ModelError(
                f"{source}: {what} {str(found)[:200]}, which hilum does not do",
                needed=f"{what} {needed}",
                cure="predict with nnU-Net itself, or plan and train again with its defaults",
            )


def _labels(described: Described) -> LabelTable:
    """Read the meaning of the outputs as nnU-Net does: a list of one id is mostly that id."""
    path, facts = described.folder / "dataset.json", dict(described.dataset)
    entries = facts.get("labels")
    if isinstance(entries, dict) and not any(
        isinstance(value, list) and len(value) > 1 for value in entries.values()
    ):
        facts["labels"] = {
            name: value[0] if isinstance(value, list) else value for name, value in entries.items()
        }
    table = label_table(facts, path)
    if table.exclusive and table.ids != tuple(range(len(table.ids))):
        raise ModelError(
            f"{path}: labels {table.ids} have gaps",
            needed="0, 1, 2, ... without gaps, as nnU-Net needs: outputs are numbered so",
            cure="predict with nnU-Net itself",
        )
    return table


def _normalisations(
    configuration: _Configuration, plans: PlansFile, source: Path
) -> tuple[Normalisation, ...]:
    """Read how each channel is normalised, with the statistics that CT needs."""
    statistics = (
        plans.foreground_intensity_properties_per_channel
        or plans.foreground_intensity_properties_by_modality
        or {}
    )
    schemes = zip(configuration.normalization_schemes, configuration.use_mask_for_norm, strict=True)
    made: list[Normalisation] = []
    for number, (scheme, masked) in enumerate(schemes):
        if scheme == "CTNormalization":
            known = statistics.get(str(number), {})
            lower, upper = known["percentile_00_5"], known["percentile_99_5"]
            mean, std = known["mean"], max(known["std"], 1e-8)
            made.append(Normalisation(kind="ct", lower=lower, upper=upper, mean=mean, std=std))
        elif scheme not in _NORMALISATIONS:
            raise ModelError(
                f"{source}: normalisation {scheme} is not known",
                needed=f"one of CTNormalization, {', '.join(_NORMALISATIONS)}",
                cure="predict with nnU-Net itself",
            )
        elif scheme == "ZScoreNormalization" and masked:
            made.append(Normalisation(kind="case_filled"))
        else:
            upper = 255.0 if scheme == "RGBTo01Normalization" else 0.0
            made.append(Normalisation(kind=_NORMALISATIONS[scheme], upper=upper))
    return tuple(made)


def training_ranges(
    folder: Path, plans: PlansFile, channels: Sequence[str], orientation: str
) -> TrainingRanges:
    """Return the known ranges of the training images, from dataset_fingerprint.json and plans.json.

    A missing or odd fingerprint only makes fewer known.

    nnU-Net keeps intensities of annotated voxels only. Where a channel that is no CT has none below
    0 there, its images are taken to go no lower.
    """
    try:
        known = _Fingerprint.model_validate(read_json_object(folder / "dataset_fingerprint.json"))
    except (HilumError, OSError, ValidationError):
        known = _Fingerprint()
    statistics = plans.foreground_intensity_properties_per_channel or {}
    ranges = []
    for number, name in enumerate(channels):
        kind = named_kind(name) or "unknown"
        least = statistics.get(str(number), {}).get("min", math.inf)
        sure = kind != "ct" and 0 <= least < math.inf
        ranges.append(ChannelRange(name=name, kind=kind, minimum=(0.0, least) if sure else None))
    pictures = plans.image_reader_writer == "NaturalImage2DIO"
    scaled = bool(known.spacings) and not pictures
    whole = scaled and len(known.shapes_after_crop) == len(known.spacings)
    sizes = zip(known.shapes_after_crop, known.spacings, strict=True) if whole else ()
    extents = [tuple(n * mm for n, mm in zip(*one, strict=True)) for one in sizes]
    return TrainingRanges(
        channels=tuple(ranges),
        cases=len(known.spacings),
        pictures=pictures,
        orientation=orientation,
        spacing=ranges_along_axes(known.spacings) if scaled else None,
        extent_mm=ranges_along_axes(extents) if whole else None,
    )
