"""Makes an nnU-Net v2 model folder for one image.

NnU-Net's own plan and network, trained briefly or left random.

Called by inference.py in a Python that has nnunetv2:

    _inference_model.py --image IMAGE --labels LABELS --dataset-json JSON --model FOLDER [--steps
    300] [--spacing Z Y X]

Fingerprint, plan (`3d_fullres`), preprocessing and network are nnU-Net's; the training loop is
plain (cross-entropy and soft Dice, deep supervision, AdamW, one cycle, bfloat16, smaller patches,
no augmentation), because only *some* trained weights are needed: random ones give logits full of
near ties, and their labels say nothing about a faster engine. The checkpoint has the entries that
nnU-Net's trainer writes and its predictor reads.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

PLANS = "nnUNetPlans"
FEWEST_STEPS = 20


def main() -> None:
    """Parse, plan, train, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--dataset-json", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=0, help="0: random weights")
    parser.add_argument(
        "--further", action="store_true", help="begin with the weights that the folder holds"
    )
    parser.add_argument(
        "--patch", type=int, nargs=3, default=[24, 128, 128], help="to train with, ZYX"
    )
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument(
        "--spacing",
        type=float,
        nargs=3,
        help="target spacing in mm, ZYX, instead of the image's own",
    )
    asked = parser.parse_args()
    if 0 < asked.steps < FEWEST_STEPS:
        parser.error(
            f"--steps {asked.steps}: at least {FEWEST_STEPS}, for the cycle of learning rates, or 0"
        )
    with tempfile.TemporaryDirectory() as home:
        for name in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{name}"] = f"{home}/{name}"
        plans, fingerprint = plan(asked, Path(home))
    description = json.loads(asked.dataset_json.read_text())
    network, seconds = trained(asked, plans, description)
    write(asked.model, plans, description, fingerprint, network)
    told = asked.model / "trained.json"
    before = json.loads(told.read_text())["steps"] if asked.further else []
    told.write_text(json.dumps({"steps": [*before, asked.steps]}))
    print(f"Written: {asked.model} ({seconds:.0f} s of training)")


