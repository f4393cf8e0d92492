"""Sysctls that cannot be set: the file below /proc/sys says why."""

from __future__ import annotations

from tests.support.box import Box
from tests.support.hints import Said, run_after, said
from tests.support.requires import requires

NET = ["user", "network"]


def refused(box: Box, key: str, value: str) -> Said:
    return said(box.refused("true", namespaces=NET, sysctl={key: value}))


def test_a_sysctl_that_is_not_there(box: Box) -> None:
    found = refused(box, "net.ipv4.no_such_thing", "1")
    assert "this kernel has no sysctl net.ipv4.no_such_thing" in found.why
    assert "/proc/sys/net/ipv4/no_such_thing does not exist" in found.why


def test_a_sysctl_that_can_only_be_read(box: Box) -> None:
    found = refused(box, "net.ipv4.tcp_available_congestion_control", "reno")
    assert found.why == (
        "net.ipv4.tcp_available_congestion_control can only be read (mode 0444)"
    )


def test_a_word_where_a_number_is_meant(box: Box) -> None:
    found = refused(box, "net.ipv4.ip_forward", "yes")
    assert found.why.startswith("net.ipv4.ip_forward takes a number, as on the host now: ")


def test_words_where_numbers_are_meant(box: Box) -> None:
    found = refused(box, "net.ipv4.ping_group_range", "all of them")
    assert found.why.startswith("net.ipv4.ping_group_range takes 2 numbers, as on the host now: ")


def test_a_number_that_is_out_of_range_has_no_cause(box: Box) -> None:
    found = refused(box, "net.ipv4.ip_default_ttl", "70000")
    assert "EINVAL" in found.text
    assert (found.why, found.tips) == ("", "")


@requires("root")
def test_a_proc_that_is_read_only(root_box: Box) -> None:
    script = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys"
    spec = root_box.spec(
        namespaces=["network"], sysctl={"net.ipv4.ip_forward": "1"}, command="true"
    )
    found = said(run_after(root_box.runner, script, spec))
    assert found.why == "/proc/sys is mounted read-only"
    assert "with a new /proc in `mounts`" in found.tips
