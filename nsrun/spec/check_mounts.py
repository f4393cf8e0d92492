"""Checks about mounts: what each needs, and what they do to each other."""

from __future__ import annotations

from bisect import bisect_left, insort

from nsrun.diag import Diagnostic, Severity
from nsrun.spec.checking import Problems, looks_at, problem
from nsrun.spec.model import Mount, NamespaceType, Spec
from nsrun.spec.mount_words import ATTRIBUTES, contradictions
from nsrun.spec.words import did_you_mean, quote, quote_path

_DEFAULT_TARGETS = ("/proc", "/sys", "/dev")


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


def _umount(spec: Spec, mount: Mount) -> Problems:
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


@looks_at("mounts", "rootfs", "default_mounts", "namespaces")
def mounts_do_not_hide_earlier_ones(spec: Spec) -> Problems:
    has_defaults = spec.rootfs is not None and spec.default_mounts
    defaults = _DEFAULT_TARGETS if has_defaults and spec.new(NamespaceType.MOUNT) else ()
    standing: dict[str, str] = dict.fromkeys(defaults, "")
    order = sorted(standing)
    for mount in spec.mounts:
        if mount.type == "umount":
            if standing.pop(mount.target, None) is not None:
                order.remove(mount.target)
        elif mount.type and not mount.remount:
            hidden = mount.target if standing.get(mount.target) else _below(order, mount.target)
            if hidden is not None:
                where = spec.span(standing[hidden])
                yield problem(
                    spec, "NS310", mount.path, f"this mount hides the one on {quote_path(hidden)}",
                    severity=Severity.WARNING,
                    help=("put it before the one it hides",),
                    notes=(f"the hidden one is at {where}" if standing[hidden]
                           else "the hidden one is a default mount",),
                )  # fmt: skip
            # One on the target of a default mount, which has no path, replaces it.
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
