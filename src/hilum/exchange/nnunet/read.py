"""An nnU-Net v2 model folder as a trained model of ours.

NnU-Net is not needed and nothing of the folder is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from hilum.errors import HilumError, ModelError, UsageError
from hilum.exchange.nnunet.checkpoint import read_checkpoint
from hilum.exchange.nnunet.folds import fold_cases
from hilum.exchange.nnunet.names import to_hilum
from hilum.exchange.nnunet.plans import (
    Described,
    make_nnunet_plan,
    read_plans,
    resolve_configuration,
)
from hilum.inference.manifest import Facts, ModelMetrics
from hilum.inference.trained_model import TrainedModel
from hilum.networks import blank_network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

_DAMAGE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Errors of reading files whose content is of another kind than it should be."""


def read_nnunet(
    folder: Path | str, *, folds: Sequence[str] = (), checkpoint: str = "final"
) -> TrainedModel:
    """Read an nnU-Net v2 model folder; what it predicts is what nnU-Net predicts with it.

    Args:
        folder: `<trainer>__<plans>__<configuration>`, with plans.json, dataset.json and
            fold_*/checkpoint_*.pth.
        folds: "0", "1", ... or "all"; several are an ensemble. By default every numbered fold, else
            fold_all.
        checkpoint: the last of the training, or the one that validated best.

    Returns:
        The model on the CPU, not saved yet.

    Raises:
        ModelError: a file is missing, damaged or hostile, or says something that hilum cannot do
            alike; it is named.
        UsageError: no such fold or checkpoint.
    """
    folder = Path(folder)
    try:
        return _read(folder, folds, checkpoint)
    except (ModelError, UsageError):
        raise
    except HilumError as error:
        raise ModelError(error.found, needed=error.needed, cure=error.cure) from error
    except _DAMAGE as error:
        raise ModelError(
            f"{folder}: plans.json, dataset.json or a checkpoint says something else than nnU-Net's"
            f" say ({type(error).__name__}: {str(error)[:200]})",
            needed="a model folder as nnU-Net v2 writes it",
            cure="copy the folder again from where it was made",
        ) from error


def _read(folder: Path, folds: Sequence[str], checkpoint: str) -> TrainedModel:
    """Read plans and the chosen folds, and make one model of them."""
    plans, dataset = read_plans(folder)
    chosen = _choose_folds(folder, folds, checkpoint)
    first = folder / f"fold_{chosen[0]}" / f"checkpoint_{checkpoint}.pth"
    notes, weights = read_checkpoint(first, "network_weights")
    trainer, name = notes.get("trainer_name"), _configuration_of(notes, folder, first)
    if not isinstance(trainer, str):
        raise ModelError(
            f"{first} names no trainer (trainer_name)",
            needed="a checkpoint that nnU-Net v2 wrote",
            cure="import a checkpoint_final.pth or checkpoint_best.pth of nnU-Net v2",
        )
    epoch = notes.get("current_epoch")
    epochs = int(epoch) if isinstance(epoch, int | float) and 0 <= epoch < 2**31 else None
    configuration = resolve_configuration(plans, name, str(folder / "plans.json"))
    plan = make_nnunet_plan(
        Described(folder, name, configuration, plans, dataset),
        trainer=trainer,
        mirror_axes=_mirror_axes(notes, first),
        epochs=epochs,
    )
    networks: list[nn.Module] = []
    for fold in chosen:
        path = folder / f"fold_{fold}" / f"checkpoint_{checkpoint}.pth"
        if path != first:
            notes, weights = read_checkpoint(path, "network_weights")
            if (other := _configuration_of(notes, folder, path)) != name:
                raise ModelError(
                    f"{path} is of configuration {other[:80]}, the first fold of {name}",
                    needed="folds of one configuration",
                    cure="choose with folds=(...) the folds of one, or copy the right fold here",
                )
        network = blank_network(plan.network.value)
        ours = to_hilum(weights, plan.network.value, source=str(path))
        network.load_state_dict(ours, strict=True, assign=True)
        networks.append(network.eval())
    cases = dataset.get("numTraining")
    return TrainedModel(
        plan=plan,
        networks=tuple(networks),
        device=torch.device("cpu"),
        metrics=ModelMetrics(
            measured_on="not measured by hilum",
            notes=("nnU-Net's own validation is not part of its checkpoints.",),
        ),
        facts=Facts(
            dataset=plan.name,
            cases=cases if isinstance(cases, int) else 0,
            steps=plan.steps.value,
            seconds=0.0,
            details={
                "imported_from": "nnU-Net v2",
                "model": folder.resolve().name,
                "trainer": trainer,
                "configuration": name,
                "folds": ", ".join(chosen),
                "checkpoint": checkpoint,
                "epochs": epochs,
                **fold_cases(folder, chosen, dataset),
            },
            notes=(
                "Trained by nnU-Net, imported by hilum without running any of its code.",
                f"Epochs: {'unknown' if epochs is None else epochs}; steps and time are not known.",
                "For training data, patients and performance ask whoever trained it.",
            ),
        ),
    )


