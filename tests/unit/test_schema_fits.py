"""The quick yes to a valid document, held against jsonschema."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from nsrun.spec.document import read_document
from nsrun.spec.schema import _validator, is_stack, load_schema
from nsrun.spec.schema_fits import _KEYWORDS, ANNOTATIONS, fits
from tests.support.paths import SPECS

CONTAINER = load_schema("container")
DOCUMENTS = {
    name: {"": load_schema(name), "container.schema.json": CONTAINER}
    for name in ("container", "stack")
}
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1.0, 0.5, 2**64, "", "a", "1", "\n", "64m", "64m\n", "root:root",
    "é" * 300, [], ["a"], [1], {}, {"x-a": 1}, {"a": "b"}, {"path": "/"}, "auto", "/a:/b",
)  # fmt: skip


def same(name: str, data: Any) -> bool:
    """Whether the data is valid, asserted to be what jsonschema says."""
    got = fits(data, DOCUMENTS[name][""], DOCUMENTS[name])
    assert got == _validator(name).is_valid(data), data
    return got


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document: what holds it, and its key."""
    items: Any = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield node, key
        if isinstance(value, dict | list):
            yield from places(value)


def test_every_keyword_of_the_schemas_is_known() -> None:
    def keywords(schema: Any) -> Iterator[str]:
        if not isinstance(schema, dict):
            return
        for keyword, operand in schema.items():
            yield keyword
            if keyword in ("properties", "patternProperties", "$defs"):
                for child in operand.values():
                    yield from keywords(child)
            elif keyword in ("items", "additionalProperties", "propertyNames"):
                yield from keywords(operand)
            elif keyword == "anyOf":
                for child in operand:
                    yield from keywords(child)

    used = {k for name in DOCUMENTS for k in keywords(load_schema(name))}
    assert used - ANNOTATIONS == set(_KEYWORDS)


def test_a_keyword_it_does_not_know_is_no_yes() -> None:
    assert fits(1, {"type": "integer"}, {})
    assert not fits(1, {"type": "integer", "multipleOf": 1}, {})
    assert not fits(1, {"type": "integer", "$ref": "other.json#/$defs/a"}, {})
    assert not fits(1, {"type": "whole"}, {})


@pytest.mark.parametrize("seed", range(6))
def test_it_says_what_jsonschema_says(seed: int) -> None:
    chance = random.Random(seed)
    said = {True: 0, False: 0}
    for path in sorted(SPECS.rglob("*.yaml"))[seed::6]:
        document = read_document(str(path))
        name = "stack" if is_stack(document) else "container"
        plain = json.loads(json.dumps(document.data))
        assert same(name, plain) or "values" in path.parts or "stacks" in path.parts
        for _ in range(12):
            data = copy.deepcopy(plain)
            for _ in range(chance.choice((1, 1, 2))):
                node, key = chance.choice([*places(data)] or [(data, "hostname")])
                how = chance.randrange(4)
                if how == 0:
                    del node[key]
                elif how == 1 and isinstance(node, dict):
                    node[chance.choice(("x-more", "name", "hostnam", "mode", key + "\n"))] = node[
                        key
                    ]
                else:
                    node[key] = copy.deepcopy(chance.choice(ODD))
            said[same(name, data)] += 1
    assert min(said.values()) > 5, said
