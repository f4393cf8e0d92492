"""A template and its values -> the text it renders to, and a way back from each of its lines.

Rendering happens in a process of its own with limits on time and memory. That one opens no file:
it asks here, where names are held to the folder of the main file, and every file that is read is
seen by :func:`nsrun.spec.text.recording`.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

from nsrun.diag import Diagnostic, NsrunError, Span
from nsrun.spec.linemap import LineMap, Segment, Source
from nsrun.spec.text import MAX_BYTES, decode, normalize, note_missing, read_bytes, unprintable
from nsrun.spec.values import NOTHING, Inputs, Values, read_values
from nsrun.spec.words import quote, quote_path

# For what waits and takes no processor time; nothing in a template does.
_WALL_SECONDS = 20.0
_FILES_MAX = 256
_ASKED_MAX = 1000
_VALUE = re.compile(r"\bvalues((?:\.\w+|\[\d+\]|\[\"[^\"\\]*\"\]|\['[^'\\]*'\])+)")
_QUOTED = re.compile(r"\[(?:\"(\w+)\"|'(\w+)')\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """``folders``: each template's name in places, and the folder relative paths begin at."""

    text: str
    file: str
    map: LineMap
    folders: dict[str, str]

    def with_line(self, found: Diagnostic) -> Diagnostic:
        """A diagnostic about the rendered text, placed in the template, with the line it is of."""
        if found.span is None:
            return found
        span = self.map.place(found.span)
        line = self.map.line(span.rendered).strip()
        note = f"line {span.rendered} of what it renders to: {quote(line, 100)}"
        return replace(found, span=span, notes=(*found.notes, note) if line else found.notes)


def is_template(path: str, inputs: Inputs = NOTHING) -> bool:
    """Whether a file is rendered before it is read: by its name, or because there are inputs."""
    return path.endswith(".j2") or bool(inputs)


def render(path: str, inputs: Inputs = NOTHING) -> Rendered:
    """Render the template at ``path`` (``-``: the standard input).

    Raises NsrunError: NS001 and NS103 for files that cannot be read, NS107 to NS110 and NS112 for
    what is wrong in a template, NS111 and what reading YAML raises for values.
    """
    values = read_values(inputs)
    work = _Work(path=path, inputs=inputs, values=values)
    return work.run()


