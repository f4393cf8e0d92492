"""``files``, masked and read-only paths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.box import Box, top_mounts
from tests.support.host import files as files_of

ALL = ["user", "mount", "pid", "ipc", "uts", "network"]
TABLE = "cat /proc/self/mountinfo"


@pytest.fixture
def rooted(box: Box, own_root: Path) -> Box:
    return box.with_(namespaces=ALL, rootfs=str(own_root))


def test_files_links_and_folders(rooted: Box, own_root: Path) -> None:
    before = files_of(own_root)
    wanted = {
        "/etc/motd": {"content": "hello\n", "mode": "0640"},
        "/etc/empty": {"content": ""},
        "/etc/passwd": {"content": "only:x:1:1::/:\n"},
        "/deep/in/here": {"content": "deep"},
        "/var/lock": {"symlink": "../run/lock"},
        "/data": {"folder": True, "mode": "0700"},
    }
    script = """
    cat /etc/motd /etc/empty /etc/passwd /deep/in/here; echo
    stat -c '%a %s %n' /etc/motd /etc/empty /data
    readlink /var/lock
    """
    lines = rooted.out(script, files=wanted).splitlines()
    assert lines == [
        "hello",
        "only:x:1:1::/:",
        "deep",
        "640 6 /etc/motd",
        "644 0 /etc/empty",
        "700 40 /data" if lines[5].split()[1] == "40" else f"700 {lines[5].split()[1]} /data",
        "../run/lock",
    ]
    assert files_of(own_root) == before, "the rootfs itself was written to"


def test_content_is_written_to_no_disk(rooted: Box) -> None:
    line = top_mounts(rooted.out(TABLE, files={"/etc/motd": {"content": "x"}}))["/etc/motd"]
    assert line.type == "tmpfs"


def test_content_of_any_size_and_kind(rooted: Box) -> None:
    text = "äöü\t\n" * 90_000  # a spec is 1 MiB at most
    printed = rooted.out("wc -c < /big; md5sum < /big", files={"/big": {"content": text}}).split()
    import hashlib

    data = text.encode()
    assert printed[0] == str(len(data))
    assert printed[1] == hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_a_link_that_is_there_is_no_error_but_another_is(rooted: Box, own_root: Path) -> None:
    link = {"/var/lock": {"symlink": "../run/lock"}}
    (own_root / "var/lock").symlink_to("../run/lock")
    assert rooted.out("readlink /var/lock", files=link) == "../run/lock"
    assert (own_root / "var/lock").is_symlink(), "a link of the rootfs's own was taken away"
    (own_root / "var/lock").unlink()
    (own_root / "var/lock").symlink_to("elsewhere")
    assert "/var/lock" in rooted.refused(files=link)
    assert os.readlink(own_root / "var/lock") == "elsewhere"


def test_a_folder_that_is_there_keeps_its_mode(rooted: Box, own_root: Path) -> None:
    (own_root / "srv").chmod(0o755)
    printed = rooted.out("stat -c %a /srv", files={"/srv": {"folder": True, "mode": "0700"}})
    assert printed == "755"
    assert (own_root / "srv").stat().st_mode & 0o777 == 0o755


def test_files_come_after_mounts(rooted: Box) -> None:
    keys = {
        "mounts": [{"type": "tmpfs", "target": "/etc"}],
        "files": {"/etc/hosts": {"content": "127.0.0.1 me\n"}},
    }
    assert rooted.out("ls /etc; cat /etc/hosts", **keys).split("\n") == ["hosts", "127.0.0.1 me"]


def test_files_without_a_rootfs(box: Box) -> None:
    keys = {"namespaces": ["user", "mount"], "files": {"/etc/hostname": {"content": "mine\n"}}}
    before = Path("/etc/hostname").read_text()
    assert box.out("cat /etc/hostname", **keys) == "mine"
    assert Path("/etc/hostname").read_text() == before


# --- masks -----------------------------------------------------------------------------------

MASKED_FILES = ("interrupts", "kcore", "keys", "timer_list")


def present(names: tuple[str, ...], folder: str = "/proc") -> list[str]:
    return [name for name in names if os.path.exists(f"{folder}/{name}")]


def test_files_of_proc_are_hidden(boxed: Box) -> None:
    names = present(MASKED_FILES)
    assert names
    script = "; ".join(f"wc -c < /proc/{name}; stat -c %t:%T /proc/{name}" for name in names)
    printed = boxed.out(script).split()
    assert printed == ["0", "1:3"] * len(names)
    shown = boxed.out(f"wc -c < /proc/{names[0]}", masked_paths="none")
    assert shown != "0", "the control: without masks it has something to hide"


def test_folders_are_hidden(boxed: Box) -> None:
    names = [p for p in ("/proc/acpi", "/proc/scsi", "/sys/firmware") if os.path.isdir(p)]
    assert names
    seen = top_mounts(boxed.out(TABLE))
    for name in names:
        assert seen[name].type == "tmpfs" and "ro" in seen[name].options
    script = "; ".join(f"ls -A {name}" for name in names)
    assert boxed.out(script) == ""


def test_masks_of_the_specs_own(rooted: Box, own_root: Path) -> None:
    (own_root / "etc/secret").write_text("secret\n")
    (own_root / "srv/inside").mkdir()
    (own_root / "srv/inside/file").write_text("x")
    script = "wc -c < /etc/secret; ls -A /srv/inside | wc -l"
    masks = ["/etc/secret", "/srv/inside", "/not/there"]
    assert rooted.out(script, masked_paths=masks).split() == ["0", "0"]
    assert (own_root / "etc/secret").read_text() == "secret\n"


def test_read_only_paths(boxed: Box) -> None:
    script = """
    for f in /proc/sys/net/ipv4/ip_forward /proc/sysrq-trigger; do
      (: >> $f) 2>/dev/null && echo open || echo shut
    done
    """
    assert boxed.out(script, capabilities="all").split() == ["shut", "shut"]
    opened = boxed.out(script, readonly_paths="none", capabilities="all").split()
    assert opened[0] == "open", "the control"


def test_read_only_paths_of_the_specs_own(rooted: Box) -> None:
    script = "touch /srv/x || echo refused; touch /mnt/x && echo made; rm /mnt/x"
    assert rooted.out(script, readonly_paths=["/srv", "/none"]).split() == ["refused", "made"]


def test_the_default_capabilities_do_not_undo_a_mask(boxed: Box) -> None:
    name = f"/proc/{present(MASKED_FILES)[0]}"
    script = f"umount {name} && wc -c < {name}"
    assert boxed.run(script).status != 0
    undone = boxed.out(script, capabilities="all")
    assert int(undone) > 0, "the control"
