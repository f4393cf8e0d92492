"""Rendering templates: what they may do, what is printed, and how what is wrong is told."""

# ruff: noqa: E501 -- a case of a table is read on one line

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nsrun.diag import Diagnostic, NsrunError
from nsrun.spec.load import load
from nsrun.spec.provenance import provenance
from nsrun.spec.stack_load import load_stack
from nsrun.spec.template import render
from nsrun.spec.text import recording
from nsrun.spec.values import Inputs, read_values
from tests.support.paths import ROOT, SPECS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, name: str = "web.yaml.j2") -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return name


def text_of(text: str, *sets: str, env: dict[str, str | None] | None = None) -> str:
    return render(write(text), Inputs(sets=sets, env=env or {})).text


def wrong(text: str, *sets: str, env: dict[str, str | None] | None = None) -> Diagnostic:
    with pytest.raises(NsrunError) as caught:
        text_of(text, *sets, env=env)
    (found,) = caught.value.diagnostics
    return found


def told(text: str, *sets: str) -> tuple[str, str]:
    """The code of what is wrong, and its place."""
    found = wrong(text, *sets)
    return found.code, str(found.span)


# --- what is printed -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("{{ values.s }}", "a b"),
        ("{{ values.t }} {{ values.n }}", "true null"),
        ("{{ 1 == 2 }} {{ none }} {{ 1.5 }}", "false null 1.5"),
        ("{{ values.l }}", '[1, "a\\nb", {"k": null}]'),
        ("{{ values.s | tojson }} {{ values.l[1] | tojson }}", '"a b" "a\\nb"'),
        ("{{ '\\u2028<é\U0001f600' | tojson }}", '"\\u2028<é\U0001f600"'),
        ("{{ values.v }} {{ [values.v] }}", "1.10 [1.10]"),
        ("{{ values.m.items }} {{ values.m['items'] }}", "7 7"),
        ("{% for k, v in values.l[2].items() %}{{ k }}={{ v }}{% endfor %}", "k=null"),
        ("{{ values.x.y.z | default('d') }}", "d"),
        ("{{ 'yes' if values.x is defined else 'no' }}", "no"),
        ("{{ range(3) | list }}", "[0, 1, 2]"),
        ("a\n{% if true %}\nb\n  {% endif %}\nc\n", "a\nb\nc\n"),
        ("a: {% if true %}b{% endif %}\nc\n", "a: b\nc\n"),
        ("{% if true %} {# x #}\t\n{% endif %}{% if true %}\n{% endif %}", ""),
        ("  {% if true %}a\n  {% endif %}", "  a\n"),
        ("a\n {%+ if true %}\nb{% endif +%}\n", "a\n \nb\n"),
        ("a\n{% if true +%}\nb{% endif %}", "a\n\nb"),
        ("a\n {%- if true %}\nb{% endif -%}\n\n c", "a\nbc"),
        ("a\n{# one\n two #}\nb", "a\nb"),
        ("a\n{% raw %}\n{{ x }}\n{% endraw %}\nb", "a\n{{ x }}\nb"),
        ("{% set x = 1\n %}\n{{ x }}\n", "1\n"),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ 'e' if m(1) == '<1>' }}{{ m(2) | length }}", "e3"),
        ("{% set ns = namespace(n=0) %}{% for i in range(4) %}{% set ns.n = ns.n + i %}"
         "{% endfor %}{{ ns.n }}", "6"),
    ],
)  # fmt: skip
def test_what_is_printed(text: str, printed: str) -> None:
    sets = ("s=a b", "t=true", "n=~", 'l=[1, "a\\nb", {k: ~}]', "v=1.10", "m.items=7")
    assert text_of(text, *sets) == printed


def test_only_permitted_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    assert text_of("{{ env.GREETING }}", env={"GREETING": "hi"}) == "hi"
    found = wrong("{{ env.SECRET }}", env={"GREETING": "hi"})
    assert (found.code, found.summary) == ("NS108", "`env.SECRET` is not defined")
    assert "--env SECRET" in found.help[0]
    assert wrong("{{ env.GONE }}", env={"GONE": None}).code == "NS108"


def test_the_same_every_time() -> None:
    for text in ("{{ [1, 2] | random }}", "{{ lipsum() }}"):
        assert wrong(text).code in ("NS107", "NS108")


# --- files -----------------------------------------------------------------------------------


