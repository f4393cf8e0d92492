"""The nodes of a YAML document, with their places."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from nsrun.diag import Span
from nsrun.spec.scalar import Scalar


class NodeKind(Enum):
    SCALAR = auto()
    LIST = auto()
    MAPPING = auto()
    ALIAS = auto()


@dataclass(slots=True)
class Node:
    """A YAML node: ``value`` and ``plain`` (its text, when not a quoted string) for a scalar,
    ``items`` for a list, ``entries`` for a mapping (key to key's span and value), and for an
    alias the node in ``target``. ``done`` is False while its end has not been met."""

    kind: NodeKind
    span: Span
    value: Scalar = None
    plain: str | None = None
    items: list[Node] = field(default_factory=list)
    entries: dict[str, tuple[Span, Node]] = field(default_factory=dict)
    pairs: list[tuple[Node, Node]] = field(default_factory=list)
    pending: Node | None = None
    target: Node | None = None
    flow: bool = False
    done: bool = True

    @property
    def resolved(self) -> Node:
        """The node itself, or the one an alias stands for."""
        return self if self.target is None else self.target
