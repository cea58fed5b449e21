"""Report of one run as run.json: versions, device, options, seeds, seconds and peak memory."""

from __future__ import annotations

import platform
import re
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import psutil
from pydantic import Field, JsonValue

from hilum.engines.host import read_kernel_file
from hilum.files import Readable, atomic_write_text
from hilum.inference.confidence import (
    CaseConfidence,  # noqa: TC001  (pydantic reads the annotation when the class is made)
)
from hilum.io.inventory import (
    InventoryRecord,  # noqa: TC001  (pydantic reads the annotation when the class is made)
)
from hilum.plan.plan import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hilum.io.inventory import Inventory

_PACKAGES = (
    "hilum",
    "torch",
    "openvino",
    "onnxruntime",
    "numpy",
    "scipy",
    "nibabel",
    "SimpleITK",
    "pydicom",
    "blosc2",
    "lightning-fabric",
    "safetensors",
)


class CaseOutcome(Record):
    """Outcome of one case: the files written, or the error."""

    case: str
    status: Literal["done", "failed", "skipped"]
    files: tuple[Readable, ...] = ()
    error: Readable = ""
    replaced: tuple[Readable, ...] = ()
    """Files of an earlier prediction of this case that were there: written over, or removed."""
    seconds: dict[str, float] = Field(default_factory=dict)
    patches: dict[str, int] = Field(default_factory=dict)
    """Patches of a segmentation: how many the network ran, and how many it need not see
    (`hilum.inference.empty`)."""
    unlike: tuple[str, ...] = ()
    """Differences of the image from the training data (`hilum.inference.unlike`)."""
    series: tuple[Readable, ...] = ()
    """DICOM series of its study taken for each channel, and why, where there are several
    (`hilum.inference.studies`)."""
    confidence: CaseConfidence | None = None
    """Intervals of the volumes, expected Dice and contours of a segmentation whose model carries
    them (`hilum.inference.confidence`)."""
    carried: bool = False
    """True of a skipped case with `unlike` and `confidence` of the run that predicted it; of other
    skipped cases these are not known."""


def message_kind(case: str, message: str) -> str:
    """Strip a message of the case's name, paths and numbers, so that like messages are equal."""
    nameless = re.sub(rf"(?<!\w){re.escape(case)}(?!\w)", "#", message)
    return re.sub(r"\S*/\S*|-?\d[\d.,e+]*", "#", nameless)