def _choose_folds(folder: Path, folds: Sequence[str], checkpoint: str) -> list[str]:
    """Return the given folds, checked to be there; none given: every numbered fold, else "all"."""
    if checkpoint not in ("final", "best"):
        raise UsageError(
            f"checkpoint={checkpoint!r} cannot be imported",
            needed="'final' or 'best'",
            cure="checkpoint='final'",
        )
    name = f"checkpoint_{checkpoint}.pth"
    there = sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{name}"))
    if not there:
        other = "best" if checkpoint == "final" else "final"
        raise ModelError(
            f"{folder} holds no fold_*/{name}",
            needed=f"a folder fold_N with a {name}",
            cure=(
                f"checkpoint='{other}', where there is a checkpoint_{other}.pth; else check that"
                " the fold_* folders were copied"
            ),
        )
    missing = [fold for fold in folds if fold not in there]
    if missing:
        raise UsageError(
            f"{folder} has no {name} of fold {', '.join(missing)}",
            needed=f"folds among {', '.join(there)}",
            cure="leave folds out to take all of these, or copy the missing fold into the folder",
        )
    chosen = list(dict.fromkeys(folds)) or [fold for fold in there if fold != "all"] or there
    if len(chosen) > 1 and "all" in chosen:
        raise UsageError(
            f"folds {', '.join(chosen)} cannot be joined",
            needed="'all' alone, which was trained on every case, or numbered folds",
            cure="leave 'all' out of folds, or name it alone",
        )
    return chosen


def _configuration_of(notes: Mapping[str | int, object], folder: Path, path: Path) -> str:
    """Return the configuration's name, by the checkpoint, or by the folder's name."""
    arguments = notes.get("init_args")
    name = arguments.get("configuration") if isinstance(arguments, dict) else None
    if isinstance(name, str):
        return name
    parts = folder.resolve().name.split("__")
    if len(parts) == 3:
        return parts[2]
    raise ModelError(
        f"{path}: names no configuration, nor does the folder's name",
        needed="a folder named TRAINER__PLANS__CONFIGURATION",
        cure="rename the folder, e.g. nnUNetTrainer__nnUNetPlans__3d_fullres",
    )


def _mirror_axes(notes: Mapping[str | int, object], path: Path) -> tuple[int, ...]:
    """Return the axes along which nnU-Net mirrors at inference, by the checkpoint."""
    axes = notes.get("inference_allowed_mirroring_axes") or ()
    if not isinstance(axes, tuple | list) or not all(
        type(axis) is int and axis in (0, 1, 2) for axis in axes
    ):
        raise ModelError(
            f"{path}: inference_allowed_mirroring_axes that are no axes",
            needed="axes among 0, 1 and 2",
            cure="copy the checkpoint again from where it was trained",
        )
    return tuple(dict.fromkeys(axes))
