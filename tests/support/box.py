"""Small specs for tests against the kernel: written, run, and the host compared afterwards."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.host import unchanged
from tests.support.paths import SPECS
from tests.support.runner import Result, Runner
from tests.support.users import User

_numbers = itertools.count()

# Runs "$@" and writes the tables of mounts of before and after beside each other, for a mount
# namespace that the test itself is not in. $0 is the folder for the two files.
_WATCH_MOUNTS = """
cat /proc/self/mountinfo > "$0/mounts-before"
"$@"
status=$?
cat /proc/self/mountinfo > "$0/mounts-after"
exit $status
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Runs specs of a test's own, in ``folder``, which belongs to the runner's user."""

    runner: Runner
    folder: Path
    base: Mapping[str, Any] = field(default_factory=dict)

    def spec(self, stem: str = "", /, **keys: Any) -> Path:
        """Write a spec of ``base`` and ``keys`` (None takes a key away) and return its file."""
        stem = stem or f"box{next(_numbers)}"
        wanted = {k: v for k, v in {**self.base, **keys}.items() if v is not None}
        file = self.folder / f"{stem}.yaml"
        # JSON is YAML.
        file.write_text(json.dumps(wanted, indent=2, ensure_ascii=False))
        return file

    def with_(self, **keys: Any) -> Box:
        return Box(runner=self.runner, folder=self.folder, base={**self.base, **keys})

    def as_(self, **changes: Any) -> Box:
        """The same with a changed runner."""
        return Box(runner=self.runner.with_(**changes), folder=self.folder, base=self.base)

    def run(self, command: str | list[str], typed: str | None = None, /, **keys: Any) -> Result:
        """Run a spec with ``command``, which reads ``typed``; the host must be as before."""
        file = self.spec(command=command, **keys)
        with unchanged(self.folder):
            return self.runner.run(file, stdin=typed)

    def out(self, command: str | list[str], typed: str | None = None, /, **keys: Any) -> str:
        """What a command that must succeed has written, without the last newline."""
        return self.run(command, typed, **keys).ok().rstrip("\n")

    def refused(self, command: str | list[str] = "true", /, **keys: Any) -> str:
        """What nsrun says when it does not get as far as the command."""
        result = self.run(command, **keys)
        assert result.status == 125, str(result)
        assert "Traceback" not in result.stderr, str(result)
        assert result.stdout == ""
        return result.stderr

    @contextmanager
    def running(self, command: str | list[str], /, **keys: Any) -> Iterator[Running]:
        """A run under way, its stdin and stdout pipes; it is ended with the block."""
        process = self.runner.start(self.spec(command=command, **keys))
        try:
            yield Running(process=process)
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.communicate(timeout=15)
            except Exception:
                process.kill()
                process.communicate()
                raise

    def folder_of_user(self, name: str) -> Path:
        """A new folder that belongs to the runner's user."""
        made = self.folder / name
        made.mkdir(parents=True)
        give(made, self.runner)
        return made


@dataclass(slots=True, kw_only=True)
class Running:
    """``process`` is nsrun itself."""

    process: Any

    def line(self) -> str:
        """The next line that the command writes; it must come."""
        text: str = self.process.stdout.readline()
        if not text:
            _, said = self.process.communicate(timeout=10)
            raise AssertionError(f"ended with {self.process.returncode}: {said}")
        return text.rstrip("\n")

    def end(self, timeout: float = 10) -> Result:
        """Wait for the end."""
        stdout, stderr = self.process.communicate(timeout=timeout)
        code = self.process.returncode
        return Result(status=code if code >= 0 else 128 - code, stdout=stdout, stderr=stderr)


def give(path: Path, runner: Runner) -> Path:
    """Make ``path``, with all below it, the property of the runner's user."""
    for entry in (path, *path.rglob("*")):
        os.chown(entry, runner.user.uid, runner.user.gid, follow_symlinks=False)
    return path


def copy_specs(area: Path, runner: Runner) -> Path:
    """A copy of specs/ that belongs to the runner's user; generated files stay away."""
    made = area / "specs"
    shutil.copytree(SPECS, made, symlinks=True)
    return give(made, runner)


def own_ids(specs: Path, user: User) -> None:
    """Have the spec that maps ids of the host map those of ``user``, as it tells users to.

    Root may map any, and keeps what is written there.
    """
    if user.uid == 0:
        return
    file = specs / "seeds/user.yaml"
    text = file.read_text()
    old = 'uid: ["0:1000:1"], gid: ["0:1000:1"]'
    assert old in text
    file.write_text(text.replace(old, f'uid: ["0:{user.uid}:1"], gid: ["0:{user.gid}:1"]'))


def namespaces(pid: int | str = "self") -> dict[str, str]:
    """The links of /proc/PID/ns by name (``uts``: ``uts:[4026531838]``)."""
    folder = Path(f"/proc/{pid}/ns")
    return {entry.name: os.readlink(entry) for entry in folder.iterdir()}


def watching_mounts(runner: Runner, folder: Path) -> Runner:
    """``runner`` with the tables of mounts kept; see :func:`mounts_left`."""
    return runner.with_(wrapper=("/bin/sh", "-c", _WATCH_MOUNTS, str(folder)))


def mounts_left(folder: Path) -> list[str]:
    """The lines of mountinfo that a watched run has left, or taken away."""
    before = (folder / "mounts-before").read_text().splitlines()
    after = (folder / "mounts-after").read_text().splitlines()
    assert before
    return sorted(set(before) ^ set(after))


def wait_for(condition: Any, patience: float = 5.0) -> bool:
    """Whether ``condition()`` holds within ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class MountLine:
    """A line of mountinfo (proc_pid_mountinfo(5)); ``parent`` is the id of another line."""

    id: int
    parent: int
    target: str
    root: str
    options: tuple[str, ...]
    tags: tuple[str, ...]
    type: str
    source: str
    super_options: tuple[str, ...]

    @property
    def peer_group(self) -> str:
        return next((t for t in self.tags if t.startswith("shared:")), "")

    @property
    def master(self) -> str:
        return next((t for t in self.tags if t.startswith("master:")), "")


def mountinfo(text: str) -> list[MountLine]:
    """The lines of a mountinfo file, in its order."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        number, parent, _, root, target, options, *tags = left.split(" ")
        kind, source, more = right.split(" ")[:3]
        found.append(
            MountLine(
                id=int(number),
                parent=int(parent),
                target=target,
                root=root,
                options=tuple(options.split(",")),
                tags=tuple(tags),
                type=kind,
                source=source,
                super_options=tuple(more.split(",")),
            )
        )
    return found


def top_mounts(text: str) -> dict[str, MountLine]:
    """Of each target the mount that is seen: the last one."""
    return {line.target: line for line in mountinfo(text)}
