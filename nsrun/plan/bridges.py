"""The networks of a stack as a plan: bridges of the host, their addresses and translation.

A process that runs nothing stands for them. Its launcher keeps what it has made, and takes it back
when it is stopped, as it does for a container.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from nsrun.diag import Span
from nsrun.kernel import abi, calls, netlink, sockets
from nsrun.kernel.abi import CloneFlag
from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Int, Reg, RegKind, Str
from nsrun.plan.build import finished
from nsrun.plan.draft import Draft
from nsrun.plan.forwarding import Switches
from nsrun.plan.links import index_of
from nsrun.plan.model import Plan
from nsrun.plan.nat import KNOWN, is_misread, nft_steps, strangers, table_name
from nsrun.plan.notify import tell_ready
from nsrun.plan.ops import Await, Clone, Netlink
from nsrun.spec.model import InterfaceAddress, Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """``path``: its place in the stack; ``addresses`` are the host's on it; ``mtu`` in bytes."""

    name: str
    path: str
    addresses: tuple[InterfaceAddress, ...]
    masquerade: bool = False
    internal: bool = False
    mtu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridges:
    """Those of one stack; ``name`` is the stack's."""

    name: str
    file: str
    sha256: str
    bridges: tuple[Bridge, ...]
    spans: Mapping[str, Span] = field(default_factory=lambda: MappingProxyType({}))


def plan_bridges(wanted: Bridges, facts: Facts, *, notify: str) -> Plan:
    """Raises NsrunError (NS402, NS410) where the caller or the machine cannot have them."""
    spec = Spec(name=wanted.name, file=wanted.file, sha256=wanted.sha256, spans=wanted.spans)
    draft = Draft(spec)
    if abi.Capability.CAP_NET_ADMIN not in facts.permitted:
        draft.refuse(
            "NS402",
            "a bridge needs a right over the host's network",
            "networks",
            "give each container `network: {mode: user}`: it needs none",
            why=f"it needs CAP_NET_ADMIN, which uid {facts.uid} does not have",
        )
    signals, child, pidfd = _stand_for(draft)
    rtnl = draft.reg("rtnl")
    draft.parent(
        "open rtnetlink",
        sockets.socket_route(save=rtnl),
        sockets.extended_errors(rtnl),
        at="networks",
    )
    for bridge in wanted.bridges:
        _make(draft, rtnl, bridge)
    _translate(draft, facts, wanted)
    tell_ready(draft, notify, child)
    draft.parent(
        "keep the networks until they are no longer needed",
        Await(
            child=child,
            pidfd=pidfd,
            signals=signals,
            status=draft.reg("status", RegKind.NUMBER),
            # Who runs nothing has no handler to end by.
            stop_signal=Int(int(signal.SIGKILL), "SIGKILL"),
            stop_timeout=0,
        ),
        at="networks",
    )
    return finished(draft, facts, root=True)


def _stand_for(draft: Draft) -> tuple[Reg, Reg, Reg]:
    signals = draft.reg("signals")
    draft.parent(
        "block signals, to be read from a descriptor",
        calls.rt_sigprocmask(abi.SigprocmaskHow.SIG_SETMASK, calls.ALL_SIGNALS),
        calls.signalfd4(
            calls.ALL_SIGNALS,
            abi.SignalfdFlag.SFD_CLOEXEC | abi.SignalfdFlag.SFD_NONBLOCK,
            save=signals,
        ),
        rule="no signal is lost",
    )
    child, pidfd = draft.reg("holder", RegKind.PID), draft.reg("holderfd")
    flags = CloneFlag.CLONE_PIDFD
    kill = calls.pidfd_send_signal(pidfd, Int(int(signal.SIGKILL), "SIGKILL"))
    draft.parent(
        "start a process that stands for the networks",
        Clone(
            flags=Int(int(flags), abi.flag_text(int(flags), CloneFlag)),
            exit_signal=Int(int(signal.SIGCHLD), "SIGCHLD"),
            pid=child,
            pidfd=pidfd,
            hold=True,
        ),
        at="networks",
        undo=(
            calls.allow(kill, accept=("ESRCH",)),
            calls.allow(calls.waitid_reap(pidfd), accept=("ECHILD",)),
        ),
    )
    return signals, child, pidfd


