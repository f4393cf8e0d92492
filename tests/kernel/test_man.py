"""The manual page and the help texts: every command in their examples runs as it is printed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsrun.cli.parser import TOP_EXAMPLES
from tests.support.box import copy_specs, give
from tests.support.paths import ROOT
from tests.support.requires import requires
from tests.support.runner import Runner

PAGE = ROOT / "docs/nsrun.1"
# What a file of an example says; the rest of what they name are files of specs/.
WEB = {
    "namespaces": ["user", "mount", "uts"],
    "hostname": "web",
    "command": ["/bin/sh", "-c", "hostname"],
}
READ_ONLY = {**WEB, "mounts": [{"target": "/", "options": ["ro"]}]}
# Ends with another status than 0, and why.
STATUSES = {
    "nsrun diff yesterday.plan.json web.yaml": 0,
    "nsrun diff web.yaml web-readonly.yaml": 1,
    # mount(8): "mount failure"; the filter refuses it, and the example is to tell so.
    "nsrun exec --why web -- mount -t tmpfs t /mnt": 32,
}
# A container for the commands that are about one; it ends by itself soon.
LIVE = {
    "name": "web",
    "namespaces": ["user", "mount", "network", "pid"],
    "mounts": [{"type": "proc", "target": "/proc"}],
    "stop_timeout": "1s",
    "command": ["/bin/sh", "-c", "trap 'exit 0' TERM HUP; echo up; sleep 1.5 & wait $!"],
}
ABOUT_A_CONTAINER = (
    *("attach", "exec", "inspect", "kill", "logs", "pause", "port", "restart", "rm", "start"),
    *("stop", "top", "unpause", "wait", "stats", "cp", "drift"),
)
SILENT = (
    *("unpin", "compile", "cache", "web.yaml", "attach", "port", "exec", "netns", "graph"),
    "prune", "cp",
)
FOR_ROOT = {
    "nsrun unpin ./uts",
    "nsrun netns add blue",
    "nsrun netns exec blue ip address",
    "nsrun netns delete blue",
}


def examples_of_the_page() -> Iterator[str]:
    """The lines between .nf and .fi, without roff's escapes."""
    shown = re.findall(r"^Examples:\n\.PP\n\.nf\n\.RS\n(.*?)^\.RE$", PAGE.read_text(), re.M | re.S)
    for block in shown:
        for line in block.splitlines():
            plain = re.sub(r"\\\((aq|ga|ti|ha)", _letter, line.replace("\\-", "-"))
            yield plain.replace("\\e", "\\")


def _letter(match: re.Match[str]) -> str:
    return {"aq": "'", "ga": "`", "ti": "~", "ha": "^"}[match[1]]


def examples_of_the_help() -> Iterator[str]:
    for line in TOP_EXAMPLES.splitlines():
        if line.startswith("  nsrun "):
            yield line.strip().split("  ")[0]


EXAMPLES = tuple(dict.fromkeys((*examples_of_the_page(), *examples_of_the_help())))


@pytest.fixture
def executor() -> str:
    """As nsrun chooses."""
    return ""


@pytest.fixture
def folder(anyone: Runner, area: Path) -> Path:
    """A folder with what the examples name, and `nsrun` on PATH."""
    made = copy_specs(area, anyone).parent / "work"
    made.mkdir()
    shutil.move(str(area / "specs"), made / "specs")
    (made / "web.yaml").write_text(json.dumps(WEB))
    (made / "web-readonly.yaml").write_text(json.dumps(READ_ONLY))
    (made / "bin").mkdir()
    words = anyone.argv()
    program = shlex.join(words[words.index("-P") - 1 :])
    (made / "bin/nsrun").write_text(f'#!/bin/sh\nexec {program} "$@"\n')
    (made / "bin/nsrun").chmod(0o755)
    return give(made, anyone)


