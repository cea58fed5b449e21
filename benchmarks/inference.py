"""Inference from file to file.

NnU-Net, MONAI and hilum with the same network and weights, time, memory and agreement.

    scripts/bench inference --peer-python PY --sets liver hippocampus torso --prepare    (data,
    models; trains the liver) scripts/bench inference --peer-python PY --sets liver hippocampus
    torso --runs 3 --slow-runs 1 scripts/bench inference --peer-python PY --alone liver torso --runs
    3 scripts/bench inference --peer-python PY --peak scripts/bench inference --peer-python PY
    --sets liver --runs 0                       (only tables of what was measured)

PY is a Python in which nnunetv2 and monai are installed. Runs are interleaved: every round runs
each way once, and ratios are between runs of the same round; --slow-runs is how many rounds the
float32 ways by torch take part in. Each run is one command that reads the image files and writes
the label files, with its start; memory is of the whole tree of processes. What was measured is kept
in out/benchmarks/inference/SET/runs.json; --append goes on with it. Runs of another commit of src
are kept there but not counted; those of other weights, found by the checkpoint's SHA-256, are
forgotten with all predictions.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _common import REPOSITORY, provenance, write_result
from _inference_measure import MEMORY_IS, measure
from _inference_sets import (
    ALL_CASES,
    HERE,
    HOME,
    SETS,
    NotMadeError,
    forget,
    import_command,
    is_made,
    make,
    model,
    resampled_liver,
    settle,
    train_further,
)
from _inference_table import (
    agreement,
    agreement_table,
    alone_table,
    profile_table,
    speed_table,
    summary,
)

if TYPE_CHECKING:
    from _inference_sets import BenchSet

FULL = ("--overlap", "0.5", "--every-patch")
DEFAULT_WAYS = (
    "nnunet",
    "monai",
    "torch_float32",
    "openvino_float32",
    "openvino_bfloat16",
    "openvino_int8",
    "default_bfloat16",
    "default_int8",
)


@dataclass(frozen=True)
class Way:
    """One way to predict: nnU-Net's, MONAI's, or hilum's with a model and options."""

    title: str
    slow: bool = False
    mirrored: bool = False
    model: str = ""
    options: tuple[str, ...] = ()


WAYS = {
    "nnunet": Way("nnU-Net, torch float32", slow=True),
    "nnunet_mirrored": Way("nnU-Net, mirrored", slow=True, mirrored=True),
    "monai": Way("MONAI sliding window, torch float32", slow=True),
    "torch_float32": Way(
        "hilum torch float32, every patch",
        slow=True,
        model="imported",
        options=("--engine", "torch", "--precision", "float32", *FULL),
    ),
    "onnx_float32": Way(
        "hilum ONNX Runtime float32, every patch",
        model="exported",
        options=("--engine", "onnx", "--precision", "float32", *FULL),
    ),
    **{
        f"openvino_{precision}": Way(
            f"hilum OpenVINO {precision}, every patch",
            model="int8" if precision == "int8" else "exported",
            options=("--engine", "openvino", "--precision", precision, *FULL),
        )
        for precision in ("float32", "bfloat16", "int8")
    },
    **{
        f"default_{precision}": Way(
            f"hilum {precision}, defaults (tuned)",
            model="int8_tuned" if precision == "int8" else "exported_tuned",
            options=("--precision", precision),
        )
        for precision in ("bfloat16", "int8")
    },
    **{
        f"overlap_{overlap}_{precision}": Way(
            f"hilum OpenVINO {precision}, overlap {overlap}",
            model="int8" if precision == "int8" else "exported",
            options=("--precision", precision, "--overlap", overlap),
        )
        for overlap in ("0.25", "0.125")
        for precision in ("bfloat16", "int8")
    },
    **{
        f"openvino_{precision}_mirrored": Way(
            f"hilum OpenVINO {precision}, every patch, mirrored",
            mirrored=True,
            model="int8" if precision == "int8" else "exported",
            options=("--engine", "openvino", "--precision", precision, "--tta", *FULL),
        )
        for precision in ("bfloat16", "int8")
    },
}
TITLES = {name: way.title for name, way in WAYS.items()}


