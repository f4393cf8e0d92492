"""The files of names: /etc/resolv.conf, /etc/hosts and /etc/hostname, as ``network`` has them.

Sources: resolv.conf(5), hosts(5), hostname(5).
"""

from __future__ import annotations

from collections.abc import Iterator

from nsrun.spec.model import Dns, FileEntry, NamespaceType, Network, Spec

_LOCALHOST = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
)
_MODE = 0o644


def name_files(spec: Spec, resolver: str = "") -> tuple[FileEntry, ...]:
    """What is written beside ``files``; ``resolver``: the user-mode network's own name server."""
    if spec.network is None or not spec.new(NamespaceType.MOUNT):
        return ()
    given = {entry.target for entry in spec.files}
    made = _files(spec, spec.network, resolver)
    return tuple(entry for entry in made if entry.target not in given)


def _files(spec: Spec, network: Network, resolver: str) -> Iterator[FileEntry]:
    if network.dns is not None:
        text = _resolv_conf(network.dns)
        yield FileEntry(path="network.dns", target="/etc/resolv.conf", content=text, mode=_MODE)
    elif network.mode == "user" and spec.rootfs is not None:
        text = f"nameserver {resolver}\n".encode()
        yield FileEntry(path="network.mode", target="/etc/resolv.conf", content=text, mode=_MODE)
    if network.hosts:
        text = _hosts(spec, network)
        yield FileEntry(path="network.hosts", target="/etc/hosts", content=text, mode=_MODE)
    # Whoever has names written for a container wants its own among them.
    if spec.hostname is not None and (network.hosts or network.dns is not None):
        text = f"{spec.hostname}\n".encode()
        yield FileEntry(path="hostname", target="/etc/hostname", content=text, mode=_MODE)


def _resolv_conf(dns: Dns) -> bytes:
    lines = [f"nameserver {address}" for address in dns.nameservers]
    if dns.search:
        lines.append("search " + " ".join(dns.search))
    if dns.options:
        lines.append("options " + " ".join(dns.options))
    return "".join(f"{line}\n" for line in lines).encode()


def _hosts(spec: Spec, network: Network) -> bytes:
    lines = list(_LOCALHOST)
    if spec.hostname is not None and spec.hostname not in network.hosts:
        own = [a.ip for i in network.interfaces for a in i.addresses]
        name = spec.hostname
        if spec.domainname:
            name = f"{spec.hostname}.{spec.domainname} {name}"
        # Debian's way where there is no address of its own: hosts(5), 127.0.1.1.
        lines += [f"{ip}\t{name}" for ip in own] or [f"127.0.1.1\t{name}"]
    lines += [f"{address}\t{name}" for name, address in network.hosts.items()]
    return "".join(f"{line}\n" for line in lines).encode()
