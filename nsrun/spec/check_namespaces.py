"""Checks about namespaces: what is listed, and what needs one that is not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from nsrun.diag import Diagnostic
from nsrun.spec.checking import Problems, looks_at, problem, written
from nsrun.spec.model import IdMap, IdRange, Namespace, NamespaceType, Spec
from nsrun.spec.names import CONTAINER_NAME, sysctl_namespace
from nsrun.spec.path import key_path
from nsrun.spec.words import quote

# user_namespaces(7): the last id is never mapped, it means "no change".
_IDS_END = 0xFFFF_FFFF
# linux/user_namespace.h, UID_GID_MAP_MAX_EXTENTS.
_MAX_LINES = 340
# A map is written by one write(2) of less than a page (user_namespaces(7)).
_MAX_TEXT = 4096
# The kernel refuses an offset that leads past half of KTIME_SEC_MAX (time_namespaces(7)).
_MAX_OFFSET = (1 << 63) // 2


def _needs(spec: Spec, path: str, kind: NamespaceType, *, new: bool = False) -> Diagnostic:
    listed = "a new " if new else "the "
    return problem(
        spec, "NS301", path, f"`{path}` needs {listed}{kind} namespace",
        label="this would change the caller's own" if not new else "",
        help=(f"add `{kind}` to `namespaces`",),
    )  # fmt: skip


@looks_at("hostname", "domainname", "namespaces")
def hostname_needs_uts(spec: Spec) -> Problems:
    if spec.namespace(NamespaceType.UTS) is None:
        for key in written(spec, "hostname", "domainname"):
            yield _needs(spec, key, NamespaceType.UTS)


@looks_at("idmap", "namespaces")
def idmap_needs_user(spec: Spec) -> Problems:
    if spec.idmap is None:
        return
    user = spec.namespace(NamespaceType.USER)
    if user is None:
        yield _needs(spec, "idmap", NamespaceType.USER)
    elif user.joined:
        yield problem(
            spec,
            "NS318",
            "idmap",
            "a user namespace that is joined has its id map",
            label="a map is written once, by who makes the namespace",
            help=("remove `idmap`",),
        )


@looks_at("network", "namespaces")
def network_needs_network(spec: Spec) -> Problems:
    if spec.network is not None and spec.namespace(NamespaceType.NETWORK) is None:
        yield _needs(spec, "network", NamespaceType.NETWORK)


@looks_at("namespaces")
def file_system_needs_mount(spec: Spec) -> Problems:
    mount = spec.namespace(NamespaceType.MOUNT)
    if mount is not None and not mount.joined:
        return
    keys = list(
        written(spec, "rootfs", "mounts", "files", "propagation", "default_mounts", "devices")
    )
    keys += (k for k in written(spec, "masked_paths", "readonly_paths") if _is_list(spec, k))
    for key in keys:
        if mount is None:
            yield _needs(spec, key, NamespaceType.MOUNT, new=True)
        else:
            yield problem(
                spec,
                "NS318",
                key,
                f"`{key}` cannot change a mount namespace it joins",
                label="it would stay behind there",
                help=(f"remove `{key}`, or make a new mount namespace",),
            )


def _is_list(spec: Spec, key: str) -> bool:
    value = spec.masked_paths if key == "masked_paths" else spec.readonly_paths
    return isinstance(value, tuple)


@looks_at("init", "namespaces")
def init_needs_pid(spec: Spec) -> Problems:
    if spec.init and not spec.new(NamespaceType.PID):
        yield _needs(spec, "init", NamespaceType.PID, new=True)


@looks_at("namespaces", each=("mounts",))
def idmapped_mount_needs_user(spec: Spec) -> Problems:
    for mount in spec.mounts:
        if mount.idmap is True and spec.namespace(NamespaceType.USER) is None:
            path = f"{mount.path}.idmap"
            yield problem(
                spec,
                "NS301",
                path,
                f"`{path}` needs the user namespace",
                help=("add `user` to `namespaces`, or give the ids",),
            )


@looks_at("namespaces", "hostname", "domainname", each=("sysctl",))
def sysctl_is_namespaced(spec: Spec) -> Problems:
    for name, value in spec.sysctl.items():
        path = key_path("sysctl", name)
        kind = sysctl_namespace(name)
        if kind is None:
            dotted = name.replace("/", ".")
            yield problem(
                spec,
                "NS314",
                path,
                f"{quote(name)} belongs to no namespace",
                label="it would be set for the whole machine, or does not exist",
                help=(
                    f"write {quote(dotted)}"
                    if sysctl_namespace(dotted)
                    else "net.*, fs.mqueue.*, user.max_*, kernel.msg*, kernel.sem*, "
                    "kernel.shm* and kernel.hostname can be set",
                ),
                key=True,
            )
        elif spec.namespace(kind) is None:
            yield problem(
                spec,
                "NS301",
                path,
                f"{quote(name)} needs the {kind} namespace",
                label="this would change the caller's own",
                help=(f"add `{kind}` to `namespaces`",),
                key=True,
            )
        elif "\n" in value:
            yield problem(spec, "NS314", path, f"the value of {quote(name)} has more than one line")
        elif name.removeprefix("kernel.") in spec.spans and kind is NamespaceType.UTS:
            yield problem(
                spec,
                "NS318",
                path,
                f"{quote(name)} is given twice",
                notes=(f"`{name.removeprefix('kernel.')}` sets the same",),
                key=True,
            )


@looks_at("namespaces")
def namespaces_are_listed_once(spec: Spec) -> Problems:
    first: dict[NamespaceType, int] = {}
    for index, namespace in enumerate(spec.namespaces):
        before = first.setdefault(namespace.type, index)
        if before != index:
            yield problem(
                spec,
                "NS302",
                f"namespaces[{index}]",
                f"the {namespace.type} namespace is listed twice",
                notes=(f"first at {spec.span(f'namespaces[{before}]')}",),
            )


@looks_at("namespaces")
def a_namespace_is_joined_in_one_way(spec: Spec) -> Problems:
    for index, namespace in enumerate(spec.namespaces):
        path = f"namespaces[{index}]"
        ways = [
            key
            for key, value in (("path", namespace.join_path), ("pid", namespace.join_pid),
                               ("container", namespace.join_container))
            if value is not None
        ]  # fmt: skip
        if len(ways) > 1:
            yield problem(
                spec,
                "NS318",
                path,
                f"`{ways[0]}` and `{ways[1]}` both say what to join",
                help=("keep one of them",),
            )
        if ways and namespace.pin is not None:
            yield problem(
                spec,
                "NS318",
                f"{path}.pin",
                "only a new namespace can be pinned",
                label=f"`{ways[0]}` joins one that is there already",
                help=("remove `pin`",),
            )
        if namespace.join_container and not CONTAINER_NAME.fullmatch(namespace.join_container):
            yield problem(
                spec,
                "NS316",
                f"{path}.container",
                f"{quote(namespace.join_container)} cannot be a container's name",
            )


@looks_at("namespaces")
def offsets_are_for_a_new_time_namespace(spec: Spec) -> Problems:
    for index, namespace in enumerate(spec.namespaces):
        for key, value in (("boottime", namespace.boottime), ("monotonic", namespace.monotonic)):
            path = f"namespaces[{index}].{key}"
            if value is not None:
                yield from _offset(spec, namespace, path, value)


def _offset(spec: Spec, namespace: Namespace, path: str, value: int) -> Problems:
    if namespace.type is not NamespaceType.TIME:
        yield problem(
            spec,
            "NS318",
            path,
            f"{namespace.type.one} has no clock offset",
            help=("offsets belong to the time namespace",),
        )
    elif namespace.joined:
        yield problem(
            spec,
            "NS318",
            path,
            "the clocks of a joined time namespace are set",
            label="offsets are written before the first process enters",
        )
    elif abs(value) > _MAX_OFFSET:
        yield problem(spec, "NS203", path, "a clock offset of more than 146 years")


@looks_at("idmap", each=("mounts",))
def id_ranges_are_sound(spec: Spec) -> Problems:
    maps = [("idmap", spec.idmap)]
    maps += [(f"{m.path}.idmap", m.idmap) for m in spec.mounts if isinstance(m.idmap, IdMap)]
    for path, idmap in maps:
        if idmap is not None:
            yield from _ranges(spec, f"{path}.uid", idmap.uid)
            yield from _ranges(spec, f"{path}.gid", idmap.gid)
            if path == "idmap" or idmap.kind != "explicit":
                continue
            for key, ranges in (("uid", idmap.uid), ("gid", idmap.gid)):
                if not ranges:
                    # mount_setattr(2) takes no user namespace that lacks one of the maps.
                    what = f"an idmapped mount needs a map of {key}s"
                    yield problem(spec, "NS303", f"{path}.{key}", what)


def _ranges(spec: Spec, path: str, ranges: tuple[IdRange, ...]) -> Problems:
    if len(ranges) > _MAX_LINES:
        yield problem(spec, "NS303", path, f"{len(ranges)} id ranges: the most is {_MAX_LINES}")
        return
    text = "".join(f"{r.container} {r.host} {r.size}\n" for r in ranges)
    if len(text) >= _MAX_TEXT:
        yield problem(
            spec,
            "NS303",
            path,
            "the id ranges are too many",
            label=f"as text they have {len(text)} bytes, the most is {_MAX_TEXT - 1}",
        )
        return
    sound = []
    for index, entry in enumerate(ranges):
        place = f"{path}[{index}]"
        if entry.size < 1:
            yield problem(spec, "NS303", place, "an id range of no ids", help=("the least is 1",))
        elif max(entry.container, entry.host) + entry.size > _IDS_END:
            yield problem(
                spec,
                "NS303",
                place,
                "an id range leaves the range of ids",
                label=f"ids end at {_IDS_END - 1}",
            )
        else:
            sound.append((index, entry))
    yield from _overlaps(spec, path, sound)


def _overlaps(spec: Spec, path: str, sound: list[tuple[int, IdRange]]) -> Problems:
    for (before, first), (index, second) in combinations(sound, 2):
        for side in _common_sides(first, second):
            yield problem(
                spec,
                "NS303",
                f"{path}[{index}]",
                f"id ranges overlap {side}",
                notes=(f"the other is at {spec.span(f'{path}[{before}]')}",),
            )
            break


def _common_sides(a: IdRange, b: IdRange) -> Iterator[str]:
    for side, first, second in (("inside", a.container, b.container), ("outside", a.host, b.host)):
        if first < second + b.size and second < first + a.size:
            yield f"{side} the container"
