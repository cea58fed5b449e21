"""Files of weights, .safetensors or PyTorch's own, read as tensors and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hilum.errors import ModelError, UsageError
from hilum.files.names import nearest
from hilum.files.placeholder import refuse_placeholder

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "network")
"""Under which of its keys a training script's file keeps the weights; averaged ones first."""
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Read every tensor of a file by its name, to the CPU.

    PyTorch's files are pickles. They are read by `torch.load` with `weights_only=True`, which
    builds tensors and plain containers and refuses everything else before it runs (torch 2.10 or
    newer, which hilum requires; older ones had holes).

    Raises:
        UsageError: there is no such file, or it has none of the known suffixes.
        ModelError: it is damaged, holds no tensors, or more than tensors.
    """
    path = Path(path)
    refuse_placeholder(path, ModelError)
    if not path.is_file():
        raise UsageError(
            f"weights {path} do not exist", needed="a file that exists", cure=nearest(path)
        )
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"the weights {path} have a suffix that is not read",
            needed=f"a file that ends in {', '.join(SUFFIXES)}",
            cure=(
                "save them by safetensors.torch.save_file(model.state_dict(),"
                " 'weights.safetensors')"
            ),
        )
    found = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_torch(path)
    for _ in WRAPPERS:  # within each other, but not without end
        parts = (found.get(key) for key in WRAPPERS)
        found = next((part for part in parts if isinstance(part, Mapping)), found)
    tensors = {
        str(name): value.detach() for name, value in found.items() if isinstance(value, Tensor)
    }
    if not tensors:
        raise ModelError(
            f"{path.name} holds no tensors by name, but"
            f" {', '.join(map(str, list(found)[:5])) or 'nothing'}",
            needed=f"a state dict, or one under {', '.join(WRAPPERS)}",
            cure="torch.save(model.state_dict(), FILE)",
        )
    return tensors


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_safetensors(path: Path) -> Mapping[str, object]:
    """Read the tensors of a safetensors file."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{path.name} cannot be read as safetensors: {error}",
            needed="an undamaged file",
            cure="copy or fetch the file again",
        ) from error


def _read_torch(path: Path) -> Mapping[str, object]:
    """Load a torch file of tensors alone; refuse one that would run code."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile file makes the reader raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{path.name} is not a file of weights alone, and nothing of it was run: {reason}",
            needed="tensors and plain containers; whole models and other objects would be code",
            cure="torch.save(model.state_dict(), FILE) where it comes from, or a .safetensors file",
        ) from error
    if not isinstance(found, Mapping):
        raise ModelError(
            f"{path.name} holds a {type(found).__name__}",
            needed="tensors by name",
            cure="save model.state_dict()",
        )
    return found
