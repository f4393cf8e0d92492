"""``nsrun up``: a stack comes up, or becomes what its file says now."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING

from nsrun.cli.parser import add_inputs, add_spec, examples

if TYPE_CHECKING:
    from nsrun.runtime.stack import Supervisor
    from nsrun.runtime.stack_changes import Changes
    from nsrun.spec.stack import Stack

# What the process that keeps a stack tells the one that waits.
_UP = b"up"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Starts the containers of a stack in their order, with its networks and volumes, and keeps "
        "them up: it starts again what its restart policy says. In the foreground it shows what "
        "they write, and Ctrl-C stops them in reverse order. Of a stack that is up already only "
        "what differs is made anew, compared by plans. What cannot come up is taken back; what was "
        "up before stays. With -d it returns when all runs, and all that others depend on is as "
        "they want it: started, healthy or completed."
    )
    add_spec(parser, help="the stack's file")
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "-d", "--detach", action="store_true", help="leave it up, and return when it is"
    )
    way.add_argument(
        "--exit-code-from",
        metavar="NAME",
        help="stop everything when this container ends for good, and exit with its status: a test",
    )
    parser.add_argument(
        "--wait", action="store_true", help="as -d, and until every healthcheck has passed"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be made, changed and removed"
    )
    parser.add_argument("--json", action="store_true", help="with --dry-run: as an object")
    parser.add_argument("--keep", action="store_true", help="leave what runs where not all can")
    from nsrun.cli.stacks import add_profiles

    add_profiles(parser)
    add_inputs(parser)
    examples(
        parser,
        """