@dataclass(slots=True)
class _Work:
    path: str
    inputs: Inputs
    values: Values
    sources: dict[str, Source] = field(default_factory=dict)
    asked: int = 0

    def run(self) -> Rendered:
        from nsrun.spec import template_child

        file = "<stdin>" if self.path == "-" else self.path
        name = "<stdin>" if self.path == "-" else os.path.basename(self.path)
        self._add(name, file, decode(read_bytes(self.path), file))
        env = {n: v for n, v in self.inputs.env.items() if v is not None}
        ours, theirs = socket.socketpair()
        with warnings.catch_warnings():
            # Of Python 3.12: there is no thread that could hold a lock for ever.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if not pid:
            ours.close()
            template_child.child(theirs, name, self.values, env)
        theirs.close()
        ours.settimeout(_WALL_SECONDS)
        status = 0
        answer = None
        try:
            with ours:
                answer = self._serve(ours, name)
        except (TimeoutError, ConnectionError):
            answer = None
        finally:
            # With SIGCHLD ignored, as a caller may leave it, there is nothing to wait for.
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                status = os.waitpid(pid, 0)[1]
        return self._result(answer, status, file)

    def _serve(self, connection: socket.socket, main: str) -> dict[str, Any] | None:
        from nsrun.spec.template_child import receive, send

        while True:
            message = receive(connection)
            if message is None or "load" not in message:
                return message
            wanted = message["load"]
            if wanted == main:
                send(connection, {"text": self.sources[main].text})
            else:
                send(connection, self._load(wanted))

    def _load(self, name: str) -> dict[str, Any]:
        """The answer to who asks for the template ``name``."""
        self.asked += 1
        if len(self.sources) > _FILES_MAX or self.asked > _ASKED_MAX:
            return {"refused": f"more than {_FILES_MAX} files"}
        folder = os.path.dirname(self.path) if self.path != "-" else ""
        file = os.path.join(folder, name)
        if not _is_inside(file, folder, name):
            return {"refused": f"{quote_path(name)} is outside of the folder of the main file"}
        if not os.path.exists(file):
            note_missing(file)
            return {}
        try:
            text = decode(read_bytes(file, code="NS112", regular=True), file)
            self._add(name, file, text)
        except NsrunError as error:
            return {"refused": error.diagnostics[0].summary}
        return {"text": self.sources[name].text}

    def _add(self, name: str, file: str, text: str) -> None:
        text = normalize(text)
        bad = unprintable(text, file)
        if bad is not None:
            raise NsrunError(bad)
        self.sources[name] = Source(file, text)

    # --- what comes back ---------------------------------------------------------------------

    def _result(self, answer: dict[str, Any] | None, status: int, file: str) -> Rendered:
        if answer is None:
            raise NsrunError(self._ended(status, file))
        if "code" in answer:
            raise NsrunError(self._problem(answer, file))
        text = answer["text"]
        if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            summary = f"rendering {quote_path(file)} makes more than {MAX_BYTES >> 20} MiB of text"
            raise NsrunError(Diagnostic(code="NS110", summary=summary))
        sources = [self.sources[name] for name in answer["names"]]
        segments = [self._segment(row, sources) for row in answer["marks"]]
        if not segments or segments[0].start:
            segments.insert(0, Segment(0, 0, 0, -1))
        base = os.path.dirname(os.path.abspath(file)) if self.path != "-" else os.getcwd()
        return Rendered(
            text=text,
            file=file,
            map=LineMap(text, sources, segments, self.values.given),
            folders={source.file: base for source in sources},
        )

    def _segment(self, row: list[Any], sources: list[Source]) -> Segment:
        start, number, begin, end, path = row
        if end < 0:
            return Segment(start, number, begin, end)
        names = (path,) if path else self._named(sources[number].text[begin:end])
        return Segment(start, number, begin, end, names)

    def _named(self, tag: str) -> tuple[str, ...]:
        """The values that a tag names, as far as they are there."""
        found = (_QUOTED.sub(r".\1\2", m[1]).removeprefix(".") for m in _VALUE.finditer(tag))
        return tuple(path for path in found if path in self.values.given)

    def _ended(self, status: int, file: str) -> Diagnostic:
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if number not in (signal.SIGVTALRM, signal.SIGXCPU, signal.SIGKILL):
            by = signal.Signals(number).name if number else f"exit status {status >> 8}"
            what = f"rendering {quote_path(file)} has ended by {by}"
            return Diagnostic(code="NS110", summary=what)
        return Diagnostic(
            code="NS110",
            summary=f"rendering {quote_path(file)} takes too long, in one operation",
            help=("look for a number, or a text, that grows very large",),
        )

    def _problem(self, answer: dict[str, Any], file: str) -> Diagnostic:
        name = answer.get("file")
        source = self.sources.get(name) if name is not None else None
        span = None
        summary = answer["summary"]
        if source is None:
            summary = re.sub(r"\Arendering\b", f"rendering {quote_path(file)}", summary)
        else:
            begin = min(answer["begin"], len(source.text))
            end = min(max(answer["end"], begin + 1), max(len(source.text), begin))
            line, column = source.at(begin)
            end_line, end_column = source.at(end)
            span = Span(
                file=source.file, line=line, column=column,
                end_line=end_line, end_column=end_column,
            )  # fmt: skip
        used = (
            f"used at {self.sources[n].file}:{line}"
            for n, line in answer.get("from", ())
            if n in self.sources
        )
        return Diagnostic(
            code=answer["code"],
            summary=summary,
            span=span,
            help=tuple(answer.get("help", ())),
            notes=(*answer.get("notes", ()), *used),
        )


def _is_inside(file: str, folder: str, name: str) -> bool:
    """Whether a file is below a folder, also behind every symlink."""
    if name.startswith("/") or "\0" in name or ".." in name.split("/"):
        return False
    root = os.path.realpath(folder or ".")
    return os.path.realpath(file).startswith(os.path.join(root, ""))
