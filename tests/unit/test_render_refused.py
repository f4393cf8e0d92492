"""The table of refused calls: its lines, and the lines of the spec that it leads to."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun.render.refused import table
from nsrun.runtime.why import Report, Row, read
from nsrun.spec.load import load
from nsrun.spec.model import Spec

TEXT = """\
command: [id]
namespaces: [user, mount]
seccomp: default
mounts:
  - {type: tmpfs, target: /srv/, options: [ro]}
landlock: {write: [/tmp]}
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spec:
    monkeypatch.chdir(tmp_path)
    Path("web.yaml").write_text(TEXT)
    return load("web.yaml")[0]


def row(**keys: object) -> Row:
    words: dict[str, object] = {
        "call": "open()", "errno": "EPERM", "command": "sh", "count": 1, "wall": "", "why": "so",
        "path": "", "target": "", "help": "",
    }  # fmt: skip
    return Row(**{**words, **keys})  # type: ignore[arg-type]


def test_lines_of_the_spec(spec: Spec) -> None:
    text = table(
        spec,
        [
            row(wall="read-only mount", path="mounts", target="/srv", help="another"),
            row(wall="Landlock", path="landlock", count=3),
            row(path="idmap", help="a map"),
            row(command="a\x1b[31m"),
        ],
        2,
        complete=False,
    )
    assert text == (
        "refused system calls of the command:\n"
        "  sh: open() = EPERM\n"
        "    wall: read-only mount: so\n"
        "    try:  another (web.yaml:5)\n"
        "  sh: open() = EPERM (3 times)\n"
        "    wall: Landlock: so\n"
        "    at:   web.yaml:6\n"
        "  sh: open() = EPERM\n"
        "    wall: not told: so\n"
        "    try:  a map\n"
        "  a\\x1b[31m: open() = EPERM\n"
        "    wall: not told: so\n"
        "  and 2 more\n"
        "  the tracer has ended before the command: there may be others\n"
    )
    assert table(spec, []) == (
        "refused: no system call of the command, as far as --why looks (EPERM, EACCES, EROFS, "
        "EAGAIN of new processes, ids that are not mapped, answers of filters)\n"
    )


def written(spec: Spec, tmp_path: Path, *calls: str) -> Report | None:
    import dataclasses
    import json

    rows = [dataclasses.asdict(row(call=call, wall="seccomp", help="own")) for call in calls]
    file = tmp_path / "report"
    file.write_text(json.dumps({"refused": rows, "more": 0, "complete": True}) if calls else "")
    with file.open("rb") as stream:
        return read(spec, stream.fileno())


def test_the_default_profile_has_calls_for_capabilities(spec: Spec, tmp_path: Path) -> None:
    calls = ("mount(0)", "socket(0x11, 3, 0)", "socket(2, 3, 0)", "socket(…)", "keyctl(1)")
    report = written(spec, tmp_path, *calls)
    assert report is not None
    firsts = [found.help.partition(" ")[0] for found in report.rows]
    assert firsts == ["CAP_SYS_ADMIN", "CAP_NET_RAW", "own", "own", "own"]
    assert written(spec, tmp_path) is None
