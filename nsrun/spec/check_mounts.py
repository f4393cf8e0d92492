"""Checks about mounts: what each needs, and what they do to each other."""

from __future__ import annotations

from bisect import bisect_left, insort

from nsrun.diag import Diagnostic, Severity
from nsrun.spec.checking import Problems, looks_at, problem
from nsrun.spec.model import Mount, NamespaceType, Spec
from nsrun.spec.mount_words import ATTRIBUTES, contradictions
from nsrun.spec.words import did_you_mean, quote, quote_path

# File systems that show a namespace: mounting one needs rights over that namespace.
_SHOWS = {
    "proc": NamespaceType.PID,
    "sysfs": NamespaceType.NETWORK,
    "mqueue": NamespaceType.IPC,
    "cgroup": NamespaceType.CGROUP,
    "cgroup2": NamespaceType.CGROUP,
}


@looks_at(each=("mounts",))
def a_mount_has_what_its_type_needs(spec: Spec) -> Problems:
    for mount in spec.mounts:
        match mount.type:
            case "bind":
                yield from _bind(spec, mount)
            case "overlay":
                yield from _overlay(spec, mount)
            case "umount":
                yield from _umount(spec, mount)
            case "":
                yield from _change(spec, mount)
            case _:
                yield from _file_system(spec, mount)


def _lacks(spec: Spec, mount: Mount, what: str, help: str) -> Problems:
    yield problem(spec, "NS312", mount.path, what, help=(help,))


def _has_no(spec: Spec, mount: Mount, *keys: str) -> Problems:
    kind = quote(mount.type) if mount.type else "without a type"
    for key in keys:
        path = f"{mount.path}.{key}"
        if path in spec.spans:
            what = f"a mount {kind}" if not mount.type else f"a mount of type {kind}"
            yield problem(spec, "NS318", path, f"{what} has no `{key}`", help=(f"remove `{key}`",))


def _bind(spec: Spec, mount: Mount) -> Problems:
    yield from _has_no(spec, mount, "lower", "upper", "work")
    if mount.remount and not mount.source:
        return
    if not mount.source:
        yield from _lacks(spec, mount, "a bind without a source", "add `source: PATH`")


def _overlay(spec: Spec, mount: Mount) -> Problems:
    yield from _has_no(spec, mount, "recursive")
    if not mount.lower:
        yield from _lacks(spec, mount, "an overlay without a lower folder", "add `lower: [PATH]`")
    elif _is_alone(mount):
        yield from _lacks(
            spec,
            mount,
            "an overlay of one folder, with nothing over it",
            "add a second lower folder, or `upper` and `work`; or make it a bind",
        )
    if mount.upper is not None and mount.work is None:
        yield from _lacks(
            spec,
            mount,
            "an overlay with `upper` and without `work`",
            "add `work: PATH`, an empty folder on the file system of `upper`",
        )
    if mount.work is not None and mount.upper is None:
        yield from _lacks(
            spec,
            mount,
            "an overlay with `work` and without `upper`",
            "add `upper: PATH`, or remove `work`",
        )
    for option in mount.options:
        key = option.partition("=")[0]
        if key in ("lowerdir", "upperdir", "workdir"):
            yield problem(
                spec,
                "NS318",
                f"{mount.path}.options",
                f"{quote(key)} among the options",
                help=(f"write `{key.removesuffix('dir')}: PATH`",),
            )


def _is_alone(mount: Mount) -> bool:
    """overlayfs wants two layers at least, the upper one included."""
    other = mount.upper or mount.work or any(o.startswith("upperdir=") for o in mount.options)
    return len(mount.lower) == 1 and not other


def _umount(spec: Spec, mount: Mount) -> Problems:
    if mount.target == "/":
        # umount2(2) of the root of the mount namespace fails with EINVAL.
        yield problem(spec, "NS318", f"{mount.path}.target", "the root cannot be unmounted")
    yield from _has_no(
        spec,
        mount,
        "source",
        "options",
        "propagation",
        "recursive",
        "remount",
        "idmap",
        "lower",
        "upper",
        "work",
    )


def _change(spec: Spec, mount: Mount) -> Problems:
    yield from _has_no(spec, mount, "lower", "upper", "work")
    if mount.source:
        yield from _lacks(spec, mount, "a mount with a source needs a type", "add `type: bind`")
    elif not (mount.options or mount.propagation or mount.idmap):
        yield from _lacks(
            spec,
            mount,
            "a mount without a type that changes nothing",
            "add `type`, `options` or `propagation`",
        )


def _file_system(spec: Spec, mount: Mount) -> Problems:
    yield from _has_no(spec, mount, "recursive", "lower", "upper", "work")


