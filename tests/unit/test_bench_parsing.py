"""What the bench reads from the kernel and from the tools it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.alike import unlike
from bench.area import BenchError
from bench.hyper import Contestant, Timing, hyperfine, times_of, trial
from bench.machine import busy_share
from bench.memory import field, read_memory, summed
from bench.mounts import Growth, slopes
from bench.peers import oci_config
from bench.processes import Process, below, parse_stat
from bench.starts import total_calls, unneeded_imports
from bench.storm import namespaces, sockets
from bench.subject import find_map

STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000300           3       100        12 openat
 40.00    0.000200           2       190           close
------ ----------- ----------- --------- --------- ----------------
100.00    0.000500           1       290        12 total
"""


def test_a_process_name_may_hold_anything() -> None:
    line = "12 (a) S 1 (b) R 7 12 12 0 -1 4194304"
    assert parse_stat(line) == Process(pid=12, parent=7, name="a) S 1 (b", state="R")


def test_descendants_are_found_through_all_levels() -> None:
    tree = [
        Process(pid=pid, parent=parent, name="x", state="S")
        for pid, parent in ((1, 0), (4, 3), (3, 2), (2, 1), (9, 1))
    ]
    assert [p.pid for p in below(2, tree)] == [3, 4]


def test_times_come_from_one_result() -> None:
    assert times_of(json.dumps({"results": [{"times": [0.5, 0.25]}]})) == (0.5, 0.25)
    with pytest.raises(ValueError):
        times_of(json.dumps({"results": [{"times": []}, {"times": []}]}))


def test_hyperfine_gets_one_command_and_its_preparation_as_words() -> None:
    contestant = Contestant(
        name="x",
        argv=("prog", "0 100 65536"),
        prepare=("find", "/a b", "-delete"),
        wrapper=("in", "--here"),
        runs=7,
        warmup=2,
    )
    argv = hyperfine(contestant, Path("out"))
    assert argv[:2] == ["in", "--here"]
    assert argv[2].endswith("hyperfine")
    assert argv[-1] == "prog '0 100 65536'"
    assert argv[argv.index("--prepare") + 1] == "find '/a b' -delete"
    assert {"-N", "--runs=7", "--warmup=2"} <= set(argv)


def test_median_and_middle_half() -> None:
    timing = Timing(name="x", times=(5.0, 1.0, 2.0, 3.0, 4.0))
    assert timing.median == 3.0
    assert timing.middle_half == (2.0, 4.0)
    assert Timing(name="x", times=(1.0,)).middle_half == (1.0, 1.0)


def test_a_command_that_fails_is_left_out_with_its_last_words() -> None:
    script = "echo first >&2; echo last >&2; exit 3"
    assert trial(Contestant(name="x", argv=("sh", "-c", script))) == "it ends with 3: last"
    assert trial(Contestant(name="x", argv=("true",))) == ""
    script = "echo 'error: the point' >&2; echo '  = note' >&2; exit 1"
    assert trial(Contestant(name="x", argv=("sh", "-c", script))).endswith(": error: the point")
    assert trial(Contestant(name="x", argv=("true",), missing="no x here")) == "no x here"
    assert trial(Contestant(name="x", argv=("/nonexistent/x",))).startswith("it does not run")


def test_calls_are_the_total_of_strace() -> None:
    assert total_calls(STRACE) == 290
    assert total_calls("") is None


def test_only_unneeded_packages_are_named() -> None:
    trace = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:       100 |        100 |   yaml\n"
        "import time:       100 |        100 |       pyroute2.netlink\n"
        "import time:       100 |        100 |     pyroute2\n"
    )
    assert unneeded_imports(trace) == ("pyroute2",)
    assert unneeded_imports(trace.replace("pyroute2", "json")) == ()
    # No trace at all is no proof.
    assert unneeded_imports("") is None


def test_memory_of_a_process(tmp_path: Path) -> None:
    (tmp_path / "smaps_rollup").write_text(
        "1-2 ---p 0 00:00 0 [rollup]\nRss:  300 kB\nPss:  120 kB\nPss_Anon:  20 kB\n"
    )
    (tmp_path / "status").write_text("Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t  400 kB\n")
    assert read_memory(tmp_path) == (120, 300, 400)
    with pytest.raises(ValueError, match="no VmSwap"):
        field("", "VmSwap")


def test_supervisors_are_summed() -> None:
    use = summed("x", [(1, 20, 300), (4, 50, 600)])
    assert (use.processes, use.pss, use.rss, use.peak) == (2, 5, 70, 900)


def test_namespaces_of_others_do_not_count() -> None:
    table = "4026531835 cgroup 1\n4026532300 mnt 77\n4026532301 net 99\n4026532302 uts\n"
    assert namespaces(table, {77}) == ["namespace mnt 4026532300", "namespace uts 4026532302"]


def test_sockets_of_the_measured_container() -> None:
    table = "Num RefCount ... Path\n0: 2 0 0 1 1 5 @nsrun/0/hardened\n0: 2 0 0 1 1 6 @nsrun/0/web\n"
    assert sockets(table) == ["socket @nsrun/0/hardened"]


def test_busy_is_what_is_neither_idle_nor_waiting() -> None:
    before = "cpu  100 0 100 1000 50 0 0 0 0 0\ncpu0 ...\n"
    after = "cpu  110 0 105 1070 60 0 0 5 0 0\ncpu0 ...\n"
    assert busy_share(before, after) == pytest.approx(0.2)
    assert busy_share(before, before) == 0.0


def test_the_id_map_is_found_in_a_plan() -> None:
    plan = {"steps": [{"args": ["mode", "1 2 3"]}, {"args": [{"text": "0 188743680 65536\n"}]}]}
    assert find_map(plan) == (0, 188743680, 65536)
    with pytest.raises(BenchError, match="no id map"):
        find_map({"steps": ["0 x 1\n", 7]})


def test_two_containers_are_told_apart_by_their_lines() -> None:
    assert unlike(["a", "b"], ["b", "a"]) == ()
    assert unlike(["a", "b"], ["b", "c"]) == ("nsrun alone: a", "hand-written C alone: c")


def test_slopes_of_a_line_and_of_a_square() -> None:
    sizes = (10, 100, 1000)
    assert slopes(sizes, [1.0, 10.0, 100.0]) == pytest.approx((0.1, 0.1))

    def growth(*times: float) -> Growth:
        return Growth(name="x", timings=tuple(Timing(name="x", times=(t,)) for t in times))

    assert growth(5.1, 6.0, 15.0).ratio == pytest.approx(1.0)
    assert growth(0.01, 1.0, 100.0).ratio == pytest.approx(10.0)
    slow_once = Timing(name="x", times=(5.1, 9.0, 9.0))
    assert Growth(name="x", timings=(slow_once, *growth(6.0, 15.0).timings)).ratio < 1.1
    # Times that fall as the mounts grow say nothing good.
    assert growth(2.0, 1.0, 3.0).ratio == float("inf")


def test_the_oci_bundle_has_the_map_and_the_capabilities_of_the_default() -> None:
    config = oci_config(Path("/r"), ("/bin/true",), (0, 5000, 10))
    linux, process = config["linux"], config["process"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 5000, "size": 10}]
    assert len(linux["namespaces"]) == 7
    assert process["noNewPrivileges"] is True
    assert process["capabilities"]["bounding"] == process["capabilities"]["effective"]
