"""Whatever a container's folder holds, `ps` and `inspect` leave it out or say something of it."""

# ruff: noqa: E501 -- a table of inputs is read on few lines

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsrun import cli
from nsrun.cli.ps import _Health
from nsrun.runtime import stack_store, stack_watched, store
from nsrun.runtime.store import Record

FAST = settings(
    max_examples=20, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
SOUND = {
    "format": 1,
    **dataclasses.asdict(
        Record(id="ab" * 32, name="web", spec="/a.yaml", sha256="0", command=("sh",), created=1)
    ),
    "stack": "shop",
}
FILES = ("container.json", "pid", "exit", "oom", "lost", "plan")
COMMANDS = (
    ["ps"], ["ps", "-a"], ["ps", "-aq"], ["ps", "-a", "--no-trunc"], ["ps", "-a", "--format=json"],
    ["inspect", "web"], ["inspect", "--plan", "web"], ["inspect", "ab"],
)  # fmt: skip
ODD = [
    10**30, -1, 10**4000, 1 << 63, 1e400, "", "\0", "a\0b", "\ud800", "\udcff", "\x1b[2J", "..", "../..", "a/b",
    "/", "9" * 5000, "é" * 300, [], {}, ["\0"], ["\ud800"], {"\0": "\ud800"}, {"a": "\x1b]0;x\x07"}, None, True,
]  # fmt: skip
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(ODD),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def web(state: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a container `web`, of a stack that is kept."""
    (state / "containers" / "web").mkdir(parents=True, exist_ok=True)
    (state / "stacks" / "shop").mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(store, "folder", lambda: str(state / "containers"))
    monkeypatch.setattr(stack_store, "is_kept", lambda _: True)
    return state / "containers" / "web"


def fill(web: Path, name: str, data: bytes) -> None:
    """A sound folder, but for one file."""
    members = web.parents[1] / "stacks" / "shop" / "members.json"
    for file in FILES:
        with contextlib.suppress(FileNotFoundError):
            (web / file).unlink()
    (web / "container.json").write_text(json.dumps(SOUND))
    members.write_text("{}")
    (members if name == "members.json" else web / name).write_bytes(data)


def look(commands: Sequence[list[str]] = COMMANDS) -> None:
    for words in commands:
        # As a terminal or a pipe has it: what is no UTF-8 cannot be written.
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = cli.carry_out(words)
            out.flush()
            err.flush()
        said = err.buffer.getvalue().decode()  # type: ignore[attr-defined]
        assert "NS003" not in said, said
        assert "Traceback" not in said, said
        assert status == (1 if "error[NS" in said else 0), (words, status, said)


@FAST
@given(name=st.sampled_from([*FILES, "members.json"]), data=st.binary(max_size=60))
def test_any_bytes(web: Path, name: str, data: bytes) -> None:
    fill(web, name, data)
    look()


@FAST
@given(name=st.sampled_from(["container.json", "members.json"]), data=JSON)
def test_any_json(web: Path, name: str, data: Any) -> None:
    fill(web, name, json.dumps(data).encode())
    look()


@FAST
@given(changes=st.dictionaries(st.sampled_from(sorted(SOUND)), JSON, min_size=1, max_size=3))
def test_any_fields(web: Path, changes: dict[str, Any]) -> None:
    fill(web, "container.json", json.dumps({**SOUND, **changes}).encode())
    look()


@FAST
@given(
    member=st.dictionaries(
        st.sampled_from(["state", "has_check", "healthy", "restarts"]), JSON, max_size=4
    )
    | JSON
)
def test_any_member_of_a_stack(web: Path, member: Any) -> None:
    fill(web, "members.json", json.dumps({"web": member}).encode())
    look()


KNOWN: dict[str, Any] = {"file": "/a.yaml", "cwd": "/", "volumes": ["/v"]}


def test_a_stack_s_own_record(web: Path) -> None:
    file = web.parents[1] / "stacks" / "shop" / "stack.json"
    file.write_text(json.dumps(KNOWN))
    assert stack_store.record("shop") == KNOWN
    damaged: list[Any] = [{**KNOWN, key: odd} for key in KNOWN for odd in (5, None, [5], "a\0")]
    for data in [*damaged, [], 5, None, {}]:
        file.write_text(json.dumps(data))
        assert stack_store.record("shop") is None, data
    for text in ("", "{", "[" * 100_000):
        file.write_text(text)
        assert stack_store.record("shop") is None
    file.unlink()


def test_members_of_a_stack(web: Path) -> None:
    file = web.parents[1] / "stacks" / "shop" / "members.json"
    said = {"state": "running", "healthy": None, "has_check": True, "restarts": 2}
    file.write_text(json.dumps({"web": {**said, "more": 1}, "other": 5}))
    assert stack_store.members("shop") == {"web": said}
    file.write_text(
        json.dumps({"web": {"state": 1, "healthy": 1, "has_check": 1, "restarts": True}})
    )
    assert stack_store.members("shop") == {"web": {}}


def test_a_stack_s_old_word_does_not_hide_that_it_runs() -> None:
    """On a full disk the keeper cannot take it back."""
    record = store.Record(id="a", name="web", spec="-", sha256="", command=(), created=1)
    health = _Health()
    health.of = lambda _: {"state": "restarting"}  # type: ignore[method-assign]
    for status, told in ((store.Status.RUNNING, False), (store.Status.EXITED, True)):
        one = store.Container(record=record, folder="/", status=status)
        assert health.restarts(one) is told


def test_what_a_keeper_reads_is_of_its_form(web: Path) -> None:
    file = web.parents[1] / "stacks" / "shop" / "watched.json"
    check = {"command": ["true"], "interval": 1, "timeout": 1, "retries": 1, "start_period": 0}
    one = {"name": "shop-a", "service": "a", "restart": {"policy": "always", "max": None},
           "healthcheck": check, "joins": ["shop-b"]}  # fmt: skip
    odd: list[Any] = [
        5, {}, {**one, "name": "../a"}, {**one, "name": 5}, {**one, "joins": [5]},
        {**one, "restart": {"policy": "ever"}}, {**one, "restart": {"policy": "no", "max": "1"}},
        {**one, "healthcheck": {**check, "interval": "1"}}, {**one, "healthcheck": {}},
        {**one, "healthcheck": {**check, "command": []}},
    ]  # fmt: skip
    file.write_text(json.dumps([*odd, one]))
    (member,) = stack_watched.watched("shop").members
    assert (member.spec.name, member.restart.policy) == ("shop-a", "always")
    assert member.healthcheck is not None and member.healthcheck.command == ("true",)
    assert stack_watched.joins("shop") == {"shop-a": frozenset({"shop-b"})}
    for data in ({}, 5, None):
        file.write_text(json.dumps(data))
        assert stack_watched.watched("shop").members == ()
    file.unlink()


def test_the_folder_s_name_is_the_container_s(web: Path) -> None:
    for name in ("other", "../web", "", "web/"):
        fill(web, "container.json", json.dumps({**SOUND, "name": name}).encode())
        assert store.load(str(web)) is None


def test_a_plan_that_is_gone_is_an_error_of_its_own(web: Path) -> None:
    fill(web, "plan", b"")
    (web / "plan").unlink()
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        assert cli.carry_out(["inspect", "--plan", "web"]) == 1
    assert "error[NS406]: the plan of web cannot be read: No such file" in err.getvalue()


@pytest.mark.parametrize("field", sorted(SOUND))
def test_odd_values(web: Path, field: str) -> None:
    for value in ODD:
        with contextlib.suppress(ValueError):  # more digits than Python writes
            fill(web, "container.json", json.dumps({**SOUND, field: value}).encode())
            look((COMMANDS[1], COMMANDS[4], COMMANDS[5]))
