"""What the commands about stacks share: reading one, and saying what becomes of it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from nsrun.cli.output import report, wants_color

if TYPE_CHECKING:
    from nsrun.diag import Diagnostic
    from nsrun.spec.document import Document
    from nsrun.spec.stack import Stack
    from nsrun.spec.values import Inputs

# The colours of prefixes, of 256 (ECMA-48's 38;5): far apart, and none of them red.
_COLORS = (39, 208, 76, 170, 220, 45, 141, 214, 114, 81)


def source(file: str, inputs: Inputs) -> Document | None:
    """The document in ``file``, None for one that is no spec: a plan, or the standard input.

    Raises NsrunError for a template that cannot be rendered, which takes its time: not twice.
    """
    from nsrun.diag import NsrunError
    from nsrun.spec.source import read_source
    from nsrun.spec.template import is_template

    if file == "-":
        return None
    try:
        return read_source(file, inputs)
    except NsrunError:
        if is_template(file, inputs):
            raise
        return None


def is_stack(document: Document | None) -> bool:
    """Whether a document describes several containers; None does not."""
    from nsrun.spec import schema

    return document is not None and schema.is_stack(document)


def read(args: argparse.Namespace) -> Stack:
    """The stack of ``args.spec``; its warnings are printed. Raises NsrunError."""
    from nsrun.cli.inputs import inputs_of
    from nsrun.spec.source import read_source

    inputs = inputs_of(args)
    document = read_source(args.spec, inputs)
    _require_stack(document)
    stack = load(args.spec, inputs, document, frozenset(args.profile))
    _require_name(stack)
    return stack


def _require_stack(document: Document) -> None:
    """Raises NsrunError (NS321) for one container's file: as a stack it would be an empty one."""
    from nsrun.diag import Diagnostic, NsrunError
    from nsrun.spec import schema

    if schema.is_stack(document):
        return
    wrong = [found for found in schema.validate(document) if found.is_error]
    if wrong:
        # Often it was to be a stack, and a key is misspelt.
        raise NsrunError(wrong)
    file = document.file
    raise NsrunError(
        Diagnostic(
            code="NS321",
            summary="the file holds one container, where a stack is meant",
            span=document.spans.get(""),
            help=(
                f"run it: nsrun {file}, or leave it running: nsrun run -d {file}",
                f"or make a stack of it: `containers: {{NAME: {{extends: {file}}}}}`",
            ),
        )
    )


def _require_name(stack: Stack) -> None:
    """Raises NsrunError (NS606) where the containers of another file's stack have the name."""
    from nsrun.diag import Diagnostic, NsrunError
    from nsrun.runtime import stack_store

    known = stack_store.record(stack.name)
    other = known["file"] if known is not None else None
    # A file that is no more may have been renamed to this one.
    if not other or not os.path.exists(other):
        return
    # The standard input is no file at all.
    if os.path.exists(stack.file) and os.path.samefile(other, stack.file):
        return
    if stack_store.containers(stack.name):
        raise NsrunError(
            Diagnostic(
                code="NS606",
                summary=f"a stack {stack.name} of {other} is there already",
                span=stack.spans.get("name"),
                path="name",
                help=(f"nsrun down {stack.name}", "or give this one another `name`"),
            )
        )


def load(
    file: str,
    inputs: Inputs | None = None,
    document: Document | None = None,
    profiles: frozenset[str] | None = None,
) -> Stack:
    """The stack of a file with the containers of ``profiles``, None for all; ``document``: the
    file's, where it has been read already. Its warnings are printed. Raises NsrunError."""
    from nsrun.spec.stack_load import load_stack
    from nsrun.spec.values import NOTHING

    stack, warnings = load_stack(
        file,
        profiles=profiles or frozenset(),
        all_profiles=profiles is None,
        volumes=volumes_folder(os.environ),
        inputs=inputs or NOTHING,
        stacks=stacks_folder(),
        document=document,
    )
    if warnings:
        report(warnings)
    return stack


def stacks_folder() -> str:
    """Where stacks that are up have their folders. Raises NsrunError where there can be none."""
    from nsrun.runtime import stack_store

    return os.path.dirname(stack_store.folder("any"))


def volumes_folder(environ: Mapping[str, str]) -> str:
    """Where named volumes are: they outlive the machine's uptime, unlike the state folder.

    NSRUN_VOLUMES_DIR says otherwise.
    """
    if environ.get("NSRUN_VOLUMES_DIR"):
        return os.path.abspath(environ["NSRUN_VOLUMES_DIR"])
    if os.getuid() == 0:
        return "/var/lib/nsrun/volumes"
    home = environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(home, "nsrun/volumes")


def add_profiles(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="NAME",
        help="also the containers of this profile; may be given again",
    )


class Teller:
    """Says what becomes of each container, one line each, on standard error."""

    def __init__(self, stack: str) -> None:
        self._prefix = f"{stack}-"
        self._color = wants_color("auto", sys.stderr)

    def say(self, name: str, what: str) -> None:
        style = {"running": 32, "healthy": 32, "up": 32, "failed": 31, "unhealthy": 31}.get(what, 2)
        shown = f"\033[{style}m{what}\033[0m" if self._color else what
        sys.stderr.write(f"{name} {shown}\n")
        sys.stderr.flush()

    def report(self, diagnostics: Iterable[Diagnostic]) -> None:
        report(tuple(diagnostics))


class Output:
    """What containers write, line by line, each with its container's name before it."""

    def __init__(self, names: Iterable[str], stack: str) -> None:
        self._short = {name: name.removeprefix(f"{stack}-") for name in names}
        self._width = max(map(len, self._short.values()), default=0)
        self._rest: dict[tuple[str, str], str] = {}
        self._color = wants_color("auto", sys.stdout)

    def write(self, name: str, stream: str, text: str) -> None:
        whole = self._rest.pop((name, stream), "") + text
        *lines, rest = whole.split("\n")
        if rest:
            self._rest[name, stream] = rest
        out = sys.stdout if stream == "stdout" else sys.stderr
        for line in lines:
            out.write(f"{self._prefix(name)}{line}\n")
        out.flush()

    def _prefix(self, name: str) -> str:
        text = f"{self._short.get(name, name).ljust(self._width)} | "
        if not self._color:
            return text
        number = list(self._short).index(name) if name in self._short else 0
        return f"\033[38;5;{_COLORS[number % len(_COLORS)]}m{text}\033[0m"
