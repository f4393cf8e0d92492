"""A network of the test's own in the place of the host's: nothing of the machine's is touched.

The test's process is in a new network namespace for the time of it, with its own /run; what it
starts is too. Needs root, and the mount namespace that tests/kernel/conftest.py has made.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_MNT_DETACH = 2
_NETNS = Path("/run/netns")
# What a run may switch on, and has to switch off again.
_CARRIER = re.compile(r"NO-CARRIER,|,LOWER_UP|,M-DOWN| state [A-Z]+")
_SYSCTLS = ("ipv4/conf/*/forwarding", "ipv4/conf/*/route_localnet", "ipv6/conf/*/forwarding",
            "ipv6/conf/*/force_forwarding", "ipv4/ip_forward")  # fmt: skip


def _call(name: str, *arguments: object) -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def say(*words: str | Path) -> str:
    """Run a program that must succeed; its standard output."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, words))}: {done.stderr}"
    return done.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """The test's "host", which begins with nothing but lo, up."""

    def ip(self, words: str) -> str:
        """``ip WORDS`` there."""
        return say("ip", *words.split())

    def links(self) -> list[str]:
        """The names of its interfaces, lo left out."""
        return sorted(name for _, name in socket.if_nameindex() if name != "lo")

    def namespace(self, name: str) -> Path:
        """A new named namespace, as `ip netns add` makes it, with lo up; its file."""
        self.ip(f"netns add {name}")
        # Inherited by no namespace: its addresses are there at once too.
        self.inside(name, "sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad")
        self.ip(f"-n {name} link set lo up")
        return _NETNS / name

    def inside(self, name: str, *words: str | Path) -> str:
        """Run a program in a named namespace; it must succeed."""
        return say("ip", "netns", "exec", name, *words)

    def bridge(self, name: str, address: str = "") -> None:
        """A bridge that is up, with a port: with none it changes as the first container comes."""
        number = len(self.links())
        port, plug = f"port{number}", f"plug{number}"
        say("ip", "link", "add", "name", name, "address", "02:00:00:00:00:01", "type", "bridge")
        self.ip(f"link add {port} type veth peer {plug}")
        for end in (port, plug):
            self.ip(f"link set {end} addrgenmode none up")
        say("ip", "link", "set", "dev", port, "master", name)
        say("ip", "link", "set", "dev", name, "up")
        if address:
            say("ip", "addr", "add", address, "dev", name)
        self.settle(name)

    def internet(self) -> None:
        """A second namespace that plays the rest of the world: 203.0.113.2 and fd00:cafe::2,
        which knows the host's up0 (203.0.113.1, fd00:cafe::1) and no way to any container."""
        self.namespace("internet")
        # The addresses of its own that an interface has are the same whenever it is made anew.
        up, peer = "up0 address 02:00:00:00:00:02", "in0 address 02:00:00:00:00:03"
        self.ip(f"link add {up} type veth peer {peer} netns internet")
        for where, name, last in (("", "up0", 1), ("-n internet ", "in0", 2)):
            self.ip(f"{where}link set {name} up")
            self.ip(f"{where}addr add 203.0.113.{last}/24 dev {name}")
            self.ip(f"{where}addr add fd00:cafe::{last}/64 dev {name} nodad")
        self.ip("route add default via 203.0.113.2")
        self.settle("up0")

    def settle(self, link: str) -> None:
        """Wait for what the kernel gives an interface some time after it has come up."""
        deadline = time.monotonic() + 5
        while True:
            shown = say("ip", "-6", "addr", "show", "dev", link) + self.ip("-o link")
            local = self.ip("-6 route show table local")
            addresses = re.findall("inet6 ([^/]+)", shown)
            # The two ends of a pair learn of each other later than of themselves.
            ready = "fe80::" in shown and not re.search("tentative|LOWERLAYERDOWN", shown)
            if ready and all(f"local {address} " in local for address in addresses):
                return
            assert time.monotonic() < deadline, shown
            time.sleep(0.005)

    def state(self) -> str:
        """Links, addresses, routes, tables of nftables and switches, as text to compare."""
        parts = [
            self.ip("-o link"),
            self.ip("-o addr"),
            self.ip("route show table all"),
            self.ip("-6 route show table all"),
            say("nft", "list", "ruleset"),
        ]
        for pattern in _SYSCTLS:
            for file in sorted(Path("/proc/sys/net").glob(pattern)):
                # An interface may be on its way out.
                with suppress(FileNotFoundError):
                    parts.append(f"{file} {file.read_text()}")
        return "\n".join(parts)

    def everywhere(self) -> tuple[str, ...]:
        """The lines of :meth:`state`, and what is in the named namespaces."""
        lines = self.state().splitlines()
        for name in sorted(os.listdir(_NETNS)) if _NETNS.exists() else ():
            for words in ("-o link", "-o addr", "route show table all", "-6 route show table all"):
                lines += [f"{name}: {line}" for line in self.ip(f"-n {name} {words}").splitlines()]
        # Whether the other end is up is noticed later; that this one is up (UP) is not.
        return tuple(_CARRIER.sub("", line) for line in lines)

    def clear(self) -> None:
        """Back to nothing but lo, up; only what is switched on for one interface goes with it."""
        say("nft", "flush", "ruleset")
        for name in os.listdir(_NETNS) if _NETNS.exists() else ():
            self.ip(f"netns delete {name}")
        while links := self.links():
            # The other end of a pair goes with it, soon after its namespace too.
            subprocess.run(["ip", "link", "delete", links[0]], check=False, capture_output=True)
        for pattern in _SYSCTLS:
            for file in Path("/proc/sys/net").glob(pattern):
                if file.parent.name in ("all", "default", "lo", "ipv4"):
                    file.write_text("0")

    @contextmanager
    def unchanged(self, patience: float = 0) -> Iterator[None]:
        """Fail where the network is not as before, or nsrun has left files in /run.

        ``patience`` in seconds: the carrier of an interface that comes up is noticed later.
        """
        before = set(self.state().splitlines())
        yield
        deadline = time.monotonic() + patience
        while (after := set(self.state().splitlines())) != before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert before == after, f"gone: {sorted(before - after)}, new: {sorted(after - before)}"
        left = [str(path) for path in Path("/run").glob("nsrun/**")]
        assert left == []


@contextmanager
def lab() -> Iterator[Lab]:
    """The network for the time of the block."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", _CLONE_NEWNET)
        _call("mount", b"lab", b"/run", b"tmpfs", 0, None)
        try:
            made = Lab()
            # An address is there at once, not when it is known that nobody else has it.
            Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
            made.ip("link set lo up")
            yield made
        finally:
            _call("umount2", b"/run", _MNT_DETACH)
            _call("setns", home, _CLONE_NEWNET)
    finally:
        os.close(home)
