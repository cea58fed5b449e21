"""From a torch network to the same network of OpenVINO or ONNX, for patches of one size."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from hilum.engines.torch_engine import evaluating
from hilum.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn

    from hilum.engines.openvino_library import Model
    from hilum.plan.segmentation import SegmentationPlan


def to_openvino(network: nn.Module, plan: SegmentationPlan) -> Model:
    """Convert the network to an `openvino.Model` from (1, C, *patch) to (1, K, *patch).

    Its weights are torch's own memory.

    It is traced on a small patch, which takes a second and no memory to speak of, and then brought
    to the plan's.

    Raises:
        ModelError: OpenVINO does not know one of its operations.
    """
    from hilum.engines.openvino_library import ov

    # a patch on which nothing is padded inside, as on the plan's, and which is cheap
    size = (
        min(2 * n, whole)
        for n, whole in zip(plan.network.value.divisor, plan.patch.value, strict=True)
    )
    example = torch.zeros(
        1, len(plan.channels), *size, device=next(network.parameters(), torch.zeros(1)).device
    )
    with _quiet(), evaluating([network]), torch.no_grad():
        try:
            # torch's own has no types
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                network, example, check_trace=False
            )
            model = ov.convert_model(traced, example_input=example, share_weights=True)
            model.reshape([1, len(plan.channels), *plan.patch.value])
        except Exception as error:  # torch's and OpenVINO's errors have no common base
            raise ModelError(
                f"OpenVINO cannot take the network ({type(error).__name__}:"
                f" {str(error).strip().splitlines()[0]})",
                cure="engine='torch' to predict, formats='onnx' to export",
            ) from error
    model.set_friendly_name(
        "network"
    )  # its own names count what this process has made: the same export, other bytes
    for result in model.get_results():
        result.set_friendly_name("logits")
    return model


def write_onnx(network: nn.Module, plan: SegmentationPlan, path: Path) -> None:
    """Write the network as ONNX, with its weights in the one file.

    Raises:
        ModelError: ONNX has no form for one of its operations, or not for weights of 2 GiB.
    """
    example = torch.zeros(1, len(plan.channels), *plan.patch.value)
    with _quiet(), evaluating([network]), torch.no_grad():
        try:
            torch.onnx.export(
                network,
                (example,),
                str(path),
                input_names=["image"],
                output_names=["logits"],
                dynamo=True,
                external_data=False,
                optimize=True,
                verbose=False,
            )
        except Exception as error:  # torch's and onnx's errors have no common base
            raise ModelError(
                f"ONNX cannot take the network ({type(error).__name__}:"
                f" {str(error).strip().splitlines()[0]})",
                cure="formats='openvino'",
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of torch's tracers about shapes that are meant to be fixed.

    The root logger is put back afterwards: OpenVINO sets it to ERROR and leaves it so when a
    conversion fails.
    """
    tracers = [*map(logging.getLogger, ("torch.onnx", "torch.export", "onnxscript"))]
    states = [(one, one.level, [*one.filters], [*one.handlers]) for one in (logging.root, *tracers)]
    with warnings.catch_warnings(action="ignore"):
        for tracer in tracers:
            tracer.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for one, level, filters, handlers in states:
                one.setLevel(level)
                one.filters, one.handlers = filters, handlers
