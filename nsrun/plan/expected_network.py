"""The interfaces, addresses and routes that a plan leaves behind, by its rtnetlink messages."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from nsrun.kernel import abi
from nsrun.kernel.observed import (
    LINK,
    Link,
    Route,
    address_of,
    link_of,
    route_of,
)
from nsrun.kernel.rtattr import attributes
from nsrun.kernel.values import Bytes, Call, Int, Out, Reg
from nsrun.plan.model import Action, Track
from nsrun.plan.ops import Netlink

_RTM_NEWLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 16, 20, 24
_HEADER = struct.Struct("=IHHII")
_IFLA_LINKINFO, _IFLA_NET_NS_PID, _IFLA_NET_NS_FD = 18, 19, 28
_IFLA_INFO_DATA, _VETH_INFO_PEER = 2, 1


@dataclass(slots=True, kw_only=True)
class Wanted:
    """An interface as it is to be; ``master`` is a name. ``actions``: who gave it each address;
    ``lifted``: who brought it up."""

    link: Link
    action: Action
    master: str = ""
    addresses: dict[str, Action] = field(default_factory=dict)
    lifted: Action | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedRoute:
    route: Route
    dev: str
    action: Action


@dataclass(slots=True)
class Networks:
    """By name the interfaces of the container, and those the plan made in the host's network."""

    inside: dict[str, Wanted] = field(default_factory=dict)
    host: dict[str, Wanted] = field(default_factory=dict)
    routes: list[WantedRoute] = field(default_factory=list)
    lo: Action | None = None


class Wire:
    """What a plan says to the kernel's network while it is read."""

    def __init__(self) -> None:
        self.networks = Networks()
        # Names by the register of the socket that is bound to one, and of an index.
        self._bound: dict[str, str] = {}
        self._indexes: dict[str, str] = {}
        # Sockets that were made while the launcher was in another network namespace.
        self._away: set[str] = set()
        self._is_away = False

    def call(self, call: Call, action: Action) -> None:
        args = call.args
        match call.name:
            case "socket" if call.save is not None and self._is_away:
                self._away.add(call.save.name)
            case "setns" if action.track is Track.PARENT and isinstance(args[1], Int):
                # The launcher goes, and comes back.
                if args[1].value == abi.CloneFlag.CLONE_NEWNET:
                    self._is_away = not self._is_away
            case "setsockopt":
                fd, option, value = args[0], args[2], args[3]
                is_name = isinstance(option, Int) and option.text == "SO_BINDTODEVICE"
                if is_name and isinstance(fd, Reg) and isinstance(value, Bytes):
                    name = value.value.rstrip(b"\0").decode("utf-8", "surrogateescape")
                    self._bound[fd.name] = name
            case "getsockopt":
                fd, out = args[0], args[3]
                if isinstance(fd, Reg) and isinstance(out, Out) and fd.name in self._bound:
                    for hole in out.saves:
                        self._indexes[hole.reg.name] = self._bound[fd.name]
            case _:
                pass

    def lift(self, name: str, action: Action) -> None:
        """SIOCSIFFLAGS with IFF_UP, in the container."""
        if name == "lo":
            self.networks.lo = action
        elif name in self.networks.inside:
            self.networks.inside[name].lifted = action

    def message(self, op: Netlink, action: Action, sure: bool) -> None:
        kind = _HEADER.unpack_from(op.message.value)[1]
        away = op.socket.name in self._away
        if not sure or (away and kind != _RTM_NEWLINK):
            return
        body = op.message.value[_HEADER.size :]
        names = {
            hole.offset - _HEADER.size: self._indexes.get(hole.reg.name, "")
            for hole in op.message.holes
        }
        inside = action.track is Track.CHILD
        if kind == _RTM_NEWLINK:
            self._link(body, names, action, inside, away)
        elif kind == _RTM_NEWADDR:
            _, address, _ = address_of(body)
            known = self._of(inside).get(_name(names))
            if known is not None:
                known.addresses[address] = action
        elif kind == _RTM_NEWROUTE and inside:
            route = route_of(body)
            if route is not None:
                wanted = WantedRoute(route=route, dev=_name(names), action=action)
                self.networks.routes.append(wanted)

    def _of(self, inside: bool) -> dict[str, Wanted]:
        return self.networks.inside if inside else self.networks.host

    def _link(
        self, body: bytes, names: dict[int, str], action: Action, inside: bool, away: bool
    ) -> None:
        """``away``: it is made from a third network, and what stays there is nobody's here."""
        link = link_of(body)
        found = dict(attributes(body, LINK.size))
        by_index = names.get(4, "")
        if by_index and not link.name and not away:
            self._change(self._of(inside).get(by_index), link, found, names, action)
            return
        if not link.name:
            return
        if _IFLA_NET_NS_FD in found:
            return
        inside = inside or _IFLA_NET_NS_PID in found
        master = "" if inside else self._master(found, names)
        if inside or not away:
            self._of(inside)[link.name] = Wanted(link=link, action=action, master=master)
        info = dict(attributes(found.get(_IFLA_LINKINFO, b""), 0))
        peer = dict(attributes(info.get(_IFLA_INFO_DATA, b""), 0)).get(_VETH_INFO_PEER, b"")
        if link.kind == "veth" and peer:
            other = replace(link_of(peer), kind="veth")
            deep = dict(attributes(peer, LINK.size))
            there = inside or _IFLA_NET_NS_PID in deep
            if there or not away:
                self._of(there)[other.name] = Wanted(link=other, action=action)

    def _change(
        self,
        known: Wanted | None,
        link: Link,
        found: dict[int, bytes],
        names: dict[int, str],
        action: Action,
    ) -> None:
        if known is None:
            return
        if link.up:
            known.lifted = action
        known.master = self._master(found, names) or known.master

    def _master(self, found: dict[int, bytes], names: dict[int, str]) -> str:
        # The only other register of such a message is the index of the link itself, at 4.
        others = [name for at, name in names.items() if at != 4 and name]
        return others[0] if 10 in found and others else ""


def _name(names: dict[int, str]) -> str:
    return next(iter(names.values()), "")
