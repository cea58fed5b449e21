"""Facts that every benchmark reports about itself: commit, machine, versions."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = REPOSITORY.parent / "shared" / "data"
OUT = REPOSITORY / "out" / "benchmarks"


def provenance() -> dict[str, str]:
    """Commit, machine and versions, without the machine's name."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "src"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "commit": commit.stdout.strip() + ("+changes" if dirty.stdout.strip() else ""),
        "cpu": f"{_cpu()}, {os.cpu_count()} cores",
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("hilum", "torch", "numpy")},
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def hilum(*arguments: object) -> None:
    """Run the command line as a user would; it must succeed."""
    subprocess.run([sys.executable, "-m", "hilum", *map(str, arguments)], check=True)


def trained_already(model: Path, minutes: float) -> bool:
    """Return True if a training is complete.

    What a folder holds, complete or not, must be of so many minutes.

    Raises:
        SystemExit: it is of others, or does not say of how many: its figures would be reported as
            what they are not.
    """
    complete = (model / "model.json").is_file()
    found = {_told(model / "run.json", "options")} if complete else set()
    if (model / "training" / "plan.json").is_file():
        found.add(_told(model / "training" / "plan.json", "hardware"))
    if others := found - {float(minutes)}:
        said = ", ".join("an unknown number of" if one is None else f"{one:g}" for one in others)
        raise SystemExit(
            f"{model} was trained for {said} minutes, not {minutes:g}: ask for those, or remove the"
            " folder."
        )
    return complete


def _told(file: Path, part: str) -> float | None:
    """The minutes that a file of a training names; None where it names none."""
    try:
        minutes = json.loads(file.read_text(encoding="utf-8"))[part]["minutes"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return None if minutes is None else float(minutes)


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Write out/benchmarks/NAME.json with where it comes from."""
    path = OUT / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(provenance() | result, indent=2) + "\n", encoding="utf-8")
    print(f"Written: {path.relative_to(REPOSITORY)}")
    return path


def dice_rows(summary: Any) -> list[str]:
    """Markdown rows: region, mean Dice with its interval, median, NSD, HD95, cases."""
    rows = []
    for region in summary.regions:
        dice, nsd, hd95 = (region.metrics[name] for name in ("dice", "nsd", "hd95"))
        rows.append(
            f"| {region.region} | {dice.mean:.4f} ({dice.low:.4f} to {dice.high:.4f}) |"
            f" {dice.median:.4f} | {nsd.mean:.4f} | {hd95.mean:.2f} | {dice.n} |"
        )
    return rows


HEADER = (
    "| region | mean Dice (95 % interval) | median Dice | NSD | HD95, mm | cases"
    " |\n|---|---|---|---|---|---|"
)
