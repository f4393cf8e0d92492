"""Attacks by what is read: specs, templates, names and sysctls that mean more than they should.

Nothing is started: each is refused while it is read, where the naive way goes along.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jinja2
import pytest
import yaml

from nsrun.diag import NsrunError
from nsrun.spec.build import is_name
from nsrun.spec.load import load

Read = Callable[..., list[str]]


@pytest.fixture
def refused(tmp_path: Path) -> Read:
    """The summaries of what is wrong with a text; it must be refused in two seconds of work."""

    def read(text: str, name: str = "s.yaml") -> list[str]:
        file = tmp_path / name
        file.write_text(text)
        begun = time.process_time()
        with pytest.raises(NsrunError) as caught:
            load(str(file))
        assert time.process_time() - begun < 2
        return [d.summary for d in caught.value.diagnostics]

    return read


def bomb(levels: int) -> str:
    """Each level is ten times the one below."""
    lines = ["x-0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, levels):
        lines.append(f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]")
    return "\n".join([*lines, f"command: *a{levels - 1}", ""])


def test_a_bomb_of_aliases(refused: Read) -> None:
    data = yaml.safe_load(bomb(5))["command"]
    for _ in range(4):
        data = [part for whole in data for part in whole]
    assert len(data) == 10**5, "the control: 300 bytes become a hundred thousand values"
    assert refused(bomb(9))


def test_a_tower_of_brackets(refused: Read) -> None:
    text = "[" * 1500 + "]" * 1500
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    try:
        with pytest.raises(RecursionError):  # the control
            yaml.safe_load(text)
    finally:
        sys.setrecursionlimit(limit)
    assert refused(f"command: {text}")
    assert refused(text)


def test_a_key_given_twice(refused: Read) -> None:
    """Who reads the first and who reads the second see other specs."""
    text = "capabilities: none\ncommand: [id]\ncapabilities: all\n"
    assert yaml.safe_load(text)["capabilities"] == "all", "the control: the last one holds"
    assert refused(text)
    assert refused('{"command": ["id"], "seccomp": "default", "seccomp": "unconfined"}', "s.json")


def test_an_object_of_pythons(refused: Read, tmp_path: Path) -> None:
    text = f"command: !!python/object/apply:os.mkdir [{tmp_path}/planted]\n"
    yaml.unsafe_load(text)
    (tmp_path / "planted").rmdir()  # the control: it was made
    assert refused(text)
    assert not (tmp_path / "planted").exists()


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.getcwd() }}",
    "{{ self.__init__.__globals__ }}",
    "{% set x = namespace.__init__.__globals__ %}{{ x }}",
    "{{ ''|attr('__class__') }}",
    "{{ '{0.__class__}'.format('') }}",
    "{{ lipsum.__globals__['os'].getpid() }}",
]


@pytest.mark.parametrize("text", ESCAPES)
def test_a_template_does_not_get_out_of_its_sandbox(refused: Read, text: str) -> None:
    printed = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(text).render()
    assert printed, "the control: it prints what it should not have"
    assert refused(f"command: [echo, {text!r}]\n", "s.yaml.j2")


SMUGGLED = [
    "net.ipv4.ip_forward/../../../kernel/core_pattern",
    "net...kernel/core_pattern",
    "net/../kernel/core_pattern",
    "kernel.core_pattern",
    "kernel/core_pattern",
    "net.ipv4.ip_forward\nkernel.core_pattern",
    "user.max_/../../kernel/core_pattern",
    "fs.mqueue./../../kernel/core_pattern",
    "net.a+kernel.core_pattern",
    "vm.panic_on_oom",
]


@pytest.mark.parametrize("key", SMUGGLED)
def test_a_sysctl_of_the_machine_is_not_smuggled(refused: Read, key: str) -> None:
    namespaces = ["mount", "network", "ipc", "uts"]
    spec = {"namespaces": namespaces, "command": ["id"], "sysctl": {key: "1"}}
    assert any("core_pattern" in said or "sysctl" in said or key.splitlines()[0] in said
               for said in refused(json.dumps(spec)))  # fmt: skip


def test_the_naive_way_to_a_sysctl_is_led_astray() -> None:
    """The control of those above: joined, as a check by its beginning would let it through."""
    led = [os.path.realpath("/proc/sys/" + key.replace(".", "/")) for key in SMUGGLED[3:5]]
    led += [os.path.realpath(f"/proc/sys/{SMUGGLED[2]}")]
    assert set(led) == {"/proc/sys/kernel/core_pattern"}


NAMES = [
    "..",
    ".",
    "a/b",
    "/a",
    "a\n",
    "a\0b",
    "-a",
    "--help",
    "",
    "a b",
    "a\x1b",
    "ü",
    "x" * 65,
    "*",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_path_and_no_option(refused: Read, name: str) -> None:
    assert not is_name(name)
    assert refused(json.dumps({"name": name, "command": ["id"]}))


def test_names_by_the_naive_way(tmp_path: Path) -> None:
    """The control: joined to a folder they lead out of it, or are none of its own."""
    folder = tmp_path / "containers"
    outside = [n for n in NAMES if "\0" not in n and (folder / n).resolve().parent != folder]
    assert outside == ["..", ".", "a/b", "/a", ""]
