"""Plain YAML scalars by the YAML 1.2 core schema, whatever PyYAML's default is."""

from __future__ import annotations

import re

Scalar = str | int | float | bool | None

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "True", "TRUE"))
_FALSE = frozenset(("false", "False", "FALSE"))
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(?:inf|Inf|INF)")
_NAN = frozenset((".nan", ".NaN", ".NAN"))
# No setting takes more digits; CPython refuses to convert more than 4300 of them.
MAX_DIGITS = 100


class NumberTooLong(ValueError):
    """A number of more than MAX_DIGITS characters."""


def resolve(text: str) -> Scalar:
    """The value of the plain scalar ``text``; raises :class:`NumberTooLong`.

    ``0755`` is the decimal 755 (octal is ``0o755``); ``yes`` and ``no`` are strings.
    """
    if text in _NULL:
        return None
    if text[0] not in "+-.0123456789tTfF":
        return text
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    return _number(text)


def _number(text: str) -> Scalar:
    for pattern, base in ((_INT, 10), (_OCTAL, 8), (_HEX, 16)):
        if pattern.fullmatch(text):
            if len(text) > MAX_DIGITS:
                raise NumberTooLong
            return int(text[2:] if base != 10 else text, base)
    if _FLOAT.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise NumberTooLong
        return float(text)
    if _INFINITY.fullmatch(text):
        return float(text.replace(".", ""))
    return float("nan") if text in _NAN else text
