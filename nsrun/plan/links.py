"""The interfaces of ``network``: made or moved in by the launcher, furnished by the child.

    launcher (caller's namespaces)              child (the container's)
    veth, macvlan, ipvlan, vlan, physical       bridge, dummy
    the outer ends and their addresses          addresses, routes
    signal #linked ───────────────────────────▶ await #linked

What the launcher makes has its inner end in the child's network namespace from the first, so
nothing is left if the child dies: the kernel takes both ends of a pair away with either. The
undo steps only make sure that it has happened when nsrun ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nsrun.kernel import abi, calls, netlink, sockets
from nsrun.kernel.abi import CloneFlag, OpenFlag
from nsrun.kernel.facts import Facts, LinkFact
from nsrun.kernel.values import Bytes, Fmt, Reg, RegKind
from nsrun.plan.draft import Draft
from nsrun.plan.launch import Launch
from nsrun.plan.netnames import host_name
from nsrun.plan.ops import Netlink, Op
from nsrun.spec.model import Interface, LinkType, Network, Route

_OUTSIDE = (
    LinkType.VETH,
    LinkType.MACVLAN,
    LinkType.IPVLAN,
    LinkType.VLAN,
    LinkType.PHYSICAL,
)


# What the kernel counts up to in a namespace of a container's own comes nowhere near.
_FIRST_INSIDE = 1_000_000


def _lifted_inside(interface: Interface) -> bool:
    return interface.up and interface.type in (LinkType.VETH, LinkType.PHYSICAL)


def made_outside(network: Network) -> list[Interface]:
    """The interfaces that the launcher has a part in."""
    return [i for i in network.interfaces if i.type in _OUTSIDE]


def outer_names(container: str, network: Network) -> dict[str, str]:
    """The name of each veth's outer end, by the path of its interface."""
    names: dict[str, str] = {}
    number = 0
    for interface in network.interfaces:
        if interface.type is LinkType.VETH:
            names[interface.path] = interface.peer.name or host_name(container, number)
            number += 1
    return names


# --- the launcher ----------------------------------------------------------------------------


def connect(draft: Draft, facts: Facts, started: Launch, network: Network) -> None:
    """Everything that is done from the caller's network namespace."""
    outside = made_outside(network)
    if not outside:
        return
    if abi.Capability.CAP_NET_ADMIN not in facts.permitted:
        for interface in outside:
            _refuse(draft, facts, interface)
        return
    names = outer_names(draft.spec.name, network)
    outer = _Outer(
        draft=draft,
        facts=facts,
        started=started,
        rtnl=draft.reg("rtnl"),
        published=bool(network.ports),
    )
    draft.parent(
        "open rtnetlink",
        sockets.socket_route(save=outer.rtnl),
        sockets.extended_errors(outer.rtnl),
        at="network.interfaces",
    )
    for interface in outside:
        match interface.type:
            case LinkType.VETH if interface.peer.outside:
                outer.veth(interface, names[interface.path])
            case LinkType.VETH:
                outer.veth_elsewhere(interface, names[interface.path])
            case LinkType.PHYSICAL:
                outer.move_in(interface)
            case _:
                outer.on_parent(interface)


def _refuse(draft: Draft, facts: Facts, interface: Interface) -> None:
    draft.refuse(
        "NS402",
        f"a {interface.type} needs a right over the host's network",
        interface.path,
        "write `network: {mode: user}`: it needs none",
        why=f"it needs CAP_NET_ADMIN, which uid {facts.uid} does not have",
    )


