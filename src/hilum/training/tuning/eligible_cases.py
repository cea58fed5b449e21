"""Cases of a data set that a model may be tuned on: those that its networks were not trained on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hilum.dataset.folds import patient_of
from hilum.errors import UsageError, counted
from hilum.inference.predict_cases import spread_evenly

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hilum.dataset import Case, Dataset
    from hilum.inference import Facts


@dataclass(frozen=True)
class EligibleCases:
    """Cases, and for each the networks of the model that were not trained on it or its patient.

    Args:
        cases: in the order of the data set.
        networks: by case id, the numbers of the networks.
        notes: how they were chosen, in sentences.
        known: whether the model says which cases it was trained on; else that these are others is
            taken on trust.
    """

    cases: tuple[Case, ...]
    networks: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...]
    known: bool = True

    def limit(self, most: int | None) -> EligibleCases:
        """At most so many, spread evenly over all."""
        if most is None or most >= len(self.cases):
            return self
        cases = spread_evenly(self.cases, most)
        notes = (*self.notes, f"of these {len(cases)}, spread evenly")
        return EligibleCases(cases, self.networks, notes, self.known)


def find_eligible_cases(dataset: Dataset, facts: Facts | None, networks: int) -> EligibleCases:
    """Find annotated cases, no test cases, that at least one network was not trained on.

    Nor on another case of their patient; all of them where nothing is known of the training.

    What a network was trained on is known by the case ids in the model's facts, whatever the data
    set is called now, and, where the data set names patients, by the patients of these cases.

    Raises:
        UsageError: every case was trained on or is a test case, or the model was trained on this
            data set and does not say on which cases.
    """
    if not dataset.not_tests:
        raise UsageError(
            f"all {len(dataset.cases)} cases of {dataset.name!r} are test cases",
            needed="cases that are not kept for testing",
            cure="give a data set of other cases with the same labels",
        )
    trained = _training_cases(facts, networks)
    if trained is None:
        if facts is not None and _bare(facts.dataset) == _bare(dataset.name):
            raise UsageError(
                f"the model was trained on {dataset.name!r} and does not say on which of its cases",
                needed="cases that it was not trained on",
                cure="give another data set with the same labels",
            )
        notes = ["the model does not say which cases it was trained on; these may be among them"]
        if facts is not None and facts.cases == len(dataset.cases):
            notes.append(
                f"attention: {dataset.name} has as many cases as the model was trained on,"
                f" {facts.cases}; if they are the same, what is learnt from them is worthless"
            )
        everyone = tuple(range(networks))
        cases = dataset.not_tests
        return EligibleCases(
            cases, {case.id: everyone for case in cases}, tuple(notes), known=False
        )
    patients = patient_of(dataset)
    known = [{patients[case] for case in cases if case in patients} for cases in trained]
    untrained = {
        case.id: tuple(
            n
            for n in range(networks)
            if case.id not in trained[n] and patients[case.id] not in known[n]
        )
        for case in dataset.not_tests
    }
    cases = tuple(case for case in dataset.not_tests if untrained[case.id])
    if not cases:
        raise UsageError(
            f"the model was trained on all {len(dataset.cases)} cases of {dataset.name!r}, or on"
            " other cases of their patients",
            needed=(
                "cases that it was not trained on, or its own data set with the fold that it was"
                " validated on"
            ),
            cure="give a data set of other cases with the same labels",
        )
    return EligibleCases(cases, untrained, _notes(dataset, cases, untrained, networks))


def _bare(name: str) -> str:
    """The name of a data set without the number that nnU-Net and the Decathlon put before it."""
    return re.sub(r"^(dataset|task)\d+_", "", name.casefold())


def _training_cases(facts: Facts | None, networks: int) -> list[set[str]] | None:
    """By network the ids of the cases it was trained on; None where the model does not say."""
    if facts is None:
        return None
    folds = [
        one
        for name, one in facts.details.items()
        if name.startswith("fold ") and isinstance(one, dict)
    ]
    named = [one.get("train") for one in folds]
    lists = [{str(case) for case in cases} for cases in named if isinstance(cases, list) and cases]
    if not lists or len(lists) < len(folds):
        return None
    if len(lists) == networks:
        return lists
    return [set().union(*lists)] * networks


def _notes(
    dataset: Dataset,
    cases: tuple[Case, ...],
    untrained: Mapping[str, tuple[int, ...]],
    networks: int,
) -> tuple[str, ...]:
    """Describe how the cases were chosen, for tuning.json and the card."""
    left_out = len(dataset.not_tests) - len(cases)
    notes = [f"{counted(len(cases), 'case')} of {dataset.name} that were not trained on"]
    if left_out:
        notes.append(
            f"{left_out} cases were left out: they, or other cases of their patients, were"
            " trained on"
        )
    if any(len(untrained[case.id]) < networks for case in cases):
        notes.append(
            f"each was predicted by those of the {networks} networks alone that were not trained on"
            " it or its patient"
        )
    return tuple(notes)
