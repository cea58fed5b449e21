"""A trained model, in memory and as a folder: complete, checked by hashes, free of pickle.

::

    model.json            format version, id, members, SHA-256 of every other file (manifest.py)
    plan.json             every decision
    labels.json           what the predictions mean: labels or classes
    weights.safetensors   of one network; of an ensemble weights_0.safetensors, ...
    metrics.json          how good it is, and on what that was measured
    assurance.*           of a classifier: calibration, prediction sets, when to refuse
    confidence.json       of a segmentation: calibrated voxels, intervals of volumes, expected Dice
    MODEL_CARD.md         the same for people
    data_card.json        the training's data set in numbers
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Generic

from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from typing_extensions import TypeVar

from hilum.engines.choose import EngineOptions, EngineSource, make_engine
from hilum.engines.torch_engine import resolve_device
from hilum.errors import UsageError, damaged_model
from hilum.files import OutputFolder, atomic_path
from hilum.inference.assurance import ARRAYS, NUMBERS, Assurance
from hilum.inference.manifest import (
    CARD,
    LABELS,
    MANIFEST,
    METRICS,
    PLAN,
    UNSAVED,
    Facts,
    Manifest,
    ModelMetrics,
    hash_files,
    hilum_version,
    read_model_folder,
)
from hilum.inference.model_card import model_texts
from hilum.inference.voxel_calibration import CONFIDENCE, VoxelCalibration
from hilum.networks import build_network
from hilum.plan import Plan
from hilum.plan.data_card import DATA_CARD, DataCard

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hilum.engines.engine import Engine
    from hilum.inference.class_prediction import ClassPrediction
    from hilum.inference.inputs import Source
    from hilum.inference.prediction import Prediction

MODEL_FILES = (*(PLAN, LABELS, METRICS, CARD, NUMBERS, ARRAYS, CONFIDENCE, DATA_CARD, MANIFEST),)
"""Files that a model folder may hold beside the weights."""
R = TypeVar("R", bound=BaseModel)
PlanT_co = TypeVar("PlanT_co", bound=Plan, default=Plan, covariant=True)


@dataclass(frozen=True, eq=False)
class TrainedModel(Generic[PlanT_co]):
    """Networks and the plan they were made by: all that a prediction needs.

    Args:
        plan: every decision.
        networks: one, or the members of an ensemble, on `device`.
        device: where they are.
        metrics: how good it is; None where that was not measured.
        facts: what it was trained on and how.
        assurance: what lets a classifier say how sure it is; None where that was not learnt.
        confidence: the same of a segmentation.
        data_card: the data set that it was trained on, in numbers; None where that is not known.
        id: of the folder it came from or was saved to: the first 16 digits of a SHA-256 over all
            its files.
    """

    plan: PlanT_co
    networks: tuple[nn.Module, ...]
    device: torch.device
    metrics: ModelMetrics | None = None
    facts: Facts | None = None
    assurance: Assurance | None = None
    confidence: VoxelCalibration | None = None
    data_card: DataCard | None = None
    id: str = UNSAVED

    def __post_init__(self) -> None:
        """Refuse a model without a network."""
        if not self.networks:
            raise UsageError("the model has no network", needed="at least one")

    def predict(
        self,
        source: Source,
        *,
        case: str | None = None,
        tta: bool = False,
        probabilities: bool = False,
    ) -> Prediction | ClassPrediction:
        """Predict one case; for many of them make one predictor (`make_predictor`) and keep it.

        Args:
            source: a volume, a case, a file, a DICOM folder, or one file a channel.
            case: its id; by default the case's, or the file's name.
            tta: average over the mirrored images that the plan allows.
            probabilities: also give the probabilities on the case's grid.

        Returns:
            Labels on the source's own grid, or the probabilities of the classes.

        Raises:
            HilumError: see `Predictor.predict` and `ClassPredictor.predict`.
        """
        from hilum.inference.predictors import make_predictor

        predictor = make_predictor(self, tta=tta)
        return predictor.predict(source, case=case, probabilities=probabilities)

    def make_engine(
        self,
        name: str = "auto",
        precision: str | None = None,
        threads: int | None = None,
        memory: int | None = None,
    ) -> Engine:
        """Make the engine of its networks; see `RunnableModel.make_engine`.

        Engines other than torch's run on the CPU.
        """
        source = EngineSource(
            # a segmentation's
            self.plan,  # type: ignore[arg-type]
            networks=self.networks,
            device=self.device,
        )
        return make_engine(source, name, EngineOptions(precision, threads, memory))

    def save(self, folder: Path | str) -> TrainedModel:
        """Write the folder.

        Other files in it stay. model.json is written last: until then the folder is refused.

        Returns:
            The same model with the folder's id.

        Raises:
            UsageError: files of these names are in the way that `save` did not write, or that were
                changed since.
            ResourceError: the folder cannot be written, or another process writes to it.
        """
        with OutputFolder(folder, "save") as out:
            return self._save(out)

    def _save(self, out: OutputFolder) -> TrainedModel:
        """Write the weights and texts, and the manifest last, which makes the folder a model."""
        numbers = [f"_{n}" for n in range(len(self.networks))] if len(self.networks) > 1 else [""]
        folder, members = out.path, tuple(f"weights{number}.safetensors" for number in numbers)
        out.refuse_foreign((*members, *MODEL_FILES))
        out.remove(MANIFEST)
        for name, network in zip(members, self.networks, strict=True):
            _save_weights(network, folder / name)
            out.record(name)
        metrics = self.metrics or ModelMetrics(measured_on="not measured")
        created = datetime.now(UTC).isoformat(timespec="seconds")
        texts = model_texts(
            self.plan,
            metrics,
            self.facts,
            networks=len(members),
            created=created,
            assurance=self.assurance,
            confidence=self.confidence,
        )
        if self.data_card is not None:
            texts |= {DATA_CARD: self.data_card.as_json()}
        else:
            out.remove(DATA_CARD)  # of another model that was here before
        out.write(texts)
        learnt = [one for one in (self.assurance, self.confidence) if one is not None]
        more = tuple(name for one in learnt for name in one.save(folder))
        out.record(*more)
        manifest = Manifest.sealed(
            hilum=hilum_version(),
            name=self.plan.name,
            task=self.plan.task.value,
            created=created,
            members=members,
            files=hash_files(folder, (*members, *texts, *more)),
            facts=self.facts,
        )
        manifest.save(folder)
        out.record(MANIFEST)
        for leftover in folder.glob(
            "weights*.safetensors"
        ):  # members of a larger ensemble that was here before
            if leftover.name not in members:
                out.remove(leftover)
        return replace(self, id=manifest.id)

    @staticmethod
    def load(folder: Path | str, *, device: str | torch.device = "auto") -> TrainedModel:
        """Read a folder that `save` wrote.

        No file is unpickled, no code in it is run, and nothing is fetched.

        Raises:
            ModelError: a file is missing, altered, or of a newer version; the networks do not fit
                the plan.
            UsageError: no such device is known.
            ResourceError: this machine has no such device.
        """
        folder = Path(folder)
        where = resolve_device(device)
        manifest, plan, metrics = read_model_folder(Manifest, folder)
        networks = tuple(_load_network(plan, folder / name, where) for name in manifest.members)
        assurance = Assurance.load(folder) if NUMBERS in manifest.files else None
        return TrainedModel(
            plan=plan,
            networks=networks,
            device=where,
            metrics=metrics,
            facts=manifest.facts,
            assurance=assurance,
            confidence=VoxelCalibration.load(folder) if CONFIDENCE in manifest.files else None,
            data_card=DataCard.load(folder / DATA_CARD) if DATA_CARD in manifest.files else None,
            id=manifest.id,
        )


def seal_card(folder: Path | str) -> str:
    """Accept a MODEL_CARD.md that people have completed: model.json takes its new hash.

    Every other file must be unaltered.

    Returns:
        The model's new id.

    Raises:
        ModelError: another file is missing or altered.
    """
    folder = Path(folder)
    manifest = Manifest.load(folder)
    manifest.check_files(folder, besides=(CARD,))
    resealed = manifest.with_files({**manifest.files, **hash_files(folder, (CARD,))})
    written = OutputFolder(folder, "save").entry(MANIFEST)
    with OutputFolder(folder, "save" if written is None else written.verb) as out:
        resealed.save(folder)
        out.record(MANIFEST)
    return resealed.id


def _save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's weights as safetensors."""
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in network.state_dict().items()
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def _load_network(plan: Plan, path: Path, device: torch.device) -> nn.Module:
    """Build the network of a plan, with the weights of a file, ready to predict."""
    network = build_network(plan.network.value)
    try:
        network.load_state_dict(load_file(path, device="cpu"), strict=True)
    except SafetensorError as error:
        raise damaged_model(f"{path}: not a safetensors file ({error})") from error
    except RuntimeError as error:
        raise damaged_model(
            f"{path}: weights of another network than the plan's: {error}"
        ) from error
    return network.to(device).eval()
