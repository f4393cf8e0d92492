"""Stacks that include others: what is added, where paths begin, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun.diag import Diagnostic, NsrunError
from nsrun.spec.provenance import provenance
from nsrun.spec.stack import Stack
from nsrun.spec.stack_load import load_stack
from nsrun.spec.values import NOTHING, Inputs

DB = """\
name: other
networks: {back: {subnet: 10.20.0.0/24}}
volumes: {data: {path: ./data}}
secrets: {pw: {file: ./pw}}
configs: {motd: {file: ./pw}}
containers:
  db:
    extends: ./base.yaml
    networks: [back]
    volumes: ["data:/data", "./own:/own"]
    secrets: [pw]
    configs: [motd]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sub = tmp_path / "sub"
    for name in ("data", "own"):
        (sub / name).mkdir(parents=True)
    (sub / "base.yaml").write_text("namespaces: [mount, network]\ncommand: [x]\n")
    (sub / "pw").write_text("hidden")
    (sub / "db.yaml").write_text(DB)
    return tmp_path


def loaded(folder: Path, text: str, inputs: Inputs = NOTHING) -> Stack:
    (folder / "shop.yaml").write_text(text)
    return load_stack(str(folder / "shop.yaml"), inputs=inputs)[0]


def errors(folder: Path, text: str) -> list[Diagnostic]:
    with pytest.raises(NsrunError) as caught:
        loaded(folder, text)
    return list(caught.value.diagnostics)


def place(found: Diagnostic) -> tuple[str, int]:
    assert found.span is not None
    return Path(found.span.file).name, found.span.line


def test_all_parts_are_added_and_paths_begin_in_their_folder(folder: Path) -> None:
    text = "include: [./sub/db.yaml]\ncontainers: {web: {command: x, depends_on: [db]}}\n"
    stack = loaded(folder, text)
    sub = folder / "sub"
    assert stack.name == "shop"
    assert [m.spec.name for m in stack.members] == ["shop-db", "shop-web"]
    assert [m.source for m in stack.members[0].spec.mounts][:2] == [
        str(sub / "data"), str(sub / "own"),
    ]  # fmt: skip
    assert [s.file for s in stack.secrets] == [str(sub / "pw")]
    assert [f.content for f in stack.members[0].spec.files] == [b"hidden"]
    assert [str(g) for n in stack.networks for g in n.gateways] == ["10.20.0.1/24"]


def test_a_file_that_only_includes_is_a_stack(folder: Path) -> None:
    (folder / "sub/more.yaml").write_text("include: [./db.yaml]\n")
    # By two ways, and once all the same.
    stack = loaded(folder, "include: [./sub/more.yaml, ./sub/db.yaml]\n")
    assert [m.spec.name for m in stack.members] == ["shop-db"]


def test_two_of_a_name_are_refused_with_both_lines(folder: Path) -> None:
    text = "include: [./sub/db.yaml]\nnetworks:\n  back: {}\ncontainers:\n  db: {command: x}\n"
    found = errors(folder, text)
    main = folder / "shop.yaml"
    said = {(*place(d), d.summary, d.notes) for d in found}
    assert ("db.yaml", 7, "a second container `db`", (f"the first one is at {main}:5:3",)) in said
    assert ("db.yaml", 2, "a second network `back`", (f"the first one is at {main}:3:3",)) in said


def test_a_circle_is_refused_at_its_line(folder: Path) -> None:
    (folder / "a.yaml").write_text("containers: {a: {command: x}}\ninclude:\n- ./shop.yaml\n")
    (found,) = errors(folder, "include: [./a.yaml]\ncontainers: {b: {command: x}}\n")
    assert place(found) == ("a.yaml", 3)
    assert found.summary == "`./shop.yaml` includes itself: shop.yaml -> a.yaml -> shop.yaml"


