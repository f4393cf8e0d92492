"""A graph in Mermaid's flowchart language, as git hosts render it in Markdown."""

from __future__ import annotations

import re

from nsrun.render.graph import Graph, Node, Shape
from nsrun.render.text import visible

_SHAPES: dict[Shape, tuple[str, str]] = {
    "interface": ('["', '"]'),
    "bridge": ('{{"', '"}}'),
    "world": ('(["', '"])'),
    "port": ('[["', '"]]'),
    "container": ('("', '")'),
    "note": ('>"', '"]'),
}

# A mark or a space at the start of a line, the mark of a numbered list, and what makes links.
_MARKDOWN = re.compile(r"^[ +-]|^\d+[.)](?=\s|$)|(?<=www)\.|:(?=//)", re.IGNORECASE)


def mermaid(graph: Graph) -> str:
    """Nodes and places are numbered: Mermaid has words that no identifier may be (``end``)."""
    nodes = {key: f"n{number}" for number, key in enumerate(graph.nodes)}
    lines = ["flowchart LR"]
    for number, (place, title) in enumerate(graph.places.items()):
        lines.append(f'    subgraph p{number}["{escaped(title)}"]')
        members = [node for node in graph.nodes.values() if node.place == place]
        lines += [f"        {_node(nodes[node.key], node)}" for node in members]
        if not members:
            # An empty subgraph would be drawn as a node that no edge leads to.
            lines.append(f'        e{number}[" "]')
        lines.append("    end")
    for edge in graph.edges:
        arrow = "-->" if edge.directed else "---"
        label = f'|"{escaped(edge.label)}"|' if edge.label else ""
        lines.append(f"    {nodes[edge.one]} {arrow}{label} {nodes[edge.other]}")
    return "\n".join(lines) + "\n"


def _node(name: str, node: Node) -> str:
    before, after = _SHAPES[node.shape]
    return name + before + "<br/>".join(map(escaped, node.lines)) + after


def escaped(text: str) -> str:
    """``text`` with entities as Mermaid has them (``#34;``), for a line between quotes.

    Releases of Mermaid up to 11 read each line as Markdown, and tell of a list or a link
    instead of showing it.
    """
    shown = visible(text)
    found = {match.end() - 1 for match in _MARKDOWN.finditer(shown)}
    return "".join(
        c if at not in found and (c.isalnum() or c in " .,:/-+()?") else f"#{ord(c)};"
        for at, c in enumerate(shown)
    )
