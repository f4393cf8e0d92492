"""Capabilities in all five sets, credentials and no_new_privs, in the order that holds."""

from __future__ import annotations

import re

import pytest

from nsrun.kernel import abi
from nsrun.kernel.facts import Facts
from nsrun.plan.model import Plan, Track
from nsrun.plan.security import DEFAULT
from tests.support.planning import (
    ORDINARY,
    ROOT,
    WITH_IDS,
    has,
    knowing,
    lines,
    only,
    order,
    planned,
    refusals,
    refused,
    why,
)

CHOWN, KILL, NET_RAW = "CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"
SPACES = ["user"]


def bits(*names: str) -> int:
    return sum(1 << abi.Capability[name] for name in names)


def sets(plan: Plan) -> dict[str, int]:
    """The three of capset(2), what is raised to ambient, and what stays of the bounding set."""
    clear, capset, *raised = lines(only(plan, "hold no other capabilities"))
    assert "PR_CAP_AMBIENT_CLEAR_ALL" in clear
    found = {name: int(value, 16) for name, value in re.findall(r"(\w+)=(0x[0-9a-f]+)", capset)}
    found["ambient"] = bits(*(name for line in raised for name in re.findall(r"CAP_[A-Z_]+", line)
                              if not name.startswith("CAP_AMBIENT")))  # fmt: skip
    dropped = lines(only(plan, "limit what")) if has(plan, "limit what") else []
    names = [name for line in dropped for name in re.findall(r", (CAP_[A-Z_]+)", line)]
    assert len(names) == len(set(names)) == len(dropped)
    found["bounding"] = (1 << 41) - 1 - bits(*names)
    return found


def all_of(value: int, ambient: int = 0, inheritable: int = 0) -> dict[str, int]:
    return {
        "bounding": value, "permitted": value, "effective": value,
        "inheritable": inheritable, "ambient": ambient,
    }  # fmt: skip


def capable(facts: Facts = ORDINARY, **keys: object) -> dict[str, int]:
    return sets(planned(facts, **{"namespaces": SPACES, **keys}))


DEFAULTS = bits(*(capability.name or "" for capability in DEFAULT))


# --- the sets ------------------------------------------------------------------------------------


def test_the_default_set() -> None:
    assert bits(
        CHOWN, "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", KILL, "CAP_NET_BIND_SERVICE",
        "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
    ) == DEFAULTS  # fmt: skip
    assert capable() == all_of(DEFAULTS)
    assert capable(ROOT, namespaces=["uts"]) == all_of(DEFAULTS)


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        ([], 0),
        ([CHOWN], bits(CHOWN)),
        ({"drop": [CHOWN]}, DEFAULTS & ~bits(CHOWN)),
        ({"add": [NET_RAW]}, DEFAULTS | bits(NET_RAW)),
        ({"drop": ["ALL"], "add": [KILL]}, bits(KILL)),
        ({"add": ["ALL"]}, (1 << 41) - 1),
        ({"add": ["ALL"], "drop": [CHOWN]}, ((1 << 41) - 1) & ~bits(CHOWN)),
        ("all", (1 << 41) - 1),
        ("none", 0),
    ],
)
def test_root_holds_what_is_asked_for_and_no_more(asked: object, held: int) -> None:
    assert capable(capabilities=asked) == all_of(held)


def test_another_user_holds_what_the_spec_names() -> None:
    """Kernel: without root's id only what is ambient survives the execve."""
    keys = {"user": {"uid": 1000, "gid": 1000}}
    named = bits(CHOWN)
    assert capable(WITH_IDS, capabilities=[CHOWN], **keys) == all_of(named, named, named)
    default = capable(WITH_IDS, **keys)
    assert default == {**all_of(0), "bounding": DEFAULTS}
    added = capable(WITH_IDS, capabilities={"add": [NET_RAW]}, **keys)
    raw = bits(NET_RAW)
    assert added == {**all_of(raw, raw, raw), "bounding": DEFAULTS | raw}


def test_each_set_by_its_name() -> None:
    asked = {
        "bounding": [CHOWN, KILL, NET_RAW],
        "permitted": [CHOWN, KILL],
        "effective": [CHOWN],
        "inheritable": [KILL],
        "ambient": [KILL],
    }
    assert capable(capabilities=asked) == {
        "bounding": bits(CHOWN, KILL, NET_RAW),
        "permitted": bits(CHOWN, KILL),
        "effective": bits(CHOWN),
        "inheritable": bits(KILL),
        "ambient": bits(KILL),
    }


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ({"effective": [CHOWN]}, "capabilities.effective"),
        ({"bounding": [CHOWN], "ambient": [CHOWN], "inheritable": [CHOWN]},
         "capabilities.ambient"),
        ({"permitted": [CHOWN], "ambient": [CHOWN]}, "capabilities.ambient"),
        # capset(2): EPERM, as nothing outside of the bounding set can be added to it.
        ({"permitted": [CHOWN], "inheritable": [CHOWN]}, "capabilities.inheritable"),
    ],
)  # fmt: skip
def test_sets_that_the_kernel_would_not_take(asked: object, place: str) -> None:
    assert refused(ORDINARY, namespaces=SPACES, capabilities=asked) == [("NS318", place)]


