"""How a value stands in JSON: small forms, each an encoder and a strict decoder.

A decoder takes what a stranger may have written. It raises :class:`FormError` for anything
that is not exactly right; each level adds its own step to the error's path on the way out,
so that a good text costs nothing for the places it does not need.
"""

from __future__ import annotations

import dataclasses
import errno
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nsrun.plan.codec_text import quoted


class FormError(Exception):
    """A value that is not of its form; ``path`` is filled innermost step first."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.message = message
        self.path: list[str | int] = list(path)


@dataclass(frozen=True, slots=True)
class Form:
    """``encode`` turns a value of the plan into JSON data, ``decode`` turns it back."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def same(value: Any) -> Any:
    return value


def kind_of(value: object) -> str:
    """What JSON calls the type of ``value``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    names = {int: "a number", float: "a fraction", str: "a string", list: "a list"}
    return names.get(type(value), "an object")


# --- scalars -----------------------------------------------------------------------------------


def integer(low: int, high: int) -> Form:
    """A whole number from ``low`` to ``high``; a boolean is none."""

    def decode(value: Any) -> int:
        if type(value) is not int:
            raise FormError(f"a whole number is expected, not {kind_of(value)}")
        if not low <= value <= high:
            raise FormError(f"the number is not between {low} and {high}")
        return value

    return Form(same, decode)


def string(value: Any) -> str:
    """Any text whose lone surrogates stand for bytes (surrogateescape); raises FormError."""
    if type(value) is not str:
        raise FormError(f"a string is expected, not {kind_of(value)}")
    if any("\ud800" <= c <= "\udfff" and not "\udc80" <= c <= "\udcff" for c in value):
        raise FormError("the string holds half a surrogate pair")
    return value


def kernel_string(value: Any) -> str:
    """A string the kernel can be given: without NUL."""
    text = string(value)
    if "\0" in text:
        raise FormError("the string holds a NUL")
    return text


def matching(pattern: str, what: str) -> Form:
    """A string that ``pattern`` matches whole; ``what`` names it in the error."""
    compiled = re.compile(pattern)

    def decode(value: Any) -> str:
        text = string(value)
        if compiled.fullmatch(text) is None:
            raise FormError(f"{quoted(text)} is not {what}")
        return text

    return Form(same, decode)


def one_of(names: type[StrEnum]) -> Form:
    """A member of a StrEnum by its value."""

    def decode(value: Any) -> StrEnum:
        text = string(value)
        try:
            return names(text)
        except ValueError:
            known = ", ".join(member.value for member in names)
            raise FormError(f"{quoted(text)} is not one of {known}") from None

    return Form(lambda member: member.value, decode)


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise FormError(f"true or false is expected, not {kind_of(value)}")
    return value


def _errno_name(value: Any) -> str:
    text = string(value)
    if not text.startswith("E") or not isinstance(getattr(errno, text, None), int):
        raise FormError(f"{quoted(text)} is not the name of an errno")
    return text


S64_MIN, U64_MAX = -(2**63), 2**64 - 1
TEXT = Form(same, string)
KERNEL_STRING = Form(same, kernel_string)
BOOLEAN = Form(same, _boolean)
ERRNO = Form(same, _errno_name)
# A register's or a sync's name; `{` and `}` would break a format.
NAME = matching(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}", "a name")


# --- containers --------------------------------------------------------------------------------


def many(form: Form, *, at_most: int | None = None) -> Form:
    """A list of values of one form; a tuple in the plan."""

    def decode(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise FormError(f"a list is expected, not {kind_of(value)}")
        if at_most is not None and len(value) > at_most:
            raise FormError(f"the list has more than {at_most} members")
        found = []
        for index, member in enumerate(value):
            try:
                found.append(form.decode(member))
            except FormError as error:
                error.path.append(index)
                raise
        return tuple(found)

    return Form(lambda values: [form.encode(v) for v in values], decode)


def keys(value: Any, known: Mapping[str, object], required: frozenset[str]) -> dict[str, Any]:
    """``value`` as an object with no key outside ``known`` and all of ``required``."""
    if type(value) is not dict:
        raise FormError(f"an object is expected, not {kind_of(value)}")
    for name in value:
        if name not in known:
            raise FormError(f"unknown key {quoted(name)}", name)
    for name in known:
        if name in required and name not in value:
            raise FormError(f"key {quoted(name)} is missing")
    return value


Keys = Mapping[str, tuple[str, Form]]


def record(cls: type[Any], members: Keys, *, tag: tuple[str, str] | None = None) -> Form:
    """A dataclass as an object: JSON key to (attribute, form).

    An attribute that has its class's default is left out. ``tag`` is a key with a fixed value
    that comes first (``"op": "call"``).
    """
    defaults = {f.name: f.default for f in dataclasses.fields(cls)}
    required = frozenset(
        key for key, (name, _) in members.items() if defaults[name] is dataclasses.MISSING
    )
    known = {**({tag[0]: tag} if tag else {}), **members}

    def encode(value: Any) -> dict[str, Any]:
        found: dict[str, Any] = dict([tag]) if tag else {}
        for key, (name, form) in members.items():
            member = getattr(value, name)
            if member != defaults[name]:
                found[key] = form.encode(member)
        return found

    def decode(value: Any) -> Any:
        given = keys(value, known, required)
        arguments: dict[str, Any] = {}
        for key, (name, form) in members.items():
            if key in given:
                arguments[name] = member(form, given, key)
        return cls(**arguments)

    return Form(encode, decode)


def member(form: Form, given: Mapping[str, Any], key: str) -> Any:
    """``given[key]`` decoded, with ``key`` in the path of what is wrong with it."""
    try:
        return form.decode(given[key])
    except FormError as error:
        error.path.append(key)
        raise
