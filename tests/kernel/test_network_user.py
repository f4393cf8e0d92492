"""The network without privilege: packets through pasta and slirp4netns, and their ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.box import Box, Running, give, wait_for
from tests.support.lab import Lab
from tests.support.packets import Net, container_of
from tests.support.requires import requires
from tests.support.rootfs import make_rootfs

pytestmark = requires("root", "ip", "userns")

# What the planner refuses is refused before either executor is asked.
planner = pytest.mark.parametrize("executor", ["native"], indirect=True)
INTERNET = Path("/run/netns/internet")
WAIT = "echo there; read x"
NAMESPACES = ["user", "mount", "pid", "network"]
OUTSIDE = {4: "203.0.113.2", 6: "fd00:cafe::2"}
HOST = {4: "203.0.113.1", 6: "fd00:cafe::1"}
# A link to passt, which goes on as the build for this processor.
PASTA = ("pasta", "passt", "pasta.avx2", "passt.avx2")
_LIBC = ctypes.CDLL(None, use_errno=True)
_MS_BIND, _MNT_DETACH = 4096, 2


@contextmanager
def mounted(source: str, target: str, kind: str | None = None) -> Iterator[None]:
    """In the tests' own mount namespace."""
    flags = 0 if kind else _MS_BIND
    done = _LIBC.mount(
        source.encode(), target.encode(), kind.encode() if kind else None, flags, None
    )
    assert done == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        assert _LIBC.umount2(target.encode(), _MNT_DETACH) == 0


@pytest.fixture
def tun() -> Iterator[Path]:
    """A /dev/net/tun that everybody may open, as udev makes it."""
    with mounted("tun", "/dev/net", "tmpfs"):
        device = Path("/dev/net/tun")
        os.mknod(device, 0o20666, os.makedev(10, 200))
        device.chmod(0o666)
        yield device


@pytest.fixture
def net() -> Iterator[Net]:
    made = Net()
    yield made
    made.close()


@pytest.fixture
def user_lab(lab: Lab) -> Lab:
    lab.internet()
    lab.ip("-6 route add default via fd00:cafe::2")
    return lab


def spec(*ports: str, **more: Any) -> dict[str, Any]:
    network = {"mode": "user", **({"ports": list(ports)} if ports else {})}
    return {"name": "u", "namespaces": NAMESPACES, "network": network, **more}


def state(box: Box) -> Path:
    runtime = box.runner.user.runtime
    return Path("/run/nsrun") if box.runner.user.is_caller else runtime / "nsrun"


def mover(box: Box) -> int:
    """The pid of the process that moves the packets, by the file that holds it."""
    return int((state(box) / "u.usernet").read_text())


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def stop(run: Running) -> None:
    run.process.stdin.write("\n")
    assert run.end().status == 0


@requires("pasta")
def test_pasta_moves_packets_out_and_in(user_box: Box, user_lab: Lab, net: Net, tun: Path) -> None:
    """Out with the host's addresses, in by published ports; the host's loopback is far away."""
    private = {p: net.server(None, p, "127.0.0.1") for p in ("tcp", "udp")}
    ports = ["18080:80", "18053:53/udp", f"{HOST[4]}:18081:81", "18090-18091:90-91"]
    with user_lab.unchanged(), user_box.running(WAIT, **spec(*ports)) as run:
        run.line()
        pid = mover(user_box)
        assert comm(pid) in PASTA
        assert f"Uid:\t{user_box.runner.user.uid}\t" in Path(f"/proc/{pid}/status").read_text()
        container = container_of(run.process)
        for version in (4, 6):
            for protocol in ("tcp", "udp"):
                far = net.server(INTERNET, protocol, OUTSIDE[version])
                assert far.hears_from(container, OUTSIDE[version]) == HOST[version]
            web = net.server(container, "tcp", ("0.0.0.0", "::")[version == 6], 80)
            assert web.hears_from(INTERNET, HOST[version], 18080) == OUTSIDE[version]
        web = net.server(container, "tcp", "0.0.0.0", 81)
        web.hears_from(INTERNET, HOST[4], 18081)
        assert web.misses(None, "127.0.0.1", 18081)
        net.server(container, "tcp", "0.0.0.0", 91).hears_from(INTERNET, HOST[4], 18091)
        names = net.server(container, "udp", "0.0.0.0", 53)
        names.hears_from(INTERNET, HOST[4], 18053)
        for protocol, server in private.items():
            for address in ("203.0.113.2", "169.254.1.1", "127.0.0.1"):
                assert server.misses(container, address), (protocol, address)
        stop(run)
        assert not runs(pid)
        assert not state(user_box).exists()


