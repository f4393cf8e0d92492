"""A stack's file -> the Stack it means, or everything that is wrong with it.

Each container is put together as a document of its own (``extends`` merged, the stack's own keys
taken out), read and checked like a file with one container, and then put on its networks.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from nsrun.diag import Collector, Diagnostic, NsrunError, Span
from nsrun.spec.build import build_parts, default_name
from nsrun.spec.check import check
from nsrun.spec.document import Document
from nsrun.spec.ipam import Full, Pool, bridge_name, default_subnet, subnet_of
from nsrun.spec.model import (
    Interface,
    InterfaceAddress,
    IPAddress,
    LinkType,
    NamespaceType,
    Network,
    Peer,
    Route,
    Spec,
)
from nsrun.spec.path import item_path, key_path
from nsrun.spec.reader import Reader
from nsrun.spec.schema import validate
from nsrun.spec.source import read_source
from nsrun.spec.stack import (
    Condition,
    Dependency,
    Healthcheck,
    Member,
    Restart,
    Stack,
    StackNetwork,
    Volume,
)
from nsrun.spec.tree import Tree, document_of, overlaid, tree_of, without
from nsrun.spec.units import parse_duration
from nsrun.spec.values import NOTHING, Inputs
from nsrun.spec.words import quote

# What a container of a stack has beside the keys of a container's own file.
OWN_KEYS = frozenset(
    {
        *("networks", "volumes", "healthcheck", "extends", "depends_on", "restart", "replicas"),
        "profiles",
    }
)
_DEPTH_MAX = 16


def load_stack(
    path: str,
    *,
    profiles: frozenset[str] = frozenset(),
    all_profiles: bool = False,
    volumes: str = "/var/lib/nsrun/volumes",
    inputs: Inputs = NOTHING,
) -> tuple[Stack, tuple[Diagnostic, ...]]:
    """Read the stack at ``path``; returns it with its warnings.

    ``profiles``: those asked for, or all; ``volumes``: the folder of named volumes; ``inputs``:
    what a template is given. Raises NsrunError with everything that is wrong, sorted by place.
    """
    document = read_source(path, inputs)
    reading = _Reading(
        document=document,
        inputs=inputs,
        profiles=None if all_profiles else profiles,
        volumes_folder=volumes,
    )
    stack = reading.read()
    found = reading.report.sorted()
    if document.rendered is not None:
        found = tuple(map(document.rendered.with_values, found))
    if stack is None or any(d.is_error for d in found):
        raise NsrunError(found)
    return stack, found


def extended(document: Document, inputs: Inputs = NOTHING) -> Tree:
    """A stack's document with each container laid over what it extends; what cannot be read of
    that is left out."""
    reading = _Reading(document=document, profiles=None, volumes_folder="/", inputs=inputs)
    tree = tree_of(document)
    containers = tree.get("containers")
    if containers is not None and containers.entries is not None:
        found = reading._services(document.data if isinstance(document.data, dict) else {})
        containers.entries.update({service.name: service.tree for service in found})
    return tree


@dataclass(slots=True)
class _Service:
    """A container of the file before it is multiplied."""

    name: str
    path: str
    tree: Tree
    folders: dict[str, str]
    broken: bool = False
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Reading:
    document: Document
    profiles: frozenset[str] | None
    volumes_folder: str
    inputs: Inputs = NOTHING
    report: Collector = field(default_factory=Collector)
    spans: dict[str, Span] = field(default_factory=dict)

    def problem(
        self,
        code: str,
        path: str,
        summary: str,
        *help_: str,
        label: str = "",
        key: bool = False,
        span: Span | None = None,
    ) -> None:
        places = self.document.key_spans if key else self.document.spans
        self.report.add(
            Diagnostic(
                code=code,
                summary=summary,
                span=span or places.get(path) or self.spans.get(path),
                path=path,
                label=label,
                help=tuple(h for h in help_ if h),
            )
        )

    # --- the whole ---------------------------------------------------------------------------

    def read(self) -> Stack | None:
        document = self.document
        self.report.extend(validate(document))
        if any(d.is_error for d in self.report.diagnostics):
            return None
        data: dict[str, Any] = document.data if isinstance(document.data, dict) else {}
        name = data.get("name") or default_name(document.file)
        services = self._services(data)
        networks, pools = self._networks(name, data.get("networks") or {})
        volumes = self._volumes(name, data.get("volumes") or {})
        chosen = [s for s in services if self._is_chosen(s) and not s.broken]
        known = {s.name for s in services}
        members: list[Member] = []
        for service in chosen:
            made = self._members(name, service, known, volumes)
            members += made
        members = self._on_networks(members, services, networks, pools)
        self._check(members, volumes)
        ordered = self._ordered(members, {s.name: s for s in services})
        return Stack(
            name=name,
            file=document.file,
            sha256=document.sha256,
            networks=tuple(networks.values()),
            volumes=tuple(volumes.values()),
            members=tuple(ordered),
            spans=document.spans,
        )

    def _check(self, members: list[Member], volumes: dict[str, Volume]) -> None:
        """Each container as it will be, on its networks; of several alike the first."""
        # A named volume is made when the stack comes up.
        made = [f"`{v.folder}`" for v in volumes.values() if v.named]
        for member in members:
            if member.number > 1:
                continue
            self.report.extend(
                d
                for d in check(member.spec)
                if d.code != "NS305" or not any(folder in d.summary for folder in made)
            )

    def _is_chosen(self, service: _Service) -> bool:
        wanted = service.data.get("profiles") or ()
        return not wanted or self.profiles is None or bool(self.profiles & set(wanted))

    # --- services ----------------------------------------------------------------------------

    def _services(self, data: dict[str, Any]) -> list[_Service]:
        found = []
        for name in data.get("containers", {}):
            if name.startswith("x-"):
                continue
            path = key_path("containers", name)
            service = _Service(name=name, path=path, tree=tree_of(self.document, path), folders={})
            self._extend(service)
            service.data = _plain(service.tree)
            found.append(service)
        return found

    def _extend(self, service: _Service) -> None:
        """Lay the container over what it extends, and that over what it extends itself."""
        base = os.path.dirname(os.path.abspath(self.document.file))
        seen: list[str] = []
        service.tree = self._over_its_base(service, service.tree, base, seen)

    def _over_its_base(self, service: _Service, tree: Tree, folder: str, seen: list[str]) -> Tree:
        extends = tree.get("extends")
        if extends is None:
            return tree
        words = extends.items if extends.items is not None else [extends]
        result: Tree | None = None
        for word in words:
            base = self._base(service, word, folder, seen)
            service.broken |= base is None
            if base is not None:
                result = base if result is None else overlaid(result, base)
        return tree if result is None else overlaid(result, tree)

    def _base(self, service: _Service, word: Tree, folder: str, seen: list[str]) -> Tree | None:
        file = os.path.normpath(os.path.join(folder, os.path.expanduser(str(word.value))))
        if file in seen or len(seen) >= _DEPTH_MAX:
            self.problem(
                "NS318",
                service.path,
                f"{quote(str(word.value))} extends itself",
                "remove one of the `extends`",
                span=word.span,
            )
            return None
        try:
            document = read_source(file, self.inputs, main=False)
        except NsrunError as error:
            self.report.extend(
                dataclasses.replace(d, span=d.span or word.span) for d in error.diagnostics
            )
            return None
        if not isinstance(document.data, dict) or "containers" in document.data:
            self.problem(
                "NS318",
                service.path,
                f"{quote(str(word.value))} holds no single container",
                "extend a file with one container",
                span=word.span,
            )
            return None
        service.folders.update({**document.folders, document.file: os.path.dirname(file)})
        return self._over_its_base(service, tree_of(document), os.path.dirname(file), [*seen, file])

    # --- one container -----------------------------------------------------------------------

    def _members(
        self, stack: str, service: _Service, known: set[str], volumes: dict[str, Volume]
    ) -> list[Member]:
        tree = self._with_volumes(service, volumes)
        document = document_of(without(tree, OWN_KEYS), self.document, service.folders)
        self.spans.update({f"{service.path}.{p}": s for p, s in document.spans.items() if p})
        found = validate(document)
        self.report.extend(found)
        if any(d.is_error for d in found):
            return []
        built = build_parts(document)
        self.report.extend(built.diagnostics)
        if built.diagnostics:
            return []
        common = Member(
            service=service.name,
            number=0,
            spec=built.spec,
            depends_on=self._depends_on(service, known),
            healthcheck=self._healthcheck(service, document_of(tree, self.document, {})),
            restart=_restart(service.data.get("restart")),
        )
        replicas = int(service.data.get("replicas", 1))
        numbers = [0] if replicas == 1 else range(1, replicas + 1)
        return [
            dataclasses.replace(
                common, number=n, spec=self._named(stack, service, built.spec, n, known)
            )
            for n in numbers
        ]

    def _named(
        self, stack: str, service: _Service, spec: Spec, number: int, known: set[str]
    ) -> Spec:
        own = f"{service.name}-{number}" if number else service.name
        hostname = spec.hostname
        if hostname is None and spec.new(NamespaceType.UTS):
            hostname = own
        namespaces = tuple(
            dataclasses.replace(n, join_container=f"{stack}-{n.join_container}")
            if n.join_container in known
            else n
            for n in spec.namespaces
        )
        return dataclasses.replace(
            spec, name=f"{stack}-{own}", hostname=hostname, namespaces=namespaces
        )

    def _depends_on(self, service: _Service, known: set[str]) -> tuple[Dependency, ...]:
        given = service.data.get("depends_on") or {}
        pairs: Iterable[tuple[str, str, str]]
        place = f"{service.path}.depends_on"
        if isinstance(given, list):
            pairs = [(n, "started", item_path(place, i)) for i, n in enumerate(given)]
        else:
            pairs = [
                (n, (v or {}).get("condition", "started"), key_path(place, n))
                for n, v in given.items()
            ]
        found = []
        for name, condition, path in pairs:
            if name not in known:
                self.problem(
                    "NS318", path, f"there is no container {quote(name)} in this stack",
                    _close(name, known), span=self._span(service, path),
                )  # fmt: skip
                continue
            found.append(Dependency(service=name, condition=Condition(condition), path=path))
        for index, entry in enumerate(service.data.get("namespaces") or ()):
            joined = entry.get("container") if isinstance(entry, dict) else None
            if joined in known and joined not in [d.service for d in found]:
                path = item_path(f"{service.path}.namespaces", index)
                found.append(Dependency(service=joined, condition=Condition.STARTED, path=path))
        return tuple(found)

    def _span(self, service: _Service, path: str) -> Span | None:
        return self.document.spans.get(path) or self.document.key_spans.get(path)

    def _healthcheck(self, service: _Service, document: Document) -> Healthcheck | None:
        given = service.data.get("healthcheck")
        if given is None:
            return None
        times = {
            key: parse_duration(given[key])
            for key in ("interval", "timeout", "start_period")
            if key in given
        }
        command = given["command"]
        reader = Reader(document, "/")
        words = (
            ("/bin/sh", "-c", command)
            if isinstance(command, str)
            else tuple(reader.text(v, f"healthcheck.command[{i}]") for i, v in enumerate(command))
        )
        return Healthcheck(command=words, retries=given.get("retries", 3), **times)

    # --- volumes -----------------------------------------------------------------------------

    def _volumes(self, stack: str, given: dict[str, Any]) -> dict[str, Volume]:
        base = os.path.dirname(os.path.abspath(self.document.file))
        found = {}
        for name, value in given.items():
            if name.startswith("x-"):
                continue
            path = (value or {}).get("path")
            folder = (
                os.path.join(self.volumes_folder, stack, name)
                if path is None
                else os.path.normpath(os.path.join(base, os.path.expanduser(path)))
            )
            found[name] = Volume(name=name, folder=folder, named=path is None)
        return found

    def _with_volumes(self, service: _Service, volumes: dict[str, Volume]) -> Tree:
        """The container's tree with its `volumes` as mounts."""
        given = service.tree.get("volumes")
        if given is None or given.items is None:
            return service.tree
        mounts: list[Tree] = []
        for index, item in enumerate(given.items):
            text = str(item.value)
            source, colon, rest = text.partition(":")
            if not source.startswith(("/", ".", "~")):
                if source not in volumes:
                    self.problem(
                        "NS318",
                        item_path(f"{service.path}.volumes", index),
                        f"there is no volume {quote(source)} in this stack",
                        _close(source, set(volumes)) or f"add `{source}: {{}}` to `volumes`",
                        span=item.span,
                    )
                    continue
                source = volumes[source].folder
            mounts.append(Tree(span=item.span, value=f"{source}{colon}{rest}"))
        known = service.tree.get("mounts")
        items = [*((known.items if known is not None else None) or []), *mounts]
        added = Tree(span=given.span, key_span=given.key_span, items=items)
        return overlaid(service.tree, Tree(span=service.tree.span, entries={"mounts": added}))

    # --- networks ----------------------------------------------------------------------------

    def _networks(
        self, stack: str, given: dict[str, Any]
    ) -> tuple[dict[str, StackNetwork], dict[str, list[Pool]]]:
        networks: dict[str, StackNetwork] = {}
        pools: dict[str, list[Pool]] = {}
        for name, value in given.items():
            if name.startswith("x-"):
                continue
            path, value = key_path("networks", name), value or {}
            pools[name] = self._pools(stack, name, path, value)
            external = value.get("external")
            networks[name] = StackNetwork(
                name=name,
                path=path,
                bridge=external if isinstance(external, str) else bridge_name(stack, name),
                gateways=tuple(p.gateway for p in pools[name]),
                masquerade=value.get("masquerade", False),
                internal=value.get("internal", False),
                external=external is not None and external is not False,
                mtu=value.get("mtu"),
            )
            if networks[name].internal and networks[name].masquerade:
                self.problem(
                    "NS318",
                    f"{path}.masquerade",
                    "an internal network has no way out to translate addresses on",
                    "remove `masquerade` or `internal`",
                    key=True,
                )
        self._apart(networks, pools)
        return networks, pools

    def _pools(self, stack: str, name: str, path: str, value: dict[str, Any]) -> list[Pool]:
        given = value.get("subnet")
        if given is None:
            return [Pool(default_subnet(stack, name))]
        words = given if isinstance(given, list) else [given]
        found: list[Pool] = []
        for index, word in enumerate(words):
            place = f"{path}.subnet"
            place = item_path(place, index) if isinstance(given, list) else place
            try:
                subnet = subnet_of(str(word))
                if subnet.num_addresses < 4:
                    raise ValueError
            except ValueError:
                self.problem(
                    "NS203",
                    place,
                    f"{quote(str(word))} is no network for containers",
                    "write it as in `10.10.0.0/24`",
                )
                continue
            if any(p.subnet.version == subnet.version for p in found):
                self.problem("NS318", place, f"a second IPv{subnet.version} network")
                continue
            found.append(Pool(subnet))
        return found

    def _apart(self, networks: dict[str, StackNetwork], pools: dict[str, list[Pool]]) -> None:
        known: list[tuple[str, Pool]] = []
        for name in networks:
            for pool in pools[name]:
                for other, one in known:
                    if one.subnet.version == pool.subnet.version and one.subnet.overlaps(
                        pool.subnet
                    ):
                        self.problem(
                            "NS318",
                            f"{networks[name].path}.subnet",
                            f"{pool.subnet} has addresses of the network {quote(other)}",
                            "give each network a `subnet` of its own",
                            span=self.document.spans.get(f"{networks[name].path}.subnet")
                            or self.document.key_spans.get(networks[name].path),
                        )
                known.append((name, pool))

    def _on_networks(
        self,
        members: list[Member],
        services: list[_Service],
        networks: dict[str, StackNetwork],
        pools: dict[str, list[Pool]],
    ) -> list[Member]:
        """Addresses first: everybody's hosts file has everybody else's."""
        by_name = {s.name: s for s in services}
        wanted = {s.name: self._wanted(s, networks, pools) for s in services}
        addressed = []
        for member in members:
            addresses = {}
            service = by_name[member.service]
            for name, fixed in wanted[member.service].items():
                try:
                    addresses[name] = tuple(
                        p.take(f) if (f := _of(fixed, p)) is not None else p.next()
                        for p in pools[name]
                    )
                except Full:
                    self.problem(
                        "NS318",
                        f"{service.path}.networks",
                        f"the network {quote(name)} has no address left",
                        "give it a larger `subnet`",
                        key=True,
                    )
                if fixed and member.number > 1:
                    self.problem(
                        "NS318",
                        f"{service.path}.networks",
                        "several containers cannot have one address",
                        "remove `address` or `replicas`",
                        key=True,
                    )
            addressed.append(dataclasses.replace(member, addresses=MappingProxyType(addresses)))
        return [
            dataclasses.replace(m, spec=self._connected(m, by_name[m.service], networks, addressed))
            for m in addressed
        ]

    def _wanted(
        self, service: _Service, networks: dict[str, StackNetwork], pools: dict[str, list[Pool]]
    ) -> dict[str, list[IPAddress]]:
        from ipaddress import ip_address

        given = service.data.get("networks") or {}
        names = dict.fromkeys(given) if isinstance(given, list) else given
        found: dict[str, list[IPAddress]] = {}
        for index, (name, value) in enumerate(names.items()):
            place = f"{service.path}.networks"
            place = item_path(place, index) if isinstance(given, list) else key_path(place, name)
            if name not in networks:
                self.problem(
                    "NS318",
                    place,
                    f"there is no network {quote(name)} in this stack",
                    _close(name, set(networks)) or f"add `{name}: {{}}` to `networks`",
                    key=not isinstance(given, list),
                )
                continue
            found[name] = []
            word = (value or {}).get("address")
            for text in [word] if isinstance(word, str) else word or []:
                self._fixed(found[name], text, f"{place}.address", pools[name], ip_address)
        return found

    def _fixed(
        self, found: list[IPAddress], text: str, place: str, pools: list[Pool], parse: Any
    ) -> None:
        try:
            address: IPAddress = parse(text)
        except ValueError:
            self.problem("NS203", place, f"{quote(text)} is no IP address")
            return
        pool = next((p for p in pools if p.is_usable(address)), None)
        if pool is None:
            subnets = ", ".join(str(p.subnet) for p in pools)
            self.problem("NS318", place, f"{address} is no address for a container in {subnets}")
        elif not pool.is_free(address):
            self.problem("NS318", place, f"{address} is taken", label="by the bridge, or another")
        else:
            pool.take(address)
            found.append(address)

    def _connected(
        self,
        member: Member,
        service: _Service,
        networks: dict[str, StackNetwork],
        everybody: list[Member],
    ) -> Spec:
        """The container's spec with an interface on each of its networks."""
        spec = member.spec
        if not member.addresses:
            return spec
        if not spec.new(NamespaceType.NETWORK):
            self.problem(
                "NS301",
                f"{service.path}.networks",
                "`networks` needs a new network namespace",
                "add `network` to `namespaces`",
                key=True,
            )
            return spec
        own = spec.network or Network()
        taken = {i.name for i in own.interfaces}
        interfaces, routes = list(own.interfaces), list(own.routes)
        spans = dict(spec.spans)
        number = 0
        for name, addresses in member.addresses.items():
            network = networks[name]
            while f"eth{number}" in taken:
                number += 1
            interface, path = f"eth{number}", f"networks.{name}"
            taken.add(interface)
            span = self.document.spans.get(f"{service.path}.networks")
            if span is not None:
                spans[path] = span
            interfaces.append(
                Interface(
                    path=path,
                    name=interface,
                    type=LinkType.VETH,
                    addresses=addresses,
                    mtu=network.mtu,
                    peer=Peer(bridge=network.bridge),
                )
            )
            if not network.internal:
                routes += self._defaults(network, addresses, routes, path)
        hosts = {**own.hosts, **_hosts(member, everybody)}
        return dataclasses.replace(
            spec,
            network=dataclasses.replace(
                own,
                interfaces=tuple(interfaces),
                routes=tuple(routes),
                hosts=MappingProxyType(hosts) if spec.new(NamespaceType.MOUNT) else own.hosts,
            ),
            spans=MappingProxyType(spans),
        )

    def _defaults(
        self,
        network: StackNetwork,
        addresses: tuple[InterfaceAddress, ...],
        routes: list[Route],
        path: str,
    ) -> list[Route]:
        """A default route of each family, by the first network that has one."""
        from ipaddress import ip_network

        known = {r.to.version for r in routes if not r.to.prefixlen}
        return [
            Route(
                path=path,
                to=ip_network("0.0.0.0/0" if gateway.version == 4 else "::/0"),
                via=gateway.ip,
            )
            for gateway in network.gateways
            if gateway.version not in known and gateway.version in {a.version for a in addresses}
        ]

    # --- order -------------------------------------------------------------------------------

    def _ordered(self, members: list[Member], services: dict[str, _Service]) -> list[Member]:
        """Each after what it depends on, otherwise as in the file; a circle is an error."""
        order: list[str] = []
        state: dict[str, int] = {}
        depends = {m.service: m.depends_on for m in members}

        def visit(name: str, trail: tuple[str, ...]) -> None:
            if state.get(name) == 2 or name not in depends:
                return
            state[name] = 1
            for dependency in depends[name]:
                if state.get(dependency.service) == 1:
                    circle = " -> ".join((*trail, name, dependency.service))
                    self.problem(
                        "NS318",
                        dependency.path,
                        f"the containers wait for each other: {circle}",
                        "remove one of the dependencies",
                        span=self._span(services[name], dependency.path),
                    )
                    continue
                visit(dependency.service, (*trail, name))
            state[name] = 2
            order.append(name)

        for member in members:
            visit(member.service, ())
        return sorted(members, key=lambda m: order.index(m.service))


