"""``nsrun events``: what has happened, and what happens."""

from __future__ import annotations

import json
import os
from typing import Any

from tests.support.detached import Containers

SLEEP = ["sleep", "60"]


def told(text: str, ident: str) -> list[tuple[str, dict[str, Any]]]:
    found = [json.loads(line) for line in text.splitlines()]
    ours = [e for e in found if e["Actor"]["ID"].startswith(ident)]
    return [(e["Action"], e["Actor"]["Attributes"]) for e in ours]


def test_the_past_and_what_happens_are_the_same(c: Containers) -> None:
    follow = c.runner.start("events", "-f", "--since", "0s", "--format", "json")
    try:
        short = c.up("trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done")
        c.until_said("up")
        c.ok("pause", "c")
        c.ok("unpause", "c")
        c("stop", "c")
        # Read while it is there: its end is told by its folder alone.
        here = told(c.ok("events", "--format", "json"), short)
        c.ok("start", "c")
        c.ok("kill", "c")
        c.until_over()
        c.ok("rm", "c")
        lines = []
        assert follow.stdout is not None
        while not lines or json.loads(lines[-1])["Action"] != "destroy":
            lines.append(follow.stdout.readline())
    finally:
        follow.kill()
        follow.communicate()
    happened = told("".join(lines), short)
    first = ["create", "start", "pause", "unpause", "die", "stop"]
    assert [action for action, _ in here] == first
    assert here[4][1]["exitCode"] == "7"
    past = told(c.ok("events", "--format", "json"), short)
    assert [a for a, _ in past][:7] == [*first, "start"]
    # The signal and what comes of it: the one who sends it writes after that.
    assert sorted(a for a, _ in past[7:]) == ["destroy", "die", "kill"]
    assert past[-1][0] == "destroy"
    assert {a["exitCode"] for action, a in past if action == "die"} == {"7", "137"}
    assert sorted(str(e) for e in happened) == sorted(str(e) for e in past)
    assert c("events", "--filter", f"container={short}").stdout.count("\n") == len(past)
    assert "(exitCode=7, name=c, " in c.ok("events", "--filter", f"container={short}")
    assert c("events", "--filter", "nonsense").status == 2


def test_the_end_of_one_that_removes_itself(c: Containers) -> None:
    follow = c.runner.start("events", "-f", "--since", "0s", "--format", "json")
    try:
        short = c.up("read x; exit 3", "--rm", stdin="open")
        assert follow.stdout is not None
        lines = [follow.stdout.readline(), follow.stdout.readline()]
        assert [a for a, _ in told("".join(lines), short)] == ["create", "start"]
        pid = c.pid()
        os.kill(pid, 9)
        lines += [follow.stdout.readline(), follow.stdout.readline()]
    finally:
        follow.kill()
        follow.communicate()
    happened = told("".join(lines), short)
    assert [a for a, _ in happened] == ["create", "start", "die", "destroy"]
    assert (happened[2][1]["exitCode"], happened[2][1]["signal"]) == ("137", "9")


def test_no_end_is_made_up_for_a_killed_monitor(c: Containers) -> None:
    short = c.up(SLEEP)
    c.kill(c.locker())
    assert c.ps()["c"]["status"] == "dead"
    assert [a for a, _ in told(c.ok("events", "--format", "json"), short)] == ["create", "start"]
    c.ok("rm", "c")
    past = [a for a, _ in told(c.ok("events", "--format", "json"), short)]
    assert past == ["create", "start", "destroy"]