def index_of(draft: Draft, name: str, index: Reg) -> list[Op]:
    """The steps that find the number of the interface called ``name`` here (ENODEV: none)."""
    fd = draft.reg("inet")
    return [
        sockets.socket_inet(save=fd),
        sockets.bind_to_interface(fd, name),
        sockets.bound_interface(fd, save=index),
        calls.close(fd),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outer:
    draft: Draft
    facts: Facts
    started: Launch
    rtnl: Reg
    published: bool
    moved: list[str] = field(default_factory=list)

    def veth(self, interface: Interface, name: str) -> None:
        """A pair whose outer end is in the caller's namespace."""
        peer, draft = interface.peer, self.draft
        master = None
        if peer.bridge is not None:
            master = self.find(peer.bridge, f"{interface.path}.peer.bridge", "the bridge")
        end = netlink.End(name=name, mtu=interface.mtu, up=True, master=master)
        index = draft.reg(name, RegKind.IFINDEX)
        draft.parent(
            f"make the veth {name}, whose other end is {interface.name} in the container",
            Netlink(socket=self.rtnl, message=netlink.veth_add(end, self.inner(interface))),
            *index_of(draft, name, index),
            at=interface.path,
            undo=(_delete(self.rtnl, index, name),),
        )
        if master is not None and self.published:
            # Where br_netfilter is loaded, what the container sends to a port of its own is
            # translated while it is still on the bridge.
            draft.parent(
                f"let {name} have back what it sends",
                Netlink(socket=self.rtnl, message=netlink.port_hairpin(index, name)),
                at="network.ports",
            )
        self.add_addresses(self.rtnl, interface, name, index)

    def veth_elsewhere(self, interface: Interface, name: str) -> None:
        """A pair whose outer end is in a third namespace, made from within that one."""
        draft, peer = self.draft, interface.peer
        path = peer.netns or self.of_container(interface)
        where = f"{interface.path}.peer.{'netns' if peer.netns is not None else 'container'}"
        inet = draft.reg("inet")
        rtnl = self.rtnl_of(path, where, name, inet)
        index = draft.reg(name, RegKind.IFINDEX)
        end = netlink.End(name=name, mtu=interface.mtu, up=True)
        draft.parent(
            f"make the veth {name} there, whose other end is {interface.name} in the container",
            Netlink(socket=rtnl, message=netlink.veth_add(end, self.inner(interface))),
            sockets.bind_to_interface(inet, name),
            sockets.bound_interface(inet, save=index),
            calls.close(inet),
            at=interface.path,
            undo=(_delete(rtnl, index, name),),
        )
        self.add_addresses(rtnl, interface, name, index)

    def on_parent(self, interface: Interface) -> None:
        """A macvlan, ipvlan or vlan on an interface of the caller's namespace."""
        below = self.find(
            interface.parent or "", f"{interface.path}.parent", "the parent interface"
        )
        kind = interface.type.value
        self.draft.parent(
            f"make the {kind} {interface.name} of the container on {interface.parent}",
            Netlink(
                socket=self.rtnl,
                message=netlink.link_add(
                    self.inner(interface),
                    kind,
                    parent=below,
                    mode=interface.mode,
                    tag=interface.id,
                ),
            ),
            at=interface.path,
        )

    def move_in(self, interface: Interface) -> None:
        """An interface that is there moves in, and back by its old name when the run ends.

        Left to itself the kernel would give it to the initial namespace. An interface that moves
        goes down and loses its addresses and routes: it gets them again. It has a number inside
        that is known before, so that there is no moment in which it could not be taken back.
        """
        draft = self.draft
        parent = interface.parent or interface.name
        found = self.find(parent, f"{interface.path}.parent", "the interface")
        inside = Fmt(("/proc/", self.started.child, "/ns/net"))
        home = draft.reg("home")
        self.moved.append(parent)
        number = _FIRST_INSIDE + len(self.moved)
        there = netlink.End(name=interface.name, pid=self.started.child)
        back = netlink.End(name=parent, netns=home)
        as_before = netlink.link_move(number, back, new_index=found)
        anew = netlink.link_move(number, back)

        def move_back(rtnl: Reg) -> Netlink:
            # EBUSY: somebody else's has its old number by now, and it gets another.
            return Netlink(socket=rtnl, message=as_before, accept=("EBUSY", "ENODEV"))

        def take_back(rtnl: Reg) -> tuple[Op, ...]:
            """However far the move has come: its answer may be lost where it is done."""
            last = Netlink(socket=rtnl, message=anew, accept=("ENODEV",))
            return (move_back(rtnl), last, *self.as_it_was(parent))

        rtnl = self.rtnl_of(inside, interface.path, interface.name, home=home, undo=take_back)
        draft.parent(
            f"move {parent} into the container as {interface.name}",
            Netlink(
                socket=self.rtnl, message=netlink.link_move(found, there, new_index=number)
            ),
            at=interface.path,
            undo=(move_back(rtnl),),
        )

    def as_it_was(self, name: str) -> tuple[Op, ...]:
        """What gives an interface that has come back what it had before it went."""
        fact = self.facts.links.get(name)
        if fact is None or fact == LinkFact(up=False):
            return ()
        draft, known = self.draft, ("EEXIST",)
        index = draft.reg(f"{name}_back", RegKind.IFINDEX)
        steps = index_of(draft, name, index)
        for key, value in fact.sysctls:
            file = draft.reg(key.rpartition("/")[2])
            flags = OpenFlag.O_WRONLY | OpenFlag.O_CLOEXEC
            steps += [
                calls.openat(calls.CWD, f"/proc/sys/{key}", flags, save=file),
                calls.write(file, value.encode()),
                calls.close(file),
            ]
        if fact.master:
            master = draft.reg(fact.master, RegKind.IFINDEX)
            steps += index_of(draft, fact.master, master)
            steps.append(Netlink(socket=self.rtnl, message=netlink.link_join(index, master)))
        messages = [netlink.address_again(index, body, name) for body in fact.addresses]
        if fact.up:
            messages.append(netlink.link_up(index))
        messages += [netlink.route_again(index, body, name) for body in fact.routes]
        # Some come by themselves: an IPv6 link has an address as soon as it is up.
        steps += [Netlink(socket=self.rtnl, message=m, accept=known) for m in messages]
        return tuple(steps)

    # --- parts -------------------------------------------------------------------------------

    def inner(self, interface: Interface) -> netlink.End:
        return netlink.End(
            name=interface.name,
            mac=interface.mac,
            mtu=interface.mtu,
            # veth_open(): while the pair is being made, its second end cannot be brought up.
            up=interface.up and not _lifted_inside(interface),
            pid=self.started.child,
        )

    def find(self, name: str, at: str, what: str) -> Reg:
        index = self.draft.reg(name, RegKind.IFINDEX)
        steps = index_of(self.draft, name, index)
        self.draft.parent(f"find {what} {name}", *steps, at=at)
        return index

    def of_container(self, interface: Interface) -> str:
        name = interface.peer.container
        pid = self.facts.containers.get(name or "")
        if pid is None:
            self.draft.refuse(
                "NS404",
                f"no container {name} is running",
                f"{interface.path}.peer.container",
                f"start it first: nsrun {name}.yaml",
            )
        return f"/proc/{pid}/ns/net"

    def rtnl_of(
        self,
        path: str | Fmt,
        at: str,
        name: str,
        inet: Reg | None = None,
        home: Reg | None = None,
        undo: Callable[[Reg], tuple[Op, ...]] = lambda _: (),
    ) -> Reg:
        """A rtnetlink of the network namespace at ``path``, and ``inet``, a plain socket there.
        ``undo``: what undoes all that will be done through it.

        A socket belongs to the namespace it was made in (network_namespaces(7)). The launcher is
        away for no more than two calls, and back before anything else is undone.
        """
        draft = self.draft
        home = home or draft.reg("home")
        there, rtnl = draft.reg(f"{name}_ns"), draft.reg("rtnl")
        return_home = calls.setns(home, int(CloneFlag.CLONE_NEWNET))
        shown = path if isinstance(path, str) else "the container"
        draft.parent(
            f"go into the network namespace of {shown}",
            calls.openat(calls.CWD, "/proc/self/ns/net", OpenFlag.O_CLOEXEC, save=home),
            calls.openat(calls.CWD, path, OpenFlag.O_CLOEXEC, save=there),
            calls.setns(there, int(CloneFlag.CLONE_NEWNET)),
            at=at,
            undo=(return_home,),
        )
        sockets_there = [sockets.socket_route(save=rtnl)]
        if inet is not None:
            sockets_there.append(sockets.socket_inet(save=inet))
        draft.parent("open rtnetlink there", *sockets_there, at=at)
        draft.parent(
            "come back",
            return_home,
            calls.close(there),
            sockets.extended_errors(rtnl),
            at=at,
            undo=undo(rtnl),
        )
        return rtnl

    def add_addresses(self, rtnl: Reg, interface: Interface, name: str, index: Reg) -> None:
        for number, address in enumerate(interface.peer.addresses):
            self.draft.parent(
                f"give {name} the address {address}",
                Netlink(socket=rtnl, message=netlink.address_add(index, address, name)),
                at=f"{interface.path}.peer.addresses[{number}]",
            )


def _delete(rtnl: Reg, index: Reg, name: str) -> Netlink:
    # ENODEV: the container's end has gone with its namespace, and this one with it.
    return Netlink(socket=rtnl, message=netlink.link_delete(index, name), accept=("ENODEV",))


# --- the child -------------------------------------------------------------------------------


def furnish(draft: Draft, network: Network) -> None:
    """Everything that is done in the container's namespace: its own links, addresses, routes."""
    if not _has_inner_part(network):
        return
    rtnl = draft.reg("rtnl")
    draft.child(
        "open rtnetlink",
        sockets.socket_route(save=rtnl),
        sockets.extended_errors(rtnl),
        at="network",
    )
    indexes: dict[str, Reg] = {}
    for interface in network.interfaces:
        _furnish_one(draft, rtnl, interface, network.routes, indexes)
    for route in network.routes:
        _add_route(draft, rtnl, route, indexes)
    draft.child("close rtnetlink", calls.close(rtnl), at="network")


def _has_inner_part(network: Network) -> bool:
    return bool(network.routes) or any(
        i.addresses or i.type not in _OUTSIDE or _lifted_inside(i) for i in network.interfaces
    )


def _furnish_one(
    draft: Draft,
    rtnl: Reg,
    interface: Interface,
    routes: tuple[Route, ...],
    indexes: dict[str, Reg],
) -> None:
    name, at = interface.name, interface.path
    if interface.type not in _OUTSIDE:
        end = netlink.End(name=name, mac=interface.mac, mtu=interface.mtu, up=interface.up)
        message = netlink.link_add(end, interface.type.value)
        draft.child(
            f"make the {interface.type.value} {name}",
            Netlink(socket=rtnl, message=message),
            at=at,
        )
    lift = _lifted_inside(interface)
    if not lift and not interface.addresses and not any(r.dev == name for r in routes):
        return
    index = indexes[name] = draft.reg(name, RegKind.IFINDEX)
    draft.child(f"find {name}", *index_of(draft, name, index), at=f"{at}.name")
    if lift:
        draft.child(f"bring up {name}", Netlink(socket=rtnl, message=netlink.link_up(index)), at=at)
    for number, address in enumerate(interface.addresses):
        draft.child(
            f"give {name} the address {address}",
            Netlink(socket=rtnl, message=netlink.address_add(index, address, name)),
            at=f"{at}.addresses[{number}]",
        )


def _add_route(draft: Draft, rtnl: Reg, route: Route, indexes: dict[str, Reg]) -> None:
    if route.dev == "lo" and "lo" not in indexes:
        indexes["lo"] = draft.reg("lo", RegKind.IFINDEX)
        draft.child("find lo", *index_of(draft, "lo", indexes["lo"]), at=f"{route.path}.dev")
    message = _route_message(route, indexes.get(route.dev or ""))
    what = message.text.removeprefix("rtnl ").removeprefix("-6 ").removeprefix("route add ")
    shown = what.replace(f" %{indexes[route.dev].name}", "") if route.dev in indexes else what
    draft.child(f"add the route {shown}", Netlink(socket=rtnl, message=message), at=route.path)


def _route_message(route: Route, index: Reg | None) -> Bytes:
    return netlink.route_add(
        route.to,
        via=str(route.via) if route.via is not None else None,
        index=index,
        dev=route.dev or "",
        metric=route.metric,
        on_link=route.on_link,
        kind=route.type,
    )
