"""Points for how well a volume of a study suits a channel of a model, with reasons in words.

What a model wants is compared with what the series states: modality, words of the channel's name,
original or derived, kernel, spacing and field of view against those of the training images.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hilum.dicom.phase import PHASES, WITH_CONTRAST, phase_in
from hilum.errors import counted
from hilum.volume import reorient_geometry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hilum.dicom.study import SeriesVolume

KINDS = {
    "CT": "ct",
    "MR": "mr",
    "PT": "pet",
    "NM": "pet",
    "US": "us",
    "CR": "xray",
    "DX": "xray",
    "MG": "xray",
}
"""Kind of image by DICOM's modality."""
_HALF_FAR = math.log2(3)  # a spacing three times outside of the training images' loses all points
_FEW = 8  # slices below which a volume is probably no complete one
_B_VALUE = 500.0  # s/mm2 from which an image is called diffusion-weighted
_WEIGHTINGS = (
    *("flair", "t1", "t2", "dwi", "adc", "pd", "swi", "bold", "tof", "stir", "perfusion"),
    *("water", "fat", "inphase", "outphase", "phase", "fieldmap"),
)
"""Words by which images of MR differ: another one than the channel's speaks against a series."""
_ENHANCED = re.compile(r"(?:^|[\W_])(?:ce|c\+|gd|gad|post|km|contrast|enhanced)(?:$|[\W_])")
_T1_ENHANCED = re.compile(r"t1(?:w?c|w?ce|w?gd|c\+|_?post)$")
_NO_VOLUME = re.compile(
    r"\b(?:locali[sz]er|scout|survey|topogram|surview|scanogram|screen\s?save)\b"
)
_PROJECTION = re.compile(r"\b(?:mip|minip|projection|vrt|3d\s?render\w*|reformat\w*|mpr)\b")
_UNCORRECTED = re.compile(r"\b(?:nac|uncorrected|no[ _]?ac)\b")
_NO_MAGNITUDE = {"P", "PHASE", "R", "I", "REAL", "IMAGINARY"}
_NUMBERED_KERNEL = re.compile(r"[bhijqu][a-z]?(\d\d)")  # Siemens: B30f, Br40, I70f
_SHARP_KERNEL = re.compile(
    r"bl\d+|lung|bone|edge|detail|ultra|(?:l|d|e|yc|yd|ye)$|fc[3589]\d"
)  # Siemens' lung, GE, Philips, Canon
_SHARP_FROM = 50
_SHARP_ORGANS = re.compile(r"lung|nodul|bone|rib|vertebra|airway|bronch|emphys|covid|ggo")


@dataclass(frozen=True)
class Wanted:
    """The image that a model wants for one channel.

    Args:
        name: of the channel.
        kind: ct, mr, pet, us, xray; any other word: not known.
        single: whether the model learnt from single pictures; None: not known.
        spacing: mm along (Z, Y, X) of the training images, from ... to; None: not known.
        extent_mm: their field of view.
        orientation: of these axes.
        target: spacing at which the model works.
        purpose: names of the model and its labels, to tell whether sharp kernels suit it.
    """

    name: str
    kind: str = "unknown"
    single: bool | None = None
    spacing: tuple[tuple[float, float], ...] | None = None
    extent_mm: tuple[tuple[float, float], ...] | None = None
    orientation: str = "SPL"
    target: tuple[float, float, float] | None = None
    purpose: str = ""


@dataclass(frozen=True)
class Score:
    """Points of a volume for a channel.

    Args:
        volume: of a study.
        points: the more, the better.
        reasons: with their points.
        excluded: why it cannot be taken; "" where it can.
    """

    volume: SeriesVolume
    points: float = 0.0
    reasons: tuple[str, ...] = ()
    excluded: str = ""

    @property
    def words(self) -> str:
        """Its reasons in one line."""
        return self.excluded or "; ".join(self.reasons) or "nothing speaks for or against it"

    def plus(self, points: float, reason: str) -> Score:
        """Return the score with another reason."""
        text = f"{reason} ({points + 0.0:+.2g})"  # a sum is never -0
        return replace(self, points=self.points + points, reasons=(*self.reasons, text))


