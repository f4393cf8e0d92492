"""Who is asked about the calls of SCMP_ACT_NOTIFY: the filter's listener goes to a socket.

The child sets the filter and sends the listener's descriptor to the launcher, which sends it on
with the state of the container, as OCI's runtime specification has it (config-linux.md, "The
Container Process State"), and only then lets the command begin. Source: seccomp_unotify(2).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from nsrun.kernel import calls, sockets
from nsrun.kernel.values import Hole, Reg
from nsrun.plan.draft import Draft
from nsrun.plan.launch import Launch
from nsrun.plan.ops import ReceiveFd, SendFd, Signal, Wait
from nsrun.spec.model import SeccompProfile

OCI_VERSION = "1.2.0"
# Blanks where a pid is filled in: the most digits of one (PID_MAX_LIMIT, linux/threads.h) and more.
_PID = " " * 10
_MARK = "\x01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """``socket`` is the launcher's, connected; ``listener`` the child's register."""

    socket: Reg
    listener: Reg
    started: Launch


def listening(draft: Draft, started: Launch) -> Listening | None:
    """Connect to who is asked, before the command's process can wait for an answer."""
    profile = draft.spec.seccomp
    if not isinstance(profile, SeccompProfile) or not profile.notifies:
        return None
    socket = draft.reg("asked")
    draft.parent(
        "connect to who is asked about system calls",
        sockets.socket_unix(save=socket),
        sockets.connect_unix(socket, profile.listener),
        at="seccomp.listenerPath",
    )
    return Listening(socket=socket, listener=draft.reg("listener"), started=started)


def hand_over(draft: Draft, asked: Listening) -> None:
    """The listener to the launcher, from there to who is asked; the child waits for it."""
    at = "seccomp.listenerPath"
    launch = asked.started
    draft.child(
        "hand over the filter's listener",
        SendFd(sync="listener", channel=launch.inner, fd=asked.listener),
        calls.close(asked.listener),
        Wait(sync="listened", channel=launch.inner),
        at=at,
    )
    taken = draft.reg("listener")
    text, holes = _state(draft, launch.child)
    draft.parent(
        "pass the filter's listener on",
        ReceiveFd(sync="listener", channel=launch.outer, save=taken, signals=launch.signals),
        sockets.send_descriptor(asked.socket, text, holes, taken),
        calls.close(taken),
        calls.close(asked.socket),
        Signal(sync="listened", channel=launch.outer),
        at=at,
    )


def _state(draft: Draft, child: Reg) -> tuple[bytes, tuple[Hole, ...]]:
    """The container process state, and where the pid of ``child`` is filled in."""
    profile = draft.spec.seccomp
    assert isinstance(profile, SeccompProfile)
    rootfs = draft.spec.rootfs
    state = {
        "ociVersion": OCI_VERSION,
        "fds": ["seccompFd"],
        "pid": _MARK,
        "metadata": profile.metadata,
        "state": {
            "ociVersion": OCI_VERSION,
            "id": draft.spec.name,
            "status": "creating",
            "pid": _MARK,
            # An absolute path: what stands for OCI's folder of a container.
            "bundle": rootfs.path if rootfs is not None else "/",
        },
    }
    if not profile.metadata:
        del state["metadata"]
    parts = json.dumps(state).split(json.dumps(_MARK))
    holes = []
    text = parts[0].encode()
    for part in parts[1:]:
        holes.append(Hole(len(text), len(_PID), child, decimal=True))
        text += _PID.encode() + part.encode()
    return text, tuple(holes)
