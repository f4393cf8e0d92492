"""The folders of detached containers: what is known of each, and whether it runs.

docs/decisions/0019-state.md has the files. A folder's lock is the truth; nothing here keeps any.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING

from nsrun.diag import Diagnostic, NsrunError
from nsrun.host import cgroups, groups, paths
from nsrun.host.containers import make_private, state_folder, writable_by_others
from nsrun.kernel.facts import GROUP_PREFIX

if TYPE_CHECKING:
    from nsrun.plan.model import Plan

FORMAT = 1
ID_BYTES = 32
SHORT_ID = 12
# Of those that an ambiguous word may mean.
_SHOWN = 5
_LIMIT = 4 << 20
# A time in nanoseconds has 19 until 2262.
_DIGITS = 19
_INT_MAX = (1 << 63) - 1
_ID = re.compile(r"[0-9a-f]{1,64}")
_ENDED = re.compile(r"[0-9]{1,19}", re.ASCII)


class Status(StrEnum):
    """As Docker names them; ``dead``: its monitor was killed, and nobody knows how it ended."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    EXITED = "exited"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """container.json: what does not change while the container is there.

    ``created`` is in nanoseconds since 1970; ``stop_timeout`` in nanoseconds. ``log_size`` is in
    bytes, 0 for a log that is never rotated; ``log_files`` 0 for no log. ``spec``: the absolute
    path, ``-`` for standard input; ``sha256`` of its text. ``remove``: the folder goes with the
    container's end.
    """

    id: str
    name: str
    spec: str
    sha256: str
    command: tuple[str, ...]
    created: int
    words: tuple[str, ...] = ()
    cwd: str = "/"
    tty: bool = False
    stdin: bool = False
    stop_signal: str = "SIGTERM"
    stop_timeout: int = 10 * 10**9
    ports: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    log_size: int = 10 << 20
    log_files: int = 3
    remove: bool = False
    stack: str = ""
    service: str = ""

    @property
    def holds_networks(self) -> bool:
        """Whether it holds a stack's networks, and is no container of anybody's."""
        return self.service.startswith("(")


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A record, and what its folder says now. ``pid`` 0, ``started`` and ``finished`` 0 (in
    nanoseconds since 1970) and ``exit_status`` None where there is none. ``signal``: the one that
    ended its process, 0 where none did, or an older nsrun has not written it down."""

    record: Record
    folder: str
    status: Status
    pid: int = 0
    started: int = 0
    finished: int = 0
    exit_status: int | None = None
    signal: int = 0

    @property
    def out_of_memory(self) -> bool:
        """Whether the kernel has ended a process of it for want of memory, once it has ended.

        The file `oom` is what its control group's file had counted: a line "oom_kill N"
        (memory.oom_control of cgroup version 1, memory.events of version 2).
        """
        if self.exit_status is None:
            return False
        lines = (paths.read_file(os.path.join(self.folder, "oom")) or "").splitlines()
        counted = (_number(line.removeprefix("oom_kill ")) for line in lines)
        return any(counted)

    def groups(self) -> list[str]:
        """The folders of its own control groups; none where it does not run, or has none."""
        name = GROUP_PREFIX + self.record.name
        if not self.pid or not cgroups.may_be_in(self.pid, name):
            return []
        return cgroups.named(self.pid, name)

    @property
    def running(self) -> bool:
        return self.status in (Status.RUNNING, Status.PAUSED)

    @property
    def alive(self) -> bool:
        """Whether a monitor is there: it runs, or is about to."""
        return self.running or self.status is Status.CREATED


def folder(environ: Mapping[str, str] = os.environ) -> str:
    """The folder with a folder for each container; raises NsrunError where there can be none."""
    state = state_folder(os.getuid(), environ)
    if state is None:
        open_to_all = writable_by_others(os.getuid(), environ)
        if open_to_all is not None:
            raise NsrunError(
                Diagnostic(
                    code="NS402",
                    summary="there is no folder for running containers",
                    why=(f"others may write in {open_to_all}, and put their own in its place",),
                    help=(f"look at what is in it, then chmod 0700 {open_to_all}",),
                )
            )
        raise NsrunError(
            Diagnostic(
                code="NS402",
                summary="there is no folder for running containers",
                why=("neither $XDG_RUNTIME_DIR nor /run/user/UID is a folder of this user",),
                help=("log in anew, or make one and name it in XDG_RUNTIME_DIR",),
            )
        )
    return os.path.join(state, "containers")


# --- making ----------------------------------------------------------------------------------


def new_id() -> str:
    return secrets.token_hex(ID_BYTES)


def claim(name: str) -> str:
    """Make the folder of ``name``, which is then this caller's; returns it.

    Raises NsrunError (NS606) where the name is taken.
    """
    place = os.path.join(folder(), name)
    while True:
        make_private(os.path.dirname(place))
        try:
            os.mkdir(place, 0o700)
        except FileNotFoundError:
            # Somebody's last container has just gone, and the empty folder with it.
            continue
        except FileExistsError:
            raise NsrunError(_taken(name)) from None
        return place


