"""Stacks and detached containers from templates: up, changed by a value, started again, down."""

from __future__ import annotations

from tests.support.box import Box, copy_specs, give
from tests.support.lab import say
from tests.support.requires import requires
from tests.support.runner import Runner
from tests.support.stacks import (
    Stacks,
    executor,  # noqa: F401 -- a fixture
)

pytestmark = requires("root", "ip", "ping", "busybox")

STACK = """\
name: rig
networks: {n: {subnet: 10.77.0.0/24}}
containers:
{% for name in values.names %}
  {{ name }}:
    namespaces: [mount, pid, uts, network]
    mounts: [{type: proc, target: /proc}]
    networks: [n]
    stop_timeout: 1s
    env: {WORD: {{ values.word | default("none") }}}
    command: [sleep, 60]
{% endfor %}
"""


def test_only_what_a_value_changes_is_made_anew(stacks: Stacks) -> None:
    file = stacks.folder / "rig.yaml.j2"
    file.write_text(STACK)
    run = stacks.runner.run
    run("up", "-d", file, "--set", "names=[a, b]").ok()
    assert {name: one["status"] for name, one in stacks.ps().items()} == dict.fromkeys(
        ("rig-a", "rig-b"), "running"
    )
    before = {name: one["id"] for name, one in stacks.ps().items()}
    wanted = run("up", "--dry-run", file, "--set", "names=[a, b, c]").ok()
    assert "make rig-c" in wanted.splitlines()
    run("up", "-d", file, "--set", "names=[a, b, c]").ok()
    after = {name: one["id"] for name, one in stacks.ps().items()}
    assert before.items() <= after.items() and after.keys() == {"rig-a", "rig-b", "rig-c"}
    assert (
        "rig-a" in run("up", "--dry-run", file, "--set", "names=[a, b, c]", "--set", "word=x").ok()
    )
    run("down", file, "--set", "names=[a, b, c]").ok()
    assert stacks.ps() == {}


def test_what_is_wrong_leaves_nothing(stacks: Stacks) -> None:
    file = stacks.folder / "rig.yaml.j2"
    file.write_text(STACK)
    done = stacks.runner.run("up", "-d", file)
    assert done.status == 1 and "error[NS108]" in done.stderr
    wrong = stacks.runner.run("up", "-d", file, "--set", "names=[a]", "--set", "word=[x]")
    assert wrong.status == 1 and f"{file}:10:17" in wrong.stderr
    assert "`values.word` is given by --set word=[x]" in wrong.stderr
    assert stacks.ps() == {}


def test_the_three_tiers_of_the_examples(stacks: Stacks, root: Runner) -> None:
    folder = copy_specs(stacks.folder, root)
    file, values = folder / "stacks/tiers.yaml.j2", folder / "values/tiers-prod.yaml"
    words = ("--values", values, "--set", "web.replicas=2", "--set", "stock=nine pears")
    stacks.runner.run("up", "-d", file, *words).ok()
    assert sorted(stacks.ps()) == ["tiers-db", "tiers-proxy", "tiers-web-1", "tiers-web-2"]
    assert "nine pears" in say("busybox", "wget", "-qO-", "http://10.93.0.1:8081/")
    stacks.runner.run("down", "--volumes", file, *words).ok()
    assert stacks.ps() == {}


def test_start_tells_a_change_of_the_template_or_its_values(box: Box) -> None:
    file, values = box.folder / "web.yaml.j2", box.folder / "values.yaml"
    file.write_text("namespaces: [user]\nhooks: {}\ncommand: [echo, {{ values.word }}]\n")
    values.write_text("word: one\n")
    give(box.folder, box.runner)
    words = ("--values", values.name, "--set", "other=1")
    run = box.runner.with_(cwd=box.folder).run
    run("run", "-d", file.name, *words).ok()
    try:
        run("wait", "web").ok()
        same = box.runner.run("start", "web")
        assert (same.status, same.stderr) == (0, "")
        run("wait", "web").ok()
        values.write_text("word: two\n")
        other = box.runner.run("start", "web")
        assert other.status == 0 and "NS608" in other.stderr
        run("wait", "web").ok()
    finally:
        run("rm", "--force", "web")
