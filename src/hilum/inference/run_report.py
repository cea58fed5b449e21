"""Report of one run as run.json: versions, device, options, seeds, seconds and peak memory."""

from __future__ import annotations

import platform
import re
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import psutil
from pydantic import Field, JsonValue

from hilum.io import Readable, atomic_write_text
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
    """Files of an earlier answer to this case that were there: written over, or removed."""
    seconds: dict[str, float] = Field(default_factory=dict)
    patches: dict[str, int] = Field(default_factory=dict)
    """Of a segmentation: how many the network ran, and how many it need not see
    (`hilum.inference.empty`)."""
    unlike: tuple[str, ...] = ()
    """What in the image is unlike the training data (`hilum.inference.unlike`)."""


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
    """What ran the network: torch, openvino or onnx."""
    device: str
    precision: str = ""
    memory_gb: float | None = None
    """What the process was allowed to hold, in GiB; None where nothing was said."""
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
    """Of a prediction: cases with answers in the folder that are named like training cases of the
    model; also of earlier runs."""

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
        """The file's text."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))


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
        self._device = device
        self._facts: dict[str, Any] = {
            "verb": verb,
            "model": model,
            "precision": precision,
            "engine": engine,
        }
        self._facts["memory_gb"] = None if memory_gb is None else round(memory_gb, 3)
        self._options, self._seeds = dict(options or {}), dict(seeds or {})
        self._started = datetime.now(UTC)
        self._start = time.perf_counter()
        cuda = _cuda(device)
        if cuda is not None:
            cuda.reset_peak_memory_stats(device.split(": ", maxsplit=1)[0])

    def report(
        self,
        *,
        status: Literal["done", "stopped", "failed"] = "done",
        cases: tuple[CaseOutcome, ...] = (),
        files: Inventory | None = None,
        trained_on: Iterable[str] = (),
    ) -> RunReport:
        """The run up to now."""
        return RunReport(
            **self._facts,
            started=self._started.isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - self._start, 3),
            status=status,
            device=self._device,
            platform=platform.platform(),
            python=platform.python_version(),
            packages=package_versions(),
            options=self._options,
            seeds=self._seeds,
            peak_memory_gb=round(peak_memory_bytes() / 2**30, 3),
            peak_device_memory_gb=peak_device_memory_gb(self._device),
            files=files.record() if files is not None else None,
            cases=cases,
            trained_on=tuple(sorted(trained_on)),
        )


def package_versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on, those that are installed."""
    installed: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def peak_memory_bytes() -> int:
    """Largest resident memory of this process since it began."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    if (
        sys.platform == "linux"
    ):  # getrusage also counts what the process that started this one held when it did
        found = re.search(
            r"^VmHWM:\s*(\d+) kB",
            Path("/proc/self/status").read_text(encoding="utf-8"),
            re.MULTILINE,
        )
        if found:
            return 1024 * int(found[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def peak_device_memory_gb(device: str) -> float | None:
    """Largest memory that torch allocated on a CUDA device (in words) since the run began, in GiB.

    None elsewhere.
    """
    cuda = _cuda(device)
    return (
        None
        if cuda is None
        else round(cuda.max_memory_allocated(device.split(": ", maxsplit=1)[0]) / 2**30, 3)
    )


def _cuda(device: str) -> Any:
    """torch.cuda, where the device is one of its.

    Torch is there then, and is not loaded for anything else.
    """
    return sys.modules["torch"].cuda if device.startswith("cuda") else None
