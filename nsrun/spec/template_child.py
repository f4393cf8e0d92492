"""The process that renders: it has a socket to who asked, limits, and nothing else to do.

Each message is JSON behind its length. It asks for the text of a file (``load``), and says at last
what came out (``text``) or what is wrong (``code``, with the template's name and offsets).
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import struct
from collections.abc import Generator, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any, NoReturn, cast

from jinja2 import TemplateNotFound, TemplateSyntaxError
from jinja2.exceptions import SecurityError, TemplatesNotFound
from jinja2.utils import missing

from nsrun.spec import jinja
from nsrun.spec.jinja import At, Environment, Missing, TooMuch
from nsrun.spec.path import item_path, key_path
from nsrun.spec.text import MAX_BYTES
from nsrun.spec.values import Values
from nsrun.spec.words import did_you_mean, found, quote

# In seconds of processor time: then an exception says where it was, and after the second one the
# kernel ends what does not come back from a single operation.
CPU_SECONDS = 1.0
CPU_KILL = 1.4
_CPU_LIMIT = 4
# What rendering may take beside what the process has already.
MEMORY = 256 << 20
_MARKS_MAX = 200_000
_LENGTH = struct.Struct("=I")
_CHAIN = 3


class TimeIsUp(BaseException):
    """The first limit of time: no template catches it."""


class Refused(Exception):
    """A file that may not be read, or cannot."""


def send(connection: socket.socket, message: Mapping[str, object]) -> None:
    data = json.dumps(message).encode()
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """The next message, None where the other end has gone."""
    head = _exactly(connection, _LENGTH.size)
    if head is None:
        return None
    data = _exactly(connection, _LENGTH.unpack(head)[0])
    if data is None:
        return None
    message: dict[str, Any] = json.loads(data)
    return message


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(min(size - len(data), 1 << 20))
        if not part:
            return None
        data += part
    return bytes(data)


def child(
    connection: socket.socket, name: str, values: Values, env: Mapping[str, str]
) -> NoReturn:
    """Render the template ``name``, tell, and end the process."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _limit()
        send(connection, _Rendering(connection, values, env).answer(name))
        status = 0
    except TimeIsUp:
        send(connection, _too_much(_TIME))
        status = 0
    except MemoryError:
        send(connection, _too_much(_MEMORY))
        status = 0
    finally:
        os._exit(status)


_TIME = f"rendering takes more than {CPU_SECONDS:g} s"
_MEMORY = f"rendering takes more than {MEMORY >> 20} MiB of memory"


def _limit() -> None:
    with open("/proc/self/statm", "rb") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    for kind, limit in (
        (resource.RLIMIT_AS, size + MEMORY),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, _CPU_LIMIT),
    ):
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, hard))
    signal.signal(signal.SIGPROF, _time_is_up)
    for number in (signal.SIGVTALRM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)
    # A mask is inherited too.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    # setitimer(2): ITIMER_VIRTUAL counts user time, and its signal ends the process.
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_KILL)


def _time_is_up(_number: int, _frame: FrameType | None) -> None:
    raise TimeIsUp


def _too_much(summary: str) -> dict[str, Any]:
    return {"code": "NS110", "summary": summary}


