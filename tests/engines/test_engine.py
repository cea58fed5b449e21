"""Devices, precision, ensembles."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch

from hilum.engines import (
    TorchEngine,
    computes_in_bfloat16,
    describe_device,
    resolve_device,
    resolve_precision,
    torch_engine,
)
from hilum.errors import ResourceError, UsageError

CPU = torch.device("cpu")


def test_auto_is_a_device_that_is_there():
    assert resolve_device("auto") == resolve_device()
    assert resolve_device("cpu") == CPU
    assert resolve_device(CPU) == CPU


def test_unknown_and_absent_devices_are_refused(monkeypatch):
    with pytest.raises(UsageError, match="device='gpu' is no device"):
        resolve_device("gpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ResourceError, match=r"sees 1 CUDA devices"):
        resolve_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ResourceError, match="device='cpu'"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="no Apple GPU"):
        resolve_device("mps")


def test_devices_in_words():
    assert "threads" in describe_device(CPU)
    assert describe_device(torch.device("meta")) == "meta"


def test_gpu_in_words(monkeypatch):
    properties = SimpleNamespace(name="Toy GPU", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert describe_device(torch.device("cuda:0")) == "cuda:0: Toy GPU, 80 GiB"


def test_bfloat16_needs_instructions_for_it(monkeypatch, caplog):
    monkeypatch.setattr(torch_engine, "has_bfloat16", lambda: False)
    with caplog.at_level(logging.INFO, "hilum"):
        assert resolve_precision("bfloat16", CPU) == "float32"
    assert "no instructions for bfloat16" in caplog.text
    monkeypatch.setattr(torch_engine, "has_bfloat16", lambda: True)
    assert resolve_precision("bfloat16", CPU) == "bfloat16"
    assert resolve_precision("float32", CPU) == "float32"


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)]
)
def test_a_gpu_computes_in_bfloat16_by_its_capability(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert computes_in_bfloat16(torch.device("cuda:0")) is expected
    assert not computes_in_bfloat16(torch.device("mps"))


def test_engine_computes_in_the_precision_it_is_given():
    convolution = torch.nn.Conv3d(1, 2, 3, padding=1)
    image = torch.randn(2, 1, 4, 5, 6)
    with torch.inference_mode():
        exact, coarse = (
            TorchEngine([convolution], device=CPU, precision=p).forward(image)
            for p in ("float32", "bfloat16")
        )
        assert torch.equal(exact, convolution(image))
    assert coarse.dtype == torch.float32
    assert not torch.equal(exact, coarse)
    torch.testing.assert_close(exact, coarse, atol=0.05, rtol=0.05)


def test_equal_members_answer_as_one():
    convolution = torch.nn.Conv3d(1, 2, 3, padding=1)
    image = torch.randn(2, 1, 4, 5, 6)
    with torch.inference_mode():
        one, three = (
            TorchEngine([convolution] * n, device=CPU, precision="float32").forward(image)
            for n in (1, 3)
        )
    assert torch.equal(one, three)
