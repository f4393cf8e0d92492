"""The arguments of a step as JSON: registers, formats, strings, numbers and buffers."""

from __future__ import annotations

import re
from typing import Any, assert_never

from nsrun.kernel.values import (
    DIGITS_MAX,
    Arg,
    Bytes,
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
from nsrun.plan.codec_forms import (
    BOOLEAN,
    KERNEL_STRING,
    NAME,
    S64_MIN,
    TEXT,
    U64_MAX,
    Form,
    FormError,
    Keys,
    integer,
    kernel_string,
    keys,
    kind_of,
    many,
    matching,
    member,
    one_of,
    record,
    string,
)
from nsrun.plan.codec_text import quoted

# The largest answer any step reads; a plan cannot make the executor allocate without bound.
MAX_OUT = 1 << 20
# struct sock_fprog is one level deep; more than a few is an attempt to exhaust the stack.
MAX_POINTER_DEPTH = 4

_NUMBER = integer(S64_MIN, U64_MAX)
_OFFSET = integer(0, MAX_OUT)
_KIND = one_of(RegKind)

# --- registers and formats ---------------------------------------------------------------------

_REG = record(Reg, {"reg": ("name", NAME), "kind": ("kind", _KIND)})


def _encode_reg(reg: Reg) -> dict[str, Any]:
    return {"reg": reg.name, "kind": reg.kind.value}


def _reg(*kinds: RegKind) -> Form:
    """A register, of one of ``kinds`` where some are named. The kind is always written."""

    def decode(value: Any) -> Reg:
        keys(value, {"reg": 0, "kind": 0}, frozenset({"reg", "kind"}))
        found: Reg = _REG.decode(value)
        if kinds and found.kind not in kinds:
            wanted = " or ".join(kind.value for kind in kinds)
            raise FormError(f"a register of kind {wanted} is expected, not {found.kind}", "kind")
        return found

    return Form(_encode_reg, decode)


ANY_REG, FD, PID, NUMBER_REG = _reg(), _reg(RegKind.FD), _reg(RegKind.PID), _reg(RegKind.NUMBER)

_FORMAT_PART = re.compile(r"(\{\{|\}\})|\{([^{}]*)\}|([^{}]+)")


def _encode_fmt(fmt: Fmt) -> dict[str, Any]:
    """``{child}`` is a register, ``{{`` and ``}}`` are braces; kinds other than fd are listed."""
    text = ""
    kinds: dict[str, str] = {}
    for part in fmt.parts:
        if isinstance(part, str):
            text += part.replace("{", "{{").replace("}", "}}")
        else:
            text += f"{{{part.name}}}"
            if kinds.setdefault(part.name, part.kind.value) != part.kind.value:
                raise ValueError(f"register {part.name} has two kinds in one format")
    listed = {name: kind for name, kind in sorted(kinds.items()) if kind != RegKind.FD.value}
    return {"format": text, "kinds": listed} if listed else {"format": text}


def _decode_fmt(value: Any) -> Fmt:
    given = keys(value, {"format": 0, "kinds": 0}, frozenset({"format"}))
    kinds = member(Form(dict, _decode_kinds), given, "kinds") if "kinds" in given else {}
    parts = member(Form(_encode_fmt, _format_parts), given, "format")
    names = {name for is_register, name in parts if is_register}
    stray = sorted(kinds.keys() - names)
    if stray:
        raise FormError(f"{quoted(stray[0])} is not a register of the format", "kinds")
    return Fmt(
        tuple(Reg(text, kinds.get(text, RegKind.FD)) if reg else text for reg, text in parts)
    )


def _format_parts(value: Any) -> list[tuple[bool, str]]:
    """The format in pieces: (is it a register, name or text); neighbouring texts are one."""
    text = kernel_string(value)
    parts: list[tuple[bool, str]] = []
    position = 0
    while position < len(text):
        match = _FORMAT_PART.match(text, position)
        if match is None:
            raise FormError("a single brace in a format; a brace itself is doubled")
        brace, name, plain = match.groups()
        position = match.end()
        if name is not None:
            parts.append((True, NAME.decode(name)))
            continue
        plain = brace[0] if brace else plain
        if parts and not parts[-1][0]:
            plain = parts.pop()[1] + plain
        parts.append((False, plain))
    return parts


def _decode_kinds(value: Any) -> dict[str, RegKind]:
    """The kinds of a format's registers, by name."""
    if type(value) is not dict:
        raise FormError(f"an object is expected, not {kind_of(value)}")
    given: dict[str, Any] = value
    return {NAME.decode(name): member(_KIND, given, name) for name in given}


FMT = Form(_encode_fmt, _decode_fmt)

# --- buffers -----------------------------------------------------------------------------------


def _encode_hole(hole: Hole) -> dict[str, Any]:
    made = {"offset": hole.offset, "size": hole.size, **_encode_reg(hole.reg)}
    return {**made, "decimal": True} if hole.decimal else made


def _decode_hole(value: Any) -> Hole:
    names = ("offset", "size", "reg", "kind")
    given = keys(value, dict.fromkeys((*names, "decimal")), frozenset(names))
    decimal = bool(member(BOOLEAN, given, "decimal")) if "decimal" in given else False
    return Hole(
        member(_OFFSET, given, "offset"),
        member(integer(1, DIGITS_MAX) if decimal else _SIZE, given, "size"),
        ANY_REG.decode({"reg": given["reg"], "kind": given["kind"]}),
        decimal,
    )


def _word_size(value: Any) -> int:
    size: int = integer(1, 8).decode(value)
    if size not in (1, 2, 4, 8):
        raise FormError("a size of 1, 2, 4 or 8 bytes is expected")
    return size


def _inside(size: int, what: str, spans: list[tuple[int, int]], key: str) -> None:
    """Every (offset, size) lies within ``size`` bytes."""
    for index, (offset, width) in enumerate(spans):
        if offset + width > size:
            raise FormError(f"{what} reaches past the end of {size} bytes", index, key)


def _hex(value: Any) -> bytes:
    text = string(value)
    if re.fullmatch(r"(?:[0-9a-f]{2})*", text) is None:
        raise FormError("pairs of lower-case hexadecimal digits are expected")
    return bytes.fromhex(text)


def _encode_pointer(pointer: Pointer) -> dict[str, Any]:
    return {"offset": pointer.offset, "target": BYTES.encode(pointer.target)}


def _decode_pointer(value: Any) -> Pointer:
    given = keys(value, {"offset": 0, "target": 0}, frozenset({"offset", "target"}))
    return Pointer(member(_OFFSET, given, "offset"), member(BYTES, given, "target"))


def _decode_bytes(value: Any) -> Bytes:
    found: Bytes = _BYTES.decode(value)
    size = len(found.value)
    _inside(size, "a hole", [(h.offset, h.size) for h in found.holes], "holes")
    _inside(size, "a pointer", [(p.offset, 8) for p in found.pointers], "pointers")
    if _depth(found) > MAX_POINTER_DEPTH:
        raise FormError(f"buffers point to buffers more than {MAX_POINTER_DEPTH} deep", "pointers")
    return found


def _depth(buffer: Bytes) -> int:
    return max((1 + _depth(pointer.target) for pointer in buffer.pointers), default=0)


def _decode_out(value: Any) -> Out:
    found: Out = _OUT.decode(value)
    for index, hole in enumerate(found.saves):
        if hole.decimal:
            raise FormError("what the kernel writes is no text of digits", index, "save")
    _inside(found.size, "a register", [(h.offset, h.size) for h in found.saves], "save")
    _inside(found.size, "a check", [(e.offset, e.size) for e in found.expects], "expect")
    return found


_SIZE = Form(int, _word_size)
HOLE = Form(_encode_hole, _decode_hole)
POINTER = Form(_encode_pointer, _decode_pointer)
BYTES_KEYS: Keys = {
    "bytes": ("value", Form(bytes.hex, _hex)),
    "text": ("text", TEXT),
    "holes": ("holes", many(HOLE)),
    "pointers": ("pointers", many(POINTER)),
}
_BYTES = record(Bytes, BYTES_KEYS)
BYTES = Form(_BYTES.encode, _decode_bytes)

EXPECT_KEYS: Keys = {
    "offset": ("offset", _OFFSET),
    "size": ("size", _SIZE),
    "mask": ("mask", integer(0, U64_MAX)),
    "equals": ("equals", integer(0, U64_MAX)),
    "text": ("text", TEXT),
    "otherwise": ("otherwise", matching("fail|skip", "`fail` or `skip`")),
}
OUT_KEYS: Keys = {
    "out": ("size", _OFFSET),
    "text": ("text", TEXT),
    "save": ("saves", many(HOLE)),
    "expect": ("expects", many(record(Expect, EXPECT_KEYS))),
}
_OUT = record(Out, OUT_KEYS)
OUT = Form(_OUT.encode, _decode_out)

# --- any argument ------------------------------------------------------------------------------

_NAMED_INT = record(Int, {"int": ("value", _NUMBER), "text": ("text", TEXT)})
LENGTH = record(Length, {"length": ("of", FMT)})
STRINGS = record(Strings, {"strings": ("values", many(KERNEL_STRING))})
# The key that tells an argument's form from the others'.
OBJECTS: dict[str, Form] = {
    "int": _NAMED_INT,
    "format": FMT,
    "length": LENGTH,
    "reg": ANY_REG,
    "strings": STRINGS,
    "bytes": BYTES,
    "out": OUT,
}


def _encode_int(value: Int) -> Any:
    return _NAMED_INT.encode(value) if value.text else value.value


def _decode_int(value: Any) -> Int:
    found: Int = _NAMED_INT.decode(value) if type(value) is dict else Int(_NUMBER.decode(value))
    return found


def _encode_arg(arg: Arg) -> Any:
    match arg:
        case Int():
            return _encode_int(arg)
        case Str():
            return arg.value
        case Fmt():
            return FMT.encode(arg)
        case Length():
            return LENGTH.encode(arg)
        case Strings():
            return STRINGS.encode(arg)
        case Bytes():
            return BYTES.encode(arg)
        case Out():
            return OUT.encode(arg)
        case Reg():
            return _encode_reg(arg)
        case _:
            assert_never(arg)


def _decode_arg(value: Any) -> Arg:
    if type(value) is str:
        return Str(kernel_string(value))
    if type(value) is int:
        return _decode_int(value)
    if type(value) is not dict:
        raise FormError(f"an argument is a number, a string or an object, not {kind_of(value)}")
    tags = [tag for tag in OBJECTS if tag in value]
    if len(tags) != 1:
        known = ", ".join(OBJECTS)
        raise FormError(f"an argument's object has exactly one of the keys {known}")
    found: Arg = OBJECTS[tags[0]].decode(value)
    return found


def argument(*kinds: type[Arg]) -> Form:
    """An argument of one of ``kinds`` only."""

    def decode(value: Any) -> Arg:
        found = _decode_arg(value)
        if not isinstance(found, kinds):
            wanted = " or ".join(kind.__name__.lower() for kind in kinds)
            raise FormError(f"a value of the form {wanted} is expected")
        return found

    return Form(_encode_arg, decode)


ARG = Form(_encode_arg, _decode_arg)
INT = Form(_encode_int, _decode_int)
