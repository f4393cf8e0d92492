"""``nsrun verify`` of a stack: a copy of it comes up, is looked at, and goes."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nsrun.runtime.verify import Finding
    from nsrun.spec.document import Document
    from nsrun.spec.model import Spec
    from nsrun.spec.stack import Stack

# As a shell tells of the end by SIGINT.
_INTERRUPTED = 130


def main(args: argparse.Namespace, document: Document) -> int:
    """The exit status, as the command's help has it; 130 where a signal came before the end."""
    from nsrun.host import trees
    from nsrun.runtime.stack import Failed
    from nsrun.runtime.verify_stack import Stopped, copy_of

    if args.plan:
        raise _no_plan(document)
    volumes = tempfile.mkdtemp(prefix="nsrun-verify-")
    try:
        original, read = _read(args, document, volumes)
        return _verified(args, original, copy_of(original, read, volumes))
    except Failed:
        return 125
    except (Stopped, KeyboardInterrupt):
        return _INTERRUPTED
    finally:
        with contextlib.suppress(OSError):
            trees.remove(volumes)


def _no_plan(document: Document) -> Exception:
    from nsrun.diag import Diagnostic, NsrunError

    return NsrunError(
        Diagnostic(
            code="NS002",
            summary="the steps that look at a stack are planned when its copy is up",
            help=(f"nsrun plan {document.file} prints what brings it up",),
        )
    )


def _read(args: argparse.Namespace, document: Document, volumes: str) -> tuple[Stack, Stack]:
    """The stack, and what its file says under another name. Raises NsrunError."""
    import dataclasses

    from nsrun.cli import stacks
    from nsrun.cli.inputs import inputs_of
    from nsrun.runtime.stack_copy import new_name
    from nsrun.spec.stack_load import load_stack

    inputs, profiles = inputs_of(args), frozenset(args.profile)
    original = stacks.load(args.spec, inputs, document, profiles)
    data = document.data if isinstance(document.data, dict) else {}
    renamed = dataclasses.replace(document, data={**data, "name": new_name(original.name)})
    copy, _ = load_stack(
        args.spec,
        profiles=profiles,
        volumes=volumes,
        inputs=inputs,
        stacks=stacks.stacks_folder(),
        document=renamed,
    )
    return original, copy


def _verified(args: argparse.Namespace, original: Stack, copy: Stack) -> int:
    from nsrun.cli.output import report
    from nsrun.cli.run import conclude
    from nsrun.cli.verify import tell
    from nsrun.runtime import launch
    from nsrun.runtime.verify_stack import brought_up, look

    found: list[tuple[str, Spec, Finding]] = []
    failed = False
    with brought_up(copy, _say, lambda wrong: report(tuple(wrong))) as supervisor:
        for looked in look(supervisor, original, copy):
            member = looked.member
            name = f"{member.service}-{member.number}" if member.number else member.service
            if looked.outcome.failure is not None or looked.outcome.status:
                conclude(looked.plan, looked.outcome, launch.hint_context(looked.plan))
                failed = True
            found += [(name, member.spec, finding) for finding in looked.found]
    tell(args, found)
    if failed:
        return 125
    return 0 if all(finding.holds for _, _, finding in found) else 1


def _say(name: str, what: str) -> None:
    """Only what is in the way of looking."""
    ended = what.startswith("exited (") and what != "exited (0)"
    if ended or what in ("failed", "unhealthy"):
        print(f"{name} {what}", file=sys.stderr, flush=True)
