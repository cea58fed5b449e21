"""Private attributes that hold no identity, and are needed to read or measure an image."""

from __future__ import annotations

_SAFE: dict[tuple[int, str], frozenset[int]] = {
    (0x7053, "Philips PET Private Group"): frozenset({0x00, 0x09}),
    (0x00E1, "ELSCINT1"): frozenset({0x21, 0x50}),
    (0x01E1, "ELSCINT1"): frozenset({0x26}),
    (0x01F1, "ELSCINT1"): frozenset({0x01, 0x07, 0x26, 0x27}),
    (0x0019, "GEMS_ACQU_01"): frozenset({0x23, 0x24, 0x27, 0x9E}),
    (0x0043, "GEMS_PARM_01"): frozenset({0x27}),
    (0x0045, "GEMS_HELIOS_01"): frozenset({0x01, 0x02}),
    (0x2001, "Philips Imaging DD 001"): frozenset({0x01, 0x02, 0x03, 0x04, 0x08, 0x0A, 0x0B})
    | frozenset({*range(0x11, 0x1A), 0x1B, 0x22, 0x23, 0x2D, 0x32, 0x33, 0x35, 0x36}),
    (0x2005, "Philips MR Imaging DD 001"): frozenset({0x0D, 0x0E}),
}
"""Rows of table E.3.10-1 of PS3.15 (2026d) by group and creator; the rest of its about 400, which
says nothing about geometry, units or contrast, is removed like every other private attribute."""


def is_safe(tag: int, creator: str) -> bool:
    """Return True for a private attribute that may stay; its creator's element is not asked for."""
    elements = _SAFE.get((tag >> 16, creator.strip()))
    return elements is not None and tag & 0xFF in elements
