"""Compiled specs: one program that runs without Python where it was compiled for, nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from nsrun.kernel.depend import Kind
from nsrun.plan import entry
from nsrun.plan.binary_format import checksum
from nsrun.runtime import compiled
from tests.support.box import Box, give
from tests.support.host import unchanged
from tests.support.requires import requires
from tests.support.runner import Result

pytestmark = requires("native", "busybox")


@pytest.fixture
def executor() -> str:
    return ""


class Compiled:
    """Compiles specs of a box, and runs them where no other program of nsrun is."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.program = box.folder / "program"

    def compile(self, **keys: object) -> Path:
        spec = self.box.spec("web", **keys)
        self.box.runner.run("compile", spec, "-o", self.program).ok()
        return spec

    def run(self) -> Result:
        return self.box.runner.run_program("env", "-i", str(self.program))


@pytest.fixture
def compiled_box(box: Box) -> Compiled:
    return Compiled(box)


def test_it_runs_as_its_spec(compiled_box: Compiled) -> None:
    spec = compiled_box.compile(
        namespaces=["user", "mount", "pid", "uts"],
        hostname="carried",
        mounts=[{"type": "proc", "target": "/proc"}],
        command="hostname; echo $$; exit 7",
    )
    wanted = compiled_box.box.runner.run(spec)
    with unchanged(compiled_box.box.folder):
        result = compiled_box.run()
    assert (result.status, result.stdout) == (7, "carried\n1\n")
    assert (wanted.status, wanted.stdout) == (7, "carried\n1\n")


def test_it_executes_no_python(compiled_box: Compiled) -> None:
    compiled_box.compile(namespaces=["user"], command=["/bin/true"])
    data = compiled_box.program.read_bytes()
    assert data.startswith(b"\x7fELF")
    assert b"\x7fELF" not in data[4:]
    result = compiled_box.box.runner.run_program(
        "strace", "-f", "-e", "trace=execve", str(compiled_box.program)
    )
    assert "python" not in result.stderr


def test_a_failure_names_step_and_errno(compiled_box: Compiled) -> None:
    """Without Python there is no explanation, but never silence."""
    compiled_box.compile(
        namespaces=["user", "mount"],
        mounts=[{"type": "tmpfs", "target": "/tmp", "options": ["sise=1m"]}],
        command=["true"],
    )
    result = compiled_box.run()
    assert result.status == 125
    assert "step c" in result.stderr and "EINVAL" in result.stderr
    assert "Unknown parameter 'sise'" in result.stderr


@pytest.mark.parametrize(
    ("command", "status"),
    [(["/no/such"], 127), (["/etc/passwd"], 126), (["sh", "-c", "kill -9 $$"], 137)],
)
def test_exit_statuses(compiled_box: Compiled, command: list[str], status: int) -> None:
    compiled_box.compile(namespaces=["user"], command=command)
    assert compiled_box.run().status == status


def test_it_is_a_plan(compiled_box: Compiled) -> None:
    spec = compiled_box.compile(namespaces=["user", "uts"], hostname="x", command=["true"])
    runner = compiled_box.box.runner
    assert (
        runner.run("plan", "--json", compiled_box.program).ok()
        == runner.run("plan", "--json", spec).ok()
    )
    assert "set the host name to x" in runner.run("plan", "--brief", compiled_box.program).ok()
    assert runner.run("diff", spec, compiled_box.program).status == 0


@requires("root")
def test_another_user_is_refused(root_box: Box) -> None:
    here = Compiled(root_box)
    here.compile(namespaces=["uts"], command=["true"])
    root_box.folder.chmod(0o755)
    result = root_box.runner.run_program(
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(here.program)
    )
    assert result.status == 125
    assert "the same user, groups and capabilities" in result.stderr


