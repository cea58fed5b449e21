"""nnU-Net's description of a network as ours; what ours cannot be is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hilum.errors import ModelError, UsageError
from hilum.networks import blank_network
from hilum.plan.plan import NetworkSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_KINDS = {"PlainConvUNet": "plain_unet", "ResidualEncoderUNet": "residual_unet"}
_BLOCKS = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
_IDLE = {
    "conv_bias",
    "dropout_op",
    "dropout_op_kwargs",
    "deep_supervision",
    "input_channels",
    "num_classes",
}
"""What changes nothing in the answers of a trained network: biases before a norm, dropout."""
_READ = {
    "n_stages",
    "features_per_stage",
    "conv_op",
    "kernel_sizes",
    "strides",
    "n_conv_per_stage_decoder",
}
_FIXED: dict[str, tuple[Any, ...]] = {
    "nonlin": ("torch.nn.LeakyReLU", "torch.nn.modules.activation.LeakyReLU"),
    "nonlin_first": (False,),
    "block": (None,),
    "bottleneck_channels": (None,),
    "pool": ("conv",),
    "pool_type": ("conv",),
}
_MOST_STAGES = 16
_WIDEST = 4096
Three = tuple[int, int, int]


def network_spec(
    configuration: Mapping[str, Any], *, inputs: int, outputs: int, source: str
) -> NetworkSpec:
    """The network of a configuration of plans.json, without heads for deep supervision.

    Args:
        configuration: with an "architecture" (nnU-Net 2.2 and later), or the fields that plans had
            before.
        inputs: channels.
        outputs: labels or regions.
        source: names the file in errors.

    Raises:
        ModelError: another network than a PlainConvUNet or ResidualEncoderUNet as nnU-Net's
            planners make them.
    """
    name, given = _architecture(configuration, source)
    stages = given["n_stages"]
    if type(stages) is not int or not 2 <= stages <= _MOST_STAGES:
        raise ModelError(
            f"{source}: n_stages {stages!r}"[:200], needed=f"a number from 2 to {_MOST_STAGES}"
        )
    _check(name, given, stages, source)
    flat = len(configuration["patch_size"]) == 2
    blocks = _each(given[_BLOCKS[name]], stages)
    try:
        spec = NetworkSpec.model_validate(
            {
                "kind": _KINDS[name],
                "dimensions": 2 if flat else 3,
                "in_channels": inputs,
                "out_channels": outputs,
                "features": _each(given["features_per_stage"], stages),
                "kernels": [
                    _three(size, flat=flat) for size in _each(given["kernel_sizes"], stages)
                ],
                "strides": [_three(size, flat=flat) for size in _each(given["strides"], stages)],
                "encoder_blocks": blocks,
                "decoder_blocks": _each(given["n_conv_per_stage_decoder"], stages - 1)[::-1],
                "deep_supervision": False,
            }
        )
    except ValidationError as error:
        raise ModelError(
            f"{source}: architecture: {error.errors()[0]['msg']}",
            needed="plans as nnU-Net makes them",
        ) from error
    if (
        max(*spec.features, spec.in_channels, spec.out_channels) > _WIDEST
        or max(*spec.encoder_blocks, *spec.decoder_blocks) > _WIDEST
    ):
        raise ModelError(
            f"{source}: features {spec.features}, blocks {spec.encoder_blocks}"[:200],
            needed=f"at most {_WIDEST} each",
        )
    try:
        blank_network(spec)
    except UsageError as error:
        raise ModelError(f"{source}: architecture: {error.found}", needed=error.needed) from error
    return spec


def _architecture(configuration: Mapping[str, Any], source: str) -> tuple[str, dict[str, Any]]:
    """Class and arguments of the network, named as in plans of nnU-Net 2.2 and later."""
    if "architecture" in configuration:
        described = configuration["architecture"]
        name = str(described["network_class_name"]).rpartition(".")[2]
        given = dict(described["arch_kwargs"])
    elif "UNet_class_name" in configuration:
        name = str(configuration["UNet_class_name"])
        blocks = configuration["n_conv_per_stage_encoder"]
        first, most = (
            configuration["UNet_base_num_features"],
            configuration["unet_max_num_features"],
        )
        given = {
            "n_stages": len(blocks),
            "features_per_stage": [min(first * 2**n, most) for n in range(len(blocks))],
            "kernel_sizes": configuration["conv_kernel_sizes"],
            "strides": configuration["pool_op_kernel_sizes"],
            _BLOCKS.get(name, "n_conv_per_stage"): blocks,
            "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        }
    else:
        raise ModelError(
            f"{source}: a configuration without a network", needed="plans.json of nnU-Net v2"
        )
    if name not in _KINDS:
        raise ModelError(
            f"{source}: a network of the class {name}",
            needed=f"one of {', '.join(_KINDS)}, which nnU-Net's own planners choose",
            cure="export it with its own code, e.g. to ONNX",
        )
    return name, given


def _check(name: str, given: Mapping[str, Any], stages: int, source: str) -> None:
    """Refuse arguments that our networks cannot follow."""
    features = _each(given["features_per_stage"], stages)
    norm = given.get("norm_op") or "InstanceNorm"
    norm_options = {"eps": 1e-5, "affine": True} | (given.get("norm_op_kwargs") or {})
    slope = (given.get("nonlin_kwargs") or {}).get("negative_slope", 0.01)
    wrong = [
        f"{key}={given[key]!r}"
        for key, allowed in _FIXED.items()
        if key in given and given[key] not in (*allowed, allowed[0])
    ]
    if not str(norm).rpartition(".")[2].startswith("InstanceNorm") or (
        "norm_op" in given and given["norm_op"] is None
    ):
        wrong.append(f"norm_op={given.get('norm_op')!r}")
    if {key: norm_options[key] for key in ("eps", "affine")} != {"eps": 1e-5, "affine": True}:
        wrong.append(f"norm_op_kwargs={given['norm_op_kwargs']!r}")
    if slope != 0.01:
        wrong.append(f"negative_slope={slope!r}")
    if given.get("stem_channels") not in (None, features[0]):
        wrong.append(f"stem_channels={given['stem_channels']!r}")
    known = {
        *_IDLE,
        *_READ,
        *_FIXED,
        _BLOCKS[name],
        "norm_op",
        "norm_op_kwargs",
        "nonlin_kwargs",
        "stem_channels",
    }
    wrong += [
        f"{key}={value!r}"
        for key, value in given.items()
        if key not in known and value not in (None, False, 0)
    ]
    if wrong:
        raise ModelError(
            f"{source}: a {name} with {', '.join(wrong)}",
            needed=(
                "instance norm (eps 1e-5, affine), leaky ReLU of slope 0.01, strided convolutions,"
                " plain residual blocks"
            ),
        )


def _each(value: Any, count: int) -> list[Any]:
    """One entry a stage."""
    return [value] * count if isinstance(value, int) else list(value)


def _three(size: int | Sequence[int], *, flat: bool) -> tuple[int, ...]:
    sizes = (size,) * (2 if flat else 3) if isinstance(size, int) else tuple(size)
    return (1, *sizes) if flat else sizes
