"""A failure is told in the words of the spec and of the plan."""

from __future__ import annotations

import dataclasses
import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun.diag import CODES, Diagnostic
from nsrun.kernel.abi import signal_name
from nsrun.kernel.values import Bytes, Fmt, Int, Length, Out, Str, Strings
from nsrun.plan.model import Action, Origin, Plan, Track
from nsrun.plan.ops import Spawn
from nsrun.render.diagnostic import render
from nsrun.render.failure import (
    exit_text,
    failure_diagnostic,
    no_explanation,
    outcome_diagnostics,
)
from nsrun.replay.outcome import Failure, Kind, Outcome, UndoFailure
from tests.support import plans

PLAN = plans.everything()


def told(
    track: Track,
    index: int,
    kind: Kind,
    *,
    status: int = 125,
    errno: int = 0,
    value: int = 0,
    expect: int = -1,
    text: str = "",
) -> Diagnostic:
    failure = Failure(
        track=track, index=index, kind=kind, errno=errno, value=value, expect=expect, text=text
    )
    return failure_diagnostic(PLAN, Outcome(status=status, failure=failure))


def test_an_errno_with_the_kernels_own_words() -> None:
    found = told(Track.CHILD, 8, Kind.ERRNO, errno=22, text="proc: Unknown parameter 'x'\n")
    assert found.code == "NS501"
    assert found.summary == "cannot mount proc on /proc: Invalid argument (EINVAL)"
    assert (found.span and found.span.line, found.path) == (9, "mounts[0]")
    assert found.label == "asked for here"
    assert found.step == (
        "step 19 of 27 (c8), child: fsconfig(%fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)"
    )
    assert found.errno == "EINVAL"
    assert found.notes == ("the kernel says: proc: Unknown parameter 'x'",)
    assert (found.why, found.help) == ((), ())


def test_an_action_that_a_rule_implied() -> None:
    found = told(Track.CHILD, 2, Kind.ERRNO, errno=1)
    assert found.span is None
    assert found.notes == ("implied: default propagation",)
    both = told(Track.CHILD, 3, Kind.ERRNO, errno=1)
    assert (both.label, both.notes) == ("implied here", ("implied: pivot",))


