"""A plan written is the plan read, and the same plan is the same text."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings

from nsrun.diag import Span
from nsrun.kernel import values
from nsrun.kernel.values import Fmt, Reg, RegKind, Str
from nsrun.plan.codec import ACTION_KEYS, NEEDS_KEYS, PLAN_KEYS, SOURCE_KEYS, dumps, loads, to_json
from nsrun.plan.codec_args import ARG, BYTES_KEYS, EXPECT_KEYS, OUT_KEYS
from nsrun.plan.codec_ops import OPERATIONS
from nsrun.plan.model import Action, Needs, Origin, Plan, Source
from nsrun.plan.ops import Op
from tests.support import plans

ROOT = Path(__file__).parents[2]


@settings(max_examples=150, deadline=None)
@given(plans.plans)
def test_every_plan_survives(plan: Plan) -> None:
    text = dumps(plan)
    assert loads(text) == plan
    assert dumps(loads(text)) == text


@settings(max_examples=100, deadline=None)
@given(plans.plans)
def test_the_text_is_utf8_and_acts_on_no_terminal(plan: Plan) -> None:
    text = dumps(plan)
    assert text.encode("utf-8").decode("utf-8") == text
    assert text.endswith("}\n")
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", text
    )


def test_the_plan_with_everything_survives() -> None:
    plan = plans.everything()
    assert loads(dumps(plan)) == plan


def test_the_end_of_a_span_is_not_part_of_the_text() -> None:
    span = Span(file="a.yaml", line=3, column=5, end_line=3, end_column=9)
    action = plans.child("be", Origin(span=span, path="name"))
    decoded = loads(dumps(plans.make_plan(action))).actions[0].origin.span
    assert decoded == Span(file="a.yaml", line=3, column=5)


def test_the_text_does_not_depend_on_the_hash_seed() -> None:
    program = "from tests.support.plans import everything\nfrom nsrun.plan.codec import dumps\n"
    program += "import sys; sys.stdout.write(dumps(everything()))"
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert texts == {dumps(plans.everything()).encode()}


@pytest.mark.parametrize(
    ("arg", "data"),
    [
        (values.Int(5), 5),
        (values.Int(3, "MS_REC"), {"int": 3, "text": "MS_REC"}),
        (values.NULL, {"int": 0, "text": "NULL"}),
        (Str("/proc"), "/proc"),
        (
            Fmt(("/proc/", Reg("child", RegKind.PID), "/uid_map")),
            {"format": "/proc/{child}/uid_map", "kinds": {"child": "pid"}},
        ),
        (Fmt(("{x}", Reg("dir"))), {"format": "{{x}}{dir}"}),
        (values.Length(Fmt(("a",))), {"length": {"format": "a"}}),
        (Reg("child", RegKind.PID), {"reg": "child", "kind": "pid"}),
        (values.Strings(("a", "b")), {"strings": ["a", "b"]}),
        (
            values.Bytes(b"\x01\xff" * 4, "t", (values.Hole(0, 4, Reg("r")),)),
            {
                "bytes": "01ff01ff01ff01ff",
                "text": "t",
                "holes": [{"offset": 0, "size": 4, "reg": "r", "kind": "fd"}],
            },
        ),
        (
            values.Bytes(bytes(8), "", (), (values.Pointer(0, values.Bytes(b"x")),)),
            {"bytes": "00" * 8, "pointers": [{"offset": 0, "target": {"bytes": "78"}}]},
        ),
        (
            values.Out(
                8, (values.Hole(0, 8, Reg("r")),), (values.Expect(0, 1, 1, 0, "e", "skip"),)
            ),
            {
                "out": 8,
                "save": [{"offset": 0, "size": 8, "reg": "r", "kind": "fd"}],
                "expect": [
                    {
                        "offset": 0,
                        "size": 1,
                        "mask": 1,
                        "equals": 0,
                        "text": "e",
                        "otherwise": "skip",
                    }
                ],
            },
        ),
    ],
)
def test_each_argument_has_its_form(arg: values.Arg, data: object) -> None:
    assert ARG.encode(arg) == data
    assert ARG.decode(data) == arg


def test_a_format_of_split_texts_is_the_same_text() -> None:
    assert ARG.encode(Fmt(("a", "", "b"))) == ARG.encode(Fmt(("ab",)))


def test_a_byte_that_is_not_utf8_survives() -> None:
    name = os.fsdecode(b"/srv/\xff\xfe")
    step = values.Call(name="chdir", args=(Str(name),))
    text = dumps(plans.make_plan(plans.child("go", plans.implied("r"), step)))
    assert '"/srv/\\udcff\\udcfe"' in text
    decoded = loads(text).actions[0].steps[0]
    assert isinstance(decoded, values.Call)
    assert decoded.args == (Str(name),)


def test_the_form_of_an_action_and_of_the_whole() -> None:
    plan = plans.everything()
    data = to_json(plan)
    assert list(data) == ["format", "name", "spec", "needs", "actions"]
    assert data["format"] == 1
    first, second = data["actions"][:2]
    assert first["from"] == {"rule": "control channel"}
    assert "undo" not in first and "undo_when" not in first
    assert second["from"] == {"file": "web.yaml", "line": 4, "column": 3, "path": "namespaces"}
    assert second["undo_when"] == "failure"
    assert data["actions"][7]["from"]["rule"] == "pivot"
    assert json.loads(dumps(plan)) == data


# What the tables leave out would be lost without a word.
@pytest.mark.parametrize(
    ("cls", "members"),
    [
        *OPERATIONS.values(),
        (values.Bytes, BYTES_KEYS),
        (values.Out, OUT_KEYS),
        (values.Expect, EXPECT_KEYS),
        (Action, ACTION_KEYS),
        (Needs, NEEDS_KEYS),
        (Source, SOURCE_KEYS),
        (Plan, {**PLAN_KEYS, "format": ("format", None)}),
    ],
)
def test_every_field_has_a_key(cls: type, members: dict[str, tuple[str, object]]) -> None:
    fields = {field.name for field in dataclasses.fields(cls)}
    assert {name for name, _ in members.values()} == fields


def test_every_operation_has_a_table() -> None:
    assert {cls for cls, _ in OPERATIONS.values()} == set(Op.__args__)
