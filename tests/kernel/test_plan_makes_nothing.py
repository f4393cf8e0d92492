"""strace as the judge: planning and validating make nothing, and plan() itself asks nothing."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.oracle.strace import CLONES, Traced, parse
from tests.support.paths import PYTHON
from tests.support.requires import requires
from tests.support.runner import TIMEOUT, Result, Runner

pytestmark = requires("strace")

# Calls that change something which others can see. Those of signals, memory, descriptors and the
# process's own state are not among them.
CHANGES = frozenset(
    {
        "mount", "umount2", "pivot_root", "move_mount", "mount_setattr", "fsopen", "fsmount",
        "fsconfig", "fspick", "open_tree", "unshare", "setns", "chroot", "swapon",
        "mkdir", "mkdirat", "mknod", "mknodat", "link", "linkat", "symlink", "symlinkat",
        "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "truncate",
        "ftruncate", "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown",
        "fchownat", "utime", "utimes", "utimensat", "setxattr", "lsetxattr", "fsetxattr",
        "sethostname", "setdomainname", "setuid", "setgid", "setresuid", "setresgid",
        "setgroups", "capset", "bind", "listen", "ptrace", "kill", "keyctl", "add_key",
        "init_module", "bpf", "creat", "settimeofday", "clock_settime", "reboot",
    }
)  # fmt: skip
WRITING = re.compile(r"\b(O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_TMPFILE)\b")


@pytest.fixture
def executor() -> str:
    """Nothing is executed; `""`: what nsrun chooses."""
    return ""


def changes(calls: list[Traced]) -> list[str]:
    """What a traced process has made, or has tried to make."""
    return [
        call.text
        for call in calls
        if call.name in CHANGES
        or (call.name in CLONES and "CLONE_NEW" in call.text)
        or (call.name in ("open", "openat", "openat2") and WRITING.search(call.text))
    ]


class Watched:
    """Runs a program of the checkout under strace, as a runner's user."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.trace = runner.user.home / "trace"

    def run(self, *words: str | Path) -> Result:
        here = [self.runner._reachable(Path(word)) if isinstance(word, Path) else word
                for word in words]  # fmt: skip
        strace = ("strace", "-f", "-qq", "-o", str(self.trace))
        return self.runner._finish(self.runner.argv_of(*strace, *here), None, TIMEOUT)

    def calls(self) -> list[Traced]:
        return parse(self.trace)


@pytest.fixture
def watched(anyone: Runner) -> Watched:
    return Watched(anyone)


LAUNCHER = Path(PYTHON).parent / "nsrun"
PROGRAMS: dict[str, tuple[str | Path, ...]] = {
    "launcher": (LAUNCHER,),
    "module": (Path(PYTHON), "-P", "-m", "nsrun"),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("word", ["validate", "plan"])
def test_nothing_is_made(watched: Watched, seeds: Path, word: str, program: str) -> None:
    for file in (seeds / "rootfs.yaml", seeds.parent / "quickstart.yaml", seeds / "pin.yaml"):
        result = watched.run(*PROGRAMS[program], word, file)
        calls = watched.calls()
        assert any(call.name == "openat" and file.name in call.text for call in calls), str(result)
        assert changes(calls) == [], str(result)
        assert list(watched.runner.user.cache.iterdir()) == []


def test_what_is_made_would_be_seen(watched: Watched) -> None:
    script = "mkdir d; echo x > f; unshare -U true; rm -r d f"
    watched.run("sh", "-c", script)
    made = "\n".join(changes(watched.calls()))
    for call in ("mkdir", "O_WRONLY|O_CREAT", "unshare", "unlink"):
        assert call in made


def while_planning(watched: Watched, *words: str) -> set[str]:
    """The names of the calls between the marks of tests/support/planner_alone.py."""
    watched.run(sys.executable, "-m", "tests.support.planner_alone", *words)
    calls = watched.calls()
    begin, end = (
        number
        for number, call in enumerate(calls)
        if call.name == "write" and re.search(r'"(begin|end)\\n"', call.text)
    )
    return {call.name for call in calls[begin + 1 : end]}


MEMORY = {"brk", "mmap", "munmap", "mremap", "madvise"}
# libseccomp hands a filter out by a descriptor, of memory too: memfd_create(2).
BY_DESCRIPTOR = {"memfd_create", "write", "pread64", "close"}


def test_the_planner_itself_asks_for_memory_alone(watched: Watched) -> None:
    """Not even stat(2), getuid(2) or a clock, which raise no audit event of Python's."""
    assert while_planning(watched) <= MEMORY | BY_DESCRIPTOR


def test_a_planner_that_asks_for_more_would_be_seen(watched: Watched) -> None:
    assert "getdents64" in while_planning(watched, "--impure")
