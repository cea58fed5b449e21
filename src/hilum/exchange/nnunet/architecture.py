"""nnU-Net's description of a network as ours; what ours cannot be is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from hilum.errors import ModelError, UsageError
from hilum.networks import blank_network
from hilum.plan.plan import NetworkSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_T = TypeVar("_T")

_KINDS = {"PlainConvUNet": "plain_unet", "ResidualEncoderUNet": "residual_unet"}
_BLOCKS = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
_IDLE = frozenset(
    (
        *("conv_bias", "dropout_op", "dropout_op_kwargs"),  # biases before a norm, dropout
        *("deep_supervision", "input_channels", "num_classes", "conv_op"),
    )
)
"""Arguments that change no prediction of a trained network, or follow from the rest."""
_ALLOWED: dict[str, tuple[object, ...]] = {
    "norm_op": ("InstanceNorm",),
    "norm_op_kwargs: eps": (1e-5,),
    "norm_op_kwargs: affine": (True,),
    "nonlin": ("LeakyReLU",),
    "nonlin_kwargs: negative_slope": (0.01,),
    "nonlin_first": (False,),
    "block": (None,),
    "bottleneck_channels": (None,),
    "pool": ("conv",),
    "pool_type": ("conv",),
}
_MOST_STAGES = 16
_WIDEST = 4096
_Each = int | list[int]
_Sizes = int | list[int | list[int]]


class _Architecture(BaseModel):
    """Class and arguments of a network."""

    network_class_name: str
    arch_kwargs: dict[str, object]


class _OldArchitecture(BaseModel):
    """The fields that plans had before nnU-Net 2.2."""

    UNet_class_name: str
    UNet_base_num_features: int
    unet_max_num_features: int
    n_conv_per_stage_encoder: list[int] = Field(max_length=_MOST_STAGES)
    n_conv_per_stage_decoder: _Each
    conv_kernel_sizes: _Sizes
    pool_op_kernel_sizes: _Sizes


class _Arguments(BaseModel):
    """The arguments that ours follows; all others must say nothing, or what ours does."""

    model_config = ConfigDict(extra="allow")

    n_stages: int = Field(ge=2, le=_MOST_STAGES, strict=True)
    features_per_stage: _Each
    kernel_sizes: _Sizes
    strides: _Sizes
    blocks: _Each
    n_conv_per_stage_decoder: _Each


def network_spec(
    configuration: Mapping[str, object], *, inputs: int, outputs: int, source: str
) -> NetworkSpec:
    """Read the network of a configuration of plans.json, without heads for deep supervision.

    Args:
        configuration: with an "architecture" (nnU-Net 2.2 and later), or the fields that plans had
            before.
        inputs: channels.
        outputs: labels or regions.
        source: names file and configuration in errors.

    Raises:
        ModelError: another network than a PlainConvUNet or ResidualEncoderUNet as nnU-Net's
            planners make them.
        ValidationError: a field is missing or of another kind.
    """
    name, given = _architecture(configuration, source)
    patch = configuration["patch_size"]
    dimensions = len(patch) if isinstance(patch, list) else 0

    def sizes(value: _Sizes) -> list[tuple[int, ...]]:
        each = _each(value, given.n_stages)
        whole = [[one] * dimensions if isinstance(one, int) else one for one in each]
        return [(1,) * (3 - dimensions) + tuple(one) for one in whole]

    spec = NetworkSpec.model_validate(
        {
            "kind": _KINDS[name],
            "dimensions": dimensions,
            "in_channels": inputs,
            "out_channels": outputs,
            "features": _each(given.features_per_stage, given.n_stages),
            "kernels": sizes(given.kernel_sizes),
            "strides": sizes(given.strides),
            "encoder_blocks": _each(given.blocks, given.n_stages),
            "decoder_blocks": _each(given.n_conv_per_stage_decoder, given.n_stages - 1)[::-1],
            "deep_supervision": False,
        }
    )
    widest = max(*spec.features, *spec.encoder_blocks, *spec.decoder_blocks, inputs, outputs)
    if widest > _WIDEST:
        raise ModelError(
            f"{source}: a stage is too large: {spec.features}, {spec.encoder_blocks}"[:200],
            needed=f"at most {_WIDEST} features and blocks a stage",
            cure="predict with nnU-Net itself",
        )
    wrong = [
        f"{key}={value!r}"
        for key, value in _others(given)
        for allowed in [_ALLOWED.get(key, (None, False, 0))]
        if value not in allowed
        and str(value).rpartition(".")[2].rstrip("23d") not in allowed  # without dimensions
        and not (key == "stem_channels" and value == spec.features[0])
    ]
    if wrong:
        raise ModelError(
            f"{source}: hilum cannot build a {name} with {', '.join(wrong)}",
            needed="instance norm (eps 1e-5, affine), leaky ReLU of slope 0.01, strided"
            " convolutions, plain residual blocks",
            cure="predict with nnU-Net itself",
        )
    try:
        blank_network(spec)
    except UsageError as error:
        raise ModelError(
            f"{source}: architecture: {error.found}",
            needed=error.needed,
            cure="predict with nnU-Net itself",
        ) from error
    return spec


def _architecture(configuration: Mapping[str, object], source: str) -> tuple[str, _Arguments]:
    """Read class and arguments of the network, named as in plans of nnU-Net 2.2 and later."""
    if "architecture" in configuration:
        described = _Architecture.model_validate(configuration["architecture"])
        name, given = described.network_class_name.rpartition(".")[2], described.arch_kwargs
    elif "UNet_class_name" in configuration:
        old = _OldArchitecture.model_validate(configuration)
        name, stages = old.UNet_class_name, len(old.n_conv_per_stage_encoder)
        widths = [old.UNet_base_num_features * 2**stage for stage in range(stages)]
        given = {
            "n_stages": stages,
            "features_per_stage": [min(width, old.unet_max_num_features) for width in widths],
            "kernel_sizes": old.conv_kernel_sizes,
            "strides": old.pool_op_kernel_sizes,
            _BLOCKS.get(name, ""): old.n_conv_per_stage_encoder,
            "n_conv_per_stage_decoder": old.n_conv_per_stage_decoder,
        }
    else:
        raise ModelError(
            f'{source} has neither "architecture" nor "UNet_class_name"',
            needed="plans.json of nnU-Net v2",
            cure="copy plans.json again from where nnU-Net wrote it",
        )
    if name not in _KINDS:
        raise ModelError(
            f"{source}: a network of the class {name[:80]}",
            needed=f"one of {', '.join(_KINDS)}, which nnU-Net's own planners choose",
            cure="export it with its own code, e.g. to ONNX",
        )
    blocks = _BLOCKS[name]
    named = {"blocks" if key == blocks else key: value for key, value in given.items()}
    return name, _Arguments.model_validate(named)


def _others(given: _Arguments) -> Iterator[tuple[str, object]]:
    """List the arguments that are not read: those of norm and activation one by one."""
    for key, value in (given.model_extra or {}).items():
        if key in {"norm_op_kwargs", "nonlin_kwargs"} and isinstance(value, dict):
            parts = [(f"{key}: {part}", one) for part, one in value.items()]
            yield from (pair for pair in parts if pair[0] in _ALLOWED)
        elif key not in _IDLE:
            yield key, value


def _each(value: int | list[_T], count: int) -> list[int] | list[_T]:
    """Return one entry a stage."""
    return [value] * count if isinstance(value, int) else value
