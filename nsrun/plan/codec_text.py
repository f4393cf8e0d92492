"""JSON text with nothing left to chance: stable output, strict input, places for errors."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

# A plan holds the contents of `files`; one over this is no plan but an attempt to eat memory.
MAX_CHARACTERS = 64 * 1024 * 1024

Path = Sequence[str | int]

_SPACE = re.compile(r"[ \t\r\n]*")
# What a terminal acts on, what reorders a line, and half a surrogate pair, which UTF-8
# cannot hold. json.dumps has escaped U+0000 to U+001F itself; a newline outside strings stays.
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


class TextError(Exception):
    """The text is not what it should be; ``position`` counts characters from 0.

    Of what the parser does not place itself, the place is the start of the text.
    """

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


def write_json(value: object, *, compact: bool = False) -> str:
    """``value`` as JSON that is safe on a terminal and always encodes to UTF-8: indented, or
    ``compact`` in one line, which the C encoder of json writes in a tenth of the time.

    Keys keep the order they have, so equal values give equal text. A byte of a path that is
    not UTF-8 is a lone surrogate (surrogateescape) and is written as ``\\udcXX``.
    """
    text = json.dumps(
        value,
        indent=None if compact else 2,
        separators=(",", ":") if compact else None,
        ensure_ascii=False,
        allow_nan=False,
    )
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text) + "\n"


def read_json(text: str) -> Any:
    """The value of a JSON text. Raises TextError; twice the same key and NaN are errors."""
    if len(text) > MAX_CHARACTERS:
        raise TextError(f"the text is longer than {MAX_CHARACTERS} characters")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        message = error.msg[:1].lower() + error.msg[1:]
        raise TextError(f"not JSON: {message}", error.pos) from None
    except RecursionError:
        raise TextError("the text is nested too deeply") from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise TextError(f"not JSON: {str(error).partition(';')[0].lower()}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise TextError(f"key {quoted(key)} is given twice")
            seen.add(key)
    return found


def _no_constant(name: str) -> Any:
    raise TextError(f"not JSON: {name} is no number")


def quoted(text: str) -> str:
    """``text`` between quotes for a message, cut when long; nothing in it can act on a terminal."""
    cut = text if len(text) <= 40 else f"{text[:39]}…"
    safe = "".join(c if unicodedata.category(c)[0] != "C" else ascii(c)[1:-1] for c in cut)
    return f"`{safe}`"


def locate(text: str, path: Path) -> tuple[int, int]:
    """Line and column (from 1) where the value at ``path`` starts in a valid JSON text.

    A step that does not exist ends the walk: its container is the nearest place.
    """
    position = _skip(text, 0)
    for step in path:
        found = _member(text, position, step)
        if found is None:
            break
        position = found
    return place(text, position)


def place(text: str, position: int) -> tuple[int, int]:
    """Line and column, both from 1, of the character at ``position``."""
    start = text.rfind("\n", 0, position) + 1
    return text.count("\n", 0, position) + 1, position - start + 1


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _member(text: str, position: int, step: str | int) -> int | None:
    """Where member ``step`` of the object or array that starts at ``position`` starts."""
    is_object = text[position] == "{"
    if is_object != isinstance(step, str) or text[position] not in "{[":
        return None
    decoder = json.JSONDecoder()
    position = _skip(text, position + 1)
    count = 0
    while text[position] not in "}]":
        name: str | int = count
        if is_object:
            name, position = decoder.raw_decode(text, position)
            position = _skip(text, _skip(text, position) + 1)
        if name == step:
            return position
        _, position = decoder.raw_decode(text, position)
        position = _skip(text, position)
        if text[position] == ",":
            position = _skip(text, position + 1)
        count += 1
    return None
