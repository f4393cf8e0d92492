"""One operation as text.

Short, for the listing: constants without their prefix, long values cut in the middle, lengths
and buffers that say nothing left out. Full, for diagnostics: as strace(1) prints it.
"""

from __future__ import annotations

import re
from typing import assert_never

from nsrun.kernel.values import (
    NULL,
    Arg,
    Bytes,
    Call,
    Fmt,
    Int,
    Length,
    Out,
    Reg,
    Str,
    Strings,
)
from nsrun.plan.ops import (
    EXEC,
    Await,
    Clone,
    Init,
    Netlink,
    Op,
    ReceiveFd,
    SendFd,
    Signal,
    Spawn,
    Wait,
)
from nsrun.plan.registers import written
from nsrun.render.text import duration, plural, quoted, shorten, visible, visible_char

STRING_LIMIT = 36
VECTOR_LIMIT = 48
BUFFER_LIMIT = 64

# What the listing leaves off a constant; the call's name says the family. Longest first.
_PREFIXES = (
    "SECCOMP_FILTER_FLAG_", "SECCOMP_",
    "CLOSE_RANGE_", "MOUNT_ATTR_", "MOVE_MOUNT_", "OPEN_TREE_", "FSCONFIG_", "FSMOUNT_",
    "KEYCTL_", "RESOLVE_", "RENAME_", "FSOPEN_", "FSPICK_", "RLIMIT_", "UMOUNT_", "CLONE_",
    "STATX_", "LOCK_", "SOCK_", "PIDFD_", "IFF_", "MFD_", "MNT_", "MSG_", "SFD_",
    "AT_", "MS_", "PR_", "O_", "P_", "S_",
)  # fmt: skip
# Calls whose last arguments are zero unless a command uses them: how many are always shown.
_PADDED = {"prctl": 2, "fsconfig": 2}
_WHOLE = {"AT_FDCWD": "cwd", "NULL": "-", "UINT_MAX": "MAX"}
_QUOTED_OR_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*"|\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b')


def step_text(op: Op, *, full: bool = False) -> str:
    """``op`` on one line, safe to print. The short form starts with the registers it sets."""
    text = _operation(op, full)
    names = ", ".join(f"%{reg.name}" for reg in written(op))
    return f"{names} = {text}" if names and not full else text


def _operation(op: Op, full: bool) -> str:
    match op:
        case Call():
            return call_text(op, full=full)
        case Clone():
            text = f"clone3({_constant(op.flags, full)}, {_constant(op.exit_signal, full)})"
            text += " hold" if op.hold else ""
            return f"{text} hand over #{op.sync}" if op.hand_over else text
        case Signal():
            return f"signal #{op.sync}" + (f" %{op.value.name}" if op.value else "")
        case Wait():
            return "await exec" if op.sync == EXEC else f"await #{op.sync}"
        case SendFd():
            return f"send #{op.sync} %{op.fd.name}"
        case ReceiveFd():
            return f"receive #{op.sync}"
        case Netlink():
            return _netlink(op, full)
        case Spawn():
            return _spawn(op, full)
        case Init():
            return "init: reap orphans, forward signals"
        case Await():
            return _supervise(op, full)
        case _:
            assert_never(op)


def call_text(call: Call, *, full: bool = False) -> str:
    """``call`` with its arguments; ``full`` as strace prints it, else as the listing does."""
    shown: list[str] = []
    before: Arg | None = None
    for index, arg in enumerate(call.args if full else _unpadded(call)):
        if full or not _says_nothing(arg, before):
            is_environment = call.name in ("execve", "execveat") and index == len(call.args) - 1
            if is_environment and isinstance(arg, Strings):
                count = len(arg.values)
                variables = f"/* {plural(count, 'var')} */" if full else plural(count, "variable")
                shown.append(variables)
            else:
                shown.append(arg_text(arg, full=full))
        before = arg
    text = f"{call.name}({', '.join(shown)})"
    return text if full else text + _tolerance(call.accept, call.skip)


def _unpadded(call: Call) -> tuple[Arg, ...]:
    """The arguments without the zeros at the end that only fill up."""
    args = call.args
    while len(args) > _PADDED.get(call.name, len(args)) and args[-1] in (Int(0), NULL):
        args = args[:-1]
    return args


def _says_nothing(arg: Arg, before: Arg | None) -> bool:
    """Whether the listing can do without: the length of what stands before, a mere result."""
    match arg:
        case Int():
            return not arg.text and arg.value == _size(before)
        case Length():
            return arg.of == before
        case Out():
            return bool(arg.saves) and not arg.expects
        case _:
            return False


def _size(arg: Arg | None) -> int | None:
    """The size in bytes of a buffer, None for what is none."""
    match arg:
        case Bytes():
            return len(arg.value)
        case Out():
            return arg.size
        case _:
            return None


# So many errnos are named where all are foreseen that answer a question.
_MANY = 20


