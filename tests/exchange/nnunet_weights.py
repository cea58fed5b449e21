"""Our weights under nnU-Net's names, to write checkpoints as nnU-Net does."""

from __future__ import annotations

import torch

from hilum.exchange.nnunet.names import weight_names


def to_nnunet(weights, spec):
    """Return our weights under nnU-Net's names, complete.

    What its PlainConvUNet ("plain_unet") or ResidualEncoderUNet ("residual_unet") of the same spec
    loads with `load_state_dict(strict=True)`, when it was built with conv_bias=True.

    What our network has not (biases before a norm, heads of resolutions that it does not supervise)
    is zero.
    """
    theirs = {}
    for ours, name in weight_names(spec):
        if ours not in weights:
            continue
        theirs[name] = weights[ours].detach().clone()
        if name.endswith(".conv.weight") and ".skip." not in name:
            theirs[name.removesuffix("weight") + "bias"] = torch.zeros(len(weights[ours]))
    depth = len(spec.features) - 1
    for n in range(depth):
        width = spec.features[depth - 1 - n]
        size = (1,) * spec.dimensions
        theirs.setdefault(
            f"decoder.seg_layers.{n}.weight", torch.zeros(spec.out_channels, width, *size)
        )
        theirs.setdefault(f"decoder.seg_layers.{n}.bias", torch.zeros(spec.out_channels))
    return _with_copies(theirs)


def _with_copies(theirs):
    """Drop tensors that nnU-Net's state dict repeats: blocks by number, the decoder's encoder."""
    whole = dict(theirs)
    for name, tensor in theirs.items():
        for place, part in enumerate(("conv", "norm")):
            if f".{part}." in name:
                head, _, what = name.rpartition(f".{part}.")
                whole[f"{head}.all_modules.{place}.{what}"] = tensor
    return whole | {
        f"decoder.{name}": tensor for name, tensor in whole.items() if name.startswith("encoder.")
    }
