"""plans.json and dataset.json of an nnU-Net v2 model, as decisions of ours."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from hilum.dataset.layouts.naming import channel_names, label_table, read_json_object
from hilum.errors import HilumError, ModelError
from hilum.inference.nnunet.architecture import network_spec
from hilum.inference.nnunet.ranges import training_ranges
from hilum.plan.plan import AugmentationSpec, Decision, Hardware, Normalisation, OptimiserSpec
from hilum.plan.segmentation import LossSpec, ResamplingSpec, SegmentationPlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hilum.volume import LabelTable

_READERS = {
    "SimpleITKIO": ("source", "nnU-Net's reader takes the voxels as they are stored"),
    "NibabelIO": ("source", "nnU-Net's reader takes the voxels as they are stored"),
    "NaturalImage2DIO": ("source", "pictures are taken as they are stored"),
    "NibabelIOWithReorient": (
        "SAR",
        "nnU-Net's reader turns every image: axes to Superior, Anterior and Right",
    ),
    "SimpleITKIOWithReorient": (
        "SAR",
        "nnU-Net's reader turns every image: axes to Superior, Anterior and Right",
    ),
}
_VARIANTS = frozenset(
    f"nnUNetTrainer{variant}"
    for variant in (
        "",
        "DA5",
        "DA5ord0",
        "DA5Segord0",
        "DA5_10epochs",
        "NoDA",
        "_DASegOrd0",
        "_DASegOrd0_NoMirroring",
        "_noDummy2DDA",
        "NoMirroring",
        "_onlyMirror01",
        "_onlyMirror01_1500ep",
        "_onlyMirror01_DASegOrd0",
        "_onlyMirror01_DA5",
        "_warmup",
        "CosAnneal",
        "Adan",
        "Adan1en3",
        "Adan3en4",
        "Adan1en1",
        "AdanCosAnneal",
        "Adam",
        "VanillaAdam",
        "VanillaAdam1en3",
        "VanillaAdam3en4",
        "Adam1en3",
        "Adam3en4",
        "DiceLoss",
        "DiceCELoss_noSmooth",
        "Topk10Loss",
        "Topk10LossLS01",
        "DiceTopK10Loss",
        "CELoss",
        "CELoss_5epochs",
        "NoDeepSupervision",
        "_probabilisticOversampling",
        "_probabilisticOversampling_033",
        "_probabilisticOversampling_010",
        "Benchmark_5epochs",
        "Benchmark_5epochs_noDataLoading",
    )
)
"""The trainers of nnU-Net 2.8.1 (nnunetv2/training/nnUNetTrainer) that change neither the network
nor how it is run."""

_LENGTHS = re.compile(r"nnUNetTrainer_[0-9]{1,6}epochs?(_NoMirroring)?")


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
    configuration: Mapping[str, Any]
    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]


def read_plans(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """plans.json and dataset.json of a model folder.

    Raises:
        ModelError: one is missing or damaged.
    """
    read = []
    for name in ("plans.json", "dataset.json"):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder}: no {name} in it",
                needed=(
                    "an nnU-Net v2 model folder, e.g."
                    " nnUNet_results/Dataset004_X/nnUNetTrainer__nnUNetPlans__3d_fullres"
                ),
                cure=(
                    "a zip of nnU-Net's model sharing must be unpacked first; models of nnU-Net v1"
                    " are of another format"
                ),
            )
        try:
            read.append(read_json_object(folder / name))
        except HilumError as error:
            raise ModelError(error.found, needed=error.needed, cure=error.cure) from error
    return read[0], read[1]


def resolve_configuration(plans: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    """A configuration with what it inherits.

    Raises:
        ModelError: there is no such configuration, or it inherits from itself.
    """
    known, whole, seen = plans.get("configurations", {}), dict[str, Any](), list[str]()
    current: str | None = name
    while current is not None:
        if current not in known or current in seen:
            raise ModelError(
                f"{source}: configuration {current!r}",
                needed=f"one of {', '.join(known)}, none its own parent",
            )
        seen.append(current)
        whole = {**known[current], **whole}
        current = known[current].get("inherits_from")
    return whole


def make_nnunet_plan(
    described: Described, *, trainer: str, mirror_axes: Sequence[int], epochs: int | None
) -> SegmentationPlan:
    """The plan that predicts as nnU-Net does, a reason for each decision.

    Args:
        described: the model folder's JSON files.
        trainer: class of the trainer, by the checkpoint.
        mirror_axes: along which it may be mirrored, by the checkpoint; numbers of the network's own
            axes.
        epochs: that it was trained for, where the checkpoint says so.

    Raises:
        ModelError: a cascade, an unknown trainer, or anything else that hilum cannot do alike; it
            is named.
    """
    source = str(described.folder / "plans.json")
    _refuse_unknown(described, trainer, source)
    try:
        return _plan(described, trainer, tuple(mirror_axes), epochs, source)
    except KeyError as error:
        raise ModelError(
            f"{source}: no {error} for configuration {described.name}", needed="plans of nnU-Net v2"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(
            f"{source}: {where}: {first['msg']}", needed="plans as nnU-Net makes them"
        ) from error


def _refuse_unknown(described: Described, trainer: str, source: str) -> None:
    configuration = described.configuration
    previous = configuration.get("previous_stage")
    if previous is not None:
        raise ModelError(
            f"{source}: {described.name} is the second stage of a cascade: it also sees the labels"
            f" that {previous} answers",
            needed="a configuration that stands by itself",
            cure="import the 3d_fullres, 3d_lowres or 2d model of the same data set",
        )
    if trainer not in _VARIANTS and not _LENGTHS.fullmatch(trainer):
        raise ModelError(
            f"{described.folder}: trained by {trainer[:80]!r}, which may build another network or"
            " predict in another way",
            needed="nnUNetTrainer, or one of nnU-Net's variants that change neither",
        )
    preprocessor = configuration.get("preprocessor_name", "DefaultPreprocessor")
    if preprocessor != "DefaultPreprocessor":
        raise ModelError(f"{source}: preprocessor {preprocessor}", needed="DefaultPreprocessor")
    reader = described.plans.get("image_reader_writer", "SimpleITKIO")
    if reader == "Tiff3DIO":
        raise ModelError(
            f"{source}: image_reader_writer Tiff3DIO, which takes spacings from a .json beside each"
            " image",
            needed=f"one of {', '.join(_READERS)}",
            cure=(
                "convert the images to NIfTI with those spacings, and name SimpleITKIO in"
                " plans.json"
            ),
        )
    if reader not in _READERS:
        raise ModelError(
            f"{source}: image_reader_writer {reader}", needed=f"one of {', '.join(_READERS)}"
        )


def _plan(
    described: Described,
    trainer: str,
    mirror_axes: tuple[int, ...],
    epochs: int | None,
    source: str,
) -> SegmentationPlan:
    configuration, plans = described.configuration, described.plans
    says = f"nnU-Net's {plans.get('plans_name', 'plans')}, {described.name}"
    flat = len(configuration["patch_size"]) == 2
    channels, labels = _channels(described), read_labels(described)
    network = network_spec(
        configuration, inputs=len(channels), outputs=labels.outputs, source=source
    )
    reader = plans.get("image_reader_writer", "SimpleITKIO")
    orientation, why_orientation = _READERS[reader]
    resampling, order = _resampling(configuration, source)
    spacing = _spacing(configuration, plans, flat=flat, picture=reader == "NaturalImage2DIO")
    axes = tuple(plans.get("transpose_forward", (0, 1, 2)))
    if sorted(axes) != [0, 1, 2]:
        raise ModelError(
            f"{source}: transpose_forward {axes}"[:200], needed="0, 1 and 2 in some order"
        )
    if max(mirror_axes, default=0) >= len(configuration["patch_size"]):
        raise ModelError(
            f"{described.folder}: mirrors along the axes {mirror_axes}", needed="axes of the patch"
        )
    patch = tuple(int(n) for n in configuration["patch_size"])
    known = None if epochs is None else f"{epochs} epochs"
    decisions: dict[str, tuple[Any, str]] = {
        "task": ("segmentation", "nnU-Net segments"),
        "dimensions": (2 if flat else 3, f"{says}: a {'2D' if flat else '3D'} patch"),
        "orientation": (orientation, f"{why_orientation} ({reader})"),
        "axes": (axes, f"{says}: transpose_forward"),
        "crop": ("nonzero", "nnU-Net cuts every image to what is not zero in any channel"),
        "spacing": (
            spacing,
            f"{says}: spacing" + (", pictures have none" if spacing is None else ""),
        ),
        "image_order": (order, f"{says}: order of resampling_fn_data"),
        "resampling": (
            resampling,
            (
                f"{says}: resampling_fn_data and resampling_fn_probabilities, which are"
                " scikit-image's resize"
            ),
        ),
        "normalisation": (
            _normalisations(configuration, plans, source),
            f"{says}: normalization_schemes, use_mask_for_norm",
        ),
        "patch": ((1, *patch) if flat else patch, f"{says}: patch_size"),
        "batch": (2, "patches at a time; changes no answer"),
        "network": (
            network,
            (
                f"{says}: the architecture, as {trainer} builds it; heads of lower resolutions are"
                " left out"
            ),
        ),
        "loss": (
            LossSpec(batch_dice=bool(configuration.get("batch_dice"))),
            f"the loss of {trainer} is nearest to this",
        ),
        "augmentation": (
            AugmentationSpec(mirror_axes=tuple(axis + flat for axis in mirror_axes)),
            (
                "mirror axes: inference_allowed_mirroring_axes of the checkpoint; the rest was"
                " nnU-Net's own"
            ),
        ),
        "optimiser": (
            OptimiserSpec(kind="sgd", learning_rate=1e-2, weight_decay=3e-5),
            f"the usual of {trainer}",
        ),
        "foreground_fraction": (0.33, "nnU-Net's oversampling of the foreground"),
        "steps": (
            250 * (epochs or 0),
            f"{known} of 250 steps" if known else "the checkpoint does not say",
        ),
        "precision": ("float32", "nnU-Net computes in float32 on a processor"),
        "overlap": (0.5, "nnU-Net's tile_step_size"),
        "weighting": ("nnunet", "nnU-Net's map of weights, so that answers are its own"),
    }
    return SegmentationPlan(
        name=str(plans.get("dataset_name", described.folder.parent.name)),
        hardware=Hardware(),
        channels=channels,
        labels=labels,
        seen=training_ranges(
            described.folder,
            plans,
            channels,
            pictures=reader == "NaturalImage2DIO",
            orientation=orientation,
        ),
        **{
            name: Decision(value=value, because=because)
            for name, (value, because) in decisions.items()
        },
    )


def _channels(described: Described) -> tuple[str, ...]:
    channels = channel_names(described.dataset, described.folder / "dataset.json")
    if not channels:
        raise ModelError(
            f"{described.folder / 'dataset.json'}: no channel_names",
            needed='"channel_names": {"0": "CT"}',
        )
    return channels


def read_labels(described: Described) -> LabelTable:
    """Read the meaning of the outputs as nnU-Net does: a list of one id is mostly that id.

    Raises:
        ModelError: labels that nnU-Net itself would not take.
    """
    path = described.folder / "dataset.json"
    facts = dict(described.dataset)
    entries = facts.get("labels")
    if isinstance(entries, dict) and not any(
        isinstance(value, list) and len(value) > 1 for value in entries.values()
    ):
        facts["labels"] = {
            name: value[0] if isinstance(value, list) else value for name, value in entries.items()
        }
    try:
        table = label_table(facts, path)
    except HilumError as error:
        raise ModelError(error.found, needed=error.needed, cure=error.cure) from error
    if table.exclusive and table.ids != tuple(range(len(table.ids))):
        raise ModelError(
            f"{path}: labels {table.ids}",
            needed="0, 1, 2, ... without gaps, as nnU-Net asks: outputs are numbered so",
        )
    return table


def _normalisations(
    configuration: Mapping[str, Any], plans: Mapping[str, Any], source: str
) -> tuple[Normalisation, ...]:
    properties = plans.get("foreground_intensity_properties_per_channel") or plans.get(
        "foreground_intensity_properties_by_modality", {}
    )
    schemes, masks = configuration["normalization_schemes"], configuration["use_mask_for_norm"]
    return tuple(
        _normalisation(scheme, properties.get(str(n), {}), masked=bool(mask), source=source)
        for n, (scheme, mask) in enumerate(zip(schemes, masks, strict=True))
    )


def _normalisation(
    scheme: str, properties: Mapping[str, float], *, masked: bool, source: str
) -> Normalisation:
    if scheme == "CTNormalization":
        return Normalisation(
            kind="ct",
            lower=properties["percentile_00_5"],
            upper=properties["percentile_99_5"],
            mean=properties["mean"],
            std=max(properties["std"], 1e-8),
        )
    kinds: dict[str, Literal["case_filled", "case", "range", "none"]] = {
        "ZScoreNormalization": "case_filled" if masked else "case",
        "RescaleTo01Normalization": "range",
        "NoNormalization": "none",
    }
    if scheme == "RGBTo01Normalization":
        return Normalisation(kind="unit", upper=255.0)
    if scheme not in kinds:
        raise ModelError(
            f"{source}: normalisation {scheme}",
            needed=f"one of CTNormalization, RGBTo01Normalization, {', '.join(kinds)}",
        )
    return Normalisation(kind=kinds[scheme])


def _resampling(configuration: Mapping[str, Any], source: str) -> tuple[ResamplingSpec, int]:
    """Return the resampling of data and probabilities, and the interpolation order of the data."""
    functions = {configuration.get(f"resampling_fn_{what}") for what in ("data", "probabilities")}
    if functions != {"resample_data_or_seg_to_shape"}:
        raise ModelError(
            f"{source}: resampling by {functions}",
            needed="resample_data_or_seg_to_shape, nnU-Net's default",
        )
    data = configuration["resampling_fn_data_kwargs"]
    back = configuration["resampling_fn_probabilities_kwargs"]
    same = ("force_separate_z", "separate_z_anisotropy_threshold")
    known = {"is_seg", "order", "order_z", *same}
    if (
        set(data) - known
        or set(back) - known
        or any(data.get(key) != back.get(key) for key in same)
    ):
        raise ModelError(
            f"{source}: resampling with {data} and {back}",
            needed="the same force_separate_z for both, no other options",
        )
    force = data.get("force_separate_z", False)
    spec = ResamplingSpec(
        same=0.0,
        separate="anisotropic" if force is None else "always" if force else "never",
        anisotropy=data.get("separate_z_anisotropy_threshold", 3.0),
        separate_order=data.get("order_z", 0),
        logits_order=back.get("order", 3),
        separate_logits_order=back.get("order_z", 0),
        clip=True,
    )
    return spec, int(data.get("order", 3))


def _spacing(
    configuration: Mapping[str, Any], plans: Mapping[str, Any], *, flat: bool, picture: bool
) -> tuple[float, float, float] | None:
    if picture:
        return None
    sizes = [float(size) for size in configuration["spacing"]]
    if len(sizes) != len(configuration["patch_size"]) or not all(
        0 < size < math.inf for size in sizes
    ):
        raise ValueError(f"a spacing of {sizes}")
    if flat:  # each case keeps its slices; what stands here is only shown
        sizes = [float(plans.get("original_median_spacing_after_transp", [1.0])[0]), *sizes]
    z, y, x = sizes
    return z, y, x
