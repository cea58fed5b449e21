"""Times preprocessing and export alone, nnU-Net's or hilum's, on one image; called by inference.py.

    _inference_alone.py nnunet|hilum preprocess|export MODEL IMAGE FOLDER RUNS

Preprocessing: from the image in memory to the network's input (cropping, normalising, nnU-Net's
cubic spline resampling), kept as FOLDER/<who>_input.npy. Export: from logits on the network's grid
to labels on the image's, kept as FOLDER/<who>_labels.npy; the logits are smooth noise, the same for
both, in FOLDER/logits.npy as (Z, K, Y, X), made by the first that needs them. nnU-Net gets them
whole in memory, as its own predictor has them, hilum row by row, as its sliding window gives them.
Reading and writing files is not timed. The last line of output is JSON: seconds of each run.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ROWS = 8


def main() -> None:
    """Parse, time, keep, print."""
    who, what, model, image, folder, runs = sys.argv[1:]
    ways: dict[tuple[str, str], Callable[..., Callable[[], tuple[NDArray[Any], float]]]] = {
        ("nnunet", "preprocess"): nnunet_preprocess,
        ("nnunet", "export"): nnunet_export,
        ("hilum", "preprocess"): hilum_preprocess,
        ("hilum", "export"): hilum_export,
    }
    work = ways[who, what](Path(model), Path(image), Path(folder))
    seconds, result = [], None
    for _ in range(int(runs)):
        result, one = work()
        seconds.append(one)
    np.save(Path(folder) / f"{who}_{'input' if what == 'preprocess' else 'labels'}.npy", result)
    print(json.dumps({"seconds": seconds}))


def _timed(work: Callable[[], NDArray[Any]]) -> Callable[[], tuple[NDArray[Any], float]]:
    def timed() -> tuple[NDArray[Any], float]:
        start = time.perf_counter()
        result = work()
        return result, time.perf_counter() - start

    return timed


def nnunet_preprocess(
    model: Path, image: Path, _: Path
) -> Callable[[], tuple[NDArray[Any], float]]:
    """nnU-Net's preprocessor."""
    plans, configuration, description = _nnunet(model)
    array, facts = plans.image_reader_writer_class().read_images([str(image)])
    preprocessor = configuration.preprocessor_class(verbose=False)
    return _timed(
        lambda: preprocessor.run_case_npy(
            array, None, dict(facts), plans, configuration, description
        )[0]
    )


def nnunet_export(
    model: Path, image: Path, folder: Path
) -> Callable[[], tuple[NDArray[Any], float]]:
    """nnU-Net's way from logits to labels."""
    from nnunetv2.inference.export_prediction import (
        convert_predicted_logits_to_segmentation_with_correct_shape,
    )

    plans, configuration, description = _nnunet(model)
    array, facts = plans.image_reader_writer_class().read_images([str(image)])
    preprocessor = configuration.preprocessor_class(verbose=False)
    shape = preprocessor.run_case_npy(array, None, facts, plans, configuration, description)[
        0
    ].shape[1:]
    labels = plans.get_label_manager(description)
    logits = np.ascontiguousarray(
        np.load(_logits(folder, labels.num_segmentation_heads, shape)).swapaxes(0, 1)
    )
    del array
    return _timed(
        lambda: convert_predicted_logits_to_segmentation_with_correct_shape(
            logits, plans, configuration, labels, facts, num_threads_torch=os.cpu_count() or 1
        )
    )


def _nnunet(model: Path) -> tuple[Any, Any, dict[str, Any]]:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(str(model / "plans.json"))
    return (
        plans,
        plans.get_configuration("3d_fullres"),
        json.loads((model / "dataset.json").read_text()),
    )


def hilum_preprocess(model: Path, image: Path, _: Path) -> Callable[[], tuple[NDArray[Any], float]]:
    """The same by hilum and the imported plan."""
    from hilum.io import read_volume
    from hilum.plan import load_plan
    from hilum.preprocess import preprocess_case

    plan, volume = load_plan(model / "plan.json"), read_volume(image)
    return _timed(lambda: preprocess_case(volume, plan)[0])


def hilum_export(
    model: Path, image: Path, folder: Path
) -> Callable[[], tuple[NDArray[Any], float]]:
    """The same by hilum's stream.

    The network hands it slabs in single precision, so making them of the file is not timed.
    """
    from hilum.engines.host import usable_cpus
    from hilum.io import read_volume
    from hilum.plan import load_plan
    from hilum.preprocess import LabelStream, preprocess_case
    from hilum.targets.encoding import decode_logits

    plan = load_plan(model / "plan.json")
    array, restore = preprocess_case(read_volume(image), plan)
    table = plan.labels
    kind = np.min_scalar_type(max(table.ids))
    file = _logits(folder, table.outputs, array.shape[1:])
    del array

    def work() -> tuple[NDArray[Any], float]:
        seconds = 0.0
        stream = LabelStream(
            restore,
            table.outputs,
            lambda logits: decode_logits(logits, table),
            kind,
            threads=usable_cpus(),
        )
        for rows in _rows(file):
            begun = time.perf_counter()
            stream.feed(rows)
            seconds += time.perf_counter() - begun
        return stream.finish().array[0], seconds

    return work


def _rows(file: Path) -> Any:
    """Blocks (K, z, Y, X) of float32 in rising Z, read one after the other."""
    with file.open("rb") as raw:
        np.lib.format.read_magic(
            raw
        )  # 1.0: np.save and open_memmap write no other for such headers
        (depth, *rest), _, kind = np.lib.format.read_array_header_1_0(raw)
        size = int(np.prod(rest))
        for start in range(0, depth, ROWS):
            z = min(ROWS, depth - start)
            yield (
                np.fromfile(raw, kind, z * size).astype(np.float32).reshape(z, *rest).swapaxes(0, 1)
            )


def _logits(folder: Path, outputs: int, shape: tuple[int, ...]) -> Path:
    """Smooth noise (Z, K, Y, X) in half precision, as nnU-Net hands it over.

    Made where it is missing.
    """
    import torch

    file = folder / "logits.npy"
    if not file.is_file():
        coarse = torch.randn(1, outputs, 9, 13, 13, generator=torch.Generator().manual_seed(0)) * 4
        out = np.lib.format.open_memmap(file, "w+", np.float16, (shape[0], outputs, *shape[1:]))
        for k in range(outputs):
            out[:, k] = torch.nn.functional.interpolate(
                coarse[:, k : k + 1], size=tuple(shape), mode="trilinear"
            )[0, 0].numpy()
        out.flush()
    return file


if __name__ == "__main__":
    main()
