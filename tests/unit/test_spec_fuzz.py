"""Whatever the text, the front ends in a spec or in diagnostics, never in another exception."""

# ruff: noqa: E501 -- a case of a table is read on one line

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsrun.diag import NsrunError
from nsrun.plan.build import plan
from nsrun.spec.document import parse_document
from nsrun.spec.load import load_document
from nsrun.spec.schema import load_schema
from tests.support.planning import ORDINARY, ROOT

FAST = settings(
    max_examples=250, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip

# Pieces that YAML gives a meaning, and pieces that specs are made of.
PIECES = [
    "a", "b: ", "- ", "? ", ": ", "[", "]", "{", "}", ", ", "\n", "\n  ", "\t", "&a ", "*a", "!x ",
    "!!int ", "!!python/x ", "<<: ", "'", '"', "|", ">\n", "#", "---\n", "...\n", "%YAML 1.2\n",
    "~", "0x", "1e9", "\0", "\ud800", "\u2028", "\x1b", "\ufeff", "é", "\\", '"\\ud800"', '"\\0"',
    "command: [sh]\n", "namespaces: [mount]\n", "mounts:\n", "  - {type: bind, ", "target: /a",
    "hostname: x\n", "user: ", "env: ", "x-a: ",
]  # fmt: skip


def front(text: str) -> None:
    """What holds is planned as well, or refused for the machine."""
    try:
        spec, _ = load_document(parse_document(text, "spec.yaml"))
        plan(spec, ROOT)
        plan(spec, ORDINARY)
    except NsrunError as error:
        assert error.diagnostics
        for diagnostic in error.diagnostics:
            assert diagnostic.span is None or diagnostic.span.line >= 1
            assert "Traceback" not in diagnostic.summary


@pytest.fixture(params=["libyaml", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "python":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    return str(request.param)


@FAST
@given(text=st.text(max_size=60))
def test_any_text(parser: str, text: str) -> None:
    front(text)


@FAST
@given(parts=st.lists(st.sampled_from(PIECES), max_size=25))
def test_any_pieces_of_yaml(parser: str, parts: list[str]) -> None:
    front("".join(parts))


KEYS = sorted(load_schema("container")["properties"])
WORDS = sorted(
    {"type", "target", "source", "options", "path", "pid", "uid", "gid", "content", "symlink", "folder",
     "mode", "add", "drop", "upper", "work", "lower", "propagation", "x-a", "A=B", "nofile", "net.a"}
)  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from(["user", "mount", "bind", "/a", "a/..", "1:2:3", "0:0", "~x", "a\0", "\n", "10s", "ALL",
                     "SIGTERM", "default", "9" * 30, "./a:/b:ro", "::", "unlimited", "-1", "é" * 80]),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from([*WORDS, *KEYS]), inner, max_size=3),
    ),
    max_leaves=6,
)


@FAST
@given(data=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6))
def test_any_values_under_known_keys(data: dict[str, object]) -> None:
    front(yaml.safe_dump(data, allow_unicode=False))


def instances(schema: dict[str, Any]) -> st.SearchStrategy[object]:
    """Values that come near to what ``schema`` asks for."""
    root = load_schema("container")
    while "$ref" in schema:
        schema = root["$defs"][str(schema["$ref"]).split("/")[-1]]
    options: list[st.SearchStrategy[object]] = []
    if isinstance(schema.get("examples"), list):
        options.append(st.sampled_from(schema["examples"]))
    for branch in schema.get("anyOf", ()):
        options.append(instances(branch))
    if "enum" in schema:
        options.append(st.sampled_from(schema["enum"]))
    if isinstance(schema.get("properties"), dict):
        parts = {k: instances(v) for k, v in schema["properties"].items()}
        options.append(st.fixed_dictionaries({}, optional=parts))
    if isinstance(schema.get("items"), dict):
        options.append(st.lists(instances(schema["items"]), max_size=3))
    return st.one_of(*options, LEAVES) if options else LEAVES


NEAR = st.fixed_dictionaries(
    {"command": st.just(["sh"])},
    optional={
        key: instances(value)
        for key, value in load_schema("container")["properties"].items()
        if key not in ("command", "env_file")
    },
)


@FAST
@given(data=NEAR)
def test_values_near_to_valid_ones(data: dict[str, object]) -> None:
    front(yaml.safe_dump(data, allow_unicode=False))
