"""The ``expect`` of a spec: what `nsrun verify` looks for inside."""

from __future__ import annotations

import ipaddress

from nsrun.spec.build_process import capability_names
from nsrun.spec.model import Endpoint, Expectations, NamespaceType
from nsrun.spec.path import item_path, key_path
from nsrun.spec.reader import Reader, Value
from nsrun.spec.words import quote

# sockaddr_un's sun_path with the byte that ends it, or begins an abstract name (unix(7)).
_UNIX_MAX = 107
_NOWHERE = Endpoint(unix="@")


def expectations(reader: Reader, value: Value, path: str) -> Expectations:
    def endpoints(key: str) -> tuple[Endpoint, ...]:
        place = key_path(path, key)
        return tuple(
            _endpoint(reader, word, item_path(place, n))
            for n, word in enumerate(value.get(key, []))
        )

    def paths(key: str) -> tuple[str, ...]:
        place = key_path(path, key)
        return tuple(
            reader.target(word, item_path(place, n)) for n, word in enumerate(value.get(key, []))
        )

    return Expectations(
        unreachable=endpoints("unreachable"),
        reachable=endpoints("reachable"),
        unreadable=paths("unreadable"),
        readable=paths("readable"),
        read_only=paths("read_only"),
        writable=paths("writable"),
        namespaces_new=tuple(NamespaceType(word) for word in value.get("namespaces_new", [])),
        capabilities=(
            capability_names(reader, value["capabilities"], key_path(path, "capabilities"))
            if "capabilities" in value
            else None
        ),
    )


def _endpoint(reader: Reader, word: str, path: str) -> Endpoint:
    if word.startswith("unix:"):
        name = word.removeprefix("unix:")
        if name[:1] not in ("/", "@") or len(name) < 2:
            reader.problem("NS203", path, f"{quote(name)} is neither a path nor a name after `@`")
        elif len(name.encode("utf-8", "surrogateescape")) > _UNIX_MAX or "\0" in name:
            reader.problem("NS203", path, f"a socket has a name of at most {_UNIX_MAX} bytes")
        return Endpoint(unix=name)
    host, colon, port = word.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        reader.problem(
            "NS203",
            path,
            f"{quote(word)} is no address with a port",
            help=("write 10.0.0.1:22, [fd00::1]:22, unix:/run/a.sock or unix:@name",),
        )
        return _NOWHERE
    number = int(port) if colon and port.isascii() and port.isdigit() and len(port) < 6 else 0
    if not 1 <= number <= 65535 or bracketed is not (address.version == 6):
        reader.problem(
            "NS203",
            path,
            f"{quote(word)} is no address with a port from 1 to 65535",
            help=("an IPv6 address is written in brackets: [fd00::1]:22",)
            if address.version == 6 and not bracketed
            else (),
        )
        return _NOWHERE
    return Endpoint(address=address, port=number)