def test_files_are_found_beside_the_file_that_names_them() -> None:
    write("{% from 'deep/b.j2' import m %}a{% include 'deep/b.j2' %}{{ m() }}", "parts/a.j2")
    write("{% include 'c.j2' %}{% macro m() %}{% include '../d.j2' %}{% endmacro %}", "parts/deep/b.j2")
    write("c", "parts/deep/c.j2")
    write("d", "parts/d.j2")
    assert text_of("{% include 'parts/a.j2' %}") == "acd"


def test_a_layout_is_extended() -> None:
    write("name: {% block name %}x{% endblock %}\ncommand: [sh]\n", "layout.j2")
    text = "{% extends 'layout.j2' %}{% block name %}{{ super() }}y{% endblock %}"
    assert text_of(text) == "name: xy\ncommand: [sh]\n"


@pytest.mark.parametrize(
    "name", ["../out.j2", "/etc/passwd", "parts/../../out.j2", "link.j2", "away/out.j2"]
)
def test_nothing_outside_of_the_folder(folder: Path, name: str) -> None:
    (folder / "in").mkdir()
    os.chdir(folder / "in")
    Path("../out.j2").write_text("secret")
    os.symlink("../out.j2", "link.j2")
    os.symlink("..", "away")
    found = wrong(f"\n{{% include '{name}' %}}")
    assert (found.code, str(found.span)) == ("NS112", "web.yaml.j2:2:1")
    assert "outside of the folder" in found.summary


def test_a_symlink_inside_of_the_folder() -> None:
    write("fine", "a.j2")
    os.symlink("a.j2", "b.j2")
    assert text_of("{% include 'b.j2' %}") == "fine"


def test_every_file_is_recorded_and_what_is_missing_too(folder: Path) -> None:
    write("b", "b.j2")
    write("x: 1\n", "v.yaml")
    text = "{% include 'b.j2' %}{% include 'c.j2' ignore missing %}{% include ['d.j2', 'b.j2'] %}"
    with recording() as read:
        render(write(text), Inputs(files=("v.yaml",)))
    found = {os.path.relpath(path, folder): status is not None for path, status in read}
    assert found == {"v.yaml": True, "web.yaml.j2": True, "b.j2": True, "c.j2": False, "d.j2": False}


def test_files_that_cannot_be_read() -> None:
    Path("folder").mkdir()
    Path("latin.j2").write_bytes(b"\xff")
    os.mkfifo("pipe.j2")
    for name, part in (("folder", "folder"), ("latin.j2", "UTF-8"), ("pipe.j2", "regular")):
        found = wrong(f"{{% include '{name}' %}}")
        assert found.code == "NS112" and part in found.summary
    with pytest.raises(NsrunError) as caught:
        render("gone.yaml.j2")
    assert caught.value.diagnostics[0].code == "NS001"


