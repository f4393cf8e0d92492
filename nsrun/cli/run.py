"""``nsrun run``: load, plan, replay, and say how it ended."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

from nsrun.cli.output import report, say, wants_ascii, wants_color
from nsrun.cli.parser import add_inputs, add_spec, examples

if TYPE_CHECKING:
    from nsrun.host.hint import HintContext
    from nsrun.plan.model import Plan
    from nsrun.replay.outcome import Outcome
    from nsrun.spec.model import Spec


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Runs the spec's command in its namespaces and ends as the command ends. What follows "
        "`--` replaces the spec's command and arguments."
    )
    add_spec(parser)
    parser.add_argument(
        "--trace",
        action="store_true",
        help="print every step with its result and time on standard error, at the end",
    )
    parser.add_argument(
        "--why",
        action="store_true",
        help="trace the command: tell at the end which of its system calls were refused, by which "
        "wall (seccomp, Landlock, a capability, a read-only mount, a file's mode, the user "
        "namespace, the control group's devices and pids.max, who is asked), and what would allow "
        "them; much slower; beside a container that runs already, as one of a stack: "
        "`nsrun exec --why`",
    )
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="plan anew, and keep nothing for the next run of the same words",
    )
    parser.add_argument(
        "-d",
        "--detach",
        action="store_true",
        help="leave it running: print its name and id when the command has been executed",
    )
    parser.add_argument("--name", metavar="NAME", help="call it NAME, not as the spec does")
    parser.add_argument(
        "--replace",
        action="store_true",
        help="with -d: stop and remove the container that has the name",
    )
    parser.add_argument(
        "--rm", action="store_true", help="with -d: remove the container when it has ended"
    )
    parser.add_argument(
        "--log-opt",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="with -d: as `logging` of the spec has it: driver, max_size or max_files",
    )
    add_inputs(parser)
    examples(
        parser,
        """
