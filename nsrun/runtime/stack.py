"""Keeping a stack up: one process that starts its containers in order, watches them and starts
them again. It sleeps until something happens; only health has a clock.

Each container has a monitor of its own and goes on without this process. Whoever comes next,
after an end that was not meant, finds what runs by its folders.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from nsrun.diag import Diagnostic, NsrunError
from nsrun.runtime import detached, events, life, secrets, stack_store, store
from nsrun.runtime.control import Monitor, end_of
from nsrun.runtime.detached import Options, Starting
from nsrun.runtime.health import Check
from nsrun.runtime.logs import Reader
from nsrun.runtime.stack_changes import Changes, joined, plan_changes
from nsrun.runtime.stack_door import Answer, Door
from nsrun.runtime.stack_down import Say, end, remove_volumes, take_down
from nsrun.runtime.stack_member import BACKOFF, BACKOFF_MAX, STEADY, Kept, State
from nsrun.runtime.stack_networks import bridges_of, network_name, require_free, start_networks
from nsrun.runtime.stack_order import may_start, never, unwell
from nsrun.runtime.stack_watched import joins, write_watched
from nsrun.spec.stack import Stack

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Failed(Exception):
    """The stack cannot come up; what there is to say has been said."""


@dataclass(slots=True, kw_only=True)
class Supervisor:
    """``say`` is told of each change (a container's name, what became of it), ``report`` of what
    is wrong; ``output``, where it is given, of what containers write (name, stream, text).
    ``words``: the command line that asks. ``thorough``: every healthcheck is waited for.
    ``found``: the containers that were up already, as they are to be."""

    stack: Stack
    say: Say
    report: Callable[[Iterable[Diagnostic]], None]
    output: Callable[[str, str, str], None] | None = None
    words: tuple[str, ...] = ()
    kept: dict[str, Kept] = field(default_factory=dict)
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    lock: stack_store.Lock | None = None
    door: Door | None = None
    ending: bool = False
    yielding: bool = False
    thorough: bool = False
    found: frozenset[str] = frozenset()
    wakes: tuple[int, int] = (-1, -1)
    underway: tuple[Kept, Starting] | None = None

    # --- coming up ---------------------------------------------------------------------------

    def prepare(self) -> None:
        """Take the stack's lock, from who has it, and open its door. Raises NsrunError."""
        name = self.stack.name
        self.lock = stack_store.take(name)
        if self.lock is None:
            with contextlib.suppress(ConnectionError):
                for _ in stack_store.ask(name, {"do": "yield"}):
                    pass
            deadline = time.monotonic() + 10
            while self.lock is None and time.monotonic() < deadline:
                self.lock = stack_store.take(name)
                time.sleep(0.01)
        if self.lock is None:
            raise NsrunError(
                Diagnostic(
                    code="NS606",
                    summary=f"another process brings the stack {name} up or down",
                    help=("wait for it, or end it",),
                )
            )
        self._listen()

    def _listen(self) -> None:
        """To questions and signals."""
        self.door = Door(self.stack.name)
        self.selector.register(self.door, selectors.EVENT_READ, self._welcome)
        self.wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self.wakes[1])
        for number in (*_SIGNALS, signal.SIGCHLD):
            # What the caller ignores does not end it: nohup(1), a job in the background.
            if number == signal.SIGCHLD or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda *_: None)
        self.selector.register(self.wakes[0], selectors.EVENT_READ, self._signalled)

    def plan(self) -> Changes:
        """What is to be done; raises NsrunError where that cannot be said, and nothing has been."""
        secrets.write(self.stack)
        changes = plan_changes(self.stack)
        if changes.networks_changed:
            require_free(self.stack)
        secrets.renew(self.stack, changes.same)
        return changes

    def leave_as_it_was(self) -> None:
        """Give the stack back to a process that keeps what is up, where something is."""
        assert self.lock is not None
        if not any(container.alive for container in stack_store.containers(self.stack.name)):
            self.close(remove=not stack_store.containers(self.stack.name))
            return
        if os.fork() == 0:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            self._execute_keeper()
        self.lock.release()

    def up(self, changes: Changes) -> None:
        """Bring everything to where the stack wants it; returns when it is. Raises Failed."""
        self._write_down()
        for container in changes.removed:
            self.say(container.record.name, "removed")
            end(container)
        if changes.networks_changed:
            self._networks()
        wanted = {m.spec.name: m for m in self.stack.members}
        for name, member in wanted.items():
            self.kept[name] = Kept(member=member, joins=frozenset(joined(member, wanted)))
        self.found = frozenset(changes.same)
        known = stack_store.members(self.stack.name)
        for name in changes.same:
            self.kept[name].restarts = known.get(name, {}).get("restarts", 0)
            self._adopt(self.kept[name])
        if changes.same:
            # Whoever asks is told that their health is looked at anew.
            self.write_members()
        for name in changes.renamed:
            self._rename(self.kept[name])
        self._start_what_can()
        while not self.ending and not self.yielding and not self._is_up():
            self._turn()
        if self.ending:
            raise Failed
        # Also in the foreground: who takes over and cannot plan gives back what is known here.
        write_watched(self.stack)
        self.write_members()
        events.note(events.of_stack(self.stack.name, "start"))

    def become_lean(self) -> NoReturn:
        """Go on as a process that has never planned anything: it needs a third of the memory.

        The lock goes along; the door is opened anew.
        """
        assert self.lock is not None
        write_watched(self.stack)
        self.write_members()
        self._execute_keeper()

    def _execute_keeper(self) -> NoReturn:
        assert self.lock is not None
        os.set_inheritable(self.lock.fd, True)
        words = ("@keep", self.stack.name, str(self.lock.fd))
        os.execv(sys.executable, (sys.executable, "-P", "-m", "nsrun", *words))

    def resume(self, lock: int) -> None:
        """Take up where another left off, with its lock."""
        self.lock = stack_store.Lock(lock)
        os.set_inheritable(lock, False)
        self._listen()
        known = stack_store.members(self.stack.name)
        joined_by = joins(self.stack.name)
        for member in self.stack.members:
            kept = Kept(member=member, joins=joined_by.get(member.spec.name, frozenset()))
            self.kept[kept.name] = kept
            last = known.get(kept.name, {})
            kept.restarts = last.get("restarts", 0)
            found = store.load(os.path.join(store.folder(), kept.name))
            if found is None:
                kept.state = State.FAILED
            elif found.alive:
                self._adopt(kept)
                kept.healthy = last.get("healthy")
            else:
                kept.since = time.monotonic()
                self._ended(kept, 137 if found.exit_status is None else found.exit_status)
        self.write_members()

    def _write_down(self) -> None:
        stack = self.stack
        stack_store.write(
            stack.name,
            "stack.json",
            {
                "format": 1,
                "name": stack.name,
                "file": os.path.abspath(stack.file),
                "sha256": stack.sha256,
                "cwd": os.getcwd(),
                "words": list(self.words),
                "networks": [
                    {"name": n.name, "bridge": n.bridge, "external": n.external}
                    for n in stack.networks
                ],
                "volumes": [v.folder for v in stack.volumes if v.named],
            },
        )
        for volume in stack.volumes:
            if volume.named:
                # What a container's root makes set-user-ID in one, no user of the host may run.
                os.makedirs(os.path.dirname(volume.folder), mode=0o700, exist_ok=True)
                os.makedirs(volume.folder, mode=0o755, exist_ok=True)

    def _networks(self) -> None:
        if not bridges_of(self.stack).bridges:
            return
        self.say(stack_store.NETWORKS, "starting")
        if start_networks(self.stack).status:
            raise Failed
        self.say(stack_store.NETWORKS, "up")

    def _rename(self, kept: Kept) -> None:
        """Others have come or gone: the names a running container finds follow, in its file and
        in the plan that a restart replays."""
        from nsrun.runtime import names

        container = store.find(kept.name)
        made = detached.planned(kept.member.spec, detached.socket_of(container.folder))
        detached.keep(container.folder, made)
        if container.running:
            names.rewrite(container.pid, kept.member.spec)
        self.say(kept.name, "knows the new names")

    # --- starting ----------------------------------------------------------------------------

    def _start_what_can(self) -> None:
        """One after the other, but the next is planned while the last is on its way."""
        for kept in self.kept.values():
            if kept.state is not State.WAITING or self.ending:
                continue
            if not may_start(kept, self.kept.values()) or self._joins_underway(kept):
                self._finish_start()
            if may_start(kept, self.kept.values()):
                self._start(kept)
        self._finish_start()

    def _joins_underway(self, kept: Kept) -> bool:
        """Whether a plan of ``kept`` needs a pid that is not known yet."""
        return self.underway is not None and self.underway[0].name in kept.joins

    def _start(self, kept: Kept) -> None:
        options = Options(stack=self.stack.name, service=kept.member.service)
        try:
            prepared = detached.prepare(kept.member.spec, options)
        except NsrunError as error:
            self._finish_start()
            self.say(kept.name, "starting")
            self.report(error.diagnostics)
            self._fail(kept)
            return
        try:
            self._finish_start()
            self._notice_signals()
        except BaseException:
            prepared.discard()
            raise
        if self.ending:
            prepared.discard()
            return
        self.say(kept.name, "starting")
        self.underway = kept, detached.launch(prepared)

    def _finish_start(self) -> None:
        """Wait until who is on its way runs; raises Failed where it cannot."""
        if self.underway is None:
            return
        (kept, starting), self.underway = self.underway, None
        if starting.finish().status:
            self._fail(kept)
        else:
            self._adopt(kept)

    def _fail(self, kept: Kept) -> None:
        kept.state = State.FAILED
        self.say(kept.name, "failed")
        if not self.ending:
            raise Failed

    def _adopt(self, kept: Kept) -> None:
        """Watch a container that runs."""
        container = store.find(kept.name)
        if kept.log is None and self.output is not None:
            kept.log = Reader(container.folder)
        kept.state, kept.since = State.RUNNING, time.monotonic()
        try:
            monitor = Monitor(container)
            if self.output is not None:
                monitor.attach()
        except ConnectionError:
            # It has ended already: its folder says how.
            self.say(kept.name, "running")
            self._show(kept)
            self._ended(kept, life.wait(container))
            return
        kept.monitor = monitor
        self._show(kept)
        self.selector.register(kept.monitor, selectors.EVENT_READ, lambda: self._heard(kept))
        if kept.member.healthcheck is not None:
            kept.healthy = None
            kept.check = Check(kept.member.healthcheck, kept.name)
        self.say(kept.name, "running")

    # --- what happens ------------------------------------------------------------------------

    def _turn(self) -> None:
        """Sleep until something happens, and act on it."""
        for key, _ in self.selector.select(self._patience()):
            key.data()
        now = time.monotonic()
        for kept in self.kept.values():
            if (kept.again_at is not None and kept.again_at <= now) or self._may_follow(kept):
                self._again(kept)
            if kept.check is not None and kept.runs:
                self._look(kept)
        if not self.ending and not self.yielding:
            self._start_what_can()

    def _patience(self) -> float | None:
        """Seconds to the next clock that rings, None where there is none."""
        times = [k.again_at for k in self.kept.values() if k.again_at is not None]
        times += [k.check.next_at for k in self.kept.values() if k.check is not None and k.runs]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _notice_signals(self) -> None:
        """Between two starts, of which there may be hundreds."""
        with contextlib.suppress(BlockingIOError):
            self._signalled()

    def _signalled(self) -> None:
        for number in os.read(self.wakes[0], 4096):
            if number in _SIGNALS:
                self.ending = True
        with contextlib.suppress(ChildProcessError):
            # Monitors and checks are children; how they ended is told otherwise.
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                for kept in self.kept.values():
                    if kept.check is not None:
                        kept.check.ended(found[0], os.waitstatus_to_exitcode(found[1]))

    def _heard(self, kept: Kept) -> None:
        assert kept.monitor is not None
        kind, data = kept.monitor.receive()
        # What it writes is read from the log, which also has what came before we listened.
        self._show(kept)
        if kind in ("o", "e"):
            return
        status = end_of(data).status if kind == "x" else None
        self._let_go(kept)
        found = store.load(os.path.join(store.folder(), kept.name))
        if status is None and found is not None:
            # Killed, or ending already when it was asked: then its folder says how.
            life.until_unlocked(found)
            found = store.load(found.folder)
        if status is None:
            known = found.exit_status if found is not None else None
            status = 137 if known is None else known
        self._ended(kept, status)

    def _show(self, kept: Kept) -> None:
        if self.output is None or kept.log is None:
            return
        for line in kept.log.new():
            self.output(kept.name, line.stream, line.text + ("" if line.part else "\n"))

    def _let_go(self, kept: Kept) -> None:
        if kept.monitor is not None:
            self.selector.unregister(kept.monitor)
            kept.monitor.close()
            kept.monitor = None

    def _ended(self, kept: Kept, status: int) -> None:
        kept.status, kept.state = status, State.EXITED
        kept.stop_check()
        self.say(kept.name, f"exited ({status})")
        restart = kept.member.restart
        if kept.held is not None:
            kept.state = kept.held
            self.write_members()
            return
        if kept.follows and not self.ending:
            # By the end of this turn, or once the other one runs that it joins.
            kept.state = State.RESTARTING
            self.write_members()
            return
        wanted = restart.policy == "always" or (restart.policy == "on-failure" and status != 0)
        if self.ending or not wanted or (restart.max is not None and kept.restarts >= restart.max):
            self.write_members()
            return
        if time.monotonic() - kept.since > STEADY:
            kept.backoff = BACKOFF
        kept.state, kept.again_at = State.RESTARTING, time.monotonic() + kept.backoff
        kept.backoff = min(2 * kept.backoff, BACKOFF_MAX)
        self.write_members()

    def _again(self, kept: Kept) -> None:
        kept.again_at = None
        # Who follows another has not failed: its own policy's `max` is not used up by that.
        follows, kept.follows = kept.follows, False
        kept.restarts += not follows
        container = store.load(os.path.join(store.folder(), kept.name))
        if container is None:
            kept.state = State.FAILED
            self.say(kept.name, "is gone")
            self.write_members()
            return
        life.until_unlocked(container)
        try:
            status = detached.again(container).status
        except NsrunError as error:
            if follows and self._is_behind(kept):
                kept.follows = True
                return
            self.report(error.diagnostics)
            status = 125
        if status:
            kept.since = time.monotonic()
            self._ended(kept, 125)
            return
        if follows:
            events.note(events.of(container.record, "restart"))
        self._adopt(kept)
        self._restart_joiners(kept)
        self.write_members()

    def _restart_joiners(self, kept: Kept) -> None:
        """A container has begun anew, and with it its namespaces: who shares them and still runs
        has those of its last life, and is restarted. Its end is heard of as any other is."""
        for other in self.kept.values():
            if not kept.runs or kept.name not in other.joins or not other.runs:
                continue
            if other.held is not None or other.monitor is None:
                continue
            other.follows = True
            self.say(other.name, f"follows {kept.name}")
            # It has ended just now, or is gone: what its monitor's end says is heard next.
            with contextlib.suppress(ConnectionError, NsrunError):
                life.resume(store.find(other.name))
                other.monitor.stop(signal.SIGTERM)

    def _may_follow(self, kept: Kept) -> bool:
        """Whether one that follows has ended, and none that it joins is on its way."""
        if not kept.follows or kept.state is not State.RESTARTING or self.ending:
            return False
        others = [self.kept[name] for name in kept.joins if name in self.kept]
        restarting = State.RESTARTING
        return not any(o.follows or restarting in (o.state, o.held) for o in others)

    def _is_behind(self, kept: Kept) -> bool:
        """Whether one that it joins has ended again, and that is still to be heard."""
        for name in kept.joins:
            found = store.load(os.path.join(store.folder(), name))
            if name in self.kept and self.kept[name].runs and not (found and found.alive):
                return True
        return False

    def _look(self, kept: Kept) -> None:
        assert kept.check is not None
        verdict = kept.check.turn()
        if verdict is None or verdict == kept.healthy:
            return
        kept.healthy = verdict
        word = "healthy" if verdict else "unhealthy"
        self.say(kept.name, word)
        found = store.load(os.path.join(store.folder(), kept.name))
        if found is not None:
            events.note(events.of(found.record, f"health_status: {word}"))
        self.write_members()

    def _is_up(self) -> bool:
        """Whether everything runs that can, or has ended, and all that it depends on is as it
        should be, also of what ran before; raises Failed where it never will."""
        everyone = self.kept.values()
        up = True
        for kept in everyone:
            if kept.state is State.WAITING or (kept.name in self.found and kept.runs):
                self._require_hope(never(kept, everyone, self.stack))
                up = up and kept.runs and may_start(kept, everyone)
            if self.thorough and kept.check is not None:
                self._require_hope(unwell(kept, self.stack))
                up = up and kept.healthy is True
        return up

    def _require_hope(self, wrong: Diagnostic | None) -> None:
        if wrong is not None:
            self.report((wrong,))
            raise Failed

    # --- being asked -------------------------------------------------------------------------

    def _welcome(self) -> None:
        assert self.door is not None
        self.door.welcome(self._asked)

    def _asked(self, question: Mapping[str, Any], answer: Answer) -> None:
        match question.get("do"):
            case "down":
                self.ending = True
                try:
                    self.down(lambda name, what: answer(name=name, what=what))
                except (NsrunError, OSError):
                    # Who asks finds that this one is gone, and meets the error itself.
                    os._exit(1)
                if question.get("volumes"):
                    remove_volumes(self.stack.name)
                self.close(remove=True)
                answer(name="", what="down")
                os._exit(0)
            case stack_store.HOLD | stack_store.AWAIT | stack_store.ADOPT as word:
                self._commanded(word, question.get("name"))
                answer(name=question.get("name"), what=word)
            case "yield":
                self.yielding = True
                self.close(remove=False)
                os._exit(0)
            case _:
                answer(name="", what="not understood")

    def _commanded(self, word: str, name: object) -> None:
        """Somebody stops or starts a single container, and says so before and after."""
        kept = self.kept.get(name) if isinstance(name, str) else None
        if kept is None or kept.state is State.WAITING:
            return
        if word != stack_store.ADOPT:
            kept.held = State.EXITED if word == stack_store.HOLD else State.RESTARTING
            kept.again_at, kept.follows = None, False
            if not kept.runs:
                kept.state = kept.held
        else:
            kept.held, kept.backoff, kept.follows = None, BACKOFF, False
            kept.stop_check()
            self._let_go(kept)
            # Whoever started it may have removed it again.
            with contextlib.suppress(NsrunError):
                self._adopt(kept)
                self._restart_joiners(kept)
        self.write_members()

    # --- going down --------------------------------------------------------------------------

    def down(self, say: Say | None = None) -> None:
        """Stop and remove everything, the last started first."""
        self.ending = True
        for kept in self.kept.values():
            self._forget(kept)
        take_down(self.stack.name, say or self.say)

    def _forget(self, kept: Kept) -> None:
        kept.again_at = None
        kept.stop_check()
        self._let_go(kept)

    def take_back(self) -> None:
        """End what this one has made; what was there before goes on, and is kept as before."""
        for kept in self.kept.values():
            if kept.name not in self.found:
                self._forget(kept)
        self.kept = {name: kept for name, kept in self.kept.items() if name in self.found}
        for container in stack_store.containers(self.stack.name)[::-1]:
            name = container.record.name
            if name not in self.found and name != network_name(self.stack.name):
                end(container)
                self.say(name, "removed")
        members = tuple(m for m in self.stack.members if m.spec.name in self.found)
        write_watched(replace(self.stack, members=members))
        self.write_members()
        self.leave_as_it_was()

    def close(self, *, remove: bool) -> None:
        """Give the lock back."""
        if remove:
            stack_store.remove(self.stack.name)
        if self.door is not None:
            self.door.close()
        if self.lock is not None:
            self.lock.release()

    def keep_once(self) -> None:
        """Sleep until something happens, and act on it."""
        self._turn()

    def is_over(self, name: str | None = None) -> bool:
        """Whether every container, or that one, has ended and is not started again."""
        over = (State.EXITED, State.FAILED)
        asked = [k for k in self.kept.values() if name in (None, k.name)]
        return bool(asked) and all(k.state in over for k in asked)

    def write_members(self) -> None:
        data = {
            name: {
                "state": kept.state.value,
                "healthy": kept.healthy,
                "has_check": kept.member.healthcheck is not None,
                "restarts": kept.restarts,
            }
            for name, kept in self.kept.items()
        }
        with contextlib.suppress(OSError):
            stack_store.write(self.stack.name, "members.json", data)
