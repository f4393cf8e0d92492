"""Waiting for descriptors."""

from __future__ import annotations

import select

# poll(2) takes an int of milliseconds: who waits longer than 24 days looks again then.
POLL_MAX = (1 << 31) - 1


def is_readable(fd: int) -> bool:
    """Whether a read would not wait."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def wait_readable(*fds: int) -> set[int]:
    """Those of the descriptors (-1: none) that are readable, hung up or in error; waits."""
    poll = select.poll()
    for fd in fds:
        if fd >= 0:
            poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll()}
