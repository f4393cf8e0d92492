"""The networks of a stack as a plan."""

from __future__ import annotations

from ipaddress import ip_interface

from nsrun.plan.bridges import Bridge, Bridges, networks_table, plan_bridges
from nsrun.plan.nat import table_name
from nsrun.plan.ops import Spawn
from tests.unit.test_plan_nat import host


def test_a_stack_has_a_table_of_its_own() -> None:
    bridge = Bridge(
        name="nsb-shop-n",
        path="networks.n",
        addresses=(ip_interface("10.1.0.1/24"),),
        masquerade=True,
    )
    wanted = Bridges(name="shop", file="shop.yaml", sha256="", bridges=(bridge,))
    made = plan_bridges(wanted, host(), notify="/run/s")
    (make,) = (step for action in made.actions for step in action.steps if isinstance(step, Spawn))
    assert make.stdin is not None
    text = str(make.stdin.text)
    assert 'create table inet nsrun-shop/networks { comment "nsrun: stack shop"; }' in text
    # No container is called so, and none of the longest name comes near the kernel's limit.
    assert networks_table("shop") != table_name("shop.networks")
    assert len(networks_table("x" * 64)) < 256
