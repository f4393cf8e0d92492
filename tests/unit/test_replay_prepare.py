"""Making steps ready: arguments, buffers, registers, and what is refused before a start."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import os
import struct
from collections.abc import Iterator

import pytest

from nsrun.kernel import calls
from nsrun.kernel.values import (
    Arg,
    Bytes,
    Call,
    Expect,
    Fmt,
    Hole,
    Int,
    Length,
    Out,
    Pointer,
    Reg,
    RegKind,
    Str,
    Strings,
)
from nsrun.plan.model import Action, Origin, Track
from nsrun.plan.ops import Await, Clone, Init, Netlink, Op, Signal, Spawn, Wait
from nsrun.replay import prepare as prepare_module
from nsrun.replay.outcome import Kind, State
from nsrun.replay.prepare import Buffer, PreparedCall, PrepareError, errno_numbers
from nsrun.replay.program import PlanError, prepare
from nsrun.replay.step import Registers, StepError, UnsetRegisterError, describe
from nsrun.replay.syscalls import signed
from tests.support import plans, replays

MACHINE = os.uname().machine
A, B = Reg("a"), Reg("b", RegKind.NUMBER)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        (2**33 + 5, 2**33 + 5),
        (-1, -1),
        (2**64 - 1, -1),
        (2**63, -(2**63)),
        (-(2**63), -(2**63)),
        (0xFFFFFFFF, 0xFFFFFFFF),
    ],
)
def test_signed(value: int, expected: int) -> None:
    assert signed(value) == expected


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_beyond_64_bits_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="does not fit into 64 bits"):
        signed(value)
    with pytest.raises(PrepareError, match="64 bits"):
        PreparedCall(Call(name="umask", args=(Int(value),)), MACHINE)


# --- what a call hands to the kernel ---------------------------------------------------------


@dataclasses.dataclass
class Kernel:
    """Instead of the kernel: notes the arguments, gives what it is told to."""

    result: int = 0
    errno: int = 0
    calls: list[tuple[int, ...]] = dataclasses.field(default_factory=list)

    def __call__(self, *values: int) -> tuple[int, int]:
        self.calls.append(values)
        return self.result, self.errno


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    fake = Kernel()
    monkeypatch.setattr(prepare_module, "syscall", fake)
    yield fake


def text_at(address: int) -> bytes:
    return ctypes.string_at(address)


def memory_at(address: int, size: int) -> bytes:
    return ctypes.string_at(address, size)


kept: list[PreparedCall] = []


def made(kernel: Kernel, *args: Arg, registers: Registers | None = None) -> tuple[int, ...]:
    """The arguments of a call; its buffers live as long as the prepared call does."""
    prepared = PreparedCall(Call(name="mount", args=args), MACHINE)
    prepared.run(registers or Registers())
    kept.append(prepared)
    gc.collect()
    return kernel.calls[-1][1:]


def test_arguments_as_the_kernel_gets_them(kernel: Kernel) -> None:
    registers = Registers()
    registers.set(A, 7)
    registers.set(B, 123)
    fmt = Fmt(("/proc/", B, "/fd/", A))
    values = made(
        kernel,
        Int(2**64 - 1),
        A,
        Str("caf\udce9"),
        fmt,
        Length(fmt),
        Strings(("one", "", "t\udcffwo")),
        registers=registers,
    )
    assert values[:2] == (-1, 7)
    assert text_at(values[2]) == b"caf\xe9"
    assert text_at(values[3]) == b"/proc/123/fd/7"
    assert values[4] == len("/proc/123/fd/7")
    vector = struct.unpack("=4Q", memory_at(values[5], 32))
    assert [text_at(address) for address in vector[:3]] == [b"one", b"", b"t\xffwo"]
    assert vector[3] == 0


def test_missing_arguments_are_zero(kernel: Kernel) -> None:
    assert made(kernel, Int(1)) == (1, 0, 0, 0, 0, 0)


def test_buffers_holes_and_pointers(kernel: Kernel) -> None:
    registers = Registers()
    registers.set(A, 0x01020304)
    registers.set(B, -1)
    inner = Bytes(b"inner---", holes=(Hole(4, 4, A),))
    outer = Bytes(
        bytes(32),
        holes=(Hole(16, 8, B), Hole(24, 4, A), Hole(28, 2, B)),
        pointers=(Pointer(8, inner),),
    )
    (address, *_) = made(kernel, outer, registers=registers)
    data = memory_at(address, 32)
    pointer, wide, four, two = struct.unpack("=8xQqiH2x", data)
    assert (wide, four, two) == (-1, 0x01020304, 0xFFFF)
    assert memory_at(pointer, 8) == b"inne" + struct.pack("=i", 0x01020304)


def test_a_register_too_big_for_its_hole(kernel: Kernel) -> None:
    registers = Registers()
    registers.set(A, 70_000)
    call = Call(name="mount", args=(Bytes(b"12", holes=(Hole(0, 2, A),)),))
    with pytest.raises(StepError) as caught:
        PreparedCall(call, MACHINE).run(registers)
    assert caught.value.kind is Kind.INTERNAL
    assert caught.value.text == b"70000 does not fit into 2 bytes"
    assert kernel.calls == []


def test_results_and_errnos(kernel: Kernel) -> None:
    call = Call(name="openat", args=(), save=A, accept=("ENOENT",), skip=("ENOTDIR",), result=None)
    for result, errno, state, saved in (
        (5, 0, State.DONE, 5),
        (-1, 2, State.ACCEPTED, -1),
        (-1, 20, State.SKIPPED, None),
    ):
        kernel.result, kernel.errno = result, errno
        registers = Registers()
        assert PreparedCall(call, MACHINE).run(registers) == (state, result, errno)
        assert (registers.get(A) if A in registers else None) == saved
    kernel.errno = 13
    with pytest.raises(StepError) as caught:
        PreparedCall(call, MACHINE).run(Registers())
    assert (caught.value.kind, caught.value.errno) == (Kind.ERRNO, 13)


def test_a_call_is_not_made_again_after_eintr(kernel: Kernel) -> None:
    kernel.result, kernel.errno = -1, 4
    with pytest.raises(StepError):
        PreparedCall(calls.umask(0), MACHINE).run(Registers())
    assert len(kernel.calls) == 1


def test_an_accepted_errno_leaves_what_a_buffer_saves_at_minus_one(kernel: Kernel) -> None:
    kernel.result, kernel.errno = -1, 22
    out = Out(8, saves=(Hole(0, 4, A), Hole(4, 4, B)))
    registers = Registers()
    PreparedCall(Call(name="pipe2", args=(out,), accept=("EINVAL",)), MACHINE).run(registers)
    assert (registers.get(A), registers.get(B)) == (-1, -1)


def test_expectations_are_masked_and_numbered(kernel: Kernel) -> None:
    def out(*expects: Expect) -> Out:
        return Out(8, expects=expects)

    held = Expect(0, 4, 0xFF, 0, "zero")
    broken = Expect(4, 4, 0xFF00, 0x100, "not zero")
    assert PreparedCall(Call(name="fstat", args=(out(held),)), MACHINE).run(Registers())[0] is (
        State.DONE
    )
    call = Call(name="fstat", args=(out(held), out(held, broken)))
    with pytest.raises(StepError) as caught:
        PreparedCall(call, MACHINE).run(Registers())
    assert (caught.value.kind, caught.value.expect, caught.value.value) == (Kind.EXPECT, 2, 0)
    skipping = dataclasses.replace(broken, otherwise="skip")
    call = Call(name="fstat", args=(out(held, skipping),))
    assert PreparedCall(call, MACHINE).run(Registers())[0] is State.SKIPPED


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call(name="clone3", args=()), "its clone operation"),
        (Call(name="fork", args=()), "its clone operation"),
        (Call(name="mount", args=(Int(0),) * 7), "7 arguments"),
        (Call(name="mount", args=(Str("a\0b"),)), "a NUL"),
        (Call(name="mount", args=(Strings(("a", "b\0")),)), "a NUL"),
        (Call(name="mount", args=(Fmt(("a\0", A)),)), "a NUL"),
        (Call(name="mount", args=(Bytes(b"abc", holes=(Hole(0, 4, A),)),)), "outside a buffer"),
        (Call(name="mount", args=(Bytes(b"abcdefgh", holes=(Hole(0, 3, A),)),)), "3 bytes at 0"),
        (
            Call(name="mount", args=(Bytes(b"abc", pointers=(Pointer(0, Bytes(b"")),)),)),
            "outside a buffer",
        ),
        (Call(name="mount", args=(Out(4, saves=(Hole(2, 4, A),)),)), "outside a buffer"),
        (Call(name="mount", args=(Out(4, expects=(Expect(-1, 4, 1, 1, ""),)),)), "outside"),
        (Call(name="mount", args=(), accept=("EWHATEVER",)), "no errno is called EWHATEVER"),
    ],
)
def test_calls_that_cannot_be_made(call: Call, words: str) -> None:
    with pytest.raises(PrepareError, match=words):
        PreparedCall(call, MACHINE)


def track(track: Track, *steps: Op, undo: tuple[Op, ...] = ()) -> Action:
    return Action(track=track, what="it", origin=Origin(rule="test"), steps=steps, undo=undo)


CLONE = Clone(flags=Int(0), exit_signal=Int(17), pid=replays.CHILD, pidfd=replays.PIDFD)
OVER = dataclasses.replace(CLONE, hand_over=True, sync="over", channel=replays.INNER)
HEAD = struct.pack("=IHHII", 16, 16, 1, 1, 0)


@pytest.mark.parametrize(
    ("actions", "address", "words"),
    [
        ((track(Track.PARENT, CLONE, CLONE),), "p1", "clones twice"),
        ((track(Track.CHILD, calls.umask(0), CLONE),), "c1", "hands over"),
        ((track(Track.PARENT, OVER),), "p0", "hands over"),
        (
            (track(Track.CHILD, dataclasses.replace(OVER, channel=None)),),
            "c0",
            "a sync and a channel",
        ),
        ((track(Track.CHILD, dataclasses.replace(CLONE, hold=True)),), "c0", "only holds"),
        ((track(Track.PARENT, Init(channel=A)),), "p0", "the child's track"),
        ((track(Track.CHILD, replays.await_()),), "c0", "the parent's track"),
        ((track(Track.CHILD, Spawn(argv=(Str("/bin/true"),))),), "c0", "the parent's track"),
        ((track(Track.PARENT, Spawn(argv=())),), "p0", "no name"),
        (
            (track(Track.PARENT, Spawn(argv=(Str("/x"),), env=("NAME",))),),
            "p0",
            "not a variable",
        ),
        ((track(Track.PARENT, Netlink(socket=A, message=Bytes(b"short"))),), "p0", "its header"),
        (
            (track(Track.PARENT, Netlink(socket=A, message=Bytes(HEAD))),),
            "p0",
            "its acknowledgement",
        ),
        ((track(Track.PARENT, Signal(sync="s" * 256, channel=A)),), "p0", "over 255 bytes"),
        ((track(Track.PARENT, Call(name="no_such_call", args=())),), "p0", "no_such_call"),
        (
            (track(Track.PARENT, calls.umask(0), undo=(Wait(sync="x", channel=A),)),),
            "p0",
            "Wait cannot undo anything",
        ),
        ((track(Track.CHILD, calls.umask(0), undo=(calls.umask(0),)),), "c0", "parent's actions"),
    ],
)
def test_plans_that_cannot_be_replayed(
    actions: tuple[Action, ...], address: str, words: str
) -> None:
    with pytest.raises(PlanError, match=words) as caught:
        prepare(replays.plan(*actions), MACHINE)
    assert f"{caught.value.track.value[0]}{caught.value.index}" == address


def acknowledged(action: Action) -> Action:
    """The action with real headers in its netlink messages, which stand for any bytes there."""

    def ask(op: Op) -> Op:
        if not isinstance(op, Netlink):
            return op
        value = struct.pack("=IHHII", 16, 16, 5, 1, 0) + op.message.value[16:]
        return dataclasses.replace(op, message=dataclasses.replace(op.message, value=value))

    return dataclasses.replace(
        action, steps=tuple(map(ask, action.steps)), undo=tuple(map(ask, action.undo))
    )


def test_the_plan_with_every_operation_can_be_prepared() -> None:
    found = dataclasses.replace(
        plans.everything(), actions=tuple(map(acknowledged, plans.everything().actions))
    )
    program = prepare(dataclasses.replace(found, needs=replays.plan().needs), MACHINE)
    assert sum(1 for t in Track for _ in program.steps(t)) == sum(1 for _ in found.steps())


def test_both_ends_of_the_channel_are_known_without_a_sync_of_the_child() -> None:
    """The child only ever reports; its end is the one beside the parent's."""
    program = prepare(replays.command(*replays.sh("true")), MACHINE)
    assert (program.listens_on, program.reports_to) == (replays.OUTER, replays.INNER)
    # And where a step of the child names it, that is it.
    waiting = replays.command(Wait(sync="x", channel=A), *replays.sh("true"))
    assert prepare(waiting, MACHINE).reports_to == A


