"""A spec's file as a document, rendered first where it is a template."""

from __future__ import annotations

from nsrun.spec.document import Document, parse_rendered, read_document
from nsrun.spec.values import NOTHING, Inputs


def read_source(path: str, inputs: Inputs = NOTHING, *, main: bool = True) -> Document:
    """Read the file at ``path`` (``-``: the standard input).

    One whose name ends in ``.j2`` is a template, and where there are inputs the ``main`` file
    always is. Raises NsrunError: what is wrong with it as a template or as YAML.
    """
    if path.endswith(".j2") or (main and inputs):
        from nsrun.spec.template import render

        return parse_rendered(render(path, inputs))
    return read_document(path)
