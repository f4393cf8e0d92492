"""What stands at a path in a failed run's container, as the host's files that it is made of show.

A link is followed as the container follows it: from its root, and across what is mounted in it.
"""

from __future__ import annotations

import os
import stat

from nsrun.host import traced
from nsrun.host.hint import HintContext, number, text
from nsrun.host.paths import LINKS_MAX, components
from nsrun.kernel.abi import CloneFlag


class UnseenError(Exception):
    """No file of the host shows it."""


def host_of(path: str, context: HintContext, *, follow: bool = True) -> str | None:
    """The host's path of what stands at ``path``, None where nothing does; a link at its end is
    followed with ``follow``. Raises UnseenError."""
    _require_known_root(context)
    made = _made(context)
    mounts = {target for target, _ in traced.mounted_on(context)}
    place, host, links = "/", _host(context, "/"), 0
    rest = components(path)[::-1]
    while rest:
        part = rest.pop()
        there = os.path.normpath(os.path.join(place, part))
        host = _host(context, there)
        try:
            # A mount is of what its source led to.
            status = os.stat(host) if there in mounts else os.lstat(host)
        except (FileNotFoundError, NotADirectoryError):
            if there not in made:
                return None
            place = there
            continue
        if not stat.S_ISLNK(status.st_mode) or not (rest or follow):
            place = there
            continue
        links += 1
        if links > LINKS_MAX:
            raise UnseenError
        leads = os.readlink(host)
        place = "/" if leads.startswith("/") else place
        host = _host(context, place)
        rest += components(leads)[::-1]
    return host


def _host(context: HintContext, path: str) -> str:
    host = traced.command_path(context, path)
    if host is None:
        raise UnseenError
    return host


def _require_known_root(context: HintContext) -> None:
    """Too little is known of a root that was joined, or of an overlay with a layer from before."""
    for call, args, _ in context.before:
        joined = call == "setns" and (number(args, 1) or 0) & CloneFlag.CLONE_NEWNS
        upper = call == "fsconfig" and text(args, 2) == "upperdir"
        if joined or (upper and traced.host_path(context, text(args, 3)) is not None):
            raise UnseenError
        if call == "pivot_root" and context.rootfs is None:
            raise UnseenError


def _made(context: HintContext) -> set[str]:
    """What the run has opened or made in the root, with the folders on the way: the end of the
    run has taken away what it had made."""
    found = {target for target, _ in traced.mounted_on(context)}
    for call, args, _ in context.before:
        if call == "openat2":
            found.add(os.path.normpath("/" + text(args, 1)))
        elif call in ("mkdirat", "mknodat", "symlinkat"):
            at = 1 if call == "symlinkat" else 0
            folder = traced.container_path(context, text(args, at))
            found.add(os.path.normpath(f"/{folder or ''}/{text(args, at + 1)}"))
    above = {
        "/" + "/".join(components(p)[:n]) for p in found for n in range(len(components(p)) + 1)
    }
    return {*above, *(p.replace("//", "/", 1) for p in found)}
