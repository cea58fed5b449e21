"""Peak rate of the processor: large matrix products by torch and OpenVINO.

And what one patch of a network costs.

    _inference_peak.py [MODEL]

The last line of output is JSON: the best of several runs in 10^9 operations a second (a
multiplication and an addition are two).
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 4096
RUNS = 7


def main() -> None:
    """Measure, print."""
    torch.set_num_threads(os.cpu_count() or 1)
    result: dict[str, float] = {}
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = torch.randn(SIZE, SIZE).to(kind), torch.randn(SIZE, SIZE).to(kind)
        # arguments bound in the loop
        result[f"torch {name}"] = best(lambda a=a, b=b: torch.mm(a, b))  # type: ignore[misc]
    a, b = (torch.randint(-128, 127, (SIZE, SIZE), dtype=torch.int8) for _ in range(2))
    # the only integer product that torch has
    result["torch int8"] = best(lambda: torch._int_mm(a, b))  # noqa: SLF001
    result |= {f"OpenVINO {name}": openvino(name) for name in ("float32", "bfloat16", "int8")}
    if len(sys.argv) > 1:
        result["operations a patch"] = operations(Path(sys.argv[1]))
    print(json.dumps(result))


def best(work: Callable[[], Any]) -> float:
    """10^9 operations a second of a product of two square matrices."""
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return round(2 * SIZE**3 / min(seconds) / 1e9, 1)


def openvino(precision: str) -> float:
    """The same by OpenVINO, with one matrix constant, as weights are."""
    import openvino as ov
    from openvino import opset13 as op

    random = np.random.default_rng(0)
    given = op.parameter([SIZE, SIZE], np.float32)
    weights = op.constant(random.standard_normal((SIZE, SIZE)).astype(np.float32))
    left, right = given.output(0), weights.output(0)
    if precision == "int8":
        low, high = (op.constant(np.float32(value)) for value in (-4.0, 4.0))
        left = op.fake_quantize(left, low, high, low, high, 256).output(0)
        low, high = (op.constant(np.float32(value)) for value in (-4.0, 4.0))
        right = op.fake_quantize(right, low, high, low, high, 255).output(0)
    model = ov.Model([op.matmul(left, right, False, False)], [given])
    hint = {"float32": ov.Type.f32, "bfloat16": ov.Type.bf16, "int8": ov.Type.bf16}[precision]
    compiled = ov.Core().compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    )
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(random.standard_normal((SIZE, SIZE)).astype(np.float32)))
    request.infer()
    return best(request.infer)


def operations(model: Path) -> float:
    """10^9 operations of the convolutions of one patch of the imported network."""
    from torch.utils.flop_counter import FlopCounterMode

    from hilum.networks import build_network
    from hilum.plan import load_plan

    plan = load_plan(model / "plan.json")
    network = build_network(plan.network.value).eval().to("meta")
    patch = torch.empty(1, len(plan.channels), *plan.patch.value, device="meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(patch)
    return round(counter.get_total_flops() / 1e9, 1)


if __name__ == "__main__":
    main()
