"""``mode: user``: a network that takes no privilege, by pasta(1) or slirp4netns(1).

A process beside the container moves packets between a tap device in its network namespace and
ordinary sockets of the caller. It is the launcher's, which is a subreaper, and ends with it; the
file with its pid is for the case that the launcher is killed.

    child     open /proc/self/ns/net ── send #netns ──▶ launcher ── spawn pasta --netns .../fd/N
    child     await #linked ◀──────────────────────────────────────  signal #linked
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from nsrun.kernel import calls, sockets
from nsrun.kernel.abi import AtFlag, OpenFlag
from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Fmt, Reg, RegKind, Str
from nsrun.plan.draft import Draft
from nsrun.plan.launch import Launch
from nsrun.plan.ops import Op, ReceiveFd, SendFd, Spawn
from nsrun.spec.model import NamespaceType, Network, Port

HELPERS = ("pasta", "slirp4netns")
# Where each answers for the caller's name server; pasta's is ours to choose (RFC 3927), the
# other's is the third address of its own network.
_RESOLVERS = {"pasta": "169.254.1.1", "slirp4netns": "10.0.2.3"}
_AT = "network.mode"
_TAP = "tap0"
# A range of many more is no list of services, and its plan would be long.
_PORTS_SEEN = 64
# pasta opens the network namespace from within the user namespace, from where the launcher's
# descriptors cannot be reached; of its own it keeps three.
_AS_STREAMS = 'netns=$1 userns=$2; shift 2; exec "$@" <"$netns" 1<"$userns"'
# What a daemon says goes nowhere once nsrun has heard that it is ready.
_READY = (
    "trap '' PIPE; pid=$1; shift; "
    'ready=$({ "$@" 3>&1 >/dev/null & echo $! >"$pid"; } | head -c 1); [ "$ready" = 1 ] && exit; '
    '[ -f "$pid" ] && rm "$pid"; exit 1'
)
# A pid that has come to be another process's is left alone.
_END = (
    '{ read -r pid <"$1" && read -r name <"/proc/$pid/comm" && '
    'case $name in pasta* | passt* | slirp4netns) kill -KILL "$pid" ;; esac; } 2>/dev/null; '
    'rm -f "$1"'
)


def helper(facts: Facts) -> str | None:
    """The one that is used here, None where neither is installed.

    pasta run by root becomes nobody before it opens the namespace, who may not.
    """
    order = HELPERS if facts.uid else tuple(reversed(HELPERS))
    return next((name for name in order if name in facts.helpers), None)


def resolver(facts: Facts) -> str:
    """The address at which the container reaches the caller's name server."""
    return _RESOLVERS[helper(facts) or HELPERS[0]]


def attach(draft: Draft, facts: Facts, started: Launch, network: Network) -> None:
    """Show the launcher the namespaces, and start the process that moves the packets."""
    if network.mode != "user":
        return
    name = helper(facts)
    if name is None:
        draft.refuse(
            "NS410",
            "neither pasta nor slirp4netns is installed",
            _AT,
            "apt install passt",
            why="they were looked for on PATH, in /usr/bin and in /usr/sbin",
        )
        return
    netns, userns = _show(draft, started)
    launcher = draft.reg("launcher", RegKind.PID)
    draft.parent("know itself", calls.getpid(save=launcher), at=_AT)
    places = tuple(
        None if fd is None else Fmt(("/proc/", launcher, "/fd/", fd)) for fd in (netns, userns)
    )
    pid_file = _pid_file(draft, facts)
    if name == "pasta":
        start = _pasta(draft, facts, network, places, pid_file)
    else:
        start = _slirp4netns(draft, facts, network, places, pid_file)
    draft.parent(
        f"start {name}, which moves the container's packets",
        start,
        at=_AT,
        undo=(_end(pid_file),) if pid_file is not None else (),
    )


def _show(draft: Draft, started: Launch) -> tuple[Reg, Reg | None]:
    """The child's namespaces as descriptors of the launcher.

    The child is not dumpable: nobody but itself can open them without CAP_SYS_PTRACE.
    """
    shown: list[Reg | None] = []
    for kind, name in ((NamespaceType.NETWORK, "net"), (NamespaceType.USER, "user")):
        if not draft.spec.new(kind):
            shown.append(None)
            continue
        own, theirs = draft.reg(f"{name}ns"), draft.reg(f"{name}ns")
        draft.child(
            f"show the launcher its {kind.value} namespace",
            calls.openat(calls.CWD, f"/proc/self/ns/{name}", OpenFlag.O_CLOEXEC, save=own),
            SendFd(sync=f"{name}ns", channel=started.inner, fd=own),
            calls.close(own),
            at=_AT,
        )
        draft.parent(
            f"take the {kind.value} namespace",
            ReceiveFd(
                sync=f"{name}ns", channel=started.outer, save=theirs, signals=started.signals
            ),
            at=_AT,
        )
        shown.append(theirs)
    netns, userns = shown
    assert netns is not None
    return netns, userns


