"""Interfaces of a spec, seen from both ends, with real packets."""

from __future__ import annotations

from tests.support.box import Box
from tests.support.lab import Lab, say
from tests.support.requires import requires

pytestmark = requires("root", "ip", "ping")

VETH = {"name": "eth0", "type": "veth", "addresses": ["169.254.1.2/30", "fd00:1::2/64"],
        "peer": {"addresses": ["169.254.1.1/30", "fd00:1::1/64"]}}  # fmt: skip
NAMESPACES = ["mount", "network"]


def test_a_pair_reaches_the_host_and_is_reached(root_box: Box, lab: Lab) -> None:
    with lab.unchanged():
        box = root_box.with_(name="web", namespaces=NAMESPACES, network={"interfaces": [VETH]})
        with box.running("ping -qc1 -W2 169.254.1.1 && ping -qc1 -W2 fd00:1::1; "
                         "echo $?; read x") as run:  # fmt: skip
            lines = [run.line()]
            while lines[-1] not in ("0", "1"):
                lines.append(run.line())
            assert lines[-1] == "0", lines
            assert lab.links() == ["ve-web"]
            lab.ip("-4 addr show dev ve-web")
            say("ping", "-qc1", "-W2", "169.254.1.2")
            say("ping", "-qc1", "-W2", "fd00:1::2")
            run.process.stdin.write("\n")
            assert run.end().status == 0
