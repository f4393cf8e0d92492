"""Whether the hand-written program makes the container that the plan makes.

The plan grows and the program does not by itself: a comparison of unlike things would flatter.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from bench.peers import Peers
from bench.subject import Nsrun

_LOOK = (
    "/bin/sh",
    "-c",
    "mount; hostname; cat /proc/self/uid_map /proc/self/gid_map; ls -l /dev; ls /proc/self/fd; "
    "cat /sys/class/net/lo/flags; grep -E '^(Cap|NoNew|Seccomp|Uid|Gid|Groups|Sig[^Q])' "
    "/proc/self/status",
)


def differences(nsrun: Nsrun, peers: Peers) -> tuple[str, ...]:
    """Lines that only one of the two containers shows of itself."""
    ours = nsrun.run(str(nsrun.area.spec), "--", *_LOOK)
    theirs = subprocess.run(
        [*peers.handwritten().argv[:-1], *_LOOK],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    for name, done in (("nsrun", ours), ("hand-written C", theirs)):
        if done.returncode:
            return (f"{name} ends with {done.returncode}",)
    return unlike(ours.stdout.splitlines(), theirs.stdout.splitlines())


def unlike(ours: Sequence[str], theirs: Sequence[str]) -> tuple[str, ...]:
    return (
        *(f"nsrun alone: {line}" for line in ours if line not in theirs),
        *(f"hand-written C alone: {line}" for line in theirs if line not in ours),
    )
