"""Check that `hilum predict` writes the same bytes at every call.

Beside busy processes and on fewer cores (ADR 9).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from _common import DATA, hilum, write_result

from hilum.io import read_labels

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOT_ANSWERS = {"run.json", ".hilum.json"}  # the time stands in them


def main() -> None:
    options = _options()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = options.model
        if model is None:
            model = folder / "model"
            hilum("import", "nnunet", DATA / "nnunet_hippocampus", "-o", model)
        rows = measured(model, options, folder)
    for row in rows:
        print(f"{row['busy']} busy, {row['cores']} cores ({row['device']}): {row['said']}")
    write_result(
        "same_labels",
        {"options": {name: str(value) for name, value in vars(options).items()}, "rows": rows},
    )


def measured(model: Path, options: argparse.Namespace, folder: Path) -> list[dict[str, str | int]]:
    """Predict again and again; hold every run against the first."""
    rows: list[dict[str, str | int]] = []
    first: dict[str, str] = {}
    images = sorted(options.images.iterdir())[: options.cases]
    cores = len(os.sched_getaffinity(0))
    for busy, used in [(busy, cores) for busy in options.busy] + [(0, 1)]:
        others, gaps = 0, 0
        for number in range(options.runs):
            out = folder / f"busy{busy}_cores{used}_{number}"
            with busy_processes(busy):
                predict(model, images, out, cores=used, extra=options.extra)
            found = hashes(out)
            first = first or found
            others += found != first
            gaps = max(gaps, other_voxels(folder / f"busy{options.busy[0]}_cores{cores}_0", out))
        report = json.loads((out / "run.json").read_text(encoding="utf-8"))
        said = (
            f"{len(first)} files, all the same bytes in {options.runs} runs"
            if not others
            else (
                f"other bytes in {others} of {options.runs} runs, {gaps} voxels of another label at"
                " most"
            )
        )
        device = f"{report['engine']} in {report['precision']}, {report['device']}"
        rows.append({"busy": busy, "cores": used, "device": device, "said": said})
    return rows


def predict(model: Path, images: list[Path], out: Path, *, cores: int, extra: list[str]) -> None:
    """Run the command as a user would, on so many cores."""
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_cores)[:cores])
    try:
        hilum("predict", model, *images, "-o", out, *extra)
    finally:
        os.sched_setaffinity(0, all_cores)


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Let processes compute meanwhile, each on what cores it gets."""
    code = "import numpy as np\na = np.ones((500, 500))\nwhile True: a @ a"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def hashes(folder: Path) -> dict[str, str]:
    """Hash every answer of a folder."""
    files = (
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in _NOT_ANSWERS
    )
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def other_voxels(one: Path, two: Path) -> int:
    """Count the voxels whose label differs between two folders of answers."""
    labels = [path.name for path in one.glob("*.nii.gz")]
    return sum(
        int((read_labels(one / name).array != read_labels(two / name).array).sum())
        for name in labels
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", type=Path, help="of hilum; without it nnU-Net's of the hippocampus is imported"
    )
    parser.add_argument("--images", type=Path, default=DATA / "hippocampus" / "imagesTr")
    parser.add_argument("--cases", type=int, default=6, help="the first so many files of --images")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--busy",
        type=int,
        nargs="+",
        default=[0, 1, 2],
        help="how many processes compute meanwhile",
    )
    parser.add_argument(
        "--extra", nargs=argparse.REMAINDER, default=[], help="options of hilum predict"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
