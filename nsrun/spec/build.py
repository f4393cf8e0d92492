"""A document that fits its schema -> the Spec it means.

Each top-level key is read by a function of its own, so that a mistake in one of them does not
hide those in the others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from nsrun.diag import Diagnostic, NsrunError, sort_key
from nsrun.spec import (
    build_expect,
    build_mounts,
    build_namespaces,
    build_network,
    build_process,
    build_resources,
    build_seccomp,
    profile,
)
from nsrun.spec.document import Document
from nsrun.spec.model import Spec
from nsrun.spec.path import top_key
from nsrun.spec.reader import Reader, Value

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")
_SUFFIX = re.compile(r"(?:\.(?:ya?ml|json))?(?:\.j2)?\Z")


def _as_written(reader: Reader, value: Value, path: str) -> Any:
    return reader.text(value, path) if isinstance(value, str) else value


# Keys whose value is a field of the Spec by itself; `command`, `args`, `env` and `env_file`
# are put together.
_FIELDS: dict[str, Callable[[Reader, Value, str], Any]] = {
    "name": _as_written,
    "namespaces": build_namespaces.namespaces,
    "idmap": build_namespaces.idmap,
    "rootfs": build_mounts.rootfs,
    "hostname": _as_written,
    "domainname": _as_written,
    "propagation": _as_written,
    "default_mounts": _as_written,
    "mounts": build_mounts.mounts,
    "files": build_mounts.files,
    "network": build_network.network,
    "command": build_process.command,
    "args": build_process.arguments,
    "env": build_process.env,
    "env_file": build_process.env_file,
    "cwd": Reader.target,
    "user": build_process.user,
    "tty": _as_written,
    "stdin": _as_written,
    "init": _as_written,
    "stop_signal": build_process.signal,
    "stop_timeout": build_process.duration,
    "timeout": build_process.duration,
    "logging": build_process.logging,
    "capabilities": build_process.capabilities,
    "no_new_privileges": _as_written,
    "profile": _as_written,
    "seccomp": build_seccomp.seccomp,
    "landlock": build_process.landlock,
    "apparmor": build_process.apparmor,
    "selinux": build_process.selinux,
    "rlimits": build_process.rlimits,
    "sysctl": build_process.sysctl,
    "masked_paths": build_mounts.path_list,
    "readonly_paths": build_mounts.path_list,
    "devices": build_mounts.devices,
    "resources": build_resources.resources,
    "oom_score_adj": _as_written,
    "labels": build_process.texts,
    "expect": build_expect.expectations,
    "hooks": build_process.hooks,
}
# Keys that are read entry by entry: what is wrong with one says nothing about the others.
BY_ENTRY = frozenset({"mounts", "files", "env", "rlimits", "sysctl"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A spec and what is wrong with it.

    The keys in ``broken`` have their default in ``spec``; those in ``partial`` lack the entries
    in which something is wrong.
    """

    spec: Spec
    diagnostics: tuple[Diagnostic, ...]
    broken: frozenset[str]
    partial: frozenset[str]


def build(document: Document, command: tuple[str, ...] | None = None) -> Spec:
    """The Spec of a document in which ``validate`` found nothing wrong.

    ``command`` replaces ``command`` and ``args`` of the document. Host paths come out absolute,
    from the folder of ``document.file``; env files are read here. Raises NsrunError with
    everything that is wrong: NS2xx and NS3xx.
    """
    built = build_parts(document, command)
    if built.diagnostics:
        raise NsrunError(built.diagnostics)
    return built.spec


def build_parts(
    document: Document,
    command: tuple[str, ...] | None = None,
    broken: frozenset[str] = frozenset(),
    unread: frozenset[str] = frozenset(),
) -> Built:
    """As :func:`build`, but the keys in ``broken`` and the entries at the places of ``unread``,
    which are of keys in ``BY_ENTRY``, are left out, and problems are returned."""
    base = os.path.dirname(os.path.abspath(document.file)) if document.file else os.getcwd()
    reader = Reader(document, base, unread=unread)
    data: dict[str, Any] = document.data if isinstance(document.data, dict) else {}
    values: dict[str, Any] = {}
    bad = set(broken)
    partial = {top_key(place) for place in unread}
    for key, read in _FIELDS.items():
        if key not in data or key in bad:
            continue
        before = len(reader.report.diagnostics)
        value = read(reader, data[key], key)
        wrong = len(reader.report.diagnostics) > before
        if wrong:
            (partial if key in BY_ENTRY else bad).add(key)
        if not wrong or key in BY_ENTRY:
            values[key] = value
    values["command"] = _command(reader, data, values, command, bad)
    env = {**values.pop("env_file", {}), **values.pop("env", {})}
    name = values.pop("name", None) or default_name(document.file)
    if values.get("devices"):
        nodes = build_mounts.device_mounts(values["devices"])
        values["mounts"] = (*nodes, *values.get("mounts", ()))
    root = data.get("rootfs")
    preset = profile.apply(values, isinstance(root, dict) and "readonly" in root)
    spec = Spec(
        name=name,
        file=document.file,
        sha256=document.sha256,
        env=MappingProxyType(env),
        spans=document.spans,
        key_spans=document.key_spans,
        preset=preset,
        **values,
    )
    found = tuple(sorted(reader.report.diagnostics, key=sort_key))
    return Built(
        spec=spec, diagnostics=found, broken=frozenset(bad), partial=frozenset(partial - bad)
    )


def _command(
    reader: Reader,
    data: dict[str, Any],
    values: dict[str, Any],
    override: tuple[str, ...] | None,
    bad: set[str],
) -> tuple[str, ...]:
    written: tuple[str, ...] = values.pop("command", ())
    args: tuple[str, ...] = values.pop("args", ())
    if override:
        if "\0" in "".join(override):
            reader.problem("NS203", "", "a NUL character in the command")
        return override
    if not written and "command" not in bad:
        reader.problem(
            "NS204",
            "",
            "the key `command` is missing",
            label="nothing says what runs",
            help=("add `command: [...]`, or give one: `nsrun SPEC -- COMMAND`",),
        )
    # sh -c TEXT NAME ARG...: what follows the text is $0 and then $1 (sh(1)).
    shell = (written[0],) if args and isinstance(data.get("command"), str) else ()
    return written + shell + args


def is_name(text: str) -> bool:
    """Whether a container may be called so: the same as `name` in the schema."""
    return _NAME.fullmatch(text) is not None


def default_name(file: str) -> str:
    """A container's name by its file: ``web`` for ``shop/web.yaml``, in allowed characters."""
    stem = _SUFFIX.sub("", os.path.basename(file))
    name = re.sub(r"[^a-zA-Z0-9_.-]+", "-", stem).lstrip("_.-").rstrip("-")[:64]
    return name or "spec"
