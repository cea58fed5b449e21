"""The same model, image and machine give the same bytes at every call (ADR 9)."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from test_nnunet_import import spec_of, write_model
from test_openvino_engine import shaken

from classification_toys import class_model, class_plan, write_cubes
from hilum import api
from hilum.engines.convert import to_openvino
from hilum.engines.openvino_engine import OpenVINOEngine
from hilum.inference import RunReport
from hilum.io import write_volume
from hilum.networks import build_network
from hilum.volume import Geometry, Volume
from inference_toys import real_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TOLD_THE_TIME = {"run.json", ".hilum.json", "export.json", "MODEL_CARD.md"}


@contextmanager
def busy() -> Iterator[None]:
    """Let two processes compute meanwhile."""
    code = "while True: sum(range(100_000))"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.iterdir() if path.name not in _TOLD_THE_TIME)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def assert_same_answers(model: Path, images: Path, out: Path) -> None:
    api.predict(model, images, out / "quiet")
    with busy():
        api.predict(model, images, out / "busy")
    assert hashes(out / "busy") == hashes(out / "quiet")
    assert len(hashes(out / "quiet")) > 2
    device = RunReport.load(out / "quiet" / "run.json").device
    assert "threads" in device  # another number of them gives other rounding
    assert RunReport.load(out / "busy" / "run.json").device == device


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for seed in range(2):
        array = np.random.default_rng(seed).normal(size=(1, 9, 24, 26)).astype(np.float32)
        write_volume(
            Volume(array, Geometry.from_spacing((9, 24, 26), (3.5, 1, 1))),
            tmp_path / "in" / f"{seed}.nii.gz",
        )
    return tmp_path / "in"


def test_an_imported_model_gives_the_same_bytes(tmp_path: Path, images: Path) -> None:
    folder = write_model(tmp_path / "theirs", spec_of("plain"), folds=("0",))
    api.import_nnunet(folder, tmp_path / "ours")
    assert_same_answers(tmp_path / "ours", images, tmp_path / "out")


def test_exports_are_the_same_bytes_and_give_the_same_bytes(tmp_path: Path, images: Path) -> None:
    shaken(real_model()).save(tmp_path / "model")
    one = api.export(tmp_path / "model", tmp_path / "one")
    with busy():
        two = api.export(tmp_path / "model", tmp_path / "two")
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    told = [
        json.loads((export.folder / "export.json").read_text(encoding="utf-8"))
        for export in (one, two)
    ]
    for each in told:  # the hashes hold those of the card, where the time stands
        each["files"].pop("MODEL_CARD.md")
        each["created"] = each["id"] = ""
    assert told[0] == told[1]
    assert_same_answers(tmp_path / "one", images, tmp_path / "out")


def test_a_classifier_gives_the_same_bytes(tmp_path: Path) -> None:
    data = write_cubes(tmp_path / "data", cases=6)
    plan = class_plan()
    network = build_network(plan.network.value, generator=torch.Generator().manual_seed(0))
    class_model(plan, network.eval()).save(tmp_path / "model")
    assert_same_answers(tmp_path / "model", data, tmp_path / "out")


def test_the_device_in_words_names_the_threads_it_computes_in() -> None:
    model = shaken(real_model())
    for threads in (1, 2):
        engine = OpenVINOEngine(
            [to_openvino(model.networks[0], model.plan)], precision="float32", threads=threads
        )
        assert engine.device.endswith(f", {threads} threads")
