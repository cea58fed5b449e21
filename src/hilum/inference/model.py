"""A model as predictors know it, whatever made it: trained, loaded, or exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hilum.engines.engine import Engine
    from hilum.inference.manifest import Facts, ModelMetrics
    from hilum.inference.voxel_calibration import VoxelCalibration
    from hilum.plan import Plan
    from hilum.plan.segmentation import SegmentationPlan


class Model(Protocol):
    """A model of either task as `predict_many` knows it."""

    @property
    def plan(self) -> Plan:
        """Every decision of the model."""
        ...

    @property
    def id(self) -> str:
        """Identify the folder it came from."""
        ...

    @property
    def facts(self) -> Facts | None:
        """Facts about its training, where they are known."""
        ...

    @property
    def metrics(self) -> ModelMetrics | None:
        """Its measured metrics, where there are any."""
        ...


class RunnableModel(Model, Protocol):
    """A segmentation model that can be run: trained, loaded from a folder, or exported."""

    @property
    def plan(self) -> SegmentationPlan:
        """Every decision that preprocessing, sliding window and restoring need."""
        ...

    @property
    def confidence(self) -> VoxelCalibration | None:
        """Calibration of its voxels, where its training learnt one."""
        ...

    def make_engine(
        self,
        name: str = "auto",
        precision: str | None = None,
        threads: int | None = None,
        memory: int | None = None,
    ) -> Engine:
        """Make the engine of its network.

        Args:
            name: "torch", "openvino", "onnx", or "auto": the fastest that is installed and that the
                model can run in.
            precision: among `Precision`; None (and "auto"): the engine's choice: int8 of an int8
                model, bfloat16 where the processor or GPU has instructions for it, else float32.
                What the plan says is about training.
            threads: of the processor; None: the engine's own choice.
            memory: bytes that the network may take; None: half of what is free. Only OpenVINO has a
                choice: the networks of an ensemble that would take more give theirs back after
                every patch, which changes no answer.

        Raises:
            UsageError: no such engine or precision.
            ResourceError: the engine is not installed, or cannot run this model.
        """
        ...
