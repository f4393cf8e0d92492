"""The results as a page of Markdown: ratios first, figures rounded."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import machine, subject
from bench.goals import Results, goals, rounded
from bench.hyper import hyperfine
from bench.machine import Machine
from bench.memory import NSRUN, Use
from bench.mounts import SIZES, Growth
from bench.network import PAIR, PLAIN, Cost
from bench.stacks import Stacks
from bench.starts import Starts
from bench.storm import TOTAL, Storm

_HEAD = """\
# Benchmarks

<!-- Written by `make bench`: run that, do not edit. -->

nsrun beside other tools that start the same container, in one run on one machine. Times are of
whole processes, from the fork to the collected status, as hyperfine takes them: medians over
rounds in which every tool has its turn. Compare within a table, not between two runs: the ratios
stay, the milliseconds do not.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """``busy``: what else the machine did, sampled between the subjects. ``area``: the folder
    that stands as $AREA in commands."""

    machine: Machine
    date: str
    minutes: float
    busy: Sequence[float]
    quick: bool
    native: bool
    area: str
    results: Results


def page(run: Run) -> str:
    results = run.results
    parts = [_HEAD, _marks(run), _goals(results)]
    if results.starts is not None:
        parts.append(_starts(results.starts))
    if results.memory is not None:
        parts.append(_memory(results.memory))
    if results.storms is not None:
        parts.append(_storms(results.storms))
    if results.growths is not None:
        parts.append(_growths(results.growths))
    if results.network is not None:
        parts.append(_network(results.network))
    if results.stacks is not None:
        parts.append(_stacks(results.stacks))
    parts.append(_machine(run))
    if results.starts is not None:
        parts.append(_commands(results.starts))
    text = "\n".join(part for part in parts if part)
    return text.replace(run.area, "$AREA")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    # A bar in a cell would end it.
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _marks(run: Run) -> str:
    """What lessens the worth of the figures, seen by the run itself."""
    marks = []
    if run.quick:
        marks.append("This was a quick run: few repetitions, for trying the bench out.")
    if run.busy and max(run.busy) > machine.BUSY:
        marks.append(
            f"The machine was not quiet: while the bench waited it was up to "
            f"{rounded(max(run.busy) * 100)} % busy with something else."
        )
    if not run.native:
        marks.append(
            "This nsrun is a Python program: every start pays for an interpreter, and a plan is "
            "not cached."
        )
    if run.results.starts is not None and run.results.starts.unlike:
        marks.append(
            "The hand-written C makes another container than nsrun, so their times do not compare."
        )
    return "".join(f"**{mark}**\n" for mark in marks)


def _goals(results: Results) -> str:
    rows = [[g.what, g.wanted, g.found or "-", g.verdict.value] for g in goals(results)]
    return "## Must reach\n\n" + table(["what", "wanted", "found", ""], rows)


def _starts(starts: Starts) -> str:
    ours = starts.timing(subject.WARM)
    measured = sorted((t for t in starts.timings if not t.missing), key=lambda t: t.median)
    rows = []
    for timing in measured:
        low, high = timing.middle_half
        rows.append(
            [
                timing.name,
                "-" if ours.missing else rounded(timing.median / ours.median),
                rounded(timing.median * 1000),
                f"{rounded(low * 1000)} to {rounded(high * 1000)}",
                str(len(timing.times)),
                str(starts.calls.get(timing.name, "-")),
            ]
        )
    head = ["", "times nsrun, warm", "median ms", "middle half, ms", "runs", "system calls"]
    gone = [f"- {t.name} is not measured: {t.missing}\n" for t in starts.timings if t.missing]
    gone += [f"- unlike: {line}\n" for line in starts.unlike[:10]]
    return (
        "## Start\n\n"
        "`/bin/true` in new user, mount, pid, network, ipc, uts and cgroup namespaces, with the\n"
        "mounts, masks, read-only paths and capabilities that are nsrun's defaults, no_new_privs,\n"
        "a host name and loopback up (bench/specs/hardened.yaml). unshare and bubblewrap do a\n"
        "part of it; crun, runc, lxc-execute and systemd-nspawn make cgroups besides.\n"
        "`warm` has the plan in its cache, `cold` an empty cache. The hand-written C is\n"
        "bench/handwritten.c: the plan's system calls and nothing else; mounts, devices, ids,\n"
        "capabilities, descriptors and signals of the two containers are compared in each run.\n\n"
        + table(head, rows)
        + ("\n" + "".join(gone) if gone else "")
        + f"\nFiles in nsrun's cache after one start: {starts.cached}.\n"
    )


