"""The parts of a spec about the command: its environment, user, limits and rights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, cast

from nsrun.diag import NsrunError
from nsrun.kernel.abi import FSCONFIG_STRING_MAX, ID_MAX, RLIM_INFINITY
from nsrun.spec import names
from nsrun.spec.envfile import read_env_file
from nsrun.spec.model import (
    Capabilities,
    Hook,
    Hooks,
    Landlock,
    Logging,
    Rlimit,
    Selinux,
    User,
)
from nsrun.spec.path import item_path, key_path
from nsrun.spec.reader import Reader, Value
from nsrun.spec.units import parse_duration, parse_mode, parse_size
from nsrun.spec.words import quote

_DIGITS = re.compile(r"[0-9]+")
# A log's longest line has 8 KiB, and its time.
LOG_SIZE_MIN = 16 << 10
LOG_SIZE_MAX = (1 << 63) - 1
# fs/proc/base.c takes no more than a page in one write to /proc/PID/attr; "exec " is part of it.
_PROFILE_MAX = 4096 - len("exec ")
_LABEL_MAX = 4096
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def command(reader: Reader, value: Value, path: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return ("/bin/sh", "-c", reader.text(value, path))
    words = arguments(reader, value, path)
    if words[0] == "":
        reader.problem("NS203", item_path(path, 0), "the program's name is empty")
    return words


def arguments(reader: Reader, value: Value, path: str) -> tuple[str, ...]:
    return tuple(reader.text(v, item_path(path, i)) for i, v in enumerate(value))


def env(reader: Reader, value: Value, path: str) -> Mapping[str, str | None]:
    if isinstance(value, list):
        return _env_list(reader, value, path)

    def one(name: str, content: Value, place: str) -> str | None:
        _variable(reader, name, place, key=True)
        return None if content is None else reader.text(content, place)

    return dict(reader.each(value, path, one))


def _env_list(reader: Reader, value: Value, path: str) -> Mapping[str, str | None]:
    made: dict[str, str | None] = {}

    def one(_: int, entry: Value, place: str) -> None:
        name, equals, content = reader.text(entry, place).partition("=")
        _variable(reader, name, place)
        if name in made:
            reader.problem("NS318", place, f"the variable {quote(name)} is given twice")
        made[name] = content if equals else None

    reader.each(value, path, one)
    return made


def _variable(reader: Reader, name: str, path: str, *, key: bool = False) -> None:
    # environ(7): a name ends at the first `=`; nothing could ever read a name with one in it.
    if not names.VARIABLE_NAME.fullmatch(name):
        reader.problem(
            "NS316",
            path,
            f"{quote(name)} cannot be the name of a variable",
            label="a name is not empty and has no `=` and no control character",
            key=key,
        )


def env_file(reader: Reader, value: Value, path: str) -> Mapping[str, str | None]:
    made: dict[str, str | None] = {}
    entries = (
        [(value, path)]
        if isinstance(value, str)
        else [(entry, item_path(path, index)) for index, entry in enumerate(value)]
    )
    for entry, place in entries:
        file = reader.host_path(entry, place)
        if "\0" in file:
            continue
        try:
            made |= read_env_file(file, reader.document.spans.get(place), reader.report)
        except NsrunError as error:
            reader.report.extend(error.diagnostics)
    return made


def user(reader: Reader, value: Value, path: str) -> User:
    if isinstance(value, dict):
        return User(
            uid=_id(reader, value.get("uid"), f"{path}.uid"),
            gid=_id(reader, value.get("gid"), f"{path}.gid"),
            groups=_groups(reader, value.get("groups", []), f"{path}.groups"),
            umask=_umask(reader, value["umask"], f"{path}.umask") if "umask" in value else None,
        )
    if isinstance(value, int):
        return User(uid=value)
    uid, colon, gid = value.partition(":")
    return User(uid=_id(reader, uid, path), gid=_id(reader, gid, path) if colon else None)


def logging(reader: Reader, value: Value, path: str) -> Logging:
    made = Logging(
        driver=value.get("driver", "file"),
        max_size=parse_size(value["max_size"]) if "max_size" in value else Logging().max_size,
        max_files=value.get("max_files", Logging().max_files),
    )
    if made.max_size and not LOG_SIZE_MIN <= made.max_size <= LOG_SIZE_MAX:
        reader.problem(
            "NS203",
            key_path(path, "max_size"),
            f"`max_size: {value['max_size']}` cannot be the size of a log",
            label="16k at least, which holds its longest line; 0 is no limit",
        )
    for key in ("max_size", "max_files"):
        if made.driver == "none" and key in value:
            reader.problem(
                "NS318",
                key_path(path, key),
                f"`{key}` is about a log, and `driver: none` keeps none",
                key=True,
            )
    return made


def _umask(reader: Reader, value: str, path: str) -> int:
    """umask(2) takes the nine permission bits, and silently drops any other."""
    mask = parse_mode(value)
    if mask > 0o777:
        reader.problem("NS203", path, f"{quote(value)} is no mask: the most is `0777`")
    return mask


def _groups(reader: Reader, value: Value, path: str) -> tuple[int | str, ...]:
    made = (_id(reader, v, item_path(path, i)) for i, v in enumerate(value))
    return tuple(entry for entry in made if entry is not None)


def _id(reader: Reader, value: int | str | None, path: str) -> int | str | None:
    """Digits are a number, never looked up (CVE-2016-3697); -1 is no id (setresuid(2))."""
    if value is None or isinstance(value, int):
        return value
    if _DIGITS.fullmatch(value):
        if len(value) <= 10 and int(value) <= ID_MAX:
            return int(value)
        reader.problem("NS203", path, f"the id {quote(value)} is over {ID_MAX}")
    elif not names.USER_NAME.fullmatch(value):
        what = f"{quote(value)} is neither an id nor a name" if value else "an id or name is empty"
        reader.problem(
            "NS203",
            path,
            what,
            help=("write `uid:gid`, `uid`, or names",),
        )
    return value


def signal(reader: Reader, value: Value, path: str) -> str:
    found = names.signal_name(value)
    if found is None:
        text = reader.text(value, path)
        reader.problem(
            "NS307",
            path,
            f"there is no signal {quote(text)}",
            help=(names.nearest(text, names.SIGNALS),),
        )
    return found or "SIGTERM"


def duration(reader: Reader, value: Value, path: str) -> int:
    text = reader.text(value, path)
    return reader.attempt(
        lambda: parse_duration(value), 0, path, f"{quote(text)} is over 292 years"
    )


def capabilities(reader: Reader, value: Value, path: str) -> Capabilities:
    if isinstance(value, str):
        return Capabilities(base=cast(Literal["default", "none", "all"], value))
    if isinstance(value, list):
        return Capabilities(explicit=capability_names(reader, value, path))
    named = [key for key in _SETS if key in value]
    if named and ("add" in value or "drop" in value):
        reader.problem(
            "NS318",
            path,
            f"`add` or `drop` together with the set `{named[0]}`",
            help=("name the sets in full, or change the default with `add` and `drop`",),
        )
    if named:
        sets = {key: capability_names(reader, value[key], f"{path}.{key}") for key in named}
        return Capabilities(sets=MappingProxyType(sets))
    return _changes(reader, value, path)


def _changes(reader: Reader, value: Value, path: str) -> Capabilities:
    """``add`` and ``drop``, where ``ALL`` in one of them changes what they start from."""
    base: Literal["default", "none", "all"] = "default"
    parts: dict[str, tuple[str, ...]] = {}
    for key in ("drop", "add"):
        words = value.get(key, [])
        if any(word.upper() in ("ALL", "CAP_ALL") for word in words):
            if base != "default":
                reader.problem("NS318", path, "`ALL` is added and dropped")
            base = "none" if key == "drop" else "all"
            words = []
        parts[key] = capability_names(reader, words, f"{path}.{key}")
    for name in parts["add"]:
        if name in parts["drop"]:
            reader.problem("NS318", path, f"{quote(name)} is added and dropped")
    return Capabilities(base=base, add=parts["add"], drop=parts["drop"])


def capability_names(reader: Reader, value: Value, path: str) -> tuple[str, ...]:
    made: list[str] = []
    for index, word in enumerate(value):
        found = names.capability(word)
        if found is None:
            reader.problem(
                "NS306",
                item_path(path, index),
                f"there is no capability {quote(word)}",
                help=(names.nearest(word, names.CAPABILITIES),),
            )
        elif found not in made:
            made.append(found)
    return tuple(made)


def landlock(reader: Reader, value: Value, path: str) -> Landlock:
    if value == "required":
        return Landlock(scoped=True, required=True)

    def paths(key: str) -> tuple[str, ...] | None:
        if key not in value:
            return None
        place = key_path(path, key)
        return tuple(
            reader.target(entry, item_path(place, index)) for index, entry in enumerate(value[key])
        )

    return Landlock(
        read=paths("read"),
        write=paths("write"),
        scoped=value.get("scoped", False),
        required=value.get("required", False),
    )


def apparmor(reader: Reader, value: Value, path: str) -> str:
    return _label(reader, value, path, _PROFILE_MAX)


def selinux(reader: Reader, value: Value, path: str) -> Selinux:
    def one(key: str, longest: int) -> str | None:
        place = key_path(path, key)
        return _label(reader, value[key], place, longest) if key in value else None

    return Selinux(
        label=one("label", _LABEL_MAX), mount_label=one("mount_label", FSCONFIG_STRING_MAX)
    )


def _label(reader: Reader, value: Value, path: str, longest: int) -> str:
    """A name that is handed to a security module as it is."""
    text = str(value)
    size = len(text.encode("utf-8", "surrogatepass"))
    if _CONTROL.search(text):
        reader.problem("NS203", path, f"a control character in {quote(text)}")
    elif text != text.strip():
        reader.problem("NS203", path, f"a space at an end of {quote(text)}")
    elif size > longest:
        reader.problem(
            "NS203",
            path,
            f"{quote(text)} is too long",
            label=f"{size} bytes, the most that the kernel takes is {longest}",
        )
    return text


def rlimits(reader: Reader, value: Value, path: str) -> tuple[Rlimit, ...]:
    given: set[str] = set()

    def one(key: str, written: Value, place: str) -> Rlimit:
        name = names.rlimit(key) or ""
        if not name:
            reader.problem(
                "NS315",
                place,
                f"there is no resource limit {quote(key)}",
                help=(names.nearest(key, [n.upper() for n in names.RLIMITS]).lower(),),
                key=True,
            )
        elif name in given:
            reader.problem("NS318", place, f"the limit {quote(name)} is given twice", key=True)
        given.add(name)
        first, colon, second = str(written).partition(":")
        soft = _limit(reader, first, place)
        hard = _limit(reader, second, place) if colon else soft
        return Rlimit(name=name, soft=soft, hard=hard)

    yours = {key: written for key, written in value.items() if not key.startswith("x-")}
    return tuple(limit for _, limit in reader.each(yours, path, one))


def _limit(reader: Reader, text: str, path: str) -> int | None:
    if text == "unlimited":
        return None
    if len(text) > 20 or int(text) >= RLIM_INFINITY:
        reader.problem(
            "NS203", path, f"{quote(text)} is more than a limit can be", help=("write `unlimited`",)
        )
        return None
    return int(text)


def texts(reader: Reader, value: Value, path: str) -> Mapping[str, str]:
    """A mapping of names to scalars, as the file writes them."""
    return MappingProxyType({k: reader.text(v, key_path(path, k)) for k, v in value.items()})


def sysctl(reader: Reader, value: Value, path: str) -> Mapping[str, str]:
    yours = {key: written for key, written in value.items() if not key.startswith("x-")}
    read = reader.each(yours, path, lambda _, written, place: reader.text(written, place))
    return MappingProxyType(dict(read))


def hooks(reader: Reader, value: Value, path: str) -> Hooks:
    def phase(key: str) -> tuple[Hook, ...]:
        place = f"{path}.{key}"
        entries = value.get(key, [])
        return tuple(_hook(reader, v, item_path(place, i)) for i, v in enumerate(entries))

    return Hooks(
        prestart=phase("prestart"), poststart=phase("poststart"), poststop=phase("poststop")
    )


def _hook(reader: Reader, value: Value, path: str) -> Hook:
    variables = env(reader, value.get("env", []), f"{path}.env")
    for name, content in variables.items():
        if content is None:
            reader.problem(
                "NS203",
                f"{path}.env",
                f"the variable {quote(name)} has no value",
                help=("a hook's environment is written out: `NAME=value`",),
            )
    return Hook(
        path=reader.host_path(value["path"], f"{path}.path"),
        args=arguments(reader, value.get("args", []), f"{path}.args"),
        env=tuple(f"{name}={content or ''}" for name, content in variables.items()),
        timeout=duration(reader, value.get("timeout", 0), f"{path}.timeout"),
    )
