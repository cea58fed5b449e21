"""Out-of-fold predictions at one overlap after another, held in little memory."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.dataset import read_annotation
from hilum.errors import DataError, HilumError
from hilum.evaluation import score_labels
from hilum.inference import Predictor, TrainedModel
from hilum.inference.windows import count_windows
from hilum.plan import Decision
from hilum.tasks import apply_postprocessing
from hilum.training.case_order import shuffled_order
from hilum.training.tuning.overlap import OVERLAPS, OverlapTrialResult
from hilum.training.tuning.postprocessing_trials import TrialCache, compress_case, packed
from hilum.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hilum.dataset import Case
    from hilum.evaluation import Score
    from hilum.plan import SegmentationPlan
    from hilum.training.tuning.eligible_cases import EligibleCases
    from hilum.training.tuning.postprocessing_trials import Answer, Packed, Steps
    from hilum.volume import Geometry

    Progress = Callable[[float, int, int, str], None]


@dataclass(frozen=True, eq=False)
class Predicted:
    """One case as it was predicted, whole: compressed labels (Z, Y, X) on the case's grid.

    Args:
        case: which.
        labels: compressed.
        geometry: of the case.
        seconds: in the network, and back to the case's grid.
        patches: those that the network saw.
        shape: (Z, Y, X) of the network's grid.
    """

    case: Case
    labels: Packed
    geometry: Geometry
    seconds: float
    patches: int
    shape: tuple[int, int, int]

    def volume(self) -> Volume:
        """Labels (1, Z, Y, X)."""
        return Volume(self.labels.array()[None], self.geometry)


class OutOfFoldPredictions:
    """Cases predicted by those networks of a model that were not trained on them.

    Args:
        model: with all its networks.
        unseen: the cases, and which networks may answer for each.
        say: told of cases that fail: they are left out.
        progress: called as progress(overlap, done, total, case id).
    """

    def __init__(
        self,
        model: TrainedModel,
        unseen: EligibleCases,
        *,
        say: Callable[[str], None],
        progress: Progress = lambda *_: None,
    ) -> None:
        plan: Any = model.plan
        self._model, self._unseen, self._say, self._progress = model, unseen, say, progress
        self._plan: SegmentationPlan = plan
        self.cases: tuple[Case, ...] = unseen.cases
        self.engine = ""  # what ran them last, in words
        self.made: dict[float, list[Predicted]] = {}
        self._answers: dict[float, list[Answer]] = {}

    def first(self, deadline: float | None) -> None:
        """Predict at the first overlap.

        Cases that fail, or that the time does not allow, are left out from now on.

        What the time does allow is a fair sample: of the cases of every network its share.

        Raises:
            DataError: no case could be predicted.
        """
        found = self._predict(OVERLAPS[0], deadline)
        if not found:
            raise DataError(
                "no case could be predicted",
                needed="at least one annotated case",
                cure="hilum check DATA",
            )
        held = {}
        for one in found:
            try:
                held[one.case.id] = compress_case(
                    one.case, one.volume(), read_annotation(one.case), self._plan.labels
                )
            except HilumError as error:
                self._say(f"{one.case.id} is left out: {error.found}")
        if not held:
            raise DataError(
                "no case has an annotation that fits the model",
                needed="labels as the model's",
                cure="hilum check DATA",
            )
        self.made[OVERLAPS[0]] = [one for one in found if one.case.id in held]
        self.cases = tuple(one.case for one in self.made[OVERLAPS[0]])
        self._answers[OVERLAPS[0]] = [held[case.id] for case in self.cases]

    def answers(self, overlap: float) -> list[Answer]:
        """Return the predictions at an overlap, beside their references.

        They are made now where they are missing.
        """
        if overlap not in self.made:
            self.made[overlap] = self._predict(overlap, None)
            pairs = [
                compress_case(one.case, one.volume(), read_annotation(one.case), self._plan.labels)
                for one in self.made[overlap]
            ]
            self._answers[overlap] = pairs
        return self._answers[overlap]

    def round(self, overlap: float, steps: Steps) -> OverlapTrialResult:
        """Dice of all cases at an overlap, with these steps of post-processing."""
        dice = TrialCache(self.answers(overlap), self._plan.labels).dice(steps)
        made = self.made[overlap]
        return OverlapTrialResult(
            dice,
            float(np.mean([one.seconds for one in made])),
            float(np.mean([one.patches for one in made])),
        )

    def patches(self, overlap: float) -> tuple[int, ...]:
        """Count the patches of the whole grid of each case at an overlap."""
        patch = self._plan.patch.value
        return tuple(count_windows(one.shape, patch, overlap) for one in self.made[OVERLAPS[0]])

    def scores(
        self, steps: Callable[[str], Steps], progress: Callable[[int, int, str], None]
    ) -> tuple[Score, ...]:
        """Compute every metric at the first overlap, with each case's own post-processing steps."""
        table = self._plan.labels
        scores: list[Score] = []
        made = self.made[OVERLAPS[0]]
        for done, one in enumerate(made, start=1):
            labels = apply_postprocessing(one.volume(), steps(one.case.id), table)
            scores += score_labels(
                labels.array[0],
                read_annotation(one.case).array[0],
                spacing=one.geometry.spacing,
                table=table,
                case=one.case.id,
                patient=one.case.patient,
            )
            progress(done, len(made), one.case.id)
        return tuple(scores)

    def _predict(self, overlap: float, deadline: float | None) -> list[Predicted]:
        """Every case, in their order; the networks of one group of cases after those of another.

        Where there is a deadline, each group has of the time left what its cases are of those left,
        and predicts in an order of which every beginning is a fair sample; what a group did not get
        to has the time that others leave.
        """
        found: dict[str, Predicted] = {}
        waiting = self._groups(drawn=deadline is not None)
        while waiting and not _late(deadline, found):
            ahead = sum(len(cases) for _, cases in waiting)
            for members, cases in waiting:
                now = time.perf_counter()
                limit = None if deadline is None else now + (deadline - now) * len(cases) / ahead
                ahead -= len(cases)
                if not _late(deadline, found):
                    self._predict_group(members, cases, overlap, limit, found)
            waiting = [(members, cases) for members, cases in waiting if cases]
        if waiting:
            left_out = sum(len(cases) for _, cases in waiting)
            self._say(
                f"{left_out} of {len(self.cases)} cases are left out: the time does not allow more."
            )
        return [found[case.id] for case in self.cases if case.id in found]

    def _predict_group(
        self,
        members: Sequence[int],
        cases: list[Case],
        overlap: float,
        limit: float | None,
        found: dict[str, Predicted],
    ) -> None:
        """Move cases, from the first on, to those that are found, until the limit; at least one."""
        predictor = Predictor(self._part(members, overlap))
        self.engine = (
            f"{predictor.engine.name} in {predictor.engine.precision} on {predictor.engine.device}"
        )
        try:
            while cases:
                case = cases.pop(0)
                try:
                    found[case.id] = _predicted(predictor, case)
                except HilumError as error:
                    if overlap != OVERLAPS[0]:
                        raise
                    self._say(f"{case.id} is left out: {error.found}")
                self._progress(overlap, len(found), len(self.cases), case.id)
                if _late(limit, found):
                    break
        finally:
            predictor.close()

    def _groups(self, *, drawn: bool) -> list[tuple[tuple[int, ...], list[Case]]]:
        """Cases by the networks that answer for them, in their order or a drawn one."""
        groups: dict[tuple[int, ...], list[Case]] = {}
        for place in (
            shuffled_order([case.id for case in self.cases]) if drawn else range(len(self.cases))
        ):
            case = self.cases[place]
            groups.setdefault(self._unseen.members[case.id], []).append(case)
        return sorted(groups.items(), key=lambda group: group[0])

    def _part(self, members: Sequence[int], overlap: float) -> Any:
        """The model with some of its networks, at an overlap, without post-processing."""
        update: dict[str, Any] = {
            "overlap": Decision(value=overlap, because="tried"),
            "postprocessing": Decision(value=(), because="learnt from what was not post-processed"),
        }
        networks = tuple(self._model.networks[n] for n in members)
        return replace(self._model, plan=self._plan.model_copy(update=update), networks=networks)


def _late(limit: float | None, found: Mapping[str, Predicted]) -> bool:
    """Return True if no further case may be begun; one is predicted in any case."""
    return limit is not None and bool(found) and time.perf_counter() > limit


def _predicted(predictor: Predictor, case: Case) -> Predicted:
    prepared = predictor.prepare(case)
    z, y, x = (int(n) for n in prepared.array.shape[1:])
    prediction = predictor.predict_prepared(prepared)
    labels = prediction.labels
    seconds = prediction.seconds.network + prediction.seconds.restore
    return Predicted(
        case,
        packed(labels.array[0]),
        labels.geometry,
        seconds,
        prediction.patches["run"],
        (z, y, x),
    )
