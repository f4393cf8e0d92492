"""A plan in its binary form, and back: the same content as its JSON.

The part that is executed is compiled from the plan; the JSON rides behind it as annotations. So a
binary form is read back by reading its JSON and compiling that again: what does not come out
as the same bytes is refused, and nothing can be shown that is not what would be executed.
"""

from __future__ import annotations

import struct
import zlib
from typing import assert_never

from nsrun.diag import Diagnostic, NsrunError
from nsrun.kernel import abi
from nsrun.kernel.values import Call, Reg
from nsrun.plan import binary_format as form
from nsrun.plan.binary_args import (
    BinaryError,
    Blob,
    argument,
    errno_words,
    register,
    word32,
    word64,
)
from nsrun.plan.channels import channel, reports_to
from nsrun.plan.codec import dumps, loads
from nsrun.plan.heirs import renewals
from nsrun.plan.model import Action, Plan, Track, UndoWhen
from nsrun.plan.ops import (
    EXEC,
    LAST_CALLS,
    Await,
    Clone,
    Init,
    Netlink,
    Op,
    ReceiveFd,
    SendFd,
    Signal,
    Spawn,
    Wait,
)

_HEADER = struct.Struct("<8sIIQ" + "I" * 22)
assert _HEADER.size == form.HEADER_SIZE


def encode(plan: Plan) -> bytes:
    """The binary form of ``plan``: equal plans give equal bytes.

    Raises NsrunError (NS407) for a plan beyond the form's limits, or for a call that its machine
    does not have.
    """
    annotations = dumps(plan, compact=True).encode("utf-8", "surrogateescape")
    try:
        return _Encoder(plan).encode(annotations) + annotations
    except (BinaryError, abi.UnknownSyscallError) as error:
        raise NsrunError(Diagnostic(code="NS407", summary=f"cannot be compiled: {error}")) from None


def decode(data: bytes, *, file: str = "") -> Plan:
    """The plan of a binary form.

    Raises NsrunError (NS406) where ``data`` is not exactly what :func:`encode` gives.
    """
    try:
        values = _HEADER.unpack_from(data)
    except struct.error:
        raise _not_a_plan("it is cut", file) from None
    fields = dict(zip((name for name, _ in form.HEADER_FIELDS), values, strict=True))
    if fields["magic"] != form.MAGIC:
        raise _not_a_plan("it does not start as one", file)
    if fields["format"] != form.FORMAT:
        raise _not_a_plan(f"binary format {fields['format']} is not supported", file)
    size = fields["size"]
    if size > len(data) or size + fields["annotations"] != len(data):
        raise _not_a_plan("it is cut, or has something behind it", file)
    if zlib.crc32(data[size:]) != fields["annotations_sum"]:
        raise _not_a_plan("the checksum of its annotations is another", file)
    try:
        text = data[size:].decode("utf-8", "surrogateescape")
    except UnicodeDecodeError:
        raise _not_a_plan("its annotations are not UTF-8", file) from None
    plan = loads(text, file=file)
    if encode(plan) != data:
        raise _not_a_plan("its steps are not those that its annotations show", file)
    return plan


def _not_a_plan(reason: str, file: str) -> NsrunError:
    where = f"{file}: " if file else ""
    return NsrunError(Diagnostic(code="NS406", summary=f"{where}not a plan: {reason}"))