def main() -> None:
    """Parse, prepare, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=[])
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=WAYS,
        help="default: all but onnx, overlap and the mirrored; the last for hippocampus too",
    )
    parser.add_argument("--runs", type=int, default=3, help="rounds; 0 prints what was measured")
    parser.add_argument(
        "--slow-runs",
        type=int,
        help="rounds that nnU-Net, MONAI and torch take part in [default: all]",
    )
    parser.add_argument(
        "--append",
        action="store_true",
        help="go on with the rounds that are there; those of this commit are counted",
    )
    parser.add_argument("--prepare", action="store_true", help="only make what the runs need")
    parser.add_argument(
        "--remake",
        action="store_true",
        help="make hilum's models anew: the code that makes them has changed",
    )
    parser.add_argument(
        "--liver-steps",
        type=int,
        help="train the liver's network further, for so many steps, first",
    )
    parser.add_argument(
        "--cases", type=int, default=ALL_CASES, help="of hippocampus; fewer are for trying out"
    )
    parser.add_argument(
        "--alone",
        nargs="+",
        choices=["liver", "torso"],
        default=[],
        help="time preprocessing and export alone",
    )
    parser.add_argument(
        "--peak",
        action="store_true",
        help="measure large matrix products, and count a patch's operations",
    )
    parser.add_argument(
        "--peer-python",
        type=Path,
        default=Path(sys.executable),
        help="a Python with nnunetv2 and monai",
    )
    asked = parser.parse_args()
    asked.peer_python = (
        asked.peer_python.absolute()
    )  # not resolved: the link tells Python its environment
    result: dict[str, Any] = {"memory": MEMORY_IS}
    if asked.peak:
        result["peak"] = peak(asked)
    for name in asked.sets:
        result[name] = bench(SETS[name](asked.peer_python, asked.cases), asked)
    if asked.alone and not asked.prepare:
        result["alone"] = alone(asked)
    if not asked.prepare:
        write_result("inference_" + time.strftime("%Y%m%d_%H%M%S"), result)


def bench(found: BenchSet, asked: argparse.Namespace) -> dict[str, Any]:
    """All rounds of one set; tables of everything measured."""
    ways = asked.ways or [*DEFAULT_WAYS, *(mirrored() if found.name == "hippocampus" else [])]
    kept = found.home / "runs.json"
    commit = provenance()["commit"]
    if asked.liver_steps and found.name == "liver":
        train_further(found, asked.peer_python, asked.liver_steps)
    weights = settle(found)
    known = asked.append or not asked.runs or asked.prepare
    state: dict[str, Any] = (
        json.loads(kept.read_text()) if known and kept.is_file() else {"runs": [], "refused": {}}
    )
    if asked.remake:
        forget(found)
    models = {way: prepared(found, way, state["refused"]) for way in ways}
    if asked.prepare:
        return {}
    first = max((run["round"] for run in state["runs"]), default=-1) + 1
    for n in range(first, first + asked.runs):
        for way in ways:
            slow_over = (
                WAYS[way].slow and asked.slow_runs is not None and n - first >= asked.slow_runs
            )
            if models[way] is None or slow_over:
                continue
            run = one_run(found, way, models[way], asked.peer_python) | {
                "round": n,
                "commit": commit,
                "weights": weights,
            }
            state["runs"].append(run)
            kept.write_text(json.dumps(state, indent=1))
            said = (
                f"{run['seconds']:.1f} s, {run['memory_gib']:.2f} GiB"
                if run["code"] == 0
                else f"FAILED: {run['said']}"
            )
            print(f"{found.name}, round {n}, {WAYS[way].title}: {said}", flush=True)
    if not asked.runs and state["runs"]:
        commit = state["runs"][-1]["commit"]  # the tables of what was measured last
    counted = [
        run
        for run in state["runs"]
        if run.get("weights") == weights and same_code(run["commit"], commit)
    ]
    if left := len(state["runs"]) - len(counted):
        print(
            f"{found.name}: {left} of {len(state['runs'])} runs are not of {commit} and these"
            " weights, and not counted"
        )
    return show(found, state | {"runs": counted})


def same_code(one: str, other: str) -> bool:
    """Return True if src is the same at two commits.

    Of trees with changes only the names can be compared.
    """
    if one == other or "+" in one + other:
        return one == other
    command = ["git", "diff", "--quiet", one, other, "--", "src"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False).returncode == 0


def mirrored() -> list[str]:
    """The ways with mirroring."""
    return [name for name, way in WAYS.items() if way.mirrored]


def prepared(found: BenchSet, way: str, refused: dict[str, str]) -> Path | None:
    """The model of a way; None where hilum would not make it, with the reason kept."""
    if not WAYS[way].model:
        return found.nnunet
    try:
        folder = model(found, WAYS[way].model)
    except NotMadeError as error:
        refused[way] = str(error)
        print(f"{found.name}, {WAYS[way].title}: left out: {error}", flush=True)
        return None
    refused.pop(way, None)
    return folder


def one_run(found: BenchSet, way: str, folder: Path | None, python: Path) -> dict[str, Any]:
    """Run a way once, from files to files."""
    out = found.home / "predictions" / way
    shutil.rmtree(out, ignore_errors=True)
    log = found.home / "logs" / f"{way}.log"
    measured = measure(
        command(found, way, folder, out, python), log=log, environment=peer_environment()
    )
    run: dict[str, Any] = {"way": way, **asdict(measured), **told(out / "run.json")}
    if measured.code:
        run["said"] = " ".join(log.read_text(encoding="utf-8").split())[-400:]
    return run


def command(
    found: BenchSet, way: str, folder: Path | None, out: Path, python: Path
) -> list[object]:
    """Return the command line."""
    one = WAYS[way]
    if one.model:
        return [
            sys.executable,
            "-m",
            "hilum",
            "predict",
            folder,
            found.images,
            "-o",
            out,
            *one.options,
        ]
    if way == "monai":
        return [python, HERE / "_inference_monai.py", folder, found.fold, found.images, out]
    nnunet = [
        python.parent / "nnUNetv2_predict_from_modelfolder",
        "-i",
        found.images,
        "-o",
        out,
        "-m",
        folder,
        "-f",
        found.fold,
    ]
    return [*nnunet, "-device", "cpu", *([] if one.mirrored else ["--disable_tta"])]


def peer_environment() -> dict[str, str]:
    """nnU-Net warns where its three variables are missing; they are not used."""
    return os.environ | {f"nnUNet_{name}": str(HOME) for name in ("raw", "preprocessed", "results")}


def told(file: Path) -> dict[str, Any]:
    """Read hilum's run.json: where the time went, by what engine, patches."""
    if not file.is_file():
        return {}
    report = json.loads(file.read_text())
    parts: dict[str, float] = {}
    for case in report["cases"]:
        for part, seconds in case["seconds"].items():
            parts[part] = parts.get(part, 0.0) + seconds
    return {
        "inside": report["seconds"],
        "parts": parts,
        "engine": ", ".join(
            value for value in (report["engine"], report["precision"], report["device"]) if value
        ),
        "patches": patches(report),
        "report": {key: value for key, value in report.items() if key not in ("packages", "cases")},
    }


