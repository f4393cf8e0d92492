"""``nsrun explain``: what an error's code means, and what helps."""

from __future__ import annotations

import argparse
import sys

from nsrun.cli.parser import examples
from nsrun.diag import CODES, Diagnostic, NsrunError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Explains an error's code at length; without one, lists all of them."
    parser.add_argument("code", metavar="CODE", nargs="?", help="a code such as NS301")
    examples(
        parser,
        """
nsrun explain NS301
nsrun explain
""",
    )


def main(args: argparse.Namespace) -> int:
    if args.code is None:
        sys.stdout.writelines(f"{code}  {title}\n" for code, title in CODES.items())
        return 0
    text = _text(args.code.upper(), args.code)
    if sys.stdout.isatty():
        # Rich is only for people: a pipe gets the text as it is written.
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(text))
    else:
        sys.stdout.write(text)
    return 0


def _text(code: str, given: str) -> str:
    import difflib

    from nsrun.cli.resources import errors

    if code not in CODES:
        close = difflib.get_close_matches(code, CODES, n=1)
        advice = f"did you mean `{close[0]}`?" if close else "`nsrun explain` lists all codes"
        raise NsrunError(
            Diagnostic(code="NS002", summary=f"there is no code `{given}`", help=(advice,))
        )
    path = errors() / f"{code}.md"
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise NsrunError(
            Diagnostic(
                code="NS001",
                summary=f"cannot read {path}: {error.strerror}",
                help=("this installation of nsrun is not complete",),
            )
        ) from None