def test_supervision_names_the_terminal() -> None:
    the_plan = replays.command(
        *replays.sh("true"), supervise=dataclasses.replace(replays.await_(), terminal=A)
    )
    assert prepare(the_plan, MACHINE).terminal == A
    assert isinstance(the_plan.actions[-1].steps[0], Await)


# --- registers -------------------------------------------------------------------------------


def test_registers_are_written_once_and_read_after() -> None:
    registers = Registers()
    with pytest.raises(UnsetRegisterError):
        registers.get(A)
    registers.set(A, 3)
    assert registers.get(A) == 3 and A in registers and B not in registers
    with pytest.raises(StepError) as caught:
        registers.set(A, 4)
    assert caught.value.text == b"register %a is set twice"


@pytest.mark.parametrize("value", [0, -1, -5])
def test_a_pid_argument_is_one_process(value: int) -> None:
    registers = Registers()
    pid = Reg("pid", RegKind.PID)
    registers.set(pid, value)
    assert registers.get(pid) == value
    with pytest.raises(StepError) as caught:
        registers.argument(pid)
    assert caught.value.kind is Kind.INTERNAL


def test_descriptors_are_the_registers_of_that_kind() -> None:
    registers = Registers()
    registers.set(A, 5)
    registers.set(B, 6)
    registers.set(Reg("none"), -1)
    assert registers.descriptors() == {"a": 5}


def test_errno_numbers() -> None:
    assert errno_numbers(("ENOENT", "EACCES")) == {2, 13}


def test_an_empty_buffer_has_an_address() -> None:
    assert Buffer(Bytes(b"")).content(Registers()) == b""


def test_describe_names_the_place_without_a_traceback() -> None:
    try:
        Registers().get(Reg("gone"))
    except StepError as error:
        assert describe(error).startswith(b"UnsetRegisterError: ")
        assert b"(get:" in describe(error)
    assert describe(ValueError("\udcff")) == b"ValueError: \\udcff"
