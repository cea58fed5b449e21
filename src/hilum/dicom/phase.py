"""The phase of the contrast agent in which a series of CT was taken: native, arterial, portal, ...

Words of description and protocol count first; then the seconds between the start of the agent
(ContrastBolusStartTime) and the acquisition; then an agent that is stated. Nothing is concluded
from an agent that is not stated: many scanners leave it out.
"""

from __future__ import annotations

import re

PHASES = ("native", "arterial", "portal", "delayed")
"""Phases in the order in which they are taken."""

WITH_CONTRAST = "contrast"
"""Word for a series with an agent whose phase is not known."""

_WORDS = {
    "native": (
        r"nativ\w*|native|nc|ncct|noncon|plain|unenhanced|non[- ]?(?:contrast|enhanced)"
        r"|without(?: iv)? contrast|w/?o(?: iv)? contrast|pre[- ]?contrast|ohne km"
    ),
    "arterial": r"arter\w*|art|aortic(?= phase)",  # aortic alone is an anatomy
    "portal": r"portal\w*|porto\w*|pv|pvp|ven|venous|venoes\w*|venös\w*",
    "delayed": r"delay\w*|equilibrium|excretory|late|spaet\w*|spät\w*|nephrographic",
}
_FOUND = {
    phase: re.compile(rf"(?:^|[^a-zäöü0-9])(?:{words})(?=$|[^a-zäöü])")
    for phase, words in _WORDS.items()
}
_LATE_ARTERIAL = re.compile(r"\b(?:late|sp[aä]e?t\w*)[ -]art")
_TIME = re.compile(r"(\d\d)(\d\d)(\d\d(?:\.\d+)?)")
_ARTERIAL_TO, _PORTAL_TO = (
    50.0,
    110.0,
)  # seconds after the start of the agent; portal is at 60 to 80
_DAY = 86_400  # seconds


def phase_in(words: str) -> str:
    """Return the phase that a text names; "" for none, or for several.

    "late arterial" is arterial, "portal venous" is portal, and "delayed", "arterial" is several.
    """
    text = words.lower().replace("_", " ")
    found = [phase for phase, pattern in _FOUND.items() if pattern.search(text)]
    if found == ["arterial", "delayed"] and _LATE_ARTERIAL.search(text):
        found = ["arterial"]
    return found[0] if len(found) == 1 else ""


def phase_of(words: str, agent: str, *, bolus: str, acquired: str) -> str:
    """Return the phase of a series: a member of `PHASES`, `WITH_CONTRAST`, or "" for not known.

    Args:
        words: description and protocol.
        agent: ContrastBolusAgent.
        bolus: ContrastBolusStartTime, HHMMSS.
        acquired: AcquisitionTime of its first slice.
    """
    named = phase_in(words)
    start, taken = _seconds(bolus), _seconds(acquired)
    if named or start is None or taken is None:
        return named or (WITH_CONTRAST if agent else "")
    passed = (taken - start + _DAY / 2) % _DAY - _DAY / 2  # midnight may lie between them
    if passed < 0:
        return "native"
    return "arterial" if passed < _ARTERIAL_TO else "portal" if passed < _PORTAL_TO else "delayed"


def _seconds(time: str) -> float | None:
    """Return the seconds of a day of HHMMSS.FFFFFF; None of anything else."""
    found = _TIME.match(time)
    return None if found is None else 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3])
