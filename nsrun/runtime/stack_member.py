"""One container of a stack that is kept: how it is now."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nsrun.runtime.control import Monitor
from nsrun.runtime.health import Check
from nsrun.runtime.logs import Reader
from nsrun.spec.stack import Member

# As Docker waits: a tenth of a second, doubled each time, up to a minute; who has run for ten
# seconds begins anew.
BACKOFF, BACKOFF_MAX, STEADY = 0.1, 60.0, 10.0


class State(StrEnum):
    """Of one container of the stack."""

    WAITING = "waiting"
    RUNNING = "running"
    RESTARTING = "restarting"
    EXITED = "exited"
    FAILED = "failed"


@dataclass(slots=True, kw_only=True)
class Kept:
    """A member and how it is now. ``status``: its last exit status; times are monotonic seconds.

    ``healthy`` is None where it has no healthcheck or none has ended yet. ``held``: what it is when
    it ends, where that is somebody's command and no matter of its restart policy. ``joins``: the
    containers whose namespaces it shares; ``follows``: it is restarted because one of them was.
    """

    member: Member
    state: State = State.WAITING
    status: int | None = None
    restarts: int = 0
    backoff: float = BACKOFF
    since: float = 0.0
    again_at: float | None = None
    monitor: Monitor | None = None
    log: Reader | None = None
    check: Check | None = None
    healthy: bool | None = None
    held: State | None = None
    joins: frozenset[str] = frozenset()
    follows: bool = False

    @property
    def name(self) -> str:
        return self.member.spec.name

    @property
    def runs(self) -> bool:
        return self.state is State.RUNNING

    def stop_check(self) -> None:
        if self.check is not None:
            self.check.stop()
            self.check = None
