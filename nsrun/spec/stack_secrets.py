"""The secrets and configs of a stack, and what a container has of them.

A config's content is a file of the container's, like any below ``files``. A secret's is not even
read here: the container has a bind of a copy that is made when the stack comes up.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from nsrun.diag import NsrunError
from nsrun.spec.model import FileEntry, Mount, NamespaceType, Owner, Spec
from nsrun.spec.path import item_path, key_path
from nsrun.spec.stack import Secret
from nsrun.spec.stack_reading import Reading, Service, close_match
from nsrun.spec.text import read_bytes
from nsrun.spec.units import parse_mode
from nsrun.spec.words import quote, quote_path

# Those of compose.
MODE = 0o444
_FOLDERS = {"secrets": "/run/secrets", "configs": "/"}
_OPTIONS = ("ro", "nosuid", "nodev", "noexec")


@dataclass(frozen=True, slots=True)
class _Use:
    """One entry of a container's list, with the definition it names."""

    path: str
    given: dict[str, Any]
    name: str
    target: str
    mode: int
    definition: str
    value: dict[str, Any]


def check_definitions(reading: Reading, kind: str, given: dict[str, Any]) -> None:
    """Each secret or config has its content from exactly one place."""
    allowed = ("file", "environment", "content") if kind == "configs" else ("file", "environment")
    for name, value in given.items():
        if name.startswith("x-"):
            continue
        path = key_path(kind, name)
        said = [key for key in allowed if key in value]
        if not said:
            words = " and ".join(", ".join(f"`{k}`" for k in allowed).rsplit(", ", 1))
            reading.problem(
                "NS204",
                path,
                f"nothing says what the {kind[:-1]} {quote(name)} holds",
                f"give it one of {words}",
                key=True,
            )
        elif len(said) > 1:
            reading.problem(
                "NS318",
                path,
                f"`{said[0]}` and `{said[1]}` for the {kind[:-1]} {quote(name)}",
                "keep one of them",
                key=True,
            )


def with_secrets(
    reading: Reading, service: Service, spec: Spec, copies: str
) -> tuple[Spec, tuple[Secret, ...]]:
    """The container's spec with its secrets as mounts and its configs as files.

    ``copies``: the folder in which the secrets' copies will be.
    """
    mounts, files = list(spec.mounts), list(spec.files)
    secrets: list[Secret] = []
    spans = dict(spec.spans)
    uses = [*_uses(reading, service, "secrets"), *_uses(reading, service, "configs")]
    _need_mounts(reading, service, spec, uses)
    foreign = spec.namespace(NamespaceType.USER) is not None
    taken: dict[str, str] = {}
    for use in uses:
        place = f"{service.path}.{use.path}"
        span = reading.spans.get(place) or reading.place(place)
        if span is not None:
            spans[use.path] = span
        if use.target in taken:
            what = f"{quote(use.name)} and {quote(taken[use.target])} are both to be"
            reading.problem(
                "NS318", place, f"{what} {quote_path(use.target)}", "give one another `target`",
                span=span,
            )  # fmt: skip
            continue
        taken[use.target] = use.name
        if use.path.startswith("configs"):
            content = _content(reading, use)
            if content is not None:
                files.append(
                    FileEntry(
                        path=use.path, target=use.target, content=content, mode=use.mode,
                        uid=use.given.get("uid"), gid=use.given.get("gid"),
                    )
                )  # fmt: skip
            continue
        copy = os.path.join(copies, str(len(secrets)))
        secret = _secret(reading, use, service.name, place, copy, given_away=foreign)
        secrets.append(secret)
        mounts.append(
            Mount(
                type="bind", target=use.target, path=use.path, source=secret.copy,
                options=_OPTIONS, recursive=False, uncovered=True,
                owner=Owner(uid=secret.uid, gid=secret.gid) if foreign else None,
            )
        )  # fmt: skip
    spec = dataclasses.replace(
        spec, mounts=tuple(mounts), files=tuple(files), spans=MappingProxyType(spans)
    )
    return spec, tuple(secrets)


