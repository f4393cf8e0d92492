"""Sizes, durations and modes as a spec writes them, in units of the model."""

from __future__ import annotations

import re
from fractions import Fraction

SECOND = 1_000_000_000
_UNITS = {"h": 3600 * SECOND, "m": 60 * SECOND, "s": SECOND, "ms": 10**6, "us": 10**3, "ns": 1}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:h|ms|m|us|ns|s))+")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|us|ns|s)")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_SIZE = re.compile(r"([0-9]+)([kmgt]?)", re.IGNORECASE)
# s64 nanoseconds, ktime_t: 292 years.
MAX_DURATION = (1 << 63) - 1


def parse_duration(value: float | str) -> int:
    """Nanoseconds of ``1m30s``, ``500ms``, ``-5s`` or a number of seconds.

    Raises ValueError for anything else, and for more than 292 years.
    """
    text = str(Fraction(str(value))) if isinstance(value, float) else str(value)
    sign, text = (-1, text[1:]) if text.startswith("-") else (1, text)
    if isinstance(value, float) or _NUMBER.fullmatch(text):
        total = Fraction(text) * SECOND
    elif _DURATION.fullmatch(text):
        total = sum((Fraction(n) * _UNITS[unit] for n, unit in _PART.findall(text)), Fraction(0))
    else:
        raise ValueError(f"{value} is no duration")
    if total > MAX_DURATION:
        raise ValueError(f"{value} is more than 292 years")
    return sign * int(total)


def parse_size(value: int | str) -> int:
    """Bytes of a number or ``64k``, ``512m``, ``2g`` (powers of 1024); raises ValueError."""
    match = _SIZE.fullmatch(str(value))
    if match is None:
        raise ValueError(f"{value} is no size")
    return int(match[1]) << (10 * " kmgt".index(match[2].lower() or " "))


def parse_mode(text: str) -> int:
    """Permission bits of an octal text such as ``0755``; raises ValueError above 07777."""
    if not re.fullmatch(r"[0-7]{1,5}", text) or int(text, 8) > 0o7777:
        raise ValueError(f"{text} is no mode")
    return int(text, 8)
