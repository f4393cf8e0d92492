"""The whole front: a file to a spec, or to everything that is wrong with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nsrun.diag import Diagnostic, NsrunError
from nsrun.spec.load import load


def errors(path: Path) -> tuple[Diagnostic, ...]:
    with pytest.raises(NsrunError) as caught:
        load(str(path))
    return caught.value.diagnostics


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "web.yaml"
    path.write_text(text)
    return path


def summary(path: Path) -> list[tuple[int, str]]:
    return [(d.span.line if d.span else 0, d.code) for d in errors(path)]


def test_a_spec_and_its_warnings(tmp_path: Path) -> None:
    path = write(tmp_path, "command: [ps]\nnamespaces: [pid]\n")
    spec, warnings = load(str(path))
    assert (spec.name, spec.file, spec.command) == ("web", str(path), ("ps",))
    assert [(d.code, d.is_error) for d in warnings] == [("NS311", False)]
    assert spec.span("namespaces[0]") == warnings[0].span


def test_a_command_of_the_caller(tmp_path: Path) -> None:
    assert load(str(write(tmp_path, "name: a\n")), ("sh", "-l"))[0].command == ("sh", "-l")
    assert summary(write(tmp_path, "name: a\n")) == [(1, "NS204")]


def test_mistakes_of_every_stage_come_together_and_by_line(tmp_path: Path) -> None:
    text = """\
comand: [sh]
hostname: web
namespaces: [mount]
stop_signal: SIGTREM
mounts: [5]
rootfs: ./none
tty: yes
landlock: 5
sysctl: {vm.swappiness: 1}
"""
    assert summary(write(tmp_path, text)) == [
        (1, "NS201"),
        (2, "NS301"),
        (4, "NS307"),
        (5, "NS202"),
        (6, "NS305"),
        (7, "NS202"),
        (8, "NS202"),
        (9, "NS314"),
    ]


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        # A misspelt key is one mistake: nothing is said to be missing because of it.
        ("namespace: [uts]\nhostname: a\ncommand: [x]", ["NS201"]),
        ("comand: [x]", ["NS201"]),
        # What could not be read is not guessed at.
        ("namespaces: [utz]\nhostname: a\ncommand: [x]", ["NS203"]),
        ("namespaces: 5\nsysctl: {net.a: 1}\nidmap: root\ncommand: [x]", ["NS202"]),
        ("command: 5", ["NS202"]),
        ("command: [x]\nnamespaces: [mount]\nmounts: [{'targ et': /a}]", ["NS201"]),
        # Warnings stand among the errors.
        ("command: [x]\nnamespaces: [pid]\ncwd: a", ["NS311", "NS304"]),
    ],
)
def test_no_mistake_is_told_twice(tmp_path: Path, text: str, codes: list[str]) -> None:
    assert [code for _, code in summary(write(tmp_path, text))] == codes


def test_a_stack_is_checked_and_refused(tmp_path: Path) -> None:
    text = "name: shop\ncontainers:\n  web: {command: [x], hostnam: y}\n"
    assert summary(write(tmp_path, text)) == [(2, "NS320"), (3, "NS201")]
    assert summary(write(tmp_path, "containers: []\n")) == [(1, "NS320"), (1, "NS202")]


def test_what_is_no_mapping(tmp_path: Path) -> None:
    for text in ("- a\n", "text\n", "5\n", "null\n"):
        assert summary(write(tmp_path, text)) == [(1, "NS202")], text


def test_env_files_speak_at_their_own_place(tmp_path: Path) -> None:
    (tmp_path / "web.env").write_text("A=1\nB C=2\n")
    path = write(tmp_path, "command: [x]\nenv_file: web.env\nhostname: a\n")
    found = {(os.path.basename(d.span.file), d.span.line, d.code) for d in errors(path) if d.span}
    assert found == {("web.env", 2, "NS319"), ("web.yaml", 3, "NS301")}


@pytest.mark.parametrize(
    ("profile", "line"),
    [
        ('{"defaultAction": "SCMP_ACT_PERMIT"}', 1),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [\n'
         '{"names": ["kil"], "action": "SCMP_ACT_LOG"}]}', 2),
        ("{", 1),
        ("[]", 1),
    ],
)  # fmt: skip
def test_an_error_in_a_seccomp_profile_says_who_names_it(
    tmp_path: Path, profile: str, line: int
) -> None:
    (tmp_path / "p.json").write_text(profile)
    path = write(tmp_path, "command: [x]\nseccomp: ./p.json\n")
    (found,) = errors(path)
    assert found.span is not None
    assert (os.path.basename(found.span.file), found.span.line) == ("p.json", line)
    assert found.notes[-1] == f"`seccomp` names this file at {path}:2:10"
    (tmp_path / "p.json").unlink()
    (missing,) = errors(path)
    assert missing.notes == ()


def test_nothing_is_made(tmp_path: Path) -> None:
    text = """\
