"""The values that templates are given: how they are merged, set, and where each is from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun.diag import NsrunError
from nsrun.spec.values import Inputs, Values, read_values


def values(*sets: str) -> dict[str, Any]:
    return read_values(Inputs(sets=sets)).data


def refused(*sets: str) -> str:
    with pytest.raises(NsrunError) as caught:
        values(*sets)
    (found,) = caught.value.diagnostics
    assert found.code == "NS111"
    return found.summary


@pytest.mark.parametrize(
    ("sets", "data"),
    [
        ((), {}),
        (("a=1",), {"a": 1}),
        (("a=one", "b=1.5", "c=true", "d=~", "e=no"),
         {"a": "one", "b": 1.5, "c": True, "d": None, "e": "no"}),
        (("a=",), {"a": ""}),
        (('a="1"',), {"a": "1"}),
        (("a=x=y",), {"a": "x=y"}),
        (("a=b c",), {"a": "b c"}),
        (("a=[1, {b: 2}]",), {"a": [1, {"b": 2}]}),
        (("a={b: {c: 1}}", "a.b.d=2"), {"a": {"b": {"c": 1, "d": 2}}}),
        (("a.b.c=1", "a.b=2"), {"a": {"b": 2}}),
        (("a[0]=x", "a[1]=y", "a[0]=z"), {"a": ["z", "y"]}),
        (("a[0].b=1", "a[0].c=2", "a[1].b=3"), {"a": [{"b": 1, "c": 2}, {"b": 3}]}),
        (("a[0][0]=1", "a[0][1]=2"), {"a": [[1, 2]]}),
        ((r"a\.b=1", r"c.d\=e=2"), {"a.b": 1, "c": {"d=e": 2}}),
        (("a=~", "a.b=1"), {"a": {"b": 1}}),
        (("a=#x",), {"a": "#x"}),
        (("a-b_c=1",), {"a-b_c": 1}),
    ],
)  # fmt: skip
def test_set(sets: tuple[str, ...], data: dict[str, Any]) -> None:
    assert values(*sets) == data


@pytest.mark.parametrize(
    ("sets", "part"),
    [
        (("a",), "no `name=value`"),
        (("=1",), "no `name=value`"),
        (("[0]=1",), "no `name=value`"),
        (("a..b=1",), "no `name=value`"),
        (("a[x]=1",), "no `name=value`"),
        (("a[0=1",), "no `name=value`"),
        (("a[1]=1",), "would leave a gap"),
        (("a=1", "a.b=2"), "`values.a` is the number `1`"),
        (("a=1", "a[0]=2"), "not a list"),
        (("a.b=1", "a[0]=2"), "`values.a` is a mapping, not a list"),
        (("a=[1]", "a.b=2"), "`values.a` is a list"),
        (("a=b: c",), "in brackets"),
        (("a=- b",), "in brackets"),
        (("a=[1",), "not closed"),
        (("a=*b",), "no anchor"),
        (("a={b: 1, b: 2}",), "given twice"),
    ],
)
def test_set_refused(sets: tuple[str, ...], part: str) -> None:
    assert part in refused(*sets)


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(words=st.lists(st.text("ab.[]0=\\ {}\n\x00", max_size=10), max_size=3))
def test_any_words(words: list[str]) -> None:
    try:
        read_values(Inputs(sets=tuple(words)))
    except NsrunError as error:
        assert all(d.code == "NS111" for d in error.diagnostics)


def of_files(tmp_path: Path, *texts: str, sets: tuple[str, ...] = ()) -> Values:
    names = []
    for number, text in enumerate(texts):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        names.append(str(file))
    return read_values(Inputs(files=tuple(names), sets=sets))


def test_files_are_merged_in_order(tmp_path: Path) -> None:
    first = "web: {replicas: 1, ports: [80, 81], tag: a}\ndb: x\n"
    second = "web: {replicas: 3, ports: [90]}\ndb: {deep: true}\n"
    made = of_files(tmp_path, first, "# nothing\n", second, sets=("web.ports[1]=91",))
    assert made.data == {
        "web": {"replicas": 3, "ports": [90, 91], "tag": "a"},
        "db": {"deep": True},
    }


def test_each_value_knows_where_it_was_given(tmp_path: Path) -> None:
    made = of_files(
        tmp_path, "web:\n  replicas: 1\n  tag: a\n", "web: {tag: b}\n", sets=("web.new=[1, 2]",)
    )
    assert made.given["web.replicas"] == f"{tmp_path}/0.yaml:2:13"
    assert made.given["web.tag"] == f"{tmp_path}/1.yaml:1:12"
    assert made.given["web.new"] == made.given["web.new[1]"] == "--set web.new=[1, 2]"
    assert made.paths[id(made.data["web"]["new"])] == "web.new"
    assert made.data["web"]["tag"]._path == "web.tag"


def test_numbers_are_printed_as_they_were_written() -> None:
    made = values("a=1.10", "b=0755", "c=0x1F", "d=1e3")
    assert [str(v) for v in made.values()] == ["1.10", "0755", "0x1F", "1e3"]
    assert [v + 1 for v in made.values()] == [2.1, 756, 32, 1001.0]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("- a\n", "NS111"),
        ("word\n", "NS111"),
        ("a: [\n", "NS101"),
        ("a: 1\na: 2\n", "NS102"),
        ("1: a\n", "NS202"),
    ],
)
def test_bad_files_are_told_at_their_place(tmp_path: Path, text: str, code: str) -> None:
    with pytest.raises(NsrunError) as caught:
        of_files(tmp_path, "a: 1\n", text)
    found = caught.value.diagnostics[0]
    assert found.code == code
    assert found.span is not None and found.span.file == f"{tmp_path}/1.yaml"


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(NsrunError, match="cannot read `/nowhere/a.yaml`"):
        read_values(Inputs(files=("/nowhere/a.yaml",)))
