"""The phase of the contrast agent in which a series of CT was taken: native, arterial, portal, ...

Words of the description count first; where it names no phase, those of the protocol, which may list
the phases of the whole examination; then the seconds between the start of the agent
(ContrastBolusStartTime) and the acquisition; then an agent that is stated. Nothing is concluded
from an agent that is not stated: many scanners leave it out.
"""

from __future__ import annotations

import re
import unicodedata

PHASES = ("native", "arterial", "portal", "delayed")
"""Phases in the order in which they are taken."""

WITH_CONTRAST = "contrast"
"""Word for a series with an agent whose phase is not known."""

_WITH = r"with|w|mit|avec|con|met|c/"
_WITHOUT = r"without|w/?o|no|ohne|sans|sin|senza|zonder|s/"
_AND = r"\W*(?:(?:and|und|et|y|e|en|or|oder|bzw|ou|o|of)\W+)?"
_AGENT = r"contrast\w*|kontrast\w*|km|mdc|m\.d\.c|mezzo|pdc|inj\w*|iv|civ|cte"
_WORDS = {
    "native": (
        r"nativ\w*|nc|ncct|plain|unenhanced|blanco|non[- ]?(?:con(?:trast\w*)?|inj\w*|enhanced)"
        rf"|(?:{_WITHOUT})[- ]?(?:(?:iv|i\.v\.|produit de|medio de) )?(?:{_AGENT})|o\.? ?km"
        rf"|(?:pre|prae?|vor|avant|antes de|prima del?)[- ]?(?:{_AGENT})"
        r"|(?:w/?o|without|ohne)(?= *$)|(?:fase|tc|tac) (?:basale|simple)"
    ),
    "arterial": r"arter\w*|art|aortic(?= phase)",  # aortic alone is an anatomy
    "portal": (
        r"porta+l\w*|porto\w*|(?:temps|phase) porte|ven|venous|venoe?s\w*|vei?neu\w*"
        r"|(?<!\bla.)pvp?(?! (?:ablat|isolat|mapp)\w*)"  # of the heart, PV are pulmonary veins
    ),
    "delayed": (
        r"delay\w*|late|laat|spae?t(?!ia)\w*|tardi\w*|verzoe?g\w*|equilib\w*"
        r"|gleichgewicht\w*|evenwicht\w*|e[xs]cret\w*|ausscheid\w*|uitscheid\w*|ne(?:ph|f)rogra\w*"
    ),
}
"""Words of a phase in English, German, French, Spanish, Italian and Dutch, without accents."""
_FOUND = {
    phase: re.compile(rf"(?:^|[^a-z0-9])(?:{words})(?=$|[^a-z])") for phase, words in _WORDS.items()
}
_NO_PHASE = re.compile(
    rf"\b(?:(?:{_WITH}){_AND}(?:{_WITHOUT})|(?:{_WITHOUT}){_AND}(?:{_WITH})"
    rf"|(?:{_WORDS['native']}) ?(?:[+/&][+/&-]*|(?:and|und|u\.?|et|y|e|en) ) ?"
    rf"(?:(?:{_WITH}|post|nach)[- ]?)?(?:{_AGENT})|arterio\W?v\w*)(?![a-z])"
)
"""Matches "with or without contrast", "native + contrast" and "arterio-venous"."""
_COMPOUND = re.compile(r"\b(spae?t|frue?h)(?=art|port|pv|ven)")
_LATE_ARTERIAL = re.compile(
    r"\b(?:late|laat|spae?t(?:e[nrs]?)?)[ -]art(?:er\w*)?\b|\barter\w* tardi\w*"
)
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
    found = _phases_in(words)
    return found[0] if len(found) == 1 else ""


def _phases_in(words: str) -> list[str]:
    """List the phases that a text names."""
    letters = unicodedata.normalize("NFKD", words.lower().replace("_", " "))
    text = "".join(letter for letter in letters if not unicodedata.combining(letter))
    text = _LATE_ARTERIAL.sub("arterial", _COMPOUND.sub(r"\1 ", _NO_PHASE.sub("", text)))
    return [phase for phase, pattern in _FOUND.items() if pattern.search(text)]


def phase_of(description: str, protocol: str, agent: str, *, bolus: str, acquired: str) -> str:
    """Return the phase of a series: a member of `PHASES`, `WITH_CONTRAST`, or "" for not known.

    Args:
        description: SeriesDescription.
        protocol: ProtocolName.
        agent: ContrastBolusAgent.
        bolus: ContrastBolusStartTime, HHMMSS.
        acquired: AcquisitionTime of its first slice.
    """
    named = phase_in(description if _phases_in(description) else protocol)
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
