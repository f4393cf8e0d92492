"""Names of networks, and ping: what programs of a container find and can do."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.box import Box, give
from tests.support.host import files
from tests.support.lab import Lab
from tests.support.requires import requires
from tests.support.rootfs import make_rootfs

pytestmark = requires("userns")

NAMES = {
    "dns": {
        "nameservers": ["192.0.2.53", "2001:db8::53"],
        "search": ["example.org", "example.net"],
        "options": ["ndots:1", "timeout:2"],
    },
    "hosts": {"db": "10.0.0.3", "cache.example.org": "fd00::3"},
}
RESOLV_CONF = """\
nameserver 192.0.2.53
nameserver 2001:db8::53
search example.org example.net
options ndots:1 timeout:2"""
LOCALHOST = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
"""
READ = "cat /etc/resolv.conf; echo --; cat /etc/hosts; echo --; cat /etc/hostname"
KINDS = ["user", "mount", "uts", "network"]
BRIDGE = {"name": "br0", "type": "bridge", "addresses": ["10.40.0.1/24", "fd40::1/64"]}


@pytest.fixture
def rooted(box: Box, own_root: Path) -> Box:
    """In a rootfs of the runner's own: an ordinary user makes missing files in no other."""
    return box.with_(namespaces=KINDS, rootfs=str(own_root))


def test_files_of_names(rooted: Box) -> None:
    """In a rootfs that has none of them, and is as it was afterwards."""
    said = rooted.out(READ, hostname="web", domainname="example.org", network=NAMES)
    parts = said.split("\n--\n")
    assert parts[0] == RESOLV_CONF
    assert parts[1] == (
        LOCALHOST + "127.0.1.1\tweb.example.org web\n10.0.0.3\tdb\nfd00::3\tcache.example.org"
    )
    assert parts[2] == "web"


def test_its_own_name_has_its_own_addresses(rooted: Box) -> None:
    network = {**NAMES, "interfaces": [BRIDGE]}
    said = rooted.out("cat /etc/hosts", hostname="web", network=network)
    own = "10.40.0.1\tweb\nfd40::1\tweb\n"
    assert said == LOCALHOST + own + "10.0.0.3\tdb\nfd00::3\tcache.example.org"


def test_the_callers_own_files_stay(box: Box) -> None:
    """Without a rootfs the names are the container's all the same."""
    etc = [Path("/etc") / name for name in ("resolv.conf", "hosts", "hostname")]
    before = [(path.read_bytes(), files(path)) for path in etc if path.exists()]
    said = box.out(READ, namespaces=KINDS, hostname="web", network=NAMES)
    assert said.startswith(RESOLV_CONF)
    assert "10.0.0.3\tdb" in said
    assert said.endswith("\n--\nweb")
    assert [(path.read_bytes(), files(path)) for path in etc if path.exists()] == before


def test_programs_find_the_names(box: Box) -> None:
    said = box.out("getent hosts db; getent hosts web", namespaces=KINDS, hostname="web",
                   network=NAMES)  # fmt: skip
    assert [line.split() for line in said.split("\n")] == [
        ["10.0.0.3", "db"],
        ["127.0.1.1", "web"],
    ]


def test_what_is_not_asked_for_is_left_alone(rooted: Box) -> None:
    read = "cat /etc/resolv.conf /etc/hosts /etc/hostname 2>/dev/null; echo $?"
    assert rooted.out(read, hostname="web") == "1"
    said = rooted.out("cat /etc/hosts; cat /etc/resolv.conf 2>/dev/null; echo $?",
                     network={"hosts": {"db": "10.0.0.3"}})  # fmt: skip
    assert said == LOCALHOST + "10.0.0.3\tdb\n1"


def test_files_that_the_spec_gives_itself_are_kept(rooted: Box) -> None:
    said = rooted.out("cat /etc/hostname /etc/resolv.conf", hostname="web",
                     files={"/etc/hostname": {"content": "mine\n"}},
                     network={"dns": NAMES["dns"]})  # fmt: skip
    assert said == "mine\n" + RESOLV_CONF


def test_names_need_a_mount_namespace(box: Box) -> None:
    said = box.refused(namespaces=["user", "network"], network=NAMES)
    assert said.count("needs a new mount namespace") == 2
    assert "would be the caller's own" in said


def test_a_file_that_is_given_twice(box: Box) -> None:
    said = box.refused(namespaces=KINDS, network=NAMES, files={"/etc/hosts": {"content": ""}})
    assert "/etc/hosts is given by `files` too" in said


# --- ping --------------------------------------------------------------------------------------


@requires("ping", "ip")
@pytest.mark.parametrize("ids", ["0:0", "1000:1000"])
def test_ping_with_the_default_capabilities(ids: str, box: Box, lab: Lab) -> None:
    """Debian's has file capabilities that are not in the default bounding set."""
    # An ordinary user with subordinate ids has 1000 inside; so has root.
    command = "grep CapBnd /proc/self/status; ping -qc1 -W2 127.0.0.1 >/dev/null; echo $?"
    with lab.unchanged():
        said = box.out(command, namespaces=["user", "mount", "network"], user=ids)
    bounding, status = said.split("\n")
    assert not int(bounding.split()[1], 16) >> 13 & 1, "CAP_NET_RAW"
    assert status == "0"


@requires("root", "ping", "ip")
def test_ping_without_a_user_namespace(root_box: Box, lab: Lab) -> None:
    for ids in ("0:0", "65534:65534"):
        with lab.unchanged():
            command = "ping -qc1 -W2 127.0.0.1 >/dev/null; ping -qc1 -W2 ::1 >/dev/null; echo $?"
            said = root_box.out(command, namespaces=["mount", "network"], user=ids)
        assert said == "0", ids


@requires("ping", "ip", "busybox")
def test_ping_of_a_rootfs(box: Box, lab: Lab) -> None:
    """The host's ping with all it needs, and its file capabilities where root copies it."""
    rootfs = make_rootfs(box.folder / "with-ping")
    program = Path(shutil.which("ping") or "").resolve()
    needed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = [word for word in needed.split() if word.startswith("/")]
    for path in (str(program), *libraries):
        target = rootfs / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    give(rootfs, box.runner)
    with lab.unchanged():
        command = f"{program} -qc1 -W2 127.0.0.1 >/dev/null; echo $?"
        said = box.out(command, namespaces=["user", "mount", "pid", "network"], rootfs=str(rootfs))
    assert said == "0"
