"""The way back from a rendered text: each character is at the place in the template that wrote it."""

# ruff: noqa: E501 -- a table of pieces is read by its lines

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import DictLoader, Environment
from jinja2.lexer import Lexer

from nsrun.diag import NsrunError, Span
from nsrun.spec import jinja
from nsrun.spec.template import Rendered, render
from nsrun.spec.values import Inputs

FAST = settings(
    max_examples=100, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
# What stands as it is in a template, and what a tag writes: both are found again by their number.
WORD = re.compile(r"[TV][0-9]+;")
CONTROL = st.sampled_from(["", "-", "+"])
BLANKS = st.sampled_from(["", " ", "\n", "\n\n  ", "  ", "\n\t"])


@dataclass
class Files:
    """Templates in the making: every word in them is there once."""

    draw: st.DrawFn
    texts: dict[str, str] = field(default_factory=dict)
    words: int = 0
    names: int = 0

    def word(self, kind: str) -> str:
        self.words += 1
        return f"{kind}{self.words};"

    def name(self) -> str:
        self.names += 1
        return f"n{self.names}"

    def tag(self, text: str) -> str:
        # `+` at the end of a tag is only for blocks, and only with trim_blocks.
        return f"{{%{self.draw(CONTROL)} {text} {self.draw(CONTROL)}%}}"

    def body(self, depth: int) -> str:
        parts = []
        for _ in range(self.draw(st.integers(0, 3))):
            parts += [self.draw(BLANKS), self.piece(depth)]
        return "".join([*parts, self.draw(BLANKS)])

    def piece(self, depth: int) -> str:
        kinds = ["text", "shown", "comment", "raw", "lines"]
        if depth:
            kinds += ["for", "if", "set", "macro", "call", "filter", "include", "import", "join"]
        kind = self.draw(st.sampled_from(kinds))
        made: str = getattr(self, f"a_{kind}")(depth - 1)
        return made

    def a_text(self, _: int) -> str:
        return self.word("T")

    def a_lines(self, _: int) -> str:
        return f"{self.word('T')} \n  {self.word('T')}\n"

    def a_shown(self, _: int) -> str:
        sign = self.draw(st.sampled_from(["", "-"]))
        return f'{{{{{sign} "{self.word("V")}" }}}}'

    def a_comment(self, _: int) -> str:
        return "{#- one\ntwo #}"

    def a_raw(self, _: int) -> str:
        begin, end = (self.draw(st.sampled_from(["", "-"])) for _ in range(2))
        inside = f"{begin}%}} {{{{ {self.word('T')}\n{self.word('T')} {{%{end}"
        return f"{{% raw {inside} endraw %}}"

    def a_for(self, depth: int) -> str:
        times = self.draw(st.integers(0, 3))
        body = self.body(depth)
        return f"{self.tag(f'for i in range({times})')}{body}{self.tag('endfor')}"

    def a_if(self, depth: int) -> str:
        word = self.draw(st.sampled_from(["true", "false"]))
        parts = [self.tag(f"if {word}"), self.body(depth), self.tag("else"), self.body(depth)]
        return "".join([*parts, self.tag("endif")])

    def a_set(self, depth: int) -> str:
        name = self.name()
        block = f"{self.tag(f'set {name}')}{self.body(depth)}{self.tag('endset')}"
        return f"{block}{self.body(depth)}{{{{ {name} }}}}"

    def a_macro(self, depth: int) -> str:
        name = self.name()
        block = f"{self.tag(f'macro {name}()')}{self.body(depth)}{self.tag('endmacro')}"
        shown = self.draw(st.sampled_from(["", " | trim", " | indent(3)", " | indent('>', true)"]))
        return f"{block}{{{{ {name}(){shown} }}}}"

    def a_call(self, depth: int) -> str:
        name = self.name()
        macro = f"{self.tag(f'macro {name}()')}{self.body(depth)}{{{{ caller() }}}}"
        call = f"{self.tag(f'call {name}()')}{self.body(depth)}{self.tag('endcall')}"
        return f"{macro}{self.tag('endmacro')}{call}"

    def a_filter(self, depth: int) -> str:
        name = self.draw(st.sampled_from(["indent(2)", "trim"]))
        return f"{self.tag(f'filter {name}')}{self.body(depth)}{self.tag('endfilter')}"

    def a_include(self, depth: int) -> str:
        file = f"{self.name()}.j2"
        self.texts[file] = self.body(depth)
        return self.tag(f"include '{file}'")

    def a_import(self, depth: int) -> str:
        name = self.name()
        body = self.body(depth)
        self.texts[f"{name}.j2"] = f"{{% macro m() %}}{body}{{% endmacro %}}"
        tag = self.tag(f"import '{name}.j2' as {name}")
        return f"{tag}{{{{ {name}.m() }}}}"

    def a_join(self, depth: int) -> str:
        name = self.name()
        block = f"{self.tag(f'macro {name}()')}{self.body(depth)}{self.tag('endmacro')}"
        shown = f"[{name}(), {name}()] | join('!')"
        return f"{block}{{{{ {shown} }}}}"


class Plain(Environment):
    """Jinja's own, which reads templates as nsrun does and knows nothing of places."""

    tags: ClassVar[dict[str, list[tuple[int, int]]]] = {}

    @property
    def lexer(self) -> Lexer:
        return jinja._Lexer(self)  # type: ignore[arg-type]


@st.composite
def templates(draw: st.DrawFn) -> dict[str, str]:
    files = Files(draw)
    files.texts["main.j2"] = files.body(3)
    return files.texts


def written(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text)


def span_of(text: str, begin: int, end: int) -> Span:
    def at(offset: int) -> tuple[int, int]:
        return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)

    (line, column), (end_line, end_column) = at(begin), at(end)
    return Span(file="", line=line, column=column, end_line=end_line, end_column=end_column)