def test_a_missing_rootfs_is_refused(compiled_box: Compiled, own_root: Path) -> None:
    compiled_box.compile(namespaces=["user", "mount"], rootfs=str(own_root), command=["true"])
    assert compiled_box.run().status == 0
    shutil.move(own_root, own_root.with_name("elsewhere"))
    result = compiled_box.run()
    assert result.status == 125
    assert str(own_root) in result.stderr
    # Another folder of the same kind and owner is as good.
    shutil.copytree(own_root.with_name("elsewhere"), own_root, symlinks=True)
    give(own_root, compiled_box.box.runner)
    assert compiled_box.run().status == 0


def _offset(data: bytes) -> int:
    place = data.index(compiled._MARK) + len(compiled._MARK)
    return int.from_bytes(data[place : place + 8], "little")


@pytest.mark.parametrize("part", ["entry", "plan", "cut"])
def test_a_damaged_program_is_refused(compiled_box: Compiled, part: str) -> None:
    compiled_box.compile(namespaces=["user"], command=["true"])
    data = bytearray(compiled_box.program.read_bytes())
    offset = _offset(bytes(data))
    size = int.from_bytes(data[offset + 12 : offset + 16], "little")
    if part == "cut":
        del data[offset + size + 200 :]
    else:
        data[offset + 60 if part == "entry" else offset + size + 150] ^= 1
    compiled_box.program.write_bytes(data)
    result = compiled_box.run()
    assert result.status == 125
    assert "error: " in result.stderr
    shown = compiled_box.box.runner.run("plan", compiled_box.program)
    assert shown.status == 1 and "NS406" in shown.stderr


def test_it_takes_no_arguments(compiled_box: Compiled) -> None:
    compiled_box.compile(namespaces=["user"], command=["true"])
    result = compiled_box.box.runner.run_program(str(compiled_box.program), "more")
    assert result.status == 125 and "takes no arguments" in result.stderr


def test_a_join_of_a_process_cannot_be_carried(compiled_box: Compiled) -> None:
    spec = compiled_box.box.spec(namespaces=[{"type": "uts", "pid": os.getpid()}], command=["true"])
    result = compiled_box.box.runner.run("compile", spec, "-o", compiled_box.program)
    assert result.status == 1 and "error[" in result.stderr
    assert not compiled_box.program.exists()


# --- another machine -----------------------------------------------------------------------------


def _other_depend(program: Path, kind: Kind, **fields: int | bytes) -> None:
    """Changes what the program asks of where it runs; its checksum is right."""
    data = bytearray(program.read_bytes())
    start = _offset(bytes(data))
    size = int.from_bytes(data[start + 12 : start + 16], "little")
    places, at = {}, 0
    for name, length in entry.DEPEND_FIELDS:
        places[name] = (at, length)
        at += length

    def field(record: int, name: str) -> slice:
        offset, length = places[name]
        return slice(record + offset, record + offset + length)

    def number(at: slice) -> int:
        return int.from_bytes(data[at], "little")

    first = start + int.from_bytes(data[start + 32 : start + 36], "little")
    count = int.from_bytes(data[start + 36 : start + 40], "little")
    records = [first + n * entry.DEPEND_SIZE for n in range(count)]
    (record,) = (r for r in records if number(field(r, "kind")) == kind)
    for name, value in fields.items():
        at = field(record, name)
        if isinstance(value, bytes):
            content = start + number(at)
            assert number(field(record, f"{name}_size")) == len(value)
            data[content : content + len(value)] = value
        else:
            data[at] = value.to_bytes(places[name][1], "little")
    body = bytes(data[start + entry.CHECKED_FROM : start + size])
    data[start + 16 : start + 24] = checksum(body).to_bytes(8, "little")
    program.write_bytes(data)


