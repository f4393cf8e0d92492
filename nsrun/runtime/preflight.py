"""What a spec asks for and this machine or user does not have, found before anything is made.

The planner refuses what the facts rule out; here the rest is tried, each in a process of its
own that ends at once. A flat list of small rules; none stops another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from nsrun.diag import Diagnostic, NsrunError, sort_key
from nsrun.runtime import ceilings
from nsrun.runtime import preflight_files as files
from nsrun.runtime import preflight_namespaces as namespaces
from nsrun.runtime import preflight_network as network
from nsrun.runtime.subject import Problems, Subject
from nsrun.spec.model import Network, Spec

RULES: tuple[Callable[[Subject], Problems], ...] = (
    namespaces.kernel_is_new_enough,
    namespaces.namespaces_can_be_made,
    namespaces.namespaces_can_be_joined,
    namespaces.subordinate_ids_are_there,
    files.file_systems_can_be_mounted,
    files.sources_can_be_reached,
    files.mounts_can_be_idmapped,
    files.sysctls_are_there,
    files.command_is_there,
    namespaces.pins_can_be_kept,
    network.kinds_of_interfaces_are_there,
    network.interfaces_of_the_host_are_there,
    network.names_on_the_host_are_free,
    network.ports_are_free,
    network.a_tap_can_be_made,
    ceilings.limits_are_the_lowest,
)

# A path of a document begins with its top-level key: mounts[0].target.
_KEY = re.compile(r"[.\[]")
# What nearly every judgement of the planner rests on: with a default in their place it would be
# about another spec.
_GROUND = frozenset({"namespaces", "idmap", "rootfs"})


def preflight(
    spec: Spec, known: tuple[Diagnostic, ...] = (), broken: frozenset[str] = frozenset()
) -> tuple[Diagnostic, ...]:
    """Everything in ``spec`` that will not work here, by place, with what is ``known`` already.

    ``broken``: top-level keys that could not be read and have their default. Nothing is made.
    """
    from nsrun.host.facts import gather
    from nsrun.plan.build import plan, wanted

    if broken & _GROUND:
        return tuple(sorted(known, key=sort_key))
    spec = _what_holds(spec, [d.path for d in known if d.is_error])
    facts = gather(wanted(spec))
    made = None
    found: list[Diagnostic] = []
    try:
        made = plan(spec, facts)
    except NsrunError as error:
        found += error.diagnostics
    subject = Subject(spec=spec, facts=facts, plan=made)
    found += (one for rule in RULES for one in rule(subject))
    return tuple(sorted((*known, *_news(found, known, broken)), key=sort_key))


def _what_holds(spec: Spec, wrong: list[str]) -> Spec:
    """The spec without what is known to be wrong, as far as the planner would stumble over it or
    judge the rest by it."""
    mounts = tuple(m for m in spec.mounts if not any(_same(m.path, path) for path in wrong))
    idmap = None if any(_same("idmap", path) for path in wrong) else spec.idmap
    return replace(
        spec,
        mounts=mounts,
        idmap=idmap,
        network=_network_that_holds(spec.network, wrong),
        command=spec.command or ("true",),
    )


def _network_that_holds(network: Network | None, wrong: list[str]) -> Network | None:
    if network is None or not any(_same("network", path) for path in wrong):
        return network
    entries = ("network.interfaces[", "network.routes[", "network.ports[")
    if any(_same("network", path) and not path.startswith(entries) for path in wrong):
        return None

    def holds(path: str) -> bool:
        return not any(_same(path, one) for one in wrong)

    return replace(
        network,
        interfaces=tuple(i for i in network.interfaces if holds(i.path)),
        routes=tuple(r for r in network.routes if holds(r.path)),
        ports=tuple(p for p in network.ports if holds(p.path)),
    )


def _news(
    found: Iterable[Diagnostic], known: Iterable[Diagnostic], broken: frozenset[str]
) -> list[Diagnostic]:
    """What has not been said of the same place in other words; a later stage says it again."""
    told = [d.path for d in known if d.is_error and d.path]
    news: list[Diagnostic] = []
    for one in found:
        if one.path and (
            _KEY.split(one.path, 1)[0] in broken or any(_same(one.path, p) for p in told)
        ):
            continue
        if one not in news:
            news.append(one)
    return news


def _same(one: str, other: str) -> bool:
    """Whether one place is the other, or lies in it."""
    short, long = sorted((one, other), key=len)
    return long == short or long.startswith((short + ".", short + "["))