def rank(volumes: Iterable[SeriesVolume], wanted: Wanted) -> tuple[Score, ...]:
    """Score volumes for a channel, the best first and the excluded last."""
    scores = [score(volume, wanted) for volume in volumes]
    return tuple(sorted(scores, key=lambda one: (bool(one.excluded), -one.points)))


def may_be(volume: SeriesVolume, wanted: Wanted) -> bool:
    """Return whether a volume's modality is that of a channel, or one of the two is not known."""
    known = volume.modality and wanted.kind in KINDS.values()
    return not known or KINDS.get(volume.modality) == wanted.kind


def score(volume: SeriesVolume, wanted: Wanted) -> Score:
    """Score a volume for a channel."""
    kind = KINDS.get(volume.modality)
    known = wanted.kind in KINDS.values()
    excluded = ""
    if volume.fault is not None:
        excluded = volume.refused
    elif known and kind != wanted.kind:
        excluded = f"modality {volume.modality or 'not stated'}, not {wanted.kind.upper()}"
    elif wanted.single is False and volume.slices == 1:
        excluded = "a single image, where the model learnt from volumes"
    elif wanted.single and volume.slices > 1:
        excluded = f"a volume of {volume.slices} slices, where the model learnt from pictures"
    if excluded:
        return Score(volume, excluded=excluded)
    found = Score(volume)
    if known:
        found = found.plus(1, f"modality {volume.modality}")
    for reasons_of in (
        *(_of_weighting, _of_contrast, _of_phase, _of_making, _of_kernel, _of_grid, _of_slices),
    ):
        found = reasons_of(found, wanted)
    return found


def is_sharp(kernel: str) -> bool:
    """Return True for a kernel of CT that shows edges and noise, as for lung and bone."""
    name = kernel.split(maxsplit=1)[0].lower() if kernel.strip() else ""
    numbered = _NUMBERED_KERNEL.match(name)
    return bool(_SHARP_KERNEL.match(name)) or (
        numbered is not None and int(numbered[1]) >= _SHARP_FROM
    )


# --- reasons


def _of_weighting(found: Score, wanted: Wanted) -> Score:
    """Compare the weighting that the channel's name says with those that the series is named by."""
    own, volume = _weighting(wanted.name.lower()), found.volume
    words = _words_of(volume)
    theirs = [word for word in _WEIGHTINGS if _has(words, word)]
    if not own or wanted.kind not in {"mr", "unknown"}:
        return found
    if own in {"t1", "t2"} and "flair" in theirs:
        found = found.plus(-3, f"FLAIR, not {own.upper()}")
    elif own in theirs:
        found = found.plus(3, f"named {own.upper()}")
    elif theirs:
        found = found.plus(-3, f"named {', '.join(theirs)}, not {own}")
    if own == "dwi" and (volume.b_value or 0) >= _B_VALUE:
        found = found.plus(1, f"b-value {volume.b_value:g}")
    return found


def _of_contrast(found: Score, wanted: Wanted) -> Score:
    """Compare the contrast agent that a channel of MR is named by with what the series says."""
    volume, name = found.volume, wanted.name.lower()
    if volume.modality != "MR":
        return found
    enhanced = bool(_ENHANCED.search(_words_of(volume))) or bool(volume.contrast)
    if _T1_ENHANCED.search(re.sub(r"[\s-]", "", name)):
        return found.plus(2 if enhanced else -2, "with contrast" if enhanced else "native")
    if _weighting(name) == "t1" and enhanced:
        return found.plus(-2, "with contrast, where the channel's name says none")
    return found


def _of_phase(found: Score, wanted: Wanted) -> Score:
    """Compare the phase of CT that the channel's name says with that of the series.

    Where the name says none, the phase speaks neither for nor against a series.
    """
    own, theirs = phase_in(wanted.name), found.volume.phase
    words = f"{theirs} phase" if theirs in PHASES else "contrast agent, phase not known"
    if not theirs or not own:
        return found.plus(0, words) if theirs else found
    if theirs == WITH_CONTRAST:
        return found.plus(-3 if own == "native" else 1, words)
    return found.plus(3 if own == theirs else -3, words)


