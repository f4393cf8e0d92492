"""Why an interface, an address or a port cannot be had, as the caller's network shows it."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
from collections.abc import Iterator

from nsrun.host import containers, ids, linkkinds, links, paths, procfs
from nsrun.host.hint import Args, Hint, HintContext, text

_ADDED = re.compile(r"rtnl link add (?P<name>\S+)(?: (?!type ).*?)? type (?P<kind>\S+)")
_PORT = re.compile(r'\{AF_INET6?, port=(?P<port>\d+), "(?P<address>[^"]*)"\}')
_ADDRESS = re.compile(r"rtnl addr add (?P<address>\S+) .*dev (?P<dev>\S+)")
_TABLE = re.compile(r"table inet nsrun-(?P<name>\S+) \{")
_PUBLISHED = re.compile(r" (?P<protocol>tcp|udp) dport (?P<first>\d+)(?:-(?P<last>\d+))? dnat ")
_LIMIT = 16 << 20


def _names() -> list[str]:
    """The interfaces of the caller's network namespace."""
    return [name for _, name in socket.if_nameindex()]


def name_taken(args: Args, context: HintContext) -> Hint | None:
    """rtnl link add, EEXIST: an interface of this name is there."""
    found = _ADDED.match(text(args, 0))
    if found is None:
        return _address_taken(args)
    name = found["name"]
    if name not in _names():
        return _taken_elsewhere(name, context)
    if context.name and name.startswith("ve-"):
        state = containers.state_folder(os.getuid(), os.environ)
        running = containers.running((context.name,), state, os.getuid())
        if context.name in running:
            return Hint(
                (f"a container {context.name} is running (pid {running[context.name]}), and "
                 f"{name} is its",),
                ("end it first, or give this one another `name`",),
            )  # fmt: skip
    return Hint(
        (f"the host has an interface {name} already",),
        ("give this one another name: `peer: {name: ...}`", f"or remove it: ip link del {name}"),
    )


def _taken_elsewhere(name: str, context: HintContext) -> Hint | None:
    """The launcher makes a pair from within the namespace that it opened last."""
    opened = [text(values, 1) for call, values, _ in context.before if call == "openat"]
    if not opened or not links.is_there(name, opened[-1]):
        return None
    return Hint(
        (f"{opened[-1]} has an interface {name} already",),
        ("give this one another name: `peer: {name: ...}`",),
    )


def _address_taken(args: Args) -> Hint | None:
    found = _ADDRESS.match(text(args, 0))
    if found is None:
        return None
    return Hint((f"{found['dev']} has the address {found['address']} already",))


def unknown_kind(args: Args, _context: HintContext) -> Hint | None:
    """rtnl link add, EOPNOTSUPP: no such kind of interface."""
    found = _ADDED.match(text(args, 0))
    if found is None or linkkinds.has(found["kind"]) is not False:
        return None
    kind = found["kind"]
    module = "8021q" if kind == "vlan" else kind
    return Hint(
        (f"this kernel has no {kind} interfaces, and no module {module} to load",),
        ("`nsrun doctor` lists the kinds it has",),
    )


def no_bridge(args: Args, context: HintContext) -> Hint | None:
    """rtnl link add ... master, EOPNOTSUPP: what is to be the bridge takes no ports."""
    if " master " not in text(args, 0):
        return None
    found = [values for call, values, _ in context.before if call == "setsockopt"]
    name = text(found[-1], 3).strip('"') if found else ""
    kind = links.kind(name)
    if name not in _names() or kind == "bridge":
        return None
    return Hint(
        (f"{name} is no bridge, but {f'a {kind}' if kind else 'an interface without a kind'}",),
        ("name a bridge; one of your own: ip link add br0 type bridge",),
    )


def no_such_interface(args: Args, context: HintContext) -> Hint | None:
    """setsockopt(SO_BINDTODEVICE), ENODEV."""
    name = text(args, 3).strip('"')
    names = _names()
    if not name or name in names or any(call == "setns" for call, _, _ in context.before[-3:]):
        return None
    others = ", ".join(n for n in names if n != "lo") or "none but lo"
    return Hint(
        (f"the host has no interface {name}; there are: {others}",),
        (f"if it is to be a bridge: ip link add {name} type bridge",),
    )


def ipv6_is_off(args: Args, _context: HintContext) -> Hint | None:
    """rtnl addr add of an IPv6 address, EACCES or EPERM."""
    found = _ADDRESS.match(text(args, 0))
    if found is None or ":" not in found["address"]:
        return None
    if procfs.sysctl("net.ipv6.conf.default.disable_ipv6") != 1:
        return None
    return Hint(
        ("net.ipv6.conf.default.disable_ipv6 is 1: new interfaces have no IPv6",),
        ("remove the IPv6 addresses, or set it to 0",),
    )


# --- ports -----------------------------------------------------------------------------------