# --- what is wrong, and where ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("a\n{{ values.x", "NS107", "2:1"),
        ("a\n{% for x in values.l %}\n{% for y in x %}{% endfor %}", "NS107", "2:1"),
        ("a\n{{ 1 | uper }}", "NS107", "2:8"),
        ("a\n{{ 1 is evn }}", "NS107", "2:9"),
        ("a\n  {% nonsense %}", "NS107", "2:6"),
        ("a\n{{ 1 + }}", "NS107", "2:8"),
        ("a\nb: {{ nothing }}", "NS108", "2:7"),
        ("a\nb: {{ values.w.gone }}", "NS108", "2:16"),
        ("a\nb: {{ values['gone'] }}", "NS108", "2:15"),
        ("a\nb: {{ values.l[5] }}", "NS108", "2:16"),
        ("a\n{% if values.gone %}{% endif %}", "NS108", "2:14"),
        ("a\n{% for x in values.gone %}{% endfor %}", "NS108", "2:20"),
        ("a\n{% macro m(x) %}\n{{ x }}{% endmacro %}{{ m() }}", "NS108", "3:4"),
        ("a\n{{ 1 / 0 }}", "NS109", "2:1"),
        ("a\n{{ values.w.__class__ }}", "NS109", "2:1"),
        ("a\n{{ ''.__class__.__mro__ }}", "NS109", "2:1"),
        ("a\n{{ values.l.append(1) }}", "NS109", "2:1"),
        ("a\n{{ '{0.__class__}'.format(1) }}", "NS109", "2:1"),
        ("a\n{{ values.l | map('upper') }}", "NS109", "2:1"),
        ("a\n{{ cycler.__init__.__globals__ }}", "NS109", "2:1"),
        ("a\n{{ ''|attr('__class__') }}", "NS109", "2:1"),
        ("a\n{{ [1] | map(attribute='__class__') | list }}", "NS109", "2:1"),
        ("a\n{{ ('{0.__class__}'|attr('format'))(1) }}", "NS109", "2:1"),
        ("a\n{% macro m() %}x{% endmacro %}{{ m()._marks }}", "NS109", "2:1"),
        ("a\n{{ values.s._path }}", "NS109", "2:1"),
        ("a\n{{ self._TemplateReference__context }}", "NS109", "2:1"),
        ("a\n{{ range.__globals__ }}", "NS109", "2:1"),
        ("a\n{{ values.w.update }}", "NS109", "2:1"),
        ("a\n{{ range(100001) }}", "NS110", "2:1"),
        ("a\n{{ 'a' * 10**9 }}", "NS110", "2:1"),
        ("a\n{% for i in range(10**5) %}{{ 'b' * 100 }}{% endfor %}", "NS110", "2:1"),
        ("a\n{% macro m() %}{{ m() }}{% endmacro %}\n{{ m() }}", "NS110", "2:1"),
        ("a\n{% include 'web.yaml.j2' %}", "NS110", "2:1"),
        ("a\n{% include 'gone.j2' %}", "NS112", "2:1"),
        ("a\n{% include ['gone.j2', 'too.j2'] %}", "NS112", "2:1"),
        ("\ta\x07", "NS101", "1:3"),
    ],
)
def test_where_it_is_wrong(text: str, code: str, place: str) -> None:
    assert told(text, "l=[1, 2]", "w.here=1", "s=x") == (code, f"web.yaml.j2:{place}")


@pytest.mark.parametrize(
    "text",
    [
        "a\n{% for i in range(10**5) %}{% for j in range(10**5) %}{% endfor %}{% endfor %}",
        "a\n{{ (10 ** 9) ** (10 ** values.n) }}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(90) }}",
        "{{ ('a' * 9999999) | replace('a', 'aaaa') | list | length }}",
    ],
)  # fmt: skip
def test_what_takes_too_long_ends(text: str) -> None:
    assert wrong(text, "n=9").code == "NS110"


@pytest.mark.parametrize(
    ("text", "help_"),
    [
        ("{{ values.web.replcas }}", "did you mean `values.web.replicas`?"),
        ("{{ values.replicas }}", "did you mean `values.web.replicas`?"),
        ("{{ web }}", "did you mean `values.web`?"),
        ("{{ valeus.web }}", "did you mean `values`?"),
        ("{{ values.web.ports[1] }}", "the last item is [0]"),
        ("{{ values.qqqq }}", "give it: `--set qqqq=...`, or in a file with `--values`"),
        ("{{ 1 | uper }}", "did you mean `upper`?"),
        ("{{ 1 is evn }}", "did you mean `even`?"),
    ],
)
def test_what_may_be_meant(text: str, help_: str) -> None:
    assert wrong(text, "web={replicas: 2, ports: [80]}").help == (help_,)


def test_the_way_to_an_error_in_another_file() -> None:
    write("\n\n{{ values.gone }}", "b.j2")
    write("\n{% include 'b.j2' %}", "a.j2")
    found = wrong("{% include 'a.j2' %}")
    assert str(found.span) == "b.j2:3:11"
    assert found.notes == ("used at a.j2:2", "used at web.yaml.j2:1")


# --- through the stages that follow ----------------------------------------------------------


def found_by_load(text: str, *sets: str) -> list[tuple[str, str]]:
    with pytest.raises(NsrunError) as caught:
        load(write(text), None, Inputs(sets=sets))
    return [(d.code, str(d.span)) for d in caught.value.diagnostics]


LOOP = """\
{% macro mount(target) %}
  - {type: tmpfs,
     target: {{ target }}}
{% endmacro %}
namespaces: [mount]
mounts:
{% for target in values.targets %}
{{ mount(target) -}}
{% endfor %}
command: [sh]
"""