@requires("pasta", "busybox")
def test_pasta_asks_the_name_server_of_the_host(
    user_box: Box, user_lab: Lab, net: Net, tun: Path, area: Path
) -> None:
    rootfs = give(make_rootfs(user_box.folder / "rootfs"), user_box.runner)
    file = area / "resolv.conf"
    file.write_text(f"nameserver {OUTSIDE[4]}\n")
    server = net.server(INTERNET, "udp", OUTSIDE[4], 53)
    with mounted(str(file), "/etc/resolv.conf"):
        command = "cat /etc/resolv.conf; read x"
        with user_box.running(["/bin/sh", "-c", command], **spec(rootfs=str(rootfs))) as run:
            assert run.line() == "nameserver 169.254.1.1"
            assert server.hears_from(container_of(run.process), "169.254.1.1") == HOST[4]
            stop(run)


@requires("slirp4netns")
def test_slirp4netns_where_pasta_cannot_be_had(
    box: Box, user_lab: Lab, net: Net, tun: Path
) -> None:
    """An ordinary user has no pasta here; root's would give its rights away."""
    private = net.server(None, "tcp", "127.0.0.1")
    servers = [net.server(INTERNET, p, OUTSIDE[4]) for p in ("tcp", "udp")]
    hidden = "/usr/bin/true" if box.runner.user.is_caller else "/usr/bin/pasta"
    with mounted("/dev/null", hidden), user_lab.unchanged():
        with box.running(WAIT, **spec()) as run:
            run.line()
            pid = mover(box)
            assert comm(pid) == "slirp4netns"
            container = container_of(run.process)
            for server in servers:
                assert server.hears_from(container, OUTSIDE[4]) == HOST[4]
            for address in ("10.0.2.2", "10.0.2.3"):
                assert private.misses(container, address)
            stop(run)
        assert not runs(pid)
        assert not state(box).exists()


@planner
@requires("slirp4netns")
def test_slirp4netns_publishes_no_ports(user_box: Box, user_lab: Lab) -> None:
    with mounted("/dev/null", "/usr/bin/pasta"):
        said = user_box.refused(**spec("18080:80"))
    assert "NS410" in said
    assert "apt install passt" in said


@planner
def test_without_either_the_package_is_named(user_box: Box, user_lab: Lab) -> None:
    with mounted("/dev/null", "/usr/bin/pasta"), mounted("/dev/null", "/usr/bin/slirp4netns"):
        said = user_box.refused(**spec())
    assert "NS410" in said
    assert "neither pasta nor slirp4netns is installed" in said
    assert "apt install passt" in said


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("helper", [
    pytest.param("pasta", marks=requires("pasta")),
    pytest.param("slirp4netns", marks=requires("slirp4netns")),
])  # fmt: skip
def test_it_ends_with_the_container(
    helper: str, end: signal.Signals, user_box: Box, user_lab: Lab, tun: Path
) -> None:
    other = "/usr/bin/pasta" if helper == "slirp4netns" else "/usr/bin/slirp4netns"
    hidden = mounted("/dev/null", other)
    with hidden, user_lab.unchanged(), user_box.running(WAIT, **spec()) as run:
        run.line()
        pid = mover(user_box)
        assert comm(pid) in (helper, *PASTA)
        run.process.send_signal(end)
        run.process.wait(10)
        assert wait_for(lambda: not runs(pid))
        assert wait_for(lambda: not state(user_box).exists()), os.listdir(state(user_box))