command: [x]
namespaces: [mount, {type: uts, pin: ./uts}]
rootfs: {path: ., overlay: ephemeral}
mounts: [{type: tmpfs, target: /tmp}]
files: {/a/b: {content: x}}
"""
    path = write(tmp_path, text)
    load(str(path))
    assert os.listdir(tmp_path) == ["web.yaml"]


def test_relative_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "root").mkdir()
    (tmp_path / "sub" / "a.yaml").write_text("command: [x]\nnamespaces: [mount]\nrootfs: root\n")
    monkeypatch.chdir(tmp_path)
    rootfs = load("sub/a.yaml")[0].rootfs
    assert rootfs is not None
    assert rootfs.path == f"{tmp_path}/sub/root"


def modules(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    return set(done.stdout.split())


def test_the_model_alone_needs_no_library() -> None:
    assert not modules("import nsrun.spec.model") & {"yaml", "jsonschema", "jinja2", "pyroute2"}
    assert not modules("import nsrun.spec.load") & {"yaml", "jsonschema"}
    parsed = modules("from nsrun.spec.document import parse_document; parse_document('a: b', 'f')")
    assert "yaml" in parsed
    assert "jsonschema" not in parsed


def test_a_mistake_in_one_entry_does_not_hide_those_in_others(tmp_path: Path) -> None:
    text = """\
command: [sh]
namespaces: [mount, network]
mounts:
  - {type: tmpfs, target: /a, options: "ro"}
  - {type: tmpfs, target: b}
  - {type: bind, target: /c}
  - {type: bind, source: ./none, target: /d}
files:
  /e: {content: 1}
  f: {content: ""}
  /g: {}
env:
  A: [1]
  B=C: 1
rlimits:
  core: x
  nofil: 1
  nproc: "2:1"
sysctl:
  net.a: [1]
  vm.swappiness: 1
"""
    assert summary(write(tmp_path, text)) == [
        (4, "NS202"), (5, "NS304"), (6, "NS312"), (7, "NS305"),
        (9, "NS202"), (10, "NS304"), (11, "NS204"),
        (13, "NS202"), (14, "NS316"),
        (16, "NS203"), (17, "NS315"), (18, "NS318"),
        (20, "NS202"), (21, "NS314"),
    ]  # fmt: skip


def test_what_depends_on_all_mounts_is_not_guessed(tmp_path: Path) -> None:
    text = """\
command: [ps]
namespaces: [mount, pid]
mounts: [{type: proc, taget: /proc}]
"""
    assert summary(write(tmp_path, text)) == [(3, "NS201")]


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("namespaces: [network]\nnetwork: {mode: user, masquerade: true}", "masquerade"),
        ("namespaces: [network]\nnetwork: {dns: {}}", "dns"),
        ("namespaces: [network, mount]\nnetwork: {hosts: {a b: 10.0.0.1}}", "a b"),
        ("sysctl: {vm.swappiness: 1}", "vm.swappiness"),
        ("sysctl: {net.ipv4.ip_forward: 1}", "net.ipv4.ip_forward"),
        ("rlimits: {nofil: 1}", "nofil"),
        ("rlimits: {core: 1, CORE: 2}", "CORE"),
        ('env: {"A=B": 1}', '"A=B"'),
        ("namespaces: [mount]\nfiles: {a: {folder: true}}", "a"),
        ("namespaces: [mount]\nfiles: {/: {folder: true}}", "/"),
    ],
)
def test_a_key_that_is_wrong_is_marked_itself(tmp_path: Path, text: str, marked: str) -> None:
    path = write(tmp_path, f"{text}\ncommand: [sh]\n")
    [found] = errors(path)
    assert found.span is not None
    line = path.read_text().splitlines()[found.span.line - 1]
    assert line[found.span.column - 1 : found.span.end_column - 1] == marked


def test_a_key_given_twice_is_told_beside_what_ends_the_reading(tmp_path: Path) -> None:
    text = "command: [sh]\nname: a\nname: b\nx-a: *nowhere\n"
    assert summary(write(tmp_path, text)) == [(3, "NS102"), (4, "NS101")]
