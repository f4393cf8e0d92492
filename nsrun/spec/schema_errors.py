"""What jsonschema found, in our words: one message for one mistake, at its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

from nsrun.diag import Diagnostic, Span
from nsrun.spec.document import Document
from nsrun.spec.path import join_path, key_path
from nsrun.spec.words import did_you_mean, either, found, plural, quote

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

Schema = dict[str, Any]

# What other formats call it.
SYNONYMS = {
    "destination": "target", "dst": "target", "entrypoint": "command",
    "environment": "env", "mnt": "mount", "net": "network", "process": "command",
    "root": "rootfs", "services": "containers", "src": "source", "sysctls": "sysctl",
    "terminal": "tty", "ulimits": "rlimits", "maskedpaths": "masked_paths",
    "nonewprivileges": "no_new_privileges", "working_dir": "cwd",
    "readonlypaths": "readonly_paths", "oomscoreadj": "oom_score_adj", "workdir": "cwd",
    "uidmappings": "idmap", "gidmappings": "idmap", "stop_grace_period": "stop_timeout",
    "test": "command", "unless-stopped": "always", "service_started": "started",
    "service_healthy": "healthy", "service_completed_successfully": "completed",
    "max-size": "max_size", "max-file": "max_files", "max_file": "max_files",
}  # fmt: skip
# What a container of docker-compose has as a key, and where a container of nsrun has it.
ELSEWHERE = {
    "ports": 'write `network: {ports: ["8080:80"]}`',
    "dns": "write `network: {dns: {nameservers: [...]}}`",
    "extra_hosts": "write `network: {hosts: {NAME: ADDRESS}}`",
    "network_mode": "leave `network` out of `namespaces` for the caller's, or join one there",
    "pid": "leave `pid` out of `namespaces` for the caller's, or join one there",
    "ipc": "leave `ipc` out of `namespaces` for the caller's, or join one there",
    "uts": "leave `uts` out of `namespaces` for the caller's, or join one there",
    "userns_mode": "leave `user` out of `namespaces` for the caller's",
    "mem_limit": "write `resources: {memory: 512m}`",
    "memswap_limit": "write `resources: {memory_swap: 512m}`",
    "cpus": "write `resources: {cpus: 1.5}`",
    "cpuset": 'write `resources: {cpuset: {cpus: "0-1"}}`',
    "cpu_shares": "write `resources: {cpu_weight: 100}`",
    "pids_limit": "write `resources: {pids: 100}`",
    "deploy": "limits are below `resources`: `resources: {memory: 512m, cpus: 1.5}`",
    "cap_add": "write `capabilities: {add: [NET_ADMIN]}`",
    "cap_drop": "write `capabilities: {drop: [ALL]}`",
    "privileged": "nothing gives every right at once: name what it needs in `capabilities` and "
    "`devices`, or `profile: none` for experiments",
    "security_opt": "write `no_new_privileges`, `seccomp`, `apparmor` or `selinux`",
    "tmpfs": "write `mounts: [{type: tmpfs, target: /run}]`",
    "shm_size": "write `mounts: [{type: tmpfs, target: /dev/shm, options: [size=64m]}]`",
    "volumes": 'write `mounts: ["./data:/data"]`',
    "read_only": "write `rootfs: {path: ..., readonly: true}`",
    "image": "images are not pulled: unpack it to a folder and give that as `rootfs`",
    "build": "images are not built: give a folder with the files as `rootfs`",
    "container_name": "write `name`",
    "group_add": "write `user: {groups: [...]}`",
    "stdin_open": "write `stdin: open`",
    "restart": "a container that is started again is one of a stack: `containers: {web: {restart: "
    "...}}`",
}
# The titles of the two documents themselves.
_WHOLE = ("nsrun container", "nsrun stack")
_TYPES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "`true` or `false`",
    "null": "nothing",
    "array": "a list",
    "object": "a mapping",
}


@dataclass(frozen=True, slots=True)
class Translator:
    """Turns the errors of one document into diagnostics."""

    document: Document
    container: Schema
    stack: Schema

    def translate(self, error: ValidationError) -> Iterator[Diagnostic]:
        """The diagnostics for ``error``; alternatives are reduced to the one that was meant."""
        match error.validator:
            case "anyOf" | "oneOf":
                yield from self._alternatives(error)
            case "additionalProperties":
                yield from self._unknown_keys(error)
            case "required":
                yield from self._missing(error)
            case "type":
                yield self._wrong_type(error, self.describe(_schema(error)))
            case _:
                yield self._not_allowed(error, self.describe(_schema(error)))

    def describe(self, schema: Schema) -> str:
        """What ``schema`` asks for: ``a list of strings``, ```a` or `b```."""
        return either(self._parts(schema))

    def _parts(self, schema: Schema) -> list[str]:
        schema = self._resolve(schema)
        if "title" in schema:
            title = str(schema["title"])
            return ["a mapping" if title in _WHOLE else title]
        if "anyOf" in schema:
            return [part for branch in schema["anyOf"] for part in self._parts(branch)]
        if "enum" in schema or "const" in schema:
            values = schema.get("enum", [schema.get("const")])
            return [quote(v if isinstance(v, str) else json.dumps(v)) for v in values]
        if schema.get("type") == "array" and "items" in schema:
            return [f"a list of {plural(self.describe(schema['items']))}"]
        types = schema.get("type", "object")
        return [_TYPES[t] for t in ([types] if isinstance(types, str) else types)]

    def _resolve(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            # Names are unique over both files, so the part after the last slash is enough.
            kind, name = str(schema["$ref"]).split("/")[-2:]
            if kind == "properties":
                schema = self.container["properties"][name]
            else:
                own, other = self.container["$defs"], self.stack["$defs"]
                schema = own[name] if name in own else other[name]
        return schema

    def _place(self, error: ValidationError) -> tuple[str, Span | None]:
        path = join_path(tuple(error.absolute_path))
        return path, self.document.spans.get(path)

    def _alternatives(self, error: ValidationError) -> Iterator[Diagnostic]:
        branches = [
            list(errors)
            for _, errors in groupby(error.context or (), key=lambda e: e.relative_schema_path[0])
        ]
        fitting = [b for b in branches if not any(_is_root(e) and e.validator == "type" for e in b)]
        expected = self.describe(_schema(error))
        deep = [b for b in fitting if not any(_is_root(e) and _is_choice(e) for e in b)]
        if not fitting or (not deep and not isinstance(error.instance, str)):
            yield self._wrong_type(error, expected)
        elif not deep:
            yield self._not_allowed(error, expected)
        else:
            # The alternative that came furthest is the one that was meant.
            best = min(deep, key=lambda b: (sum(_is_root(e) for e in b), len(b)))
            for inner in best:
                yield from self.translate(inner)

    def _unknown_keys(self, error: ValidationError) -> Iterator[Diagnostic]:
        path, _ = self._place(error)
        known = list(_schema(error).get("properties", {}))
        for key in _instance(error):
            if key in known or key.startswith("x-"):
                continue
            place = key_path(path, key)
            # A file without `containers` is read as one container's: it may be a stack's.
            advice = did_you_mean(key, known if path else [*known, "containers"], SYNONYMS)
            if "namespaces" in known:
                advice = ELSEWHERE.get(key, advice)
            elif key == "test" and "start_period" in known:
                advice = "write `command: [...]`, the words without `CMD` or `CMD-SHELL`"
            if key == "version" and not path:
                advice = "leave it out: a spec has no version"
            if not path and not advice and key in self.stack["$defs"]["container"]["properties"]:
                advice = f"{quote(key)} belongs to a container of a stack, below `containers`"
            elif not advice and known:
                allowed = ", ".join(known) if len(known) <= 12 else ""
                advice = f"allowed here: {allowed}" if allowed else ""
            yield Diagnostic(
                code="NS201",
                summary=f"unknown key {quote(key)}",
                span=self.document.key_spans.get(place),
                path=place,
                label="not a key of the spec" if not path else f"not a key of {quote(path)}",
                help=(advice,) if advice else (),
            )

    def _missing(self, error: ValidationError) -> Iterator[Diagnostic]:
        path, span = self._place(error)
        # jsonschema gives one error for each missing key, and names it in the message alone.
        key = next(k for k in _schema(error)["required"] if error.message.startswith(f"{k!r} is"))
        yield Diagnostic(
            code="NS204",
            summary=f"the key {quote(key)} is missing",
            span=span,
            path=path,
            label=f"{quote(key)} is needed here",
        )

    def _wrong_type(self, error: ValidationError, expected: str) -> Diagnostic:
        path, span = self._place(error)
        literal = self.document.literals.get(path)
        what = found(error.instance, literal)
        advice = _type_help(error.instance, literal, expected)
        return Diagnostic(
            code="NS202",
            summary=f"expected {expected}, found {what}",
            span=span,
            path=path,
            label=f"this is {what}",
            help=(advice,) if advice else (),
        )

    def _not_allowed(self, error: ValidationError, expected: str) -> Diagnostic:
        path, span = self._place(error)
        value = error.instance
        literal = self.document.literals.get(path)
        shown = quote(value) if isinstance(value, str) else found(value, literal)
        advice = (
            did_you_mean(value, self._choices(_schema(error)), SYNONYMS)
            if (isinstance(value, str))
            else ""
        )
        if value == "" and isinstance(value, str):
            summary = f"expected {expected}, found an empty string"
        elif error.validator == "maxItems":
            summary = f"a list of more than {error.validator_value} entries"
        elif isinstance(value, (list, dict)) and not value:
            summary = f"expected {expected} that is not empty"
        else:
            summary = f"{shown} is not allowed: expected {expected}"
        return Diagnostic(
            code=str(_schema(error).get("x-nsrun-code", "NS203")),
            summary=summary,
            span=span,
            path=path,
            label=_bound(error),
            help=(advice,) if advice else (),
        )

    def _choices(self, schema: Schema) -> list[str]:
        schema = self._resolve(schema)
        branches = [self._choices(branch) for branch in schema.get("anyOf", ())]
        own = [value for value in schema.get("enum", ()) if isinstance(value, str)]
        return own + [value for branch in branches for value in branch]


def _schema(error: ValidationError) -> Schema:
    return cast(Schema, error.schema)


def _instance(error: ValidationError) -> dict[str, object]:
    return cast("dict[str, object]", error.instance)


def _is_root(error: ValidationError) -> bool:
    """Whether an alternative failed on the value itself, not on something inside it."""
    return not error.relative_path


def _is_choice(error: ValidationError) -> bool:
    return error.validator in ("enum", "const", "pattern", "minLength", "minimum", "maximum")


def _type_help(value: object, literal: str | None, expected: str) -> str:
    if value is None:
        return "give it a value, or remove the key"
    if expected.startswith("`true`") and isinstance(value, str):
        meant = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false"}
        word = meant.get(value.lower())
        return f"YAML 1.2 knows only `true` and `false`: write `{word}`" if word else ""
    if isinstance(value, (int, float)) and literal and ("string" in expected or "quot" in expected):
        return f'quote it: `"{literal}"`'
    if isinstance(value, str) and expected.startswith("a list of"):
        return f"write it as a list: `[{quote(value)[1:-1]}]`"
    return ""


def _bound(error: ValidationError) -> str:
    limit = error.validator_value
    match error.validator:
        case "minimum":
            return f"the least is {limit}"
        case "exclusiveMinimum":
            return f"it has to be more than {limit}"
        case "maximum":
            return f"the most is {limit}"
        case "maxLength":
            return f"at most {limit} characters are allowed"
        case _:
            return ""