class RunReport(Record):
    """One run of one verb.

    Names no user and no computer, so that it may be published with its results.
    """

    verb: str
    model: str = ""
    started: str
    """UTC, ISO 8601."""
    seconds: float
    status: Literal["done", "stopped", "failed"] = "done"
    engine: str = ""
    """Engine of the network: torch, openvino or onnx."""
    device: str
    precision: str = ""
    memory_gb: float | None = None
    """Memory limit of the process in GiB; None where none was given."""
    platform: str
    python: str
    packages: dict[str, str]
    options: dict[str, JsonValue] = Field(default_factory=dict)
    seeds: dict[str, int] = Field(default_factory=dict)
    peak_memory_gb: float
    """Largest resident memory of this process so far, in GiB."""
    peak_device_memory_gb: float | None = None
    """Largest memory allocated by torch on the GPU during the run, in GiB; None on a CPU."""
    files: InventoryRecord | None = None
    """The account of every file below the inputs."""
    cases: tuple[CaseOutcome, ...] = ()
    trained_on: tuple[Readable, ...] = ()
    """Predicted cases that are named like training cases of the model; also of earlier runs."""
    model_warnings: tuple[Readable, ...] = ()
    """Warnings that the training left in the model's metrics: it was short, or hardly validated."""

    @property
    def failures(self) -> tuple[tuple[CaseOutcome, ...], ...]:
        """The failed cases, those with one cause together, in their order."""
        causes: dict[str, list[CaseOutcome]] = {}
        for case in self.cases:
            if case.status == "failed":
                causes.setdefault(message_kind(case.case, case.error), []).append(case)
        return tuple(map(tuple, causes.values()))

    def save(self, path: Path) -> None:
        """Write it as JSON, completely or not at all."""
        atomic_write_text(path, self.as_json())

    def as_json(self) -> str:
        """Write the file's text."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))


def skipped_outcomes(cases: Iterable[str], path: Path) -> list[CaseOutcome]:
    """Return the outcomes of cases that are left out, with what an earlier run.json warned of.

    Args:
        cases: the cases.
        path: of the earlier run.json; where it cannot be read, nothing is known of them.
    """
    try:
        earlier = {one.case: one for one in RunReport.load(path).cases}
    except (OSError, ValueError):
        earlier = {}
    outcomes = []
    for case in cases:
        outcome = CaseOutcome(case=case, status="skipped")
        known = earlier.get(case)
        if known is not None and (known.status == "done" or known.carried):
            kept = {"unlike": known.unlike, "confidence": known.confidence, "carried": True}
            outcome = outcome.model_copy(update=kept)
        outcomes.append(outcome)
    return outcomes


class RunClock:
    """A run that is going on: started here, reported whenever it is asked.

    Args:
        verb: "train", "predict", ...
        device: where it computes, in words; those of a GPU of CUDA begin with its name, as "cuda:0:
            ...".
        options: what the user chose.
        seeds: by name.
        model: id of the trained model, where there is one.
        precision: of the networks.
        engine: what runs them.
        memory_gb: what the process is allowed to hold.
    """

    def __init__(
        self,
        verb: str,
        *,
        device: str,
        options: Mapping[str, JsonValue] | None = None,
        seeds: Mapping[str, int] | None = None,
        model: str = "",
        precision: str = "",
        engine: str = "",
        memory_gb: float | None = None,
    ) -> None:
        """Note machine, versions and options, and start the clock."""
        self._known = {
            "verb": verb,
            "model": model,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "engine": engine,
            "device": device,
            "precision": precision,
            "memory_gb": None if memory_gb is None else round(memory_gb, 3),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "packages": package_versions(),
            "options": dict(options or {}),
            "seeds": dict(seeds or {}),
        }
        self._start = time.perf_counter()
        # torch is there where the device is one of CUDA, and is not loaded for anything else
        self._cuda = sys.modules["torch"].cuda if device.startswith("cuda") else None
        self._device = device.split(": ", maxsplit=1)[0]
        if self._cuda is not None:
            self._cuda.reset_peak_memory_stats(self._device)

    def report(
        self,
        *,
        status: Literal["done", "stopped", "failed"] = "done",
        cases: tuple[CaseOutcome, ...] = (),
        files: Inventory | None = None,
        trained_on: Iterable[str] = (),
        model_warnings: tuple[str, ...] = (),
    ) -> RunReport:
        """Report the run up to now."""
        on_device = None if self._cuda is None else self._cuda.max_memory_allocated(self._device)
        now = {
            "seconds": round(time.perf_counter() - self._start, 3),
            "status": status,
            "peak_memory_gb": round(peak_memory_bytes() / 2**30, 3),
            "peak_device_memory_gb": None if on_device is None else round(on_device / 2**30, 3),
            "files": files.record() if files is not None else None,
            "cases": cases,
            "trained_on": tuple(sorted(trained_on)),
            "model_warnings": model_warnings,
        }
        return RunReport.model_validate({**self._known, **now})


def package_versions() -> dict[str, str]:
    """Read the versions of the packages that numbers depend on, those that are installed."""
    installed: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def peak_memory_bytes() -> int:
    """Measure the largest resident memory of this process since it began."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    # getrusage also counts what the process that started this one held when it did
    status = read_kernel_file(Path("/proc/self/status")) if sys.platform == "linux" else ""
    found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
    if found:
        return 1024 * int(found[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