def _restart(value: Any) -> Restart:
    if value is None:
        return Restart()
    if isinstance(value, str):
        return Restart(policy=value)  # type: ignore[arg-type]
    return Restart(policy=value.get("policy", "no"), max=value.get("max"))


def _of(addresses: list[IPAddress], pool: Pool) -> IPAddress | None:
    return next((a for a in addresses if a.version == pool.subnet.version), None)


def _hosts(member: Member, everybody: list[Member]) -> dict[str, IPAddress]:
    """The names that a container finds: of everybody on one of its networks, by service and, of
    several, by number."""
    found: dict[str, IPAddress] = {}
    for other in everybody:
        for network, addresses in other.addresses.items():
            if network not in member.addresses or not addresses:
                continue
            names = [other.service]
            if other.number:
                names.append(f"{other.service}-{other.number}")
            for name in names:
                if other is not member or other.number:
                    found.setdefault(name, addresses[0].ip)
    if member.spec.hostname is not None:
        found.pop(member.spec.hostname, None)
    return found


def _plain(tree: Tree) -> dict[str, Any]:
    def value(one: Tree) -> Any:
        if one.entries is not None:
            return {k: value(v) for k, v in one.entries.items()}
        if one.items is not None:
            return [value(v) for v in one.items]
        return one.value

    found = value(tree)
    return found if isinstance(found, dict) else {}


def _close(word: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {quote(close[0])}?" if close else ""
