"""What a preflight makes of specs that do not hold: everything is said once, nothing stumbles."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun.diag import Diagnostic, sort_key
from nsrun.runtime.preflight import preflight
from nsrun.spec.load import load_parts
from tests.unit.test_spec_check import CASES, folder

__all__ = ["folder"]  # the fixture that holds what the cases name


def looked_through(path: Path, text: str) -> tuple[Diagnostic, ...]:
    path.write_text(text)
    loaded = load_parts(str(path))
    assert loaded.spec is not None
    return preflight(loaded.spec, loaded.diagnostics, loaded.broken)


@pytest.mark.parametrize(
    "text", [case[1 if n % 2 else 4] for n, case in enumerate(CASES)], ids=lambda text: text[:60]
)
def test_no_mistake_stops_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(f"command: [sh]\n{text}")
    known = load_parts(str(path)).diagnostics
    found = looked_through(path, f"command: [sh]\n{text}")
    assert [d for d in known if d not in found] == []
    assert list(found) == sorted(found, key=sort_key)
    assert len(set(found)) == len(found)


def test_a_mistake_is_not_said_again_in_other_words(tmp_path: Path) -> None:
    found = looked_through(
        tmp_path / "a.yaml",
        "namespaces: [{type: uts, pid: 4194303}]\ncommand: [sh]\n",
    )
    assert [(d.code, d.path) for d in found] == [("NS305", "namespaces[0].pid")]


def test_mistakes_of_every_stage_stand_together(tmp_path: Path) -> None:
    text = """\
namespaces: [user, mount, {type: network, container: nobody-runs-this}]
hostnam: x
mounts:
  - {type: bind, source: /nowhere, target: /srv}
  - {type: nosuchfs, target: /mnt}
sysctl: {kernel.shm_nosuch: "1"}
user: nosuchuser
command: [no-such-program]
"""
    found = [d for d in looked_through(tmp_path / "a.yaml", text) if d.is_error]
    lines = [(d.span.line if d.span else 0, d.code) for d in found]
    assert lines == [
        (1, "NS404"),  # the planner
        (2, "NS201"),  # the schema
        (4, "NS305"),  # the check against the host
        (5, "NS401"),  # tried: the kernel does not know it
        (6, "NS401"),
        (7, "NS317"),
    ]


def test_what_could_not_be_read_is_not_judged(tmp_path: Path) -> None:
    # Without its namespaces the rest would be another spec.
    text = "namespaces: [user, mont]\nuser: 5\ncapabilities: [CAP_CHOWN]\ncommand: [sh]\n"
    found = looked_through(tmp_path / "a.yaml", text)
    assert [d.path for d in found] == ["namespaces[1]"]


def test_a_command_is_looked_for_where_it_would_be(tmp_path: Path) -> None:
    (tmp_path / "rootfs/bin").mkdir(parents=True)
    (tmp_path / "rootfs/bin/tool").write_text("")
    spec = "namespaces: [user, mount]\nrootfs: ./rootfs\ncommand: [%s]\n%s"

    def said(command: str, more: str = "") -> list[str]:
        found = looked_through(tmp_path / "a.yaml", spec % (command, more))
        return [d.code for d in found if d.path == "command"]

    assert said("tool") == said("/bin/tool") == []
    assert said("other") == said("/bin/other") == ["NS601"]
    assert said("other", "mounts: [/usr/bin:/bin]") == []
    assert said("/proc/self/exe") == []
