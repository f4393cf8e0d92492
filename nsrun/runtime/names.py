"""The names that a running container finds: its /etc/hosts, written anew when others come or go."""

from __future__ import annotations

import contextlib
import os
import stat

from nsrun.host.syscalls import file_system, open_inside
from nsrun.kernel.abi import Magic
from nsrun.plan.etc import name_files
from nsrun.spec.model import Spec

_HOSTS = "/etc/hosts"
# Where the action that writes it has its place in a spec.
ORIGIN = "network.hosts"


def rewrite(pid: int, spec: Spec) -> None:
    """Write ``spec``'s hosts file into the root of process ``pid``, if it is still there.

    The path is walked inside that root: no link of the container's leads out of it. The file is
    the same one as before, so who has it open sees it. It lies on a tmpfs, as a plan makes it: a
    container that may mount could have put a file of procfs there, for its keeper to write to
    with rights that it has not itself (CVE-2025-52881).
    """
    content = next((f.content for f in name_files(spec) if f.target == _HOSTS), None)
    if content is None:
        return
    with contextlib.suppress(OSError):
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = open_inside(root, _HOSTS, os.O_PATH | os.O_NOFOLLOW)
        finally:
            os.close(root)
        try:
            if _is_ours(found):
                # The very file that was looked at.
                file = os.open(f"/proc/self/fd/{found}", os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
                try:
                    os.write(file, content)
                finally:
                    os.close(file)
        finally:
            os.close(found)


def _is_ours(fd: int) -> bool:
    """A regular file on a tmpfs. Raises OSError."""
    return file_system(fd) == Magic.TMPFS_MAGIC and stat.S_ISREG(os.fstat(fd).st_mode)