def run(runner: Runner, folder: Path, line: str, before: str = "") -> tuple[int, str, str]:
    """Run a line in a shell, with what it writes outside of ``folder`` moved into it."""
    moved = re.sub(r"> /", f"> {folder}/written/", line)
    target = re.search(r"> (\S+)$", moved)
    makes = f'mkdir -p "$(dirname {target[1]})" && ' if target else ""
    script = f"cd {folder} && HOME={folder} PATH={folder}/bin:$PATH && {before}{makes}{moved}"
    result = runner.run_program("/bin/sh", "-c", script)
    return result.status, result.stdout, result.stderr


def test_every_command_has_examples() -> None:
    from nsrun.cli.commands import COMMANDS

    first = {line.split()[1] for line in EXAMPLES}
    assert set(COMMANDS) <= first | {"run"}
    assert len(EXAMPLES) > 20
    assert all(line.startswith("nsrun ") for line in EXAMPLES)


# Stacks make bridges: tests/kernel/test_stack.py runs them where they are nobody's. Limits need
# control groups: tests/kernel/test_run_resources.py changes them where root can make some. What
# follows events never ends: tests/kernel/test_detached_events.py.
ELSEWHERE = ("up", "down", "generate", "update", "events")


def _is_elsewhere(line: str) -> bool:
    words = line.split()
    about_a_stack = words[-1] == "shop" or "specs/stacks/" in words[-1]
    return words[1] in ELSEWHERE or (words[1] in ("drift", "verify") and about_a_stack)


@pytest.mark.parametrize("line", [e for e in EXAMPLES if not _is_elsewhere(e)])
def test_an_example_runs(line: str, anyone: Runner, folder: Path) -> None:
    before = ""
    if "yesterday.plan.json" in line:
        before = "nsrun plan --json web.yaml > yesterday.plan.json && "
    if line == "nsrun plan --brief quickstart":
        before = "nsrun compile specs/quickstart.yaml -o quickstart && "
    after = ""
    if line.split()[1] in ABOUT_A_CONTAINER:
        (folder / "live.yaml").write_text(json.dumps(LIVE))
        before = "nsrun run -d live.yaml >/dev/null && "
        before += "nsrun stop web >/dev/null && " if line.split()[1] in ("start", "rm") else ""
        before += "nsrun pause web >/dev/null && " if line.split()[1] == "unpause" else ""
        after = "; status=$?; nsrun rm --force web >/dev/null 2>&1; exit $status"
    elif line.split()[1:3] == ["run", "-d"]:
        after = "; status=$?; nsrun rm --force web >/dev/null 2>&1; exit $status"
    if line in FOR_ROOT:
        if anyone.user.uid != 0:
            status, _, err = run(anyone, folder, line)
            assert status != 0
            assert err.startswith("error[NS")
            return
        if "netns" in line:
            before = "" if " add " in line else "nsrun netns add blue && "
            after = "" if " delete " in line else " && nsrun netns delete blue"
        else:
            spec = {"namespaces": [{"type": "uts", "pin": "./uts"}], "command": "true"}
            (folder / "pin.yaml").write_text(json.dumps(spec))
            before = "nsrun pin.yaml && "
    status, out, err = run(anyone, folder, line + after, before)
    assert status == STATUSES.get(line, 0), err
    assert "error" not in err
    written = re.search(r"> (\S+)$", line)
    if written is None:
        assert out or line.split()[1] in SILENT, "says nothing"
    if "--format json" in line or line.startswith("nsrun schema plan"):
        json.loads(out)


def test_an_example_is_read_from_the_page_as_it_stands_in_the_help() -> None:
    assert "nsrun completion fish > ~/.config/fish/completions/nsrun.fish" in EXAMPLES
    assert "nsrun plan --json specs/quickstart.yaml > quickstart.plan.json" in EXAMPLES


@requires("man")
def test_the_page_is_sound() -> None:
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(PAGE)],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "80", "LANG": "C.UTF-8"},
    )
    assert done.stderr == ""
