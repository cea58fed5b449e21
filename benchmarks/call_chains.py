"""Call chains from `hilum.train` to the loss and from `hilum.predict` to the written file.

Each chain is measured, not read: a small training and a small prediction of both tasks run, and the
functions that are active when the loss is called, an image is read, the network runs or a file is
written are printed, one a line, with the files that a chain comes back to.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from _common import write_result

import hilum
from hilum.examples import make_abdomen_dataset, make_nodule_dataset

if TYPE_CHECKING:
    from types import FrameType

SOURCE = Path(hilum.__file__).resolve().parent
Ends = dict[str, Callable[[str, str], bool]]  # name of a point: is this (file, function) there?
TRAINING: Ends = {
    "loss": lambda file, function: (
        (file == "targets/losses.py" and function == "forward")
        or (file.endswith("steps/classification.py") and function == "loss")
    ),
}
PREDICTION: Ends = {
    "image read": lambda file, function: (file, function) == ("io/dispatch.py", "read_volume"),
    "network": lambda file, function: "engines/" in file and function in {"__call__", "autocast"},
    "labels written": lambda file, function: (file, function) == ("io/nifti.py", "write"),
    "probabilities written": lambda file, function: (
        file.endswith("class_prediction.py") and function == "write"
    ),
}


def chain_of(frame: FrameType | None) -> list[str]:
    """List the active functions of the package, outermost first, as file:function."""
    names: list[str] = []
    while frame is not None:
        path, function = Path(frame.f_code.co_filename), frame.f_code.co_name
        if path.is_relative_to(SOURCE) and not function.startswith("<"):
            names.append(f"{path.relative_to(SOURCE)}:{function}")
        frame = frame.f_back
    return names[::-1]


def returns(chain: list[str]) -> int:
    """Count how often a chain comes back to a file that it had left."""
    files = [step.split(":")[0] for step in chain]
    changes = [file for k, file in enumerate(files) if k == 0 or files[k - 1] != file]
    return len(changes) - len(set(changes))


@contextmanager
def recorded(ends: Ends, inside: str = "") -> Iterator[dict[str, list[str]]]:
    """Record the first chain to each of the points, in any thread.

    A worker thread's chain begins with the main thread's, up to the file that the worker is in.
    `inside` names a file that must be on the chain.
    """
    found: dict[str, list[str]] = {}
    main = threading.main_thread().ident

    def look(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not Path(frame.f_code.co_filename).is_relative_to(SOURCE):
            return
        file = str(Path(frame.f_code.co_filename).relative_to(SOURCE))
        for name, is_there in ends.items():
            if name not in found and is_there(file, frame.f_code.co_name):
                chain = chain_of(frame)
                if threading.get_ident() != main:
                    start = chain[0].split(":")[0]
                    callers = chain_of(sys._current_frames()[main or 0])  # noqa: SLF001
                    files = [step.split(":")[0] for step in callers]
                    chain = callers[: files.index(start) + 1 if start in files else None] + chain
                if any(inside in step for step in chain):
                    found[name] = chain

    threading.setprofile(look)
    sys.setprofile(look)
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def main() -> None:
    """Measure the chains of both tasks and print them."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    chains: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_abdomen_dataset(folder / "abdomen", cases=8, tests=2, shape=(12, 24, 30))
        make_nodule_dataset(folder / "nodules", cases=24, shape=(8, 20, 20))
        for task, data, images in (
            ("segmentation", "abdomen", "abdomen/imagesTs"),
            ("classification", "nodules", "nodules"),
        ):
            labelling = hilum.Labelling(task=task)
            with recorded(TRAINING, inside="training/loop.py") as found:
                hilum.train(folder / data, folder / task, labelling=labelling, steps=2)
            chains |= {f"train, {task}: {end}": chain for end, chain in found.items()}
            with recorded(PREDICTION, inside="inference/many.py") as found:
                hilum.predict(folder / task, [folder / images], folder / f"{task}_predictions")
            chains |= {f"predict, {task}: {end}": chain for end, chain in found.items()}
    for title, chain in chains.items():
        print(f"{title}: {len(chain)} steps, {returns(chain)} returns to a file")
        print("".join(f"    {step}\n" for step in chain))
    write_result("call_chains", chains)


if __name__ == "__main__":
    main()