@pytest.mark.parametrize(
    ("text", "sets", "found"),
    [
        ("command: [sh]\n{% if true %}\n  : {{ 1 }}: x: y\n{% endif %}", (), [("NS101", "3:3")]),
        ("a: 1\n{% for x in [1, 2] %}\nk: {{ x }}\n{% endfor %}", (), [("NS102", "3:1")]),
        ("{# nothing #}\n\n", (), [("NS105", "2:1")]),
        ("command: [sh]\n{% for k in ['comand'] %}\n{{ k }}: x\n{% endfor %}", (), [("NS201", "3:1")]),
        ("command: [sh]\nhostname: {{ values.h }}\nnamespaces: [uts]", ("h=3",), [("NS202", "2:11")]),
        (LOOP, ("targets=[/tmp, mnt]",), [("NS304", "3:14")]),
        (LOOP, ("targets=[/tmp, [a]]",), [("NS202", "3:14")]),
        ("command: [sh]\n\nhostname: a", (), [("NS301", "3:11")]),
    ],
)  # fmt: skip
def test_later_stages_tell_the_templates_place(
    text: str, sets: tuple[str, ...], found: list[tuple[str, str]]
) -> None:
    expected = [(code, f"web.yaml.j2:{place}") for code, place in found]
    assert found_by_load(text, *sets) == expected


def test_an_error_says_who_gave_the_value() -> None:
    write("port: many\n", "prod.yaml")
    write("rlimits: {nofile: {{ values.port }}, core: {{ values.core }}}\ncommand: [sh]\n")
    with pytest.raises(NsrunError) as caught:
        load("web.yaml.j2", None, Inputs(files=("prod.yaml",), sets=("core=0",)))
    (found,) = caught.value.diagnostics
    assert str(found.span) == "web.yaml.j2:1:19"
    assert found.notes == ("`values.port` is given by prod.yaml:1:7",)


def test_a_plain_spec_is_rendered_where_values_are_given() -> None:
    file = write("command: [echo, '{{ values.x }}']\n", "web.yaml")
    assert load(file)[0].command == ("echo", "{{ values.x }}")
    assert load(file, None, Inputs(sets=("x=1",)))[0].command == ("echo", "1")


def test_relative_paths_begin_at_the_main_file(folder: Path) -> None:
    Path("data").mkdir()
    write("mounts: ['./data:/mnt']\n", "parts/mounts.j2")
    spec, _ = load(write("namespaces: [mount]\n{% include 'parts/mounts.j2' %}command: [sh]\n"))
    assert spec.mounts[0].source == f"{folder}/data"


STACK = """\
name: shop
containers:
{% for name in values.names %}
  {{ name }}:
    extends: parts/base.yaml.j2
{% endfor %}
"""


def test_a_stack_from_templates() -> None:
    write("namespaces: [mount]\ncommand: [echo, {{ values.word }}]\n", "parts/base.yaml.j2")
    inputs = Inputs(sets=("names=[a, b]", "word=hello"))
    stack, _ = load_stack(write(STACK), inputs=inputs)
    assert [m.spec.name for m in stack.members] == ["shop-a", "shop-b"]
    assert {m.spec.command for m in stack.members} == {("echo", "hello")}
    found = provenance("web.yaml.j2", "containers.b.command[1]", inputs)
    assert str(found.span).endswith("parts/base.yaml.j2:2:17")
    assert found.given == (("word", "--set word=hello"),)


# --- what is written about them --------------------------------------------------------------


@pytest.mark.parametrize("values", ["tiers-dev", "tiers-prod"])
def test_the_stack_of_the_examples(values: str) -> None:
    inputs = Inputs(files=(str(SPECS / f"values/{values}.yaml"),))
    stack, warnings = load_stack(str(SPECS / "stacks/tiers.yaml.j2"), inputs=inputs)
    assert warnings == ()
    published = [m.spec.name for m in stack.members if m.spec.network and m.spec.network.ports]
    expected = {"tiers-dev": (3, []), "tiers-prod": (5, ["tiers-proxy"])}
    assert (len(stack.members), published) == expected[values]


@pytest.mark.parametrize("files", [(), ("prod",)])
def test_the_container_of_the_examples(files: tuple[str, ...]) -> None:
    inputs = Inputs(files=tuple(str(SPECS / f"values/{name}.yaml") for name in files))
    spec, warnings = load(str(SPECS / "template.yaml.j2"), None, inputs)
    assert warnings == () and spec.name == (files[0] if files else "template")