def port_in_use(args: Args, context: HintContext) -> Hint | None:
    """bind(2), EADDRINUSE: who has the port."""
    found = _PORT.match(text(args, 1))
    if found is None:
        return None
    port = int(found["port"])
    protocol = _protocol(args, context)
    owner = next(_owners(protocol, port), None) or _container_with(protocol, port)
    if owner is None:
        return None
    return Hint(
        (f"port {port}/{protocol} is held by {owner}",),
        ("publish another port, or end that process",),
    )


def _protocol(args: Args, context: HintContext) -> str:
    socket_ = text(args, 0)
    for call, values, result in reversed(context.before):
        if call == "socket" and result == socket_:
            return "udp" if values[1] & 0xF == socket.SOCK_DGRAM else "tcp"  # type: ignore[operator]
    return "tcp"


def _owners(protocol: str, port: int) -> Iterator[str]:
    """Processes with a socket bound to ``port``, as /proc shows them to this user."""
    inodes = set(_bound(protocol, port))
    if not inodes:
        return
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if inodes & set(links) and int(pid) != os.getpid():
            name = (paths.read_file(f"/proc/{pid}/comm") or "").strip()
            yield f"pid {pid} ({name})"
    yield "a process of another user"


def _bound(protocol: str, port: int) -> Iterator[str]:
    """proc_net(5): the local address's port in hex, and the socket's inode. A TCP socket that is
    bound and does not listen is in none of these tables."""
    for table in (protocol, f"{protocol}6"):
        for line in (paths.read_file(f"/proc/net/{table}", _LIMIT) or "").split("\n")[1:]:
            fields = line.split()
            # Connections that have ended (TIME_WAIT) are nobody's.
            if len(fields) <= 9 or fields[9] == "0":
                continue
            if int(fields[1].rpartition(":")[2], 16) == port:
                yield f"socket:[{fields[9]}]"


def _container_with(protocol: str, port: int) -> str | None:
    """The container whose table of nftables translates the port."""
    nft = ids.helper("nft")
    if nft is None:
        return None
    done = subprocess.run((nft, "list", "ruleset"), capture_output=True, check=False, text=True)
    name = ""
    for line in done.stdout.split("\n"):
        table = _TABLE.match(line)
        name = table["name"] if table is not None else name
        ports = _PUBLISHED.search(line)
        if not name or ports is None or ports["protocol"] != protocol:
            continue
        if int(ports["first"]) <= port <= int(ports["last"] or ports["first"]):
            return f"the container {name}"
    return None


def no_such_address(args: Args, _context: HintContext) -> Hint | None:
    """bind(2), EADDRNOTAVAIL."""
    found = _PORT.match(text(args, 1))
    if found is None:
        return None
    return Hint(
        (f"no interface of the host has the address {found['address']}",),
        ("publish it on one that is there: ip -br address",),
    )


def privileged_port(args: Args, _context: HintContext) -> Hint | None:
    """bind(2), EACCES."""
    found = _PORT.match(text(args, 1))
    first = procfs.sysctl("net.ipv4.ip_unprivileged_port_start")
    if found is None or first is None or int(found["port"]) >= first:
        return None
    return Hint(
        (f"ports below {first} are root's (net.ipv4.ip_unprivileged_port_start)",),
        (f"publish port {first} or a higher one",),
    )


# --- without privilege ------------------------------------------------------------------------

_TUN = "/dev/net/tun"


def no_tun(args: Args, _context: HintContext) -> Hint | None:
    """pasta(1) or slirp4netns(1) that ended with a failure: the device that both open."""
    if not any(str(arg).endswith(("/pasta", "/slirp4netns")) for arg in args):
        return None
    try:
        # No interface is made before an ioctl asks for one (the kernel's tuntap.rst).
        os.close(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return Hint((f"there is no {_TUN}",), ("modprobe tun, as root",))
        if error.errno in (errno.ENODEV, errno.ENXIO):
            return Hint(
                (f"{_TUN} is no device of this kernel ({os.strerror(error.errno)})",),
                ("modprobe tun, as root",),
            )
        return _closed_tun(error)
    return None


def _closed_tun(error: OSError) -> Hint:
    mount = procfs.mount_of(_TUN)
    if mount is not None and "nodev" in mount.options:
        return Hint((f"{_TUN} lies on {mount.target}, which is mounted nodev",))
    why = f"{_TUN} cannot be opened by uid {os.geteuid()}: {error.strerror}"
    if error.errno != errno.EACCES:
        return Hint((why,))
    status = os.stat(_TUN)
    return Hint(
        (f"{why} (mode 0{status.st_mode & 0o7777:o}, owner {status.st_uid}, "
         f"group {status.st_gid})",),
        (f"chmod 0666 {_TUN}, as root: a network's owner alone can use it",),
    )  # fmt: skip
