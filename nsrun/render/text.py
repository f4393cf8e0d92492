"""Text for a terminal: nothing from a spec may act on it, and columns are cells, not characters."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"}
# Cc acts on the terminal, Cf reorders or hides text (bidirectional overrides, zero-width
# marks), Cs are the bytes that were not UTF-8, Zl and Zp start a line.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible_char(char: str) -> str:
    """``char`` itself, or an escape of it where it would act on a terminal."""
    if char.isprintable() or unicodedata.category(char) not in _UNSAFE:
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: the byte
        return f"\\x{code - 0xDC00:02x}"
    if char in _SHORT:
        return _SHORT[char]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def visible(text: str) -> str:
    """``text`` with everything that would act on a terminal escaped."""
    return "".join(map(visible_char, text)) if not text.isprintable() else text


def cells(text: str) -> int:
    """How many columns a terminal gives ``text`` (Unicode TR 11), which is already visible."""
    if text.isascii():
        return len(text)
    return sum(_char_cells(char) for char in text)


def _char_cells(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def pad(text: str, width: int) -> str:
    """``text`` with spaces to the right, up to ``width`` cells."""
    return text + " " * max(0, width - cells(text))


def pad_left(text: str, width: int) -> str:
    """``text`` with spaces to the left, up to ``width`` cells."""
    return " " * max(0, width - cells(text)) + text


def shorten(pieces: Iterable[str], limit: int, mark: str = "…") -> str:
    """``pieces`` joined, or their start and end around ``mark`` if that is over ``limit`` cells.

    A piece (a character or its escape) is never cut.
    """
    units = list(pieces)
    if sum(map(cells, units)) <= limit:
        return "".join(units)
    room = limit - cells(mark)
    head = room // 2
    return _fitting(units, head) + mark + _fitting(units[::-1], room - head, backwards=True)


def _fitting(units: list[str], limit: int, *, backwards: bool = False) -> str:
    taken: list[str] = []
    for unit in units:
        limit -= cells(unit)
        if limit < 0:
            break
        taken.append(unit)
    return "".join(reversed(taken) if backwards else taken)


def quoted(text: str, limit: int | None = None) -> str:
    """``text`` as a C string literal, at most ``limit`` cells between the quotes."""
    units = [f"\\{c}" if c in '"\\' else visible_char(c) for c in text]
    return f'"{"".join(units) if limit is None else shorten(units, limit)}"'


_ASCII = str.maketrans({"…": "...", "·": "-", "µ": "u"})


def in_ascii(text: str) -> str:
    """``text`` for a terminal that has only ASCII: its marks in ASCII, the rest escaped."""
    return text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(nanoseconds: int) -> str:
    """A time as a person writes it: ``1m30s``, ``500ms``, ``12µs``."""
    for size, unit in ((1_000_000, "ms"), (1_000, "µs"), (1, "ns")):
        if nanoseconds % 1_000_000_000 and nanoseconds % size == 0:
            return f"{nanoseconds // size}{unit}"
    seconds = nanoseconds // 1_000_000_000
    words = ((seconds // 3600, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s"))
    return "".join(f"{n}{unit}" for n, unit in words if n) or "0s"
