"""``nsrun graph``: a picture of containers and their networks."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nsrun.cli.parser import add_inputs, add_spec, examples, mark
from nsrun.diag import Diagnostic, NsrunError

if TYPE_CHECKING:
    from nsrun.render.graph import Bridge
    from nsrun.spec.model import Spec
    from nsrun.spec.values import Inputs


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Draws the containers of one or more specs or stacks in one picture: network namespaces, "
        "interfaces, bridges, routes, published ports. Mermaid is rendered by git hosts in "
        "Markdown; svg is drawn by graphviz. The specs are checked as by validate; nothing is made."
    )
    add_spec(parser, nargs="+", help="the specs' files")
    parser.add_argument(
        "--format",
        choices=("mermaid", "dot", "svg"),
        default="mermaid",
        metavar="FORMAT",
        help="mermaid (the default), dot or svg",
    )
    output = parser.add_argument("-o", "--output", metavar="FILE", help="write it to FILE")
    mark(output, "file")
    add_inputs(parser)
    examples(
        parser,
        """
nsrun graph specs/network/nat.yaml
nsrun graph --format svg -o net.svg specs/network/bridge-db.yaml specs/network/bridge-web.yaml
""",
    )


def main(args: argparse.Namespace) -> int:
    import sys

    from nsrun.cli.inputs import inputs_of
    from nsrun.render.graph import graph
    from nsrun.render.graph_dot import dot
    from nsrun.render.graph_mermaid import mermaid

    specs: list[Spec] = []
    bridges: list[Bridge] = []
    inputs = inputs_of(args)
    for file in args.spec:
        _read(file, inputs, specs, bridges)
    drawn = graph(specs, bridges)
    text = mermaid(drawn) if args.format == "mermaid" else dot(drawn)
    data = _svg(text) if args.format == "svg" else text.encode()
    if args.output is None:
        sys.stdout.buffer.write(data)
        return 0
    try:
        with open(args.output, "wb") as file:
            file.write(data)
    except OSError as error:
        raise _refused("NS001", f"cannot write {args.output}: {error.strerror}") from None
    return 0


def _read(file: str, inputs: Inputs, specs: list[Spec], bridges: list[Bridge]) -> None:
    """Add what is in ``file``: a container, or a stack's containers and the bridges it makes."""
    from nsrun.cli import stacks
    from nsrun.cli.inputs import load_spec
    from nsrun.render.graph import Bridge

    document = stacks.source(file, inputs)
    if not stacks.is_stack(document):
        specs.append(load_spec(file, None, inputs, document))
        return
    stack = stacks.load(file, inputs, document)
    specs += (member.spec for member in stack.members)
    bridges += (
        Bridge(name=n.bridge, network=n.name, addresses=n.gateways, masquerade=n.masquerade)
        for n in stack.networks
    )


def _svg(text: str) -> bytes:
    import subprocess

    from nsrun.host.ids import helper

    program = helper("dot")
    if program is None:
        raise _refused(
            "NS410",
            "dot is not installed",
            "apt install graphviz",
            "draw it with --format mermaid, which needs no other program",
            why="it was looked for on PATH, in /usr/bin and in /usr/sbin",
        )
    try:
        done = subprocess.run((program, "-Tsvg"), input=text.encode(), capture_output=True)
    except OSError as error:
        raise _refused("NS503", f"cannot run {program}: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.decode(errors="backslashreplace").strip()
        raise _refused("NS503", f"{program} failed with status {done.returncode}", note=said)
    return done.stdout


def _refused(code: str, summary: str, *help: str, why: str = "", note: str = "") -> NsrunError:
    return NsrunError(
        Diagnostic(
            code=code,
            summary=summary,
            why=(why,) if why else (),
            help=help,
            notes=(note,) if note else (),
        )
    )
