"""Addresses for the containers of a network: those asked for, and the next that are free."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_interface,
    ip_network,
)

from nsrun.spec.model import InterfaceAddress, IPAddress
from nsrun.spec.stack import BRIDGE_PREFIX

# linux/if.h, IFNAMSIZ less the NUL
_NAME_MAX = 15
Subnet = IPv4Network | IPv6Network


class Full(Exception):
    """No address of the network is free."""


def default_subnet(stack: str, network: str) -> IPv4Network:
    """A network of 254 containers, the same for the same names: 10.128.0.0/9 has 32,768 of them,
    and few private networks are numbered there."""
    digest = hashlib.sha256(f"{stack}/{network}".encode()).digest()
    return IPv4Network((0x0A800000 | (digest[0] & 0x7F) << 16 | digest[1] << 8, 24))


def bridge_name(stack: str, network: str) -> str:
    """The bridge of a stack's network: ``nsb-shop-web``, shortened by a hash where too long.

    By the prefix nsrun knows its own (nsrun/host/forwarding.py).
    """
    wanted = f"{BRIDGE_PREFIX}{stack}-{network}"
    if len(wanted) <= _NAME_MAX:
        return wanted
    digest = hashlib.sha256(f"{stack}/{network}".encode()).hexdigest()[:5]
    return f"{BRIDGE_PREFIX}{stack[: _NAME_MAX - len(BRIDGE_PREFIX) - 6]}-{digest}"


class Pool:
    """The addresses of one subnet; its first belongs to the bridge."""

    def __init__(self, subnet: Subnet) -> None:
        self.subnet = subnet
        self._taken: set[IPAddress] = set()
        self.gateway = self._interface(next(self._hosts()))
        self._taken.add(self.gateway.ip)
        # None is given back: what next() has passed stays taken.
        self._rest = self._hosts()

    def _hosts(self) -> Iterator[IPAddress]:
        # hosts() leaves out what is no container's: the network's and the broadcast address.
        yield from self.subnet.hosts()

    def _interface(self, address: IPAddress) -> IPv4Interface | IPv6Interface:
        return ip_interface(f"{address}/{self.subnet.prefixlen}")

    def is_usable(self, address: IPAddress) -> bool:
        """Whether a container may have it, taken or not."""
        if address.version != self.subnet.version or address not in self.subnet:
            return False
        ends = (self.subnet.network_address, self.subnet.broadcast_address)
        return self.subnet.num_addresses <= 2 or address not in ends

    def is_free(self, address: IPAddress) -> bool:
        return address not in self._taken

    def take(self, address: IPAddress) -> InterfaceAddress:
        """A certain address, which must be usable and free."""
        self._taken.add(address)
        return self._interface(address)

    def next(self) -> InterfaceAddress:
        """The next that is free; raises Full."""
        for address in self._rest:
            if address not in self._taken:
                return self.take(address)
        raise Full


# Where neither a bridge nor a container can have an address (RFC 6890, RFC 4291), and why.
_NO_PLACE = tuple(
    (ip_network(text), why)
    for text, why in (
        ("0.0.0.0/8", "these addresses mean a host that has none yet"),
        ("127.0.0.0/8", "these addresses never leave a host"),
        ("224.0.0.0/4", "these addresses are of groups, and no host's own"),
        ("::/127", "these addresses never leave a host"),
        ("fe80::/10", "each link has addresses of these by itself"),
        ("ff00::/8", "these addresses are of groups, and no host's own"),
    )
)


def unfit(subnet: Subnet) -> str:
    """Why a network is none for containers, "" where it is one."""
    if subnet.num_addresses < 4:
        return "it has no room for a bridge and a container"
    for other, why in _NO_PLACE:
        if subnet.version == other.version and subnet.overlaps(other):
            return why if subnet.subnet_of(other) else f"it has {other} in it: {why}"  # type: ignore[arg-type]
    return ""


def subnet_of(text: str) -> Subnet:
    """Raises ValueError for what is no network."""
    return ip_network(text)
