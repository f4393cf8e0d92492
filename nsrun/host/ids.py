"""The caller's name and subordinate ids, from the files themselves.

No NSS: its modules are libraries of the host's choice, loaded into a process that may be root.
"""

from __future__ import annotations

import os
import shutil

from nsrun.host import paths
from nsrun.kernel.abi import ID_MAX
from nsrun.kernel.facts import SubIds

# A host with a line for each of 100,000 users has files of a few megabytes.
_LIMIT = 64 << 20
# Where helpers are looked for after PATH.
HELPER_FOLDERS = ("/usr/bin", "/usr/sbin")


def user_name(uid: int) -> str:
    """The login name of ``uid``: the first line of /etc/passwd with it (passwd(5)), else ""."""
    for line in (paths.read_file("/etc/passwd", _LIMIT) or "").split("\n"):
        fields = line.split(":")
        if len(fields) >= 4 and fields[2] == str(uid):
            return fields[0]
    return ""


def subordinates(path: str, uid: int, name: str) -> tuple[SubIds, ...]:
    """The ranges of a user in /etc/subuid or /etc/subgid (subuid(5)), in the file's order.

    A line names its user by login name or by number. Lines that are not well formed, or that
    leave the range of ids, are no ranges.
    """
    ranges = []
    for line in (paths.read_file(path, _LIMIT) or "").split("\n"):
        fields = line.split(":")
        if len(fields) != 3 or fields[0] not in {name, str(uid)} or not fields[0]:
            continue
        if not all(f.isascii() and f.isdigit() and len(f) <= 10 for f in fields[1:]):
            continue
        start, size = int(fields[1]), int(fields[2])
        if size and start + size - 1 <= ID_MAX:
            ranges.append(SubIds(start=start, size=size))
    return tuple(ranges)


def helper(name: str) -> str | None:
    """The absolute path of a program that nsrun runs (newuidmap, nft), on PATH or where Debian
    has it: an ordinary user's PATH often lacks /usr/sbin."""
    search = os.environ.get("PATH", os.defpath)
    # An entry that is relative would be another program in another folder.
    folders = [f for f in search.split(os.pathsep) if os.path.isabs(f)]
    return shutil.which(name, path=os.pathsep.join((*folders, *HELPER_FOLDERS)))
