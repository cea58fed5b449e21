"""An exported model: one folder that predicts where torch is not installed.

::

    export.json         format version, id, source, SHA-256 of every other file
    plan.json           every decision: how an image is prepared, what is done with the labels
    labels.json         what the labels mean
    network.xml, .bin   OpenVINO's network; of an ensemble network_0.xml, network_1.xml, ...
    network.onnx        the same for ONNX Runtime
    test_vectors.npz    a patch and the logits that the networks must give for it
    metrics.json        how good the model is, and on what that was measured
    confidence.json     calibrated voxels, intervals of volumes; where the model carries them
    requirements.txt    the packages that `hilum predict` needs for it
    README.md           for who installs it
    MODEL_CARD.md       for who uses it
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from hilum.engines.choose import EngineOptions, EngineSource, make_engine
from hilum.errors import ModelError, UsageError, damaged_model
from hilum.inference.export_manifest import EXPORT, VECTORS, ExportManifest
from hilum.inference.manifest import Manifest, ModelMetrics, read_model_folder
from hilum.inference.voxel_calibration import CONFIDENCE, VoxelCalibration
from hilum.plan.segmentation import SegmentationPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from hilum.engines.engine import Engine
    from hilum.inference.manifest import Facts
    from hilum.inference.trained_model import TrainedModel

TOLERANCES = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1, "int8": 1e-1}
"""By what a network is computed in, how far its logits may be from those of the test vectors: see
`difference`."""
STORED_TOLERANCES = {"float32": 0.0, "float16": 1e-2, "int8": 0.0}
"""Tolerance added for weights stored in a lower precision. An int8 model's test vectors are
its own."""


@dataclass(frozen=True)
class TestVectors:
    """An input and the prediction that is expected of it.

    Args:
        patch: (1, C, *patch) float32; smooth random numbers, nobody's image.
        voxels: (N, 3) (z, y, x); logits are kept at these only, since with many labels all of them
            would be gigabytes.
        logits: (K, N) float32.
    """

    __test__: ClassVar[bool] = False  # no test of pytest's

    patch: NDArray[np.float32]
    voxels: NDArray[np.int32]
    logits: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write them without pickle; the patch's values are exact in float16, and stored so."""
        np.savez_compressed(
            path, patch=self.patch.astype(np.float16), voxels=self.voxels, logits=self.logits
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read test vectors from their file.

        Raises:
            ModelError: the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as held:
                return cls(held["patch"].astype(np.float32), held["voxels"], held["logits"])
        except Exception as error:  # of whatever kind: a damaged archive fails in many ways
            raise damaged_model(f"{path}: damaged ({error})") from error

    def difference(self, engine: Engine) -> float:
        """Measure the difference of an engine's logits to the expected ones.

        The root of the mean squared difference, as a fraction of the expected logits' standard
        deviation (over all voxels and outputs): a network whose weights, padding or normalisation
        are wrong gives about 1.
        """
        z, y, x = self.voxels.T
        found = engine(self.patch)[0][:, z, y, x].astype(np.float64)  # (K, N)
        spread = float(self.logits.std(dtype=np.float64)) or 1.0
        return float(np.sqrt(np.mean(np.square(found - self.logits)))) / spread

    def check(self, engine: Engine, stored: str, what: str) -> float:
        """Measure the difference of an engine, and refuse one beyond the tolerances.

        Raises:
            ModelError: beyond `TOLERANCES` and `STORED_TOLERANCES`.
        """
        found = self.difference(engine)
        allowed = TOLERANCES[engine.precision] + STORED_TOLERANCES[stored]
        if not found <= allowed:  # a NaN is no prediction either
            raise ModelError(
                f"{what} in {engine.precision} is {found:.2g} of the logits' spread off the test"
                " vectors",
                needed=f"at most {allowed:.2g}",
                cure="export the model again, or take another engine, or precision='float32'",
            )
        return found


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """A model as `hilum export` wrote it; a `RunnableModel`.

    Args:
        folder: where it lies.
        plan: every decision.
        manifest: export.json.
        metrics: how good the model is that was exported.
        confidence: calibration of its voxels; None where the model carried none.
    """

    folder: Path
    plan: SegmentationPlan
    manifest: ExportManifest
    metrics: ModelMetrics
    confidence: VoxelCalibration | None = None

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a folder that `hilum export` wrote.

        No file is unpickled, no code in it is run, and nothing is fetched.

        Raises:
            ModelError: a file is missing, altered, or of a newer version.
        """
        folder = Path(folder)
        manifest, plan, metrics = read_model_folder(ExportManifest, folder)
        if not isinstance(plan, SegmentationPlan):
            raise ModelError(
                f"{folder} is an exported model of {plan.task.value}",
                needed="an exported segmentation model",
                cure="predict with the model folder that it was exported from",
            )
        carried = CONFIDENCE in manifest.files
        confidence = VoxelCalibration.load(folder) if carried else None
        return cls(folder, plan, manifest, metrics, confidence)

    @property
    def facts(self) -> Facts | None:
        """Facts about the model's training."""
        return self.manifest.facts

    @property
    def id(self) -> str:
        """Identify the folder by the first 16 digits of a SHA-256 over all its files."""
        return self.manifest.id

    def make_engine(
        self,
        name: str = "auto",
        precision: str | None = None,
        threads: int | None = None,
        memory: int | None = None,
    ) -> Engine:
        """Make the engine of its networks; see `RunnableModel.make_engine`.

        It must pass `check` first; its `because` says with what difference it did.

        Raises:
            ModelError: it is further from the test vectors than its tolerance.
        """
        engine = self._make_unchecked_engine(name, EngineOptions(precision, threads, memory))
        try:
            found = self.check(engine)
        except BaseException:
            engine.close()
            raise
        engine.because += (
            f"; {found:.2g} of the logits' spread off the test vectors, checked on this machine"
        )
        return engine

    def check(self, engine: Engine | None = None) -> float:
        """Run the test vectors.

        Args:
            engine: one that runs this model; by default the one that "auto" takes.

        Returns:
            How far its logits are from the expected ones; see `TestVectors.difference`.

        Raises:
            ModelError: beyond the tolerances.
        """
        engine = engine or self._make_unchecked_engine("auto", EngineOptions())
        vectors = TestVectors.load(self.folder / VECTORS)
        return vectors.check(engine, self.manifest.stored, f"{self.folder}: {engine.name}")

    def _make_unchecked_engine(self, name: str, options: EngineOptions) -> Engine:
        source = engine_source(self.plan, self.folder, self.manifest.engines, self.manifest.stored)
        return make_engine(source, name, options)


def engine_source(
    plan: SegmentationPlan, folder: Path, engines: Mapping[str, tuple[str, ...]], stored: str
) -> EngineSource:
    """Return exported files as engines take them."""
    files = {engine: tuple(folder / name for name in names) for engine, names in engines.items()}
    return EngineSource(
        plan,
        openvino=files.get("openvino", ()),
        onnx=files.get("onnx", ()),
        stored="int8" if stored == "int8" else "float32",
    )


def read_manifest(folder: Path) -> Manifest:
    """Read what is in the folder of a model, trained or exported, without its networks.

    Raises:
        ModelError: there is none, it is damaged or altered, or of a newer format.
    """
    return (ExportManifest if (folder / EXPORT).is_file() else Manifest).load(folder)


def load_runnable(folder: Path | str, *, device: str = "auto") -> TrainedModel | ExportedModel:
    """Load the model in a folder: one that was trained, or one that was exported.

    Of the latter torch is not needed.

    Raises:
        ModelError: there is none, or it is damaged.
        UsageError: an exported model and a device other than the CPU; no such device is known.
        ResourceError: this machine has no such device.
    """
    folder = Path(folder)
    if (folder / EXPORT).is_file():
        if device not in {"auto", "cpu"}:
            raise UsageError(
                f"device={device!r} is not possible for an exported model",
                needed="the CPU",
                cure="device='cpu'",
            )
        return ExportedModel.load(folder)
    from hilum.inference.trained_model import TrainedModel

    return TrainedModel.load(folder, device=device)
