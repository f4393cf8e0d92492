"""The argument parser: one a command, built from its own file."""

from __future__ import annotations

import argparse
import difflib
import itertools
import math
import re
from collections.abc import Sequence
from typing import NoReturn

from nsrun.cli.commands import COMMANDS, Command
from nsrun.diag import Diagnostic, NsrunError

DESCRIPTION = "A declarative launcher for Linux namespaces: a YAML spec is validated, planned \
into an ordered program of system calls, and replayed."

TOP_USAGE = "nsrun COMMAND ...\n       nsrun SPEC [-- COMMAND [ARG...]]"

TOP_EXAMPLES = """\
examples:
  nsrun web.yaml                      run the spec's command
  nsrun web.yaml -- /bin/sh           run another command in the same place
  nsrun plan web.yaml                 see every step first; nothing is made
  nsrun doctor web.yaml               which of its lines will not work here, and why

A file that is called like a command is reached by a path: `nsrun ./run`.
Exit status of a run: the command's own, 128+N where signal N ended it, 125 where nsrun
failed before the command, 126 where it cannot be executed, 127 where it was not found.
"""


class _Formatter(argparse.HelpFormatter):
    """Descriptions are filled, texts of several lines stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """Errors are diagnostics; no option is recognised by its beginning alone."""

    def __init__(self, *, prog: str, usage: str | None = None) -> None:
        self.words: tuple[str, ...] = ()
        super().__init__(
            prog=prog,
            usage=usage,
            allow_abbrev=False,
            formatter_class=_Formatter,
        )

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        self.words = tuple(args or ())
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        message = self._plainly(message)
        raise NsrunError(
            Diagnostic(
                code="NS002",
                summary=message.removeprefix("argument "),
                help=(*self._closest(message), f"`{self.prog} --help` shows what it takes"),
            )
        )

    def _plainly(self, message: str) -> str:
        """argparse's words, less what is Python's; an option that there is not comes first."""
        strange = self._strange()
        if strange and message.startswith(("unrecognized arguments: -", "the following")):
            return f"unrecognized arguments: {' '.join(strange)}"
        message = re.sub(r"invalid (?:int|float) value: ('.*')\Z", r"\1 is no number", message)
        return message.replace(": expected one argument", ": a value must follow")

    def _strange(self) -> list[str]:
        """The words that are meant as options, and are none."""
        options = self._option_string_actions
        before = itertools.takewhile(lambda word: word != "--", self.words)
        return [
            word
            for word in before
            if word.startswith("-")
            and word.strip("-")
            and word.partition("=")[0] not in options
            and (word.startswith("--") or word[:2] not in options)
            and not self._negative_number_matcher.match(word)
        ]

    def _closest(self, message: str) -> tuple[str, ...]:
        from nsrun.cli import habits

        habit = habits.of_option(self.prog.removeprefix("nsrun "), message)
        if habit:
            return (habit,)
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)\Z", message)
        if choice is not None:
            known = [word.strip("'") for word in choice[2].split(", ")]
            near = difflib.get_close_matches(choice[1], known, n=1)
            return (f"did you mean `{near[0]}`?",) if near else ()
        words = message.removeprefix("unrecognized arguments: ").split(" ")
        if not message.startswith("unrecognized") or not words:
            return ()
        if not words[0].startswith("-"):
            takes = "[-- COMMAND" in self.usage_text
            return ("a command for the container follows `--`",) if takes else ()
        options = [name for action in self._actions for name in action.option_strings]
        close = difflib.get_close_matches(words[0].partition("=")[0], options, n=1)
        return (f"did you mean `{close[0]}`?",) if close else ()

    @property
    def usage_text(self) -> str:
        return self.usage or ""


def build(command: Command) -> Parser:
    """The parser of one command."""
    prog = f"nsrun {command.name}"
    parser = Parser(prog=prog, usage=f"{prog} {command.synopsis}")
    command.module().configure(parser)
    return parser


def parse(command: Command, words: Sequence[str]) -> argparse.Namespace:
    """The arguments; ``command`` holds what follows ``--``, None where nothing does.

    Raises NsrunError (NS002) for what is not understood.
    """
    payload: tuple[str, ...] | None = None
    begins = getattr(command.module(), "payload_at", None)
    bare = begins(words) if begins is not None else None
    if bare is not None:
        words, payload = words[:bare], tuple(words[bare:])
    elif command.payload and "--" in words:
        at = words.index("--")
        words, payload = words[:at], tuple(words[at + 1 :])
    parser = build(command)
    if payload == ():
        parser.error("no command follows `--`")
    read = parser.parse_intermixed_args if command.intermixed else parser.parse_args
    args = read(list(words))
    args.command = payload
    return args


def _top() -> Parser:
    parser = Parser(prog="nsrun", usage=TOP_USAGE)
    parser.description = DESCRIPTION
    parser.epilog = TOP_EXAMPLES
    parser.add_argument("-V", "--version", action="store_true", help="print the version")
    return parser


def top_help() -> str:
    """What ``nsrun --help`` prints."""
    parser = _top()
    commands = parser.add_argument_group("commands")
    for command in COMMANDS.values():
        commands.add_argument(command.name, nargs="?", help=command.summary)
    return parser.format_help()


def full() -> Parser:
    """The whole command line in one parser, for completion and the manual page."""
    parser = _top()
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Sub)
    for command in COMMANDS.values():
        sub = subparsers.add_parser(command.name, help=command.summary)
        sub.usage = f"nsrun {command.name} {command.synopsis}"
        command.module().configure(sub)
    return parser


class _Sub(Parser):
    """What add_subparsers makes: it passes keywords of its own."""

    def __init__(self, *, prog: str, **_: object) -> None:
        super().__init__(prog=prog)


def examples(parser: argparse.ArgumentParser, text: str) -> None:
    """Set what ``--help`` shows below the options."""
    parser.epilog = "examples:\n" + "\n".join(f"  {line}" for line in text.strip().splitlines())


def add_spec(parser: argparse.ArgumentParser, name: str = "SPEC", **keywords: object) -> None:
    """A positional argument that is a spec's file; completion offers such files."""
    keywords.setdefault("help", "the spec's file")
    action = parser.add_argument(name.lower(), metavar=name, **keywords)  # type: ignore[arg-type]
    mark(action, "spec")


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """What a template is given; a spec that is none is rendered all the same where any is."""
    group = parser.add_argument_group("templates")
    values = group.add_argument(
        "--values",
        action="append",
        default=[],
        metavar="FILE",
        help="values for the template, in YAML; of several files the later ones are laid over",
    )
    mark(values, "file")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one value: web.replicas=3, ports[0]=80, tags=[a, b]; may be given again",
    )
    group.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME",
        help="let the template read this variable of the environment; may be given again",
    )


def add_color(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        metavar="WHEN",
        help="auto (on a terminal, the default), always or never",
    )


def add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        metavar="FORMAT",
        help="text (the default), or json on standard output for other programs",
    )
    parser.add_argument(
        "--json", dest="format", action="store_const", const="json", help="as --format json"
    )


def seconds(word: str) -> float:
    """The type of an argument that is a time."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{word!r} is no number of seconds")
    return value


def mark(action: argparse.Action, kind: str) -> None:
    """Say which files complete an argument: ``spec`` or ``file``."""
    action.completes = kind  # type: ignore[attr-defined]
