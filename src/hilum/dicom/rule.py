"""Rules by which a user names a series: a UID, a number, or an expression over its facts.

The grammar, in which letter case of words and facts does not count::

    rule    = NUMBER[/KEY] | UID[/KEY] | either
    either  = both { "or" both }
    both    = single { "and" single }
    single  = "not" single | "(" either ")" | test
    test    = FACT OPERATOR VALUE
    NUMBER  = of the series; KEY: of a group in it, as `hilum series` lists them
    FACT    = a name of FACTS
    OPERATOR= "=" | "!=" | "~" (contains) | "!~" | "<" | "<=" | ">" | ">="
    VALUE   = text without blanks and parentheses, or text between quotes

``description~portal and slices>50``, ``kernel=B30f``, ``orientation=axial and not type~derived``.
Numbers are compared as numbers, texts without letter case. A fact that a series does not state
fulfils only "!=" and "!~".
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from hilum.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Facts = Mapping[str, str | float | None]
    """Facts of a series by their names in `FACTS`; None where it does not state one. One that is
    not known, as of a damaged file, is left out."""
    Test = Callable[[Facts], float]

FACTS = {
    "modality": "CT, MR, PT, ...",
    "number": "of the series",
    "description": "of the series",
    "protocol": "name of the protocol",
    "body": "part of the body",
    "type": "of the images: ORIGINAL PRIMARY AXIAL",
    "orientation": "axial, coronal, sagittal, oblique",
    "kernel": "of the CT reconstruction",
    "contrast": "name of the contrast agent; none where none was given",
    "phase": "of the contrast agent in CT: native, arterial, portal, delayed; contrast: not known",
    "echo": "number of the echo",
    "bvalue": "s/mm2",
    "slices": "how many",
    "spacing": "mm between slices",
    "pixel": "mm between pixels",
    "uid": "of the series",
    "key": "of the group in its series",
}
"""Attributes that a rule may test."""
ANY = "slices>0"
"""Rule that every series fulfils: the model's wishes then count even where a study has only one."""
_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"[^"]*"|'[^']*')|(?P<op>!=|!~|<=|>=|=|~|<|>)|(?P<bracket>[()])"""
    r"""|(?P<word>[^\s()=~<>!"']+))"""
)
_UID = re.compile(r"\d+(?:\.\d+){2,}(?:/[\w.-]+)?")
_NUMBER = re.compile(r"\d+(?:/[\w.-]+)?")
_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS = {"and", "or", "not"}
_UNKNOWN = 0.5  # of a test, between False and True: "or" is the most, "and" the least


@dataclass(frozen=True)
class Rule:
    """A rule as it was typed, and the test that it means."""

    text: str
    test: Test

    def fits(self, facts: Facts) -> bool:
        """Return True if a series with these facts fulfils the rule."""
        return self.test(facts) > _UNKNOWN

    def may_fit(self, facts: Facts) -> bool:
        """Return False if a series does not fulfil it, whatever the facts are that are left out."""
        return self.test(facts) > 0


@dataclass(frozen=True)
class _Token:
    """A word, operator, parenthesis or quoted text of a rule, and where it begins."""

    kind: str
    text: str
    at: int


def parse_rule(text: str) -> Rule:
    """Read a rule.

    Raises:
        UsageError: it is none; the place is told.
    """
    whole = text.strip()
    if _UID.fullmatch(whole):
        uid, _, key = whole.partition("/")
        return Rule(text, lambda facts: facts["uid"] == uid and key in {"", facts.get("key", key)})
    if _NUMBER.fullmatch(whole):
        number, _, key = whole.partition("/")
        return Rule(
            text,
            lambda facts: facts["number"] == float(number) and key in {"", facts.get("key", key)},
        )
    return Rule(text, _Parser(text).whole())


