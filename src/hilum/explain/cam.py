"""Class activation maps: the last feature maps, weighted by what each says about a class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hilum.explain.score import (
    as_networks,
    evaluation_mode,
    log_odds,
    one_image,
    scale_to_one,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from hilum.dataset.classes import ClassKind
    from hilum.explain.score import Networks


def grad_cam(
    network: Networks, image: Tensor, index: int, *, kind: ClassKind = "exclusive"
) -> NDArray[np.float32]:
    """Grad-CAM (Selvaraju et al. 2017): feature maps weighted by their mean gradient.

    Args:
        network: a classifier, or the networks of an ensemble: the mean of their maps, taken before
            negative values are cut off, as the ensemble's logits are the mean of theirs. They are
            left as they were, to the training flag.
        image: (C, Z, Y, X), preprocessed.
        index: of the class.
        kind: of the classes; decides what is explained, see `log_odds`.

    Returns:
        (Z, Y, X) float32, 0 to 1, as sharp as the network's last feature map: linear between its
        cells (`on_image` of the network). Negative values are cut off after that, and not before as
        Selvaraju et al. do.

    Raises:
        UsageError: no network, no such class, or not one image.
    """
    return _activation_map(network, image, index, kind=kind, mean_gradient=True)


def hires_cam(
    network: Networks, image: Tensor, index: int, *, kind: ClassKind = "exclusive"
) -> NDArray[np.float32]:
    """HiResCAM (Draelos and Carin 2020): feature maps times their gradient, place by place.

    Where the head is a mean and one linear layer this is Grad-CAM. Where it is more (attention over
    slices) Grad-CAM's mean gradient may point at places that the head did not use, and this does
    not. Arguments and result are those of `grad_cam`.

    Raises:
        UsageError: no network, no such class, or not one image.
    """
    return _activation_map(network, image, index, kind=kind, mean_gradient=False)


def _activation_map(
    network: Networks, image: Tensor, index: int, *, kind: ClassKind, mean_gradient: bool
) -> NDArray[np.float32]:
    """Weight the last feature maps by their gradients, and scale the sum to one (Z, Y, X)."""
    signed = []
    for one in as_networks(network):
        batch = one_image(image, one)  # (1, C, Z, Y, X)
        z, y, x = batch.shape[2:]
        with evaluation_mode(one, batch.device):
            with torch.no_grad():
                maps = one.maps(batch)  # (1, F, z, y, x)
            # a leaf of its own: only the head is differentiated, and it is no matter whether any
            # parameter may learn
            maps = maps.detach().clone().requires_grad_()
            with torch.enable_grad():
                logits = one.classify(maps.clone())  # cloned: a head may work in place
                (gradients,) = torch.autograd.grad(log_odds(logits, index, kind).sum(), maps)
            weights = gradients[0].float()  # (F, z, y, x)
            if mean_gradient:
                weights = weights.mean(dim=(1, 2, 3), keepdim=True)
            coarse = (maps.detach()[0].float() * weights).sum(dim=0)
            signed.append(one.on_image(coarse[None], (z, y, x))[0].cpu())
    return scale_to_one(torch.stack(signed).mean(dim=0).numpy())