def patches(report: dict[str, Any]) -> str:
    """Patches run and skipped over all cases, as run.json names them."""
    counts: dict[str, int] = {}
    for case in report["cases"]:
        for name, count in case["patches"].items():
            counts[name] = counts.get(name, 0) + count
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def show(found: BenchSet, state: dict[str, Any]) -> dict[str, Any]:
    """Print and return all tables of a set."""
    runs = state["runs"]
    summaries = {way: summary(runs, way, ("nnunet", "nnunet_mirrored", "monai")) for way in WAYS}
    summaries = {way: one for way, one in summaries.items() if one}
    scores: dict[str, dict[str, dict[int, list[float]]]] = {}
    for way in summaries:
        own = found.home / "predictions" / way
        peer = found.home / "predictions" / ("nnunet_mirrored" if WAYS[way].mirrored else "nnunet")
        scores[way] = {"nnunet": agreement(own, peer, found.labels)} if peer.is_dir() else {}
        if found.trained:
            scores[way]["reference"] = agreement(own, found.reference, found.labels)
    tables = {
        "speed": speed_table(TITLES, summaries),
        "agreement": agreement_table(TITLES, found, scores),
        "where hilum's time goes": profile_table(TITLES, runs),
    }
    print(f"\n## {found.name}: {found.note}\n")
    for table in tables.values():
        print("\n".join(table) + "\n")
    for way, why in state["refused"].items():
        print(f"left out: {TITLES[way]}: {why}")
    return {"note": found.note, "summaries": summaries, "scores": scores, "tables": tables, **state}