def _memory(uses: Sequence[Use]) -> str:
    own = next((u for u in uses if u.name == NSRUN and not u.missing), None)
    rows = [
        [
            use.name,
            rounded(use.pss / own.pss) if own and own.pss else "-",
            rounded(use.pss),
            rounded(use.rss),
            rounded(use.peak),
            str(use.processes),
        ]
        for use in uses
        if not use.missing
    ]
    head = ["", "times nsrun", "PSS kB", "RSS kB", "peak RSS kB", "processes"]
    gone = [f"- {u.name} is not measured: {u.missing}\n" for u in uses if u.missing]
    return (
        "## Memory\n\n"
        "Of what stands between the caller and an idle command (`sleep`), all its processes\n"
        "together: proportional and resident size, and each one's peak (VmHWM).\n\n"
        + table(head, rows)
        + ("\n" + "".join(gone) if gone else "")
    )


def _storms(storms: Sequence[Storm]) -> str:
    rows = []
    for s in storms:
        if s.missing:
            continue
        failed = ", ".join(f"{count} with {code}" for code, count in s.failed.items()) or "none"
        rows.append(
            [
                *(s.name, str(s.total), str(s.at_once), rounded(s.rate), failed),
                *(str(len(s.left)), str(s.outlived)),
            ]
        )
    head = ["", "starts", "at a time", "a second", "failed", "left", "outlived"]
    notes = [f"- {s.name} is not measured: {s.missing}\n" for s in storms if s.missing]
    for s in storms:
        notes += [f"- {s.name}, {s.at_once} at a time, left: {what}\n" for what in s.left[:5]]
        if s.failed and s.said:
            notes.append(f"- {s.name}, {s.at_once} at a time, said: {s.said}\n")
    if any(s.total < TOTAL and not s.missing for s in storms):
        notes.append(f"- Fewer than {TOTAL}: a quick run, or one start takes long.\n")
    return (
        "## A thousand starts\n\n"
        "One after the other and 32 at a time. `left` counts mounts, processes, namespaces,\n"
        "files, cgroups and sockets that were not there before; `outlived` the processes that\n"
        "were still there when their launcher had ended, and then ended too.\n\n"
        + table(head, rows)
        + ("\n" + "".join(notes) if notes else "")
    )


def _growths(growths: Sequence[Growth]) -> str:
    rows = []
    for growth in growths:
        if growth.missing:
            continue
        few, many = growth.per_mount
        medians = [rounded(t.median * 1000) for t in growth.timings]
        rows.append(
            [growth.name, rounded(growth.ratio), rounded(few * 1e6), rounded(many * 1e6), *medians]
        )
    low, middle, high = SIZES
    head = [
        "",
        "ratio",
        f"µs a mount, {low} to {middle}",
        f"µs a mount, {middle} to {high}",
        *(f"{size} mounts, ms" for size in SIZES),
    ]
    gone = [f"- {g.name} is not measured: {g.missing}\n" for g in growths if g.missing]
    return (
        "## Mounts\n\n"
        "The hardened container with so many tmpfs more. `ratio`: what a mount costs among many\n"
        "by what it costs among few; 1 is a straight line. Planning is the whole command:\n"
        "reading, checking, planning and writing the plan as JSON. Costs of a mount are of the\n"
        "fastest runs, the rest are medians.\n\n"
        + table(head, rows)
        + ("\n" + "".join(gone) if gone else "")
    )


