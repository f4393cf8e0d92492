"""Attacks on stacks: their secrets and sockets, their volumes, the names in their hosts files."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from nsrun.diag import NsrunError
from nsrun.spec.load import load
from nsrun.spec.stack_load import load_stack
from tests.support.box import wait_for
from tests.support.requires import requires
from tests.support.stacks import (
    Stacks,
    executor,  # noqa: F401 -- a fixture
    member,
    stacks,  # noqa: F401 -- a fixture
)

pytestmark = requires("root", "busybox")

SECRET = "sesame-of-the-attacks"
# As another user: reads each of argv[1:], or connects to it.
REACH = """
import json, os, socket, sys
reached = []
for path in sys.argv[1:]:
    for connect in (False, True):
        try:
            if connect:
                for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
                    try:
                        socket.socket(socket.AF_UNIX, kind).connect(path)
                    except OSError as error:
                        if error.errno == 91:
                            continue
                        raise
                    break
            else:
                os.listdir(path) if os.path.isdir(path) else open(path).read()
            reached.append(path)
            break
        except OSError:
            pass
print(json.dumps(reached))
"""


def reached(paths: list[Path]) -> set[str]:
    """Those of ``paths`` that user 54321 of the host reads or connects to."""
    words = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups",
             "/usr/bin/python3", "-Ic", REACH, *map(str, paths)]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd="/")
    return set(json.loads(done.stdout))


def holding(folder: Path, text: str) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and text.encode() in path.read_bytes():
            found.append(str(path))
    return found


def test_other_users_reach_neither_secrets_nor_sockets_nor_logs(
    stacks: Stacks,  # noqa: F811
) -> None:
    (stacks.folder / "pw").write_text(SECRET)
    secrets = {"pw": {"file": "./pw"}}
    with_it = member(command="echo up; sleep 60", secrets=["pw"])
    up = stacks.up(secrets=secrets, containers={"a": with_it, "b": member()})
    assert up.status == 0, str(up)
    state = Path("/run/nsrun")
    copies = holding(state, SECRET)
    assert len(copies) == 1, "its one copy"
    sockets = [path for path in state.rglob("*") if path.is_socket()]
    assert len(sockets) >= 3, "a monitor's of each, the stack's"
    logs = list(state.rglob("log"))
    everything = [Path(copies[0]), *sockets, *logs, *(p for p in state.rglob("*") if p.is_dir())]
    assert reached(everything) == set()
    # Another container of the stack has no such file, and the process shows nothing of it.
    shown = {
        one: stacks.runner.run("exec", f"shop-{one}", "--", "cat", "/run/secrets/pw").stdout
        for one in ("a", "b")
    }
    assert shown == {"a": SECRET, "b": ""}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                words = Path(f"/proc/{entry}/{name}").read_bytes()
            except OSError:
                continue
            assert SECRET.encode() not in words, (entry, name)
    # The control: with the same modes, in a folder that is open.
    with TemporaryDirectory(dir="/tmp") as name, socket.socket(socket.AF_UNIX) as server:
        control = Path(name)
        control.chmod(0o755)
        shutil.copy(copies[0], control / "pw")
        server.bind(str(control / "socket"))
        (control / "socket").chmod(0o666)
        server.listen()
        both = [control / "pw", control / "socket"]
        assert reached(both) == set(map(str, both)), "the control"
    assert stacks.down().status == 0
    assert not state.exists() or holding(state, SECRET) == []


MAKE = r"""
cd /data && ln -s @outside link && ln -s /etc/passwd passwd && mkfifo fifo || exit 1
i=0; while [ $i -lt 40 ]; do mkdir -p d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d
cd d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d || exit 1; i=$((i+1)); done
echo made; sleep 60
"""


def test_what_a_volume_holds_leads_nowhere(stacks: Stacks) -> None:  # noqa: F811
    """A container makes symlinks to the host and folders too deep for a path; another mounts
    below them, and `down --volumes` removes them, as root."""
    outside = stacks.folder / "outside"
    outside.mkdir()
    (outside / "file").write_text("host")
    # Inside, the link leads to a folder that is the container's.
    mounts = [*member()["mounts"], {"type": "tmpfs", "target": str(outside)}]
    make = MAKE.replace("@outside", str(outside))
    first = member(command=make, volumes=["data:/data"], mounts=mounts)
    assert stacks.up(volumes={"data": {}}, containers={"a": first}).status == 0
    log = Path("/run/nsrun/containers/shop-a/log")
    assert wait_for(lambda: "made" in log.read_text()), log.read_text()
    volume = stacks.folder / "volumes/shop/data"
    assert (volume / "link/file").read_text() == "host", "the control: by its name it is outside"
    mounts = [*mounts, {"type": "tmpfs", "target": "/data/link/below"}]
    second = member(volumes=["data:/data"], mounts=mounts)
    stacks.up(volumes={"data": {}}, containers={"a": first, "b": second})
    assert sorted(os.listdir(outside)) == ["file"]
    done = stacks.runner.run("down", "--volumes", "shop")
    assert (done.status, "Traceback" in done.stderr) == (0, False), str(done)
    assert not volume.exists()
    assert (outside / "file").read_text() == "host"


@pytest.mark.parametrize("name", ["../up", "a/b", "..", "a\nb", "-x", ""])
def test_names_of_a_stack_are_no_paths(tmp_path: Path, name: str) -> None:
    """A volume's folder, a secret's copy and a container's state are called after them."""
    is_one = name.isprintable() and name[:1].isalnum() and "/" not in name
    assert os.path.normpath(f"/volumes/{name}") != f"/volumes/{name}" or not is_one, "the control"
    keys: dict[str, Any] = {
        "volumes": {name: {}}, "secrets": {name: {"file": "./x"}}, "containers": {name: member()},
        "name": name, "networks": {name: {}},
    }  # fmt: skip
    for section, value in keys.items():
        file = tmp_path / "stack.yaml"
        document = {"name": "shop", "containers": {"a": member()}, section: value}
        file.write_text(json.dumps(document))
        with pytest.raises(NsrunError):
            load_stack(str(file))


