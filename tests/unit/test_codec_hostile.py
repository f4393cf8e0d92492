"""What is read back may be anything: it is a plan, or one located NS406."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun.diag import Diagnostic, NsrunError
from nsrun.plan import codec_text
from nsrun.plan.codec import dumps, loads, to_json
from tests.support import plans

Data = dict[str, Any]
FULL: Data = to_json(plans.everything())


def refused(text: str) -> Diagnostic:
    with pytest.raises(NsrunError) as caught:
        loads(text, file="plan.json")
    (found,) = caught.value.diagnostics
    assert found.code == "NS406"
    assert found.summary.startswith("not a plan: ")
    return found


def edited(edit: Callable[[Data], object]) -> str:
    data = copy.deepcopy(FULL)
    edit(data)
    return json.dumps(data, indent=2)


def first_call(data: Data) -> Data:
    found: Data = data["actions"][0]["steps"][0]
    return found


def step(data: Data, op: str) -> Data:
    """The first step of this operation."""
    steps = [s for action in data["actions"] for s in action["steps"]]
    found: Data = next(s for s in steps if s["op"] == op)
    return found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON: expecting value"),
        ("[]", "an object is expected, not a list"),
        ("null", "an object is expected, not null"),
        ("{}", "key `format` is missing"),
        ('{"format": 2}', "plan format 2 is not supported, only 1"),
        ('{"format": true}', "a whole number is expected, not a boolean"),
        ('{"format": 1, "format": 1}', "key `format` is given twice"),
        ('{"format": 1}', "key `name` is missing"),
        ('{"format": NaN}', "NaN is no number"),
        ("[" * 100_000, "the text is nested too deeply"),
        ('{"format": ' + "9" * 5000 + "}", "not JSON: exceeds the limit"),
        ('{"format": 1,}', "not JSON:"),
    ],
)
def test_texts_that_are_no_plan(text: str, message: str) -> None:
    assert message in refused(text).summary


def test_a_text_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_text, "MAX_CHARACTERS", 10)
    assert "longer than 10 characters" in refused('{"format": 1}').summary


CASES: list[tuple[Callable[[Data], object], str, str]] = [
    (lambda d: d.update(extra=1), "unknown key `extra`", "extra"),
    (lambda d: d.update(name=""), "is not a plan's name", "name"),
    (lambda d: d.update(name="a/b"), "is not a plan's name", "name"),
    (lambda d: d.update(name=3), "a string is expected, not a number", "name"),
    (lambda d: d["spec"].update(sha256="8E" * 32), "is not a SHA-256", "spec.sha256"),
    (lambda d: d["spec"].pop("file"), "key `file` is missing", "spec"),
    (lambda d: d["needs"].update(kernel="6"), "is not a kernel version", "needs.kernel"),
    (lambda d: d["needs"].update(root=1), "true or false is expected", "needs.root"),
    (lambda d: d["needs"].update(features="x"), "a list is expected", "needs.features"),
    (lambda d: d["actions"].append(1), "an object is expected", f"actions[{len(FULL['actions'])}]"),
    (
        lambda d: d["actions"][0].update(track="x"),
        "is not one of parent, child",
        "actions[0].track",
    ),
    (lambda d: d["actions"][1].update(undo_when="x"), "not one of end", "actions[1].undo_when"),
    (lambda d: d["actions"][1]["from"].pop("line"), "key `line` is missing", "actions[1].from"),
    (lambda d: d["actions"][1]["from"].update(line=0), "not between", "actions[1].from.line"),
    (lambda d: d["actions"][0].pop("steps"), "key `steps` is missing", "actions[0]"),
    (lambda d: first_call(d).update(op="exec"), "is not one of call", "actions[0].steps[0].op"),
    (lambda d: first_call(d).pop("op"), "key `op` is missing", "actions[0].steps[0]"),
    (
        lambda d: first_call(d).update(name="reboot"),
        "not a system call",
        "actions[0].steps[0].name",
    ),
    (lambda d: first_call(d).update(args=[0] * 7), "more than 6", "actions[0].steps[0].args"),
    (lambda d: first_call(d).update(args=[None]), "not null", "actions[0].steps[0].args[0]"),
    (lambda d: first_call(d).update(args=[True]), "not a boolean", "actions[0].steps[0].args[0]"),
    (lambda d: first_call(d).update(args=[1.5]), "not a fraction", "actions[0].steps[0].args[0]"),
    (lambda d: first_call(d).update(args=[2**64]), "not between", "actions[0].steps[0].args[0]"),
    (
        lambda d: first_call(d).update(args=[-(2**63) - 1]),
        "not between",
        "actions[0].steps[0].args[0]",
    ),
    (lambda d: first_call(d).update(args=["a\0b"]), "holds a NUL", "actions[0].steps[0].args[0]"),
    (lambda d: first_call(d).update(args=["\ud800"]), "surrogate", "actions[0].steps[0].args[0]"),
    (lambda d: first_call(d).update(args=[{}]), "exactly one of", "actions[0].steps[0].args[0]"),
    (
        lambda d: first_call(d).update(args=[{"int": 1, "out": 1}]),
        "exactly one of",
        "actions[0].steps[0].args[0]",
    ),
    (lambda d: first_call(d).update(accept=["EBOGUS"]), "errno", "actions[0].steps[0].accept[0]"),
    (lambda d: first_call(d).update(skip=["errorcode"]), "errno", "actions[0].steps[0].skip[0]"),
    (
        lambda d: first_call(d).update(save={"reg": "x y", "kind": "fd"}),
        "is not a name",
        "actions[0].steps[0].save.reg",
    ),
    (
        lambda d: first_call(d).update(save={"reg": "x"}),
        "key `kind` is missing",
        "actions[0].steps[0].save",
    ),
    (
        lambda d: first_call(d).update(log={"reg": "x", "kind": "pid"}),
        "kind fd is expected, not pid",
        "actions[0].steps[0].log.kind",
    ),
    (
        lambda d: step(d, "clone").update(pid={"reg": "child", "kind": "fd"}),
        "kind pid is expected",
        "actions[1].steps[0].pid.kind",
    ),
    (
        lambda d: first_call(d).update(save={"reg": "child", "kind": "fd"}),
        "register `child` is a fd and a pid",
        "actions[1].steps[0]",
    ),
    (
        lambda d: step(d, "spawn").update(success=[256]),
        "not between 0 and 255",
        "actions[3].steps[4].success[0]",
    ),
    (
        lambda d: step(d, "spawn").update(argv=[3]),
        "the form str or fmt",
        "actions[3].steps[4].argv[0]",
    ),
    (
        lambda d: step(d, "spawn").update(timeout=-1),
        "not between",
        "actions[3].steps[4].timeout",
    ),
]


@pytest.mark.parametrize(("edit", "message", "path"), CASES)
def test_one_thing_wrong(edit: Callable[[Data], object], message: str, path: str) -> None:
    found = refused(edited(edit))
    assert message in found.summary
    assert found.path == path


@pytest.mark.parametrize(
    ("arg", "message", "below"),
    [
        ({"format": "{"}, "a single brace", ".format"),
        ({"format": "a}b"}, "a single brace", ".format"),
        ({"format": "{}"}, "is not a name", ".format"),
        ({"format": "x", "kinds": {"a": "fd"}}, "`a` is not a register of the format", ".kinds"),
        ({"format": "{a}", "kinds": {"a": "x"}}, "not one of fd, pid", ".kinds.a"),
        ({"strings": ["a", 1]}, "a string is expected", ".strings[1]"),
        ({"bytes": "0"}, "pairs of lower-case", ".bytes"),
        ({"bytes": "FF"}, "pairs of lower-case", ".bytes"),
        (
            {"bytes": "00", "holes": [{"offset": 0, "size": 4, "reg": "r", "kind": "fd"}]},
            "a hole reaches past the end of 1 bytes",
            ".holes[0]",
        ),
        (
            {"bytes": "00" * 4, "holes": [{"offset": 0, "size": 3, "reg": "r", "kind": "fd"}]},
            "1, 2, 4 or 8 bytes",
            ".holes[0].size",
        ),
        (
            {"bytes": "00", "pointers": [{"offset": 0, "target": {"bytes": ""}}]},
            "a pointer reaches past the end",
            ".pointers[0]",
        ),
        ({"out": -1}, "not between", ".out"),
        ({"out": 1 << 40}, "not between", ".out"),
        (
            {"out": 4, "expect": [{"offset": 1, "size": 4, "mask": 1, "equals": 1, "text": ""}]},
            "a check reaches past the end",
            ".expect[0]",
        ),
        (
            {"out": 4, "save": [{"offset": 4, "size": 1, "reg": "r", "kind": "fd"}]},
            "a register reaches past the end",
            ".save[0]",
        ),
        ({"int": "1"}, "a whole number is expected", ".int"),
        ({"int": 1, "hex": "0x1"}, "unknown key `hex`", ".hex"),
    ],
)
def test_arguments_that_are_wrong(arg: Data, message: str, below: str) -> None:
    found = refused(edited(lambda d: first_call(d).update(args=[arg])))
    assert message in found.summary
    assert found.path == f"actions[0].steps[0].args[0]{below}"


def test_buffers_that_point_too_deep() -> None:
    buffer: Data = {"bytes": ""}
    for _ in range(5):
        buffer = {"bytes": "00" * 8, "pointers": [{"offset": 0, "target": buffer}]}
    found = refused(edited(lambda d: first_call(d).update(args=[buffer])))
    assert "more than 4 deep" in found.summary


def test_the_place_is_the_line_of_the_wrong_value() -> None:
    text = edited(lambda d: first_call(d).update(args=[0, 'a\\"{[', "x\0"]))
    span = refused(text).span
    assert span is not None
    assert text.splitlines()[span.line - 1][span.column - 1 :] == '"x\\u0000"'


def test_the_place_of_broken_json() -> None:
    span = refused('{\n  "format": 1,\n  oops\n}').span
    assert (span and (span.line, span.column)) == (3, 3)


def test_without_a_file_the_path_is_the_place() -> None:
    with pytest.raises(NsrunError) as caught:
        loads(edited(lambda d: d.update(name=3)))
    (found,) = caught.value.diagnostics
    assert (found.span, found.path) == (None, "name")


def test_messages_do_not_act_on_a_terminal() -> None:
    found = refused(edited(lambda d: d.update({"\x1b[2J\u202e": 1})))
    assert "\x1b" not in found.summary and "\u202e" not in found.summary


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(value, dict | list):
        return [path]
    members = value.items() if isinstance(value, dict) else enumerate(value)
    return [path, *(p for key, member in members for p in _paths(member, (*path, key)))]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(_paths(FULL)[1:]), _json)
def test_any_value_anywhere_is_a_plan_or_an_error(path: tuple[Any, ...], value: Any) -> None:
    data = copy.deepcopy(FULL)
    target = data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    try:
        plan = loads(json.dumps(data), file="plan.json")
    except NsrunError as error:
        assert [d.code for d in error.diagnostics] == ["NS406"]
        assert error.diagnostics[0].span is not None
    else:
        assert loads(dumps(plan)) == plan
