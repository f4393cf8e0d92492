"""A stack's file -> the Stack it means, or everything that is wrong with it.

Each container is put together as a document of its own (``extends`` merged, the stack's own keys
taken out), read and checked like a file with one container, and then put on its networks.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from nsrun.diag import Diagnostic, NsrunError
from nsrun.spec.build import build_parts, default_name
from nsrun.spec.check import check
from nsrun.spec.document import Document
from nsrun.spec.linemap import with_values
from nsrun.spec.model import NamespaceType, Network, Spec
from nsrun.spec.names import CONTAINER_NAME
from nsrun.spec.path import key_path
from nsrun.spec.reader import Reader
from nsrun.spec.schema import validate
from nsrun.spec.source import read_source
from nsrun.spec.stack import Healthcheck, Member, Restart, Secret, Stack, Volume
from nsrun.spec.stack_depends import depends_on, ordered
from nsrun.spec.stack_extends import services
from nsrun.spec.stack_include import with_includes
from nsrun.spec.stack_networks import networks_of, on_networks
from nsrun.spec.stack_reading import Reading, Service
from nsrun.spec.stack_secrets import check_definitions, with_secrets
from nsrun.spec.stack_together import check_together
from nsrun.spec.stack_volumes import of_volumes, volumes_of, with_volumes
from nsrun.spec.tree import Tree, document_of, tree_of, without
from nsrun.spec.units import parse_duration
from nsrun.spec.values import NOTHING, Inputs
from nsrun.spec.words import quote

# A bridge has 1023 ports (net/bridge/br_private.h: BR_MAX_PORTS), and each container is planned for
# some milliseconds, as it is for every network it is on.
_MEMBERS_MAX = 500
_NETWORKS_MAX = 250
_TOGETHER_MAX = 5000
# What a container of a stack has beside the keys of a container's own file.
OWN_KEYS = frozenset(
    {
        *("networks", "volumes", "healthcheck", "extends", "depends_on", "restart", "replicas"),
        *("profiles", "secrets", "configs"),
    }
)


def load_stack(
    path: str,
    *,
    profiles: frozenset[str] = frozenset(),
    all_profiles: bool = False,
    volumes: str = "/var/lib/nsrun/volumes",
    inputs: Inputs = NOTHING,
    stacks: str = "/run/nsrun/stacks",
    document: Document | None = None,
) -> tuple[Stack, tuple[Diagnostic, ...]]:
    """Read the stack at ``path``; returns it with its warnings.

    ``profiles``: those asked for, or all; ``volumes``: the folder of named volumes; ``inputs``:
    what a template is given; ``stacks``: the folder of what is known of stacks; ``document``: the
    file's, where it has been read already. Raises NsrunError
    with everything that is wrong, sorted by place.
    """
    whole = with_includes(document or read_source(path, inputs), inputs)
    document = whole.document
    reading = Reading(
        document=document,
        inputs=inputs,
        included=whole.inputs,
        profiles=None if all_profiles else profiles,
        volumes_folder=volumes,
        stacks=stacks,
    )
    reading.report.extend(whole.found)
    stack = _read(reading)
    found = tuple(map(with_values, reading.report.sorted()))
    if stack is None or any(d.is_error for d in found):
        raise NsrunError(found)
    return stack, found


def extended(document: Document, inputs: Inputs, included: Mapping[str, Inputs]) -> Tree:
    """A stack's document with each container laid over what it extends; what cannot be read of
    that is left out. ``included``: the inputs of containers that came from other files."""
    reading = Reading(
        document=document, profiles=None, volumes_folder="/", inputs=inputs, included=included
    )
    tree = tree_of(document)
    containers = tree.get("containers")
    if containers is not None and containers.entries is not None:
        found = services(reading, document.data if isinstance(document.data, dict) else {})
        containers.entries.update({service.name: service.tree for service in found})
    return tree


def _read(reading: Reading) -> Stack | None:
    document = reading.document
    wrong = validate(document)
    if reading.report.diagnostics or any(d.path.startswith("include") for d in wrong):
        # What is missing may be in the file that cannot be included.
        wrong = [d for d in wrong if d.path]
    reading.report.extend(wrong)
    if any(d.is_error for d in reading.report.diagnostics):
        return None
    data: dict[str, Any] = document.data if isinstance(document.data, dict) else {}
    if not _are_names(reading, data):
        return None
    name = data.get("name") or default_name(document.file)
    found = services(reading, data)
    networks, pools = networks_of(reading, name, data.get("networks") or {})
    volumes = volumes_of(reading, name, data.get("volumes") or {})
    for kind in ("secrets", "configs"):
        check_definitions(reading, kind, data.get(kind) or {})
    if not _are_few(reading, found):
        return None
    chosen = [s for s in found if _is_chosen(reading, s) and not s.broken]
    _require_some(reading, found, chosen)
    known = {s.name for s in found}
    members: list[Member] = []
    secrets: list[Secret] = []
    for service in chosen:
        made, kept = _members(reading, name, service, known, volumes)
        members += made
        secrets += kept
    members = on_networks(reading, members, found, networks, pools)
    check_together(reading, found, chosen, members)
    # They are made when the stack comes up.
    made_up = [v.folder for v in volumes.values() if v.named] + [s.copy for s in secrets]
    _check(reading, members, made_up)
    return Stack(
        name=name,
        file=document.file,
        sha256=document.sha256,
        networks=tuple(networks.values()),
        volumes=tuple(volumes.values()),
        secrets=tuple(secrets),
        members=tuple(ordered(reading, members)),
        spans=document.spans,
    )


def _are_names(reading: Reading, data: dict[str, Any]) -> bool:
    """Whether all that is named may be: folders are called after volumes and containers, which
    `down` removes, so that none may lead elsewhere."""
    found = True
    for section, most in (("networks", _NETWORKS_MAX), ("containers", _MEMBERS_MAX)):
        if len(data.get(section) or ()) > most:
            summary = f"the stack has more than {most} {section}"
            reading.problem("NS104", section, summary, "write several stacks", key=True)
            return False
    for section in ("networks", "volumes", "secrets", "configs", "containers"):
        for name in data.get(section) or ():
            if not name.startswith("x-") and CONTAINER_NAME.fullmatch(name) is None:
                found = False
                reading.problem(
                    "NS316",
                    key_path(section, name),
                    f"{quote(name)} cannot be the name of a {section[:-1]}",
                    "up to 64 letters, digits, `_`, `.` and `-`, the first a letter or a digit",
                    key=True,
                )
    return found


def _are_few(reading: Reading, found: list[Service]) -> bool:
    """Whether there are as many containers, on so many networks, as are planned in a second or
    two."""
    count = together = 0
    for service in found:
        replicas = int(service.data.get("replicas") or 1)
        count += replicas
        together += replicas * len(service.data.get("networks") or ())
        if count > _MEMBERS_MAX or together > _TOGETHER_MAX:
            summary = (
                f"the stack has more than {_MEMBERS_MAX} containers"
                if count > _MEMBERS_MAX
                else f"the stack's containers are on more than {_TOGETHER_MAX} networks together"
            )
            reading.problem("NS104", service.path, summary, "write several stacks", key=True)
            return False
    return True


def _check(reading: Reading, members: list[Member], later: list[str]) -> None:
    """Each container as it will be, on its networks; of several alike the first. ``later``: paths
    of the host that need not be there yet."""
    made = [f"`{path}`" for path in later]
    for member in members:
        if member.number > 1:
            continue
        reading.report.extend(
            d
            for d in check(member.spec)
            if d.code != "NS305" or not any(folder in d.summary for folder in made)
        )


def _require_some(reading: Reading, found: list[Service], chosen: list[Service]) -> None:
    profiles = sorted({str(name) for s in found for name in s.data.get("profiles") or ()})
    if profiles and not chosen and not any(s.broken for s in found):
        reading.problem(
            "NS318",
            "containers",
            "no container is brought up: all are of profiles, and none of these is asked for",
            f"nsrun up --profile {profiles[0]}",
            f"there are {', '.join(profiles)}" if len(profiles) > 1 else "",
            key=True,
        )


def _is_chosen(reading: Reading, service: Service) -> bool:
    wanted = service.data.get("profiles") or ()
    return not wanted or reading.profiles is None or bool(reading.profiles & set(wanted))


def _members(
    reading: Reading, stack: str, service: Service, known: set[str], volumes: dict[str, Volume]
) -> tuple[list[Member], tuple[Secret, ...]]:
    tree = with_volumes(reading, service, volumes)
    folders = {**reading.document.folders, **service.folders}
    document = document_of(without(tree, OWN_KEYS), reading.document, folders)
    reading.spans.update({f"{service.path}.{p}": s for p, s in document.spans.items() if p})
    found = validate(document)
    reading.report.extend(found)
    if any(d.is_error for d in found):
        return [], ()
    built = build_parts(document)
    reading.report.extend(built.diagnostics)
    if built.diagnostics:
        return [], ()
    spec, secrets = with_secrets(
        reading,
        service,
        of_volumes(built.spec, volumes.values()),
        os.path.join(reading.stacks, stack, "secrets", service.name),
    )
    common = Member(
        service=service.name,
        path=service.path,
        number=0,
        spec=spec,
        depends_on=depends_on(reading, service, known),
        healthcheck=_healthcheck(reading, service, document_of(tree, reading.document, {})),
        restart=_restart(service.data.get("restart")),
    )
    replicas = int(service.data.get("replicas", 1))
    numbers = [0] if replicas == 1 else range(1, replicas + 1)
    members = [
        dataclasses.replace(common, number=n, spec=_named(stack, service, spec, n, known))
        for n in numbers
    ]
    return members, secrets


def _named(stack: str, service: Service, spec: Spec, number: int, known: set[str]) -> Spec:
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
        spec,
        name=f"{stack}-{own}",
        hostname=hostname,
        namespaces=namespaces,
        network=_with_peers(stack, spec.network, known),
    )


def _with_peers(stack: str, network: Network | None, known: set[str]) -> Network | None:
    """The other end of a pair goes into a container of the stack by its name there."""
    if network is None:
        return None
    interfaces = tuple(
        dataclasses.replace(
            i, peer=dataclasses.replace(i.peer, container=f"{stack}-{i.peer.container}")
        )
        if i.peer.container in known
        else i
        for i in network.interfaces
    )
    return dataclasses.replace(network, interfaces=interfaces)


def _healthcheck(reading: Reading, service: Service, document: Document) -> Healthcheck | None:
    given = service.data.get("healthcheck")
    if given is None:
        return None
    times = {
        key: parse_duration(given[key])
        for key in ("interval", "timeout", "start_period")
        if key in given
    }
    for key, time in times.items():
        if not time and key != "start_period":
            reading.problem(
                "NS203",
                f"{service.path}.healthcheck.{key}",
                f"`{key}` of a healthcheck is more than nothing",
                "as in `10s`",
            )
    command = given["command"]
    reader = Reader(document, "/")
    words = (
        ("/bin/sh", "-c", command)
        if isinstance(command, str)
        else tuple(reader.text(v, f"healthcheck.command[{i}]") for i, v in enumerate(command))
    )
    return Healthcheck(command=words, retries=given.get("retries", 3), **times)


def _restart(value: Any) -> Restart:
    if value is None:
        return Restart()
    if isinstance(value, str):
        return Restart(policy=value)  # type: ignore[arg-type]
    return Restart(policy=value.get("policy", "no"), max=value.get("max"))
