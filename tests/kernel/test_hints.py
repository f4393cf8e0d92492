"""Each explainer speaks where its cause is there, and is silent where it is not."""

from __future__ import annotations

import os
import shutil
import stat
import struct
from pathlib import Path

import pytest

from nsrun.host.hint import HintContext
from nsrun.host.hints import explain
from tests.support.requires import requires

NOTHING = ((), ())


def program(path: Path, data: bytes, mode: int = 0o755) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def elf(machine: int = 62, loader: bytes = b"") -> bytes:
    """The head of a 64-bit ELF file with one PT_INTERP header (elf(5))."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, machine, 1)
    head += struct.pack("<QQQIHHHHHH", 0, 64, 0, 0, 64, 56, 1 if loader else 0, 0, 0, 0)
    if loader:
        text = loader + b"\0"
        head += struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(text), len(text), 1) + text
    return head


def test_a_missing_loader_is_named(tmp_path: Path) -> None:
    program(tmp_path / "tool", elf(loader=b"/lib64/ld-none.so"))
    context = HintContext(rootfs=str(tmp_path))
    why, tips = explain("execve", "ENOENT", ("/tool",), context)
    assert "/lib64/ld-none.so is missing" in why[0]
    assert tips
    (tmp_path / "lib64").mkdir()
    program(tmp_path / "lib64/ld-none.so", b"x")
    assert explain("execve", "ENOENT", ("/tool",), context) == NOTHING


def test_a_script_without_its_interpreter(tmp_path: Path) -> None:
    program(tmp_path / "script", b"#!/bin/nothing -e\n")
    why, _ = explain("execve", "ENOENT", ("/script",), HintContext(rootfs=str(tmp_path)))
    assert "/bin/nothing is missing" in why[0]


def test_a_program_that_is_not_there_is_named_to_its_first_missing_part(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    why, _ = explain("execve", "ENOENT", ("/bin/a/b",), HintContext(rootfs=str(tmp_path)))
    assert why == (f"/bin/a does not exist in {tmp_path}",)


def test_no_execute_permission(tmp_path: Path) -> None:
    program(tmp_path / "tool", b"x", 0o644)
    context = HintContext(rootfs=str(tmp_path))
    why, _ = explain("execve", "EACCES", ("/tool",), context)
    assert "no execute permission (mode 0644)" in why[0]
    os.chmod(tmp_path / "tool", stat.S_IRWXU)
    assert explain("execve", "EACCES", ("/tool",), context) == NOTHING


def test_another_machines_program_and_no_program_at_all(tmp_path: Path) -> None:
    context = HintContext(rootfs=str(tmp_path))
    program(tmp_path / "other", elf(machine=243))
    program(tmp_path / "text", b"echo hello\n")
    assert "a program for riscv" in explain("execve", "ENOEXEC", ("/other",), context)[0][0]
    assert "#! line" in explain("execve", "ENOEXEC", ("/text",), context)[0][0]


def test_the_missing_part_of_a_path(tmp_path: Path) -> None:
    path = str(tmp_path / "a/b/c")
    why, _ = explain("open_tree", "ENOENT", ("AT_FDCWD", path))
    assert why == (f"{tmp_path}/a does not exist",)
    (tmp_path / "a").symlink_to("nowhere")
    assert "symbolic link to nothing" in explain("open_tree", "ENOENT", ("AT_FDCWD", path))[0][0]
    assert explain("open_tree", "ENOENT", ("AT_FDCWD", str(tmp_path))) == NOTHING


def test_a_file_system_that_the_kernel_lacks() -> None:
    assert "nosuchfs is not in" in explain("fsopen", "ENODEV", ("nosuchfs",))[0][0]
    assert explain("fsopen", "ENODEV", ("proc",)) == NOTHING


def test_a_link_where_a_folder_must_be(tmp_path: Path) -> None:
    (tmp_path / "proc").symlink_to("/proc")
    context = HintContext(rootfs=str(tmp_path))
    why, _ = explain("openat2", "ELOOP", ("%root", "proc"), context)
    assert "is a symbolic link, to /proc" in why[0]
    assert explain("openat2", "ELOOP", ("%root", "sys"), context) == NOTHING


@requires("root")
def test_an_unbindable_source(tmp_path: Path) -> None:
    source = str(tmp_path)
    script = f"""
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0
assert libc.mount(None, b"/", None, 0x44000, None) == 0
assert libc.mount(b"t", {os.fsencode(source)!r}, b"tmpfs", 0, None) == 0
from nsrun.host.hints import explain
before = explain("open_tree", "EINVAL", ("AT_FDCWD", {source!r}))
assert libc.mount(None, {os.fsencode(source)!r}, None, 0x20000, None) == 0
print(before, explain("open_tree", "EINVAL", ("AT_FDCWD", {source!r}))[0][0])
"""
    import subprocess

    from tests.support.paths import PYTHON, ROOT

    done = subprocess.run(
        [PYTHON, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.startswith("((), ()) "), done.stderr
    assert "is on an unbindable mount" in done.stdout


@requires("root")
def test_a_pid_namespace_whose_init_has_ended(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare(1)")
    import subprocess

    script = f"""
mount --make-rprivate /
touch {tmp_path}/pid; mount --bind {tmp_path} {tmp_path}; mount --make-private {tmp_path}
unshare --pid={tmp_path}/pid --fork true
exec "$@"
"""
    from tests.support.paths import PYTHON, ROOT

    code = (
        "from nsrun.host.hint import HintContext as C; from nsrun.host.hints import explain as e; "
        f"print(e('clone3', 'ENOMEM', (), C(pid_namespace='{tmp_path}/pid'))); "
        "print(e('clone3', 'ENOMEM', (), C(pid_namespace='/proc/self/ns/pid')))"
    )
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script, "bash", PYTHON, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    ended, alive = done.stdout.splitlines()
    assert "has ended" in ended, done.stderr
    assert alive == "((), ())"
