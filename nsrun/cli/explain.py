"""``nsrun explain``: what an error's code means, and what helps."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from nsrun.cli.parser import add_format, add_inputs, examples, mark
from nsrun.diag import CODES, Diagnostic, NsrunError

if TYPE_CHECKING:
    from nsrun.plan.review import Finding
    from nsrun.spec.model import Spec
    from nsrun.spec.provenance import Provenance


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Explains an error's code at length; without one, lists all of them. With --value: says "
        "which line of which file gives a spec that value, and what was given to its template. "
        "With --security: what of the host a spec leaves open, the worst first, what would be "
        "tighter, and an exposure from 0 to 10; of a stack, for each of its containers."
    )
    code = parser.add_argument(
        "code", metavar="CODE|SPEC", nargs="?", help="a code such as NS301; with --value a spec"
    )
    mark(code, "spec")
    parser.add_argument(
        "--value", metavar="PLACE", help="a place in the spec: mounts[0].target, containers.db.env"
    )
    parser.add_argument(
        "--security", action="store_true", help="what of the host the spec leaves open"
    )
    add_format(parser)
    add_inputs(parser)
    examples(
        parser,
        """
nsrun explain NS301
nsrun explain
nsrun explain specs/template.yaml.j2 --value mounts[1]
nsrun explain specs/quickstart.yaml --security
""",
    )


def main(args: argparse.Namespace) -> int:
    if args.value is not None:
        return _value(args)
    if args.security:
        return _security(args)
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


def _security(args: argparse.Namespace) -> int:
    import json

    from nsrun.cli.inputs import inputs_of
    from nsrun.cli.stacks import is_stack, load, source
    from nsrun.spec.load import load as load_one
    from nsrun.spec.load import load_document

    if args.code is None:
        raise NsrunError(Diagnostic(code="NS002", summary="--security is of a spec: give its file"))
    inputs = inputs_of(args)
    document = source(args.code, inputs)
    as_json = args.format == "json"
    if is_stack(document):
        specs = [member.spec for member in load(args.code, inputs, document).members]
        if as_json:
            print(json.dumps({spec.name: _found(spec) for spec in specs}, indent=2))
        else:
            sys.stdout.write("\n".join(map(_table, specs)))
        return 0
    spec, warnings = load_document(document) if document else load_one(args.code, inputs=inputs)
    if as_json:
        print(json.dumps(_found(spec), indent=2))
        return 0
    from nsrun.cli.output import report

    report(warnings)
    sys.stdout.write(_table(spec))
    return 0


def _findings(spec: Spec) -> tuple[Finding, ...]:
    """As this caller on this machine would run it."""
    from nsrun.host.procfs import labelling_modules
    from nsrun.plan.review import review

    return review(spec, labelling_modules(), uid=os.getuid())


def _found(spec: Spec) -> dict[str, object]:
    from nsrun.plan.review import exposure, word

    found = _findings(spec)
    total = exposure(found)
    rows = [
        {
            "points": one.points,
            "path": one.at,
            "line": span.line if (span := spec.span(one.at)) is not None else None,
            "what": one.what,
            "tighter": one.tighter,
        }
        for one in found
    ]
    return {"exposure": total, "word": word(total), "findings": rows}


def _table(spec: Spec) -> str:
    from nsrun.cli.tables import columns
    from nsrun.plan.review import exposure, word

    found = _findings(spec)
    total = exposure(found)
    lines = [
        (f"{one.points:.1f}", f":{spec.spans[one.at].line}" if one.at in spec.spans else "-",
         one.at, one.what, one.tighter)
        for one in found
    ]  # fmt: skip
    table = columns(("POINTS", "LINE", "PLACE", "WHAT IS OPEN", "TIGHTER"), lines)
    return f"{table}\nexposure of {spec.name}: {total:.1f} of 10, {word(total)}\n"


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
        if os.path.isfile(given):
            advice = f"of a spec: nsrun explain {given} --security, or --value PLACE"
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
