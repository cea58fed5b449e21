"""Decisions about intensities: normalisation and the order of interpolation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hilum.plan.plan import Decision, Normalisation

if TYPE_CHECKING:
    from hilum.plan.fingerprint import ChannelSummary, Fingerprint


def decide_normalisation(
    fingerprint: Fingerprint, *, cropped: bool
) -> Decision[tuple[Normalisation, ...]]:
    """CT by the data set's Hounsfield units under the annotation, everything else by the case."""
    chosen = [_of_channel(channel, cropped=cropped) for channel in fingerprint.channels]
    because = "; ".join(
        f"{channel.name}: {why}"
        for channel, (_, why) in zip(fingerprint.channels, chosen, strict=True)
    )
    return Decision(value=tuple(how for how, _ in chosen), because=because)


def decide_image_order(fingerprint: Fingerprint, *, resampled: bool) -> Decision[Literal[0, 1, 3]]:
    """Cubic splines for images (nnU-Net)."""
    if not resampled:
        return Decision(
            value=3,
            because=(
                f"none of the {len(fingerprint.cases)} cases needs it; a case that does gets cubic"
                " splines"
            ),
        )
    return Decision(value=3, because="cubic splines keep edges sharper than linear interpolation")


def _of_channel(channel: ChannelSummary, *, cropped: bool) -> tuple[Normalisation, str]:
    if channel.kind == "ct":
        seen = channel.foreground or channel.whole
        where = (
            "under the annotation"
            if channel.foreground
            else "of the whole images, because nothing is annotated"
        )
        how = Normalisation(
            kind="ct", lower=seen.p00_5, upper=seen.p99_5, mean=seen.mean, std=max(seen.std, 1e-6)
        )
        return (
            how,
            (
                f"CT, {channel.kind_because}; Hounsfield units are absolute, so clip to"
                f" {seen.p00_5:.4g} .. {seen.p99_5:.4g} (percentiles 0.5 and 99.5 {where}),"
                f" subtract {seen.mean:.4g}, divide by {seen.std:.4g}"
            ),
        )
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
