"""The keys that leave a container running."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.diag import NsrunError
from nsrun.runtime.attach import _Keys, detach_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b""), ("ctrl-p,ctrl-q", b"\x10\x11"), ("CTRL-P", b"\x10"), ("a", b"a"), ("A", b"A"),
        ("ctrl-@", b"\0"), ("ctrl-[", b"\x1b"), ("ctrl-\\", b"\x1c"), ("ctrl-]", b"\x1d"),
        ("ctrl-^", b"\x1e"), ("ctrl-_", b"\x1f"), ("a,b,ctrl-c", b"ab\x03"), ("~", b"~"),
        ("5", b"5"),
    ],
)  # fmt: skip
def test_keys(text: str, keys: bytes) -> None:
    assert detach_keys(text) == keys


@pytest.mark.parametrize(
    "text", ["ab", "ctrl-", "ctrl-pq", "ctrl-1", "ctrl-\u00e9", "\u20ac", "\u00e9", "shift-a",
             "\x01", "ctrl-\u212a"],
)  # fmt: skip
def test_no_keys(text: str) -> None:
    with pytest.raises(NsrunError) as caught:
        detach_keys(text)
    assert caught.value.diagnostics[0].code == "NS002"


@given(st.text(max_size=12))
def test_any_text_is_keys_or_refused(text: str) -> None:
    try:
        keys = detach_keys(text)
    except NsrunError:
        return
    assert len(keys) == len([word for word in text.split(",") if word])


few = st.text("ab", max_size=12).map(str.encode)


@given(st.text("ab", min_size=1, max_size=4).map(str.encode), st.lists(few, max_size=6))
def test_found_in_any_pieces(keys: bytes, pieces: list[bytes]) -> None:
    finder = _Keys(keys)
    whole = b"".join(pieces)
    passed, left = b"", False
    for piece in pieces:
        more, left = finder.take(piece)
        passed += more
        if left:
            break
    at = whole.find(keys)
    assert left == (at >= 0)
    if left:
        assert passed == whole[:at]
    else:
        # Nothing is held back but what may be the beginning of the keys.
        held = finder.rest()
        assert passed + held == whole
        assert len(held) < len(keys)
        assert keys.startswith(held)
        assert finder.rest() == b""


@given(few)
def test_without_keys_all_is_passed_on(typed: bytes) -> None:
    assert _Keys(b"").take(typed) == (typed, False)
