"""`nsrun verify` of a stack: a copy comes up beside it, is looked at from each place, and goes."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from tests.support.box import wait_for
from tests.support.lab import Lab
from tests.support.requires import requires
from tests.support.runner import Result
from tests.support.stacks import (  # noqa: F401 -- fixtures
    BASE,
    Stacks,
    executor,
    member,
    own_stacks,
    stacks,
)

SERVE = "while :; do busybox nc -l -p {port} </dev/null; done"
NETWORKS = {
    "front": {"subnet": "10.91.0.0/24"},
    "back": {"subnet": "10.92.0.0/24", "internal": True},
}


def said(result: Result) -> dict[str, tuple[bool, str]]:
    rows = json.loads(result.stdout)
    assert all(row["line"] and row["file"] and row["path"] for row in rows)
    return {f"{r['container']}: {r['expected']}": (r["holds"], r["why"]) for r in rows}


def containers() -> dict[str, Any]:
    return {
        "db": member(
            command=SERVE.format(port=5432),
            networks={"back": {"address": "10.92.0.10"}},
            volumes=["data:/mnt"],
            expect={
                "unreachable": ["10.91.0.3:80"],
                "writable": ["/mnt"],
                "namespaces_new": ["network"],
            },
        ),
        "web": member(
            # It listens a moment after it has started.
            command=f"sleep 0.3; {SERVE.format(port=80)}",
            networks={"front": {"address": "10.91.0.3"}, "back": {}},
            network={"ports": ["8080:80"]},
            expect={"reachable": ["10.92.0.10:5432"]},
        ),
        "proxy": member(
            networks={"front": {"address": "10.91.0.4"}},
            replicas=1,
            expect={"reachable": ["10.91.0.3:80"], "unreachable": ["10.92.0.10:5432"]},
        ),
    }


@requires("root", "ip", "busybox", "nft")
def test_beside_the_stack_itself(stacks: Stacks, lab: Lab) -> None:  # noqa: F811
    keys: dict[str, Any] = {
        "networks": NETWORKS, "volumes": {"data": {}}, "containers": containers()
    }  # fmt: skip
    assert stacks.up(**keys).status == 0
    before, links = stacks.ps(), lab.links()
    # Its addresses are in use: the copy has others, and they are expected in its place.
    result = stacks.runner.run("verify", "--json", stacks.write(**keys))
    assert (result.status, result.stderr) == (0, ""), str(result)
    found = said(result)
    assert found["web: reachable 10.92.0.10:5432"] == (True, "a connection is accepted")
    assert found["proxy: reachable 10.91.0.3:80"] == (True, "a connection is accepted")
    assert found["proxy: unreachable 10.92.0.10:5432"] == (True, "no answer within 1 s")
    assert found["db: unreachable 10.91.0.3:80"] == (True, "connect: ENETUNREACH")
    assert found["db: writable /mnt"][0] and found["db: a new network namespace"][0]
    ids = {name: one["id"] for name, one in before.items()}
    assert {name: one["id"] for name, one in stacks.ps().items()} == ids
    assert lab.links() == links
    # What the copy wrote is not in the stack's volume.
    assert not list((stacks.folder / "volumes/shop/data").glob("*"))
    assert stacks.down().status == 0
    # By itself it has the stack's own addresses.
    keys["containers"]["db"]["expect"] = {"reachable": ["10.91.0.3:80"]}
    keys["containers"]["web"]["expect"] = keys["containers"]["proxy"]["expect"] = {}
    result = stacks.runner.run("verify", stacks.write(**keys))
    assert result.status == 1 and "db" in result.stdout
    assert "error[NS620]: expected reachable 10.91.0.3:80: it does not hold" in result.stderr
    assert stacks.ps() == {} and lab.links() == []


@requires("root", "ip")
def test_it_goes_whatever_happens(stacks: Stacks, lab: Lab) -> None:  # noqa: F811
    expect = {"unreachable": ["10.91.0.2:1"]}
    one = member(networks=["front"], expect=expect)
    file = stacks.write(networks={"front": NETWORKS["front"]}, containers={"a": one})
    process = stacks.runner.start("verify", file)
    # It waits for who never listens.
    assert wait_for(lambda: any(c["status"] == "running" for c in stacks.ps().values()))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert stacks.ps() == {} and lab.links() == []
    # One that cannot start, or whose check fails, takes the others with it.
    for keys in ({"command": ["/no/such"]}, {"healthcheck": {
        "command": ["false"], "interval": "0.1s", "retries": 1}}):  # fmt: skip
        file = stacks.write(containers={"a": member(expect={"readable": ["/"]}),
                                        "b": member(**keys)})  # fmt: skip
        result = stacks.runner.run("verify", file)
        assert (result.status, result.stdout) == (125, ""), str(result)
        assert result.stderr and stacks.ps() == {}
    assert not Path("/run/nsrun").exists()
    assert not list(Path("/tmp").glob("nsrun-verify-*"))


def test_an_ordinary_users(own_stacks: Stacks) -> None:  # noqa: F811
    own = {**BASE, "namespaces": ["user", *BASE["namespaces"]], "stop_timeout": "1s"}
    expect = {"capabilities": [], "read_only": ["/proc/sys"], "namespaces_new": ["user"]}
    file = own_stacks.write(
        containers={
            "a": {**own, "expect": expect, "capabilities": "none", "replicas": 2},
            "b": {
                **{key: value for key, value in own.items() if key != "mounts"},
                "namespaces": [{"type": kind, "container": "c"} for kind in ("user", "network")],
                "expect": {"unreachable": ["127.0.0.1:9"]},
            },
            "c": own,
        }
    )  # fmt: skip
    result = own_stacks.runner.run("verify", "--json", file)
    assert (result.status, result.stderr) == (0, ""), str(result)
    found = said(result)
    assert found["a-1: capabilities none"][0] and found["a-2: capabilities none"][0]
    assert found["b: unreachable 127.0.0.1:9"] == (True, "connect: ECONNREFUSED")
    assert own_stacks.ps() == {}


def test_what_is_refused(own_stacks: Stacks) -> None:  # noqa: F811
    file = own_stacks.write(containers={"a": member()})
    result = own_stacks.runner.run("verify", file)
    assert result.status == 125 and "error[NS621]" in result.stderr
    result = own_stacks.runner.run("verify", "--plan", file)
    assert result.status == 125 and "error[NS002]" in result.stderr
    source = str(own_stacks.folder)
    mounts = [{"type": "bind", "source": source, "target": "/mnt"}]
    file = own_stacks.write(containers={"a": member(mounts=mounts, expect={"readable": ["/mnt"]})})
    result = own_stacks.runner.run("verify", file)
    assert result.status == 125 and f"a may write to the host's {source}" in result.stderr
    assert "error[NS622]" in result.stderr and f"{file}:1:" in result.stderr
    assert own_stacks.ps() == {}
