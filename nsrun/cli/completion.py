"""``nsrun completion``: scripts for shells, made from the argument parser by shtab."""

from __future__ import annotations

import argparse
import re
import sys

from nsrun.cli.commands import COMMANDS
from nsrun.cli.parser import examples

SHELLS = ("bash", "zsh", "fish")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Prints a script that completes nsrun's command line in a shell."
    parser.add_argument(
        "shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish"
    )
    examples(
        parser,
        """
nsrun completion bash > /etc/bash_completion.d/nsrun
nsrun completion zsh > /usr/local/share/zsh/site-functions/_nsrun
nsrun completion fish > ~/.config/fish/completions/nsrun.fish
""",
    )


def main(args: argparse.Namespace) -> int:
    import shtab

    from nsrun.cli.parser import full

    parser = full()
    specs = shtab.glob("*.yaml", "*.yml", "*.j2", "*.json")
    _place(parser, {"spec": specs, "file": shtab.FILE})
    script: str = shtab.complete(parser, args.shell)
    sys.stdout.write(_with_specs(args.shell, script))
    return 0


def _with_specs(shell: str, script: str) -> str:
    """`nsrun SPEC` runs it: beside the commands, the first word may be a spec."""
    if shell == "bash":
        # Readline's own completion of files, where no command matches.
        return script.replace(
            "complete -o bashdefault ", "complete -o bashdefault -o default -o filenames "
        )
    if shell == "zsh":
        commands = "  _describe 'nsrun commands' _commands\n"
        return script.replace(commands, f"{commands}  _files -g '(*.yaml|*.yml|*.j2|*.json)'\n")
    specs = re.search(r"^function (_shtab_glob_compgen_\w+)$", script, re.MULTILINE)
    if specs is None:
        return script
    first = "_shtab_nsrun_using; and test $_shtab_nsrun_npos -eq 0"
    return f"{script}complete -c nsrun -n '{first}' -ka '({specs[1]})' -d 'run this spec'\n"


def _place(parser: argparse.ArgumentParser, kinds: dict[str, object]) -> None:
    """Give every marked argument what shtab looks for; each command shows its summary."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                sub.description = COMMANDS[name].summary
                _place(sub, kinds)
        kind = getattr(action, "completes", None)
        if kind is not None:
            action.complete = kinds[kind]  # type: ignore[attr-defined]
