"""Diagnostics: where something is wrong, what it is, and what helps.

One type serves every stage: the YAML reader, the schema, the planner and the replay all
end in :class:`Diagnostic`, and one renderer prints them. Nothing here imports another
module of nsrun.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is: an error stops, a warning and a note do not."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A place in a file: lines and columns count from 1, the end is exclusive."""

    file: str
    line: int
    column: int
    end_line: int = 0
    end_column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One thing to tell the user.

    ``summary`` states the problem in lower case without a full stop; ``help`` alone advises.
    ``path`` is the place inside the document (``mounts[0].target``), ``label`` the words
    beside the caret, ``step`` the failed step as the listing prints it, ``errno`` its name.
    """

    code: str
    summary: str
    severity: Severity = Severity.ERROR
    span: Span | None = None
    path: str = ""
    label: str = ""
    step: str = ""
    errno: str = ""
    why: tuple[str, ...] = ()
    help: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR


class NsrunError(Exception):
    """An operation ended in diagnostics; at least one of them is an error."""

    def __init__(self, diagnostics: Iterable[Diagnostic] | Diagnostic) -> None:
        if isinstance(diagnostics, Diagnostic):
            diagnostics = (diagnostics,)
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)
        super().__init__("; ".join(d.summary for d in self.diagnostics))


def sort_key(diagnostic: Diagnostic) -> tuple[str, int, int, str]:
    """By file, line and column: the order in which a reader meets them."""
    span = diagnostic.span
    if span is None:
        return ("", 0, 0, diagnostic.code)
    return (span.file, span.line, span.column, diagnostic.code)


# More messages than anyone reads; a file made to hurt would have one for each of its values, and
# the search for what was meant costs a millisecond each.
MAX_SHOWN = 100
MORE = "there are more errors than shown"


def with_more(found: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """``found`` with the remark that there are more."""
    *others, last = found
    if MORE in last.notes:
        return (*others, last)
    return (*others, replace(last, notes=(*last.notes, MORE)))


@dataclass(slots=True)
class Collector:
    """Gathers diagnostics, so that all of them are shown at once.

    Of more errors than :data:`MAX_SHOWN`, :meth:`add` and :meth:`extend` raise an
    :class:`NsrunError` with the first; more warnings than that are dropped.
    """

    diagnostics: list[Diagnostic] = field(default_factory=list)

    def add(self, diagnostic: Diagnostic) -> None:
        if len(self.diagnostics) >= MAX_SHOWN:
            alike = [d for d in self.diagnostics if d.is_error == diagnostic.is_error]
            if len(alike) >= MAX_SHOWN:
                if diagnostic.is_error:
                    raise NsrunError(with_more(self.sorted()))
                return
        self.diagnostics.append(diagnostic)

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        for diagnostic in diagnostics:
            self.add(diagnostic)

    @property
    def failed(self) -> bool:
        return any(d.is_error for d in self.diagnostics)

    def sorted(self) -> tuple[Diagnostic, ...]:
        return tuple(sorted(self.diagnostics, key=sort_key))

    def raise_if_failed(self) -> None:
        """Raise :class:`NsrunError` with everything gathered when one of it is an error."""
        if self.failed:
            raise NsrunError(self.sorted())


# Every code that a diagnostic may carry, with the title that `nsrun explain` lists.
# docs/errors/CODE.md holds the long form; a test holds the two together.
# NS0xx command line and files, NS1xx text (YAML and templates), NS2xx schema, NS3xx meaning of a
# spec, NS4xx planning for this machine, NS5xx replay, NS6xx the command itself.
CODES: dict[str, str] = {
    "NS001": "a file cannot be read",
    "NS002": "the command line is not understood",
    "NS003": "a fault in nsrun itself",
    "NS101": "the text is not valid YAML",
    "NS102": "a key is given twice",
    "NS103": "the file is not UTF-8 text",
    "NS104": "the document is over a limit",
    "NS105": "the document is empty",
    "NS106": "a YAML tag is not supported",
    "NS107": "the syntax of a template is wrong",
    "NS108": "a template uses a name that is not defined",
    "NS109": "a template fails",
    "NS110": "a template takes too much time, memory or text",
    "NS111": "a value for a template cannot be used",
    "NS112": "a template reads a file that it cannot or may not",
    "NS201": "an unknown key",
    "NS202": "a value of the wrong type",
    "NS203": "a value that is not allowed",
    "NS204": "a key is missing",
    "NS301": "a setting needs a namespace that is not listed",
    "NS302": "a namespace is listed twice",
    "NS303": "id ranges overlap or leave the range of ids",
    "NS304": "a path must be absolute",
    "NS305": "a file or folder does not exist",
    "NS306": "an unknown capability",
    "NS307": "an unknown signal",
    "NS308": "a host name is too long",
    "NS309": "a file is not a namespace of the expected type",
    "NS310": "a mount hides an earlier one",
    "NS311": "a /proc that does not belong to the new pid namespace",
    "NS312": "a mount lacks what its type needs",
    "NS313": "an unknown or contradictory option",
    "NS314": "a sysctl that no namespace holds",
    "NS315": "an unknown resource limit",
    "NS316": "a name that is not allowed",
    "NS317": "a user or group that cannot be found",
    "NS318": "settings that contradict each other",
    "NS319": "an environment that cannot be read",
    "NS320": "a stack where one container is meant",
    "NS321": "one container where a stack is meant",
    "NS401": "the machine lacks a feature the spec needs",
    "NS402": "the caller may not do what the spec asks",
    "NS403": "ids cannot be mapped",
    "NS404": "a namespace cannot be joined",
    "NS405": "a plan is not sound",
    "NS406": "a plan file cannot be read",
    "NS407": "a plan cannot be compiled",
    "NS408": "the native executor is not installed",
    "NS409": "a file system that others use would be changed",
    "NS410": "a program that nsrun runs is not installed",
    "NS411": "the executor cannot be copied into memory",
    "NS412": "the run cannot be traced",
    "NS413": "a group above allows less",
    "NS501": "a step failed",
    "NS502": "the child ended before the command ran",
    "NS503": "a helper program failed",
    "NS504": "what was made cannot be undone",
    "NS505": "nsrun was interrupted before the command ran",
    "NS601": "the command was not found",
    "NS602": "the command cannot be executed",
    "NS603": "the command ran out of time",
    "NS604": "the command does not handle a signal sent to it",
    "NS605": "there is no such container",
    "NS606": "a name belongs to another container",
    "NS607": "a container is not running",
    "NS608": "a spec has changed since its container was made",
    "NS609": "a container waits for what will not come",
    "NS610": "the memory limit was reached",
    "NS611": "the seccomp filter has ended the command",
    "NS620": "what a spec expects does not hold",
    "NS621": "the spec expects nothing",
    "NS622": "a stack cannot be copied to be verified",
}