@looks_at(each=("mounts",))
def the_root_is_not_mounted_over(spec: Spec) -> Problems:
    """A process's root is a place in a mount; one that is put on top of it stays out of sight."""
    for mount in spec.mounts:
        if mount.target == "/" and mount.type not in ("", "umount") and not mount.remount:
            yield problem(
                spec,
                "NS318",
                f"{mount.path}.target",
                "a mount on `/` is seen by nobody",
                label="the root would stay what it is, below it",
                help=("name the folder that becomes the root by `rootfs`",),
            )


@looks_at("namespaces", each=("mounts",))
def a_file_system_of_a_namespace_needs_it(spec: Spec) -> Problems:
    """Rights in a new user namespace reach over namespaces it owns, not over the caller's."""
    if not spec.new(NamespaceType.USER):
        return
    for mount in spec.mounts:
        kind = _SHOWS.get(mount.type)
        if kind is None or mount.remount or spec.namespace(kind) is not None:
            continue
        bind = f"{{type: bind, source: {mount.target}, target: {mount.target}}}"
        shown = "" if mount.type == "mqueue" else f", or use the caller's: {bind}"
        yield problem(
            spec,
            "NS301",
            f"{mount.path}.type",
            f"`type: {mount.type}` needs the {kind} namespace",
            label="in a user namespace only one of its own can be mounted",
            help=(f"add `{kind}` to `namespaces`{shown}",),
        )


@looks_at(each=("mounts",))
def mount_options_are_known(spec: Spec) -> Problems:
    for mount in spec.mounts:
        path = f"{mount.path}.options"
        for first, second in contradictions(mount.options):
            yield problem(
                spec,
                "NS313",
                path,
                f"{quote(first)} and {quote(second)} contradict",
                help=("keep one of them",),
            )
        if mount.type in ("bind", "", "umount") and not mount.remount:
            for word in mount.options:
                if word not in ATTRIBUTES:
                    yield _unknown(spec, path, word, mount)


def _unknown(spec: Spec, path: str, word: str, mount: Mount) -> Diagnostic:
    known = "," in word and all(part in ATTRIBUTES for part in word.split(","))
    help = f"write a list: `[{word}]`" if known else did_you_mean(word, ATTRIBUTES)
    label = "a bind has the options of a mount, not those of a file system"
    return problem(
        spec,
        "NS313",
        path,
        f"unknown option {quote(word)}",
        label=label if mount.type == "bind" else "",
        help=(help,),
    )


@looks_at("mounts")
def mounts_do_not_hide_earlier_ones(spec: Spec) -> Problems:
    standing: dict[str, str] = {}
    order: list[str] = []
    for mount in spec.mounts:
        if mount.type == "umount":
            if standing.pop(mount.target, None) is not None:
                order.remove(mount.target)
        elif mount.type and not mount.remount and mount.target != "/":
            hidden = mount.target if mount.target in standing else _below(order, mount.target)
            if hidden is not None:
                yield problem(
                    spec,
                    "NS310",
                    mount.path,
                    f"this mount hides the one on {quote_path(hidden)}",
                    severity=Severity.WARNING,
                    help=("put it before the one it hides",),
                    notes=(f"the hidden one is at {spec.span(standing[hidden])}",),
                )
            if mount.target not in standing:
                insort(order, mount.target)
            standing[mount.target] = mount.path


def _below(order: list[str], top: str) -> str | None:
    """The first of the sorted targets that lies below ``top``."""
    prefix = f"{top.rstrip('/')}/"
    for target in order[bisect_left(order, prefix) :][:2]:
        if target.startswith(prefix) and target != top:
            return target
    return None


@looks_at("mounts", "rootfs", "default_mounts", "namespaces")
def proc_belongs_to_the_pid_namespace(spec: Spec) -> Problems:
    if not spec.new(NamespaceType.PID):
        return
    pid = next(i for i, n in enumerate(spec.namespaces) if n.type is NamespaceType.PID)
    last = next((m for m in reversed(spec.mounts) if m.target == "/proc" and m.type), None)
    new_mounts = spec.new(NamespaceType.MOUNT)
    label = "programs like ps would show the processes of another pid namespace"
    if last is not None and new_mounts:
        if last.type != "proc" and not last.remount:
            yield problem(
                spec,
                "NS311",
                last.path,
                "/proc is not that of the new pid namespace",
                label=label,
                severity=Severity.WARNING,
                help=("use {type: proc, target: /proc}",),
            )
    elif not new_mounts or spec.rootfs is None or not spec.default_mounts:
        help = "add {type: proc, target: /proc} to `mounts`"
        if not new_mounts:
            help = f"add `mount` to `namespaces`, and {help.removeprefix('add ')}"
        yield problem(
            spec,
            "NS311",
            f"namespaces[{pid}]",
            "the new pid namespace gets no /proc of its own",
            label=label,
            severity=Severity.WARNING,
            help=(help,),
        )
