"""The verbs that make models: train, tune, import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.api.running import load_model
from hilum.api.scoring import plot_evaluation
from hilum.dataset.open import Labelling
from hilum.files import OutputFolder
from hilum.plan.planner.overrides import NetworkOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.inference import TrainedModel
    from hilum.plan import Plan
    from hilum.training import Listener
    from hilum.training.tuning import Tuning


def train(  # noqa: PLR0913  (the verb's options, keyword-only)
    data: Path | str,
    out: Path | str,
    *,
    labelling: Labelling | None = None,
    network: NetworkOptions | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    fold: int = 0,
    folds: int | None = None,
    seed: int = 0,
    device: str = "auto",
    memory_gb: float | None = None,
    plan: Path | str | Plan | None = None,
    patients: str | None = None,
    resume: bool = False,
    listener: Listener | None = None,
) -> TrainedModel:
    """Plan, preprocess, train, validate, and write a trained-model folder.

    Args:
        data: what `hilum.open_dataset` opens.
        out: the model folder; `training/` in it holds the plan, checkpoints, logs and validation.
        labelling: what is learnt, where that is not clear from the data.
        network: what is asked of a classifier's network.
        minutes: wall-clock time of one fold, all but the look for leaks included; None leaves the
            length to the plan's steps.
        steps: optimiser steps instead of minutes; the run is then a function of plan, data and seed
            alone.
        fold: which split is trained (0 ...).
        folds: cross-validation over so many folds; the model is the ensemble of all.
        seed: of folds, initial weights, sampling and augmentation.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        memory_gb: what may be used; by default what the machine has.
        plan: a plan, or the file of one, instead of making one.
        patients: a regular expression for the patient in a case's id, where no table names
            patients.
        resume: go on where `out` stopped.
        listener: is told what happens.

    Raises:
        HilumError: see `hilum.training.run`.
    """
    from hilum.pipelines.training import train as train_task
    from hilum.training import TrainOptions

    options = TrainOptions(
        minutes=minutes,
        steps=steps,
        fold=fold,
        folds=folds,
        seed=seed,
        device=device,
        memory_gb=memory_gb,
        plan=Path(plan) if isinstance(plan, str) else plan,
        patients=patients,
        labelling=labelling or Labelling(),
        overrides=(network or NetworkOptions()).overrides(),
        resume=resume,
    )
    model = train_task(data, out, options, listener=listener)
    # here, as training and report do not know each other
    plot_evaluation(Path(out) / "training" / "out_of_fold")
    return model


@dataclass(frozen=True)
class TuneResult:
    """A tuned model, and why it is what it is."""

    model: TrainedModel
    tuning: Tuning


def tune(
    model: Path | str | TrainedModel,
    data: Path | str,
    out: Path | str,
    *,
    cases: int | None = None,
    minutes: float | None = None,
    patients: str | None = None,
    device: str = "auto",
    listener: Listener | None = None,
) -> TuneResult:
    """Learn post-processing on cases that the model was not trained on, and write the model anew.

    Args:
        model: a trained segmentation model, or its folder, which stays as it is.
        data: annotated cases; of the data set that it was trained on those of its validation folds
            are used.
        out: a new folder for the tuned model and tuning.json.
        cases: how many to use at most, spread evenly; None: all that may be used.
        minutes: wall-clock time that may be taken; None: as long as it takes.
        patients: a regular expression for the patient in a case's id, where no table names
            patients.
        device: "auto", "cpu", "cuda", "cuda:1", "mps"; a model that is loaded already stays where
            it is.
        listener: is told what happens.

    Raises:
        HilumError: see `hilum.training.tuning.tune`.
    """
    from hilum.training.tuning import TuneOptions
    from hilum.training.tuning import tune as run_tuning

    loaded = load_model(model, device=device) if isinstance(model, str | Path) else model
    return TuneResult(
        *run_tuning(loaded, data, out, TuneOptions(cases, minutes, patients), listener=listener)
    )


def import_nnunet(
    folder: Path | str, out: Path | str, *, folds: Sequence[str] = (), checkpoint: str = "final"
) -> TrainedModel:
    """Turn an nnU-Net v2 model folder into a trained model that predicts what nnU-Net predicts.

    None of its code is run.

    Args:
        folder: with plans.json, dataset.json and fold_*/checkpoint_final.pth.
        out: folder for the model.
        folds: "0", "1", ... or "all"; several are an ensemble; () takes every numbered fold.
        checkpoint: "final" or "best".

    Raises:
        HilumError: see `hilum.inference.read_nnunet`.
    """
    from hilum.exchange import read_nnunet
    from hilum.inference.trained_model import MODEL_FILES

    with OutputFolder(out, "import") as made:
        made.refuse_among([Path(folder)])
        made.refuse_foreign((*MODEL_FILES, *made.path.glob("weights*.safetensors")))
        return read_nnunet(folder, folds=tuple(folds), checkpoint=checkpoint).save(out)
