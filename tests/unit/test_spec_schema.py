"""The schemas themselves, and the words in which a document is held against them."""

# ruff: noqa: E501 -- a case of a table is read on one line

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from nsrun.diag import MAX_SHOWN, Diagnostic
from nsrun.spec.document import parse_document
from nsrun.spec.schema import load_schema, schema_text, validate

SCHEMAS = ("container", "stack")


def found(text: str) -> list[Diagnostic]:
    return validate(parse_document(text, "spec.yaml"))


def only(text: str) -> Diagnostic:
    (diagnostic,) = found(text)
    return diagnostic


def place(diagnostic: Diagnostic) -> tuple[int, int]:
    assert diagnostic.span is not None
    return (diagnostic.span.line, diagnostic.span.column)


def properties(node: object, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key a schema speaks of, with its own schema."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "properties":
                yield from ((f"{where}.{k}", v) for k, v in value.items())
            if key != "examples":
                yield from properties(value, f"{where}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from properties(value, f"{where}[{index}]")


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_key_has_a_description_and_a_valid_example(name: str) -> None:
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    schema = load_schema(name)
    Draft202012Validator.check_schema(schema)
    own = DRAFT202012.create_resource(schema)
    container = DRAFT202012.create_resource(load_schema("container"))
    registry: Any = Registry().with_resources(
        [("container.schema.json", container), ("own.json", own)]
    )
    seen = 0
    for where, entry in properties(schema):
        if entry.get("$ref", "").startswith("container.schema.json#/properties/"):
            continue  # told in the container's own schema
        assert entry.get("description"), where
        assert entry.get("examples"), where
        inner = _absolute(entry) if name == "container" else _absolute(entry, "own.json")
        validator = Draft202012Validator(inner, registry=registry)
        for example in entry["examples"]:
            validator.validate(example)
        if "default" in entry:
            validator.validate(entry["default"])
        seen += 1
    assert seen >= 25


def _absolute(node: Any, file: str = "container.schema.json") -> Any:
    """The schema with references that hold outside of its own file."""
    if isinstance(node, dict):
        return {
            k: f"{file}{v}" if k == "$ref" and v.startswith("#") else _absolute(v, file)
            for k, v in node.items()
        }
    return [_absolute(v, file) for v in node] if isinstance(node, list) else node


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_mapping_is_closed_or_of_free_names(name: str) -> None:
    for where, entry in properties({"properties": {"": load_schema(name)}, **load_schema(name)}):
        if "properties" in entry:
            assert entry["additionalProperties"] is False, where
            assert "^x-" in entry["patternProperties"], where


def test_names_of_the_two_schemas_are_distinct() -> None:
    assert not load_schema("container")["$defs"].keys() & load_schema("stack")["$defs"].keys()


def test_a_container_of_a_stack_has_every_key_of_a_container() -> None:
    inside = load_schema("stack")["$defs"]["container"]["properties"]
    assert load_schema("container")["properties"].keys() <= inside.keys()


def test_the_format_has_every_key_of_its_design() -> None:
    keys = (
        "name namespaces idmap rootfs hostname domainname propagation default_mounts mounts files "
        "network command args env env_file cwd user tty stdin init stop_signal stop_timeout timeout "
        "logging capabilities no_new_privileges seccomp landlock apparmor selinux profile rlimits sysctl "
        "masked_paths readonly_paths devices resources oom_score_adj labels expect hooks"
    )
    assert set(load_schema("container")["properties"]) == set(keys.split())


def test_no_schema_of_that_name() -> None:
    with pytest.raises(FileNotFoundError):
        schema_text("nothing")


@pytest.mark.parametrize(
    ("text", "code", "at", "summary", "help"),
    [
        ("hostnam: x", "NS201", (1, 1), "unknown key `hostnam`", "did you mean `hostname`?"),
        ("environment: {}", "NS201", (1, 1), "unknown key `environment`", "did you mean `env`?"),
        ("qqqqq: 1", "NS201", (1, 1), "unknown key `qqqqq`", ""),
        ("depends_on: [a]", "NS201", (1, 1), "unknown key `depends_on`",
         "`depends_on` belongs to a container of a stack, below `containers`"),
        ("mounts:\n- {target: /a, typ: x}", "NS201", (2, 16), "unknown key `typ`",
         "did you mean `type`?"),
        ("mounts:\n- {destination: /a}", "NS201", (2, 4), "unknown key `destination`",
         "did you mean `target`?"),
        ("files: {/a: {}, /b: {q: 1}}", "NS201", (1, 22), "unknown key `q`",
         "allowed here: content, symlink, folder, mode"),
        ("mounts: {a: b}", "NS202", (1, 9), "expected a list of mounts, found a mapping", ""),
        ("args: {a: b}", "NS202", (1, 7), "expected a list of strings, found a mapping", ""),
        ("mounts: [{target: /a, options: ro}]", "NS202", (1, 32),
         "expected a list of strings, found the string `ro`", "write it as a list: `[ro]`"),
        ("- a", "NS202", (1, 1), "expected a mapping, found a list", ""),
        ("hostname: 1.10", "NS202", (1, 11),
         "expected a string that is not empty, found the number `1.10`", 'quote it: `"1.10"`'),
        ("hostname:", "NS202", (1, 10), "expected a string that is not empty, found nothing",
         "give it a value, or remove the key"),
        ("tty: yes", "NS202", (1, 6), "expected `true` or `false`, found the string `yes`",
         "YAML 1.2 knows only `true` and `false`: write `true`"),
        ("tty: maybe", "NS202", (1, 6), "expected `true` or `false`, found the string `maybe`", ""),
        ("files: {/a: {folder: true, mode: 0755}}", "NS202", (1, 34),
         'expected a mode in quotes such as `"0755"`, found the number `0755`',
         'quote it: `"0755"`'),
        ("oom_score_adj: 1.0", "NS202", (1, 16), "expected an integer, found the number `1.0`", ""),
        ("timeout: .inf", "NS202", (1, 10),
         "expected a duration such as `10s`, `500ms` or `1m30s`, found the number `.inf`", ""),
        ("command: 5", "NS202", (1, 10),
         "expected a string or a list of strings, found the number `5`", 'quote it: `"5"`'),
        ("env: {A: [x]}", "NS202", (1, 10), "expected a string, a number or null, found a list", ""),
        ("namespaces: [net]", "NS203", (1, 14),
         "`net` is not allowed: expected `user`, `mount`, `pid`, `network`, `ipc`, `uts`, `cgroup`, "
         "`time` or a mapping with `type`", "did you mean `network`?"),
        ("propagation: private", "NS203", (1, 14),
         "`private` is not allowed: expected `rprivate`, `rslave` or `rshared`",
         "did you mean `rprivate`?"),
        ("timeout: 10q", "NS203", (1, 10),
         "`10q` is not allowed: expected a duration such as `10s`, `500ms` or `1m30s`", ""),
        ('timeout: "10s\\n"', "NS203", (1, 10),
         "`10s\\n` is not allowed: expected a duration such as `10s`, `500ms` or `1m30s`", ""),
        ("command: []", "NS203", (1, 10), "expected a list of strings that is not empty", ""),
        ("cwd: ''", "NS203", (1, 6), "expected an absolute path, found an empty string", ""),
        ("oom_score_adj: 5000", "NS203", (1, 16),
         "the number `5000` is not allowed: expected an integer", ""),
        ("files: {/a: {folder: false}}", "NS203", (1, 22), "`false` is not allowed: expected `true`",
         ""),
        ("namespaces: [{path: /x}]", "NS204", (1, 14), "the key `type` is missing", ""),
        ("rootfs: {overlay: {upper: x}, path: y}", "NS204", (1, 19), "the key `work` is missing", ""),
        ("containers: {a: {depends_on: {b: {condition: x}}}}", "NS203", (1, 46),
         "`x` is not allowed: expected `started`, `healthy` or `completed`", ""),
        ("containers: {a: {hostnam: x}}", "NS201", (1, 18), "unknown key `hostnam`",
         "did you mean `hostname`?"),
        ("containers: {}", "NS203", (1, 13), "expected a mapping that is not empty", ""),
        ("name: 'a b'", "NS316", (1, 7), "`a b` is not allowed: expected a name of letters, digits, "
         "`_`, `.` and `-`, at most 64, that begins with a letter or a digit", ""),
    ],
)  # fmt: skip
def test_one_mistake_is_one_message(
    text: str, code: str, at: tuple[int, int], summary: str, help: str
) -> None:
    diagnostic = only(text)
    assert (diagnostic.code, place(diagnostic), diagnostic.summary) == (code, at, summary)
    assert diagnostic.help == ((help,) if help else ())


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "x-anything: {at: [all]}\nmounts: [{target: /a, x-note: 1, propagation: shared}]",
        "x-a: &a {uid: 1, gid: 2}\nuser: {<<: *a, uid: 3}",
        "env: [A=b, TERM]\nenv_file: [a, b]",
        "env: {A: 1, B: 1.5, C: true, D: null, E: text}",
        "command: [sleep, 10]",
        "user: 0\nstop_signal: 9\ntimeout: 1.5\nstop_timeout: 0",
        "capabilities: {bounding: [CAP_CHOWN], ambient: []}",
        "sysctl: {net.ipv4.ip_forward: 1}\nlabels: {a: true}",
        "seccomp: {defaultAction: SCMP_ACT_ERRNO, syscalls: [{names: [a], action: SCMP_ACT_LOG}]}",
        "landlock: required\nprofile: strict\ndevices: [/dev/fuse]\nresources: {memory: 512m}",
        "containers: {a: {command: [x], networks: [front], restart: no}}\nvolumes: {data: }",
    ],
)
def test_valid(text: str) -> None:
    assert found(text) == []


def test_errors_come_together_and_by_place() -> None:
    text = "tty: 1\nmounts: 5\nhostnam: x\nuser: {uid: -1}\n"
    assert [place(d) for d in found(text)] == [(1, 6), (2, 9), (3, 1), (4, 13)]


def test_no_message_is_of_the_library() -> None:
    text = "user: []\nmounts: [{}, 1, [a]]\ncapabilities: {add: x, q: 1}\nidmap: {uid: [{a: 1}]}\n"
    for diagnostic in found(text):
        assert "schemas" not in diagnostic.summary
        assert "is not of type" not in diagnostic.summary


def test_very_many_errors_are_cut() -> None:
    diagnostics = found("\n".join(f"k{i}: 1" for i in range(50)) + "\nargs:\n" + "- [x]\n" * 500)
    assert len(diagnostics) <= MAX_SHOWN
    assert any("there are more errors than shown" in d.notes for d in diagnostics)


def test_a_long_value_is_shortened_and_escaped() -> None:
    summary = only('propagation: "\\e[31m' + "x" * 500 + '"').summary
    assert "\x1b" not in summary
    assert len(summary) < 200
