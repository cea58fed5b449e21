"""Findings of the doctor, and the log of their corrections."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hilum.io import Readable

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
    def error(
        cls, case: str, kind: str, found: str, cure: str, *, fixable: bool = False
    ) -> Finding:
        """Make an error of a case, or of the data set where case is ""."""
        return cls(case=case, kind=kind, severity="error", found=found, cure=cure, fixable=fixable)

    @classmethod
    def warning(
        cls, case: str, kind: str, found: str, cure: str, *, fixable: bool = False
    ) -> Finding:
        """Make a warning of a case, or of the data set where case is ""."""
        return cls(
            case=case, kind=kind, severity="warning", found=found, cure=cure, fixable=fixable
        )

    @classmethod
    def note(cls, case: str, kind: str, found: str, cure: str, *, fixable: bool = False) -> Finding:
        """Make a note on a case, or on the data set where case is ""."""
        return cls(case=case, kind=kind, severity="note", found=found, cure=cure, fixable=fixable)


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
