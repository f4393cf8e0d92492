"""What each spec needs of the host it runs on, and a place for it to run in.

The specs of specs/network/ run in a lab (tests/support/lab.py) that is made ready for them, one
with control groups when no other test has any; the others run where the tests do.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import requires
from tests.support.box import copy_specs, own_ids, wait_for
from tests.support.examples import FOR_ROOT, NAMES
from tests.support.groups import alone, groups_of
from tests.support.host import Snapshot, children, snapshot
from tests.support.lab import Lab, lab, say
from tests.support.runner import Runner

_LIBC = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH = 2
_TUN = os.makedev(10, 200)  # linux/miscdevice.h, TUN_MINOR


def _nothing(host: Lab) -> None:
    del host


def _named(host: Lab) -> None:
    host.namespace("blue")


def _bridge(host: Lab) -> None:
    host.bridge("br0")


def _bridge_with_db(host: Lab) -> None:
    """10.20.0.3 answers on the bridge, as bridge-db.yaml would."""
    host.bridge("br0")
    host.namespace("db")
    host.ip("link add db0 type veth peer eth0 netns db")
    host.ip("link set db0 addrgenmode none up")
    host.ip("-n db addr add 10.20.0.3/24 dev eth0")
    host.ip("-n db link set eth0 addrgenmode none up")
    host.ip("link set db0 master br0")
    host.settle("br0")


def _internet(host: Lab) -> None:
    host.internet()
    _wait_for_link_local(host, "internet", "in0")


def _wait_for_link_local(host: Lab, namespace: str, link: str) -> None:
    """As :meth:`Lab.settle`, on the other side."""

    def settled() -> bool:
        shown = host.ip(f"-n {namespace} -6 addr show dev {link}") + host.ip("-o link")
        own = re.search("inet6 (fe80:[^/]+)", shown)
        routes = host.ip(f"-n {namespace} -6 route show table local")
        ready = own is not None and f"local {own[1]} " in routes
        return ready and not re.search("tentative|NO-CARRIER|LOWERLAYERDOWN", shown)

    assert wait_for(settled), link


def _wire(name: str) -> Callable[[Lab], None]:
    """A "physical" interface: one that leads to another namespace. Its hardware address is fixed:
    a plan that gives back what was found on it does so on one that is made anew as well."""

    def make(host: Lab) -> None:
        host.namespace("wire")
        here, far = (f"{link} address 02:00:00:00:00:0{n}" for n, link in ((4, name), (5, "far0")))
        host.ip(f"link add {here} type veth peer {far} netns wire")
        host.ip(f"link set {name} up")
        host.ip("-n wire link set far0 up")
        host.settle(name)
        _wait_for_link_local(host, "wire", "far0")

    return make


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """``prepare`` makes the lab ready, ``users`` says who may run the spec (fixtures' names);
    ``tun``: a /dev/net/tun for everybody."""

    prepare: Callable[[Lab], None] = _nothing
    users: tuple[str, ...] = ("root",)
    requires: tuple[str, ...] = ()
    tun: bool = False


NETWORKS = {
    "network/bridge-db.yaml": Needs(prepare=_bridge),
    "network/bridge-web.yaml": Needs(prepare=_bridge_with_db, requires=("ping",)),
    "network/ipv6.yaml": Needs(requires=("ping",)),
    "network/links.yaml": Needs(users=("root", "ordinary"), requires=("ping",)),
    "network/macvlan.yaml": Needs(prepare=_wire("eth0")),
    "network/named.yaml": Needs(prepare=_named, requires=("ping",)),
    "network/nat.yaml": Needs(prepare=_internet, requires=("nft",)),
    "network/physical.yaml": Needs(prepare=_wire("eth1")),
    # pasta gives its rights away when root runs it, and publishes the port.
    "network/user.yaml": Needs(
        prepare=_internet, users=("ordinary",), requires=("pasta",), tun=True
    ),
    "network/veth.yaml": Needs(requires=("ping",)),
}
# The names of those that have control groups.
_GROUPS = {"limited.yaml": "limited"}
# One pins its namespace to a file, the other joins it; root may.
_PINS = ("seeds/pin.yaml", "seeds/join.yaml")
_PINNED = "seeds/uts.ns"
# What does not end by itself, or not soon.
_ENDLESS = ("service.yaml", "network/bridge-db.yaml", "network/nat.yaml")


def networks_for(user: str) -> list[str]:
    """The specs of networks that ``user`` ("root", "ordinary") may run."""
    return [name for name, needs in NETWORKS.items() if user in needs.users]


def specs_for(user: str) -> list[str]:
    """Every spec of specs/ that ``user`` may run, here in a place of its own."""
    others = [name for name in NAMES if name not in NETWORKS]
    if user == "ordinary":
        others = [name for name in others if name not in (*FOR_ROOT, *_PINS)]
    return [*others, *networks_for(user)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a spec is run: ``spec`` is a copy of it, ``lab`` None for where the tests are;
    ``groups``: the name of its control groups; ``pin``: the file of a namespace that stays."""

    spec: Path
    lab: Lab | None = None
    needs: Needs = Needs()
    folders: tuple[Path, ...] = ()
    groups: str = ""
    pin: Path | None = None

    def look(self) -> Snapshot:
        """What a run has to leave as it was."""
        network = self.lab.everywhere() if self.lab is not None else ()
        groups = groups_of(self.groups) if self.groups else ()
        return snapshot(*self.folders, network=(*network, *groups))

    @property
    def keeps(self) -> bool:
        """Whether a run makes what is there longer than its processes, so that undoing it can
        fail."""
        return self.lab is not None or self.groups != "" or self.pin is not None

    def ran(self) -> None:
        """The command has run: what it is to leave goes."""
        if self.pin is not None and self.pin.exists():
            _unpin(self.pin)

    def renew(self, before: Snapshot) -> Snapshot:
        """Make the place ready once more where a run has said that it left something behind;
        ``before`` is how it looked. How it looks now."""
        known = {line.split()[0] for line in before.children}
        for line in children():
            if line.split()[0] not in known:
                os.kill(int(line.split()[0]), signal.SIGKILL)
        for folder in (*self.folders, Path("/run")):
            shutil.rmtree(folder / "nsrun", ignore_errors=True)
        for group in groups_of(self.groups) if self.groups else ():
            os.rmdir(group)
        self.ran()
        if self.lab is not None:
            self.lab.clear()
            self.needs.prepare(self.lab)
        return self.look()


@contextmanager
def place_for(name: str, runner: Runner, area: Path) -> Iterator[Place]:
    """Copy the specs for ``runner`` and make ready what ``name`` needs, for the block."""
    specs = copy_specs(area, runner)
    own_ids(specs, runner.user)
    spec = specs / name
    if name in _ENDLESS:
        text, count = re.subn("^command: .*", "command: [/bin/true]", spec.read_text(), flags=re.M)
        assert count == 1
        spec.write_text(text)
    needs = NETWORKS.get(name)
    if needs is None:
        with _without_network(name, specs) as place:
            yield place
        return
    requires.check(("root", "ip", *needs.requires))
    with ExitStack() as stack:
        host = stack.enter_context(lab())
        # nat.yaml's file gets a mount point there, which runs beside this one must not share.
        stack.enter_context(_empty("/srv"))
        needs.prepare(host)
        if needs.tun:
            stack.enter_context(tun())
        yield Place(spec=spec, lab=host, needs=needs, folders=(runner.user.runtime,))


@contextmanager
def _without_network(name: str, specs: Path) -> Iterator[Place]:
    pin = specs / _PINNED
    if name in _GROUPS:
        requires.check(("root",))
        with alone():
            yield Place(spec=specs / name, groups=_GROUPS[name])
    elif name == _PINS[0]:
        yield Place(spec=specs / name, pin=pin)
    elif name == _PINS[1]:
        pin.touch()
        say("unshare", f"--uts={pin}", "hostname", "pinned")
        try:
            yield Place(spec=specs / name)
        finally:
            _unpin(pin)
    else:
        yield Place(spec=specs / name)


def _unpin(pin: Path) -> None:
    """umount2(2): EINVAL for a file on which nothing is mounted."""
    while _LIBC.umount2(str(pin).encode(), _MNT_DETACH) == 0:
        pass
    pin.unlink()


@contextmanager
def _empty(folder: str) -> Iterator[None]:
    """A tmpfs on ``folder`` in the tests' own mounts."""
    if _LIBC.mount(b"tests", folder.encode(), b"tmpfs", 0, b"mode=755") != 0:
        raise OSError(ctypes.get_errno(), f"mount a tmpfs on {folder}")
    try:
        yield
    finally:
        _LIBC.umount2(folder.encode(), _MNT_DETACH)


@contextmanager
def tun() -> Iterator[None]:
    """A /dev/net/tun that everybody may open, as udev makes it, in the tests' own mounts."""
    with _empty("/dev/net"):
        os.mknod("/dev/net/tun", 0o020666, _TUN)
        os.chmod("/dev/net/tun", 0o666)
        yield
