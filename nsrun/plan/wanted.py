"""What a plan has to know before it is made: the question that the host's facts answer."""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Mapping

from nsrun.kernel.facts import Query
from nsrun.plan import nat, usernet
from nsrun.plan.cgroup_devices import narrows_devices
from nsrun.plan.covers import ancestors, components
from nsrun.plan.defaults import DEFAULT_TARGETS
from nsrun.plan.etc import name_files
from nsrun.plan.hooks import written_by
from nsrun.plan.process import PASSED_ON
from nsrun.spec.model import Landlock, LinkType, NamespaceType, Selinux, Spec


def wanted(spec: Spec) -> Query:
    """The query of a spec; it depends on the spec alone."""
    user = spec.user
    names = any(isinstance(value, str) for value in (user.uid, user.gid, *user.groups))
    number_alone = user.uid is not None and user.gid is None
    passed = [name for name, value in spec.env.items() if value is None]
    return Query(
        paths=tuple(dict.fromkeys(_host_paths(spec))),
        rootfs=spec.rootfs.path if spec.rootfs else None,
        targets=tuple(dict.fromkeys(_targets(spec))),
        users=names or number_alone,
        environment=tuple(dict.fromkeys((*PASSED_ON, *passed))),
        containers=tuple(dict.fromkeys(_containers(spec))),
        helpers=tuple(_helpers(spec)),
        forwarding=nat.is_wanted(spec),
        bridges=tuple(dict.fromkeys(_bridges(spec))),
        physical=tuple(dict.fromkeys(_physical(spec))),
        cgroups=spec.resources is not None or narrows_devices(spec),
        landlock=spec.landlock is not None,
        ways=tuple(dict.fromkeys(_ways(spec))),
        labels=spec.apparmor is not None or spec.selinux != Selinux(),
        pids=tuple(n.join_pid for n in spec.namespaces if n.join_pid is not None),
    )


def _ways(spec: Spec) -> Iterator[str]:
    """Hooks, and what the container may write to: whether it could write to them."""
    hooks = [*spec.hooks.prestart, *spec.hooks.poststart, *spec.hooks.poststop]
    if hooks:
        yield from (hook.path for hook in hooks)
        yield from written_by(spec)


def _helpers(spec: Spec) -> Iterator[str]:
    if nat.is_wanted(spec):
        yield "nft"
    if spec.network is not None and spec.network.mode == "user":
        yield from usernet.HELPERS
    if spec.resources is not None:
        yield "grep"


def _bridges(spec: Spec) -> Iterator[str]:
    for interface in spec.network.interfaces if spec.network is not None else ():
        if interface.peer.bridge is not None and nat.is_wanted(spec):
            yield interface.peer.bridge


def _physical(spec: Spec) -> Iterator[str]:
    if spec.network is None or not spec.new(NamespaceType.NETWORK):
        return
    for interface in spec.network.interfaces:
        if interface.type is LinkType.PHYSICAL:
            yield interface.parent or interface.name


def _containers(spec: Spec) -> Iterator[str]:
    yield from (n.join_container for n in spec.namespaces if n.join_container)
    for interface in spec.network.interfaces if spec.network is not None else ():
        if interface.peer.container is not None:
            yield interface.peer.container


# Optional binds on one target of which facts are wanted, and binds one in another; nobody has as
# many, and of 900 within each other the paths alone would fill the memory.
_ALTERNATIVES = 15


def _host_paths(spec: Spec) -> list[str]:
    paths: list[str] = []
    if spec.rootfs is not None:
        paths.append(spec.rootfs.path)
        overlay = spec.rootfs.overlay
        if overlay is not None:
            paths += [p for p in (overlay.upper, overlay.work) if p is not None]
    for namespace in spec.namespaces:
        paths += [p for p in (namespace.join_path, namespace.pin) if p is not None]
    paths += [limit.device for limit in spec.resources.io] if spec.resources is not None else []
    binds: dict[str, tuple[int, list[str]]] = {}
    for number, mount in enumerate(spec.mounts):
        target = "/" + "/".join(components(os.path.normpath(mount.target)))
        if mount.type == "bind" or (mount.optional and mount.source.startswith("/")):
            paths.append(mount.source)
        paths += [*mount.lower, *(p for p in (mount.upper, mount.work) if p is not None)]
        paths += _behind_binds(target, binds)
        if mount.type == "bind":
            # One that is there hides those before it; one that is optional may be left out.
            before = binds[target][1] if mount.optional and target in binds else []
            binds[target] = number, [*before[-_ALTERNATIVES:], mount.source]
    return paths


def _behind_binds(target: str, binds: Mapping[str, tuple[int, list[str]]]) -> list[str]:
    """The host paths at which a mount point inside earlier binds would be made.

    ``binds``: by their target, the latest one's number and the sources.
    """
    outer = sorted((top for top in ancestors(target) if top in binds), key=lambda t: binds[t][0])
    return [
        os.path.normpath(f"{source}/{target[len(top) :]}")
        for top in outer[-_ALTERNATIVES:]
        for source in binds[top][1]
    ]


def _targets(spec: Spec) -> list[str]:
    if not spec.new(NamespaceType.MOUNT):
        return _walled(spec)
    targets = list(DEFAULT_TARGETS[:3]) if spec.rootfs and spec.default_mounts else []
    targets += [m.target for m in spec.mounts]
    targets += _walled(spec)
    for entry in (*spec.files, *name_files(spec)):
        targets += [entry.target, os.path.dirname(entry.target)]
    return targets


def _walled(spec: Spec) -> list[str]:
    wall = spec.landlock
    return [*(wall.read or ()), *(wall.write or ())] if isinstance(wall, Landlock) else []
