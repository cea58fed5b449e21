"""Choice of the engine of a model, with its reason.

An engine's library is imported when it is chosen.
"""

from __future__ import annotations

import logging
import shlex
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from hilum.engines.engine import EXPORT_INT8
from hilum.errors import ModelError, ResourceError, UsageError, find_named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import torch
    from torch import nn

    from hilum.engines.engine import Engine
    from hilum.engines.openvino_library import Model
    from hilum.plan.segmentation import SegmentationPlan

_log = logging.getLogger("hilum")


@dataclass(frozen=True, eq=False)
class EngineSource:
    """A model as engines see it: what there is to run.

    Args:
        plan: of the model.
        networks: of torch, in memory, on `device`.
        device: of torch; None where there are no networks of torch.
        openvino: .xml files, one a network.
        onnx: .onnx files, one a network.
        stored: "int8" where the openvino files are quantised, else "float32".
    """

    plan: SegmentationPlan
    networks: tuple[nn.Module, ...] = ()
    device: torch.device | None = None
    openvino: tuple[Path, ...] = ()
    onnx: tuple[Path, ...] = ()
    stored: str = "float32"

    @property
    def is_on_cpu(self) -> bool:
        """Return True unless its networks are on another device."""
        return self.device is None or self.device.type == "cpu"

    @property
    def exported_for(self) -> tuple[str, ...]:
        """The engines that there are files for, the fastest first."""
        files = {"openvino": self.openvino, "onnx": self.onnx}
        return tuple(name for name, held in files.items() if held)


@dataclass(frozen=True)
class EngineOptions:
    """Options of an engine.

    Args:
        precision: None or "auto": the engine's choice.
        threads: None: all.
        memory: bytes that it may take, of OpenVINO; the others take what one patch needs.
    """

    precision: str | None = None
    threads: int | None = None
    memory: int | None = None


def _torch(source: EngineSource, options: EngineOptions) -> Engine:
    """Make torch's engine; refuse exported models and precisions that torch does not run."""
    if source.device is None:
        raise UsageError(
            "engine='torch' was chosen for an exported model, which holds no weights of torch",
            needed=f"an engine that it was exported for: {', '.join(source.exported_for)}",
            cure="engine='auto', or predict with the model folder that was exported",
        )
    from hilum.engines.torch_engine import TorchEngine, resolve_precision

    wanted = options.precision
    if wanted in {None, "auto"}:
        wanted = resolve_precision("bfloat16", source.device)
    if wanted not in {"float32", "bfloat16"}:
        raise UsageError(
            f"precision={wanted!r} is not one of torch",
            needed="auto, float32 or bfloat16",
            cure=EXPORT_INT8 if wanted == "int8" else "precision='auto'",
        )
    return TorchEngine(
        source.networks,
        device=source.device,
        precision="bfloat16" if wanted == "bfloat16" else "float32",
        batch=1 if source.is_on_cpu else source.plan.batch.value,
        threads=options.threads,
    )


def _openvino(source: EngineSource, options: EngineOptions) -> Engine:
    """Make OpenVINO's engine of the exported files, or of networks converted here."""
    from hilum.engines.openvino_engine import OpenVINOEngine, resolve_precision

    precision = resolve_precision(options.precision, stored=source.stored)
    models: Sequence[Path | Model] = source.openvino
    if not models:
        if not source.networks:
            raise _not_exported(source, "openvino")
        if not source.is_on_cpu:
            raise UsageError(
                f"engine='openvino' was chosen for a model on {source.device}",
                needed="a model on the CPU",
                cure="device='cpu'",
            )
        from hilum.engines.convert import to_openvino

        models = [to_openvino(network, source.plan) for network in source.networks]
    return OpenVINOEngine(
        models, precision=precision, threads=options.threads, memory=options.memory
    )


def _onnx(source: EngineSource, options: EngineOptions) -> Engine:
    """Make ONNX Runtime's engine; refuse a model that was not exported for it."""
    from hilum.engines.onnx_engine import OnnxEngine, resolve_precision

    resolve_precision(options.precision)
    if not source.onnx:
        raise _not_exported(source, "onnx")
    return OnnxEngine(source.onnx, threads=options.threads)