@pytest.mark.parametrize(
    "name", ["a\n10.9.9.9 bank", "a b", "a\tb", "a#b", "a\x1b[2J", "a\rb", "", "a\0b"]
)
def test_a_line_of_a_hosts_file_is_not_forged(tmp_path: Path, name: str) -> None:
    """A name that is written to the hosts files of the others, as the naive way joins it."""
    naive = f"10.0.0.2\t{name}\n"
    lines = [line.partition("#")[0].split() for line in naive.splitlines()]
    assert lines != [["10.0.0.2", name]] or not name.isprintable(), "the control"
    file = tmp_path / "s.yaml"
    network = {"hosts": {name: "10.0.0.2"}}
    document = {"namespaces": ["mount", "network"], "network": network, "command": "true"}
    file.write_text(json.dumps(document))
    with pytest.raises(NsrunError):
        load(str(file))


def test_a_member_changes_its_own_hosts_file_alone(stacks: Stacks) -> None:  # noqa: F811
    """It is written to, taken away, and grown by one; that of the other stays as it was."""
    forge = "echo '10.9.9.9 shop-b b bank' >>/etc/hosts; echo forged; sleep 60"
    nets = {"net": {}}
    both = {
        "a": member(command=forge, networks=["net"]),
        "b": member(command="sleep 60", networks=["net"], depends_on=["a"]),
    }
    up = stacks.up(networks=nets, containers=both)
    assert up.status == 0, str(up)
    log = Path("/run/nsrun/containers/shop-a/log")
    assert wait_for(lambda: "forged" in log.read_text())
    inside = {
        one: stacks.runner.run("exec", f"shop-{one}", "--", "cat", "/etc/hosts").ok()
        for one in ("a", "b")
    }
    assert "bank" in inside["a"], "the control: its own is its own"
    assert "bank" not in inside["b"] and "\ta\n" in inside["b"]
    assert "bank" not in Path("/etc/hosts").read_text()
    kept = stacks.runner.run("restart", "shop-b")
    assert kept.status == 0, str(kept)
    again = stacks.runner.run("exec", "shop-b", "--", "cat", "/etc/hosts").ok()
    assert "bank" not in again and "\ta\n" in again
