"""Interfaces, names and ports that this host does not have, or has given away."""

from __future__ import annotations

import errno as errnos
import os
import socket
from collections.abc import Callable, Iterator
from errno import errorcode
from ipaddress import IPv4Address

from nsrun.diag import Diagnostic
from nsrun.host import hints, linkkinds, trial
from nsrun.host.hint import HintContext
from nsrun.plan.links import outer_names
from nsrun.runtime.subject import Problems, Subject
from nsrun.spec.model import Interface, IPAddress, LinkType, NamespaceType, Port

_CAP_NET_ADMIN = 12
_TUN = "/dev/net/tun"


def _interfaces(subject: Subject) -> tuple[Interface, ...]:
    network = subject.spec.network
    if network is None or not subject.spec.new(NamespaceType.NETWORK):
        return ()
    return network.interfaces


def _is_there(name: str) -> bool:
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def kinds_of_interfaces_are_there(subject: Subject) -> Problems:
    found: dict[LinkType, bool | None] = {}
    for interface in _interfaces(subject):
        kind = interface.type
        if kind is LinkType.PHYSICAL:
            continue
        if kind not in found:
            found[kind] = linkkinds.has(kind.value)
        if found[kind] is False:
            why, tips = hints.explain(
                "netlink", "EOPNOTSUPP", (f"rtnl link add x type {kind.value}",)
            )
            yield subject.problem(
                "NS401",
                f"this kernel has no {kind.value} interfaces",
                f"{interface.path}.type",
                why=why,
                help=tips,
            )


def interfaces_of_the_host_are_there(subject: Subject) -> Problems:
    for interface in _interfaces(subject):
        parent = interface.parent
        if interface.type is LinkType.PHYSICAL:
            parent = parent or interface.name
        for name, key in ((parent, "parent"), (interface.peer.bridge, "peer.bridge")):
            if name is None or _is_there(name):
                continue
            why, tips = hints.explain("setsockopt", "ENODEV", ("", 0, 0, f'"{name}"'))
            place = f"{interface.path}.{key}"
            yield subject.problem(
                "NS401",
                f"the host has no interface {name}",
                place if place in subject.spec.spans else interface.path,
                why=why,
                help=tips,
            )


def names_on_the_host_are_free(subject: Subject) -> Problems:
    network = subject.spec.network
    if network is None or _CAP_NET_ADMIN not in subject.facts.permitted:
        return
    names = outer_names(subject.spec.name, network)
    for interface in _interfaces(subject):
        name = names.get(interface.path)
        if name is None or not interface.peer.outside or not _is_there(name):
            continue
        context = HintContext(name=subject.spec.name)
        why, tips = hints.explain(
            "netlink", "EEXIST", (f"rtnl link add {name} type veth",), context
        )
        place = f"{interface.path}.peer.name"
        yield subject.problem(
            "NS404",
            f"the name {name} is taken on the host",
            place if place in subject.spec.spans else interface.path,
            why=why,
            help=tips,
        )


def ports_are_free(subject: Subject) -> Problems:
    """Bound for a moment, and let go: nobody can have noticed."""
    network = subject.spec.network
    if network is None or not subject.spec.new(NamespaceType.NETWORK):
        return
    for port in network.ports:
        for address, number in _places(port):
            errno = trial.errno_of(_bind(port, address, number))
            if errno in (errnos.EADDRINUSE, errnos.EADDRNOTAVAIL, errnos.EACCES):
                yield _not_free(subject, port, address, number, errno)
                break


def _places(port: Port) -> Iterator[tuple[IPAddress, int]]:
    address = port.address or IPv4Address("0.0.0.0")
    for number in range(port.host, port.host + port.count):
        yield address, number


def _bind(port: Port, address: IPAddress, number: int) -> Callable[[], None]:
    def attempt() -> None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
        with socket.socket(family, kind) as held:
            if family == socket.AF_INET6:
                held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            held.bind((str(address), number))

    return attempt


def _not_free(
    subject: Subject, port: Port, address: IPAddress, number: int, errno: int
) -> Diagnostic:
    kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
    opened = ("socket", (0, int(kind)), "%port")
    context = HintContext(name=subject.spec.name, before=(opened,))
    asked = f'{{AF_INET, port={number}, "{address}"}}'
    why, tips = hints.explain("bind", errorcode[errno], ("%port", asked), context)
    return subject.problem(
        "NS402" if errno == errnos.EACCES else "NS404",
        f"port {number}/{port.protocol} cannot be had",
        port.path,
        why=why,
        help=tips,
        errno=errno,
    )


def a_tap_can_be_made(subject: Subject) -> Problems:
    """pasta and slirp4netns open it as the caller."""
    network = subject.spec.network
    if network is None or network.mode != "user" or os.access(_TUN, os.R_OK | os.W_OK):
        return
    errno = errnos.EACCES if os.path.exists(_TUN) else errnos.ENOENT
    yield subject.problem(
        "NS402" if errno == errnos.EACCES else "NS401",
        f"a network in user mode needs {_TUN}",
        "network.mode",
        why=(f"this user may not open it (mode 0{os.stat(_TUN).st_mode & 0o777:o})",)
        if errno == errnos.EACCES
        else ("it does not exist",),
        help=("chmod 0666 /dev/net/tun, as root, as udev does",)
        if errno == errnos.EACCES
        else ("modprobe tun, as root",),
        errno=errno,
    )