@pytest.mark.parametrize(
    ("text", "name", "line", "code"),
    [
        ("containers: {a: {command: x}}\ninclude: [./none.yaml]\n", "shop.yaml", 2, "NS001"),
        ("containers: {a: {command: x}}\ninclude: ./sub/db.yaml\n", "shop.yaml", 2, "NS202"),
        ("include: [{values: x}]\n", "shop.yaml", 1, "NS204"),
        ("include: [./shop.yaml]\n", "shop.yaml", 1, "NS318"),
        ("include: [./bad.yaml]\n", "bad.yaml", 2, "NS201"),
        ("include: [./worse.yaml]\n", "worse.yaml", 2, "NS318"),
        ("include: [./list.yaml]\n", "shop.yaml", 1, "NS318"),
    ],
)
def test_what_cannot_be_included(folder: Path, text: str, name: str, line: int, code: str) -> None:
    (folder / "bad.yaml").write_text("containers: {a: {command: x}}\ncontainer: {}\n")
    (folder / "worse.yaml").write_text("containers: {a: {command: x}}\ninclude: [{values: x}]\n")
    (folder / "list.yaml").write_text("- a\n")
    found = errors(folder, text)
    assert (name, line, code) in [(*place(d), d.code) for d in found]
    # That there are no containers then is no second error.
    assert not any("`containers` is missing" in d.summary for d in found)


def test_a_template_is_included_with_values_of_its_own(folder: Path) -> None:
    (folder / "sub/web.yaml.j2").write_text(
        "containers:\n  web:\n    command: x\n    env: {W: {{ values.word }}, O: {{ values.o }}}\n"
    )
    (folder / "sub/web-values.yaml").write_text("word: own\no: own\n")
    text = "include: [{path: ./sub/web.yaml.j2, values: ./sub/web-values.yaml}]\n"
    main = folder / "shop.yaml"
    inputs = Inputs(sets=("o=given",))
    stack = loaded(folder, text, inputs)
    assert dict(stack.members[0].spec.env) == {"W": "own", "O": "given"}
    found = provenance(str(main), "containers.web.env.W", inputs)
    assert found.span is not None and (Path(found.span.file).name, found.span.line) == (
        "web.yaml.j2",
        4,
    )
    assert [name for name, where in found.given if "web-values.yaml:1" in where] == ["word"]


@pytest.fixture
def twice(folder: Path) -> str:
    """One template, included with two files of values, whose containers extend a template."""
    (folder / "sub/web.yaml.j2").write_text(
        "containers:\n  web-{{ values.word }}:\n    extends: ./base.yaml.j2\n"
    )
    (folder / "sub/base.yaml.j2").write_text(
        "namespaces: [uts]\nenv:\n  W: {{ values.word }}\n  T: {{ values.t }}\n"
        "command: x\nhostname: {{ values.h }}\n"
    )
    for name in "ab":
        (folder / f"{name}.yaml").write_text(f"word: {name}\n\nt: own\nh: {name}\n")
    return """\
include:
- {path: ./sub/web.yaml.j2, values: ./a.yaml}
- {path: ./sub/web.yaml.j2, values: ./b.yaml}
"""


def test_what_an_included_container_extends_has_the_values_of_its_include(
    folder: Path, twice: str
) -> None:
    stack = loaded(folder, twice, Inputs(sets=("t=given",)))
    assert [dict(m.spec.env) for m in stack.members] == [
        {"W": "a", "T": "given"},
        {"W": "b", "T": "given"},
    ]
    found = provenance(str(folder / "shop.yaml"), "containers.web-b.env.W")
    assert found.span is not None
    assert (Path(found.span.file).name, found.span.line) == ("base.yaml.j2", 3)
    assert found.given == (("word", f"{folder}/b.yaml:1:7"),)


def test_what_is_wrong_there_is_told_at_its_line_with_its_values(folder: Path, twice: str) -> None:
    (folder / "a.yaml").write_text("word: a\nt: own\nh: [x]\n")
    found = errors(folder, twice)
    assert [(*place(d), d.notes) for d in found] == [
        ("base.yaml.j2", 6, (f"`values.h` is given by {folder}/a.yaml:3:4",))
    ]
    (folder / "b.yaml").write_text("word: b\nt: own\n")
    undefined = errors(folder, twice)[1]
    assert place(undefined) == ("base.yaml.j2", 6) and "values.h" in undefined.summary
