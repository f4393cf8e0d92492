"""Seccomp filters: what each call of each architecture is answered, and the profiles of users."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from nsrun.diag import NsrunError
from nsrun.kernel import calls, seccomp
from nsrun.kernel.abi import Capability
from nsrun.kernel.facts import Facts
from nsrun.kernel.seccomp import CompileError, Condition, Filter, Rule, compiled
from nsrun.kernel.values import Call
from nsrun.plan import seccomp_default as default
from nsrun.plan.build import plan as made_plan
from nsrun.plan.model import Plan, Track
from nsrun.plan.ops import Init
from nsrun.plan.seccomp import default_filter
from nsrun.plan.security import DEFAULT
from nsrun.spec.document import parse_document
from nsrun.spec.load import load_document
from nsrun.spec.syscalls import NAMES
from tests.support import bpf
from tests.support.bpf import ALLOW, ENOSYS, EPERM, I386, X86_64
from tests.support.paths import ROOT
from tests.support.planning import ROOT as BY_ROOT
from tests.support.planning import WITH_IDS

MACHINES = {"x86_64": bpf.X86_64, "aarch64": bpf.AARCH64}
CAPS = frozenset(int(c) for c in DEFAULT)
EVERY = frozenset(int(c) for c in Capability)
ALLOWED = frozenset(name for group in default.ALLOWED.values() for name in group)
GUARDED = frozenset(name for _, names in default.BY_CAPABILITY for name in names)
BY_ARGUMENT = frozenset({"socket", "personality", "clone", "unshare"})
# What nobody gets, whatever it holds.
NEVER = """
    io_uring_setup io_uring_enter io_uring_register userfaultfd keyctl add_key request_key swapon
    swapoff
