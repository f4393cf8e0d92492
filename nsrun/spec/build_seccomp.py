"""``seccomp``: a word, an OCI seccomp object, or the file of one.

A file is JSON as Docker and OCI have it (or YAML): what is wrong in it is said at its place there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from nsrun.diag import Collector, Diagnostic, NsrunError
from nsrun.spec import names
from nsrun.spec.document import Document, parse_document
from nsrun.spec.model import (
    NOTIFY,
    Seccomp,
    SeccompArgument,
    SeccompProfile,
    SeccompRule,
    SeccompWhen,
)
from nsrun.spec.path import item_path
from nsrun.spec.reader import Reader, Value
from nsrun.spec.schema import validate
from nsrun.spec.syscalls import NAMES
from nsrun.spec.text import decode, read_bytes
from nsrun.spec.words import did_you_mean, quote

_WORDS: tuple[Literal["default", "unconfined"], ...] = ("default", "unconfined")
_KEY = "seccomp"
# sockaddr_un's sun_path with the byte that ends it (unix(7)).
_SOCKET_MAX = 107
# What the process of the command does between its filter and its execve(2).
_HANDING_OVER = frozenset(
    {
        "brk", "close", "exit_group", "futex", "madvise", "mmap", "munmap", "poll", "ppoll",
        "read", "recvmsg", "rt_sigprocmask", "sendmsg", "write",
    }
)  # fmt: skip


def seccomp(reader: Reader, value: Value, path: str) -> Seccomp:
    if not isinstance(value, str):
        return _profile(reader, value, path)
    for word in _WORDS:
        if value == word:
            return word
    if "/" not in value and "." not in value:
        reader.problem(
            "NS203",
            path,
            f"{quote(value)} is no seccomp profile",
            help=(
                did_you_mean(value, _WORDS)
                or f"write `default`, `unconfined`, or `./{value}` for a file",
            ),
        )
        return "default"
    return _file(reader, reader.host_path(value, path), path)


def _file(reader: Reader, file: str, path: str) -> Seccomp:
    """The profile in a host file; it is read with the spec, and what is wrong reported there."""
    if "\0" in file:
        return "default"
    named = reader.document.spans.get(path)

    def tell(found: Iterable[Diagnostic]) -> None:
        """Beside its place in the profile, who has asked for that."""
        for one in found:
            inside = named is not None and one.span is not None and one.span.file == file
            notes = (*one.notes, f"`seccomp` names this file at {named}") if inside else one.notes
            reader.report.add(replace(one, notes=notes))

    try:
        data = read_bytes(file, code="NS203", span=named, regular=True)
        inner = _nested(parse_document(decode(data, file), file))
    except NsrunError as error:
        tell(error.diagnostics)
        return "default"
    found = validate(inner)
    if found:
        tell(found)
        return "default"
    profiles = Reader(inner, os.path.dirname(file), Collector())
    content: Value = inner.data
    if not isinstance(content[_KEY], dict):
        profiles.problem("NS202", _KEY, "expected an OCI seccomp object")
        made: Seccomp = "default"
    else:
        made = replace(_profile(profiles, content[_KEY], _KEY), file=file)
    tell(profiles.report.diagnostics)
    return made


def _nested(document: Document) -> Document:
    """A profile's document as one with the profile under its key, so that the schema of specs
    serves for both; places stay those of the file."""

    def under(path: str) -> str:
        return f"{_KEY}.{path}" if path and path[0] != "[" else f"{_KEY}{path}"

    return replace(
        document,
        data={_KEY: document.data},
        spans=MappingProxyType({under(p): s for p, s in document.spans.items()}),
        key_spans=MappingProxyType({under(p): s for p, s in document.key_spans.items()}),
        literals=MappingProxyType({under(p): t for p, t in document.literals.items()}),
    )


# --- the object --------------------------------------------------------------------------------


def _profile(reader: Reader, value: Value, path: str) -> SeccompProfile:
    place = f"{path}.syscalls"
    made = SeccompProfile(
        default_action=value["defaultAction"],
        default_errno=_errno(reader, value, path, "defaultErrnoRet", "defaultErrno"),
        architectures=tuple(value.get("architectures", ())),
        arch_map=_arch_map(value.get("archMap", ())),
        flags=tuple(dict.fromkeys(value.get("flags", ()))),
        rules=tuple(
            _rule(reader, entry, item_path(place, index))
            for index, entry in enumerate(value.get("syscalls", ()))
        ),
        listener=_listener(reader, value, path),
        metadata=value.get("listenerMetadata", ""),
    )
    _check_listener(reader, made, path)
    return made


def _listener(reader: Reader, value: Value, path: str) -> str:
    if "listenerPath" not in value:
        return ""
    place = f"{path}.listenerPath"
    made = reader.host_path(value["listenerPath"], place)
    if len(os.fsencode(made)) > _SOCKET_MAX:
        reader.problem("NS203", place, f"a socket has a path of at most {_SOCKET_MAX} bytes")
    return made


def _check_listener(reader: Reader, made: SeccompProfile, path: str) -> None:
    if made.metadata and not made.listener:
        reader.problem(
            "NS318", f"{path}.listenerMetadata", "`listenerMetadata` without `listenerPath`"
        )
    if made.listener and not made.notifies:
        reader.problem(
            "NS318",
            f"{path}.listenerPath",
            "`listenerPath`, and no action is SCMP_ACT_NOTIFY",
            help=("name the calls to ask about, or leave `listenerPath` out",),
        )
    if not made.notifies:
        return
    if not made.listener:
        reader.problem(
            "NS318", path, f"{NOTIFY} without `listenerPath`", help=("say who is asked",)
        )
    if made.default_action == NOTIFY:
        reader.problem(
            "NS318",
            f"{path}.defaultAction",
            f"{NOTIFY} for every call",
            help=("name the calls to ask about",),
        )
    if "SECCOMP_FILTER_FLAG_TSYNC" in made.flags:
        reader.problem("NS318", f"{path}.flags", "a listener and SECCOMP_FILTER_FLAG_TSYNC")
    for rule in made.rules:
        for name in rule.names if rule.action == NOTIFY else ():
            if name in _HANDING_OVER:
                reader.problem(
                    "NS318",
                    f"{rule.path}.action",
                    f"{NOTIFY} for {name}",
                    help=("by it the listener is handed over: nobody would answer",),
                )


def _arch_map(value: Value) -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType(
        {entry["architecture"]: tuple(entry.get("subArchitectures") or ()) for entry in value}
    )


def _errno(reader: Reader, value: Value, path: str, number: str, name: str) -> int | None:
    if number in value:
        return int(value[number])
    word = value.get(name, "")
    if not word:
        return None
    known = {text: code for code, text in errno.errorcode.items()}
    if word not in known:
        reader.problem(
            "NS203",
            f"{path}.{name}",
            f"there is no errno {quote(word)}",
            help=(did_you_mean(word, known),),
        )
    return known.get(word)


def _rule(reader: Reader, value: Value, path: str) -> SeccompRule:
    calls = value["names"]
    for index, name in enumerate(calls):
        if name not in NAMES:
            reader.problem(
                "NS203",
                item_path(f"{path}.names", index),
                f"there is no system call {quote(name)}",
                help=(did_you_mean(name, NAMES),),
            )
    return SeccompRule(
        path=path,
        names=tuple(calls),
        action=value["action"],
        errno=_errno(reader, value, path, "errnoRet", "errno"),
        arguments=tuple(
            SeccompArgument(
                index=entry["index"],
                op=entry["op"],
                value=entry["value"],
                value_two=entry.get("valueTwo", 0),
            )
            for entry in value.get("args") or ()
        ),
        includes=_when(reader, value.get("includes", {}), f"{path}.includes"),
        excludes=_when(reader, value.get("excludes", {}), f"{path}.excludes"),
    )


def _when(reader: Reader, value: Value, path: str) -> SeccompWhen:
    capabilities = []
    for index, word in enumerate(value.get("caps", ())):
        found = names.capability(word)
        if found is None:
            reader.problem(
                "NS306",
                item_path(f"{path}.caps", index),
                f"there is no capability {quote(word)}",
                help=(names.nearest(word, names.CAPABILITIES),),
            )
        else:
            capabilities.append(found)
    major, dot, minor = value.get("minKernel", "").partition(".")
    return SeccompWhen(
        capabilities=tuple(capabilities),
        machines=tuple(value.get("arches", ())),
        kernel=(int(major), int(minor)) if dot else None,
    )
