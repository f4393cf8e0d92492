"""The names that a running container finds: its /etc/hosts, written anew when others come or go."""

from __future__ import annotations

import contextlib
import os

from nsrun.host.syscalls import open_inside
from nsrun.plan.etc import name_files
from nsrun.spec.model import Spec

_HOSTS = "/etc/hosts"
# Where the action that writes it has its place in a spec.
ORIGIN = "network.hosts"


def rewrite(pid: int, spec: Spec) -> None:
    """Write ``spec``'s hosts file into the root of process ``pid``, if it is still there.

    The path is walked inside that root: no link of the container's leads out of it. The file is
    the same one as before, so who has it open sees it.
    """
    content = next((f.content for f in name_files(spec) if f.target == _HOSTS), None)
    if content is None:
        return
    with contextlib.suppress(OSError):
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            file = open_inside(root, _HOSTS, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        finally:
            os.close(root)
        try:
            os.ftruncate(file, 0)
            os.write(file, content)
        finally:
            os.close(file)
