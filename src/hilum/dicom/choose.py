"""The choice of the series that a model takes, with points and reasons in words.

Each volume of a study has points for a channel (`hilum.dicom.score`). Equal points are no
choice: `judge`, the model's own check of an image, decides between the best, or the user does by a
rule. So it is with phases of a contrast agent, unless the channel's name says which is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hilum.dicom.phase import WITH_CONTRAST
from hilum.dicom.score import Score, may_be, rank
from hilum.errors import DataError, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hilum.dicom.rule import Rule
    from hilum.dicom.score import Wanted
    from hilum.dicom.study import SeriesVolume

    Judge = Callable[[SeriesVolume], tuple[str, ...]]
    """Lists what is unlike the training images in a volume, by its voxels."""

NONE_FULFILS = "no series fulfils"
"""In the error of a study that has no series for a rule, and no series that cannot be read."""
NONE_SUITS = "no series suits"
"""In the error of a study that has no series for a channel, and none that damage keeps from it."""
_TIE = 0.25  # points by which the best must lead
_JUDGED = 4  # volumes of equal points whose voxels are looked at


@dataclass(frozen=True)
class Choice:
    """The volume that was chosen for a channel, and why.

    Args:
        channel: its name.
        volume: of the study.
        because: in words.
        scores: of all volumes that were compared, the best first.
        by_rule: whether a rule left only this one.
    """

    channel: str
    volume: SeriesVolume
    because: str
    scores: tuple[Score, ...]
    by_rule: bool = False


@dataclass(frozen=True)
class SeriesChoice:
    """Wishes of a model, and of the user, by which the series of a study are chosen.

    Args:
        wanted: of each channel.
        rule: of the user; None: the model's wishes decide among all.
        judge: the model's own check of an image, asked between series of equal points.
    """

    wanted: tuple[Wanted, ...]
    rule: Rule | None = None
    judge: Judge | None = None


def choose(
    volumes: Sequence[SeriesVolume],
    wanted: Sequence[Wanted],
    *,
    where: str,
    rule: Rule | None = None,
    judge: Judge | None = None,
) -> tuple[Choice, ...]:
    """Choose a volume for each channel, in the order of the channels.

    Those of several channels share a frame of reference, where one has a volume for each.

    Args:
        volumes: of one study.
        wanted: of each channel.
        where: whose volumes they are, for errors.
        rule: only volumes that fulfil it count; of several channels it may name one series each.
        judge: decides between volumes of equal points; not asked for several channels.

    Raises:
        DataError: none suits, or two suit equally; all are listed with their scores.
    """
    kept = [volume for volume in volumes if rule is None or rule.fits(volume.facts)]
    if not kept:
        damaged = any(_hides_facts(one, wanted, rule) for one in volumes)
        what = "no series that can be read fulfils" if damaged else NONE_FULFILS
        raise _error(
            f"{where}: {what} {rule.text if rule else ''!r}",
            [Score(volume, excluded=volume.refused) for volume in volumes],
            scored=False,
        )
    if len(wanted) == 1:
        choice = _choose_one(kept, wanted[0], where, judge)
        if rule is not None and len(kept) == 1:
            choice = replace(choice, because=f"it alone fulfils {rule.text!r}", by_rule=True)
        return (choice,)
    chosen: list[tuple[float, tuple[Choice, ...]]] = []
    errors: list[DataError] = []
    for frame in dict.fromkeys(volume.frame_of_reference for volume in kept):
        together = [volume for volume in kept if volume.frame_of_reference == frame]
        try:
            choices = tuple(_choose_one(together, one, where, None) for one in wanted)
        except DataError as error:
            errors.append(error)
            continue
        if len({choice.volume.source for choice in choices}) < len(choices):
            listed = [score for choice in choices for score in choice.scores]
            errors.append(_error(f"{where}: one series would be taken for two channels", listed))
            continue
        chosen.append((sum(choice.scores[0].points for choice in choices), choices))
    chosen.sort(key=lambda one: one[0], reverse=True)
    if not chosen:
        raise max(errors, key=lambda error: (NONE_SUITS not in error.found, len(error.found)))
    if len(chosen) > 1 and chosen[0][0] - chosen[1][0] < _TIE:
        listed = [choice.scores[0] for _, choices in chosen for choice in choices]
        raise _error(f"{where}: series of two frames of reference suit equally", listed)
    return chosen[0][1]


def _is_damaged(volume: SeriesVolume) -> bool:
    """Return whether a series cannot be read, and is not of scouts or screens alone."""
    return volume.fault is not None and not volume.no_volume


def _hides_facts(volume: SeriesVolume, wanted: Sequence[Wanted], rule: Rule | None) -> bool:
    """Return whether damage may keep a series that is for the model from fulfilling a rule.

    A series without modality or number may be any. Of one whose images could not be read only that
    is known which it states; of one that forms no grid, as where a slice is lost, not the spacing.
    """
    if not (_is_damaged(volume) and any(may_be(volume, one) for one in wanted)):
        return False
    if rule is None or not volume.modality or not (volume.number or volume.instances):
        return True
    facts, unknown = volume.facts, {"spacing"} if volume.geometry is None else set()
    if not volume.instances:
        unknown |= {"slices"} | {name for name, fact in facts.items() if not fact and name != "uid"}
    return rule.may_fit({name: fact for name, fact in facts.items() if name not in unknown})


def _choose_one(
    volumes: Sequence[SeriesVolume], wanted: Wanted, where: str, judge: Judge | None
) -> Choice:
    """Choose the volume of one channel."""
    scores = rank(volumes, wanted)
    suited = [one for one in scores if not one.excluded]
    if not suited:
        damaged = any(_is_damaged(one) and may_be(one, wanted) for one in volumes)
        what = "no series that can be read suits" if damaged else NONE_SUITS
        raise _error(f"{where}: {what} channel {wanted.name}", scores)
    best = [one for one in suited if suited[0].points - one.points < _TIE]
    if len(best) > 1 and judge is not None and len(best) <= _JUDGED:
        judged = [(len(unlike := judge(one.volume)), one, unlike) for one in best]
        judged.sort(key=lambda one: one[0])
        scores = (
            *(
                replace(
                    one,
                    reasons=(
                        *one.reasons,
                        f"unlike the training images: {'; '.join(unlike)}" if unlike else "alike",
                    ),
                )
                for _, one, unlike in judged
            ),
            *(one for one in scores if one not in best),
        )
        best = [one for one, other in zip(scores, judged, strict=False) if other[0] == judged[0][0]]
    if len(best) > 1:
        found = f"{where}: {len(best)} series suit channel {wanted.name} equally well"
        raise _error(found, scores, cure=_by_phase(best))
    if len(volumes) == 1:
        because = "it is the only one"
    elif len(suited) == 1:
        because = "no other can be taken"
    else:
        because = best[0].words
    return Choice(wanted.name, best[0].volume, because, scores)


def _by_phase(best: Sequence[Score]) -> str:
    """Say how to choose between series that differ in the phase of the contrast agent; "" else.

    Which phase a model wants is nowhere stated but in the name of its channel, so none is taken.
    """
    phases = [one.volume.phase for one in best]
    if len({*phases} - {"", WITH_CONTRAST}) < len(phases):
        return ""
    rules = " or ".join(f"series={f'phase={phase}'!r}" for phase in phases)
    return f"choose the phase: {rules}; a channel of the model that is named so takes it by itself"


def _error(
    found: str, scores: Sequence[Score], *, scored: bool = True, cure: str = ""
) -> DataError:
    """Make an error that lists candidates, with their points where they have some."""
    lines = [
        f"  {one.volume.choice}: {one.volume.modality or '?'} {one.volume.title},"
        f" {counted(one.volume.slices, 'slice')}"
        + (f": {one.excluded}" if one.excluded else "")
        + (f", {one.points:.3g} points: {one.words}" if scored and not one.excluded else "")
        for one in scores
    ]
    usable = next((one.volume for one in scores if not one.excluded), None)
    return DataError(
        "\n".join([found, *lines]),
        needed="one series that suits clearly",
        cure=cure
        or (
            "export the series again, or use a model for what is there"
            if usable is None
            else f"choose one: series={usable.choice!r}, or a rule such as"
            " series='description~WORD'"
        ),
    )