""".split()  # noqa: SIM905


def program(held: frozenset[int] = CAPS, machine: str = "x86_64") -> bytes:
    return compiled(default_filter(machine, held))


# --- the default profile -----------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("held", [frozenset(), CAPS, EVERY], ids=["none", "default", "all"])
def test_every_call_of_the_default_profile(machine: str, held: frozenset[int]) -> None:
    """The whole table, by the lists: none is forgotten and none let through by the compiler."""
    arch = MACHINES[machine]
    filter_ = program(held, machine)
    given = ALLOWED | {
        name
        for capabilities, names in default.BY_CAPABILITY
        if held.intersection(capabilities)
        for name in names
    }
    table = bpf.names(arch, default.NEWEST)
    assert len(table) > 290
    for nr in range(default.NEWEST + 1):
        name = table.get(nr, "")
        if name in BY_ARGUMENT - given:
            continue
        nowhere = not name and UNUSED[arch] <= nr < FIRST_COMMON
        expected = ALLOW if name in given else ENOSYS if name == "clone3" or nowhere else EPERM
        assert bpf.run(filter_, arch, nr) == expected, (nr, name)


def test_the_lists_are_of_calls_and_name_each_once() -> None:
    listed = [name for group in default.ALLOWED.values() for name in group]
    listed += [name for _, names in default.BY_CAPABILITY for name in names]
    assert len(listed) == len(set(listed))
    assert set(listed) | BY_ARGUMENT <= NAMES
    assert not set(NEVER) & set(listed)


# The first number behind the calls of old, and the first that is the same everywhere.
UNUSED, FIRST_COMMON = {bpf.X86_64: 337, bpf.AARCH64: 295}, 424


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_too_new_or_of_another_architecture_does_not_exist(machine: str) -> None:
    arch = MACHINES[machine]
    others = [bpf.X86_64, bpf.I386, bpf.AARCH64, bpf.ARM, 0, 0xFFFF_FFFF]
    filter_ = program(machine=machine)
    for nr in (default.NEWEST + 1, 462, 512, 547, 5000, 0x7FFF_FFFF, -1, 0xFFFF_FFFF):
        assert bpf.run(filter_, arch, nr) == ENOSYS, nr
    for nr in (0, 1, bpf.number("mount"), 59, 102, 400, bpf.X32_BIT, bpf.X32_BIT | 59):
        for other in set(others) - {arch}:
            assert bpf.run(filter_, other, nr) == ENOSYS, (nr, other)


def test_x32_does_not_exist() -> None:
    """Its numbers are those of x86_64 with one bit more, and some from 512 on."""
    for held in (CAPS, EVERY):
        filter_ = program(held)
        answers = {bpf.run(filter_, X86_64, bpf.X32_BIT | nr) for nr in range(600)}
        assert answers == {ENOSYS}


@pytest.mark.parametrize("held", [CAPS, EVERY], ids=["default", "all"])
def test_what_nobody_gets(held: frozenset[int]) -> None:
    assert bpf.answers(program(held), NEVER) == {EPERM}


@pytest.mark.parametrize(
    ("family", "capability", "expected"),
    [
        (1, None, ALLOW),
        (2, None, ALLOW),
        (10, None, ALLOW),
        (16, None, ALLOW),
        (17, None, EPERM),
        (17, Capability.CAP_NET_RAW, ALLOW),
        (44, Capability.CAP_NET_RAW, ALLOW),
        (15, Capability.CAP_NET_ADMIN, ALLOW),
        *((family, None, EPERM) for family in (0, 3, 4, 9, 15, 21, 29, 30, 31, 38, 39, 40, 41, 44)),
        # AF_ALG and AF_VSOCK: no capability is for them.
        *((family, c, EPERM) for family in (38, 40) for c in Capability),
    ],
)
def test_socket_families(family: int, capability: Capability | None, expected: int) -> None:
    held = CAPS if capability is None else CAPS | {int(capability)}
    # The kernel looks at 32 bits of the argument: what stands above them changes nothing.
    for high in (0, 1 << 32, 0xFFFF_FFFF << 32):
        assert bpf.call(program(held), "socket", high | family, 1, 0) == expected


NEW = {
    "NEWTIME": 0x80, "NEWNS": 0x20000, "NEWCGROUP": 0x2000000, "NEWUTS": 0x4000000,
    "NEWIPC": 0x8000000, "NEWUSER": 0x10000000, "NEWPID": 0x20000000, "NEWNET": 0x40000000,
}  # fmt: skip
THREAD = 0x3D0F00


@pytest.mark.parametrize("flag", NEW)
@pytest.mark.parametrize("high", [0, 1 << 32, 1 << 63])
def test_namespaces_are_made_with_a_capability_alone(flag: str, high: int) -> None:
    bits = high | NEW[flag]
    with_admin = CAPS | {int(Capability.CAP_SYS_ADMIN)}
    for name in ("clone", "unshare"):
        # To clone that bit is a part of the number of the signal.
        expected = ALLOW if (name, flag) == ("clone", "NEWTIME") else EPERM
        assert bpf.call(program(), name, bits) == expected
        assert bpf.call(program(), name, bits | 0x100) == expected
        assert bpf.call(program(with_admin), name, bits) == ALLOW
    assert bpf.call(program(), "clone3", bits) == ENOSYS
    assert bpf.call(program(with_admin), "clone3", bits) == ALLOW


def test_threads_and_processes_are_made_by_anybody() -> None:
    for flags in (0, 17, THREAD, 0x4111, 0x1200011):
        assert bpf.call(program(frozenset()), "clone", flags) == ALLOW
    for flags in (0, 0x200, 0x400, 0x600, 0x40000):
        assert bpf.call(program(frozenset()), "unshare", flags) == ALLOW


@pytest.mark.parametrize(
    ("personality", "expected"),
    [
        *((p, ALLOW) for p in (0, 8, 0x20000, 0x20008, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF)),
        *((p, EPERM) for p in (1, 0x40000, 0x400000, 0x40008, 0x20009, 0xFFFF_FFFE)),
    ],
)
def test_personality(personality: int, expected: int) -> None:
    assert bpf.call(program(EVERY), "personality", personality) == expected


def test_the_bytes_are_the_same_in_another_process() -> None:
    code = (
        "from nsrun.kernel.seccomp import compiled; from nsrun.plan.seccomp import default_filter;"
        "print(*(compiled(default_filter(m, frozenset({1, 21}))).hex() for m in "
        "('aarch64', 'x86_64')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    held = frozenset({1, 21})
    assert done.stdout.split() == [program(held, m).hex() for m in ("aarch64", "x86_64")]


# --- the compiler ------------------------------------------------------------------------------


def filter_of(*rules: Rule, default: int = EPERM, newest: int | None = None) -> bytes:
    wanted = Filter(
        default=default, architectures=("SCMP_ARCH_X86_64",), rules=rules, newest=newest
    )
    return compiled(wanted)


@pytest.mark.parametrize(
    ("op", "value", "two", "passes", "fails"),
    [
        ("SCMP_CMP_EQ", 5, 0, [5], [4, 6, 1 << 32 | 5]),
        ("SCMP_CMP_NE", 5, 0, [4, 1 << 32 | 5], [5]),
        ("SCMP_CMP_LT", 5, 0, [0, 4], [5, 1 << 32]),
        ("SCMP_CMP_LE", 5, 0, [0, 5], [6, 1 << 32]),
        ("SCMP_CMP_GT", 5, 0, [6, 1 << 32], [5, 0]),
        ("SCMP_CMP_GE", 5, 0, [5, 1 << 32], [4, 0]),
        ("SCMP_CMP_MASKED_EQ", 0xF0, 0x10, [0x10, 0x1F], [0, 0x20]),
    ],
)
def test_operators(op: str, value: int, two: int, passes: list[int], fails: list[int]) -> None:
    made = filter_of(Rule(("read", "write"), ALLOW, (Condition(1, op, value, two),)))
    assert {bpf.call(made, "write", 0, a) for a in passes} == {ALLOW}
    assert {bpf.call(made, "read", 0, a) for a in fails} == {EPERM}


def test_a_table_answers_as_the_library_does() -> None:
    """Every number of every architecture, by a filter with a table and by one without."""
    wanted = default_filter("x86_64", CAPS)
    tabled = compiled(wanted)
    whole = seccomp._by_library(wanted, set())
    assert len(tabled) < len(whole) * 0.6
    for nr in [*range(default.NEWEST + 1), bpf.X32_BIT, bpf.X32_BIT | 56]:
        for arch in (X86_64, I386, bpf.AARCH64):
            if UNUSED.get(arch, FIRST_COMMON) <= nr < FIRST_COMMON:
                # What no call has does not exist by the table alone.
                assert bpf.run(tabled, arch, nr) == ENOSYS
                continue
            for first in (0, 1, 16, 38, 0x20008, 0x10000000, 1 << 32, 0xFFFF_FFFF):
                answers = {bpf.run(program, arch, nr, first) for program in (tabled, whole)}
                assert len(answers) == 1, (nr, arch, first)


def test_a_search_tree_of_many_ranges() -> None:
    """Every second call: more instructions than a conditional jump can pass over."""
    table = bpf.names(X86_64, 334)
    names = tuple(table[nr] for nr in sorted(table) if nr % 2)
    made = filter_of(Rule(names, ALLOW), Rule(("read",), ALLOW, (Condition(0, "SCMP_CMP_EQ", 9),)))
    assert len(made) > 8 * 512
    for nr in sorted(table):
        assert bpf.run(made, X86_64, nr) == (ALLOW if nr % 2 else EPERM), nr
    assert bpf.call(made, "read", 9) == ALLOW


def test_conditions_hold_together_and_two_on_one_argument_either() -> None:
    both = (Condition(0, "SCMP_CMP_EQ", 1), Condition(1, "SCMP_CMP_EQ", 2))
    made = filter_of(Rule(("read",), ALLOW, both))
    assert bpf.call(made, "read", 1, 2) == ALLOW
    assert {bpf.call(made, "read", 1, 3), bpf.call(made, "read", 2, 2)} == {EPERM}
    either = (Condition(0, "SCMP_CMP_EQ", 1), Condition(0, "SCMP_CMP_EQ", 2))
    made = filter_of(Rule(("read",), ALLOW, either))
    assert {bpf.call(made, "read", 1), bpf.call(made, "read", 2)} == {ALLOW}
    assert bpf.call(made, "read", 3) == EPERM


def test_a_rule_that_cannot_be_is_named() -> None:
    rules = (Rule(("write",), ALLOW), Rule(("read",), ALLOW, (Condition(9, "SCMP_CMP_EQ", 1),)))
    with pytest.raises(CompileError, match="read") as caught:
        filter_of(*rules)
    assert caught.value.rule == 1


def test_the_bound_is_above_what_a_rule_names() -> None:
    made = filter_of(Rule(("read",), ALLOW), newest=10)
    assert [bpf.run(made, X86_64, nr) for nr in (0, 1, 10, 11, 4000)] == [
        ALLOW, EPERM, EPERM, ENOSYS, ENOSYS,
    ]  # fmt: skip
    made = filter_of(Rule(("read", "mount"), ALLOW), newest=10)
    assert [bpf.run(made, X86_64, nr) for nr in (11, 165, 166)] == [EPERM, ALLOW, ENOSYS]
    made = filter_of(Rule(("read",), ALLOW))
    assert bpf.run(made, X86_64, 4000) == EPERM


# --- plans -------------------------------------------------------------------------------------

PROFILE = """
command: [/bin/true]
namespaces: [user, mount]
seccomp:
  defaultAction: SCMP_ACT_ERRNO
  syscalls:
    - {names: [read, write, oldstat, recv], action: SCMP_ACT_ALLOW}
    - {names: [mkdir], action: SCMP_ACT_ERRNO, errnoRet: 30}
    - {names: [rmdir], action: SCMP_ACT_KILL_PROCESS}
    - {names: [socket], action: SCMP_ACT_ALLOW, args: [{index: 0, value: 1, op: SCMP_CMP_EQ}]}
