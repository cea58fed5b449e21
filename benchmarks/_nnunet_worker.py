"""Trains nnU-Net v2 for so many minutes.

Called by folds.py in a Python that has nnunetv2, with its three variables set.

    _nnunet_worker.py FOLD MINUTES WHERE_TO_PUT_THE_VALIDATION_PREDICTIONS

Its own schedule ends with the time: the length of a training iteration is measured first, then
epochs of ten iterations are counted so that they fill the minutes; planning, preprocessing and the
final validation are not counted, which favours it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

ITERATIONS = 10


def main() -> None:
    """Plan, preprocess, measure, train, validate."""
    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    fold, minutes, target = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(os.cpu_count() or 1)
    raw, preprocessed = (Path(os.environ[f"nnUNet_{name}"]) for name in ("raw", "preprocessed"))
    home = preprocessed / "Dataset004_Peer"
    if not (home / "splits_final.json").is_file():
        extract_fingerprints([4])
        plan_experiments([4])
        preprocess([4], configurations=("3d_fullres",), num_processes=(2,))
        shutil.copyfile(raw / "splits_final.json", home / "splits_final.json")
    plans = json.loads((home / "nnUNetPlans.json").read_text())
    description = json.loads((raw / "Dataset004_Peer" / "dataset.json").read_text())

    def trainer() -> nnUNetTrainer:
        made = nnUNetTrainer(
            plans | {"continue_training": False},
            "3d_fullres",
            fold,
            description,
            device=torch.device("cpu"),
        )
        made.num_iterations_per_epoch, made.num_val_iterations_per_epoch = ITERATIONS, 1
        made.save_every = 10**6
        return made

    probe = trainer()
    probe.num_epochs = 1
    probe.on_train_start()
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        probe.train_step(next(probe.dataloader_train))
        seconds.append(time.perf_counter() - start)
    probe.on_train_end()
    each = sorted(seconds[1:])[1]
    real = trainer()
    real.num_epochs = max(2, int(minutes * 60 / (each * (ITERATIONS + 0.5))))
    print(
        f"nnU-Net: {each:.2f} s an iteration, {real.num_epochs} epochs of {ITERATIONS} iterations"
    )
    start = time.perf_counter()
    real.run_training()
    print(f"nnU-Net: trained for {(time.perf_counter() - start) / 60:.1f} minutes")
    real.perform_actual_validation()
    shutil.copytree(
        Path(real.output_folder) / "validation", target, ignore=shutil.ignore_patterns("*.json")
    )


if __name__ == "__main__":
    main()
