"""The phrases that messages about a spec are made of."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from os.path import commonprefix

_LONGEST = 60


def quote(text: str, longest: int = _LONGEST) -> str:
    """``text`` between backticks, shortened, control characters escaped as in Python."""
    safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:longest])
    return f"`{safe}…`" if len(text) > longest else f"`{safe}`"


def quote_path(path: str) -> str:
    """A path between backticks, as long as a path can be (PATH_MAX, linux/limits.h)."""
    return quote(path, 4096)


def either(options: Sequence[str]) -> str:
    """``a, b or c``."""
    options = list(dict.fromkeys(options))
    if len(options) < 2:
        return "".join(options)
    return f"{', '.join(options[:-1])} or {options[-1]}"


def did_you_mean(word: str, known: Iterable[str], synonyms: dict[str, str] | None = None) -> str:
    """``did you mean `x`?`` for the nearest of ``known``, "" where none is near; what all begin
    with (``SCMP_ACT_``) makes none near."""
    options = list(known)
    other = (synonyms or {}).get(word.lower())
    if other is not None and other in options:
        return f"did you mean {quote(other)}?"
    asked = word[:_LONGEST].lower()
    words = [asked, *(option.lower() for option in options)]
    shared = commonprefix(words).rfind("_") + 1  # noqa: RUF071 - of words, not of paths
    lowered = {option.lower()[shared:]: option for option in options}
    close = difflib.get_close_matches(asked[shared:], lowered, 1)
    return f"did you mean {quote(lowered[close[0]])}?" if close else ""


def found(value: object, literal: str | None = None) -> str:
    """What ``value`` is, for ``found ...``; ``literal`` is how the file writes it."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return f"the string {quote(value)}"
        case bool():
            return quote(literal or str(value).lower())
        case _:
            return f"the number {quote(literal or str(value))}"


def plural(phrase: str) -> str:
    """``a string`` -> ``strings``; a phrase that is no such pair is kept."""
    words = phrase.split(" ")
    if len(words) == 2 and words[0] in ("a", "an"):
        return f"{words[1]}s"
    return phrase
