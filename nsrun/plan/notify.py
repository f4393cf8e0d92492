"""Telling whoever waits that the command runs: the protocol of sd_notify(3).

    READY=1
    MAINPID=1234
"""

from __future__ import annotations

from nsrun.kernel import calls, sockets
from nsrun.kernel.values import Fmt, Reg
from nsrun.plan.draft import Draft


def tell_ready(draft: Draft, socket: str, child: Reg) -> None:
    """One datagram to the socket at the path ``socket``, once the command has been executed."""
    fd = draft.reg("notify")
    draft.parent(
        "say that the command runs",
        sockets.socket_datagram(save=fd),
        sockets.connect_unix(fd, socket),
        calls.write(fd, Fmt(("READY=1\nMAINPID=", child, "\n"))),
        calls.close(fd),
        rule="detached",
    )
