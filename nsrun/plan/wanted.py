"""What a plan has to know before it is made: the question that the host's facts answer."""

from __future__ import annotations

import os.path

from nsrun.kernel.facts import Query
from nsrun.plan.defaults import DEFAULT_TARGETS
from nsrun.plan.process import PASSED_ON
from nsrun.spec.model import Mount, NamespaceType, Spec


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
        containers=tuple(n.join_container for n in spec.namespaces if n.join_container),
        pids=tuple(n.join_pid for n in spec.namespaces if n.join_pid is not None),
    )


def _host_paths(spec: Spec) -> list[str]:
    paths: list[str] = []
    if spec.rootfs is not None:
        paths.append(spec.rootfs.path)
        overlay = spec.rootfs.overlay
        if overlay is not None:
            paths += [p for p in (overlay.upper, overlay.work) if p is not None]
    for namespace in spec.namespaces:
        paths += [p for p in (namespace.join_path, namespace.pin) if p is not None]
    for number, mount in enumerate(spec.mounts):
        if mount.type == "bind":
            paths.append(mount.source)
        paths += [*mount.lower, *(p for p in (mount.upper, mount.work) if p is not None)]
        paths += _behind_binds(mount, spec.mounts[:number])
    return paths


def _behind_binds(mount: Mount, earlier: tuple[Mount, ...]) -> list[str]:
    """The host paths at which mount points inside earlier binds would be made."""
    found = []
    for outer in earlier:
        inner = os.path.relpath(mount.target, outer.target)
        if outer.type == "bind" and not inner.startswith(".."):
            found.append(os.path.normpath(os.path.join(outer.source, inner)))
    return found


def _targets(spec: Spec) -> list[str]:
    if not spec.new(NamespaceType.MOUNT):
        return []
    targets = list(DEFAULT_TARGETS[:3]) if spec.rootfs and spec.default_mounts else []
    targets += [m.target for m in spec.mounts]
    for entry in spec.files:
        targets += [entry.target, os.path.dirname(entry.target)]
    return targets