def test_an_older_kernel_is_refused(compiled_box: Compiled) -> None:
    compiled_box.compile(namespaces=["user"], command=["true"])
    major, minor = (int(word) for word in os.uname().release.split("-")[0].split(".")[:2])
    _other_depend(compiled_box.program, Kind.KERNEL, dev_major=major, dev_minor=minor)
    assert compiled_box.run().status == 0
    _other_depend(compiled_box.program, Kind.KERNEL, dev_minor=minor + 1)
    result = compiled_box.run()
    assert result.status == 125
    assert "it was compiled for, and needs, Linux " in result.stderr


def test_another_machine_is_refused(compiled_box: Compiled) -> None:
    compiled_box.compile(namespaces=["user"], command=["true"])
    machine = os.uname().machine
    _other_depend(compiled_box.program, Kind.MACHINE, data=b"x" * len(machine))
    result = compiled_box.run()
    assert result.status == 125
    assert f"a {machine} machine" in result.stderr


@requires("root")
def test_other_groups_are_refused(root_box: Box) -> None:
    here = Compiled(root_box)
    here.compile(namespaces=["uts"], command=["true"])
    result = root_box.runner.run_program("setpriv", "--groups=1234", str(here.program))
    assert result.status == 125
    assert "the same user, groups and capabilities" in result.stderr


@requires("root")
def test_it_runs_where_there_is_nothing_else(root_box: Box, own_rootfs: Path) -> None:
    """In a root with neither Python nor a library: nothing but busybox, and /proc."""
    here = Compiled(root_box)
    here.compile(
        namespaces=["uts"],
        hostname="alone",
        command=["/bin/busybox", "sh", "-c", "hostname; exit 3"],
    )
    shutil.copy(here.program, own_rootfs / "program")
    mounting = 'mount -t proc proc "$0/proc" && exec chroot "$0" /program'
    result = root_box.runner.run_program("unshare", "-m", "sh", "-c", mounting, str(own_rootfs))
    assert (result.status, result.stdout, result.stderr) == (3, "alone\n", "")


@requires("root")
def test_without_proc_it_says_so(root_box: Box, own_rootfs: Path) -> None:
    here = Compiled(root_box)
    here.compile(namespaces=["uts"], command=["true"])
    shutil.copy(here.program, own_rootfs / "program")
    result = root_box.runner.run_program("chroot", str(own_rootfs), "/program")
    assert result.status == 125
    assert "cannot read itself through /proc/self/exe" in result.stderr


def test_one_that_may_not_be_read(user_box: Box) -> None:
    here = Compiled(user_box)
    here.compile(namespaces=["user"], command=["true"])
    here.program.chmod(0o111)
    result = here.run()
    assert result.status == 125 and "cannot read itself" in result.stderr


# --- writing it ----------------------------------------------------------------------------------


def test_it_replaces_a_program_that_runs(compiled_box: Compiled) -> None:
    """execve(2) keeps the file busy: it is written to another name, and renamed."""
    compiled_box.compile(namespaces=["user"], command=["sleep", "60"])
    running = subprocess.Popen(compiled_box.box.runner.argv_of(str(compiled_box.program)))
    try:
        compiled_box.compile(namespaces=["user"], command=["echo", "new"])
        assert compiled_box.run().ok() == "new\n"
    finally:
        running.terminate()
        running.wait(timeout=20)


@requires("root")
def test_a_disk_that_is_full(root_box: Box) -> None:
    place = root_box.folder_of_user("disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "t", place], check=True)
    try:
        spec = root_box.spec(namespaces=["uts"], command=["true"])
        result = root_box.runner.run("compile", spec, "-o", place / "program")
        assert result.status == 1
        assert f"cannot write {place / 'program'}: No space left on device" in result.stderr
        assert list(place.iterdir()) == []
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_folder_that_is_not_there(compiled_box: Compiled) -> None:
    spec = compiled_box.box.spec(namespaces=["user"], command=["true"])
    result = compiled_box.box.runner.run("compile", spec, "-o", "/nowhere/program")
    assert result.status == 1
    assert "cannot write /nowhere/program: No such file or directory" in result.stderr
