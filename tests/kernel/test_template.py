"""Runs from templates: what they print, where a failed step points, and what keeps a plan warm."""

# ruff: noqa: E501 -- a line of a template is one of a spec

from __future__ import annotations

from pathlib import Path

from tests.support.box import Box, give
from tests.support.requires import requires

pytestmark = requires("busybox")

TEMPLATE = """\
{% from "parts.j2" import tmpfs %}
namespaces: [user, mount, uts]
hostname: {{ values.name }}
{% include "extra.j2" ignore missing %}
mounts:
{% for folder in values.folders %}
  {{ tmpfs(folder) }}
{% endfor %}
command: [sh, -c, "hostname; echo {{ env.WORD | default("nothing") }}; grep -c tmpfs /proc/self/mounts"]
"""
PARTS = """\
{% macro tmpfs(target) %}
- {type: tmpfs, target: {{ target }},
   options: [size={{ values.size | default("1m") }}]}
{%- endmacro %}
"""


def write(box: Box, **files: str) -> Path:
    """The template and what it reads, of the box's user."""
    texts = {
        "web.yaml.j2": TEMPLATE,
        "parts.j2": PARTS,
        "values.yaml": "name: one\nfolders: [/tmp, /mnt]\n",
        **files,
    }
    for name, text in texts.items():
        (box.folder / name).write_text(text)
    give(box.folder, box.runner)
    return box.folder / "web.yaml.j2"


def test_a_run(box: Box) -> None:
    file = write(box)
    words = (file, "--values", box.folder / "values.yaml")
    first = box.runner.run(*words, "--set", "name=two").ok().splitlines()
    assert first[:2] == ["two", "nothing"]
    less = box.runner.run(*words, "--set", "folders=[/tmp]").ok().splitlines()
    assert less[0] == "one"
    assert int(first[2]) - int(less[2]) == 1, "a mount for each of the values"


def test_only_the_permitted_variable(box: Box) -> None:
    file = write(box)
    run = box.as_(env={"WORD": "word", "OTHER": "other"}).runner.run
    words = (file, "--values", box.folder / "values.yaml")
    assert run(*words).ok().splitlines()[1] == "nothing"
    assert run(*words, "--env", "WORD").ok().splitlines()[1] == "word"


def test_a_failed_step_points_at_the_template(box: Box) -> None:
    file = write(box)
    done = box.runner.run(file, "--values", box.folder / "values.yaml", "--set", "size=lots")
    assert done.status == 125
    assert "error[NS501]: cannot mount tmpfs on /tmp" in done.stderr
    assert f"{box.folder}/parts.j2:2:3" in done.stderr
    assert "2 | - {type: tmpfs, target: {{ target }}," in done.stderr
    assert "asked for here" in done.stderr


def test_an_error_of_the_template_itself(box: Box) -> None:
    done = box.runner.run(write(box), "--set", "name=one")
    assert done.status == 125 and done.stdout == ""
    assert "error[NS108]: `values.folders` is not defined" in done.stderr
    assert f"{box.folder}/web.yaml.j2:6:25" in done.stderr


def test_a_template_without_an_end(box: Box) -> None:
    loops = "{% for i in range(10**5) %}" * 3 + "{% endfor %}" * 3
    done = box.runner.run(write(box, **{"web.yaml.j2": f"command: [sh]\n{loops}\n"}))
    assert done.status == 125 and "Traceback" not in done.stderr
    assert "error[NS110]" in done.stderr and "web.yaml.j2:2:1" in done.stderr


def test_what_is_rendered_is_the_same_spec(box: Box) -> None:
    file = write(box)
    words = ("--values", box.folder / "values.yaml")
    text = box.runner.run("render", file, *words).ok()
    plain = box.folder / "plain.yaml"
    plain.write_text(text)
    give(box.folder, box.runner)
    assert box.runner.run(plain).ok() == box.runner.run(file, *words).ok()