nsrun specs/quickstart.yaml
nsrun run --trace specs/quickstart.yaml
nsrun run --why specs/quickstart.yaml
nsrun run -d --name web specs/service.yaml
nsrun specs/quickstart.yaml -- /bin/busybox id
nsrun specs/template.yaml.j2 --set greeting=hello
""",
    )


def main(args: argparse.Namespace) -> int:
    from nsrun.cli.inputs import inputs_of, load_spec
    from nsrun.runtime import launch

    if args.detach:
        _refuse_why(args)
        return _detach(args)
    _refuse_what_is_for_detached(args)
    if args.why:
        return _why(args)
    program = native_executor()
    if program is not None:
        _replay_natively(program, args)
    spec = _named(load_spec(args.spec, args.command, inputs_of(args)), args.name)
    plan = launch.plan_for(spec)
    if _is_limited(spec):
        _warn_of_lower_limits(plan)
    if launch.joins(plan):
        launch.become_sealed(plan, None, trace=args.trace)
    outcome = launch.replay_to_the_end(plan)
    if args.trace:
        say_trace(plan, outcome)
    return conclude(plan, outcome, launch.hint_context(plan))


def _named(spec: Spec, name: str | None) -> Spec:
    """The spec under another name; raises NsrunError (NS002) for what cannot be one."""
    from dataclasses import replace

    from nsrun.diag import Diagnostic, NsrunError
    from nsrun.spec.build import is_name

    if name is None:
        return spec
    if not is_name(name):
        raise NsrunError(
            Diagnostic(
                code="NS002",
                summary=f"{name!r} cannot be a container's name",
                help=("it has letters, digits, `_`, `.`, `-`, and begins with one of the first",),
            )
        )
    return replace(spec, name=name)


# As the options of Docker's json-file are called.
_LOG_WORDS = {"max-size": "max_size", "max-file": "max_files"}


def _with_log(spec: Spec, options: list[str]) -> Spec:
    """The spec with another log; raises NsrunError (NS002) for what it cannot have."""
    from dataclasses import replace

    from nsrun.diag import Diagnostic, NsrunError
    from nsrun.spec.build_process import LOG_SIZE_MAX, LOG_SIZE_MIN
    from nsrun.spec.units import parse_size

    logging = spec.logging
    for option in options:
        key, _, value = option.partition("=")
        try:
            match _LOG_WORDS.get(key, key):
                case "driver" if value in ("file", "none"):
                    logging = replace(logging, driver="none" if value == "none" else "file")
                case "max_size" if (size := parse_size(value)) == 0 or (
                    LOG_SIZE_MIN <= size <= LOG_SIZE_MAX
                ):
                    logging = replace(logging, max_size=size)
                case "max_files" if 1 <= int(value) <= 1000:
                    logging = replace(logging, max_files=int(value))
                case _:
                    raise ValueError(option)
        except ValueError:
            raise NsrunError(
                Diagnostic(
                    code="NS002",
                    summary=f"a log has no {option!r}",
                    help=("write driver=none, max_size=1m (16k at least) or max_files=5",),
                )
            ) from None
    return replace(spec, logging=logging)


def _refuse_what_is_for_detached(args: argparse.Namespace) -> None:
    from nsrun.diag import Diagnostic, NsrunError

    for option in ("replace", "rm", "log-opt"):
        if getattr(args, option.replace("-", "_")):
            raise NsrunError(
                Diagnostic(
                    code="NS002",
                    summary=f"--{option} is about a container that is left running",
                    help=("add -d, or leave it out: a run in the foreground leaves nothing",),
                )
            )


def _refuse_why(args: argparse.Namespace) -> None:
    from nsrun.diag import Diagnostic, NsrunError

    if args.why:
        raise NsrunError(
            Diagnostic(
                code="NS002",
                summary="--why tells at the end of a run, for which nobody waits with -d",
                help=(
                    "leave out -d, or trace another command beside it: "
                    "nsrun exec --why CONTAINER COMMAND",
                ),
            )
        )


def _why(args: argparse.Namespace) -> int:
    from nsrun.cli.inputs import inputs_of, load_spec

    spec = _named(load_spec(args.spec, args.command, inputs_of(args)), args.name)
    return why_refused(spec, trace=args.trace)


def why_refused(spec: Spec, *, trace: bool = False) -> int:
    """A traced run, and the table of what was refused."""
    from nsrun.render.refused import table
    from nsrun.runtime import launch, why

    plan, descriptor = why.traced_plan(spec)
    program = native_executor()

    def replay() -> int:
        if launch.joins(plan):
            launch.become_sealed(plan, program, trace=trace)
        if program is not None:
            from nsrun.replay.native import become

            become(program, plan, trace=trace)
        outcome = launch.replay_plan(plan)
        if trace:
            say_trace(plan, outcome)
        return conclude(plan, outcome, launch.hint_context(plan))

    status = why.in_child(replay)
    report = why.read(spec, descriptor)
    if report is not None:
        say(table(spec, report.rows, report.more, complete=report.complete))
    return status


def _detach(args: argparse.Namespace) -> int:
    from nsrun.cli.inputs import inputs_of, load_spec
    from nsrun.runtime import detached, life, store

    spec = _named(load_spec(args.spec, args.command, inputs_of(args)), args.name)
    spec = _with_log(spec, args.log_opt)
    if args.replace:
        life.make_room(spec.name)
    options = detached.Options(words=tuple(sys.argv[1:]), remove=args.rm)
    started = detached.run(spec, options)
    if started.status == 0:
        print(spec.name, started.record.id[: store.SHORT_ID])
    return started.status


def _replay_natively(program: str, args: argparse.Namespace) -> NoReturn:
    """Plan, keep the plan, and become what replays it."""
    from nsrun.replay.native import become
    from nsrun.runtime import launch

    plan = _plan_and_keep(args)
    if launch.joins(plan):
        launch.become_sealed(plan, program, trace=args.trace)
    sys.stdout.flush()
    sys.stderr.flush()
    become(program, plan, trace=args.trace)


def native_executor() -> str | None:
    """The path of the program that replays, None for the Python executor.

    Raises NsrunError for a choice that cannot be met.
    """
    import os

    from nsrun.host import native

    return native.chosen(os.environ)


def _plan_and_keep(args: argparse.Namespace) -> Plan:
    """The plan, put away for the next run of the same words where it may be used again.

    One with warnings is planned each time, so that they are seen each time.
    """
    import os

    from nsrun.cli.inputs import inputs_of
    from nsrun.runtime import cache, launch
    from nsrun.spec.load import load
    from nsrun.spec.text import recording

    with recording() as read:
        spec, warnings = load(args.spec, args.command, inputs_of(args))
    spec = _named(spec, args.name)
    if warnings:
        report(warnings)
    if args.trace or args.no_cache or warnings:
        plan, depends = launch.plan_for(spec), None
    else:
        plan, depends = launch.plan_to_keep(spec, read, args.env)
    if _is_limited(spec) and _warn_of_lower_limits(plan):
        return plan
    # The launcher replays what is kept as the file that it is.
    if depends is not None and not launch.joins(plan):
        cache.store(sys.argv[1:], plan, depends, os.environ)
    return plan


def _is_limited(spec: Spec) -> bool:
    """Whether groups above can allow less than it asks for."""
    resources = spec.resources
    return resources is not None and (resources.memory is not None or resources.pids is not None)


def _warn_of_lower_limits(plan: Plan) -> bool:
    """Tell of what will not be what holds; whether there is anything."""
    from nsrun.runtime import ceilings

    found = tuple(ceilings.warnings(plan))
    report(found)
    return bool(found)


def say_trace(plan: Plan, outcome: Outcome) -> None:
    """Print every step with what came of it on standard error."""
    from nsrun.render.trace import trace_listing

    stream = sys.stderr
    color, ascii = wants_color("auto", stream), wants_ascii(False, stream)
    say(trace_listing(plan, outcome.trace, ascii=ascii, color=color))


def conclude(plan: Plan, outcome: Outcome, context: HintContext | None = None) -> int:
    """Say what went wrong, if anything did; the exit status of nsrun."""
    from nsrun.cli.places import with_ends
    from nsrun.render.failure import outcome_diagnostics

    def why(
        call: str, errno: str, args: tuple[str | int, ...]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        from dataclasses import replace

        from nsrun.host.hint import HintContext
        from nsrun.host.hints import explain
        from nsrun.render.asked import is_inside, replayed_before

        known = context or HintContext()
        if outcome.failure is not None:
            known = replace(
                known,
                before=replayed_before(plan, outcome.failure),
                inside=is_inside(plan, outcome.failure),
            )
        return explain(call, errno, args, known)

    diagnostics = outcome_diagnostics(plan, outcome, why)
    if diagnostics:
        report(with_ends(diagnostics, plan.source))
    return outcome.status
