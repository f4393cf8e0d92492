"""The propagation types and a root of one's own, as mountinfo shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.box import mountinfo, mounts_left, watching_mounts
from tests.support.host import unchanged
from tests.support.requires import requires
from tests.support.runner import Result, Runner


def run(runner: Runner, spec: Path, stdin: str | None = None) -> Result:
    with unchanged(spec.parent):
        return runner.run(spec, stdin=stdin)


def table(text: str) -> dict[str, str]:
    """Target to its optional fields, of what the seeds print (``TARGET [TAG...] - ...``)."""
    found = {}
    for line in text.splitlines():
        target, _, rest = line.partition(" ")
        found[target] = rest.partition("- ")[0].strip()
    return found


def test_private(anyone: Runner, seeds: Path) -> None:
    seen = table(run(anyone, seeds / "private.yaml").ok())
    assert seen == {"/mnt": "", "/media": "", "/mnt/a": "", "/media/b": ""}


def test_shared(anyone: Runner, seeds: Path) -> None:
    seen = table(run(anyone, seeds / "shared.yaml").ok())
    assert seen.keys() == {"/mnt", "/media", "/mnt/a", "/media/a", "/mnt/b", "/media/b"}
    assert seen["/mnt"].startswith("shared:")
    assert seen["/mnt"] == seen["/media"]
    assert seen["/mnt/a"] == seen["/media/a"] != seen["/mnt/b"] == seen["/media/b"]


def test_slave(anyone: Runner, seeds: Path) -> None:
    seen = table(run(anyone, seeds / "slave.yaml").ok())
    assert seen.keys() == {"/mnt", "/media", "/mnt/a", "/media/a", "/media/b"}
    assert seen["/media"] == seen["/mnt"].replace("shared:", "master:")
    assert seen["/media/a"] == seen["/mnt/a"].replace("shared:", "master:")
    assert seen["/media/b"] == ""


def test_unbindable(anyone: Runner, seeds: Path) -> None:
    result = run(anyone, seeds / "unbindable.yaml")
    seen = table(result.ok())
    assert seen == {
        "/mnt": "",
        "/mnt/open": "",
        "/mnt/secret": "unbindable",
        "/media": "",
        "/media/open": "",
    }
    assert "mount: /srv" in result.stderr, "an unbindable mount was bound"


def test_shared_and_slave(anyone: Runner, seeds: Path) -> None:
    seen = table(run(anyone, seeds / "shared-and-slave.yaml").ok())
    targets = {f"{top}{below}" for top in ("/media", "/srv") for below in ("", "/a", "/b")}
    assert seen.keys() == {"/mnt", "/mnt/a"} | targets
    own, master = seen["/media"].split(" ")
    assert master == seen["/mnt"].replace("shared:", "master:")
    assert own.startswith("shared:") and own.removeprefix("shared:") not in master
    assert seen["/srv"] == seen["/media"]
    assert seen["/srv/a"] == seen["/media/a"]
    assert seen["/srv/b"] == seen["/media/b"]
    assert "master:" not in seen["/media/b"]


def inside(script: str) -> str:
    """The script as typed into the seed's terminal, with a mark before what it prints."""
    return f"stty -echo; printf '<<''<\\n'; {script}; printf '>''>>\\n'; exit\n"


def typed(runner: Runner, spec: Path, script: str) -> list[str]:
    text = run(runner, spec, stdin=inside(script)).ok().replace("\r", "")
    return text.partition("<<<\n")[2].partition(">>>")[0].splitlines()


def test_rootfs_holds_what_is_listed(anyone: Runner, seeds: Path) -> None:
    names = typed(anyone, seeds / "rootfs.yaml", "ls -1 /")
    wanted = {"bin", "dev", "etc", "lib", "mnt", "proc", "run", "sys", "tmp", "usr"}
    assert set(names) - {"lib64"} == wanted


def test_rootfs_files_are_the_specs(anyone: Runner, seeds: Path) -> None:
    script = "cat /etc/hosts /etc/hostname /etc/resolv.conf /mnt/file; hostname"
    wanted = [(seeds / "conf" / n).read_text() for n in ("hosts", "hostname", "resolv.conf")]
    wanted += [(seeds / "t1/file").read_text(), "rootfs\n"]
    assert typed(anyone, seeds / "rootfs.yaml", script) == "".join(wanted).splitlines()


def test_rootfs_is_all_there_is_to_mounts(anyone: Runner, seeds: Path) -> None:
    lines = mountinfo("\n".join(typed(anyone, seeds / "rootfs.yaml", "cat /proc/self/mountinfo")))
    targets = {line.target for line in lines}
    assert {"/", "/usr", "/bin", "/lib", "/etc/hosts", "/mnt", "/tmp", "/run"} <= targets
    by_target = {line.target: line for line in lines}
    assert by_target["/"].type == "overlay"
    assert by_target["/tmp"].type == by_target["/run"].type == "tmpfs"
    assert "ro" in by_target["/usr"].options and "ro" in by_target["/etc/hosts"].options
    allowed = ("/usr", "/bin", "/lib", "/etc/", "/mnt", "/tmp", "/run", "/proc", "/sys", "/dev")
    assert [t for t in targets if t != "/" and not t.startswith(allowed)] == []
    assert not any(line.tags for line in lines), "a mount has peers or a master outside"


def test_rootfs_is_read_only_where_it_says(anyone: Runner, seeds: Path) -> None:
    script = (
        "touch /usr/x /etc/hosts 2>/dev/null || echo refused;"
        "touch /tmp/x /run/x /x && echo made"
    )
    assert typed(anyone, seeds / "rootfs.yaml", script) == ["refused", "made"]
    assert not (seeds.parent / "skeleton/x").exists(), "the overlay is not ephemeral"


@requires("bash")
def test_rootfs_runs_a_login_bash(anyone: Runner, seeds: Path) -> None:
    script = "shopt -q login_shell && echo login $$; tty"
    assert typed(anyone, seeds / "rootfs.yaml", script) == ["login 1", "/dev/pts/0"]


@pytest.mark.parametrize("mounts", ["private", "shared"])
def test_rootfs_leaves_no_mount(root: Runner, root_seeds: Path, mounts: str) -> None:
    runner = watching_mounts(root.with_(mounts=mounts), root_seeds)
    runner.run(root_seeds / "rootfs.yaml", stdin="exit\n").ok()
    assert mounts_left(root_seeds) == []
