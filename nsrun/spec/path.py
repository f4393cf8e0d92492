"""Places inside a document as text: ``mounts[0].target``, ``sysctl["net.ipv4.ip_forward"]``.

A key that is no plain word is written as a JSON string in brackets, so that a dot, a bracket
or a quote in it cannot be taken for a border between two parts.
"""

from __future__ import annotations

import json
import re
from itertools import islice

_WORD = re.compile(r"[A-Za-z0-9_-]+")
_PART = re.compile(r'\.?[A-Za-z0-9_-]+|\[[0-9]+\]|\["(?:[^"\\]|\\.)*"\]')


def key_path(parent: str, key: str) -> str:
    """The place of the value under ``key`` of the mapping at ``parent``."""
    if not _WORD.fullmatch(key):
        return f"{parent}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{parent}.{key}" if parent else key


def item_path(parent: str, index: int) -> str:
    """The place of item ``index`` of the list at ``parent``."""
    return f"{parent}[{index}]"


def join_path(parts: tuple[str | int, ...], parent: str = "") -> str:
    """The place reached from ``parent`` by keys and indices."""
    for part in parts:
        parent = item_path(parent, part) if isinstance(part, int) else key_path(parent, part)
    return parent


def parent_path(path: str) -> str:
    """``path`` without its last part; "" for a place at the top."""
    start = 0
    for match in _PART.finditer(path):
        start = match.start()
    return path[:start]


def entry_path(path: str) -> str:
    """The first two parts of ``path``: the entry of a top-level list or mapping, "" above one."""
    ends = [match.end() for match in islice(_PART.finditer(path), 2)]
    return path[: ends[1]] if len(ends) == 2 else ""


def top_key(path: str) -> str:
    """The first part of ``path``: the top-level key that holds it, "" for the document."""
    match = _PART.match(path)
    if match is None:
        return ""
    part = match.group()
    return str(json.loads(part[1:-1])) if part.startswith("[") else part
