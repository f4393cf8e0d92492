"""From a file to a plan: the steps that several commands share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nsrun.cli.output import report
from nsrun.diag import Diagnostic, NsrunError
from nsrun.spec.values import NOTHING, Inputs

if TYPE_CHECKING:
    from nsrun.plan.model import Plan
    from nsrun.spec.document import Document
    from nsrun.spec.model import Spec

# A plan is some tens of kilobytes; what is larger than this is none.
_PLAN_MAX = 64 * 1024 * 1024


def inputs_of(args: argparse.Namespace) -> Inputs:
    """What a command line gives to a template; the variables as they are now.

    Raises NsrunError (NS002) for what is no variable's name.
    """
    for name in args.env:
        if not name or "=" in name:
            raise NsrunError(
                Diagnostic(
                    code="NS002",
                    summary=f"--env {name}: it takes the name of a variable alone",
                    help=("a value is given by `--set NAME=VALUE`",),
                )
            )
    return Inputs(
        files=tuple(args.values),
        sets=tuple(args.set),
        env={name: os.environ.get(name) for name in args.env},
    )


def args_of_words(words: Sequence[str]) -> argparse.Namespace:
    """The arguments of an earlier command line. Raises NsrunError where it is not understood."""
    from nsrun.cli import meant
    from nsrun.cli.parser import parse

    command = meant(words)
    return parse(command, words[1:] if words[0] == command.name else words)


def inputs_of_words(words: Sequence[str], folder: str) -> Inputs:
    """What an earlier command line gave, its files as they are named from ``folder``.

    Raises NsrunError where it is not understood.
    """
    if not words:
        return NOTHING
    args = args_of_words(words)
    if not hasattr(args, "values"):
        return NOTHING
    inputs = inputs_of(args)
    return replace(inputs, files=tuple(os.path.join(folder, file) for file in inputs.files))


def load_spec(
    file: str,
    command: tuple[str, ...] | None = None,
    inputs: Inputs = NOTHING,
    document: Document | None = None,
) -> Spec:
    """The spec in ``file``; its warnings are printed. ``command`` replaces its own, ``document`` is
    the file's, where it has been read already.

    Raises NsrunError with everything that is wrong with it.
    """
    from nsrun.spec.load import load, load_document

    if document is not None:
        spec, warnings = load_document(document, command)
    else:
        spec, warnings = load(file, command, inputs)
    if warnings:
        report(warnings)
    return spec


def load_plan(
    file: str,
    command: tuple[str, ...] | None = None,
    inputs: Inputs = NOTHING,
    document: Document | None = None,
) -> Plan:
    """The plan of the spec in ``file``, or the plan that ``file`` itself holds; verified.

    Raises NsrunError.
    """
    if is_program(file):
        from nsrun.runtime import compiled

        _refuse_command(file, command)
        return compiled.read(file)
    if not is_plan(file):
        from nsrun.runtime.launch import plan_for

        return plan_for(load_spec(file, command, inputs, document))
    _refuse_command(file, command)
    from nsrun.plan.codec import loads
    from nsrun.plan.verify import verify

    with open(file, encoding="utf-8", newline="") as stream:
        plan = loads(stream.read(_PLAN_MAX), file=file)
    verify(plan)
    return plan


def _refuse_command(file: str, command: tuple[str, ...] | None) -> None:
    if command is not None:
        raise NsrunError(
            Diagnostic(
                code="NS002",
                summary=f"{file} is a plan: its command is settled",
                help=("give the spec it was made from to plan another command",),
            )
        )


def is_program(file: str) -> bool:
    """Whether ``file`` is a program that ``nsrun compile`` wrote."""
    try:
        with open(file, "rb", opener=_careful) as stream:
            if stream.read(4) != b"\x7fELF":
                return False
            stream.seek(0)
            start = stream.read(1 << 20)
    except (OSError, ValueError):
        return False
    from nsrun.runtime import compiled

    return compiled.is_compiled(start)


def _careful(file: str, flags: int) -> int:
    """open(2) that waits for no writer of a FIFO."""
    import os

    return os.open(file, flags | os.O_NONBLOCK | os.O_NOCTTY)


def is_plan(file: str) -> bool:
    """Whether ``file`` is JSON as ``nsrun plan --json`` writes it; a spec in JSON is none."""
    import json
    import os
    import stat

    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            return False
        with open(file, encoding="utf-8", newline="") as stream:
            if not stream.read(256).lstrip().startswith("{"):
                return False
            stream.seek(0)
            document = json.loads(stream.read(_PLAN_MAX))
    except (OSError, ValueError, RecursionError):
        # The reader of specs says what is wrong with it, and where.
        return False
    return isinstance(document, dict) and "actions" in document
