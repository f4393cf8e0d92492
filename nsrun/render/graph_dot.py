"""A graph in Graphviz's language (https://graphviz.org/doc/info/lang.html)."""

from __future__ import annotations

from nsrun.render.graph import Graph, Shape
from nsrun.render.text import visible

_SHAPES: dict[Shape, str] = {
    "interface": "box",
    "bridge": "hexagon",
    "world": "ellipse",
    "port": "cds",
    "container": "component",
    "note": "note",
}
_SPECIAL = str.maketrans({"\\": "\\\\", '"': '\\"', "&": "&amp;"})


def dot(graph: Graph) -> str:
    nodes = {key: f"n{number}" for number, key in enumerate(graph.nodes)}
    lines = [
        "digraph network {",
        "    rankdir=LR; fontname=Helvetica;",
        "    node [fontname=Helvetica, fontsize=10]; edge [fontname=Helvetica, fontsize=9];",
    ]
    for number, (place, title) in enumerate(graph.places.items()):
        lines.append(f"    subgraph cluster_{number} {{")
        lines.append(f"        label={quoted(title)};")
        members = [node for node in graph.nodes.values() if node.place == place]
        for node in members:
            label = quoted("\n".join(node.lines))
            lines.append(f"        {nodes[node.key]} [shape={_SHAPES[node.shape]}, label={label}];")
        if not members:
            lines.append(f"        e{number} [style=invis];")
        lines.append("    }")
    for edge in graph.edges:
        words = [] if edge.directed else ["dir=none"]
        words += [f"label={quoted(edge.label)}"] if edge.label else []
        more = f" [{', '.join(words)}]" if words else ""
        lines.append(f"    {nodes[edge.one]} -> {nodes[edge.other]}{more};")
    return "\n".join([*lines, "}", ""])


def quoted(text: str) -> str:
    """A string of DOT: a backslash begins an escape, ``\\n`` ends a line, and labels may have the
    entities of HTML."""
    return '"' + "\\n".join(visible(line).translate(_SPECIAL) for line in text.split("\n")) + '"'
