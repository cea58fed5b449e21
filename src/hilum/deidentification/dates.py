"""Dates, date-times and ages of a patient: moved by whole days, or made coarser."""

from __future__ import annotations

import re
from datetime import date, timedelta

_DATE = re.compile(r"(\d{4})(\.?)(\d{2})\2(\d{2})")
_DATE_TIME = re.compile(r"(\d{4})(\d{2})?(\d{2})?((?:\d{2}){0,3}(?:\.\d{1,6})?)([+-]\d{4})?")
_AGE = re.compile(r"(\d{3})Y")
_OLDEST = 89


def shift_date(text: str, days: int) -> str | None:
    """Move a date (DA: 20260131, or 2026.01.31 of old files) by days; None where it is no date.

    >>> shift_date("20260301", -1)
    '20260228'
    """
    found = _DATE.fullmatch(text.strip(" \0"))
    if found is None:
        return None
    moved = _shift(int(found[1]), int(found[3]), int(found[4]), days)
    return None if moved is None else found[2].join((moved[:4], moved[4:6], moved[6:]))


def shift_date_time(text: str, days: int) -> str | None:
    """Move a date-time (DT) by days; time and zone stay, and a missing month or day stays missing.

    >>> shift_date_time("20260301101500.5+0100", -1)
    '20260228101500.5+0100'
    """
    found = _DATE_TIME.fullmatch(text.strip(" \0"))
    if found is None or (found[4] and not found[3]):
        return None
    year, month, day, time, zone = found.groups(default="")
    moved = _shift(int(year), int(month or 1), int(day or 1), days)
    if moved is None:
        return None
    return moved[: len(year + month + day)] + time + zone


def _shift(year: int, month: int, day: int, days: int) -> str | None:
    """Return the date that lies days after one, as eight digits; None where either is no date."""
    try:
        moved = date(year, month, day) + timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return f"{moved.year:04d}{moved.month:02d}{moved.day:02d}"


def limit_age(text: str) -> str:
    """Return an age (AS); more than 89 years become 090Y, as few people are so old.

    >>> limit_age("101Y")
    '090Y'
    """
    found = _AGE.fullmatch(text.strip(" \0"))
    return "090Y" if found is not None and int(found[1]) > _OLDEST else text
