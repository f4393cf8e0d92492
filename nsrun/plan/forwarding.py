"""Forwarding between a container's link and the ways out, switched on for as long as it is needed.

Whether a packet is forwarded is asked of the interface it comes in by: the container's link for
what it sends, the way out for the answers (the kernel's Documentation/networking/ip-sysctl.rst).
What is the host's own is switched off again by the last container that needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nsrun.kernel import abi, calls
from nsrun.kernel.abi import FlockOperation, OpenFlag
from nsrun.kernel.facts import Facts, Forwarding, Switch, switch_mark
from nsrun.kernel.values import Expect, Reg
from nsrun.plan.draft import Draft
from nsrun.plan.ops import Op

_ALL_IPV6 = "net/ipv6/conf/all/forwarding"
# statx(2): stx_nlink of struct statx.
_NLINK_AT = 16
_PROC = "/proc/sys/"
# How the two actions on a shared switch are called.
SHARED = " together with other containers"
MARKED = " while containers need it"


class Switches:
    """The sysctls that a container's packets need, each turned on once."""

    def __init__(self, draft: Draft, facts: Facts, forwarding: Forwarding, at: str) -> None:
        self._draft = draft
        self._state = facts.state
        self._facts = forwarding
        self._at = at
        self._seen: set[str] = set()

    def guarded(self, version: int, links: Iterable[str]) -> tuple[str, ...]:
        """What only containers' packets may come in by, because nsrun alone has opened it: the
        ways out, and of a container's ``links`` those that the host keeps (bridges)."""
        ways = self._facts.ipv4 if version == 4 else self._facts.ipv6
        names = dict.fromkeys((*ways, *links))
        return tuple(name for name in names if self._is_opened(self._key(version, name)))

    def open(self, version: int, link: str, *, shared: bool) -> None:
        """Let packets through ``link`` and the ways out; ``shared``: the host keeps the link."""
        for key in self._keys(version, link):
            self._turn_on(key, shared=shared or f"/{link}/" not in key)

    def own_loopback(self, link: str, *, shared: bool) -> None:
        """Let the answers to 127.0.0.1 in by ``link``, which are not the host's own packets."""
        self._turn_on(f"net/ipv4/conf/{link}/route_localnet", shared=shared)

    def _keys(self, version: int, link: str) -> Iterator[str]:
        ways = self._facts.ipv4 if version == 4 else self._facts.ipv6
        yield self._key(version, link)
        yield from (self._key(version, name) for name in ways)

    def _key(self, version: int, name: str) -> str:
        if version == 4:
            return f"net/ipv4/conf/{name}/forwarding"
        # Since Linux 6.17 an interface can forward for itself.
        own = "net/ipv6/conf/lo/force_forwarding" in self._facts.switches
        return f"net/ipv6/conf/{name}/force_forwarding" if own else _ALL_IPV6

    def _is_opened(self, key: str) -> bool:
        known = self._facts.switches.get(key)
        return known is not None and (not known.on or known.ours)

    def _turn_on(self, key: str, *, shared: bool) -> None:
        if key in self._seen or self._already(key):
            return
        self._seen.add(key)
        if shared:
            self._turn_on_shared(key)
        else:
            self._draft.parent(
                f"set {key.replace('/', '.')} to 1", *self._write(key, "1"), at=self._at
            )

    def _already(self, key: str) -> bool:
        """What forwards for the whole of IPv6 does so for each interface."""
        switches = self._facts.switches
        known = switches.get(key, Switch(on=False, ours=False))
        whole = switches.get(_ALL_IPV6, Switch(on=False, ours=False))
        if key.endswith("/force_forwarding") and whole.on and not whole.ours:
            return True
        return known.on and not known.ours

    def _turn_on_shared(self, key: str) -> None:
        """The mark is locked by everybody who needs the switch; who cannot have it alone when he
        goes leaves it to the others."""
        draft, state = self._draft, self._state
        if state is None:
            draft.refuse("NS402", "nsrun has no folder for what containers share", self._at)
            return
        self._make_folder(state)
        path = switch_mark(state, self._facts.netns, key)
        lock = draft.reg("mark")
        oflags = OpenFlag.O_RDWR | OpenFlag.O_CREAT | OpenFlag.O_CLOEXEC | OpenFlag.O_NOFOLLOW
        there = Expect(_NLINK_AT, 4, abi.UINT_MAX, 1, "the mark is still there")
        name = key.replace("/", ".")
        draft.parent(
            f"hold {name}{SHARED}",
            calls.openat(calls.CWD, path, oflags, 0o600, save=lock),
            at=self._at,
            undo=self._if_alone(path, lock, calls.unlinkat(calls.CWD, path)),
        )
        draft.parent(
            f"keep {name}{MARKED}",
            calls.flock(lock, FlockOperation.LOCK_SH),
            # Who went last may have removed it while this one waited for the lock.
            calls.statx(lock, there),
            at=self._at,
            undo=self._if_alone(path, lock, *self._write(key, "0", gone=("ENOENT",))),
        )
        # An action of its own: it is undone however far it has come.
        draft.parent(f"set {name} to 1", *self._write(key, "1"), at=self._at)

    def _make_folder(self, state: str) -> None:
        if state in self._seen:
            return
        self._seen.add(state)
        self._draft.parent(
            f"make {state}",
            calls.allow(calls.mkdirat(calls.CWD, state, 0o755), accept=("EEXIST",)),
            at=self._at,
            undo=(
                calls.allow(
                    calls.unlinkat(calls.CWD, state, abi.AtFlag.AT_REMOVEDIR),
                    accept=("ENOTEMPTY", "ENOENT"),
                ),
            ),
        )

    def _if_alone(self, path: str, lock: Reg, *steps: Op) -> tuple[Op, ...]:
        """Undo steps that are left out while others have the mark. A launcher that was killed
        has let go of its own; then the first of them is left out by who undoes in its place."""
        last = self._draft.reg("mark")
        opened = calls.openat(calls.CWD, path, OpenFlag.O_RDWR | OpenFlag.O_CLOEXEC, save=last)
        alone = FlockOperation.LOCK_EX | FlockOperation.LOCK_NB
        return (
            calls.flock(lock, FlockOperation.LOCK_UN),
            calls.allow(opened, skip=("ENOENT",)),
            calls.allow(calls.flock(last, alone), skip=("EAGAIN",)),
            *steps,
            calls.close(last),
        )

    def _write(self, key: str, value: str, *, gone: tuple[str, ...] = ()) -> list[Op]:
        fd: Reg = self._draft.reg(key.rpartition("/")[2])
        opened = calls.openat(
            calls.CWD, _PROC + key, OpenFlag.O_WRONLY | OpenFlag.O_CLOEXEC, save=fd
        )
        return [
            calls.allow(opened, accept=gone),
            calls.write(fd, value.encode()),
            calls.close(fd),
        ]