def alone(asked: argparse.Namespace) -> dict[str, Any]:
    """Preprocessing and export alone, nnU-Net's and hilum's in turn, on the image of a set."""
    results: dict[str, Any] = {}
    for name in asked.alone:
        found = SETS[name](asked.peer_python, asked.cases)
        settle(found)
        nnunet = resampled_liver(found) if name == "liver" else found.nnunet
        ours = found.home / "imported_resampled" if name == "liver" else model(found, "imported")
        if name == "liver" and not is_made(ours):
            make(import_command(nnunet, found.fold, ours), ours)
        image = next(found.images.glob("*.nii.gz"))
        folder = found.home / "alone"
        folder.mkdir(exist_ok=True)
        for step in ("preprocess", "export"):
            results[f"{step}, {name}"] = one = step_alone(
                step, {"nnunet": nnunet, "hilum": ours}, image, folder, asked
            )
            print(f"{step}, {name}: {one.get('failed') or one['agreement']}", flush=True)
        (folder / "logits.npy").unlink(missing_ok=True)  # gigabytes
    print("\n" + "\n".join(alone_table(results)))
    return results


def step_alone(
    step: str, models: dict[str, Path], image: Path, folder: Path, asked: argparse.Namespace
) -> dict[str, Any]:
    """One step by both, in turn, each time in a new process; and whether they give the same."""
    pythons = {"nnunet": asked.peer_python, "hilum": Path(sys.executable)}
    result: dict[str, Any] = {who: {"seconds": [], "memory_gib": []} for who in models}
    for _ in range(asked.runs):
        for who, folder_of in models.items():
            log = folder / f"{who}_{step}.log"
            words = [
                pythons[who],
                HERE / "_inference_alone.py",
                who,
                step,
                folder_of,
                image,
                folder,
                1,
            ]
            measured = measure(words, log=log, environment=peer_environment())
            if measured.code:
                return {
                    "failed": f"{who}: " + " ".join(log.read_text(encoding="utf-8").split())[-300:]
                }
            result[who]["seconds"] += json.loads(log.read_text(encoding="utf-8").splitlines()[-1])[
                "seconds"
            ]
            result[who]["memory_gib"].append(measured.memory_gib)
    kept = "input" if step == "preprocess" else "labels"
    theirs, ours = (np.load(folder / f"{who}_{kept}.npy") for who in models)
    if theirs.shape != ours.shape:
        said = f"shapes {theirs.shape} and {ours.shape}"
    elif step == "preprocess":
        said = (
            f"largest difference {np.abs(theirs.astype(np.float32) - ours).max():.1e} standard"
            " deviations"
        )
    else:
        said = f"{int((theirs != ours).sum())} of {ours.size} voxels differ"
    return result | {"agreement": said}


def peak(asked: argparse.Namespace) -> dict[str, Any]:
    """Large matrix products; operations of a patch of every set that is there."""
    result: dict[str, Any] = {}
    imported = [HOME / name / "imported" for name in asked.sets or SETS]
    folders = [folder for folder in imported if is_made(folder)]
    for folder in folders or [None]:
        log = HOME / "peak.log"
        words = [sys.executable, HERE / "_inference_peak.py", *([folder] if folder else [])]
        if measure(words, log=log).code:
            raise SystemExit(log.read_text(encoding="utf-8"))
        told_last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
        if folder:
            result[f"10^9 operations a patch of {folder.parent.name}"] = told_last.pop(
                "operations a patch"
            )
        for key, value in told_last.items():
            result[key] = max(value, result.get(key, 0.0))
    print(
        "\n| large matrix product, or network | 10^9 operations a second, or a patch |\n|---|---|"
    )
    print("\n".join(f"| {key} | {value:,.0f} |" for key, value in result.items()))
    return result


if __name__ == "__main__":
    main()
