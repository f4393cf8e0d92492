"""``nsrun explain``: what an error's code means, and what helps."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from nsrun.cli.parser import add_inputs, examples, mark
from nsrun.diag import CODES, Diagnostic, NsrunError

if TYPE_CHECKING:
    from nsrun.spec.provenance import Provenance


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Explains an error's code at length; without one, lists all of them. With --value: says "
        "which line of which file gives a spec that value, and what was given to its template."
    )
    code = parser.add_argument(
        "code", metavar="CODE|SPEC", nargs="?", help="a code such as NS301; with --value a spec"
    )
    mark(code, "spec")
    parser.add_argument(
        "--value", metavar="PLACE", help="a place in the spec: mounts[0].target, containers.db.env"
    )
    add_inputs(parser)
    examples(
        parser,
        """
nsrun explain NS301
nsrun explain
nsrun explain specs/template.yaml.j2 --value mounts[1]
""",
    )


def main(args: argparse.Namespace) -> int:
    if args.value is not None:
        return _value(args)
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


def _value(args: argparse.Namespace) -> int:
    from nsrun.cli.inputs import inputs_of
    from nsrun.spec.provenance import provenance

    if args.code is None:
        raise NsrunError(Diagnostic(code="NS002", summary="--value is of a spec: give its file"))
    found = provenance(args.code, args.value, inputs_of(args))
    sys.stdout.write(_shown(found))
    return 0


def _shown(found: Provenance) -> str:
    import json

    from nsrun.cli.output import wants_color
    from nsrun.render.diagnostic import place

    lines = [f"{found.path or 'the whole'}: {json.dumps(found.value, ensure_ascii=False)}"]
    if found.span is not None:
        lines.append(place(found.span, color=wants_color("auto", sys.stdout)))
    lines += [f"values.{path} is given by {where}" for path, where in found.given]
    return "\n".join(lines) + "\n"


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