def test_the_explainer_is_asked_with_plain_values() -> None:
    asked: list[object] = []

    def explain(
        call: str, errno: str, args: tuple[str | int, ...]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        asked.append((call, errno, args))
        return ("because",), ("do",)

    failure = Failure(track=Track.PARENT, index=2, kind=Kind.ERRNO, errno=13)
    found = failure_diagnostic(PLAN, Outcome(status=125, failure=failure), explain)
    assert asked == [("openat", "EACCES", (-100, "/proc/%child/uid_map", 1))]
    assert (found.why, found.help) == (("because",), ("do",))


@pytest.mark.parametrize(
    ("track", "index", "asked"),
    [
        (Track.PARENT, 1, ("clone3", (0x14020000,))),
        (Track.PARENT, 4, ("write", ("%uid_map", "{%child}", "{%child}"))),
        (Track.PARENT, 6, ("spawn", ("/usr/bin/newgidmap", "%child", "0", "100000"))),
        (Track.PARENT, 8, ("netlink", ("rtnl link set ve-web up",))),
        (Track.CHILD, 0, ("wait", ())),
        (Track.CHILD, 6, ("fstatfs", ("%masked", "PROC_SUPER_MAGIC"))),
        (Track.CHILD, 13, ("execve", ("/bin/busybox", "httpd -f", "A=1 B=2 C=3"))),
    ],
)
def test_what_the_explainer_is_asked(
    track: Track, index: int, asked: tuple[str, tuple[str | int, ...]]
) -> None:
    seen: list[tuple[str, tuple[str | int, ...]]] = []

    def explain(
        call: str, errno: str, args: tuple[str | int, ...]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        assert errno == "EPERM"
        seen.append((call, args))
        return (), ()

    failure = Failure(track=track, index=index, kind=Kind.ERRNO, errno=1)
    failure_diagnostic(PLAN, Outcome(status=125, failure=failure), explain)
    assert seen == [asked]


def test_a_short_write() -> None:
    found = told(Track.PARENT, 3, Kind.RESULT, value=4)
    assert found.summary == "cannot map uid 0 to 100000: the result is 4, not 15"


def test_an_answer_that_was_not_expected() -> None:
    found = told(Track.CHILD, 6, Kind.EXPECT, value=0x1021994, expect=0)
    assert found.summary.endswith(": the kernel's answer is not what the plan expects")
    assert found.notes[0] == "expected: f_type == PROC_SUPER_MAGIC; found: 0x1021994"
    unknown = told(Track.CHILD, 6, Kind.EXPECT, value=1, expect=9)
    assert unknown.notes[0] == "found: 0x1"


def test_a_helper_that_fails() -> None:
    found = told(Track.PARENT, 6, Kind.SPAWN, value=1, text="newgidmap: not allowed\n")
    assert found.code == "NS503"
    assert found.summary == "cannot map uid 0 to 100000: newgidmap ended with exit status 1"
    assert found.notes == ("newgidmap says: not allowed",)
    missing = told(Track.PARENT, 6, Kind.SPAWN, value=-1, errno=2)
    assert missing.summary.endswith(": newgidmap: No such file or directory (ENOENT)")


def test_a_child_that_ends() -> None:
    found = told(Track.CHILD, 4, Kind.ENDED, value=137)
    assert found.code == "NS502"
    assert found.summary == "the child ended before the command ran: signal SIGKILL"
    before = told(Track.CHILD, -1, Kind.ENDED, value=-1)
    assert (before.code, before.step) == ("NS502", "")


def test_a_fault_of_nsrun_itself() -> None:
    found = told(Track.CHILD, 0, Kind.INTERNAL, text="no register %x")
    assert (found.code, found.notes) == ("NS003", ())
    assert found.summary == "cannot wait for the id maps: no register %x"


@pytest.mark.parametrize(
    ("number", "status", "code"), [(2, 127, "NS601"), (13, 126, "NS602"), (12, 125, "NS501")]
)
def test_a_command_that_cannot_be_executed(number: int, status: int, code: str) -> None:
    found = told(Track.CHILD, 13, Kind.ERRNO, errno=number, status=status)
    assert found.code == code
    # What PATH has nowhere is named as the spec names it, not by the last folder looked in.
    runs = [a for a in PLAN.actions for op in a.steps if getattr(op, "name", "") == "execve"]
    named = runs[0].what if number == 2 else "run /bin/busybox"
    assert found.summary.startswith(f"cannot {named}: ")


def test_a_helper_that_was_too_slow() -> None:
    slow = Spawn(argv=(Str("/bin/sleep"), Str("9")), timeout=200_000_000)
    plan = dataclasses.replace(PLAN, actions=(
        Action(track=Track.PARENT, what="run the hook", origin=Origin(rule="r"), steps=(slow,)),
    ))  # fmt: skip
    failure = Failure(track=Track.PARENT, index=0, kind=Kind.SPAWN, errno=errno.ETIMEDOUT)
    (found,) = outcome_diagnostics(plan, Outcome(status=125, failure=failure))
    assert found.summary == "cannot run the hook: sleep ran longer than 200ms"


def test_an_interruption_comes_before_its_failure() -> None:
    failure = Failure(track=Track.PARENT, index=11, kind=Kind.ERRNO, errno=4)
    outcome = Outcome(status=130, interrupted=True, signal=2, failure=failure)
    (found,) = outcome_diagnostics(PLAN, outcome)
    assert (found.code, found.summary) == ("NS505", "interrupted by SIGINT before the command ran")
    assert found.step.startswith("step 24 of 27 (p11), parent: await exec")
    assert found.notes == ("what had been made is undone",)


def test_what_could_not_be_undone() -> None:
    undo = UndoFailure(action=4, step=0, what="connect eth0", kind=Kind.ERRNO, errno=1, text="busy")
    lost = dataclasses.replace(undo, action=99)
    outcome = Outcome(status=0, undo_failures=(undo, lost), survivors=(7, 8))
    first, second, third = outcome_diagnostics(PLAN, outcome)
    assert {first.code, second.code, third.code} == {"NS504"}
    assert first.summary == "cannot undo: connect eth0: Operation not permitted (EPERM)"
    assert first.step == "undo: rtnl link del ve-web"
    assert first.span is not None and first.span.line == 13
    assert first.notes == ("the kernel says: busy",)
    assert (second.step, second.span) == ("", None)
    assert third.summary == "processes did not end when killed: 7, 8"


def test_after_an_interruption_what_is_left_is_not_called_undone() -> None:
    undo = UndoFailure(action=4, step=0, what="connect eth0", kind=Kind.ERRNO, errno=1)
    outcome = Outcome(status=130, interrupted=True, signal=15, undo_failures=(undo,))
    assert [d.code for d in outcome_diagnostics(PLAN, outcome)] == ["NS505", "NS504"]
    assert outcome_diagnostics(PLAN, outcome)[0].notes == ()


def test_what_a_command_did_is_told_after_it() -> None:
    outcome = Outcome(status=137, started=True, timed_out=True, dropped_signal=15)
    found = outcome_diagnostics(PLAN, outcome)
    assert [(d.code, d.severity.value) for d in found] == [("NS603", "error"), ("NS604", "warning")]
    assert "SIGTERM" in found[1].summary


def test_a_good_end_says_nothing() -> None:
    assert outcome_diagnostics(PLAN, Outcome(status=3, started=True)) == ()
    with pytest.raises(ValueError, match="did not fail"):
        failure_diagnostic(PLAN, Outcome(status=0))
    assert no_explanation("mount", "EPERM", ()) == ((), ())


def test_words_for_an_end() -> None:
    assert exit_text(0) == "exit status 0"
    assert exit_text(-1) == "an unknown status"
    assert exit_text(143) == "signal SIGTERM"
    assert signal_name(37) == "SIGRTMIN+3"
    assert signal_name(200) == "200"


@settings(max_examples=150, deadline=None)
@given(
    plans.plans,
    st.sampled_from(Track),
    st.integers(-1, 12),
    st.sampled_from(Kind),
    st.integers(0, 300),
    st.integers(-1, 300),
    st.integers(-1, 3),
    plans.texts,
)
def test_any_failure_of_any_plan_can_be_told(
    plan: Plan, track: Track, index: int, kind: Kind, errno: int, value: int, expect: int, text: str
) -> None:
    failure = Failure(
        track=track, index=index, kind=kind, errno=errno, value=value, expect=expect, text=text
    )
    undo = UndoFailure(action=index, step=0, what=text, kind=kind, errno=errno, value=value)
    outcome = Outcome(status=125, failure=failure, undo_failures=(undo,))
    found = outcome_diagnostics(plan, outcome)
    assert [d.code in CODES for d in found] == [True, True]
    assert render(found, sources=lambda _: None).endswith("2 errors\n")


def test_every_form_of_argument_has_a_plain_value() -> None:
    """The explainers get numbers and strings only, whatever a call's arguments are."""
    call = dataclasses.replace(
        plans.LOOKUP,
        args=(
            Int(5, "X"),
            Str("s"),
            Length(Fmt(("l",))),
            Strings(("a", "b")),
            Bytes(b"raw"),
            Out(4, text="o"),
        ),
    )
    plan = plans.make_plan(plans.parent("x", plans.implied("r"), call))
    seen: list[tuple[str | int, ...]] = []

    def explain(
        _call: str, _errno: str, args: tuple[str | int, ...]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        seen.append(args)
        return (), ()

    failure = Failure(track=Track.PARENT, index=0, kind=Kind.ERRNO, errno=1)
    failure_diagnostic(plan, Outcome(status=125, failure=failure), explain)
    assert seen == [(5, "s", "l", "a b", '"raw"', "o")]
