"""``nsrun generate systemd``: a unit that starts a stack at boot."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nsrun.cli.parser import examples

if TYPE_CHECKING:
    from nsrun.runtime.store import Record


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints a unit of systemd that brings a stack up at boot, or a container that was left "
        "running, keeps it up, and takes it down. NAME is a stack's, or a container's. It is "
        "started with the words that started it now: values, profiles, another command."
    )
    parser.add_argument("kind", choices=("systemd",), metavar="systemd", help="what to print")
    parser.add_argument("name", metavar="NAME", help="the name of a stack or container")
    examples(parser, "nsrun generate systemd shop > /etc/systemd/system/shop.service")


def main(args: argparse.Namespace) -> int:
    from nsrun.runtime import stack_store, store, systemd

    name, known = args.name, stack_store.record(args.name)
    if known is not None:
        words = ("up", *_as_it_was(known.get("words", ()), known["cwd"], known["file"]))
        what, folder, timeout = "stack", known["cwd"], systemd.STACK_TIMEOUT
    else:
        record = store.find(name).record
        _require_own_file(record)
        name, what, folder = record.name, "container", record.cwd
        words = ("run", "--name", name, *_as_it_was(record.words, folder, record.spec))
        timeout = record.stop_timeout // 10**9 + 10
    print(systemd.unit(name, what, words=words, folder=folder, timeout=timeout), end="")
    return 0


def _require_own_file(record: Record) -> None:
    """Raises NsrunError (NS002) for a container that no file starts by itself."""
    from nsrun.diag import Diagnostic, NsrunError

    if record.stack:
        summary = f"{record.name} is a container of the stack {record.stack}"
        advice = f"a unit is for the whole of it: nsrun generate systemd {record.stack}"
    elif record.spec == "-":
        summary = f"the spec of {record.name} was read from the standard input"
        advice = f"a unit needs a file: nsrun run -d --replace --name {record.name} FILE"
    else:
        return
    raise NsrunError(Diagnostic(code="NS002", summary=summary, help=(advice,)))


def _as_it_was(words: Sequence[str], folder: str, file: str) -> tuple[str, ...]:
    """``file`` with all that a command line gave to it: what its template reads, its profiles, the
    command in the place of its own."""
    if not words:
        return (file,)
    from nsrun.cli.inputs import args_of_words

    args = args_of_words(words)
    given: list[str] = []
    for value in args.values:
        given += ("--values", os.path.join(folder, value))
    for option in ("set", "env", "profile"):
        for value in getattr(args, option, ()):
            given += (f"--{option}", value)
    return (*given, file, *(("--", *args.command) if args.command else ()))
