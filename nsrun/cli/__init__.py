"""The command line: which command is meant, and how the process ends.

Only what every command needs is imported here; ``nsrun --version`` imports nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from nsrun.cli import process
from nsrun.cli.commands import COMMANDS, OWN, RUN, Command
from nsrun.diag import Diagnostic, NsrunError


def main() -> NoReturn:
    """The ``nsrun`` program: reads the process's arguments and ends it."""
    try:
        process.open_standard_descriptors()
        status = carry_out(sys.argv[1:])
    except KeyboardInterrupt:
        process.end_by_interrupt()
    process.end(status)


def carry_out(words: Sequence[str]) -> int:
    """Carry out the command that ``words`` give and return its exit status; never raises
    but for KeyboardInterrupt."""
    command = meant(words)
    try:
        return _run(command, words)
    except NsrunError as error:
        from nsrun.cli.output import report

        report(error.diagnostics)
        usage = any(d.code == "NS002" for d in error.diagnostics)
        return command.usage if usage else command.failure
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does; it wants no words about it.
        return process.BROKEN_PIPE
    except KeyboardInterrupt:
        raise
    except Exception as error:
        from nsrun.cli.output import report

        report([process.fault(error)])
        return command.failure


def meant(words: Sequence[str]) -> Command:
    """The command of a command line: its first word, or ``run`` where that is no command."""
    if words and words[0] in OWN:
        return OWN[words[0]]
    return COMMANDS.get(words[0], RUN) if words else RUN


def _run(command: Command, words: Sequence[str]) -> int:
    process.refuse_set_uid()
    if not words or words[0] in ("-h", "--help"):
        from nsrun.cli.parser import top_help

        print(top_help(), end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else command.usage
    if words[0] in ("-V", "--version"):
        return _version(words)
    return command.module().main(_parse(command, words))


def _version(words: Sequence[str]) -> int:
    from nsrun import __version__

    if len(words) > 1:
        raise NsrunError(
            Diagnostic(code="NS002", summary=f"{words[0]} is not followed by anything")
        )
    print(f"nsrun {__version__}")
    return 0


def _parse(command: Command, words: Sequence[str]) -> process.Arguments:
    from nsrun.cli.parser import parse

    named = words[0] == command.name or words[0] in OWN
    if not named:
        _refuse_misspelled(words[0])
    return parse(command, words[1:] if named else words)


def _refuse_misspelled(word: str) -> None:
    """``nsrun vaildate``: no file, and nearly a command."""
    import difflib
    import os

    from nsrun.cli.habits import of_command

    close = difflib.get_close_matches(word, COMMANDS, n=1)
    advice = of_command(word) or (f"did you mean `{close[0]}`?" if close else "")
    if advice and not os.path.lexists(word):
        raise NsrunError(
            Diagnostic(
                code="NS002",
                summary=f"there is no command and no file `{word}`",
                help=(advice,),
            )
        )
