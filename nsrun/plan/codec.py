"""A plan as JSON, and back: the same plan, the same bytes.

What is read back may have been written by anyone: everything is checked here again, types,
ranges, names and unknown keys, and nothing of it reaches the executor otherwise. A plan that
decodes is well formed; whether it is sound is for ``verify``.
"""

from __future__ import annotations

from typing import Any

from nsrun.diag import Diagnostic, NsrunError, Span
from nsrun.kernel.values import Reg
from nsrun.plan.codec_forms import (
    BOOLEAN,
    TEXT,
    Form,
    FormError,
    Keys,
    integer,
    keys,
    many,
    matching,
    member,
    one_of,
    record,
)
from nsrun.plan.codec_ops import OP
from nsrun.plan.codec_text import Path, TextError, locate, place, quoted, read_json, write_json
from nsrun.plan.model import FORMAT, Action, Needs, Origin, Plan, Source, Track, UndoWhen
from nsrun.plan.registers import registers

# --- origin ------------------------------------------------------------------------------------

_PLACE = frozenset({"file", "line", "column"})
_ORIGIN_KEYS = dict.fromkeys(("file", "line", "column", "path", "rule"))
_COUNT = integer(1, 2**31 - 1)


def _encode_origin(origin: Origin) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if origin.span is not None:
        span = origin.span
        found |= {"file": span.file, "line": span.line, "column": span.column}
    if origin.path:
        found["path"] = origin.path
    if origin.rule:
        found["rule"] = origin.rule
    return found


def _decode_origin(value: Any) -> Origin:
    has_place = type(value) is dict and not _PLACE.isdisjoint(value)
    given = keys(value, _ORIGIN_KEYS, _PLACE if has_place else frozenset())
    span = None
    if has_place:
        span = Span(
            file=member(TEXT, given, "file"),
            line=member(_COUNT, given, "line"),
            column=member(_COUNT, given, "column"),
        )
    return Origin(
        span=span,
        path=member(TEXT, given, "path") if "path" in given else "",
        rule=member(TEXT, given, "rule") if "rule" in given else "",
    )


# --- the whole ---------------------------------------------------------------------------------

_NAME = matching(r"[^\0-\x1f\x7f/]{1,255}", "a plan's name")
_MACHINE = matching(r"[a-z0-9_]{1,32}", "a machine (uname -m)")
_KERNEL = matching(r"[0-9]{1,5}\.[0-9]{1,5}", "a kernel version such as `5.15`")
_SHA256 = matching(r"[0-9a-f]{64}", "a SHA-256 in lower-case hexadecimal digits")

SOURCE_KEYS: Keys = {"file": ("file", TEXT), "sha256": ("sha256", _SHA256)}
NEEDS_KEYS: Keys = {
    "kernel": ("kernel", _KERNEL),
    "machine": ("machine", _MACHINE),
    "root": ("root", BOOLEAN),
    "features": ("features", many(TEXT)),
}
ACTION_KEYS: Keys = {
    "track": ("track", one_of(Track)),
    "what": ("what", TEXT),
    "from": ("origin", Form(_encode_origin, _decode_origin)),
    "steps": ("steps", many(OP)),
    "undo": ("undo", many(OP)),
    "undo_when": ("undo_when", one_of(UndoWhen)),
}
_ACTION = record(Action, ACTION_KEYS)
PLAN_KEYS: Keys = {
    "name": ("name", _NAME),
    "spec": ("source", record(Source, SOURCE_KEYS)),
    "needs": ("needs", record(Needs, NEEDS_KEYS)),
    "actions": ("actions", many(_ACTION)),
}
_PLAN = record(Plan, PLAN_KEYS)


def to_json(plan: Plan) -> dict[str, Any]:
    """``plan`` as JSON data (dicts, lists, strings, numbers), keys in their fixed order.

    Spans keep line and column only; the end of a span is not part of a plan's text.
    """
    return {"format": plan.format, **_PLAN.encode(plan)}


def dumps(plan: Plan, *, compact: bool = False) -> str:
    """``plan`` as JSON text: byte-identical for equal plans, with a newline at its end.

    Indented for people and their diffs; ``compact``, in one line, for programs.
    """
    return write_json(to_json(plan), compact=compact)


def loads(text: str, *, file: str = "") -> Plan:
    """The plan that :func:`dumps` wrote.

    Raises NsrunError with one NS406 for anything that is not exactly such a text; it carries
    the path inside the document, and line and column where ``file`` is given.
    """
    try:
        value = read_json(text)
    except TextError as error:
        at = place(text, error.position)
        raise NsrunError(_diagnostic(error.message, (), file, at)) from None
    try:
        return _decode(value)
    except FormError as error:
        path = tuple(reversed(error.path))
        raise NsrunError(_diagnostic(error.message, path, file, locate(text, path))) from None


def _decode(value: Any) -> Plan:
    # The format is looked at first: of another format's keys nothing can be said.
    if type(value) is dict and "format" in value:
        number = member(integer(0, 2**31 - 1), value, "format")
        if number != FORMAT:
            raise FormError(f"plan format {number} is not supported, only {FORMAT}", "format")
        value = {key: value[key] for key in value if key != "format"}
    elif type(value) is dict:
        raise FormError("key `format` is missing")
    plan: Plan = _PLAN.decode(value)
    _one_kind_each(plan)
    return plan


def _one_kind_each(plan: Plan) -> None:
    """A register has one kind: what closes a descriptor must not be handed a pid."""
    known: dict[str, Reg] = {}
    for number, action in enumerate(plan.actions):
        for part, ops in (("steps", action.steps), ("undo", action.undo)):
            for index, op in enumerate(ops):
                for reg in registers(op):
                    kind = known.setdefault(reg.name, reg).kind
                    if kind is not reg.kind:
                        message = f"register {quoted(reg.name)} is a {kind} and a {reg.kind}"
                        raise FormError(message, index, part, number, "actions")


def _diagnostic(message: str, path: Path, file: str, at: tuple[int, int]) -> Diagnostic:
    words = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).removeprefix(".")
    span = Span(file=file, line=at[0], column=at[1]) if file else None
    return Diagnostic(
        code="NS406",
        summary=f"not a plan: {message}",
        span=span,
        path=words,
    )
