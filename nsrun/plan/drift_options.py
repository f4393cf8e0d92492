"""Options of the file systems that a plan has made, as the kernel shows them again.

Only those whose words are known both ways are compared: docs/drift.md lists them. Sources:
shmem_show_options, devpts_show_options, proc_show_options, ovl_show_options of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable

from nsrun.kernel.observed import SeenMount
from nsrun.plan.difference import NOTHING
from nsrun.plan.expected_mounts import Mount

_PAGE = 4096
_SUFFIXES = {"k": 10, "m": 20, "g": 30, "t": 40}
_HIDE = {"0": "off", "1": "noaccess", "2": "invisible", "4": "ptraceable"}


def different(mount: Mount, line: SeenMount) -> tuple[str, str] | None:
    """The options that differ as they are expected and found; None where none does."""
    # What is bound has the options of a file system of somebody else's.
    known = _KNOWN.get(mount.fstype)
    if not line.super_options or known is None:
        return None
    shown: dict[str, str] = {}
    for word in line.super_options:
        key, _, value = word.partition("=")
        shown[key] = value
    wanted, found = [], []
    for key, (read, default) in known.items():
        asked = mount.options.get(key, "")
        if asked is None:
            continue
        planned = read(asked) if key in mount.options else default
        now = (read(shown[key]) or shown[key]) if key in shown else default
        if planned is not None and planned != now:
            wanted.append(_shown(key, planned))
            found.append(_shown(key, now))
    if ("ro" in mount.options) != ("ro" in shown):
        wanted.append("ro" if "ro" in mount.options else "rw")
        found.append("ro" if "ro" in shown else "rw")
    if not wanted:
        return None
    return f"{mount.fstype} {','.join(wanted)}", f"{mount.fstype} {','.join(found)}"


def _shown(key: str, text: str) -> str:
    return f"no {key}" if text == NOTHING else f"{key}={text}"


def _size(text: str) -> str | None:
    """In kibibytes, whole pages. A share of the memory (``50%``) cannot be told."""
    number = _number(text)
    if number is None:
        return None
    # Of 0 bytes nothing is shown: there is no limit.
    return f"{-(-number // _PAGE) * _PAGE // 1024}k" if number else NOTHING


def _count(text: str) -> str | None:
    number = _number(text)
    return None if number is None else str(number) if number else NOTHING


def _number(text: str) -> int | None:
    """As the kernel's memparse reads it."""
    digits, shift = text, 0
    if text[-1:].lower() in _SUFFIXES:
        digits, shift = text[:-1], _SUFFIXES[text[-1].lower()]
    return int(digits) << shift if digits.isdecimal() and digits.isascii() else None


def _mode(text: str) -> str | None:
    try:
        return f"{int(text, 8):o}"
    except ValueError:
        return None


def _hide(text: str) -> str | None:
    return _HIDE.get(text, text)


def _word(text: str) -> str | None:
    return text


def _path(text: str) -> str | None:
    """One that the kernel shows as it was given, and that no descriptor's number stands in."""
    is_plain = not any(letter in text for letter in "\\,: \t\n") and "/proc/self/fd/" not in text
    return text if is_plain else None


# By the file system: how a word is read, and what holds where the kernel shows nothing.
_KNOWN: dict[str, dict[str, tuple[Callable[[str], str | None], str]]] = {
    "tmpfs": {"size": (_size, NOTHING), "nr_inodes": (_count, NOTHING), "mode": (_mode, "1777")},
    "devpts": {"mode": (_mode, "600"), "ptmxmode": (_mode, "0")},
    "proc": {"hidepid": (_hide, "off"), "subset": (_word, NOTHING)},
    "overlay": dict.fromkeys(("lowerdir", "upperdir", "workdir"), (_path, NOTHING)),
}