def _tolerance(accept: tuple[str, ...], skip: tuple[str, ...]) -> str:
    """What failure is foreseen: `` or EEXIST, ENOENT skips``."""
    words = ["or any error"] if len(accept) > _MANY else [f"or {name}" for name in accept]
    words += ["any error skips"] if len(skip) > _MANY else [f"{name} skips" for name in skip]
    return f"  [{', '.join(words)}]" if words else ""


# --- arguments ---------------------------------------------------------------------------------


def arg_text(arg: Arg, *, full: bool = False) -> str:
    """One argument, safe to print."""
    match arg:
        case Int():
            return _constant(arg, full)
        case Str():
            return "-" if not arg.value and not full else _string(arg.value, full)
        case Fmt():
            return _string(format_text(arg), full)
        case Length():
            return f"length of {_string(format_text(arg.of), full)}"
        case Strings():
            return _vector([_string(value, full) for value in arg.values], full)
        case Bytes():
            return buffer_text(arg, full=full)
        case Out():
            return _out(arg)
        case Reg():
            return f"%{arg.name}"
        case _:
            assert_never(arg)


def _constant(value: Int, full: bool) -> str:
    text = value.text or str(value.value)
    return visible(text) if full else "|".join(map(_bare, visible(text).split("|")))


def _bare(name: str) -> str:
    """A constant without its family's prefix; what is not one stays as it is."""
    if name in _WHOLE:
        return _WHOLE[name]
    for prefix in _PREFIXES:
        if name.startswith(prefix) and name[len(prefix) :][:1].isalpha():
            return name[len(prefix) :]
    return name


def _string(text: str, full: bool) -> str:
    return quoted(text, None if full else STRING_LIMIT)


def format_text(fmt: Fmt) -> str:
    """A format as the listing writes it: ``/proc/%child/uid_map``."""
    return "".join(part if isinstance(part, str) else f"%{part.name}" for part in fmt.parts)


def _vector(members: list[str], full: bool) -> str:
    """A list; the short form keeps the first members and the last."""
    text = f"[{', '.join(members)}]"
    if full or len(text) <= VECTOR_LIMIT or len(members) < 4:
        return text
    kept = 2
    while kept + 2 < len(members) and len(", ".join([*members[: kept + 1], members[-1]])) <= 36:
        kept += 1
    between = len(members) - kept - 1
    return f"[{', '.join(members[:kept])}, … {between} more, {members[-1]}]"


def buffer_text(buffer: Bytes, *, full: bool = False) -> str:
    """What the kernel reads: data as a string, a structure as its maker wrote it."""
    escaped = buffer.value.decode("utf-8", "surrogateescape")
    plain = (escaped, buffer.value.decode("utf-8", "backslashreplace"), "")
    if buffer.text in plain and not buffer.holes and not buffer.pointers:
        return _string(escaped, full)
    if not buffer.text:
        return f"{{{plural(len(buffer.value), 'byte')}}}"
    if full:
        return visible(buffer.text)
    bare = _QUOTED_OR_CONSTANT.sub(lambda m: m[0] if m[0][0] == '"' else _bare(m[0]), buffer.text)
    return shorten(map(visible_char, bare), BUFFER_LIMIT)


def _out(out: Out) -> str:
    checks = "; ".join(visible(expect.text) for expect in out.expects)
    saves = ", ".join(f"%{hole.reg.name}" for hole in out.saves)
    if not checks and not saves:
        return f"{{{visible(out.text) or plural(out.size, 'byte')}}}"
    return "{" + "; ".join(words for words in (saves, checks) if words) + "}"


# --- operations of several values ----------------------------------------------------------------


def _netlink(op: Netlink, full: bool) -> str:
    text = op.message.text or plural(len(op.message.value), "byte")
    text = visible(text) if full else shorten(map(visible_char, text), BUFFER_LIMIT)
    text = text if text.startswith("rtnl ") else f"netlink {text}"
    return text if full else text + _tolerance(op.accept, op.skip)


def _spawn(op: Spawn, full: bool) -> str:
    words = [_string(a.value if isinstance(a, Str) else format_text(a), full) for a in op.argv]
    shown = [_vector(words, full)]
    if isinstance(op.stdin, Bytes):
        shown.append(f"stdin={buffer_text(op.stdin, full=full)}")
    elif op.stdin is not None:
        shown.append(f"stdin={_string(format_text(op.stdin), full)}")
    if op.timeout:
        shown.append(f"timeout={duration(op.timeout)}")
    text = f"spawn({', '.join(shown)})"
    others = tuple(f"status {status}" for status in op.success if status)
    return text if full else text + _tolerance(others, ())


def _supervise(op: Await, full: bool) -> str:
    shown = [f"%{op.pidfd.name}", f"stop={_constant(op.stop_signal, full)}"]
    shown.append(f"kill_after={duration(op.stop_timeout)}")
    if op.timeout:
        shown.append(f"timeout={duration(op.timeout)}")
    if op.terminal is not None:
        shown.append(f"terminal=%{op.terminal.name}")
    return f"supervise({', '.join(shown)})"