class _Parser:
    """A rule that is being read, token by token."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._tokens_of(text)
        self._next = 0

    def whole(self) -> Test:
        """Read a rule to its end."""
        test = self._either()
        if self._next < len(self._tokens):
            raise self._error(f"{self._tokens[self._next].text!r}", "and, or, or the end")
        return test

    def _tokens_of(self, text: str) -> list[_Token]:
        """Split a rule into words, operators, brackets and quoted values."""
        tokens, at = [], 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                start = at + len(text[at:]) - len(text[at:].lstrip())
                raise _error(text, start, f"{text[start]!r}", "a fact, an operator or a value")
            kind = found.lastgroup
            tokens.append(_Token(kind, found[kind], found.start(kind)))
            at = found.end()
        return tokens

    def _either(self) -> Test:
        tests = [self._both()]
        while self._take_word("or"):
            tests.append(self._both())
        return lambda facts: max(test(facts) for test in tests)

    def _both(self) -> Test:
        tests = [self._single()]
        while self._take_word("and"):
            tests.append(self._single())
        return lambda facts: min(test(facts) for test in tests)

    def _single(self) -> Test:
        """Read "not" and what follows, a rule in parentheses, or one test."""
        if self._take_word("not"):
            inner = self._single()
            return lambda facts: 1 - inner(facts)
        if self._take("bracket", "("):
            inner = self._either()
            if not self._take("bracket", ")"):
                raise self._error("no closing parenthesis", ")")
            return inner
        return self._test()

    def _test(self) -> Test:
        """Read one test: a fact, an operator and a value."""
        fact = self._expect("word", "a fact", "description, modality, slices, ...")
        name = fact.text.lower()
        if name not in FACTS or name in _WORDS:
            near = get_close_matches(name, FACTS, n=1)
            cure = f"did you mean {near[0]}?" if near else ""
            raise _error(self._text, fact.at, f"{fact.text!r}", f"one of {', '.join(FACTS)}", cure)
        sign = self._expect("op", "an operator", "=, !=, ~, !~, <, <=, >, >=").text
        if self._next < len(self._tokens) and self._tokens[self._next].kind == "quoted":
            value = self._expect("quoted", "a value", "")
            return _comparison(name, sign, value.text[1:-1], self._text, value.at)
        value = self._expect("word", "a value", "a number, a word, or text between quotes")
        return _comparison(name, sign, value.text, self._text, value.at)

    def _expect(self, kind: str, what: str, needed: str) -> _Token:
        """Take a token of this kind."""
        if self._next == len(self._tokens):
            raise self._error("the end", f"{what}: {needed}")
        token = self._tokens[self._next]
        if token.kind != kind:
            raise self._error(f"{token.text!r}", f"{what}: {needed}")
        self._next += 1
        return token

    def _take(self, kind: str, text: str) -> bool:
        """Take the next token if it is this one."""
        here = self._tokens[self._next] if self._next < len(self._tokens) else None
        if here is None or here.kind != kind or here.text.lower() != text:
            return False
        self._next += 1
        return True

    def _take_word(self, text: str) -> bool:
        return self._take("word", text)

    def _error(self, found: str, needed: str) -> UsageError:
        at = self._tokens[self._next].at if self._next < len(self._tokens) else len(self._text)
        return _error(self._text, at, found, needed)


def _comparison(name: str, sign: str, value: str, text: str, at: int) -> Test:
    """Make the test of one fact, which a series may leave out as not known."""
    known = _known_comparison(name, sign, value, text, at)
    return lambda facts: known(facts) if name in facts else _UNKNOWN


def _known_comparison(name: str, sign: str, value: str, text: str, at: int) -> Test:
    """Make the test of one fact that is known."""
    if sign in _ORDER:
        number, compare = _number(value), _ORDER[sign]
        if number is None:
            raise _error(text, at, f"{value!r} after {sign}", "a number")
        return lambda facts: (own := _number(facts[name])) is not None and compare(own, number)
    wanted = value.strip().lower()
    if sign in {"~", "!~"}:
        return lambda facts: (wanted in _plain(facts[name])) == (sign == "~")
    return lambda facts: _is_same(facts[name], wanted) == (sign == "=")


def _is_same(own: str | float | None, wanted: str) -> bool:
    """Compare as numbers where both are, else as texts without letter case."""
    number = _number(wanted)
    if number is not None and (mine := _number(own)) is not None:
        return mine == number
    return _plain(own) == wanted


def _plain(value: str | float | None) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else value.strip().lower()


def _number(value: str | float | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def _error(text: str, at: int, found: str, needed: str, cure: str = "") -> UsageError:
    """Make the error for a rule that is none, with its place."""
    return UsageError(
        f"the rule for the series cannot be read: {found} at character {at + 1} of {text!r}",
        needed=needed,
        cure=cure or "e.g. series='description~portal', a number as series='3', or a series' UID",
    )