def _need_mounts(reading: Reading, service: Service, spec: Spec, uses: list[_Use]) -> None:
    if uses and not spec.new(NamespaceType.MOUNT):
        kind = uses[0].path.partition("[")[0]
        reading.problem(
            "NS301",
            f"{service.path}.{kind}",
            f"`{kind}` needs a new mount namespace",
            "add `mount` to `namespaces`",
            key=True,
        )


def _uses(reading: Reading, service: Service, kind: str) -> Iterator[_Use]:
    data = reading.document.data
    known: dict[str, Any] = (data.get(kind) or {}) if isinstance(data, dict) else {}
    tree = service.tree.get(kind)
    for index, item in enumerate((tree.items if tree is not None else None) or ()):
        path = item_path(kind, index)
        place = f"{service.path}.{path}"
        raw = service.data[kind][index]
        given: dict[str, Any] = raw if isinstance(raw, dict) else {"source": raw}
        name = given["source"]
        if name not in known or name.startswith("x-"):
            reading.problem(
                "NS318",
                place,
                f"there is no {kind[:-1]} {quote(name)} in this stack",
                close_match(name, set(known)) or f"add `{name}: {{file: ./{name}}}` to `{kind}`",
                span=(item.get("source") or item).span,
            )
            continue
        target = _target(reading, kind, given, f"{place}.target")
        mode = MODE
        try:
            mode = parse_mode(given["mode"]) if "mode" in given else MODE
        except ValueError:
            what = f"{quote(given['mode'])} is no mode: the most is `07777`"
            reading.problem("NS203", f"{place}.mode", what)
        yield _Use(path, given, name, target, mode, key_path(kind, name), known[name])


def _target(reading: Reading, kind: str, given: dict[str, Any], place: str) -> str:
    target = str(given.get("target", given["source"]))
    parts = target.split("/")
    if ".." in parts or not any(part not in ("", ".") for part in parts) or not _plain(target):
        reading.problem("NS304", place, f"{quote_path(target)} is no path for a file inside")
    joined = os.path.join(_FOLDERS[kind], target)
    return "/" + "/".join(part for part in joined.split("/") if part not in ("", "."))


def _plain(text: str) -> bool:
    return all(char >= " " and char != "\x7f" for char in text)


def _secret(
    reading: Reading, use: _Use, service: str, place: str, copy: str, *, given_away: bool
) -> Secret:
    file = _file(reading, use)
    if file is not None and not os.path.isfile(file):
        missing = not os.path.lexists(file)
        what = "does not exist" if missing else "is no regular file"
        reading.problem(
            "NS305", f"{use.definition}.file", f"{quote_path(file)} {what}",
            label=f"the secret {quote(use.name)}",
        )  # fmt: skip
    _variable(reading, use)
    return Secret(
        path=place, service=service, name=use.name, copy=copy, target=use.target, file=file,
        environment=use.value.get("environment"), mode=use.mode,
        uid=use.given.get("uid"), gid=use.given.get("gid"), given_away=given_away,
    )  # fmt: skip


def _content(reading: Reading, use: _Use) -> bytes | None:
    """What a config holds; None where it cannot be had, which is reported."""
    if "content" in use.value:
        return str(use.value["content"]).encode()
    if (file := _file(reading, use)) is not None:
        try:
            span = reading.place(f"{use.definition}.file")
            return read_bytes(file, code="NS305", span=span, regular=True)
        except NsrunError as error:
            reading.report.extend(error.diagnostics)
            return None
    value = _variable(reading, use)
    return None if value is None else os.fsencode(value)


def _file(reading: Reading, use: _Use) -> str | None:
    given = use.value.get("file")
    if given is None:
        return None
    folder = reading.folder(f"{use.definition}.file")
    return os.path.normpath(os.path.join(folder, os.path.expanduser(str(given))))


def _variable(reading: Reading, use: _Use) -> str | None:
    name = use.value.get("environment")
    if name is None:
        return None
    value = reading.environ.get(name)
    if value is None:
        reading.problem(
            "NS318",
            f"{use.definition}.environment",
            f"the variable {quote(name)} is not set",
            f"set it for nsrun: {name}=... nsrun up",
        )
    return value
