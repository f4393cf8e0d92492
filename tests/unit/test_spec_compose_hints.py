"""Keys of docker-compose: what is said of each where a spec has it, and that it can be done."""

# ruff: noqa: E501 -- a table is read on few lines

from __future__ import annotations

import json
import re

import pytest
import yaml

from nsrun.spec.document import parse_document
from nsrun.spec.schema import load_schema, validate
from nsrun.spec.schema_errors import ELSEWHERE, SYNONYMS

HINTS = {
    "ports": "`network: {ports:", "mem_limit": "`resources: {memory: 512m}`", "cpus": "`resources: {cpus:",
    "privileged": "`capabilities`", "cap_add": "`capabilities: {add:", "cap_drop": "`capabilities: {drop:",
    "environment": "did you mean `env`?", "volumes": "`mounts: [", "image": "`rootfs`", "build": "`rootfs`",
    "networks": "did you mean `network`?", "restart": "a container that is started again is one of a stack",
    "healthcheck": "`healthcheck` belongs to a container of a stack, below `containers`",
    "depends_on": "`depends_on` belongs to a container of a stack, below `containers`",
    "secrets": "`secrets` belongs to a container of a stack, below `containers`",
    "security_opt": "`apparmor` or `selinux`", "container_name": "write `name`", "read_only": "readonly: true",
    "network_mode": "`namespaces`", "pid": "`namespaces`", "dns": "`network: {dns:", "tmpfs": "type: tmpfs",
    "extra_hosts": "`network: {hosts:", "ulimits": "did you mean `rlimits`?", "working_dir": "did you mean `cwd`?",
    "sysctls": "did you mean `sysctl`?", "entrypoint": "did you mean `command`?", "group_add": "groups:",
    "stop_grace_period": "did you mean `stop_timeout`?", "stdin_open": "`stdin: open`", "shm_size": "/dev/shm",
    "deploy": "`resources: {memory:", "pids_limit": "`resources: {pids:", "apparmorProfile": "`apparmor`",
}  # fmt: skip


def found(text: str) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(d.code, d.path, d.help) for d in validate(parse_document(text, "s.yaml"))]


@pytest.mark.parametrize(("key", "says"), HINTS.items())
def test_a_key_of_compose(key: str, says: str) -> None:
    ((code, path, help_),) = found(json.dumps({"command": ["sh"], key: "x"}))
    assert (code, path) == ("NS201", key)
    assert says in help_[0]
    # In a container of a stack too, where the key is none there.
    if key not in load_schema("stack")["$defs"]["container"]["properties"]:
        ((code, path, help_),) = found(json.dumps({"containers": {"a": {"command": "x", key: 1}}}))
        assert (code, path) == ("NS201", f"containers.a.{key}")
        assert says in help_[0]


def test_a_list_of_commands_is_no_healthcheck() -> None:
    text = 'containers: {a: {command: [sh], healthcheck: {test: ["CMD", "true"]}}}'
    told = {path: (code, help_) for code, path, help_ in found(text)}
    code, help_ = told["containers.a.healthcheck.test"]
    assert code == "NS201"
    assert help_ == ("write `command: [...]`, the words without `CMD` or `CMD-SHELL`",)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("services", "did you mean `containers`?"),
        ("containres", "did you mean `containers`?"),
        ("version", "leave it out: a spec has no version"),
    ],
)
def test_a_stacks_file_whose_containers_are_misspelt(key: str, says: str) -> None:
    """Without `containers` it is read as one container's; the hint is the stack's all the same."""
    told = {path: help_ for _, path, help_ in found(json.dumps({key: {"web": {}}}))}
    assert told[key] == (says,)
    told = {path: help_ for _, path, help_ in found(json.dumps({"containers": {}, key: "3"}))}
    assert told[key] == (says,)


@pytest.mark.parametrize("key", ELSEWHERE)
def test_what_is_advised_is_a_spec(key: str) -> None:
    """Each `key: value` that a hint writes fits the schema, and every key named is one."""
    keys = load_schema("container")["properties"]
    assert key not in keys
    quoted = re.findall(r"`([^`]+)`", ELSEWHERE[key])
    for text in quoted:
        if ":" not in text or "..." in text or "ADDRESS" in text:
            continue
        data = yaml.safe_load(text)
        assert found(json.dumps({"command": ["sh"], **data})) == [], text
    assert quoted


def test_a_synonym_is_for_a_key_that_there_is() -> None:
    names: set[str] = set()

    def collect(node: object) -> None:
        if isinstance(node, dict):
            names.update(node.get("properties", {}))
            names.update(word for word in node.get("enum", ()) if isinstance(word, str))
            for value in node.values():
                collect(value)
        elif isinstance(node, list):
            for value in node:
                collect(value)

    for name in ("container", "stack"):
        collect(load_schema(name))
    assert set(SYNONYMS.values()) <= names
    assert not set(SYNONYMS) & set(ELSEWHERE)