def test_the_error_of_the_page() -> None:
    page = (ROOT / "docs/templates.md").read_text()
    shown = page.partition("```text\n")[2].partition("```")[0]
    write("command: [sh]\nrlimits:\n  nofile: {{ values.limit }}\n")
    write("limit: many\n", "prod.yaml")
    assert nsrun("validate", "web.yaml.j2", "--values", "prod.yaml").stderr == shown


@pytest.mark.parametrize(
    "row", re.findall(r"^\| `([^`|]+=[^`|]*)`", (ROOT / "docs/templates.md").read_text(), re.M)
)
def test_the_values_of_the_page(row: str) -> None:
    words = [word.strip("'") for word in row.replace("`", "").split("`, `")]
    assert read_values(Inputs(sets=tuple(words))).data


# --- the commands ----------------------------------------------------------------------------


def nsrun(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nsrun", *words], input=stdin, capture_output=True, text=True
    )


TEXT = "hostname: {{ values.h }}\nnamespaces:\n{% for n in values.n %}\n  - {{ n }}\n{% endfor %}\ncommand: [sh]"
SETS = ("--values", "v.yaml", "--set", "n[1]=mount")


@pytest.fixture
def files() -> None:
    write(TEXT)
    write("h: web\nn: [uts]\n", "v.yaml")


@pytest.mark.usefixtures("files")
def test_render() -> None:
    plain = nsrun("render", "web.yaml.j2", *SETS)
    text = "hostname: web\nnamespaces:\n  - uts\n  - mount\ncommand: [sh]\n"
    assert (plain.returncode, plain.stdout, plain.stderr) == (0, text, "")
    lines = nsrun("render", "--lines", "web.yaml.j2", *SETS).stdout.splitlines()
    assert lines == [
        "web.yaml.j2:1 | hostname: web",
        "web.yaml.j2:2 | namespaces:",
        "web.yaml.j2:4 |   - uts",
        "web.yaml.j2:4 |   - mount",
        "web.yaml.j2:6 | command: [sh]",
    ]
    piped = nsrun("render", "-", *SETS, stdin=TEXT)
    assert piped.stdout == text


@pytest.mark.usefixtures("files")
def test_explain_a_value() -> None:
    done = nsrun("explain", "web.yaml.j2", "--value", "namespaces[1]", *SETS)
    assert done.stdout == (
        'namespaces[1]: "mount"\n'
        " --> web.yaml.j2:4:5\n"
        "  |\n"
        "4 |   - {{ n }}\n"
        "  |     ^^^^^^^\n"
        "values.n[1] is given by --set n[1]=mount\n"
    )
    whole = nsrun("explain", "web.yaml.j2", "--value", "namespaces", *SETS).stdout
    assert "values.n[0] is given by v.yaml:2:5" in whole
    assert "values.n[1] is given by --set n[1]=mount" in whole
    gone = nsrun("explain", "web.yaml.j2", "--value", "hostnam", *SETS)
    assert gone.returncode == 2
    assert "has no value `hostnam`" in gone.stderr and "`hostname`" in gone.stderr


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("words", [("plan",), ("validate",), ("graph",), ("doctor",), ("diff", "web.yaml.j2")])
def test_every_command_takes_values(words: tuple[str, ...]) -> None:
    done = nsrun(*words, "web.yaml.j2", *SETS)
    assert "NS0" not in done.stderr and "NS1" not in done.stderr
    without = nsrun(*words, "web.yaml.j2")
    assert without.returncode != 0
    assert "`values.h` is not defined" in without.stderr
    assert "web.yaml.j2:1:21" in without.stderr


def _inherited() -> None:
    """What a caller may leave to its children: ignored and blocked signals."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF, signal.SIGVTALRM, signal.SIGXCPU})


def test_the_callers_signals_change_nothing() -> None:
    loops = "{% for i in range(10**5) %}" * 3 + "{% endfor %}" * 3
    for text, status in (("a{{ 1 }}", 0), (loops, 1), ("{{ (10 ** 9) ** (10 ** 9) }}", 1)):
        done = subprocess.run(
            [sys.executable, "-m", "nsrun", "render", write(text)],
            capture_output=True, text=True, preexec_fn=_inherited,
        )  # fmt: skip
        assert (done.returncode, "NS110" in done.stderr) == (status, status == 1), done


def test_env_takes_a_name_alone() -> None:
    done = nsrun("render", write("a"), "--env", "A=b")
    assert done.returncode == 2
    assert "NS002" in done.stderr and "--set NAME=VALUE" in done.stderr
