"""The state of a training in one file, which is complete or not there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hilum.errors import ModelError
from hilum.files import atomic_path
from hilum.plan.plan import Record
from hilum.training.schedule import Plateau

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer

_META = "hilum"


class Row(Record):
    """One line of the training log."""

    step: int
    seconds: float
    progress: float
    learning_rate: float
    loss: float
    gradient_norm: float
    score: float | None = None
    """Score of validation cases (mean Dice, AUROC), where it was measured."""


class Progress(Record):
    """Progress of a training, as its checkpoint holds it.

    Args:
        step: steps done.
        seconds: of training up to here, over all sessions.
        plan: hash of the plan, without what only describes it.
        seed: of sampling, augmentation and initial weights.
        cases: ids that are trained on.
        plateau: whether validation still rises.
        validated: progress at the last validation.
        finished: whether the schedule has come to its end.
        left_out: of `cases`, those that the time did not allow to look at (a probe's).
        notes: what people must know of that.
        rows: the log.
        pending: losses since its last row.
    """

    step: int = 0
    seconds: float = 0.0
    plan: str = ""
    seed: int = 0
    cases: tuple[str, ...] = ()
    plateau: Plateau = Plateau()
    validated: float = 0.0
    finished: bool = False
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    pending: tuple[float, ...] = ()

    def check(self, other: Progress, path: Path) -> None:
        """Refuse to go on with another plan, seed or set of cases.

        Raises:
            ModelError: they differ.
        """
        for name in ("plan", "seed", "cases"):
            if getattr(self, name) != getattr(other, name):
                raise ModelError(
                    f"{path} was made with another {name}",
                    needed="the same plan, seed and cases as before",
                    cure="resume with the same options, or choose another folder: out='ANOTHER'",
                )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what is stored beside the tensors."""
        return cls.model_validate_json(text)


def save_checkpoint(
    path: Path, network: nn.Module, average: nn.Module, optimiser: Optimizer, progress: Progress
) -> None:
    """Write weights, their average, the optimiser's state and the progress.

    The file replaces the one before in one step.

    Raises:
        ResourceError: the disk is full; the file before stays.
    """
    tensors: dict[str, Tensor] = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {
            f"optimiser.{index}.{k}": v for k, v in state.items() if isinstance(v, torch.Tensor)
        }
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata={_META: json.dumps(progress.model_dump(mode="json"))})


def load_checkpoint(
    path: Path, network: nn.Module, average: nn.Module, optimiser: Optimizer
) -> Progress:
    """Read a checkpoint into network, average and optimiser.

    Returns:
        The progress at that moment.

    Raises:
        ModelError: the file is damaged or belongs to another network.
    """
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            progress = Progress.parse(file.metadata()[_META])
            # not a dictionary
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network.load_state_dict(_under(tensors, "network."))
        average.load_state_dict(_under(tensors, "average."))
        state = _by_parameter(
            tensors, [p for group in optimiser.param_groups for p in group["params"]]
        )
        optimiser.load_state_dict(
            {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
        )
    except (SafetensorError, RuntimeError, KeyError, IndexError, ValueError, TypeError) as error:
        raise _not_ours(path, error) from error
    return progress


def read_progress(path: Path) -> Progress:
    """Read how far a training is, without its weights.

    Raises:
        ModelError: the file is damaged.
    """
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            return Progress.parse(file.metadata()[_META])
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _not_ours(path, error) from error


def _not_ours(path: Path, error: Exception) -> ModelError:
    """Return the error of a checkpoint that another training wrote."""
    return ModelError(
        f"{path}: not a checkpoint of this training ({error})",
        needed="the checkpoint that this plan's training wrote",
        cure="remove the file to begin again, or choose another folder: out='ANOTHER'",
    )


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names have a prefix, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _by_parameter(
    tensors: dict[str, Tensor], parameters: list[Tensor]
) -> dict[int, dict[str, Tensor]]:
    """{"3.exp_avg": tensor} -> {3: {"exp_avg": tensor}}, each in its parameter's memory order.

    Fused optimisers walk through parameter and state in memory order: in another order they would
    mix up voxels of a kernel.
    """
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under(tensors, "optimiser.").items():
        index, key = name.split(".", maxsplit=1)
        like = parameters[int(index)]
        ordered = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
        states.setdefault(int(index), {})[key] = ordered
    return states
