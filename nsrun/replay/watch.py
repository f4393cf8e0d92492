"""Waiting for descriptors."""

from __future__ import annotations

import select


def wait_readable(*fds: int) -> set[int]:
    """Those of the descriptors (-1: none) that are readable, hung up or in error; waits."""
    poll = select.poll()
    for fd in fds:
        if fd >= 0:
            poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll()}
