"""What is no longer as a plan has made it: the expected and the observed, compared.

Only what the plan says is compared; of what it says nothing of (what the command does in its own
files) nothing is told. A process may lower its own soft limits and drop capabilities: that is no
drift, and neither is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from nsrun.kernel.observed import Link, Observed, Question, Route, SeenMount
from nsrun.plan.expected import Expected, Text, expected
from nsrun.plan.expected_mounts import Mount
from nsrun.plan.expected_network import Wanted
from nsrun.plan.model import Action, Origin, Plan, Track

_NOTHING = "-"
# What the kernel makes in every new network namespace where its module is loaded
# (net.core.fb_tunnels_only_for_init_net of ip-sysctl.rst).
_FALLBACKS = frozenset(
    ("lo", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0",
     "ip6gre0", "ip6erspan0")
)  # fmt: skip
# linux/rtnetlink.h: RTPROT_BOOT and RTPROT_STATIC, which people and programs like ip(8) give.
_BY_PEOPLE = (3, 4)
# A text that is longer than this is shown by its beginning.
_SHOWN = 80
_PAGE = 4096


_UPDATE = Action(
    track=Track.PARENT, what="change limits", origin=Origin(rule="nsrun update"), steps=()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """``what`` is expected to be ``expected`` and found ``found``; "-" for nothing. ``origin``: why
    it was to be so, None for what nobody has asked for."""

    what: str
    expected: str
    found: str
    origin: Origin | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What is no difference, and is to be known all the same."""

    what: str
    why: str


def updated(wanted: Expected, limits: Mapping[str, str]) -> tuple[Expected, tuple[Note, ...]]:
    """``wanted`` with ``limits`` that nsrun itself has written since the start, texts by their
    files, and what was planned otherwise."""
    files, notes = dict(wanted.files), []
    for path, text in limits.items():
        planned = wanted.files.get(path)
        if planned is not None and _is_text(planned, text):
            continue
        before = _short(planned.text) if planned is not None else "without a limit"
        notes.append(Note(what=path, why=f"{_short(text)} by nsrun update, planned {before}"))
        files[path] = Text(path=path, text=text, action=_UPDATE)
    return replace(wanted, files=files), tuple(notes)


def question(wanted: Expected) -> Question:
    """What :func:`compare` has to know."""
    return Question(
        targets=tuple(dict.fromkeys(m.target for m in wanted.mounts)),
        sources=tuple(dict.fromkeys(m.bound for m in wanted.mounts if m.bound)),
        files=tuple(wanted.files),
        sysctls=tuple(wanted.sysctls),
        namespaces=tuple(dict.fromkeys(j.path for j in wanted.joined)),
        tables=tuple((t.program, t.name) for t in wanted.tables),
    )


def drift(plan: Plan, seen: Observed) -> tuple[Difference, ...]:
    """The differences in the order of the plan's subjects."""
    return tuple(compare(expected(plan), seen))


