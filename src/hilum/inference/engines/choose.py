"""Choice of the engine of a model, with its reason.

An engine's library is imported when it is chosen.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hilum.errors import ModelError, ResourceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hilum.inference.engines.engine import Engine
    from hilum.plan.segmentation import SegmentationPlan

_log = logging.getLogger("hilum")


@dataclass(frozen=True, eq=False)
class EngineSource:
    """A model as engines see it: what there is to run.

    Args:
        plan: of the model.
        networks: of torch, in memory, on `device`.
        device: of torch; None where there are no networks of torch.
        openvino: .xml files, one a member.
        onnx: .onnx files, one a member.
        stored: "int8" where the openvino files are quantised, else "float32".
    """

    plan: SegmentationPlan
    networks: tuple[Any, ...] = ()
    device: Any = None
    openvino: tuple[Path, ...] = ()
    onnx: tuple[Path, ...] = ()
    stored: str = "float32"


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
    if not source.networks:
        raise UsageError(
            "engine 'torch' for an exported model, which holds no weights of torch",
            needed=f"an engine that it was exported for: {', '.join(_exported(source))}",
            cure="--engine auto, or `hilum predict` with the model folder that was exported",
        )
    from hilum.inference.engines.torch_engine import TorchEngine, resolve_precision

    wanted: Any = options.precision
    if wanted in {None, "auto"}:
        wanted = resolve_precision("bfloat16", source.device)
    if wanted not in {"float32", "bfloat16"}:
        cure = (
            "hilum export MODEL -o FOLDER --precision int8 --data DATA"
            if wanted == "int8"
            else "--precision auto"
        )
        raise UsageError(
            f"precision {wanted!r}", needed="auto, float32 or bfloat16 of torch", cure=cure
        )
    batch = 1 if source.device.type == "cpu" else source.plan.batch.value
    return TorchEngine(
        source.networks,
        device=source.device,
        precision=wanted,
        batch=batch,
        threads=options.threads,
    )


def _openvino(source: EngineSource, options: EngineOptions) -> Engine:
    from hilum.inference.engines.openvino_engine import OpenVINOEngine, resolve_precision

    precision = resolve_precision(options.precision, stored=source.stored)
    models: tuple[Any, ...] = source.openvino
    if not models:
        if not source.networks:
            raise _not_exported(source, "openvino")
        if source.device.type != "cpu":
            raise UsageError(
                f"engine 'openvino' for a model on {source.device}",
                needed="a model on the CPU",
                cure="--device cpu",
            )
        from hilum.inference.deploy.convert import to_openvino

        models = tuple(to_openvino(network, source.plan) for network in source.networks)
    return OpenVINOEngine(
        models, precision=precision, threads=options.threads, memory=options.memory
    )


def _onnx(source: EngineSource, options: EngineOptions) -> Engine:
    from hilum.inference.engines.onnx_engine import OnnxEngine, resolve_precision

    resolve_precision(options.precision)
    if not source.onnx:
        raise _not_exported(source, "onnx")
    return OnnxEngine(source.onnx, threads=options.threads)


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
    """The engine of that name for a model.

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
    if name != "auto":
        _check(name)
        return _made(source, name, options, "asked for")
    chosen, because = _choose(source)
    if chosen == "openvino" and not source.openvino:
        try:
            return _made(source, chosen, options, because)
        except ModelError as error:
            _log.warning("engine torch instead of openvino: %s", error.found)
            return _made(
                source, "torch", options, f"openvino cannot take this network ({error.found})"
            )
    return _made(source, chosen, options, because)


def _made(source: EngineSource, name: str, options: EngineOptions, because: str) -> Engine:
    engine = ENGINES[name].make(source, options)
    engine.because = f"{because}; {_precision_because(source, options, engine)}"
    _log.info("engine %s, %s, %s: %s", engine.name, engine.precision, engine.device, engine.because)
    return engine


def _precision_because(source: EngineSource, options: EngineOptions, engine: Engine) -> str:
    if options.precision not in {None, "auto"}:
        return f"{engine.precision} was asked for"
    if engine.precision == "int8":
        return "int8 as it is stored"
    if engine.name == "onnx":
        return "float32, the only one of onnx"
    where = (
        "the GPU" if source.device is not None and source.device.type != "cpu" else "the processor"
    )
    if engine.precision == "float32":
        return f"float32, as {where} has no instructions for bfloat16"
    return f"{engine.precision}, for which {where} has instructions"


def _choose(source: EngineSource) -> tuple[str, str]:
    """Name and reason."""
    ready = {name: kind.installed for name, kind in ENGINES.items()}
    if source.networks:
        if source.device.type != "cpu":
            return "torch", f"the model is on {source.device}"
        if ready["openvino"]:
            return "openvino", "the fastest on a CPU"
        return "torch", "openvino, which is faster on a CPU, is not installed"
    held = _exported(source)
    for name in held:
        if ready[name]:
            return name, (
                "the fastest on a CPU of those that it was exported for"
                if name == held[0]
                else f"{held[0]} is not installed"
            )
    raise ResourceError(
        (
            f"an exported model for {' or '.join(held)}, neither of which is installed"
            if len(held) > 1
            else _missing(held[0])
        ),
        needed=" or ".join(ENGINES[name].package for name in held),
        cure=f"pip install 'hilum[{ENGINES[held[0]].extra}]'",
    )


def _exported(source: EngineSource) -> tuple[str, ...]:
    """The engines that there are files for, the fastest first."""
    return tuple(
        name for name, files in (("openvino", source.openvino), ("onnx", source.onnx)) if files
    )


def _check(name: str) -> None:
    if name not in ENGINES:
        near = get_close_matches(name, ENGINES, n=1)
        raise UsageError(
            f"engine {name!r}",
            needed=f"auto, {', '.join(ENGINES)}",
            cure=f"--engine {near[0] if near else 'auto'}",
        )
    kind = ENGINES[name]
    if not kind.installed:
        raise UsageError(
            f"engine {name!r}: {_missing(name)}",
            needed=kind.package,
            cure=f"pip install 'hilum[{kind.extra}]'" if kind.extra else "pip install torch",
        )


def _missing(name: str) -> str:
    return f"{ENGINES[name].package} is not installed"


def _not_exported(source: EngineSource, name: str) -> UsageError:
    held = _exported(source)
    return UsageError(
        f"engine {name!r} for a model that was not exported for it",
        needed=(
            f"a folder with files for it; this model has {', '.join(held) or 'weights of torch'}"
        ),
        cure=f"hilum export MODEL -o FOLDER --format {name}, then hilum predict FOLDER ...",
    )