def _not_exported(source: EngineSource, name: str) -> UsageError:
    """Return the error of an engine that a model was not exported for."""
    held = ", ".join(source.exported_for) or "weights of torch"
    return UsageError(
        f"engine={name!r} was chosen for a model that was not exported for it",
        needed=f"a folder with files for it; this model has {held}",
        cure=f"export it with formats={name!r}, and predict with that folder",
    )


@dataclass(frozen=True)
class Kind:
    """A kind of engine: its package, the extra of hilum that brings it, and its constructor."""

    package: str
    extra: str
    make: Callable[[EngineSource, EngineOptions], Engine]

    @property
    def installed(self) -> bool:
        """True if the package is installed."""
        try:
            return find_spec(self.package) is not None
        except (ImportError, ValueError):  # half removed, or kept away
            return False


ENGINES: dict[str, Kind] = {
    "torch": Kind("torch", "", _torch),
    "openvino": Kind("openvino", "openvino", _openvino),
    "onnx": Kind("onnxruntime", "onnx", _onnx),
}
"""By the name that users give."""


def make_engine(
    source: EngineSource, name: str = "auto", options: EngineOptions | None = None
) -> Engine:
    """Make the engine of that name for a model.

    "auto" takes the fastest that is installed and that the model can run in.

    That is torch on a GPU; on the CPU OpenVINO where it is installed, else what the model is made
    of. Engine and precision depend on the model, on what is installed and on the instructions of
    the processor; nothing is timed. What was chosen, and why, is logged, and stands in the engine's
    `because`.

    Raises:
        UsageError: no such engine, or not for this model; it is not installed; the precision is not
            one of its.
        ResourceError: nothing that is installed runs this model; the processor cannot compute in
            that precision.
        ModelError: the network cannot be brought to the engine.
    """
    options = options or EngineOptions()
    because = "asked for"
    if name == "auto":
        name, because = _choose(source)
    elif not (kind := find_named("engine", "engine", name, ENGINES)).installed:
        raise UsageError(
            f"engine={name!r} needs {kind.package}, which is not installed",
            needed=kind.package,
            cure=f"pip install 'hilum[{kind.extra}]'" if kind.extra else "pip install torch",
        )
    try:
        engine = ENGINES[name].make(source, options)
    except ModelError as error:
        if because == "asked for" or source.openvino or name != "openvino":
            raise
        _log.warning("engine torch instead of openvino: %s", error.found)
        engine = _torch(source, options)
        because = f"openvino cannot take this network ({error.found})"
    where = "the processor" if source.is_on_cpu else "the GPU"
    if options.precision not in {None, "auto"}:
        precision = f"{engine.precision} was asked for"
    elif engine.precision == "int8":
        precision = "int8 as it is stored"
    elif engine.name == "onnx":
        precision = "float32, the only one of onnx"
    elif engine.precision == "float32":
        precision = f"float32, as {where} has no instructions for bfloat16"
    else:
        precision = f"{engine.precision}, for which {where} has instructions"
    engine.because = f"{because}; {precision}"
    _log.info("engine %s, %s, %s: %s", engine.name, engine.precision, engine.device, engine.because)
    return engine


def _choose(source: EngineSource) -> tuple[str, str]:
    """Choose an engine, with the reason."""
    if source.networks:
        if not source.is_on_cpu:
            return "torch", f"the model is on {source.device}"
        if ENGINES["openvino"].installed:
            return "openvino", "the fastest on a CPU"
        return "torch", "openvino, which is faster on a CPU, is not installed"
    held = source.exported_for
    for name in held:
        if ENGINES[name].installed:
            first = name == held[0]
            return name, (
                "the fastest on a CPU of those that it was exported for"
                if first
                else f"{held[0]} is not installed"
            )
    packages = [ENGINES[name].package for name in held]
    listed = (source.openvino or source.onnx)[0].parent / "requirements.txt"
    raise ResourceError(
        f"{' and '.join(packages)} {'is' if len(held) == 1 else 'are'} not installed, which the"
        " model was exported for",
        needed=" or ".join(packages),
        cure=f"pip install -r {shlex.quote(str(listed))}"
        if listed.is_file()
        else f"pip install 'hilum[{ENGINES[held[0]].extra}]'",
    )