def place_of(folder: Path, texts: dict[str, str], word: str) -> tuple[str, int, int, int, int]:
    """Where a word stands: itself, or the tag that writes it."""
    for name, text in texts.items():
        begin = text.find(word)
        if begin < 0:
            continue
        end = begin + len(word)
        if word[0] == "V":
            begin, end = text.rindex("{{", 0, begin), text.index("}}", end) + 2
        span = span_of(text, begin, end)
        file = str(folder / name)
        return file, span.line, span.column, span.end_line, span.end_column
    raise AssertionError(word)


@FAST
@given(texts=templates())
def test_each_word_is_at_its_place(tmp_path: Path, texts: dict[str, str]) -> None:
    written(tmp_path, texts)
    rendered = render(str(tmp_path / "main.j2"))
    # That text knows its places makes no difference to what it is.
    plain = Plain(loader=DictLoader(texts), keep_trailing_newline=True)
    assert rendered.text == plain.get_template("main.j2").render()
    for match in WORD.finditer(rendered.text):
        span = rendered.map.place(span_of(rendered.text, match.start(), match.end()))
        found = (span.file, span.line, span.column, span.end_line, span.end_column)
        assert found == place_of(tmp_path, texts, match[0]), (texts, rendered.text)


@settings(FAST, max_examples=60)
@given(texts=templates(), data=st.data())
def test_every_place_is_in_a_file(
    tmp_path: Path, texts: dict[str, str], data: st.DataObject
) -> None:
    written(tmp_path, texts)
    rendered = render(str(tmp_path / "main.j2"))
    text = rendered.text
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, len(text)))
    span = rendered.map.place(span_of(text, begin, end))
    lines = Path(span.file).read_text().split("\n")
    assert 1 <= span.line <= span.end_line <= len(lines)
    assert 1 <= span.column <= len(lines[span.line - 1]) + 1
    assert 1 <= span.end_column <= len(lines[span.end_line - 1]) + 1
    assert (span.end_line, span.end_column) >= (span.line, span.column)


PIECES = [
    "{{", "}}", "{%", "%}", "{%-", "-%}", "{#", "#}", " for x in values.l ", " endfor ", " if ", " endif ",
    " macro m(x) ", " endmacro ", "m(1)", "values", ".a", "[0]", "| ", "upper", "default(1)", "'", '"', "(", ")",
    " include 'self' ", " set x = ", " block b ", " endblock ", " extends 'main.j2' ", " raw ", " endraw ", " in ",
    "x", "1", " + ", " ~ ", "**", "\n", "a: ", "- ", "{a: ", "}", "\x00", "\u2028", "é", "\ud7ff", ".__class__",
    " import 'main.j2' as y ", " call m() ", " endcall ", " filter indent ", " endfilter ", "loop.index", "self.b()",
    " do ", "range(3)", "caller()", "| tojson", "| list", " is defined ", "'%s' % ", ".format(1)", "namespace()",
]  # fmt: skip


@settings(FAST, max_examples=80)
@given(parts=st.lists(st.sampled_from(PIECES), max_size=20))
def test_never_a_crash(tmp_path: Path, parts: list[str]) -> None:
    file = tmp_path / "main.j2"
    file.write_text("".join(parts))
    try:
        render(str(file), Inputs(sets=("a=1", "l=[1, x]")))
    except NsrunError as error:
        for found in error.diagnostics:
            assert re.fullmatch("NS10[1789]|NS11[02]", found.code), found
            assert found.summary and "\n" not in found.summary
            if found.span is not None:
                assert found.span.line <= file.read_text().count("\n") + 1


def lines_of(tmp_path: Path, text: str, *sets: str) -> list[tuple[int, str]]:
    (tmp_path / "main.j2").write_text(text)
    rendered: Rendered = render(str(tmp_path / "main.j2"), Inputs(sets=sets))
    return [(span.line, line) for span, line in rendered.map.lines()]


def test_lines_of_a_value_are_at_the_tag(tmp_path: Path) -> None:
    found = lines_of(tmp_path, "a\n{{ values.text }}\nb\n", 'text="one\\ntwo\\nthree"')
    assert found == [(1, "a"), (2, "one"), (2, "two"), (2, "three"), (3, "b")]


def test_lines_of_a_loop_are_at_its_body(tmp_path: Path) -> None:
    text = "{% for x in values.l %}\n- {{ x }}\n  y\n{% endfor %}\nend\n"
    found = lines_of(tmp_path, text, "l=[1, 2]")
    assert found == [(2, "- 1"), (3, "  y"), (2, "- 2"), (3, "  y"), (5, "end")]


def test_what_a_filter_makes_anew_is_at_its_tag(tmp_path: Path) -> None:
    text = "a\n{% filter upper %}\nb\nc\n{% endfilter %}\n{{ 'd\ne' | title }}\nf\n"
    found = lines_of(tmp_path, text)
    assert found == [(1, "a"), (2, "B"), (2, "C"), (6, "D"), (6, "E"), (8, "f")]


@pytest.mark.parametrize("text", ["", "{# nothing #}", "{% if false %}a{% endif %}"])
def test_what_renders_to_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "main.j2").write_text(text)
    rendered = render(str(tmp_path / "main.j2"))
    assert rendered.text == "" and list(rendered.map.lines()) == []
    assert str(rendered.map.place(Span(file="", line=1, column=1))) == f"{tmp_path}/main.j2:1:1"