def _network(cost: Cost) -> str:
    known = not cost.start(PLAIN).missing and not cost.start(PAIR).missing
    rows = []
    if known:
        added = rounded(cost.added * 1000)
        rows.append(["**what the pair adds to nsrun**", "1", added, "", "", ""])
    for start in sorted((t for t in cost.starts if not t.missing), key=lambda t: t.median):
        low, high = start.middle_half
        whole = cost.whole(start.name)
        rows.append(
            [
                start.name,
                rounded(start.median / cost.added) if known else "-",
                rounded(start.median * 1000),
                f"{rounded(low * 1000)} to {rounded(high * 1000)}",
                str(len(start.times)),
                whole.missing or rounded(whole.median * 1000),
            ]
        )
    head = ["", "times the pair", "median ms", "middle half, ms", "runs", "with its end, ms"]
    gone = [f"- {t.name} is not measured: {t.missing}\n" for t in cost.starts if t.missing]
    busiest = ", ".join(f"{name} {rounded(share)} %" for name, share in cost.calls)
    share = cost.system / (cost.user + cost.system) if cost.user + cost.system else 0
    return (
        "## Network\n\n"
        "A veth with two addresses on each end and two routes (bench/specs/network.yaml): what it\n"
        "adds to the same start without it, until the command runs; and the same by ip(8), with\n"
        "nine commands (network.sh) and with two (batch.sh), and by podman's netavark (a bridge\n"
        "with one container, without rules). `with its end`: to the end of all processes, with\n"
        "the pair taken away again: the kernel waits there until no packet is under way.\n\n"
        + table(head, rows)
        + ("\n" + "".join(gone) if gone else "")
        + f"\nOf the processor time of a run with a pair {rounded(share * 100)} % is the kernel's; "
        f"of that, as\n`strace -c` counts: {busiest or 'not counted'}.\n"
    )


def _stacks(found: Stacks) -> str:
    rows = [
        [
            str(rise.size),
            rounded(rise.up),
            rounded(rise.up / rise.size * 1000),
            rounded(rise.down),
            rounded(rise.ps * 1000),
            str(rise.keeper),
            rounded(rise.each),
        ]
        for rise in found.rises
    ]
    head = [
        *("containers", "up -d, s", "ms a container", "down, s", "ps, ms"),
        *("keeper, PSS kB", "a container, PSS kB"),
    ]
    podman = (
        f"podman takes {rounded(found.podman)} s for {found.rises[0].size}, one by one."
        if found.podman is not None
        else f"podman is not measured: {found.missing}."
    )
    return (
        "## Stacks\n\n"
        "Containers of one name on one bridge, each in namespaces of its own with a rootfs, an\n"
        "address and everybody's names; planned anew, each while the last starts. `keeper` is the\n"
        "process that watches them; `a container` what stands between one and the host: its\n"
        f"monitor, launcher and heir. {podman}\n\n" + table(head, rows)
    )


def _machine(run: Run) -> str:
    m = run.machine
    busy = ", ".join(rounded(share * 100) for share in run.busy)
    lines = [
        f"- {run.date}, {rounded(run.minutes)} minutes",
        f"- {m.system}, Linux {m.kernel}, cgroups {m.cgroups}",
        f"- {m.processor}, {m.cpus} processors, {rounded(m.memory_gb)} GB",
        f"- busy with something else, in per cent, before, between and after: {busy}",
        f"- nsrun is {'a native program' if run.native else 'a Python script'}",
        *(f"- {name}: {version}" for name, version in m.versions.items()),
    ]
    return "## Machine\n\n" + "\n".join(lines) + "\n"


def _commands(starts: Starts) -> str:
    shown = []
    for contestant in starts.contestants:
        if starts.timing(contestant.name).missing:
            continue
        env = "".join(f"{key}={shlex.quote(value)} " for key, value in contestant.env.items())
        line = shlex.join(hyperfine(contestant, Path("out.json")))
        shown.append(f"# {contestant.name}\n{env}{line}")
    return (
        "## Commands\n\n"
        "What was run for the table of starts, each once a round; $AREA is a folder that the\n"
        "bench makes, in a mount namespace where /var/cache/nsrun is a folder of it. crun 1.8\n"
        "refuses a hybrid layout of cgroups, so version 2 is unmounted around its hyperfine.\n\n"
        "```sh\n" + "\n".join(shown) + "\n```\n"
    )
