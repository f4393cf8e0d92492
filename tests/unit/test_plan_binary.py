"""The binary form: the same plan, the same bytes, and nothing but what was compiled."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.diag import NsrunError
from nsrun.kernel.values import Bytes, Call, Fmt, Hole, Int, Pointer, Reg, Str
from nsrun.plan import binary, binary_format
from nsrun.plan.codec import dumps
from nsrun.plan.model import Plan
from tests.golden.reference import plan_of, spec_files
from tests.support import plans
from tests.support.paths import SPECS

EXAMPLES = list(spec_files())


def executed(data: bytes) -> bytes:
    return data[: int.from_bytes(data[12:16], "little")]


@pytest.fixture(scope="module")
def quickstart() -> bytes:
    return binary.encode(plan_of(SPECS / "quickstart.yaml"))


@pytest.fixture(scope="module")
def small() -> bytes:
    """Small enough for each of its bytes."""
    return binary.encode(_plan_with(Call(name="getpid", args=())))


@pytest.mark.parametrize("spec", EXAMPLES, ids=lambda p: p.stem)
def test_examples_come_back(spec: Path) -> None:
    plan = plan_of(spec)
    data = binary.encode(plan)
    assert data == binary.encode(plan)
    again = binary.decode(data)
    assert dumps(again) == dumps(plan)
    assert binary.encode(again) == data


@given(plans.plans)
def test_any_plan_comes_back(plan: Plan) -> None:
    plan = dataclasses.replace(plan, needs=dataclasses.replace(plan.needs, machine="x86_64"))
    try:
        data = binary.encode(plan)
    except NsrunError as error:
        assert error.diagnostics[0].code == "NS407"
        return
    assert dumps(binary.decode(data)) == dumps(plan)


def test_every_cut_is_refused(small: bytes) -> None:
    for size in range(len(small)):
        with pytest.raises(NsrunError) as caught:
            binary.decode(small[:size])
        assert caught.value.diagnostics[0].code == "NS406"


def test_every_changed_byte_is_refused(small: bytes) -> None:
    """Of what is executed, and of what is shown."""
    for place in range(len(small)):
        damaged = bytearray(small)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(NsrunError):
            binary.decode(bytes(damaged))


@given(st.data())
def test_any_changed_byte_is_refused(quickstart: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(quickstart) - 1))
    change = data.draw(st.integers(1, 255))
    damaged = bytearray(quickstart)
    damaged[place] ^= change
    with pytest.raises(NsrunError):
        binary.decode(bytes(damaged))


def test_what_is_shown_is_what_is_executed(quickstart: bytes) -> None:
    """Another plan's annotations behind an executed part are found out."""
    other = binary.encode(plan_of(SPECS / "shell.yaml"))
    forged = executed(quickstart) + other[len(executed(other)) :]
    places, at = {}, 0
    for name, size in binary_format.HEADER_FIELDS:
        places[name] = slice(at, at + size)
        at += size
    fields = bytearray(forged)
    for name in ("annotations", "annotations_sum"):
        fields[places[name]] = other[places[name]]
    forged = bytes(fields)
    with pytest.raises(NsrunError, match="steps"):
        binary.decode(forged)


def _plan_with(call: Call) -> Plan:
    return plans.make_plan(plans.child("call", plans.implied("test"), call))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call(name="getpid", args=(Int(1 << 64),)), "64 bits"),
        (Call(name="chdir", args=(Str("a\0b"),)), "NUL"),
        (Call(name="getpid", args=(), accept=("ENOSUCH",)), "ENOSUCH"),
        (Call(name="bind", args=(Bytes(b"abc", holes=(Hole(0, 4, Reg("x")),)),)), "outside"),
        (Call(name="bind", args=(Bytes(b"abc", pointers=(Pointer(0, Bytes(b"")),)),)), "outside"),
        (Call(name="chdir", args=(Fmt(("x" * (1 << 24),)),)), "16 MiB"),
    ],
)
def test_beyond_its_limits(call: Call, words: str) -> None:
    with pytest.raises(NsrunError, match=words) as caught:
        binary.encode(_plan_with(call))
    assert caught.value.diagnostics[0].code == "NS407"


def test_the_checksum_is_that_of_the_header(quickstart: bytes) -> None:
    said = int.from_bytes(quickstart[16:24], "little")
    assert said == binary_format.checksum(executed(quickstart)[binary_format.CHECKED_FROM :])
