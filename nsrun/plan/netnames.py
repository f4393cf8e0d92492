"""Names of interfaces on the host, made from a container's name."""

from __future__ import annotations

import hashlib
import re

# linux/if.h, IFNAMSIZ less the NUL
NAME_MAX = 15
_PREFIX = "ve-"
_BAD = re.compile(r"[^A-Za-z0-9_.-]")


def host_name(container: str, number: int) -> str:
    """The outer end of a container's veth ``number`` (from 0): ``ve-web``, ``ve-web+1``.

    No container's name has a plus: ``web1`` has an outer end of its own.

    At most 15 bytes. A name that does not fit keeps its head and four digits of its SHA-256, so
    that it is the same in every run and another for another container.
    """
    suffix = f"+{number}" if number else ""
    wanted = f"{_PREFIX}{container}{suffix}"
    if len(wanted) <= NAME_MAX and not _BAD.search(container):
        return wanted
    digest = hashlib.sha256(container.encode("utf-8", "surrogateescape")).hexdigest()[:4]
    head = _BAD.sub("-", container)[: NAME_MAX - len(_PREFIX) - len(digest) - len(suffix)]
    return f"{_PREFIX}{head}{digest}{suffix}"
