"""Findings of the doctor, and the log of their corrections."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hilum.files import Readable

Severity = Literal["error", "warning", "note"]

KINDS: dict[str, str] = {
    "unreadable": "a file is missing, damaged or not of its kind",
    "channel-count": "a file holds another number of channels than the data set names",
    "channel-grid": "the channels of a case lie on different grids",
    "grid-rounding": "image and annotation differ by the rounding of a header",
    "grid-header": "same shape, but the annotation's header does not carry the image's grid",
    "grid-mismatch": "image and annotation lie on different grids",
    "picture-turn": "a picture is turned by its EXIF orientation, its annotation is not",
    "unknown-label": "the annotation holds labels that the label table does not know",
    "fractional-labels": "the annotation holds numbers that are not whole",
    "coloured-labels": "the annotation is a picture of colours",
    "layered-labels": "the annotation holds several layers",
    "palettes": "the palettes of annotations give one number several colours",
    "too-many-labels": "more labels than can be learnt",
    "no-labels": "no annotation holds a label",
    "empty-annotation": "nothing is annotated",
    "not-finite": "the image holds NaN or infinite values",
    "constant-image": "all voxels of an image are equal",
    "mask-overlap": "voxels that several masks of a case hold",
    "unused-image": "an image that no case uses",
    "orphan-image": "an image without annotation",
    "orphan-annotation": "an annotation without image",
    "duplicate-image": "the very same voxels as another case",
    "near-duplicate": (
        "images that are nearly the same: mirrored, turned, zoomed, compressed anew, or neighbours"
    ),
    "patient-leak": "one patient on both sides of the given split",
    "split-overlap": "one case on both sides of the given split",
    "odd-spacing": "a spacing far from that of the other cases",
    "odd-orientation": "another orientation than most cases",
    "unused-label": "a label of the table that no annotation holds",
    "rare-label": "a label that no training case of a fold holds",
    "rare-class": "a class with so few patients that folds cannot spread it",
    "label-leak": "a column, or the image file itself, alone tells the class nearly always",
    "confounder": "a column, or the image file itself, alone tells the class better than chance",
    "label-copy": "a column that restates the label",
    "not-audited": "what the leak audit did not look at",
    "header": "what had to be assumed or mended when reading a file",
    "assumption": "what had to be assumed when opening the data set",
}
"""Every kind of finding and its meaning."""


_WARNINGS = {
    *("picture-turn", "palettes", "empty-annotation", "constant-image", "unused-image"),
    *("orphan-image", "orphan-annotation", "duplicate-image", "near-duplicate", "odd-spacing"),
    *("unused-label", "rare-label", "rare-class", "confounder"),
}
_NOTES = {
    *("grid-rounding", "mask-overlap", "odd-orientation", "label-copy", "not-audited", "header"),
    "assumption",
}
_FIXABLE = {
    *("unreadable", "channel-count", "channel-grid", "grid-rounding", "grid-header", "not-finite"),
    *("fractional-labels", "orphan-image", "orphan-annotation", "patient-leak", "split-overlap"),
}
_CURES = {
    "unreadable": "restore the file from its origin, or leave the case out (--fix does)",
    "channel-count": (
        "store every case with the same channels, or leave the case out (--fix does)"
    ),
    "channel-grid": "--fix resamples it onto the first channel's grid",
    "grid-rounding": "nothing: hilum takes the image's grid; --fix writes it down for other tools",
    "grid-header": (
        "--fix gives it the image's grid, voxel by voxel: look at one case afterwards, it could"
        " still be flipped"
    ),
    "picture-turn": (
        "look at one of them: some tools draw on the picture as it is stored; turn the annotation"
        " if it does not fit"
    ),
    "coloured-labels": (
        'give each label its colour in a labels.json in the folder: {"labels": [{"id": 0, "name":'
        ' "background"}, {"id": 1, "name": "NAME", "colour": [255, 0, 0]}]}; colours between these,'
        " from smoothing or JPEG, must be removed first"
    ),
    "layered-labels": (
        "store one label map, an integer a voxel; where structures overlap, decide which one a"
        " voxel belongs to"
    ),
    "palettes": (
        "where a colour says what a label is, store RGB: --fix then gives each colour its label"
    ),
    "too-many-labels": "look whether it is an image that was taken for an annotation",
    "no-labels": "see what each annotation holds instead; annotate, or mend the files",
    "empty-annotation": (
        "nothing if the case is a healthy one; otherwise annotate it, or remove the case"
    ),
    "not-finite": "--fix sets them to the smallest finite value of their channel",
    "constant-image": "restore the image from its origin, or remove the case",
    "unused-image": (
        "correct their names or places, or name them in the table; nothing if they do not belong to"
        " the data set"
    ),
    "orphan-image": "correct the name, or remove the file (--fix counts it as unlabelled)",
    "orphan-annotation": "correct the name, or remove the file (--fix leaves it out)",
    "duplicate-image": "remove one of them (--fix keeps the first)",
    "near-duplicate": "nothing: they stay in one fold",
    "patient-leak": (
        "remove the split (hilum splits by patient), or --fix: it takes the patient's cases out of"
        " training"
    ),
    "split-overlap": "remove it from one side (--fix removes it from training)",
    "odd-spacing": "look whether the header is right; hilum resamples it to the plan's spacing",
    "odd-orientation": (
        "nothing if the header is right: hilum turns every case the same way; look at one of them"
    ),
    "unused-label": (
        "remove the label from the table, or add cases that have it: what is never seen cannot be"
        " learnt"
    ),
    "rare-label": "add cases that have it, join it with another label, or leave it out",
    "rare-class": (
        "add cases, join it with another class, or leave it out: what is so rare can be neither"
        " learnt nor judged"
    ),
    "label-leak": (
        "find out why: a network learns it in place of the disease; add cases of each class with"
        " the same value"
    ),
    "confounder": (
        "report it beside the network, which can learn it from the image: as a baseline, and"
        " figures within its values"
    ),
    "label-copy": (
        "nothing: it is not given to the network; leave it out of baselines and subgroups"
    ),
    "not-audited": "nothing if that is no concern",
}
"""The usual cure of each kind; the others are right as they are."""


class Finding(BaseModel):
    """One thing that is wrong or odd.

    Args:
        case: the case's id, "" where it concerns the data set.
        kind: a key of `KINDS`.
        severity: "error" (training would fail or the result could not be trusted), "warning" (look
            at it) or "note".
        found: what was found, with the file or the value.
        cure: what to do about it.
        fixable: whether `fix` can do it.
        others: ids of the other cases it concerns, where the cure needs them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    kind: str
    severity: Severity
    found: Readable
    cure: Readable
    fixable: bool = False
    others: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        kind: str,
        found: str,
        case: str = "",
        cure: str | None = None,
        *,
        severity: Severity | None = None,
        fixable: bool | None = None,
        others: tuple[str, ...] = (),
    ) -> Finding:
        """Make a finding with what is usual for its kind where nothing else is given."""
        usual: Severity = "warning" if kind in _WARNINGS else "note" if kind in _NOTES else "error"
        return cls(
            case=case,
            kind=kind,
            severity=severity or usual,
            found=found,
            cure=_CURES.get(kind, "nothing if that is right") if cure is None else cure,
            fixable=kind in _FIXABLE if fixable is None else fixable,
            others=others,
        )


class Fixed(BaseModel):
    """One thing that the corrected copy does differently from the source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    kind: str
    found: Readable
    done: str


class FixLog(BaseModel):
    """Log of a corrected copy; lies in it as fixes.json.

    Args:
        source: the data set that was read (and not changed).
        folder: the copy.
        layout: the copy's layout.
        cases: ids of the annotated cases in the copy.
        fixed: every change, in order of cases.
        left: errors and warnings that were not fixed and are still in the copy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = Field(default=1)
    source: Readable
    folder: Readable
    layout: str
    cases: tuple[str, ...]
    fixed: tuple[Fixed, ...]
    left: tuple[Finding, ...]
