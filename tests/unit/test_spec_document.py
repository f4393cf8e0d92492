"""YAML text to a document: values, places, and every way in which the text is refused."""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
import yaml

from nsrun.diag import Diagnostic, NsrunError
from nsrun.spec import document as document_module
from nsrun.spec.compose import MAX_NODES, Composer
from nsrun.spec.document import Document, parse_document, read_document


@pytest.fixture(autouse=True, params=["libyaml", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each test holds with both of PyYAML's parsers."""
    if request.param == "python":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    elif not hasattr(yaml, "CSafeLoader"):
        pytest.skip("this PyYAML has no libyaml")
    yield request.param


def parse(text: str) -> Document:
    return parse_document(text, "spec.yaml")


def errors(text: str) -> list[Diagnostic]:
    with pytest.raises(NsrunError) as caught:
        parse(text)
    return list(caught.value.diagnostics)


def places(text: str) -> list[str]:
    return [f"{d.code} {d.span.line}:{d.span.column}" if d.span else d.code for d in errors(text)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("off", "off"), ("yes", "yes"), ("on", "on"), ("y", "y"),
        ("true", True), ("True", True), ("TRUE", True), ("tRUE", "tRUE"), ("false", False),
        ("0755", 755), ("0o755", 0o755), ("0x1F", 31), ("-5", -5), ("+5", 5), ("0b1", "0b1"),
        ("1_000", "1_000"), ("22:22", "22:22"), ("1:2:3", "1:2:3"), ("2020-01-01", "2020-01-01"),
        ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("-.inf", -math.inf),
        ("~", None), ("null", None), ("Null", None), ("", None), ("nULL", "nULL"),
        ('"1"', "1"), ("'~'", "~"), ("!!str 1", "1"), ("!!int '7'", 7), ("! 7", "7"),
        ("!!float 3", 3), ("-", "-"), ("+", "+"), (".", "."), ("=", "="), ("1e", "1e"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    data = parse(f"key: {text} # end" if text != "-" else "key: '-'").data
    assert data == {"key": value}
    assert isinstance(data, dict)
    assert type(data["key"]) is type(value)


def test_not_a_number() -> None:
    data = parse("a: .nan").data
    assert isinstance(data, dict)
    assert math.isnan(data["a"])


def test_places_of_values_and_keys() -> None:
    document = parse(
        "command: [sh, -c]\nsysctl:\n  net.ipv4.ip_forward: 1\nmounts:\n  - target: /x\n"
    )
    spans = {
        path: (s.line, s.column, s.end_line, s.end_column) for path, s in document.spans.items()
    }
    assert spans == {
        "": (1, 1, 5, 15),
        "command": (1, 10, 1, 18),
        "command[0]": (1, 11, 1, 13),
        "command[1]": (1, 15, 1, 17),
        "sysctl": (3, 3, 3, 25),
        'sysctl["net.ipv4.ip_forward"]': (3, 24, 3, 25),
        "mounts": (5, 3, 5, 15),
        "mounts[0]": (5, 5, 5, 15),
        "mounts[0].target": (5, 13, 5, 15),
    }
    assert (document.key_spans["mounts"].line, document.key_spans["mounts"].column) == (4, 1)
    assert document.literals == {'sysctl["net.ipv4.ip_forward"]': "1"}


def test_literals_are_as_written() -> None:
    assert parse("a: 1.10\nb: 0755\nc: 'x'\nd: TRUE").literals == {
        "a": "1.10", "b": "0755", "d": "TRUE",
    }  # fmt: skip


def test_a_block_scalar_is_shown_by_its_header() -> None:
    span = parse("a: |\n  one\n  two\nb: 1").spans["a"]
    assert (span.line, span.column, span.end_line, span.end_column) == (1, 4, 1, 5)


def test_merge_keys() -> None:
    document = parse(
        "x-a: &a {p: 1, q: 1}\nx-b: &b {q: 2, r: 2}\n"
        "one: {<<: *a, p: 0}\ntwo: {<<: [*a, *b]}\nthree: {<<: {p: 7}}\nfour: {'<<': 1}\n"
    )
    data = document.data
    assert isinstance(data, dict)
    assert data["one"] == {"p": 0, "q": 1}
    assert data["two"] == {"p": 1, "q": 1, "r": 2}
    assert data["three"] == {"p": 7}
    assert data["four"] == {"<<": 1}
    # What is merged in stands where it was written.
    assert document.spans["one.q"].line == 1
    assert document.key_spans["two.r"].line == 2


def test_an_alias_stands_where_it_is_used_and_its_parts_where_they_are_written() -> None:
    document = parse("x: &x {a: 1}\ny: *x\n")
    assert (document.spans["y"].line, document.spans["y"].column) == (2, 4)
    assert document.spans["y.a"].line == 1


def test_values_behind_one_alias_are_not_shared() -> None:
    data = parse("x: &x [1]\ny: *x\nz: *x\n").data
    assert isinstance(data, dict)
    assert data["y"] is not data["z"]


def test_byte_order_mark_and_line_ends() -> None:
    document = parse("\ufeffa: 1\r\nb: 2\rc: 3\n")
    assert document.data == {"a": 1, "b": 2, "c": 3}
    assert document.text == "a: 1\nb: 2\nc: 3\n"
    assert (document.spans["c"].line, document.spans["c"].column) == (3, 4)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: b\na: [", "NS101 2:5"),
        ("a: 'x\n", "NS101 1:6"),
        ("a: b: c", "NS101 1:5"),
        ("a: @x", "NS101 1:4"),
        ("a: `x", "NS101 1:4"),
        ("a:\n\tb: 1", "NS101 2:1"),
        ("a: \x00", "NS101 1:4"),
        ("a: 1\nb: \x1b[31m", "NS101 2:4"),
        ("a: \x85", "NS101 1:4"),
        ("a: \u2028", "NS101 1:4"),
        ("a: \ufeff", "NS101 1:4"),
        ("a: \ud800", "NS101 1:4"),
        ("a: *b", "NS101 1:4"),
        ("a: &a [*a]", "NS101 1:8"),
        ("a: &a {b: {c: *a}}", "NS101 1:15"),
        ("a: &a\n  <<: *a", "NS101 2:7"),
        ("a: 1\n---\nb: 1", "NS101 2:1"),
        ("a: {b: 1, b: 2}", "NS102 1:11"),
        ("<<: {a: 1}\n<<: {b: 1}", "NS102 2:1"),
        ("", "NS105 1:1"),
        ("# only\n", "NS105 1:1"),
        ("---\n...\n", "NS105 1:1"),
        ("a: !!python/object:os.system x", "NS106 1:4"),
        ("a: !x {b: 1}", "NS106 1:4"),
        ("a: !!set {b}", "NS106 1:4"),
        ("a: !!binary eA==", "NS106 1:4"),
        ("a: !!int x", "NS106 1:4"),
        ("a: !!bool 1", "NS106 1:4"),
        ("!!map [1]", "NS106 1:1"),
        ("1: a", "NS202 1:1"),
        ("true: a", "NS202 1:1"),
        ("? [a]\n: b", "NS202 1:3"),
        ("? {a: b}\n: b", "NS202 1:3"),
        ("? \n: b", "NS202 1:2"),
        ("a: {<<: 1}", "NS202 1:9"),
        ("a: {<<: [{}, x]}", "NS202 1:14"),
        (f"a: {'9' * 101}", "NS104 1:4"),
        (f"a: 1.{'9' * 5000}", "NS104 1:4"),
    ],
)
def test_refused_with_a_place(text: str, place: str) -> None:
    found = places(text)
    if place == "NS202 1:2":  # where nothing stands, the parsers differ by a column
        assert found[0].startswith("NS202 1:")
    else:
        assert place in found


@pytest.mark.parametrize("text", ['a: "\\ud800"', '"\\udfff": b'])
def test_a_surrogate_is_no_text(text: str) -> None:
    assert {d.code for d in errors(text)} == {"NS101"}


def test_what_does_not_stop_the_reading_is_told_together() -> None:
    text = "a: 1\na: 2\nb: !x y\n3: c\nd: [\n"
    assert [d.code for d in errors(text)] == ["NS102", "NS106", "NS202", "NS101"]


def test_a_key_given_twice_names_both_places() -> None:
    (found,) = errors("hostname: a\nx: 1\nhostname: b\n")
    assert found.span is not None
    assert found.span.line == 3
    assert found.notes == ("first given at spec.yaml:1:1",)


def test_an_alias_without_anchor_finds_the_near_one() -> None:
    (found,) = errors("a: &common x\nb: *comon\n")
    assert found.help == ("did you mean `*common`?",)


@pytest.mark.parametrize("depth", [63, 64])
def test_depth_within_the_limit(depth: int) -> None:
    assert parse("[" * depth + "]" * depth).data is not None


@pytest.mark.parametrize(
    "text",
    [
        "[" * 65 + "]" * 65,
        "[" * 500_000,
        "{a: " * 200_000,
        "- " * 300_000,
        "? " * 300_000,
        "x0: &x0 [1]\n" + "".join(f"x{i}: &x{i} [*x{i - 1}]\n" for i in range(1, 80)),
        "x0: &x0 {a: 1}\n"
        + "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]\n" for i in range(1, 9)),
        "x0: &x0 {k0: 1}\n"
        + "".join(f"x{i}: &x{i} {{k{i}: 1, <<: *x{i - 1}}}\n" for i in range(1, 2000)),
        "a: &a " + "x" * 100_000 + "\nb: [" + "*a, " * 100 + "]\n",
        "a: &a {" + "k" * 900 + ": " * 1 + "1}\nb: &b [" + "*a, " * 300 + "]\n"
        "c: {" + "c" * 900 + ": [" + "*b, " * 100 + "]}\n",
        "[" + "1, " * 100_001 + "]",
        "x" * (1024 * 1024 + 1),
    ],
    ids=["deep", "open-lists", "open-mappings", "dashes", "questions", "chain", "laughs",
         "merges", "text", "places", "wide", "long"],
)  # fmt: skip
def test_bombs_end_soon(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon is a number of things looked at: a clock would measure the machine's other work."""
    looked_at = [
        counted(monkeypatch, Composer, "event"),
        counted(monkeypatch, document_module._Expansion, "expand"),
    ]
    found = errors(text)
    assert {d.code for d in found} <= {"NS104", "NS101"}
    assert found[-1].code == "NS104"
    assert max(map(len, looked_at)) <= MAX_NODES + 10


def test_a_usual_spec_is_read_with_little_work() -> None:
    """Told by the functions that are called: a clock would measure the machine's other work."""
    text = "command: [sh]\nmounts:\n" + "  - {type: bind, source: ./a, target: /a}\n" * 18
    parse(text)
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        parse(text)
    finally:
        sys.setprofile(before)
    assert 0 < calls < 60 * len(text)


def counted(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[None]:
    """One entry for each time that a method of ``owner`` is called."""
    real, seen = getattr(owner, name), list[None]()

    def wrapper(*arguments: object) -> object:
        seen.append(None)
        return real(*arguments)

    monkeypatch.setattr(owner, name, wrapper)
    return seen


def test_reading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_bytes(b"\xef\xbb\xbfcommand: [sh]\r\n")
    document = read_document(str(path))
    assert document.data == {"command": ["sh"]}
    assert document.file == str(path)
    assert document.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_reading_a_pipe_and_the_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [os.pipe() for _ in range(2)]
    for _, write in ends:
        os.write(write, b"command: [sh]")
        os.close(write)
    assert read_document(f"/proc/self/fd/{ends[0][0]}").data == {"command": ["sh"]}
    monkeypatch.setattr(os, "dup", lambda _: ends[1][0])
    assert read_document("-").file == "<stdin>"
    os.close(ends[0][0])


def failure(path: str) -> Diagnostic:
    with pytest.raises(NsrunError) as caught:
        read_document(path)
    (found,) = caught.value.diagnostics
    return found


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * (1024 * 1024 + 1))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (tmp_path, tmp_path / "none", big, loop, Path("/proc/self/mem"), Path("a\0b")):
        assert failure(str(path)).code == "NS001", path
    assert failure(str(fifo)).code == "NS105"  # no writer: nothing to read, and no wait
    assert failure("/dev/null").code == "NS105"


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [(b"a: \xff", 1, 4), (b"a: \xc3\xa9\nb\xe9: 1", 2, 2), ("a: b".encode("utf-16"), 1, 1)],
)
def test_bytes_that_are_not_utf_8(tmp_path: Path, data: bytes, line: int, column: int) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(data)
    found = failure(str(path))
    assert found.code == "NS103"
    assert found.span is not None
    assert (found.span.line, found.span.column) == (line, column)
