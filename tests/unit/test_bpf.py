"""The interpreter of seccomp filters, held against the tests' own and against made-up programs."""

from __future__ import annotations

import struct

import pytest

from nsrun.kernel import bpf
from nsrun.kernel.abi import SeccompAction
from nsrun.kernel.seccomp import call_name
from nsrun.plan.seccomp import default_filter
from tests.support import bpf as reference

ARCH = reference.X86_64


def program(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("=HBBI", *words) for words in instructions)


def returning(answer: int) -> bytes:
    return program((0x06, 0, 0, answer))


def test_the_default_filter_answers_alike() -> None:
    from nsrun.kernel.seccomp import compiled

    filter_ = compiled(default_filter("x86_64", frozenset()))
    answers = set()
    for number in (*range(480), 0x40000000, 0xFFFFFFFF):
        for first in (0, 2, 16, 0x10000000, 0xFFFFFFFF00000002):
            for arch in (ARCH, reference.I386):
                mine = bpf.verdict(filter_, arch, number, (first,))
                assert mine == reference.run(filter_, arch, number, first), (number, first)
                answers.add(mine)
    assert answers == {reference.ALLOW, reference.EPERM, reference.ENOSYS}
    assert bpf.errnos(filter_) == {1, 38}


def test_the_strictest_counts_and_of_equals_the_newest() -> None:
    errno = int(SeccompAction.SECCOMP_RET_ERRNO)
    allow = returning(int(SeccompAction.SECCOMP_RET_ALLOW))
    kill = returning(int(SeccompAction.SECCOMP_RET_KILL_PROCESS))
    one, two = returning(errno | 1), returning(errno | 2)

    def of(*programs: bytes) -> int:
        return bpf.strictest(programs, ARCH, 0, ())

    assert of() == of(allow) == int(SeccompAction.SECCOMP_RET_ALLOW)
    assert of(one, allow) == of(two, allow, one) == errno | 1
    # SECCOMP_RET_KILL_PROCESS is the highest number unless it is taken as signed.
    assert of(one, kill, two) == int(SeccompAction.SECCOMP_RET_KILL_PROCESS)


def test_computations_and_cells() -> None:
    answer = program(
        (0x20, 0, 0, 16),  # the low word of the first argument
        (0x04, 0, 0, 0xFFFFFFFF),  # add: wraps
        (0x02, 0, 0, 3),  # into a cell
        (0x00, 0, 0, 5),
        (0x07, 0, 0, 0),  # to the index register
        (0x60, 0, 0, 3),
        (0x2C, 0, 0, 0),  # multiplied by it
        (0x16, 0, 0, 0),
    )
    assert bpf.verdict(answer, ARCH, 0, (7,)) == 30


@pytest.mark.parametrize(
    "code", [b"", program((0x05, 0, 0, 9)), program((0x99, 0, 0, 0)), program((0x20, 0, 0, 64))]
)
def test_what_is_no_filter(code: bytes) -> None:
    with pytest.raises(bpf.NotAFilterError):
        bpf.verdict(code, ARCH, 0, ())


def test_names_of_calls() -> None:
    assert call_name(ARCH, 165) == "mount"
    assert call_name(reference.I386, 21) == "mount"
    assert call_name(ARCH, 5000) is None
