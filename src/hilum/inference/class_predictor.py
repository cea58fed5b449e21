"""Prediction of one case by a classifier: read, preprocess, network, calibrate."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hilum.dataset.case import Case
from hilum.dataset.regions import read_region
from hilum.errors import DataError, ResourceError, UsageError
from hilum.inference.class_prediction import ClassPrediction, ClassWriter, Promise, top_classes
from hilum.inference.engines.torch_engine import Precision, TorchEngine, resolve_precision
from hilum.inference.explain import EXPLAINERS
from hilum.inference.inputs import (
    Source,
    case_id,
    channel_files,
    in_order,
    read_source,
    wrong_channels,
)
from hilum.inference.prediction import Seconds
from hilum.inference.predictor import Prepared
from hilum.inference.refusal import combine, intensity_features
from hilum.inference.unlike import unlike
from hilum.preprocess import preprocess_classifier_input
from hilum.tasks import ClassificationTask
from hilum.tasks.class_score import ClassScore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydantic import JsonValue
    from torch import Tensor, nn

    from hilum.inference.refusal import Verdict
    from hilum.inference.trained_model import TrainedModel
    from hilum.io import OutputFolder
    from hilum.preprocess import InputWindow
    from hilum.volume import Volume


class ClassPredictor:
    """A trained classifier, ready to answer.

    Args:
        model: networks and plan, loaded from a folder or just trained.
        tta: also see each input mirrored along the plan's mirror axes; the mean of the logits.
        precision: "float32" or "bfloat16"; if None the plan's, where the device has instructions
            for it.
        explain: a member of `hilum.inference.explain.EXPLAINERS`: also say where in the image the
            answer comes from.
        most_explained: the maps of so many cases are made; None: of all.
        sets_per_class: prediction sets that hold the class as often as they promise among the cases
            of each class, not only on average over all; they are larger where a class is rare.

    Raises:
        UsageError: no such explanation, or sets per class of a model that has not learnt them.
    """

    usual_formats: tuple[str, ...] = ("csv", "json")
    memory_gb = None
    asks_annotated = True
    """A mask is no answer: all cases of a data set are asked for."""

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
        if explain is not None and explain not in EXPLAINERS:
            raise UsageError(
                f"explanation {explain!r}", needed=", ".join(EXPLAINERS), cure="--explain grad_cam"
            )
        plan: Any = model.plan
        if sets_per_class and (
            model.assurance is None or not model.assurance.calibration.class_thresholds
        ):
            raise UsageError(
                "sets per class of a model that has not learnt them",
                needed="a classifier with validation cases, trained by this version of hilum",
                cure="train it again, or leave out --sets-per-class",
            )
        self._per_class, self._left_to_explain = (
            sets_per_class,
            math.inf if most_explained is None else most_explained,
        )
        precision = precision or resolve_precision(plan.precision.value, model.device)
        self.model, self.explain = model, explain
        self.mirror_axes: tuple[int, ...] = plan.augmentation.value.mirror_axes if tta else ()
        self.engine = TorchEngine(model.networks, device=model.device, precision=precision)
        self._plan = plan
        self._task = ClassificationTask(plan.classes)

    @property
    def run_options(self) -> dict[str, JsonValue]:
        """The options that run.json names."""
        axes: list[JsonValue] = list(self.mirror_axes)
        return {"mirror_axes": axes, "batch": 1, "overlap": None, "every_patch": True}

    @property
    def prediction_options(self) -> dict[str, str]:
        """The options that an answer depends on, by name."""
        return {
            "engine": self.engine.name,
            "precision": self.engine.precision,
            "mirrored axes": str(list(self.mirror_axes)),
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

    def predict(
        self, source: Source, *, case: str | None = None, probabilities: bool = False
    ) -> ClassPrediction:
        """Predict one case.

        Args:
            source: a volume, a case, a file, a DICOM folder, or one file a channel; a `Case` where
                the model looks at a mask or a point.
            case: its id; by default the case's, or the file's name.
            probabilities: always given; here for the sake of one call for all tasks.

        Raises:
            DataError: it cannot be read, has other channels than the model, or no mask or point
                though the model needs one.
        """
        return self.predict_prepared(self.prepare(source, case=case), probabilities=probabilities)

    def prepare(self, source: Source, *, case: str | None = None) -> Prepared:
        """Read and preprocess; the part of a prediction that needs no network.

        Raises:
            DataError: as `predict`.
        """
        name, source = case or case_id(source), in_order(source, self._plan.channels)
        start = time.perf_counter()
        image = read_source(source, self._plan.channels)
        region, centre = self._where(source)
        middle = time.perf_counter()
        channels = self._plan.channels
        if image.channels != len(channels):
            raise wrong_channels(name, image, channels)
        array, view = preprocess_classifier_input(
            image, self._plan, region=region, centre_mm=centre
        )
        seconds = Seconds(read=middle - start, preprocess=time.perf_counter() - middle)
        known = source if isinstance(source, Case) else None
        return Prepared(
            name, array, view, seconds, known, unlike(image, self._plan, channel_files(source))
        )

    def refuse_all(self, cases: Sequence[Case]) -> None:
        """Refuse cases before anything is read where none has what says where to look.

        Raises:
            DataError: the model looks at a mask or a point, and not one case has any.
        """
        kind = self._plan.region.value.kind
        having: Callable[[Case], bool] | None = {
            "mask": lambda case: case.region is not None or case.annotation is not None,
            "centre": lambda case: case.centre_mm is not None,
        }.get(kind)
        if having is None or not cases or any(having(case) for case in cases):
            return
        what, columns = (
            ("mask", "mask")
            if kind == "mask"
            else ("point", "centre_x, centre_y, centre_z (LPS mm)")
        )
        folders = ", or a folder with masks/ beside images/" if kind == "mask" else ""
        raise DataError(
            f"a {what} says where to look in an image for this model, and none of the {len(cases)}"
            " cases has one",
            needed=f"a {what} for every case, as the model was trained with",
            cure=(
                f"give a table of the images with {columns}{folders}; or train a model that asks"
                " for none: hilum train DATA -o MODEL --region middle"
            ),
        )

    def size(self, source: Source) -> None:
        """Nothing is known before it is read; see `Predictor.size`."""

    # see `Predictor.reserve`
    def reserve(self, expected: object, before: Prepared | None) -> int:  # noqa: ARG002
        """A view is small: the next case is always read meanwhile."""
        return 0

    def predict_prepared(
        self,
        prepared: Prepared,
        *,
        probabilities: bool = False,  # noqa: ARG002  (see `predict`)
        reserve: int = 0,  # noqa: ARG002  (one input is small)
        progress: Callable[[int, int], None] | None = None,  # noqa: ARG002  (one input is quick)
        scratch: Path | None = None,  # noqa: ARG002  (see `Predictor.predict_prepared`)
    ) -> ClassPrediction:
        """Predict a preprocessed case.

        Raises:
            ResourceError: memory is not enough.
        """
        start = time.perf_counter()
        with self.engine.evaluating(), torch.inference_mode():
            logits, features = self._pass(torch.from_numpy(prepared.array)[None])
            rows = self._task.probabilities(logits).cpu().numpy()
        verdict = self._judged(prepared.array, features)
        score = self._score(prepared, rows, verdict)
        seconds = replace(prepared.seconds, network=time.perf_counter() - start)
        said = ClassPrediction(
            score, self._plan.classes, self.model.id, verdict, {}, seconds, self._promise()
        )
        if self.explain is None or self._left_to_explain <= 0:
            return said
        self._left_to_explain -= 1
        names = self._plan.classes.names
        maps = {names[n]: self._explained(prepared, n) for n in top_classes(said)}
        seconds = replace(seconds, restore=time.perf_counter() - start - seconds.network)
        return replace(said, maps=maps, seconds=seconds)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, K') float32 of inputs (B, C, Z, Y, X), averaged over networks and mirrors.

        Raises:
            ResourceError: memory is not enough.
        """
        return self._pass(images)[0]

    def _pass(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """See `logits`.

        And what the head of each member saw of the images as they are, (B, F') float32, from the
        same pass.
        """
        axes = self.mirror_axes
        copies = [
            [axis + 2 for n, axis in enumerate(axes) if choice >> n & 1]
            for choice in range(2 ** len(axes))
        ]
        images = images.to(self.engine.torch_device)
        try:
            with ExitStack() as heads:
                seen = [
                    heads.enter_context(_head_input(network)) for network in self.engine.networks
                ]
                logits = [
                    self.engine.forward(images.flip(mirror) if mirror else images)
                    for mirror in copies
                ]
        except torch.OutOfMemoryError as error:
            raise ResourceError(
                f"{self.engine.torch_device} has not enough memory for an input of"
                f" {tuple(images.shape)}",
                cure="--device cpu",
            ) from error
        return torch.stack(logits).mean(dim=0), [
            inputs[0].float() for inputs in seen
        ]  # the first copy is not mirrored

    def features(self, array: NDArray[np.float32]) -> list[NDArray[np.float64]]:
        """Compute the head's input of each network for an input (C, Z, Y, X): (F,)."""
        with self.engine.evaluating(), torch.inference_mode():
            found = self._pass(torch.from_numpy(array)[None])[1]
        return [one.cpu().numpy()[0].astype(np.float64) for one in found]

    def verdict(self, array: NDArray[np.float32]) -> Verdict | None:
        """Judge if an input (C, Z, Y, X) is unlike the training data.

        None where the model has no limits.
        """
        with self.engine.evaluating(), torch.inference_mode():
            return self._judged(array, self._pass(torch.from_numpy(array)[None])[1])

    def _judged(self, array: NDArray[np.float32], features: Sequence[Tensor]) -> Verdict | None:
        """`verdict` of an input whose features (1, F') each member has said."""
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
        members = len(self.model.networks)
        mirrored = (
            "; those were given without --tta: mirrored copies were not measured"
            if self.mirror_axes
            else ""
        )
        return Promise(
            coverage=calibration.coverage,
            among="the cases of each class" if self._per_class else "all cases",
            cases=calibration.cases,
            measured_on=(
                "the model's own held-out cases"
                if members == 1
                else (
                    f"the held-out answers of its {members} members one by one; the ensemble itself"
                    " was not measured"
                )
            )
            + mirrored,
        )

    def _where(self, source: Source) -> tuple[Volume | None, tuple[float, float, float] | None]:
        """The mask and the point to look at, as far as the plan wants one and the source has it."""
        kind = self._plan.region.value.kind
        if not isinstance(source, Case) or kind not in {"mask", "centre"}:
            return None, None
        known = replace(
            source, region=source.region or source.annotation
        )  # a data set with masks may have been opened as one
        return (read_region(known) if kind == "mask" else None), source.centre_mm

    def _score(
        self, prepared: Prepared, rows: NDArray[np.float64], verdict: Verdict | None
    ) -> ClassScore:
        """Return the prediction of the case as a row of the table."""
        table, assurance, known = self._plan.classes, self.model.assurance, prepared.source
        score = ClassScore(
            case=prepared.case,
            patient=known.patient if known else None,
            reference=known.label if known else None,
            probabilities=tuple(rows[0].tolist()),
            refuse=None if verdict is None else verdict.refuse,
            distance=None if verdict is None else verdict.features_distance,
            columns=dict(known.columns) if known else {},
        )
        if assurance is None:
            return score
        calibration = assurance.calibration
        calibrated = calibration.apply(rows, table)
        sets = (
            calibration.sets(rows, table, per_class=self._per_class)[0]
            if calibration.thresholds
            else None
        )
        certain = calibration.certain(rows, table, per_class=self._per_class)
        update = {
            "calibrated": tuple(calibrated[0].tolist()),
            "prediction_set": sets,
            "certain": certain and certain[0],
        }
        return score.model_copy(update=update)

    def _explained(self, prepared: Prepared, index: int) -> Volume:
        """Make the map (1, Z, Y, X) of a class on the case's own grid, 0..1."""
        view: InputWindow = prepared.restore
        explain = EXPLAINERS[self.explain or "grad_cam"]
        kind, image = self._plan.classes.kind, torch.from_numpy(prepared.array)
        networks: Any = self.engine.networks  # classifiers all
        return view.lay(explain(networks, image, index, kind=kind))


@contextmanager
def _head_input(network: Any) -> Iterator[list[Tensor]]:
    """Record the head's input (B, F') of each pass, while a classifier runs as a whole."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].detach())

    hook = network.head.register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()
