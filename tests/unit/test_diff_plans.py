"""What a plan does that another does not."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun.diag import Span
from nsrun.kernel import calls
from nsrun.kernel.values import Call, Reg
from nsrun.plan.diff import Kind, PlanDiff, diff
from nsrun.plan.model import Action, Plan, UndoWhen
from nsrun.render.diff import render_diff
from tests.support import plans
from tests.support.plans import at, child, implied, make_plan, parent


def mount(target: str, number: int, size: str = "64m", *, fs: str = "tmpfs_fs") -> Action:
    """A mount as the planner makes it: registers of its own, numbered through the plan."""
    reg, dest = Reg(fs), Reg(f"at_{fs}")
    return child(
        f"mount tmpfs on {target}",
        at(10 + number, f"mounts[{number}]"),
        calls.fsopen("tmpfs", save=reg),
        calls.fsconfig_string(reg, "size", size),
        calls.fsconfig_create(reg),
        calls.openat(calls.CWD, target, 0, save=dest),
        calls.close(dest),
    )


HOST = child("set the host name", at(3, "hostname"), calls.sethostname("web"))
PRIVATE = child("keep every mount in here", implied("default"), calls.mount(None, "/", None, 0))
PIN = parent(
    "pin uts", at(5, "namespaces[0]"), calls.mkdirat(calls.CWD, "/x", 0o755),
    undo=(calls.unlinkat(calls.CWD, "/x"),),
)  # fmt: skip


def kinds(found: PlanDiff) -> list[tuple[str, str]]:
    return [(change.kind.value, change.action.what) for change in found.changes]


def names(found: PlanDiff, number: int = 0) -> list[tuple[str, str]]:
    """The calls of a change that are added and removed."""
    return [
        (step.kind.value, step.op.name)
        for step in found.changes[number].steps
        if isinstance(step.op, Call)
    ]


def test_the_same_plan() -> None:
    plan = plans.everything()
    assert diff(plan, plan).same
    assert render_diff(diff(plan, plan)) == "no difference\n"


def test_places_words_and_the_spec_make_no_difference() -> None:
    old = make_plan(HOST, PIN)
    moved = dataclasses.replace(
        HOST,
        what="name it",
        origin=dataclasses.replace(HOST.origin, span=Span(file="b.yaml", line=99, column=1)),
    )
    source = dataclasses.replace(old.source, sha256="f" * 64, file="b.yaml")
    new = dataclasses.replace(make_plan(moved, PIN), source=source)
    assert diff(old, new).same


def test_names_of_registers_make_no_difference() -> None:
    old = make_plan(mount("/tmp", 0), mount("/run", 1, fs="tmpfs_fs2"))
    new = make_plan(mount("/tmp", 0, fs="a"), mount("/run", 1, fs="b"))
    assert diff(old, new).same


def test_a_register_that_another_action_reads_keeps_its_name() -> None:
    def plan(first: str, read: str) -> Plan:
        opened = child("open", implied("r"), calls.fsopen("proc", save=Reg(first)))
        other = child("open too", implied("r"), calls.fsopen("proc", save=Reg("other")))
        return make_plan(opened, other, child("close", implied("r"), calls.close(Reg(read))))

    assert diff(plan("a", "a"), plan("a", "a")).same
    found = diff(plan("a", "a"), plan("a", "other"))
    assert ("changed", "close") in kinds(found)


def test_a_mount_before_the_others_is_added_and_no_more() -> None:
    old = make_plan(HOST, mount("/tmp", 0), mount("/run", 1, fs="tmpfs_fs2"))
    new = make_plan(
        HOST, mount("/var", 0), mount("/tmp", 1, fs="tmpfs_fs2"), mount("/run", 2, fs="tmpfs_fs3")
    )
    found = diff(old, new)
    assert kinds(found) == [("added", "mount tmpfs on /var")]
    assert [step.kind for step in found.changes[0].steps] == [Kind.ADDED] * 5
    back = diff(new, old)
    assert kinds(back) == [("removed", "mount tmpfs on /var")]
    assert [step.kind for step in back.changes[0].steps] == [Kind.REMOVED] * 5


def test_a_changed_option_is_a_change_of_its_step() -> None:
    found = diff(make_plan(mount("/tmp", 0)), make_plan(mount("/tmp", 0, "128m")))
    assert kinds(found) == [("changed", "mount tmpfs on /tmp")]
    assert names(found) == [("removed", "fsconfig"), ("added", "fsconfig")]


def test_a_change_and_a_new_one_in_its_place() -> None:
    old = make_plan(mount("/tmp", 0))
    new = make_plan(mount("/var", 0, "1g"), mount("/tmp", 1, "128m", fs="tmpfs_fs2"))
    assert kinds(diff(old, new)) == [
        ("added", "mount tmpfs on /var"),
        ("changed", "mount tmpfs on /tmp"),
    ]


def test_another_order_is_a_move() -> None:
    old = make_plan(HOST, PRIVATE, mount("/tmp", 0))
    new = make_plan(PRIVATE, mount("/tmp", 0), HOST)
    found = diff(old, new)
    assert kinds(found) == [("moved", "set the host name")]
    assert found.changes[0].steps == ()


def test_the_same_steps_on_the_other_track_are_no_move() -> None:
    other = dataclasses.replace(HOST, track=PIN.track)
    assert kinds(diff(make_plan(HOST), make_plan(other))) == [
        ("removed", "set the host name"),
        ("added", "set the host name"),
    ]


def test_the_tracks_may_be_interleaved_in_another_way() -> None:
    assert diff(make_plan(HOST, PIN, PRIVATE), make_plan(PIN, HOST, PRIVATE)).same


def test_a_removed_action_stands_where_it_stood() -> None:
    old = make_plan(HOST, PRIVATE, mount("/tmp", 0))
    new = make_plan(HOST, mount("/tmp", 0, "128m"))
    assert [kind for kind, _ in kinds(diff(old, new))] == ["removed", "changed"]


def test_undo_steps_and_their_occasion() -> None:
    gone = dataclasses.replace(PIN, undo=())
    found = diff(make_plan(PIN), make_plan(gone))
    assert [(s.kind, s.undo) for s in found.changes[0].steps] == [(Kind.REMOVED, True)]
    later = dataclasses.replace(PIN, undo_when=UndoWhen.FAILURE)
    found = diff(make_plan(PIN), make_plan(later))
    assert (found.changes[0].steps, found.changes[0].when) == (
        (),
        (UndoWhen.END, UndoWhen.FAILURE),
    )
    assert "    ~ undone at: end -> failure\n" in render_diff(found)


def test_equal_actions_are_counted() -> None:
    found = diff(make_plan(HOST, HOST, HOST), make_plan(HOST))
    assert [kind for kind, _ in kinds(found)] == ["removed", "removed"]


def test_what_the_plan_needs() -> None:
    old = make_plan(HOST)
    needs = dataclasses.replace(old.needs, kernel="6.1", root=False, features=())
    found = diff(old, dataclasses.replace(old, name="db", needs=needs))
    assert [(s.name, s.old, s.new) for s in found.settings] == [
        ("name", "web", "db"),
        ("needs.kernel", "5.15", "6.1"),
        ("needs.root", "true", "false"),
        ("needs.features", "idmapped tmpfs", ""),
    ]
    assert not found.same


def test_the_text() -> None:
    old = make_plan(HOST, PRIVATE, mount("/tmp", 0), PIN)
    renamed = child("set the host name", at(3, "hostname"), calls.sethostname("db"))
    words = dataclasses.replace(mount("/tmp", 0, "1g"), what="mount tmpfs on /tmp, at most 1g")
    added = child("leave the session", implied("nothing is inherited"), calls.setsid())
    new = dataclasses.replace(make_plan(words, added, renamed, PRIVATE), name="db")
    assert (
        render_diff(diff(old, new))
        == """\