@requires("pasta")
def test_a_pid_that_is_no_longer_its_own_is_not_killed(
    user_box: Box, user_lab: Lab, tun: Path
) -> None:
    other = subprocess.Popen(["sleep", "60"], user=user_box.runner.user.uid)
    try:
        with user_box.running(WAIT, **spec()) as run:
            run.line()
            pid = mover(user_box)
            (state(user_box) / "u.usernet").write_text(f"{other.pid}\n")
            stop(run)
        assert other.poll() is None
        assert not runs(pid)
        assert not state(user_box).exists()
    finally:
        other.kill()
        other.wait()


@requires("pasta")
def test_a_container_that_cannot_start_leaves_none(user_box: Box, user_lab: Lab, tun: Path) -> None:
    with user_lab.unchanged():
        result = user_box.run(["/no/such/program"], **spec())
        assert result.status == 127, str(result)
        assert not state(user_box).exists()


# --- /dev/net/tun ------------------------------------------------------------------------------


@pytest.mark.parametrize("helper", [
    pytest.param("pasta", marks=requires("pasta")),
    pytest.param("slirp4netns", marks=requires("slirp4netns")),
])  # fmt: skip
def test_a_closed_tun_is_told(helper: str, user_box: Box, user_lab: Lab, tun: Path) -> None:
    tun.chmod(0o600)
    other = "/usr/bin/pasta" if helper == "slirp4netns" else "/usr/bin/slirp4netns"
    with mounted("/dev/null", other), user_lab.unchanged():
        said = user_box.refused(**spec())
    uid = user_box.runner.user.uid
    assert f"cannot start {helper}" in said
    assert f"/dev/net/tun cannot be opened by uid {uid}: Permission denied (mode 0600" in said
    assert "chmod 0666 /dev/net/tun" in said
    assert '"mode": "user"' in said
    assert not state(user_box).exists()


@requires("pasta")
def test_a_missing_tun_is_told(user_box: Box, user_lab: Lab, tun: Path) -> None:
    tun.unlink()
    said = user_box.refused(**spec())
    assert "there is no /dev/net/tun" in said
    assert "modprobe tun" in said


@requires("pasta")
def test_an_open_tun_is_not_blamed(user_box: Box, user_lab: Lab, tun: Path) -> None:
    """pasta fails because of what is in its place."""
    with mounted("/bin/false", "/usr/bin/pasta"):
        said = user_box.refused(**spec())
    assert "cannot start pasta" in said
    assert "/dev/net/tun" not in said


# --- ports that cannot be had --------------------------------------------------------------


@requires("pasta")
@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_in_use_is_told(
    protocol: str, address: str, user_box: Box, user_lab: Lab, net: Net
) -> None:
    """Also where it is in use by one family alone: pasta would go on with the other."""
    server = net.server(None, protocol, address)
    said = user_box.refused(**spec(f"{server.port}:80/{protocol}"))
    assert f'"{server.port}:80/{protocol}"' in said
    assert f"port {server.port}/{protocol} is held by" in said


@requires("pasta")
def test_a_port_whose_connection_has_just_ended_is_free(
    user_box: Box, user_lab: Lab, net: Net, tun: Path
) -> None:
    server = net.server(None, "tcp", HOST[4], 18080)
    server.hears_from(INTERNET, HOST[4])
    net.close()
    assert ":46A0 " in Path("/proc/net/tcp").read_text(), "in TIME_WAIT"
    with user_box.running(WAIT, **spec("18080:80")) as run:
        run.line()
        stop(run)


@requires("pasta")
def test_a_port_that_is_for_root_is_told(user_box: Box, user_lab: Lab) -> None:
    said = user_box.refused(**spec("80:80"))
    assert '"80:80"' in said
    assert "ports below 1024 are root's" in said
