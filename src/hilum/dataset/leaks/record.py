"""Records of a leak audit."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hilum.errors import counted, some

LEAK_AUROC = 0.95
"""From this AUROC on, a column that is not the label itself tells nearly everything: the label
leaks."""

_SHOWN = 3


class Pair(BaseModel):
    """Two cases with the same image, or nearly so.

    Args:
        one: id of a case.
        other: id of the other.
        kind: "exact" (the very same voxels), "near" (grey scale, noise, compression, size, turned,
            a part of it), or "mirrored".
        likeness: the correlation that three quarters of the parts of both images reach, or of the
            whole where noise hides the parts; 1 for the very same voxels.
        how: what makes the other of the one, in words ("mirrored, 1.20 times the size"); "" where
            nothing but the values differ.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    one: str
    other: str
    kind: Literal["exact", "near", "mirrored"]
    likeness: float = Field(ge=0, le=1.0001)
    how: str = ""


class Predictor(BaseModel):
    """Accuracy with which one column alone tells one class, without the image.

    Args:
        column: its name.
        origin: "table" (a further column), or "image" (what the file says of itself: its size,
            spacing, format).
        target: the class, finding or grade that it tells, in words.
        auroc: out of fold, patients and near-duplicates kept together.
        low: lower end of the 95 % interval (DeLong, by patient).
        high: upper end.
        surely_above: lower end of an interval that holds for all columns and classes at once
            (Bonferroni).
        cases: how many.
        restates: whether the column is named like a label, or like another reader's opinion of the
            same image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str
    origin: Literal["table", "image"]
    target: str
    auroc: float
    low: float
    high: float
    surely_above: float
    cases: int
    restates: bool

    @property
    def verdict(self) -> Literal["restates", "leak", "predicts"]:
        """The label restated, a leak (AUROC of at least 0.95), or a column to report."""
        if self.auroc < LEAK_AUROC:
            return "predicts"
        return "restates" if self.restates else "leak"

    @property
    def sentence(self) -> str:
        """A statement of how well the column alone tells the class."""
        what = f"the {'column ' if self.origin == 'table' else ''}{self.column}"
        area = f"AUROC {self.auroc:.3f} ({self.low:.3f} to {self.high:.3f})"
        return f"{what} alone tells {self.target}: {area}"


class SharedPatient(BaseModel):
    """A patient on both sides of a split, and the cases."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patient: str
    cases: tuple[str, ...]


class Audit(BaseModel):
    """Causes that could make a data set's scores better than they will be on new patients.

    Args:
        compared: cases whose images were compared.
        pairs: duplicates and near-duplicates; of many copies of one image not every pair is named.
        groups: near-duplicates that hang together, sorted: `make_folds(together=...)` keeps each in
            one fold.
        split_groups: the groups that have cases on both sides of the split in question.
        harmless_groups: the groups of one patient and one label on one side of it: folds keep them
            together anyway.
        split_patients: the patients that have.
        predictors: columns that alone tell a class surely better than chance, best first.
        notes: what was not looked at, and why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    compared: int
    pairs: tuple[Pair, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    split_groups: tuple[tuple[str, ...], ...] = ()
    harmless_groups: tuple[tuple[str, ...], ...] = ()
    split_patients: tuple[SharedPatient, ...] = ()
    predictors: tuple[Predictor, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """Sentences for the user, the worst first.

        () where nothing was found and everything was compared. Near-duplicates of one patient, such
        as a follow-up, harm nothing and need none.
        """
        found = []
        if self.split_patients:
            names = some(shared.patient for shared in self.split_patients)
            count = counted(len(self.split_patients), "patient")
            found.append(f"{count} on both sides of the split: {names}")
        if self.split_groups:
            groups = some((" = ".join(group[:_SHOWN]) for group in self.split_groups), shown=2)
            count = f"{counted(len(self.split_groups), 'group')} of near-duplicates"
            found.append(f"{count} on both sides of the split: {groups}")
        found += [one.sentence for one in self.predictors if one.verdict == "leak"]
        exact = {pair.one for pair in self.pairs if pair.kind == "exact"}
        told = [one for one in self.groups if one not in self.harmless_groups or exact & {*one}]
        if told:
            cases = {case for group in told for case in group}
            pairs = [pair.kind for pair in self.pairs if pair.one in cases]
            kinds = [
                f"{pairs.count(kind)} {kind}" for kind in ("exact", "mirrored") if kind in pairs
            ]
            found.append(
                f"{len(cases)} of {self.compared} images are near-duplicates in"
                f" {counted(len(told), 'group')} ({counted(len(pairs), 'pair')}"
                f"{''.join(f', {kind}' for kind in kinds)})"
            )
        found += [one.sentence for one in self.predictors if one.verdict == "predicts"]
        restating = sorted({one.column for one in self.predictors if one.verdict == "restates"})
        if restating:
            verb = "restates" if len(restating) == 1 else "restate"
            found.append(f"{some(restating)} {verb} the label")
        return (*found, *self.notes)
