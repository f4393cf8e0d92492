"""Files of ``NAME=value`` lines, as docker and compose read them.

``#`` begins a comment at the start of a line and after a blank; ``export`` before a name is
left out. Single quotes hold text as it is; in double quotes ``\\n``, ``\\r``, ``\\t``, ``\\"``,
``\\$`` and ``\\\\`` are escapes; both may run over several lines. A name alone passes the caller's
value on. ``$`` stands for itself: nothing is taken from the caller unasked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from nsrun.diag import Collector, Diagnostic, Span
from nsrun.spec.text import decode, normalize, read_bytes
from nsrun.spec.words import quote

_BLANK = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)*[ \t]*(?:#[^\n]*\Z)?")
_NAME = re.compile(r"(?:export[ \t]+)?([^=\n]*)(=|(?=\n)|\Z)")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_PLAIN = re.compile(r"[^\n]*")
_COMMENT = re.compile(r"(?:^|[ \t])#.*")
_REST = re.compile(r"[ \t]*(?:#[^\n]*)?(?=\n|\Z)")
_VARIABLE = re.compile(r"[^\s\x00-\x1f\x7f'\"]+")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$", "'": "'"}


def read_env_file(path: str, span: Span | None, report: Collector) -> dict[str, str | None]:
    """The variables of the host file ``path``; None is a name that passes the caller's value on.

    Raises NsrunError for a file that cannot be read, is not a regular one, is larger than
    1 MiB or not UTF-8 (NS305, NS319, NS103; ``span`` is where it was asked for). Lines
    that cannot be understood go to ``report`` as NS319, at their own place.
    """
    text = decode(read_bytes(path, code="NS319", span=span, regular=True), path)
    return _Parser(normalize(text), path, report).parse()


@dataclass(slots=True)
class _Parser:
    text: str
    file: str
    report: Collector
    at: int = 0
    found: dict[str, str | None] = field(default_factory=dict)

    def parse(self) -> dict[str, str | None]:
        while True:
            self.at = self.match(_BLANK).end()
            if self.at >= len(self.text):
                return self.found
            self.entry()

    def match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        match = pattern.match(self.text, self.at)
        assert match is not None  # each of these patterns also matches nothing
        return match

    def entry(self) -> None:
        start = self.at
        match = self.match(_NAME)
        name, self.at = match[1].rstrip(" \t"), match.end()
        if not _VARIABLE.fullmatch(name):
            self.problem(start, f"{quote(name)} cannot be the name of a variable")
            self.skip_line()
        elif match[2] == "=":
            value = self.value()
            if value is not None:
                self.found[name] = value
        else:
            self.found[name] = None

    def value(self) -> str | None:
        while self.text[self.at : self.at + 1] in (" ", "\t"):
            self.at += 1
        start, opening = self.at, self.text[self.at : self.at + 1]
        if opening not in ("'", '"') or opening == "":
            plain = self.match(_PLAIN)
            self.at = plain.end()
            return self.without_nul(_COMMENT.sub("", plain[0], count=1).strip(" \t"), start)
        quoted = (_SINGLE if opening == "'" else _DOUBLE).match(self.text, self.at)
        if quoted is None:
            self.problem(start, f"the quote {quote(opening)} is not closed")
            self.skip_line()
            return None
        self.at = quoted.end()
        rest = _REST.match(self.text, self.at)
        if rest is None:
            self.problem(self.at, "text after the closing quote")
            self.skip_line()
            return None
        self.at = rest.end()
        return self.without_nul(quoted[1] if opening == "'" else _unescape(quoted[1]), start)

    def without_nul(self, value: str, start: int) -> str:
        if "\0" in value:
            self.problem(start, "a NUL character in the value of a variable")
        return value

    def skip_line(self) -> None:
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end

    def problem(self, start: int, summary: str) -> None:
        line = self.text.count("\n", 0, start) + 1
        first = self.text.rfind("\n", 0, start) + 1
        end = self.text.find("\n", start)
        end = len(self.text) if end < 0 else end
        self.report.add(
            Diagnostic(
                code="NS319",
                summary=summary,
                span=Span(
                    file=self.file,
                    line=line,
                    column=start - first + 1,
                    end_line=line,
                    end_column=max(end, start + 1) - first + 1,
                ),
                help=("a line is `NAME=value`, `NAME` or a comment",),
            )
        )


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), text, flags=re.DOTALL)