def _pid_file(draft: Draft, facts: Facts) -> str | None:
    """Where the pid is written: in a folder that is made for it and goes with its last file."""
    if facts.state is None:
        return None
    draft.parent(
        f"make {facts.state}",
        calls.allow(calls.mkdirat(calls.CWD, facts.state, 0o700), accept=("EEXIST",)),
        at=_AT,
        undo=(
            calls.allow(
                calls.unlinkat(calls.CWD, facts.state, AtFlag.AT_REMOVEDIR),
                accept=("ENOTEMPTY", "ENOENT"),
            ),
        ),
    )
    return f"{facts.state}/{draft.spec.name}.usernet"


def _end(pid_file: str) -> Op:
    return Spawn(
        argv=(Str("/bin/sh"), Str("-c"), Str(_END), Str("nsrun"), Str(pid_file)),
        success=(0, 1),
    )


# --- pasta -----------------------------------------------------------------------------------


def _pasta(
    draft: Draft,
    facts: Facts,
    network: Network,
    places: tuple[Fmt | None, ...],
    pid_file: str | None,
) -> Spawn:
    netns, userns = places
    assert netns is not None
    _see_that_free(draft, network)
    words: list[str | Fmt] = ["/bin/sh", "-c", _AS_STREAMS, "nsrun"]
    words += [netns, userns or "/dev/null"]
    words += [facts.helpers["pasta"], "--config-net", "--quiet"]
    # Without these the host's loopback would be the container's gateway.
    words += ["--no-map-gw", "--tcp-ns", "none", "--udp-ns", "none"]
    words += ["--dns-forward", _RESOLVERS["pasta"]]
    for protocol in ("tcp", "udp"):
        specs = [_pasta_port(p) for p in network.ports if p.protocol == protocol]
        for spec in specs or ["none"]:
            words += [f"--{protocol}-ports", spec]
    if pid_file is not None:
        words += ["--pid", pid_file]
    # It is ended by nsrun; its own watch is about files that hold a namespace.
    words += ["--no-netns-quit", "--netns", "/proc/self/fd/0"]
    words += ["--userns", "/proc/self/fd/1"] if userns is not None else ["--netns-only"]
    return _spawn(words)


def _see_that_free(draft: Draft, network: Network) -> None:
    """pasta goes on where it gets a port of one family alone, and says nothing."""
    for port in network.ports:
        for version in (4, 6):
            elsewhere = port.address is not None and port.address.version != version
            if elsewhere or port.count > _PORTS_SEEN:
                continue
            for number in range(port.host, port.host + port.count):
                _see_one(draft, port, version, number)


def _see_one(draft: Draft, port: Port, version: int, number: int) -> None:
    anywhere = IPv4Address(0) if version == 4 else IPv6Address(0)
    fd = draft.reg(f"{port.protocol}{number}")
    opened = sockets.socket_port(version, port.protocol, save=fd)
    # A kernel without IPv6 has none of its ports.
    steps: list[Op] = [calls.allow(opened, skip=("EAFNOSUPPORT",))]
    if port.protocol == "tcp":
        steps.append(sockets.reuse_address(fd))
    if version == 6:
        steps.append(sockets.only_ipv6(fd))
    steps += [sockets.bind_port(fd, port.address or anywhere, number), calls.close(fd)]
    draft.parent(
        f"make sure that port {number}/{port.protocol} of IPv{version} is free",
        *steps,
        at=port.path,
    )


def _pasta_port(port: Port) -> str:
    def numbers(first: int) -> str:
        return str(first) if port.count == 1 else f"{first}-{first + port.count - 1}"

    place = "" if port.address is None else f"{port.address}/"
    return f"{place}{numbers(port.host)}:{numbers(port.container)}"


# --- slirp4netns -----------------------------------------------------------------------------


def _slirp4netns(
    draft: Draft,
    facts: Facts,
    network: Network,
    places: tuple[Fmt | None, ...],
    pid_file: str | None,
) -> Spawn:
    netns, userns = places
    assert netns is not None
    if network.ports:
        why = "slirp4netns publishes none"
        draft.refuse(
            "NS410",
            "ports of a network in user mode need pasta",
            "network.ports",
            *(("apt install passt",) if facts.uid else ("use a veth with `ports`: root may",)),
            why=why if facts.uid else f"{why}, and pasta run by root gives its rights away",
        )
    words: list[str | Fmt] = ["/bin/sh", "-c", _READY, "nsrun", pid_file or "/dev/null"]
    words += [facts.helpers["slirp4netns"], "--configure", "--mtu=65520"]
    words += ["--disable-host-loopback", "--enable-ipv6", "--ready-fd=3", "--netns-type=path"]
    if userns is not None:
        words.append(_after("--userns-path=", userns))
    words += [netns, _TAP]
    return _spawn(words)


def _after(option: str, path: Fmt) -> Fmt:
    """Text stands in one piece: a plan that is read again would have it so."""
    first, *rest = path.parts
    assert isinstance(first, str)
    return Fmt((option + first, *rest))


def _spawn(words: list[str | Fmt]) -> Spawn:
    return Spawn(
        argv=tuple(Str(word) if isinstance(word, str) else word for word in words),
        env=("PATH=/usr/bin:/bin",),
    )