"""


def plan_text(text: str, known: Facts = WITH_IDS) -> Plan:
    return made_plan(load_document(parse_document(text, "/here/spec.yaml"))[0], known)


def filters(plan: Plan) -> list[bytes]:
    steps = [placed.op for placed in plan.track(Track.CHILD)]
    found = [calls.seccomp_programs(op) for op in steps if isinstance(op, Call)]
    return [program for one in found for program, _ in one]


def filter_in(text: str, known: Facts = WITH_IDS) -> bytes:
    [found] = filters(plan_text(text, known))
    return found


def test_a_profile_says_what_happens() -> None:
    made = filter_in(PROFILE)
    assert bpf.answers(made, ["read", "write"]) == {ALLOW}
    assert bpf.call(made, "mkdir") == bpf.ERRNO | 30
    assert bpf.call(made, "rmdir") == 0x80000000
    assert (bpf.call(made, "socket", 1), bpf.call(made, "socket", 2)) == (ALLOW, EPERM)
    assert bpf.call(made, "open") == EPERM
    assert bpf.run(made, X86_64, default.NEWEST + 1) == ENOSYS
    assert bpf.run(made, I386, 3) == ENOSYS


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("defaultErrnoRet: 38", ENOSYS),
        ("defaultErrno: ENOSYS", ENOSYS),
        ("defaultErrnoRet: 13", bpf.ERRNO | 13),
        ("flags: [SECCOMP_FILTER_FLAG_LOG]", EPERM),
    ],
)
def test_the_default_errno(key: str, expected: int) -> None:
    made = filter_in(PROFILE.replace("  syscalls", f"  {key}\n  syscalls"))
    assert bpf.call(made, "open") == expected


def test_other_architectures_have_the_same_rules() -> None:
    wanted = "  architectures: [SCMP_ARCH_X86, SCMP_ARCH_X32, SCMP_ARCH_MIPS]\n  syscalls"
    made = filter_in(PROFILE.replace("  syscalls", wanted))
    assert bpf.answers(made, ["read", "write", "oldstat"], arch=I386) == {ALLOW}
    assert bpf.call(made, "open", arch=I386) == EPERM
    assert bpf.run(made, I386, default.NEWEST + 1) == ENOSYS
    # An i386 program may reach recv by socketcall(2), as its tenth call.
    assert bpf.call(made, "socketcall", 10, arch=I386) == ALLOW
    assert bpf.call(made, "socketcall", 11, arch=I386) == EPERM
    assert bpf.run(made, X86_64, bpf.X32_BIT) == ALLOW
    assert bpf.run(made, X86_64, bpf.X32_BIT | 2) == EPERM
    assert bpf.run(made, X86_64, default.NEWEST + 1) == ENOSYS
    mapped = (
        "  archMap: [{architecture: SCMP_ARCH_AARCH64, subArchitectures: [SCMP_ARCH_ARM]},"
        " {architecture: SCMP_ARCH_X86_64, subArchitectures: [SCMP_ARCH_X86, SCMP_ARCH_X32]}]\n"
        "  syscalls"
    )
    assert filter_in(PROFILE.replace("  syscalls", mapped)) == made


@pytest.mark.parametrize(
    ("condition", "counts"),
    [
        ("includes: {caps: [CAP_CHOWN]}", True),
        ("includes: {caps: [CAP_CHOWN, CAP_SYS_ADMIN]}", False),
        ("excludes: {caps: [CAP_CHOWN, CAP_SYS_ADMIN]}", False),
        ("excludes: {caps: [CAP_SYS_ADMIN]}", True),
        ("includes: {arches: [amd64, x32]}", True),
        ("includes: {arches: [arm64]}", False),
        ("excludes: {arches: [amd64]}", False),
        ("includes: {minKernel: '4.8'}", True),
        ("includes: {minKernel: '99.0'}", False),
        ("includes: {}, excludes: {}, comment: ''", True),
    ],
)
def test_conditions_of_docker(condition: str, counts: bool) -> None:
    rule = f"    - {{names: [open], action: SCMP_ACT_ALLOW, args: null, {condition}}}\n"
    assert bpf.call(filter_in(PROFILE + rule), "open") == (ALLOW if counts else EPERM)


@pytest.mark.parametrize("rest", ["", ", args: [{index: 0, value: 1, op: SCMP_CMP_EQ}]"])
def test_the_first_rule_counts_in_the_profile_of_podman(rest: str) -> None:
    """It allows setns to all, then refuses it without CAP_SYS_ADMIN; libseccomp keeps the first."""
    rule = f"{{names: [read, mkdirat], action: SCMP_ACT_ERRNO, errnoRet: 5{rest}, "
    made = filter_in(f"{PROFILE}    - {rule}excludes: {{caps: [CAP_SYS_ADMIN]}}}}\n")
    assert bpf.call(made, "read", 1) == ALLOW
    assert bpf.call(made, "mkdirat", 1) == bpf.ERRNO | 5


def test_the_filter_is_the_last_before_the_command() -> None:
    plan = plan_text("command: [/bin/true]\nnamespaces: [user]\nseccomp: default\n")
    last = [placed.op for placed in plan.track(Track.CHILD)][-2:]
    assert [op.name for op in last if isinstance(op, Call)] == ["seccomp", "execve"]
    assert filters(plan) == [program()]
    for word in ("unconfined",):
        text = f"command: [/bin/true]\nnamespaces: [user]\nseccomp: {word}\n"
        assert filters(plan_text(text)) == []


def test_an_init_has_a_filter_of_its_own() -> None:
    """Its fork is a clone3, as the executors make all of theirs."""
    text = "command: [/bin/true]\nnamespaces: [user, pid]\ninit: true\nseccomp: default\n"
    plan = plan_text(text)
    own, commands = filters(plan)
    assert commands == program()
    assert bpf.call(own, "clone3") == ALLOW
    table = bpf.names(X86_64, default.NEWEST)
    differing = {n for nr, n in table.items()
                 if bpf.run(own, X86_64, nr) != bpf.run(commands, X86_64, nr)}  # fmt: skip
    assert differing == {"clone3"}
    ops = [placed.op for placed in plan.track(Track.CHILD)]
    init = next(n for n, op in enumerate(ops) if isinstance(op, Init))
    seccomp = [n for n, op in enumerate(ops) if isinstance(op, Call) and op.name == "seccomp"]
    assert seccomp[0] < init < seccomp[1]


def test_capabilities_decide_what_the_default_allows() -> None:
    text = "command: [/bin/true]\nnamespaces: [user, mount]\nseccomp: default\n"
    assert bpf.call(filter_in(text), "mount") == EPERM
    assert bpf.call(filter_in(f"{text}capabilities: {{add: [SYS_ADMIN]}}\n"), "mount") == ALLOW
    # Another user than root holds none of the default set, and no_new_privs keeps it so.
    other = f"{text}user: 1000:1000\nidmap: auto\n"
    assert bpf.call(filter_in(text), "chroot") == ALLOW
    assert bpf.call(filter_in(other), "chroot") == EPERM


# --- no_new_privs ------------------------------------------------------------------------------

OLD = "command: [/bin/true]\nseccomp: default\nno_new_privileges: false\n"


def test_without_no_new_privs_the_right_is_held_until_then() -> None:
    plan = plan_text(f"{OLD}namespaces: [user]\n")
    names = [op.name for p in plan.track(Track.CHILD) if isinstance(op := p.op, Call)]
    assert names[-3:] == ["seccomp", "capset", "execve"]
    with_it = plan_text(f"{OLD}namespaces: [user]\ncapabilities: {{add: [SYS_ADMIN]}}\n")
    names = [op.name for p in with_it.track(Track.CHILD) if isinstance(op := p.op, Call)]
    assert names[-2:] == ["seccomp", "execve"]


@pytest.mark.parametrize(
    ("text", "code"),
    [(OLD, "NS402"), (f"{OLD}namespaces: [user, pid]\ninit: true\n", "NS318")],
)
def test_what_cannot_be_is_refused(text: str, code: str) -> None:
    with pytest.raises(NsrunError) as caught:
        plan_text(text)
    [found] = [d for d in caught.value.diagnostics if "filter" in d.summary]
    assert (found.code, found.path) == (code, "no_new_privileges")


def test_a_caller_with_no_new_privs_needs_no_right() -> None:
    known = replace(BY_ROOT, permitted=BY_ROOT.permitted - {int(Capability.CAP_SYS_ADMIN)})
    with pytest.raises(NsrunError):
        plan_text(OLD, known)
    assert len(filters(plan_text(OLD, replace(known, no_new_privileges=True)))) == 1


@pytest.mark.parametrize(
    "rule",
    [
        "{names: [read], action: SCMP_ACT_TRAP}",
        "{names: [open, read], action: SCMP_ACT_ERRNO}",
        "{names: [write], action: SCMP_ACT_ERRNO, args: [{index: 0, value: 1, op: SCMP_CMP_EQ}]}",
        "{names: [mkdir], action: SCMP_ACT_ERRNO, errnoRet: 1}",
    ],
)
def test_rules_that_contradict_are_located(rule: str) -> None:
    text = f"{PROFILE}    - {rule}\n"
    with pytest.raises(NsrunError) as caught:
        plan_text(text)
    [found] = caught.value.diagnostics
    assert (found.code, found.path) == ("NS318", "seccomp.syscalls[4]")
    assert found.span is not None and found.span.line == text.count("\n")