def test_what_the_caller_does_not_hold_cannot_be_given() -> None:
    few = knowing(ROOT, permitted=frozenset({0, 5, 6, 7, 8, 21}))
    (found,) = refusals(few, namespaces=["uts"], capabilities={"add": [NET_RAW, CHOWN]})
    assert (found.code, found.summary) == ("NS402", "CAP_NET_RAW cannot be given")
    # The defaults are a bound, not a demand: what of them is not held is left out.
    assert capable(few, namespaces=["uts"]) == all_of(
        bits(CHOWN, KILL, "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP")
    )


def test_a_capability_newer_than_nsrun_is_dropped_by_its_number() -> None:
    plan = planned(knowing(ORDINARY, last_cap=42), namespaces=SPACES)
    dropped = lines(only(plan, "limit what"))
    assert dropped[-2:] == [f"prctl(PR_CAPBSET_DROP, {n}, 0, 0, 0)" for n in (41, 42)]


def test_without_a_namespace_an_ordinary_user_keeps_a_bounding_set_that_bounds_nothing() -> None:
    assert not has(planned(ORDINARY), "limit what")
    refusal = ("NS402", "no_new_privileges")
    assert refused(ORDINARY, no_new_privileges=False, seccomp="unconfined") == [refusal]
    assert refused(ORDINARY, no_new_privileges=False) == [refusal, refusal]


# --- the order -----------------------------------------------------------------------------------


def test_each_step_comes_while_it_is_still_allowed() -> None:
    plan = planned(
        WITH_IDS, namespaces=SPACES, user={"uid": 7, "gid": 8, "groups": [9]}, rlimits={"core": 0}
    )
    order(
        plan,
        Track.CHILD,
        "limit core",
        "limit what execve can give",
        "become 7:8",
        "hold no other capabilities",
        "end when the launcher ends, if",
        "keep execve from giving privileges",
        "stay in the caller's folder",
        "pass on no descriptor",
        "reset signals",
        "run /bin/true",
    )
    assert lines(only(plan, "become 7:8")) == [
        "setgroups(1, [9])",
        "setresgid(8, 8, 8)",
        "setresuid(7, 7, 7)",
    ]


def test_capabilities_survive_the_change_of_ids_only_where_they_are_wanted() -> None:
    user = {"uid": 7, "gid": 8}
    kept = planned(WITH_IDS, namespaces=SPACES, user=user, capabilities=[CHOWN])
    assert "prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)" in lines(only(kept, "become 7:8"))
    plain = planned(WITH_IDS, namespaces=SPACES, user=user)
    assert "KEEPCAPS" not in " ".join(lines(only(plain, "become 7:8")))


def test_the_death_signal_is_set_again_after_the_ids_and_the_launcher_looked_for() -> None:
    """prctl(2): a change of credentials clears it; the launcher may have ended meanwhile."""
    assert lines(only(planned(ORDINARY, namespaces=SPACES), "end when the launcher ends, if")) == [
        "prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)",
        "recvfrom(%peer, {peek}, 1, MSG_PEEK|MSG_DONTWAIT, NULL, NULL)",
    ]


def test_no_new_privs_is_the_default_and_can_be_given_up() -> None:
    action = only(planned(ORDINARY, namespaces=SPACES), "keep execve from giving privileges")
    assert lines(action) == ["prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)"]
    assert why(action) == "(default no_new_privileges)"
    given = planned(ORDINARY, namespaces=SPACES, no_new_privileges=True)
    assert why(only(given, "keep execve")) == "no_new_privileges"
    off = planned(ORDINARY, namespaces=SPACES, no_new_privileges=False)
    assert not has(off, "keep execve")


def test_where_each_part_comes_from() -> None:
    plan = planned(WITH_IDS, namespaces=SPACES, user="7:8", capabilities=[])
    assert why(only(plan, "become 7:8")) == "user"
    assert why(only(plan, "limit what")) == "capabilities"
    assert why(only(plan, "hold no other")) == "capabilities"
    default = planned(WITH_IDS, namespaces=SPACES)
    assert why(only(default, "become 0:0")) == "(default user)"
    assert why(only(default, "limit what")) == "(default capabilities)"
