"""Decisions about intensities: normalisation and the order of interpolation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hilum.plan.plan import Decision, Normalisation, decide

if TYPE_CHECKING:
    from hilum.plan.fingerprint import ChannelSummary, Fingerprint


def decide_normalisation(
    fingerprint: Fingerprint, *, cropped: bool
) -> Decision[tuple[Normalisation, ...]]:
    """Decide: CT by the data set's Hounsfield units under the annotation, the rest by the case."""
    chosen = [_of_channel(channel, cropped=cropped) for channel in fingerprint.channels]
    because = "; ".join(
        f"{channel.name}: {why}"
        for channel, (_, why) in zip(fingerprint.channels, chosen, strict=True)
    )
    return decide(tuple(how for how, _ in chosen), because)


def decide_image_order(fingerprint: Fingerprint, *, resampled: bool) -> Decision[Literal[0, 1, 3]]:
    """Decide how images are interpolated: always by cubic splines, as nnU-Net does.

    `resampled` is true if the plan changes their spacing, which the reason then says.
    """
    if not resampled:
        cases = len(fingerprint.cases)
        return decide(3, f"none of the {cases} cases needs it; a case that does gets cubic splines")
    return decide(3, "cubic splines keep edges sharper than linear interpolation")


def _of_channel(channel: ChannelSummary, *, cropped: bool) -> tuple[Normalisation, str]:
    """Decide how a channel is normalised: CT by its Hounsfield units, others by each case."""
    if channel.kind == "ct":
        values = channel.foreground or channel.whole
        lower, upper, mean, std = values.p00_5, values.p99_5, values.mean, values.std
        where = "under the annotation"
        if channel.foreground is None:
            where = "of the whole images, because nothing is annotated"
        how = Normalisation(kind="ct", lower=lower, upper=upper, mean=mean, std=max(std, 1e-6))
        why = (
            f"CT, {channel.kind_because}; Hounsfield units are absolute, so clip to {lower:.4g} .."
            f" {upper:.4g} (percentiles 0.5 and 99.5 {where}), subtract {mean:.4g}, divide by"
            f" {std:.4g}"
        )
        return how, why
    why = (
        f"{_NAMES[channel.kind]}, {channel.kind_because}; no absolute scale, so by each case's own"
        " mean and deviation"
    )
    if cropped and channel.kind in {"mr", "unknown"}:
        return Normalisation(kind="case_nonzero"), f"{why}, without the empty (zero) border"
    return Normalisation(kind="case"), why


_NAMES = {
    "mr": "MR",
    "pet": "PET",
    "us": "ultrasound",
    "xray": "X-ray",
    "rgb": "colour picture",
    "picture": "picture",
    "unknown": "unknown kind of image",
}