def plan(asked: argparse.Namespace, home: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """nnU-Net's fingerprint and plan of a data set of this one image."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
    )

    folder = home / "raw" / "Dataset001_One"
    for part, file, name in (
        ("imagesTr", asked.image, "case_0000.nii.gz"),
        ("labelsTr", asked.labels, "case.nii.gz"),
    ):
        (folder / part).mkdir(parents=True)
        (folder / part / name).symlink_to(file.resolve())
    shutil.copyfile(asked.dataset_json, folder / "dataset.json")
    extract_fingerprints([1], num_processes=1)
    plan_experiments([1], overwrite_target_spacing=tuple(asked.spacing) if asked.spacing else None)
    made = home / "preprocessed" / "Dataset001_One"
    return tuple(
        json.loads((made / name).read_text())
        for name in (f"{PLANS}.json", "dataset_fingerprint.json")
    )  # type: ignore[return-value]  # two files, two records


def trained(
    asked: argparse.Namespace, plans: dict[str, Any], description: dict[str, Any]
) -> tuple[Any, float]:
    """nnU-Net's network of the plan, after so many steps, and the seconds they took."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    torch.manual_seed(0)
    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    outputs = manager.get_label_manager(description).num_segmentation_heads
    network = nnUNetTrainer.build_network_architecture(
        manager,
        configuration,
        len(description["channel_names"]),
        outputs,
        enable_deep_supervision=True,
    )
    if asked.further:
        held = torch.load(
            asked.model / "fold_0" / "checkpoint_final.pth", weights_only=False
        )  # written by this script
        network.load_state_dict(held["network_weights"])
    if not asked.steps:
        return network, 0.0
    preprocessor = configuration.preprocessor_class(verbose=False)
    image, labels, _ = preprocessor.run_case(
        [str(asked.image)], str(asked.labels), manager, configuration, description
    )
    start = time.perf_counter()
    train(
        network,
        torch.as_tensor(image).float(),
        torch.as_tensor(labels)[0].long().clamp_min(0),
        asked,
    )
    return network, time.perf_counter() - start


def train(network: Any, image: Any, labels: Any, asked: argparse.Namespace) -> None:
    """Plain training: `image` (C, Z, Y, X), `labels` (Z, Y, X)."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(os.cpu_count() or 1)
    # the faster road on CPUs
    torch.nn.InstanceNorm3d.forward = _instance_norm  # type: ignore[method-assign]
    network.to(memory_format=torch.channels_last_3d).train()
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=asked.rate, weight_decay=1e-4, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=asked.rate, total_steps=asked.steps, pct_start=0.1
    )
    dice = cross = 0.0
    voxels = [torch.nonzero(labels == k) for k in labels.unique()]
    for step in range(asked.steps):
        x, y = _patch(image, labels, voxels[step % len(voxels)], asked.patch)
        with torch.autocast("cpu", torch.bfloat16):
            levels = network(x.contiguous(memory_format=torch.channels_last_3d))
        loss = torch.zeros(())
        for n, raw in enumerate(levels):
            logits = raw.float()
            target = functional.interpolate(y[:, None].float(), logits.shape[2:], mode="nearest")[
                :, 0
            ].long()
            entropy, overlap = functional.cross_entropy(logits, target), _soft_dice(logits, target)
            loss = loss + 0.5**n * (entropy - overlap)
            if n == 0:
                cross, dice = 0.9 * cross + 0.1 * entropy.item(), 0.9 * dice + 0.1 * overlap.item()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimiser.step()
        schedule.step()
        if step % 10 == 9:
            print(
                f"step {step + 1} of {asked.steps}: cross-entropy {cross:.3f}, soft Dice"
                f" {dice:.3f}",
                flush=True,
            )


def _patch(image: Any, labels: Any, around: Any, size: list[int]) -> tuple[Any, Any]:
    """A patch that holds a voxel drawn from `around`, not always in its middle."""
    import torch

    centre = around[torch.randint(len(around), ())]
    starts = []
    for position, length, n in zip(centre.tolist(), size, labels.shape, strict=True):
        shift = int(torch.randint(length // 4, 3 * length // 4, ()))
        starts.append(max(0, min(position - shift, n - length)))
    where = tuple(slice(s, s + length) for s, length in zip(starts, size, strict=True))
    return image[(slice(None), *where)][None], labels[where][None]


def _soft_dice(logits: Any, target: Any) -> Any:
    """Mean soft Dice of the labels beside the background."""
    import torch

    p = logits.softmax(1)[:, 1:]
    truth = torch.nn.functional.one_hot(target, logits.shape[1]).movedim(-1, 1)[:, 1:].to(p.dtype)
    both, sizes = (p * truth).sum((0, 2, 3, 4)), (p + truth).sum((0, 2, 3, 4))
    return ((2 * both + 1) / (sizes + 1)).mean()


def _instance_norm(self: Any, x: Any) -> Any:
    """The maths of torch's module for a batch of one.

    By the kernel that reads channels-last order in place.
    """
    import torch

    return torch.batch_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps, False)


def write(
    folder: Path,
    plans: dict[str, Any],
    description: dict[str, Any],
    fingerprint: dict[str, Any],
    network: Any,
) -> None:
    """The folder as nnU-Net's trainer leaves it; the checkpoint last."""
    import torch

    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("plans", plans),
        ("dataset", description),
        ("dataset_fingerprint", fingerprint),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=4))
    arguments = {
        "plans": plans,
        "configuration": "3d_fullres",
        "fold": 0,
        "dataset_json": description,
        "device": torch.device("cpu"),
    }
    checkpoint = {
        "network_weights": {
            name: tensor.contiguous() for name, tensor in network.state_dict().items()
        },
        "optimizer_state": {},
        "grad_scaler_state": None,
        "logging": {},
        "_best_ema": None,
        "current_epoch": 1,
        "init_args": arguments,
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")


if __name__ == "__main__":
    main()