nsrun up specs/stacks/shop.yaml
nsrun up -d specs/stacks/shop.yaml
nsrun up --dry-run specs/stacks/shop.yaml
nsrun up --exit-code-from client specs/stacks/rig.yaml
""",
    )


def main(args: argparse.Namespace) -> int:
    from nsrun.cli import stacks
    from nsrun.diag import Diagnostic, NsrunError

    stack = stacks.read(args)
    decisive = None if args.exit_code_from is None else _member(stack, args.exit_code_from)
    if args.json and not args.dry_run:
        raise NsrunError(
            Diagnostic(
                code="NS002",
                summary="--json goes with --dry-run",
                help=("what has come up: nsrun ps --json",),
            )
        )
    if args.dry_run:
        return _dry_run(stack, as_json=args.json)
    if args.wait and args.exit_code_from is not None:
        raise NsrunError(Diagnostic(code="NS002", summary="--exit-code-from waits for an end"))
    if args.detach or args.wait:
        return _detached(args, stack)
    return _foreground(args, stack, decisive)


def _member(stack: Stack, name: str) -> str:
    """The container of that name, or of that name in the file; raises NsrunError (NS605)."""
    from nsrun.diag import Diagnostic, NsrunError

    found = [m.spec.name for m in stack.members if name in (m.spec.name, m.service)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(found or [m.spec.name for m in stack.members])
    raise NsrunError(
        Diagnostic(
            code="NS605",
            summary=f"{name} stands for {len(found)} containers of the stack {stack.name}"
            if found
            else f"the stack {stack.name} has no container {name}",
            help=(f"name one of {names}",),
        )
    )


def _dry_run(stack: Stack, *, as_json: bool) -> int:
    import json

    from nsrun.runtime.stack_changes import plan_changes
    from nsrun.runtime.stack_watched import kept_otherwise

    changes = plan_changes(stack)
    nothing: list[str] = []
    found = [("make", name, nothing) for name in changes.made]
    found += [("make anew", name, nothing) for name in changes.changed]
    found += [
        ("remove", container.record.name, nothing)
        for container in changes.removed
        if container.record.name not in changes.changed
        and not container.record.holds_networks
    ]
    otherwise = kept_otherwise(stack)
    for name in changes.same:
        new = ["names in its /etc/hosts"] if name in changes.renamed else []
        found.append(("keep", name, [*new, *otherwise.get(name, ())]))
    if as_json:
        containers = [{"name": n, "do": w, **({"new": new} if new else {})} for w, n, new in found]
        networks = "make" if changes.networks_changed else "keep"
        print(json.dumps({"networks": networks, "containers": containers}, indent=2))
        return 0
    if changes.networks_changed:
        print("make the networks")
    ended = {container.record.name for container in changes.removed if not container.alive}
    for word, name, new in found:
        if word == "make anew":
            why = "it has ended" if name in ended else "its plan differs"
            print(f"make {name} anew: {why}")
        else:
            print(f"{word} {name}" + (f", with the new {' and '.join(new)}" if new else ""))
    return 0


def _supervisor(stack: Stack, teller_output: bool) -> Supervisor:
    from nsrun.cli.stacks import Output, Teller
    from nsrun.runtime.stack import Supervisor

    teller = Teller(stack.name)
    output = Output((m.spec.name for m in stack.members), stack.name)
    return Supervisor(
        stack=stack,
        words=tuple(sys.argv[1:]),
        say=teller.say,
        report=teller.report,
        output=output.write if teller_output else None,
    )


def _planned(supervisor: Supervisor) -> Changes:
    """What is to be done; where that cannot be said, what is up stays up."""
    supervisor.prepare()
    try:
        return supervisor.plan()
    except BaseException:
        supervisor.leave_as_it_was()
        raise


def _take_back(supervisor: Supervisor, *, keep: bool) -> None:
    """After a failure, or a signal before all was up: what was up before stays after a failure."""
    if keep and not supervisor.ending:
        supervisor.close(remove=False)
    elif supervisor.found and not supervisor.ending:
        supervisor.take_back()
    else:
        supervisor.down()
        supervisor.close(remove=True)


def _foreground(args: argparse.Namespace, stack: Stack, decisive: str | None) -> int:
    """Keep the stack until a signal, or until all has ended, or the container ``decisive``;
    the exit status is then its own, and 1 where it has not ended by itself."""
    from nsrun.runtime.stack import Failed

    supervisor = _supervisor(stack, True)
    changes = _planned(supervisor)
    status = 0
    try:
        supervisor.up(changes)
        # Of no container there is nothing to keep up: all have `replicas: 0`.
        while supervisor.kept and not supervisor.ending and not supervisor.is_over(decisive):
            supervisor.keep_once()
        if decisive is not None:
            ended = supervisor.kept[decisive].status if supervisor.is_over(decisive) else None
            status = 1 if ended is None else ended
    except Failed:
        _take_back(supervisor, keep=args.keep)
        return 1
    except BaseException:
        supervisor.down()
        supervisor.close(remove=True)
        raise
    supervisor.down()
    supervisor.close(remove=True)
    return status


def _detached(args: argparse.Namespace, stack: Stack) -> int:
    """A process of its own keeps the stack; this one waits until it is up."""
    import os

    told, tells = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tells)
        return 0 if _is_up(told, pid) else 1
    os.close(told)
    try:
        os.setsid()
        supervisor = _brought_up(args, stack)
        if supervisor is not None:
            # Who waited may have been killed: the stack is up all the same.
            with contextlib.suppress(BrokenPipeError):
                os.write(tells, _UP)
            os.close(tells)
            null = os.open("/dev/null", os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            supervisor.become_lean()
    except BaseException as error:
        _tell_fault(error)
    finally:
        os._exit(1)


def _is_up(told: int, pid: int) -> bool:
    """Whether the process that keeps the stack says that it is up; an interrupt is passed on to
    it, which the terminal's does not reach, and raised when all is taken back."""
    import os
    import select
    import signal

    try:
        return os.read(told, len(_UP)) == _UP
    except KeyboardInterrupt:
        if not select.select([told], [], [], 0)[0]:
            os.kill(pid, signal.SIGTERM)
        if os.read(told, len(_UP)) == _UP:
            return True
        raise


def _tell_fault(error: BaseException) -> None:
    from nsrun.cli import process
    from nsrun.cli.output import report
    from nsrun.diag import NsrunError

    if isinstance(error, NsrunError):
        report(error.diagnostics)
    elif isinstance(error, Exception):
        report([process.fault(error)])


def _brought_up(args: argparse.Namespace, stack: Stack) -> Supervisor | None:
    """None where it could not come up, which has been said and taken back."""
    from nsrun.runtime.stack import Failed

    supervisor = _supervisor(stack, False)
    supervisor.thorough = args.wait
    changes = _planned(supervisor)
    try:
        supervisor.up(changes)
    except Failed:
        _take_back(supervisor, keep=args.keep)
        return None
    except BaseException:
        supervisor.down()
        supervisor.close(remove=True)
        raise
    return supervisor
