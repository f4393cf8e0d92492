"""The operations of a plan as JSON: one table each.

The tables are the codec; schemas/plan.schema.json and docs/steps.md are held against them.
"""

from __future__ import annotations

from typing import Any

from nsrun.kernel import abi
from nsrun.kernel.values import Bytes, Call, Fmt, Str
from nsrun.plan.codec_args import ANY_REG, ARG, BYTES, FD, INT, NUMBER_REG, PID, argument
from nsrun.plan.codec_forms import (
    BOOLEAN,
    ERRNO,
    KERNEL_STRING,
    NAME,
    S64_MIN,
    TEXT,
    Form,
    FormError,
    Keys,
    integer,
    kind_of,
    many,
    member,
    record,
    string,
)
from nsrun.plan.codec_text import quoted
from nsrun.plan.ops import (
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

# Linux passes at most six arguments (syscall(2)).
MAX_ARGUMENTS = 6

_NANOSECONDS = integer(0, 2**63 - 1)
_STATUS = integer(0, 255)


def _call_name(value: Any) -> str:
    text = string(value)
    if text not in abi.syscall_names():
        raise FormError(f"{quoted(text)} is not a system call that a plan may make")
    return text


_ERRNOS = many(ERRNO)
_CHANNEL = {"channel": ("channel", FD)}
_SYNC = {"sync": ("sync", NAME)}
_SIGNALS = {"signals": ("signals", FD)}

# JSON's name of each operation: its class, and its keys in the order they are written.
OPERATIONS: dict[str, tuple[type[Op], Keys]] = {
    "call": (
        Call,
        {
            "name": ("name", Form(str, _call_name)),
            "args": ("args", many(ARG, at_most=MAX_ARGUMENTS)),
            "save": ("save", ANY_REG),
            "result": ("result", integer(S64_MIN, 2**63 - 1)),
            "accept": ("accept", _ERRNOS),
            "skip": ("skip", _ERRNOS),
            "log": ("log", FD),
        },
    ),
    "clone": (
        Clone,
        {
            "flags": ("flags", INT),
            "exit_signal": ("exit_signal", INT),
            "pid": ("pid", PID),
            "pidfd": ("pidfd", FD),
            "hand_over": ("hand_over", BOOLEAN),
            "hold": ("hold", BOOLEAN),
            **_SYNC,
            **_CHANNEL,
        },
    ),
    "signal": (Signal, {**_SYNC, **_CHANNEL, "value": ("value", ANY_REG)}),
    "wait": (Wait, {**_SYNC, **_CHANNEL, "save": ("save", ANY_REG), **_SIGNALS}),
    "send_fd": (SendFd, {**_SYNC, **_CHANNEL, "fd": ("fd", FD)}),
    "receive_fd": (
        ReceiveFd,
        {**_SYNC, **_CHANNEL, "save": ("save", FD), "value": ("value", ANY_REG), **_SIGNALS},
    ),
    "netlink": (
        Netlink,
        {
            "socket": ("socket", FD),
            "message": ("message", BYTES),
            "accept": ("accept", _ERRNOS),
            "skip": ("skip", _ERRNOS),
        },
    ),
    "spawn": (
        Spawn,
        {
            "argv": ("argv", many(argument(Str, Fmt))),
            "env": ("env", many(KERNEL_STRING)),
            "stdin": ("stdin", argument(Bytes, Fmt)),
            "success": ("success", many(_STATUS)),
            "timeout": ("timeout", _NANOSECONDS),
        },
    ),
    "init": (Init, {**_CHANNEL}),
    "await": (
        Await,
        {
            "child": ("child", PID),
            "pidfd": ("pidfd", FD),
            **_SIGNALS,
            "status": ("status", NUMBER_REG),
            "stop_signal": ("stop_signal", INT),
            "stop_timeout": ("stop_timeout", _NANOSECONDS),
            "timeout": ("timeout", _NANOSECONDS),
            "terminal": ("terminal", FD),
        },
    ),
}

_FORMS = {
    name: record(cls, members, tag=("op", name)) for name, (cls, members) in OPERATIONS.items()
}
_NAMES = {cls: name for name, (cls, _) in OPERATIONS.items()}


def _decode_op(value: Any) -> Op:
    if type(value) is not dict:
        raise FormError(f"a step is an object, not {kind_of(value)}")
    if "op" not in value:
        raise FormError("key `op` is missing")
    name = member(TEXT, value, "op")
    if name not in _FORMS:
        raise FormError(f"{quoted(name)} is not one of {', '.join(_FORMS)}", "op")
    found: Op = _FORMS[name].decode(value)
    return found


OP = Form(lambda op: _FORMS[_NAMES[type(op)]].encode(op), _decode_op)
