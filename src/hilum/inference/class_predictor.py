"""Prediction of one case by a classifier: read, preprocess, network, calibrate."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from hilum.dataset.case import Case
from hilum.dataset.reading import read_region
from hilum.engines.torch_engine import (
    Precision,
    TorchEngine,
    resolve_precision,
    running_mean,
)
from hilum.errors import DataError, ResourceError, UsageError, find_named
from hilum.explain import EXPLAINERS
from hilum.inference.case_predictor import CasePredictor, Prepared
from hilum.inference.class_prediction import ClassPrediction, ClassWriter, Promise, top_classes
from hilum.inference.refusal import combine, intensity_features
from hilum.preprocess import preprocess_classifier_input
from hilum.targets import ClassificationTask
from hilum.targets.class_score import ClassScore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydantic import JsonValue
    from torch import Tensor

    from hilum.files import OutputFolder
    from hilum.inference.inputs import Source
    from hilum.inference.memory_plan import MemoryPlan
    from hilum.inference.refusal import Verdict
    from hilum.inference.trained_model import TrainedModel
    from hilum.networks import ClassifierNetwork
    from hilum.plan import ClassificationPlan
    from hilum.preprocess import InputWindow
    from hilum.volume import Volume


class ClassPredictor(CasePredictor[ClassPrediction]):
    """A trained classifier, ready to predict.

    Args:
        model: networks and plan, loaded from a folder or just trained.
        tta: also see each input mirrored along the plan's mirror axes; the mean of the logits.
        precision: "float32" or "bfloat16"; if None the plan's, where the device has instructions
            for it.
        explain: a member of `hilum.explain.EXPLAINERS`: also say where in the image the
            class comes from.
        most_explained: the maps of so many cases are made; None: of all.
        sets_per_class: prediction sets that hold the class as often as they promise among the cases
            of each class, not only on average over all; they are larger where a class is rare.

    Raises:
        UsageError: no such explanation, or sets per class of a model that has not learnt them.
    """

    usual_formats = ("csv", "json")
    asks_annotated = True  # a mask is no label
    model: TrainedModel
    engine: TorchEngine

    def __init__(
        self,
        model: TrainedModel,
        *,
        tta: bool = False,
        precision: Precision | None = None,
        explain: str | None = None,
        most_explained: int | None = None,
        sets_per_class: bool = False,
    ) -> None:
        """Refuse explanations and sets that the model has not, and make the engine."""
        if explain is not None:
            find_named("explanation", "explain", explain, EXPLAINERS)
        if sets_per_class and (
            model.assurance is None or not model.assurance.calibration.class_thresholds
        ):
            raise UsageError(
                "this model has not learnt sets per class",
                needed="a classifier with validation cases, trained by this version of hilum",
                cure="train it again, or leave out sets_per_class=True",
            )
        self._per_class, self._left_to_explain = (
            sets_per_class,
            math.inf if most_explained is None else most_explained,
        )
        plan = self._plan = cast("ClassificationPlan", model.plan)
        precision = precision or resolve_precision(plan.precision.value, model.device)
        self.model, self.explain = model, explain
        self.mirror_axes = plan.augmentation.value.mirror_axes if tta else ()
        self.engine = TorchEngine(model.networks, device=model.device, precision=precision)
        self._networks = cast("tuple[ClassifierNetwork, ...]", model.networks)
        self._task = ClassificationTask(plan.classes)

    @property
    def run_options(self) -> dict[str, JsonValue]:
        """The options that run.json names."""
        axes: list[JsonValue] = list(self.mirror_axes)
        return {"mirror_axes": axes, "batch": 1, "overlap": None, "every_patch": True}

    @property
    def prediction_options(self) -> dict[str, str]:
        """The options that a prediction depends on, by name."""
        return super().prediction_options | {
            "explanation": str(self.explain),
            "sets per class": str(self._per_class),
        }

    def writer(
        self,
        out: OutputFolder,
        formats: Sequence[str],
        *,
        probabilities: bool,  # noqa: ARG002  (always written)
    ) -> ClassWriter:
        """Make the writer of predictions to a folder."""
        return ClassWriter(
            out, formats, self._plan.classes, model=self.model.id, maps=self.explain is not None
        )

    def unlike_training(self, file: Path) -> tuple[str, ...]:
        """List what is unlike the training images, by voxels and, where they are learnt, features.

        Features are those of the input window, which only a model that asks for no mask or point
        can cut out.

        Raises:
            DataError: it cannot be read.
        """
        found = super().unlike_training(file)
        if self._plan.region.value.kind in {"mask", "centre"}:
            return found
        array = self.prepare(file).array
        features = [torch.from_numpy(one)[None] for one in self.features(array)]
        verdict = self._judge(array, features)
        if verdict is None or not verdict.refuse:
            return found
        return (*found, verdict.because)

    def preprocess(self, image: Volume, source: Source) -> tuple[NDArray[np.float32], InputWindow]:
        """Cut out the network's input (C, Z, Y, X) around the mask or point that the plan wants."""
        kind, mask, centre = self._plan.region.value.kind, None, None
        if isinstance(source, Case) and kind in {"mask", "centre"}:
            centre = source.centre_mm
            if kind == "mask":  # a data set with masks may have been opened as a segmentation's
                mask = read_region(replace(source, region=source.region or source.annotation))
        return preprocess_classifier_input(image, self._plan, region=mask, centre_mm=centre)

    def refuse_all(self, cases: Sequence[Case]) -> None:
        """Refuse cases before anything is read where none has what says where to look.

        Raises:
            DataError: the model looks at a mask or a point, and not one case has any.
        """
        kind = self._plan.region.value.kind
        if kind == "mask":
            lacking = [(case.region or case.annotation) is None for case in cases]
        else:
            lacking = [kind == "centre" and case.centre_mm is None for case in cases]
        if not lacking or not all(lacking):
            return
        what, columns, folders = (
            ("mask", "mask", ", or a folder with masks/ beside images/")
            if kind == "mask"
            else ("point", "centre_x, centre_y, centre_z (LPS mm)", "")
        )
        raise DataError(
            f"a {what} says where to look in an image for this model, and none of the {len(cases)}"
            " cases has one",
            needed=f"a {what} for every case, as the model was trained with",
            cure=(
                f"give a table of the images with {columns}{folders}; or train a model that asks"
                " for none, with region='middle'"
            ),
        )

    def predict_prepared(
        self,
        prepared: Prepared,
        *,
        memory: MemoryPlan | None = None,  # noqa: ARG002  (one input is small)
        progress: Callable[[int, int], None] | None = None,  # noqa: ARG002  (and quick)
    ) -> ClassPrediction:
        """Predict a preprocessed case.

        Raises:
            ResourceError: memory is not enough.
        """
        start = time.perf_counter()
        with self.engine.evaluating(), torch.inference_mode():
            logits, features = self._pass(torch.from_numpy(prepared.array)[None])
            rows = self._task.probabilities(logits).cpu().numpy()
        verdict = self._judge(prepared.array, features)
        score = self._score(prepared, rows, verdict)
        seconds = replace(prepared.seconds, network=time.perf_counter() - start)
        prediction = ClassPrediction(
            score,
            self._plan.classes,
            self.model.id,
            verdict,
            {},
            seconds,
            self._promise(),
            prepared.files,
        )
        if self.explain is None or self._left_to_explain <= 0:
            return prediction
        self._left_to_explain -= 1
        image = torch.from_numpy(prepared.array)
        maps = {}
        for index in top_classes(prediction):
            found = EXPLAINERS[self.explain](
                self._networks, image, index, kind=self._plan.classes.kind
            )
            maps[self._plan.classes.names[index]] = prepared.restore.lay(found)
        seconds = replace(seconds, restore=time.perf_counter() - start - seconds.network)
        return replace(prediction, maps=maps, seconds=seconds)

    def logits(self, images: Tensor) -> Tensor:
        """Compute the mean logits (B, K') of networks and mirrors for inputs (B, C, Z, Y, X).

        Raises:
            ResourceError: memory is not enough.
        """
        return self._pass(images)[0]

    def _pass(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Compute the mean logits over networks and mirrors, and each network's features.

        Features are the input of its head for the images as they are, (B, F') float32, from the
        same pass.
        """
        axes = self.mirror_axes
        copies = [
            [axis + 2 for n, axis in enumerate(axes) if choice >> n & 1]
            for choice in range(2 ** len(axes))
        ]
        images = images.to(self.engine.torch_device)
        features: list[Tensor] = []
        logits = []
        try:
            for mirror in copies:
                copy = images.flip(mirror) if mirror else images
                with self.engine.autocast():
                    inputs = [network.features(copy) for network in self._networks]
                    rows = [
                        network.head(one).float()
                        for network, one in zip(self._networks, inputs, strict=True)
                    ]
                logits.append(running_mean(rows))
                features = features or inputs  # the first copy is not mirrored
        except torch.OutOfMemoryError as error:
            raise ResourceError(
                f"{self.engine.torch_device} has not enough memory for an input of"
                f" {tuple(images.shape)}",
                cure="device='cpu'",
            ) from error
        return torch.stack(logits).mean(dim=0), [one.float() for one in features]

    def features(self, array: NDArray[np.float32]) -> list[NDArray[np.float64]]:
        """Compute the head's input of each network for an input (C, Z, Y, X): (F,)."""
        with self.engine.evaluating(), torch.inference_mode():
            found = self._pass(torch.from_numpy(array)[None])[1]
        return [one.cpu().numpy()[0].astype(np.float64) for one in found]

    def _judge(self, array: NDArray[np.float32], features: Sequence[Tensor]) -> Verdict | None:
        """Judge an input (C, Z, Y, X) by the features (1, F') of each network.

        None where the model has no limits.
        """
        assurance = self.model.assurance
        if assurance is None or not assurance.refusals:
            return None
        intensities = intensity_features(array)[None]
        rows = [one.cpu().numpy().astype(np.float64) for one in features]
        return combine(
            [
                refusal.judge(row, intensities)[0]
                for refusal, row in zip(assurance.refusals, rows, strict=True)
            ]
        )

    def _promise(self) -> Promise | None:
        """Return the coverage that the sets guarantee."""
        calibration = self.model.assurance.calibration if self.model.assurance is not None else None
        if calibration is None or not calibration.thresholds:
            return None
        count = len(self.model.networks)
        measured_on = "the model's own held-out cases"
        if count > 1:
            measured_on = (
                f"the held-out predictions of its {count} networks one by one; the ensemble itself"
                " was not measured"
            )
        if self.mirror_axes:
            measured_on += (
                "; those were given without mirrored copies (tta), which were not measured"
            )
        return Promise(
            coverage=calibration.coverage,
            among="the cases of each class" if self._per_class else "all cases",
            cases=calibration.cases,
            measured_on=measured_on,
        )

    def _score(
        self, prepared: Prepared, rows: NDArray[np.float64], verdict: Verdict | None
    ) -> ClassScore:
        """Return the prediction of the case as a row of the table."""
        table, known = self._plan.classes, prepared.source
        calibrated = prediction_set = certain = None
        if self.model.assurance is not None:
            calibration = self.model.assurance.calibration
            calibrated = tuple(calibration.apply(rows, table)[0].tolist())
            certain = calibration.certain(rows, table, per_class=self._per_class)
            if calibration.thresholds:
                prediction_set = calibration.sets(rows, table, per_class=self._per_class)[0]
        return ClassScore(
            case=prepared.case,
            patient=known.patient if known else None,
            reference=known.label if known else None,
            probabilities=tuple(rows[0].tolist()),
            calibrated=calibrated,
            prediction_set=prediction_set,
            certain=certain and certain[0],
            refuse=None if verdict is None else verdict.refuse,
            distance=None if verdict is None else verdict.features_distance,
            columns=dict(known.columns) if known else {},
        )