class _Encoder:
    """One plan on its way to bytes."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._machine = plan.needs.machine
        if self._machine not in form.MACHINES:
            raise BinaryError(f"no binary form for the machine {self._machine!r}")
        self._blob = Blob()
        self._undo: list[int] = []
        self._tracks: dict[Track, list[int]] = {Track.PARENT: [], Track.CHILD: []}
        self._steps = {Track.PARENT: 0, Track.CHILD: 0}
        self._flags = form.HeaderFlag(0)
        self._renewals = renewals(plan.actions)

    def encode(self, annotations: bytes) -> bytes:
        for number, action in enumerate(self._plan.actions):
            self._action(number, action)
        ops = {
            track: [p.op for p in self._plan.track(track)] for track in (Track.PARENT, Track.CHILD)
        }
        waits = [op for op in ops[Track.PARENT] if isinstance(op, Await)]
        name = self._blob.string(self._plan.name)
        reporting = self._optional(reports_to(ops[Track.PARENT], ops[Track.CHILD]))
        listening = self._optional(channel(ops[Track.PARENT]))
        terminal = self._optional(waits[0].terminal if waits else None)
        sections: list[bytes] = [
            _words(self._tracks[Track.PARENT]),
            _words(self._tracks[Track.CHILD]),
            _words(self._undo),
            _padded(bytes(form.KIND_CODES[reg.kind] for reg in self._blob.registers.values())),
            _padded(bytes(self._blob.data)),
        ]
        offsets = [form.HEADER_SIZE]
        for section in sections:
            offsets.append(offsets[-1] + len(section))
        size = offsets[-1]
        if size > form.SIZE_MAX:
            raise BinaryError(f"a plan of {size} bytes is over {form.SIZE_MAX}")
        tail = (
            form.MACHINES[self._machine],
            len(self._blob.registers),
            offsets[0],
            len(sections[0]),
            offsets[1],
            len(sections[1]),
            offsets[2],
            len(sections[2]),
            offsets[3],
            offsets[4],
            len(sections[4]),
            self._steps[Track.PARENT],
            self._steps[Track.CHILD],
            len(self._plan.actions),
            reporting,
            listening,
            terminal,
            int(self._flags),
            len(annotations),
            name,
            zlib.crc32(annotations),
            0,
        )
        body = struct.pack(f"<{len(tail)}I", *tail) + b"".join(sections)
        return _HEADER.pack(form.MAGIC, form.FORMAT, size, form.checksum(body), *tail) + b"".join(
            sections
        )

    def _optional(self, reg: Reg | None) -> int:
        """A register's number plus one, 0 for none."""
        return 0 if reg is None else register(self._blob, reg) + 1

    # --- actions -----------------------------------------------------------------------------

    def _action(self, number: int, action: Action) -> None:
        words = self._tracks[action.track]
        undo_at = form.NO_UNDO
        if action.undo:
            undo_at = len(self._undo)
            self._undo.append(len(action.undo))
            for op in action.undo:
                self._undo += self._step(op)
        when = form.When.FAILURE if action.undo_when is UndoWhen.FAILURE else form.When.END
        bits = form.ActionBit.NEW_HEIR if number in self._renewals else form.ActionBit(0)
        words += [
            form.WORD_ACTION | when << 8 | int(bits),
            number,
            len(action.steps),
            undo_at,
        ]
        for op in action.steps:
            words += self._step(op)
        self._steps[action.track] += len(action.steps)

    def _step(self, op: Op) -> list[int]:
        words = self._operation(op)
        length = len(words) + 1
        if length > form.STEP_WORDS_MAX:
            raise BinaryError("a step has more words than the form can count")
        return [form.OP_CODES[type(op)] | length << 8, *words]

    def _operation(self, op: Op) -> list[int]:
        blob = self._blob
        match op:
            case Call():
                return self._call(op)
            case Clone():
                bits = form.CloneBit.HAND_OVER if op.hand_over else form.CloneBit(0)
                bits |= form.CloneBit.HOLD if op.hold else form.CloneBit(0)
                return [
                    int(bits),
                    *word64(op.flags.value),
                    word32(op.exit_signal.value),
                    register(blob, op.pid),
                    register(blob, op.pidfd),
                    self._optional(op.channel),
                    *blob.sync(op.sync),
                ]
            case Signal():
                channel_ = register(blob, op.channel)
                return [channel_, self._optional(op.value), *blob.sync(op.sync)]
            case Wait():
                return [
                    register(blob, op.channel),
                    self._optional(op.save),
                    self._optional(op.signals),
                    int(form.WaitBit.EXEC if op.sync == EXEC else 0),
                    *blob.sync(op.sync),
                ]
            case SendFd():
                return [register(blob, op.channel), register(blob, op.fd), *blob.sync(op.sync)]
            case ReceiveFd():
                return [
                    register(blob, op.channel),
                    register(blob, op.save),
                    self._optional(op.value),
                    self._optional(op.signals),
                    *blob.sync(op.sync),
                ]
            case Netlink():
                return [
                    register(blob, op.socket),
                    len(op.accept) | len(op.skip) << 8,
                    *errno_words((*op.accept, *op.skip)),
                    *argument(blob, op.message),
                ]
            case Spawn():
                return self._spawn(op)
            case Init():
                return [register(blob, op.channel)]
            case Await():
                return [
                    register(blob, op.child),
                    register(blob, op.pidfd),
                    register(blob, op.signals),
                    register(blob, op.status),
                    self._optional(op.terminal),
                    word32(op.stop_signal.value),
                    *word64(op.stop_timeout),
                    *word64(op.timeout),
                ]
            case _:
                assert_never(op)

    def _call(self, op: Call) -> list[int]:
        blob = self._blob
        flags = form.CallFlag(0)
        if op.result is not None:
            flags |= form.CallFlag.HAS_RESULT
        if op.name in LAST_CALLS:
            flags |= form.CallFlag.IS_EXEC
            self._flags |= form.HeaderFlag.HAS_EXEC
        if op.name == "close" and isinstance(op.args[0], Reg):
            flags |= form.CallFlag.CLOSES
        if len(op.args) > form.ARGUMENTS_MAX:
            raise BinaryError(f"{op.name} has {len(op.args)} arguments")
        words = [
            abi.syscall_number(op.name, self._machine) | len(op.args) << 16 | int(flags) << 24,
            len(op.accept) | len(op.skip) << 8,
            self._optional(op.save) | self._optional(op.log) << 16,
        ]
        if op.result is not None:
            words += word64(op.result)
        words += errno_words((*op.accept, *op.skip))
        for arg in op.args:
            words += argument(blob, arg)
        return words

    def _spawn(self, op: Spawn) -> list[int]:
        blob = self._blob
        stdin = form.StdinKind.NONE if op.stdin is None else form.StdinKind.ARGUMENT
        words = [
            len(op.argv) | len(op.env) << 16,
            len(op.success) | int(stdin) << 16,
            *word64(op.timeout),
        ]
        for arg in op.argv:
            words += argument(blob, arg)
        words += [blob.string(variable) for variable in op.env]
        words += op.success
        if op.stdin is not None:
            words += argument(blob, op.stdin)
        return words


def _words(words: list[int]) -> bytes:
    return _padded(struct.pack(f"<{len(words)}I", *words))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)