plan web -> db

~ name: web -> db

~ child   mount tmpfs on /tmp, at most 1g  mounts[0]
    (was: mount tmpfs on /tmp)
    - fsconfig(%tmpfs_fs, SET_STRING, "size", "64m")
    + fsconfig(%tmpfs_fs, SET_STRING, "size", "1g")
- parent  pin uts                          namespaces[0]
    - mkdirat(cwd, "/x", 0755)
    - undo: unlinkat(cwd, "/x", 0)
+ child   leave the session                nothing is inherited
    + setsid()
~ child   set the host name                hostname
    - sethostname("web")
    + sethostname("db")

1 to add, 2 to change, 1 to remove
"""
    )


def test_a_move_is_in_the_summary() -> None:
    text = render_diff(diff(make_plan(HOST, PRIVATE, PIN), make_plan(PRIVATE, HOST, PIN)))
    assert text.endswith("\n0 to add, 0 to change, 0 to remove, 1 to move\n")
    assert re.search(
        r"^> child   (set the host name|keep every mount in here) ", text, re.MULTILINE
    )


def test_only_settings() -> None:
    old = make_plan(HOST)
    text = render_diff(diff(old, dataclasses.replace(old, name="b")))
    assert text == ("plan web -> b\n\n~ name: web -> b\n\n0 to add, 0 to change, 0 to remove\n")


def test_color_adds_nothing_but_color() -> None:
    found = diff(plans.everything(), make_plan(HOST, mount("/a", 0)))
    painted = render_diff(found, color=True)
    assert "\x1b[32m" in painted
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == render_diff(found)


@pytest.mark.parametrize("char", ["\x1b", "\u202e", "\x9b"])
def test_nothing_acts_on_the_terminal(char: str) -> None:
    dirty = child(f"a{char}", implied(f"b{char}"), calls.chdir(f"c{char}"))
    needs = dataclasses.replace(make_plan().needs, features=(char,))
    new = dataclasses.replace(make_plan(dirty), name=f"n{char}", needs=needs)
    assert char not in render_diff(diff(make_plan(), new))
    assert char not in render_diff(diff(new, make_plan()))


@settings(max_examples=80, deadline=None)
@given(plans.plans)
def test_nothing_differs_from_itself(plan: Plan) -> None:
    assert diff(plan, plan).same


@settings(max_examples=80, deadline=None)
@given(plans.plans, plans.plans)
def test_every_action_is_told_once(old: Plan, new: Plan) -> None:
    found = diff(old, new)
    assert found == diff(old, new)
    gone = found.count(Kind.REMOVED)
    come = found.count(Kind.ADDED)
    assert len(old.actions) - gone == len(new.actions) - come >= 0
    render_diff(found)


@settings(max_examples=60, deadline=None)
@given(plans.plans, st.data())
def test_one_action_less_is_one_removed(plan: Plan, data: st.DataObject) -> None:
    if not plan.actions:
        return
    index = data.draw(st.integers(0, len(plan.actions) - 1))
    rest = plan.actions[:index] + plan.actions[index + 1 :]
    found = diff(plan, dataclasses.replace(plan, actions=rest))
    assert found.count(Kind.REMOVED) - found.count(Kind.ADDED) == 1