def _taken(name: str) -> Diagnostic:
    found = load(os.path.join(folder(), name))
    if found is not None and found.alive:
        return Diagnostic(
            code="NS606",
            summary=f"a container {name} is running",
            help=(
                f"nsrun stop {name}",
                "or give this one another name: --name NAME",
                "or put it in its place: --replace",
            ),
        )
    if found is None and damaged(name) is not None:
        return Diagnostic(
            code="NS606",
            summary=f"the name {name} belongs to a container that is being made, or is damaged",
            help=(f"nsrun rm {name}, if nobody is making it",),
        )
    return Diagnostic(
        code="NS606",
        summary=f"the name {name} belongs to a container that has ended",
        help=(f"nsrun rm {name}", "or put this one in its place: --replace"),
    )


def write(place: str, name: str, data: bytes) -> None:
    """A file of a container's folder, whole or not there."""
    temporary = os.path.join(place, f".{name}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o600), "wb") as file:
        file.write(data)
    os.rename(temporary, os.path.join(place, name))


def save(place: str, record: Record) -> None:
    data = {"format": FORMAT, **asdict(record)}
    write(place, "container.json", json.dumps(data, indent=1).encode() + b"\n")


def plan_of(container: Container) -> Plan:
    """The plan that it was started with. Raises OSError, NsrunError (NS406) for a damaged one."""
    # Only who asks for a plan pays for its reader.
    from nsrun.plan import binary

    path = os.path.join(container.folder, "plan")
    with open(path, "rb") as file:
        return binary.decode(file.read(), file=path)


def plan_needed(container: Container, why: str) -> Plan:
    """As :func:`plan_of`, for who cannot go on without; ``why`` it is needed. Raises NsrunError."""
    try:
        return plan_of(container)
    except OSError as error:
        raise NsrunError(
            Diagnostic(
                code="NS406",
                summary=f"the plan of {container.record.name} cannot be read: {error.strerror}",
                why=(why,),
            )
        ) from None


def remove(place: str) -> None:
    """Take a container's folder away, and the folders above that are empty then."""
    shutil.rmtree(place, ignore_errors=True)
    above = os.path.dirname(place)
    for empty in (above, os.path.dirname(above)):
        with contextlib.suppress(OSError):
            os.rmdir(empty)


# --- reading ---------------------------------------------------------------------------------


def everything() -> list[Container]:
    """All containers, by the time they were made."""
    try:
        names = os.listdir(folder())
    except (FileNotFoundError, NsrunError):
        return []
    found = (load(os.path.join(folder(), name)) for name in names)
    return sorted(
        (c for c in found if c is not None), key=lambda c: (c.record.created, c.record.name)
    )


def find(word: str) -> Container:
    """The container of this name, or whose id begins so.

    Raises NsrunError (NS605) for none, or more than one.
    """
    named = _named(word)
    if named is not None:
        return named
    known = everything()
    found = [c for c in known if word and c.record.id.startswith(word)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{c.record.id[:SHORT_ID]} ({c.record.name})" for c in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise NsrunError(
            Diagnostic(
                code="NS605",
                summary=f"{len(found)} containers have an id that begins with {word}",
                help=(f"give a name or more of the id: {names}{more}",),
            )
        )
    raise NsrunError(
        Diagnostic(
            code="NS605",
            summary=f"there is no container {word or repr(word)}",
            why=_nowhere(),
            help=(_meant(word, known),),
        )
    )


def _nowhere() -> tuple[str, ...]:
    """Why none can be found: in a session of su or cron those of another one are not seen."""
    try:
        folder()
    except NsrunError as error:
        return tuple(f"{d.summary}: {why}" for d in error.diagnostics for why in d.why)
    return ()


def _named(word: str) -> Container | None:
    """The container whose name ``word`` is: its folder has it too."""
    try:
        place = os.path.join(folder(), word)
    except NsrunError:
        return None
    found = load(place) if word and "/" not in word and "\0" not in word else None
    return found if found is not None and found.record.name == word else None


def _meant(word: str, known: list[Container]) -> str:
    """What could have been meant by a word that is nobody's name."""
    import difflib

    members = [c.record for c in known if c.record.stack and not c.record.holds_networks]
    of_stack = [r.name for r in members if r.stack == word]
    if of_stack:
        return f"{word} is a stack, of {', '.join(of_stack)}"
    names = [c.record.name for c in known]
    # In a stack's file its name is shorter.
    close = [r.name for r in members if r.service == word]
    close = close or difflib.get_close_matches(word, names, n=1)
    return f"did you mean {' or '.join(close)}?" if close else "`nsrun ps -a` lists all"


def load(place: str) -> Container | None:
    """The container of a folder; None where it is none, or is just being made or taken away."""
    record = _read_record(place)
    if record is None:
        return None
    locked = is_locked(place)
    pid = _number(paths.read_file(os.path.join(place, "pid")))
    status, started, finished, number = _end_of(paths.read_file(os.path.join(place, "exit")))
    if locked and pid:
        started = _written(os.path.join(place, "pid"))
        state = Status.PAUSED if _is_paused(pid, record.name) else Status.RUNNING
        return Container(record=record, folder=place, status=state, pid=pid, started=started)
    if locked:
        return Container(record=record, folder=place, status=Status.CREATED)
    return Container(
        record=record,
        folder=place,
        status=Status.EXITED if status is not None else Status.DEAD,
        started=started,
        finished=finished,
        exit_status=status,
        signal=number,
    )


def damaged(name: str) -> str | None:
    """The folder of ``name`` where one is there that cannot be read as a container's, and that
    no monitor keeps."""
    try:
        place = os.path.join(folder(), name)
    except NsrunError:
        return None
    is_one = name not in ("", ".", "..") and "/" not in name and os.path.isdir(place)
    return place if is_one and _read_record(place) is None and not is_locked(place) else None


def _read_record(place: str) -> Record | None:
    text = paths.read_file(os.path.join(place, "container.json"), _LIMIT)
    try:
        data = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
        return None
    # JSON has no tuples.
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    try:
        record = Record(**values)  # type: ignore[arg-type]
    except TypeError:
        return None
    is_its_own = record.name == os.path.basename(place)
    return record if _is_sound(record) and is_its_own else None


def _is_sound(record: Record) -> bool:
    """Whether every field is of its type, and what has a form is of it: ids and names are made
    into paths, and what no system call takes has been written by nobody."""
    for known in fields(record):
        value = getattr(record, known.name)
        match known.type:
            case "bool":
                sound = isinstance(value, bool)
            case "int":
                # True is an int in Python.
                sound = type(value) is int and 0 <= value <= _INT_MAX
            case "str":
                sound = is_text(value)
            case "tuple[str, ...]":
                sound = isinstance(value, tuple) and all(map(is_text, value))
            case _:
                sound = isinstance(value, dict) and all(
                    is_text(name) and is_text(one) for name, one in value.items()
                )
        if not sound:
            return False
    return _ID.fullmatch(record.id) is not None and "/" not in record.stack + record.service


def is_text(value: object) -> bool:
    """Whether it is a text that a system call could have been given."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


def _number(text: str | None) -> int:
    word = (text or "").strip()
    return int(word) if word.isdecimal() and word.isascii() and len(word) <= _DIGITS else 0


def _end_of(text: str | None) -> tuple[int | None, int, int, int]:
    """The exit status, the two times and the signal of the file `exit`; (None, 0, 0, 0) of what
    is none. An older nsrun has written no signal."""
    words = (text or "").split()
    if len(words) not in (3, 4) or not all(_ENDED.fullmatch(word) for word in words):
        return None, 0, 0, 0
    status, started, finished, number = (*map(int, words), 0)[:4]
    # _NSIG of asm-generic/signal.h, and what an exit status is made of.
    sound = number <= 64 and number in (0, status - 128)
    return (status, started, finished, number) if sound else (None, 0, 0, 0)


def _written(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _is_paused(pid: int, name: str) -> bool:
    """Stopped by a signal (proc_pid_stat(5), state T), or with all of its control group."""
    text = paths.read_file(f"/proc/{pid}/stat") or ""
    if text.rpartition(")")[2].split()[:1] == ["T"]:
        return True
    group = GROUP_PREFIX + name
    if not cgroups.may_be_in(pid, group):
        return False
    return any(groups.is_stopped(folder) for folder in cgroups.named(pid, group))


def is_locked(place: str) -> bool:
    """Whether a monitor holds the folder's lock."""
    try:
        lock = os.open(os.path.join(place, "lock"), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        # The only descriptor of this open file: closing it lets go of the lock again.
        os.close(lock)
    return False


# --- the log ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log: ``time`` as RFC 3339, ``stream`` stdout or stderr, ``part``: the line
    goes on in the next one of its stream."""

    time: str
    stream: str
    part: bool
    text: str


def log_files(place: str) -> Iterator[str]:
    """The files of the log, the oldest first."""
    numbers = [
        int(name[4:]) for name in os.listdir(place) if name[:4] == "log." and name[4:].isdigit()
    ]
    for number in sorted(numbers, reverse=True):
        yield os.path.join(place, f"log.{number}")
    if os.path.exists(os.path.join(place, "log")):
        yield os.path.join(place, "log")


def lost(place: str) -> tuple[int, str] | None:
    """How many lines could not be written to the log since its last one, and why; None where it
    lacks none, or has said so itself."""
    try:
        with open(os.path.join(place, "lost"), encoding="ascii") as file:
            lines, error = (int(word) for word in file.read().split())
    # Told in the log by now; or its first line is being lost.
    except (FileNotFoundError, ValueError):
        return None
    return lines, os.strerror(error)


def line_of(text: str) -> Line:
    time, _, rest = text.partition(" ")
    stream, _, rest = rest.partition(" ")
    part, _, rest = rest.partition(" ")
    return Line(time, stream, part == "P", rest)