def _make(draft: Draft, rtnl: Reg, bridge: Bridge) -> None:
    index = draft.reg(bridge.name, RegKind.IFINDEX)
    end = netlink.End(name=bridge.name, mtu=bridge.mtu, up=True)
    delete = netlink.link_delete_named(bridge.name)
    # One step, and undone by what is known before: nothing that fails later leaves it behind.
    draft.parent(
        f"make the bridge {bridge.name}",
        Netlink(socket=rtnl, message=netlink.link_add(end, "bridge")),
        at=bridge.path,
        undo=(Netlink(socket=rtnl, message=delete, accept=("ENODEV",)),),
    )
    draft.parent(
        f"find the bridge {bridge.name}", *index_of(draft, bridge.name, index), at=bridge.path
    )
    for address in bridge.addresses:
        draft.parent(
            f"give {bridge.name} the address {address}",
            Netlink(socket=rtnl, message=netlink.address_add(index, address, bridge.name)),
            at=bridge.path,
        )


def _translate(draft: Draft, facts: Facts, wanted: Bridges) -> None:
    out = [b for b in wanted.bridges if b.masquerade]
    closed = [b for b in wanted.bridges if b.internal]
    if not out and not closed:
        return
    nft = facts.helpers.get("nft")
    at = (out or closed)[0].path
    if nft is None:
        draft.refuse(
            "NS410",
            "nft is not installed",
            at,
            "apt install nftables",
            why="it was looked for on PATH, in /usr/bin and in /usr/sbin",
        )
        return
    table = networks_table(wanted.name)
    if facts.forwarding is None or not out:
        make, undo = nft_steps(Str(nft), table, _ruleset(wanted, out, closed, table, {}))
        draft.parent(f"translate addresses by the table {table}", make, at=at, undo=(undo,))
        return
    switches = Switches(draft, facts, facts.forwarding, at)
    guarded = {version: switches.guarded(version, ()) for version in (4, 6)}
    for name in (*guarded[4], *guarded[6]):
        if is_misread(name):
            draft.refuse("NS316", f"nft cannot be told of an interface {name!r}", at)
            return
    make, undo = nft_steps(Str(nft), table, _ruleset(wanted, out, closed, table, guarded))
    # Before the first packet is let through, and until none is.
    draft.parent(f"translate addresses by the table {table}", make, at=at, undo=(undo,))
    for bridge in out:
        for address in bridge.addresses:
            switches.open(address.version, bridge.name, shared=False)


def networks_table(stack: str) -> str:
    """A table beside that of a container of the stack's name: none has a slash in its own, and
    nft(8) takes one in an identifier. With 64 letters it is far from NFT_NAME_MAXLEN (256)."""
    return f"{table_name(stack)}/networks"


def _ruleset(
    wanted: Bridges,
    out: list[Bridge],
    closed: list[Bridge],
    table: str,
    guarded: Mapping[int, tuple[str, ...]],
) -> str:
    chains = {
        "filter hook forward priority filter": _forwarded(out, closed, guarded),
        "nat hook postrouting priority srcnat": _leaving(out),
    }
    names = ("forwarded", "leaving")
    lines = [
        f'create table inet {table} {{ comment "nsrun: stack {wanted.name}"; }}',
        f"table inet {table} {{",
    ]
    for name, (kind, rules) in zip(names, chains.items(), strict=True):
        if rules:
            lines += [f"\tchain {name} {{", f"\t\ttype {kind}; policy accept;"]
            lines += [f"\t\t{rule}" for rule in rules]
            lines.append("\t}")
    return "\n".join([*lines, "}", ""])


def _forwarded(
    out: list[Bridge], closed: list[Bridge], guarded: Mapping[int, tuple[str, ...]]
) -> list[str]:
    rules = []
    for bridge in closed:
        rules.append(f'iifname "{bridge.name}" oifname != "{bridge.name}" drop')
        rules.append(f'oifname "{bridge.name}" iifname != "{bridge.name}" drop')
    if not out:
        return rules
    rules += KNOWN
    for version in sorted({address.version for bridge in out for address in bridge.addresses}):
        rules += strangers(version, guarded.get(version, ()))
    for bridge in out:
        rules.append(f'oifname "{bridge.name}" iifname != "{bridge.name}" drop')
        # No address is translated of what belongs to no connection.
        rules.append(f'iifname "{bridge.name}" ct state invalid drop')
    return rules


def _leaving(out: list[Bridge]) -> list[str]:
    return [
        f'meta nfproto ipv{address.version} iifname "{bridge.name}" '
        f'oifname != "{bridge.name}" masquerade'
        for bridge in out
        for address in bridge.addresses
    ]