def compare(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    """All that ``seen`` tells otherwise than ``wanted``."""
    yield from _namespaces(wanted, seen)
    yield from _names(wanted, seen)
    yield from _mounts(wanted, seen)
    yield from _links(wanted, seen)
    yield from _routes(wanted, seen)
    yield from _host(wanted, seen)
    yield from _texts(wanted, seen)
    yield from _process(wanted, seen)


def _differ(what: str, wanted: str, found: str, action: Action | None) -> Iterator[Difference]:
    if wanted != found:
        origin = action.origin if action is not None else None
        yield Difference(what=what, expected=wanted, found=found, origin=origin)


# --- namespaces ------------------------------------------------------------------------------


def _namespaces(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    joined = {entry.kind for entry in wanted.joined}
    for kind, action in wanted.made.items():
        own, callers = seen.namespaces.get(kind), seen.callers.get(kind)
        if own is not None and own == callers and kind not in joined:
            yield from _differ(f"namespace {kind}", "its own", "the host's", action)
    for entry in wanted.joined:
        own, there = seen.namespaces.get(entry.kind), seen.joined.get(entry.path)
        if own is not None and there is not None and entry.kind not in wanted.made:
            yield from _differ(
                f"namespace {entry.kind}", f"that of {entry.path}: {there}", _same(own, there,
                f"that of {entry.path}: {there}"), entry.action
            )  # fmt: skip
    for kind, own in seen.namespaces.items():
        callers = seen.callers.get(kind)
        known = kind in wanted.made or kind in joined
        if not known and callers is not None:
            yield from _differ(
                f"namespace {kind}", "the host's", _same(own, callers, "the host's"), None
            )


def _same(own: int, other: int, text: str) -> str:
    return text if own == other else f"another: {own}"


def _names(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    for what, entry, found in (
        ("hostname", wanted.hostname, seen.hostname),
        ("domainname", wanted.domainname, seen.domainname),
    ):
        if entry is not None and found is not None:
            yield from _differ(what, entry[0], found, entry[1])


# --- mounts ----------------------------------------------------------------------------------


def _mounts(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    lines = {line.ident: line for line in seen.mounts}
    known: set[int] = set()
    last = {mount.target: mount for mount in wanted.mounts}
    for target, mount in last.items():
        if target not in seen.places:
            continue
        place = seen.places[target]
        line = lines.get(place or 0)
        if line is None:
            if not mount.sure and (place is None or _source_is_gone(mount, seen)):
                continue
            yield from _differ(f"mount {target}", _kind(mount), _NOTHING, mount.action)
            continue
        known.add(line.ident)
        found = _other(mount, line, seen)
        if found is not None:
            yield from _differ(f"mount {target}", *found, mount.action)
            continue
        yield from _flags(mount, line)
    if wanted.has_root and seen.mounts:
        yield from _extra(wanted, seen, known)


def _source_is_gone(mount: Mount, seen: Observed) -> bool:
    return bool(mount.bound) and mount.bound not in seen.sources


def _kind(mount: Mount) -> str:
    if mount.fstype:
        return mount.fstype
    return f"bind of {mount.bound}" if mount.bound else "bind"


def _other(mount: Mount, line: SeenMount, seen: Observed) -> tuple[str, str] | None:
    """What is expected and found where something else is mounted there."""
    if mount.fstype:
        if mount.fstype != line.fstype:
            return mount.fstype, line.fstype
        return None
    source = seen.sources.get(mount.bound)
    root = line.root.removesuffix("//deleted")
    if source is not None and (source.fstype, source.root) != (line.fstype, root):
        return _kind(mount), f"{line.fstype} {line.root}"
    return None


def _flags(mount: Mount, line: SeenMount) -> Iterator[Difference]:
    what, why = f"mount {mount.target}", mount.changed or mount.action
    words = {word: word in line.options for word in mount.flags}
    yield from _differ(what, _words(mount.flags), _words(words), why)
    if mount.atime:
        yield from _differ(what, mount.atime, _atime(line), why)
    if mount.propagation:
        yield from _differ(what, mount.propagation, _propagation(line), why)


def _words(flags: dict[str, bool]) -> str:
    """``ro,nosuid``: those that are set, and ``rw`` where it may be written."""
    first = ["rw"] if flags.get("ro") is False else []
    return ",".join(first + [word for word, is_set in flags.items() if is_set]) or _NOTHING


def _atime(line: SeenMount) -> str:
    """mountinfo has no word for strictatime."""
    known = (word for word in ("relatime", "noatime") if word in line.options)
    return next(known, "strictatime")


def _propagation(line: SeenMount) -> str:
    for field, word in (("shared:", "shared"), ("master:", "slave"), ("unbindable", "unbindable")):
        if any(one.startswith(field) for one in line.propagation):
            return word
    return "private"


def _extra(wanted: Expected, seen: Observed, known: set[int]) -> Iterator[Difference]:
    """Mounts that no step has made. What lies below a whole tree that was bound came with it, and
    what a tree gets from its peers was asked for."""
    whole = [m.target for m in wanted.mounts if m.whole]
    targets = {m.target for m in wanted.mounts}
    for line in seen.mounts:
        came = any(_is_below(line.target, target) for target in whole)
        received = any(word.startswith("master:") for word in line.propagation)
        if line.ident in known or line.target in targets or came or received:
            continue
        if line.ident in seen.places.values():
            continue
        yield from _differ(f"mount {line.target}", _NOTHING, line.fstype, None)


def _is_below(path: str, top: str) -> bool:
    return top != "/" and path.startswith(top.rstrip("/") + "/")


# --- network ---------------------------------------------------------------------------------


def _links(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    if seen.links is None:
        return
    found = {link.name: link for link in seen.links}
    for name, entry in wanted.networks.inside.items():
        yield from _link("", entry, found.get(name), {})
    lo = found.get("lo")
    lifted = wanted.networks.lo
    if lifted is not None and lo is not None:
        yield from _differ("link lo", "up", _up(lo), lifted)
    if "net" not in wanted.made or wanted.others:
        return
    for name, link in found.items():
        if name not in _FALLBACKS and name not in wanted.networks.inside:
            yield from _differ(f"link {name}", _NOTHING, link.kind or "a device", None)


def _up(link: Link) -> str:
    return "up" if link.up else "down"


def _link(
    where: str, entry: Wanted, link: Link | None, names: dict[int, str]
) -> Iterator[Difference]:
    wanted = entry.link
    what = f"{where}link {wanted.name}"
    if link is None:
        yield from _differ(what, wanted.kind or "a device", _NOTHING, entry.action)
        return
    if wanted.kind:
        yield from _differ(what, wanted.kind, link.kind or "a device", entry.action)
    is_up = wanted.up or entry.lifted is not None
    yield from _differ(what, "up" if is_up else "down", _up(link), entry.lifted or entry.action)
    if wanted.mtu:
        yield from _differ(what, f"mtu {wanted.mtu}", f"mtu {link.mtu}", entry.action)
    if wanted.mac:
        yield from _differ(what, wanted.mac, link.mac, entry.action)
    if entry.master:
        master = names.get(link.master, _NOTHING)
        yield from _differ(what, f"port of {entry.master}", f"port of {master}", entry.action)
    for address, action in entry.addresses.items():
        there = address if address in link.addresses else _NOTHING
        yield from _differ(f"{where}address of {wanted.name}", address, there, action)
    for address in link.addresses:
        if address not in entry.addresses:
            yield from _differ(f"{where}address of {wanted.name}", _NOTHING, address, None)


def _routes(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    if seen.links is None:
        return
    names = {link.index: link.name for link in seen.links}
    left = list(seen.routes)
    for entry in wanted.networks.routes:
        route = next((r for r in left if _is_route(entry.route, entry.dev, r, names)), None)
        if route is not None:
            left.remove(route)
            continue
        yield from _differ("route", _route(entry.route, entry.dev), _NOTHING, entry.action)
    if "net" in wanted.made and not wanted.others:
        for route in left:
            if route.protocol in _BY_PEOPLE:
                yield from _differ(
                    "route", _NOTHING, _route(route, names.get(route.index, "")), None
                )


def _is_route(wanted: Route, dev: str, route: Route, names: dict[int, str]) -> bool:
    return (
        (wanted.to, wanted.via, wanted.kind) == (route.to, route.via, route.kind)
        and (not dev or names.get(route.index) == dev)
        and (not wanted.metric or wanted.metric == route.metric)
    )


_KINDS = {6: "blackhole ", 7: "unreachable ", 8: "prohibit "}


def _route(route: Route, dev: str) -> str:
    text = _KINDS.get(route.kind, "") + ("default" if route.to.endswith("/0") else route.to)
    text += f" via {route.via}" if route.via else ""
    text += f" dev {dev}" if dev and route.kind == 1 else ""
    return text + (f" metric {route.metric}" if route.metric else "")


def _host(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    """The host's part: outer ends, bridges, tables."""
    if seen.host_links is not None:
        found = {link.name: link for link in seen.host_links}
        names = {link.index: link.name for link in seen.host_links}
        for name, entry in wanted.networks.host.items():
            yield from _link("host: ", entry, found.get(name), names)
    for table in wanted.tables:
        if table.name not in seen.tables:
            continue
        rules = seen.tables[table.name]
        shown = _NOTHING if rules is None else _count(rules)
        yield from _differ(
            f"host: table inet {table.name}", _count(table.rules), shown, table.action
        )


def _count(rules: int) -> str:
    return "1 rule" if rules == 1 else f"{rules} rules"


# --- files -----------------------------------------------------------------------------------


def _texts(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    for entry in wanted.sysctls.values():
        name = entry.path.removeprefix("/proc/sys/").replace("/", ".")
        yield from _text(f"sysctl {name}", entry, seen.sysctls.get(entry.path))
    for entry in wanted.files.values():
        name = entry.path
        if name.startswith("/proc/sys/"):
            name = f"host: sysctl {name.removeprefix('/proc/sys/').replace('/', '.')}"
        yield from _text(name, entry, seen.files.get(entry.path))


def _text(what: str, entry: Text, found: str | None) -> Iterator[Difference]:
    if not entry.sure or found is None or _is_text(entry, found):
        return
    yield from _differ(what, _short(entry.text), _short(found), entry.action)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "\u2026"


def _is_text(entry: Text, found: str) -> bool:
    """As far as the kernel gives a text back in other words than it was written."""
    wanted, is_found = entry.text.split(), found.split()
    if wanted == is_found:
        return True
    file = entry.path.rpartition("/")[2]
    if file.startswith("cpuset."):
        return _numbers(entry.text) == _numbers(found)
    if len(wanted) == 1 and wanted[0].isdigit() and found.strip().isdigit():
        # Memory is counted in pages (page_counter_memparse).
        return file.startswith("memory.") and int(wanted[0]) // _PAGE == int(found) // _PAGE
    if len(wanted) > 1 and ":" in wanted[0]:
        # A line for each device.
        lines = (line.split() for line in found.splitlines())
        return any(line[:1] == wanted[:1] and set(wanted) <= set(line) for line in lines)
    return False


def _numbers(text: str) -> set[int]:
    """``0-2,4``"""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            found |= set(range(int(first), int(last if last.isdigit() else first) + 1))
    return found


# --- the process -----------------------------------------------------------------------------


def _process(wanted: Expected, seen: Observed) -> Iterator[Difference]:
    for number, (most, action) in wanted.limits.items():
        if number in seen.limits:
            shown = _limit(seen.limits[number])
            yield from _differ(_limit_name(number), _limit(most), shown, action)
    if wanted.oom is not None and seen.oom_score_adj is not None:
        yield from _differ(
            "oom_score_adj", wanted.oom.text.strip(), seen.oom_score_adj, wanted.oom.action
        )
    if not seen.status:
        return
    if wanted.no_new_privs is not None:
        found = seen.status.get("NoNewPrivs", _NOTHING)
        yield from _differ("no_new_privileges", "1", found, wanted.no_new_privs)
    if wanted.filtered is not None:
        found = seen.status.get("Seccomp", _NOTHING)
        yield from _differ("seccomp", "mode 2", f"mode {found}", wanted.filtered)
    bounding = int(seen.status.get("CapBnd", "0"), 16)
    for number, action in wanted.dropped.items():
        if bounding >> number & 1:
            yield from _differ("capability", _NOTHING, _capability(number), action)


def _limit(value: int | None) -> str:
    return "unlimited" if value is None else str(value)


def _limit_name(number: int) -> str:
    from nsrun.kernel.abi import RlimitResource

    known = {int(r): r.name.removeprefix("RLIMIT_").lower() for r in RlimitResource}
    return f"rlimit {known.get(number, str(number))}"


def _capability(number: int) -> str:
    from nsrun.kernel.abi import Capability

    return {int(c): c.name for c in Capability}.get(number, str(number))