class _Rendering:
    def __init__(
        self, connection: socket.socket, values: Values, env: Mapping[str, str]
    ) -> None:
        self._connection = connection
        self._values = values
        self._env = env
        self._texts: dict[str, str] = {}
        self._environment = Environment(self._ask, values.paths)
        # For imports as well, which know nothing of the context they are used in.
        self._environment.globals.update(values=values.data, env=env)

    def _ask(self, name: str) -> str:
        send(self._connection, {"load": name})
        answer = receive(self._connection)
        if answer is None:
            os._exit(1)
        if "refused" in answer:
            raise Refused(answer["refused"])
        if "text" not in answer:
            raise TemplateNotFound(name)
        text = str(answer["text"])
        self._texts[name] = text
        return text

    def answer(self, name: str) -> dict[str, Any]:
        try:
            return self._render(name)
        except TemplateSyntaxError as error:
            return self._syntax(error, name)
        except (Exception, TimeIsUp) as error:
            return self._failure(error)

    def _render(self, name: str) -> dict[str, Any]:
        template = self._environment.get_template(name)
        context = template.new_context()
        parts = cast("Generator[str]", template.root_render_func(context))
        text = jinja.concat(self._counted(parts))
        marks = text._marks
        if len(marks) > _MARKS_MAX:
            raise TooMuch(f"more than {_MARKS_MAX} pieces of text")
        names = list(self._texts)
        numbers = {known: number for number, known in enumerate(names)}
        rows = [(m[0], numbers[m[1]], *m[2:]) for m in marks]
        return {"text": str(text), "marks": rows, "names": names}

    @staticmethod
    def _counted(parts: Generator[str]) -> Iterator[str]:
        size = 0
        for part in parts:
            size += len(part)
            if size > MAX_BYTES:
                # In the template, so that it is told of the line that went too far.
                parts.throw(TooMuch(f"more than {MAX_BYTES >> 20} MiB of text"))
            yield part

    # --- what is wrong -----------------------------------------------------------------------

    def _syntax(self, error: TemplateSyntaxError, main: str) -> dict[str, Any]:
        message = (error.message or "").rstrip(".")
        name = error.name or main
        line = error.lineno
        begin, end = self._line(name, line)
        if isinstance(line, At):
            tag_begin, tag_end = self._environment.tag_at(name, line.offset)
            if tag_begin <= line.offset < tag_end and name in self._texts:
                begin = line.offset
                end = self._word_end(name, begin, tag_end)
        help_: tuple[str, ...] = ()
        unknown = re.match(r"No (filter|test) named '(\w+)'", message)
        if unknown:
            help_ = self._like(unknown[1], unknown[2])
            begin, end = self._word(name, line, unknown[2])
        unclosed = re.search(r"block that needs to be closed is '(\w+)'", message)
        if unclosed:
            begin, end = self._unclosed(name, unclosed[1]) or (begin, end)
        summary, _, more = _lowered(message).partition(". ")
        return {
            "code": "NS107",
            "summary": summary,
            "help": help_,
            "notes": [more] if more else [],
            "file": name,
            "begin": begin,
            "end": end,
        }

    def _unclosed(self, name: str, word: str) -> tuple[int, int] | None:
        """The last tag ``word`` that has no end."""
        opened: list[tuple[int, int]] = []
        for tag in self._environment.tags.get(name, ()):
            match = re.match(r"\{%[-+]?\s*(\w+)", self._texts[name][tag[0] : tag[1]])
            if match and match[1] == word:
                opened.append(tag)
            elif match and match[1] == f"end{word}" and opened:
                opened.pop()
        return opened[-1] if opened else None

    def _like(self, kind: str, word: str) -> tuple[str, ...]:
        known = self._environment.filters if kind == "filter" else self._environment.tests
        close = did_you_mean(word, known)
        return (close,) if close else ()

    def _failure(self, error: BaseException) -> dict[str, Any]:
        frames = self._frames(error.__traceback__)
        answer = self._said(error)
        if not frames:
            return answer
        name, line = frames[-1]
        word = answer.pop("word", None)
        begin, end = self._word(name, line, word) if word else self._line(name, line)
        chain = [(n, number) for n, number in frames if n != name][-_CHAIN:]
        notes = [(n, number) for n, number in dict.fromkeys(reversed(chain))]
        return {**answer, "file": name, "begin": begin, "end": end, "from": notes}

    def _said(self, error: BaseException) -> dict[str, Any]:
        message = _lowered(str(error).rstrip("."))
        match error:
            case TimeIsUp():
                return _too_much(_TIME)
            case MemoryError():
                return _too_much(_MEMORY)
            case RecursionError():
                return _too_much("macros or includes call one another without an end")
            case TooMuch():
                return _too_much(f"rendering makes {message}")
            case Missing():
                return self._missing(error)
            case Refused():
                return {"code": "NS112", "summary": str(error)}
            case TemplatesNotFound():
                names = ", ".join(quote(str(name)) for name in error.templates)
                return {"code": "NS112", "summary": f"none of {names} is there"}
            case TemplateNotFound():
                return {"code": "NS112", "summary": f"{quote(str(error.name))} is not there"}
            case SecurityError():
                return {"code": "NS109", "summary": f"a template may not do that: {message}"}
            case SyntaxError():
                return {"code": "NS107", "summary": f"the template cannot be compiled: {message}"}
            case _:
                pass
        unknown = re.match(r"no (filter|test) named '(\w+)'", message)
        if unknown:
            help_ = self._like(unknown[1], unknown[2])
            return {"code": "NS107", "summary": message, "help": help_, "word": unknown[2]}
        why = message or type(error).__name__
        return {"code": "NS109", "summary": f"the template fails: {why}"}

    def _missing(self, error: Missing) -> dict[str, Any]:
        owner, name = error.owner, error.name
        help_: tuple[str, ...] = ()
        if name is None:
            return {"code": "NS108", "summary": _lowered(str(error))}
        if owner is missing:
            shown = str(name)
            help_ = self._advice(shown, tuple(self._environment.globals))
            if shown in self._values.data:
                help_ = (f"did you mean {quote(f'values.{shown}')}?",)
        elif owner is self._env:
            shown = f"env.{name}"
            help_ = (f"allow it with `--env {name}`, and set the variable",)
        else:
            path = self._values.paths.get(id(owner))
            if path is None:
                what = found(owner) if isinstance(owner, str | int | float | dict | list) else ""
                summary = f"{what or type(owner).__name__} has no {quote(str(name))}"
                return {"code": "NS108", "summary": summary, "word": str(name)}
            place = item_path(path, name) if isinstance(name, int) else key_path(path, str(name))
            shown = _value_name(place)
            help_ = self._other_values(place, owner)
        return {
            "code": "NS108",
            "summary": f"{quote(shown, 200)} is not defined",
            "help": help_,
            "word": str(name),
        }

    @staticmethod
    def _advice(word: str, known: tuple[str, ...]) -> tuple[str, ...]:
        close = did_you_mean(word, known)
        return (close,) if close else ()

    def _other_values(self, place: str, owner: object) -> tuple[str, ...]:
        """Values that may be meant: of the same mapping, then of the same name elsewhere."""
        if isinstance(owner, list):
            last = f"the last item is [{len(owner) - 1}]" if owner else "the list is empty"
            return (last,)
        name = place.rpartition(".")[2]
        beside = [key_path(self._values.paths[id(owner)], key) for key in owner] if isinstance(
            owner, dict
        ) else []
        known = [path for path in self._values.given if path]
        same = [path for path in known if path.rpartition(".")[2] == name]
        close = did_you_mean(place, beside) or did_you_mean(place, same or known)
        if same and not did_you_mean(place, beside):
            close = f"did you mean {quote(same[0])}?"
        if close:
            return (close.replace("`", "`values.", 1),)
        return (f"give it: `--set {place}=...`, or in a file with `--values`",)

    # --- where -------------------------------------------------------------------------------

    def _frames(self, trace: TracebackType | None) -> list[tuple[str, int]]:
        """The templates that were at work, by name and line, the innermost last."""
        frames = []
        while trace is not None:
            # What Jinja gives the code it generates.
            template = trace.tb_frame.f_globals.get("__jinja_template__")
            if template is not None and template.name in self._texts:
                line = template.get_corresponding_lineno(trace.tb_lineno)
                frames.append((template.name, line))
            trace = trace.tb_next
        return frames

    def _line(self, name: str, line: int) -> tuple[int, int]:
        """The offsets of a line without the blanks at its ends."""
        text = self._texts.get(name, "")
        lines = text.split("\n")
        number = min(max(line, 1), len(lines)) - 1
        start = sum(len(one) + 1 for one in lines[:number])
        content = lines[number]
        begin = start + len(content) - len(content.lstrip())
        return begin, max(start + len(content.rstrip()), begin)

    def _word(self, name: str, line: int, word: str) -> tuple[int, int]:
        """The offsets of a word in a tag of this line, else of the line."""
        begin, end = self._line(name, line)
        text = self._texts.get(name, "")
        tags = [t for t in self._environment.tags.get(name, ()) if t[0] < end and t[1] > begin]
        pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
        for tag_begin, tag_end in tags:
            match = pattern.search(text, tag_begin, tag_end)
            if match:
                return match.start(), match.end()
        return begin, end

    def _word_end(self, name: str, begin: int, limit: int) -> int:
        match = re.compile(r"\w+|\S").match(self._texts[name], begin, limit)
        return match.end() if match else begin


def _value_name(place: str) -> str:
    return f"values{place}" if place.startswith("[") else f"values.{place}"


def _lowered(message: str) -> str:
    """A message of a library as one of ours: one line, no capital at its start."""
    line = message.split("\n", 1)[0][:300]
    return line[:1].lower() + line[1:] if line[1:2].islower() else line
