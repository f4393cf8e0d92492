"""Host files as text: bounded reads that cannot hang, and characters that text may hold."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from typing import NamedTuple

from nsrun.diag import Diagnostic, NsrunError, Span
from nsrun.spec.words import quote_path

MAX_BYTES = 1 << 20
# Of a folder, among which the one that was meant is looked for.
_NAMES_MAX = 1000

# What YAML 1.2 calls printable, less the breaks U+0085, U+2028 and U+2029: the libraries
# count them as ends of lines and editors do not, so every later position would be wrong.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_NAMES = {
    "\0": "a NUL character",
    "\x85": "a next-line character (U+0085)",
    "\u2028": "a line separator (U+2028)",
    "\u2029": "a paragraph separator (U+2029)",
    "\ufeff": "a byte order mark (U+FEFF) that is not at the start",
}


# Those who want to know which files are read: what came of each depends on them.
_readers: list[list[ReadFile]] = []


class ReadFile(NamedTuple):
    """A host file that was read: its absolute path, and fstat(2) of what was open; None where
    none was there, which what came of it depends on as well."""

    path: str
    status: os.stat_result | None


@contextlib.contextmanager
def recording() -> Iterator[list[ReadFile]]:
    """The files that are read meanwhile, in the order they are, `-` as the path ``-``."""
    files: list[ReadFile] = []
    _readers.append(files)
    try:
        yield files
    finally:
        _readers.remove(files)


def note_missing(path: str) -> None:
    """Say to those who are :func:`recording` that a file was looked for, and is not there."""
    for files in _readers:
        files.append(ReadFile(os.path.abspath(path), None))


def _open(path: str, code: str, span: Span | None, regular: bool) -> int:
    # A FIFO without a writer blocks open(2) for reading, a terminal may become the
    # controlling one: neither happens with these flags (open(2)).
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the name holds a NUL character"
        missing = isinstance(error, FileNotFoundError)
        raise _unreadable(
            path,
            "NS305" if missing and code != "NS001" else code,
            span,
            str(reason),
            _near(path) if missing else (),
        ) from None
    mode = os.fstat(fd).st_mode
    readable = stat.S_ISREG(mode) or (not regular and (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)))
    if not readable:
        os.close(fd)
        what = "it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file"
        raise _unreadable(path, code, span, what)
    return fd


def _near(path: str) -> tuple[str, ...]:
    """The file of that folder that was meant, where a name is near."""
    import difflib

    folder, name = os.path.split(path)
    try:
        names = os.listdir(folder or ".")[:_NAMES_MAX]
    except OSError:
        return ()
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.85)
    return tuple(f"did you mean {quote_path(os.path.join(folder, one))}?" for one in close)


def _unreadable(
    path: str, code: str, span: Span | None, reason: str, help_: tuple[str, ...] = ()
) -> NsrunError:
    summary = f"cannot read {quote_path(path)}: {reason[:1].lower()}{reason[1:]}"
    return NsrunError(Diagnostic(code=code, summary=summary, span=span, help=help_))


def read_bytes(
    path: str, *, code: str = "NS001", span: Span | None = None, regular: bool = False
) -> bytes:
    """The content of a host file, at most :data:`MAX_BYTES` bytes; ``-`` is the standard input.

    Raises NsrunError with ``code`` for a file that cannot be read, is a folder or is too big;
    ``regular`` also refuses pipes and devices. ``span`` is where the file was asked for.
    """
    if path == "-" and not regular:
        fd = os.dup(0)
    else:
        fd = _open(path, code, span, regular)
        os.set_blocking(fd, True)
    with os.fdopen(fd, "rb") as stream:
        for files in _readers:
            place = path if path == "-" else os.path.abspath(path)
            files.append(ReadFile(place, os.fstat(fd)))
        try:
            data = stream.read(MAX_BYTES + 1)
        except OSError as error:
            raise _unreadable(path, code, span, str(error.strerror)) from None
    if len(data) > MAX_BYTES:
        raise _unreadable(path, code, span, f"it is larger than {MAX_BYTES} bytes")
    return data


def decode(data: bytes, file: str) -> str:
    """``data`` as UTF-8 text; raises NsrunError NS103 at the first byte that is none."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        start = error.start
    before = data[:start].decode("utf-8")
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    encoding = "UTF-16" if wide else f"byte 0x{data[start]:02x}"
    raise NsrunError(
        Diagnostic(
            code="NS103",
            summary="the file is not UTF-8 text",
            span=Span(file=file, line=line, column=column, end_line=line, end_column=column + 1),
            label=f"{encoding} here",
            help=("save the file as UTF-8",),
        )
    )


def normalize(text: str) -> str:
    """``text`` without a byte order mark at its start, its lines ended by ``\\n`` alone."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def unprintable(text: str, file: str) -> Diagnostic | None:
    """NS101 at the first character that cannot stand in a text file, None without one."""
    match = _UNPRINTABLE.search(text)
    if match is None:
        return None
    char = match.group()
    line = text.count("\n", 0, match.start()) + 1
    column = match.start() - (text.rfind("\n", 0, match.start()) + 1) + 1
    escape = f"\\U{ord(char):08x}" if ord(char) > 0xFFFF else f"\\u{ord(char):04x}"
    advice = () if "\ud800" <= char <= "\udfff" else (f'write it as "{escape}", in double quotes',)
    return Diagnostic(
        code="NS101",
        summary=f"{_NAMES.get(char, f'a control character (U+{ord(char):04X})')} in the text",
        span=Span(file=file, line=line, column=column, end_line=line, end_column=column + 1),
        label="this character is not allowed here",
        help=advice,
    )