def _of_making(found: Score, wanted: Wanted) -> Score:
    """Count scouts, projections, phase images and derived ones against a series."""
    volume, own = found.volume, _weighting(wanted.name.lower())
    words = _words_of(volume)
    if volume.modality == "MR" and _NO_MAGNITUDE & {*volume.image_type} and own != "phase":
        found = found.plus(-4, "no magnitude images")
    if _NO_VOLUME.search(words):
        found = found.plus(-6, "named as a scout or screen")
    if _PROJECTION.search(words):
        found = found.plus(-3, "named as a projection or reformat")
    elif "DERIVED" in volume.image_type[:1] and own not in {"adc", "swi"}:
        found = found.plus(-1, "computed from other images (DERIVED)")
    if wanted.kind == "pet" and _UNCORRECTED.search(words):
        found = found.plus(-2, "not corrected for attenuation")
    return found


def _words_of(volume: SeriesVolume) -> str:
    """Return what a series is called, in small letters."""
    types = " ".join(volume.image_type)
    return f"{volume.description} {volume.protocol} {types}".lower().replace("_", " ")


def _has(words: str, word: str) -> bool:
    """Return True if a weighting is named: T1 in "t1w", "Ax T1 SE", but not in "t10"."""
    return bool(re.search(rf"(?<![a-z0-9]){word}(?![0-9])", words))


def _weighting(name: str) -> str:
    """Return the weighting that a channel's name says; "" where it says none."""
    return next((word for word in _WEIGHTINGS if _has(name, word)), "")


def _of_kernel(found: Score, wanted: Wanted) -> Score:
    """Prefer soft kernels of CT, but for lungs and bones."""
    kernel = found.volume.kernel
    if not kernel or found.volume.modality != "CT":
        return found
    if _SHARP_ORGANS.search(wanted.purpose.lower()):
        return found.plus(0, f"kernel {kernel}")
    sharp = is_sharp(kernel)
    return found.plus(-1 if sharp else 0.5, f"{'sharp' if sharp else 'soft'} kernel {kernel}")


def _of_grid(found: Score, wanted: Wanted) -> Score:
    """Compare spacing and field of view with those of the training images."""
    geometry = found.volume.geometry
    if geometry is None or wanted.spacing is None:
        return found.plus(0.5, "axial") if found.volume.plane == "axial" else found
    code = wanted.orientation
    turned = geometry if code == "source" else reorient_geometry(geometry, code)
    found = _of_range(found, "spacing", turned.spacing, wanted.spacing, 3.0)
    if wanted.extent_mm is not None:
        extents = [n * mm for n, mm in zip(turned.shape, turned.spacing, strict=True)]
        found = _of_range(found, "field of view", extents, wanted.extent_mm, 2.0)
    if wanted.target is None:
        return found
    own, target = turned.spacing[0], wanted.target[0]
    apart = abs(math.log2(own / target))
    reason = f"{own:.3g} mm along Z, where the model works at {target:.3g} mm"
    return found.plus(-round(min(1.0, apart / 2), 2), reason) if apart > 0.1 else found


def _of_range(
    found: Score,
    what: str,
    own: Sequence[float],
    ranges: Sequence[tuple[float, float]],
    points: float,
) -> Score:
    """Give points for values within ranges along (Z, Y, X), and take them for values outside."""
    off = [
        max(low / value, value / high, 1.0) for value, (low, high) in zip(own, ranges, strict=True)
    ]
    worst = max(off)
    if worst <= 1.01:
        shown = " x ".join(f"{value:.3g}" for value in own)
        return found.plus(points, f"{what} {shown} mm as in training")
    axis = off.index(worst)
    low, high = ranges[axis]
    share = max(-1.0, 1 - 2 * math.log2(worst) / _HALF_FAR)
    trained = " to ".join(dict.fromkeys((f"{low:.3g}", f"{high:.3g}")))
    reason = f"{what} {own[axis]:.3g} mm along {'ZYX'[axis]}, in training {trained} mm"
    return found.plus(round(points * share, 2), reason)


def _of_slices(found: Score, wanted: Wanted) -> Score:
    """Count few slices against a series."""
    few = found.volume.slices < _FEW and wanted.single is not True
    return found.plus(-2, f"only {counted(found.volume.slices, 'slice')}") if few else found
