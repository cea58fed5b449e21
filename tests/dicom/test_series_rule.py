"""Rules that name a series, and what they say where they cannot be read."""

from __future__ import annotations

import pytest

from hilum.dicom.rule import FACTS, parse_rule
from hilum.errors import UsageError

PORTAL = dict.fromkeys(FACTS) | {
    "modality": "CT",
    "number": 3.0,
    "description": "Abdomen Portal Venous 2.0",
    "kernel": "B30f",
    "orientation": "axial",
    "slices": 119.0,
    "spacing": 2.0,
    "uid": "1.2.840.113619.2.55",
    "key": "acq2",
}


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ("3", True),
        ("4", False),
        ("3/acq2", True),
        ("3/acq1", False),
        ("2.25.7", False),
        ("1.2.840.113619.2.55", True),
        ("1.2.840.113619.2.56", False),
        ("1.2.840.113619.2.55/acq2", True),
        ("1.2.840.113619.2.55/acq1", False),
        ("description~portal and slices>50", True),
        ("DESCRIPTION ~ PORTAL AND slices > 119", False),
        ("kernel=b30F", True),
        ("kernel!=b30f", False),
        ("kernel=b70f or orientation=axial", True),
        ("kernel=b30f and orientation=coronal or slices>=119", True),
        ("kernel=b70f and (orientation=coronal or slices>=119)", False),
        ("not kernel=b70f", True),
        ("not not (kernel = b70f)", False),
        ('description="abdomen portal venous 2.0"', True),
        ("description~'portal ven'", True),
        ("description!~portal", False),
        ("spacing=2", True),
        ("spacing<=1.99", False),
        ("number=3", True),
        ("contrast=agent", False),
        ("contrast!=agent", True),
        ("bvalue>0", False),
        ("bvalue=''", True),
    ],
)
def test_rules_are_read_as_written(rule, fits):
    assert parse_rule(rule).fits(PORTAL) is fits


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("", r"the end at character 1 of ''\nNeeded: a fact"),
        ("kernl=B30f", r"'kernl' at character 1 .*\n.*\n?Cure: did you mean kernel\?"),
        ("colour=red", r"'colour' at character 1 of[^\n]*\nNeeded: one of modality, number"),
        ("slices>many", r"'many' after > at character 8 [^\n]*\nNeeded: a number"),
        ("slices 5", r"'5' at character 8 [^\n]*\nNeeded: an operator"),
        ("slices>", r"the end at character 8 [^\n]*\nNeeded: a value"),
        ("(slices>5", r"no closing parenthesis at character 10 "),
        ("slices>5 kernel=x", r"'kernel' at character 10 [^\n]*\nNeeded: and, or, or the end"),
        ("slices>5 and", r"the end at character 13 "),
        ("kernel='B30", r'"\'" at character 8 '),
        ("and=3", r"'and' at character 1 "),
    ],
)
def test_a_rule_that_is_none_is_refused_with_its_place(rule, message):
    with pytest.raises(UsageError, match=message):
        parse_rule(rule)
