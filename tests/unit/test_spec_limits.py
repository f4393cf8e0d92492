"""A file made to hurt ends in diagnostics, and no work is done that grows with its square."""

from __future__ import annotations

import os
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator, validators
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from nsrun.cli import carry_out
from nsrun.diag import MAX_SHOWN, MORE, Collector, Diagnostic, NsrunError, Severity
from nsrun.plan.build import plan
from nsrun.plan.draft import MAX_STEPS
from nsrun.plan.wanted import wanted
from nsrun.spec import schema, schema_fits, source, stack_extends, template
from nsrun.spec.compose import MAX_NODES
from nsrun.spec.document import parse_document
from nsrun.spec.envfile import read_env_file
from nsrun.spec.ipam import Pool, subnet_of
from nsrun.spec.load import load_document
from nsrun.spec.model import Spec
from nsrun.spec.stack_load import load_stack
from nsrun.spec.values import Inputs, read_values
from tests.support.planning import ORDINARY
from tests.unit.test_spec_fuzz import FAST, NEAR

HEAD = "command: [sh]\n"


def errors(work: Callable[[], object]) -> tuple[Diagnostic, ...]:
    with pytest.raises(NsrunError) as caught:
        work()
    return caught.value.diagnostics


def read(text: str) -> Spec:
    return load_document(parse_document(text, "spec.yaml"))[0]


# --- as many messages as are read --------------------------------------------------------------


def test_of_many_errors_the_first_are_told() -> None:
    report = Collector()
    error = Diagnostic(code="NS203", summary="wrong")
    found = errors(lambda: report.extend([error] * (MAX_SHOWN + 1)))
    assert len(found) == MAX_SHOWN
    assert [MORE in d.notes for d in found] == [False] * (MAX_SHOWN - 1) + [True]


def test_many_warnings_hide_no_error() -> None:
    report = Collector()
    report.extend(
        [Diagnostic(code="NS310", summary="hm", severity=Severity.WARNING)] * (2 * MAX_SHOWN)
    )
    assert len(report.diagnostics) == MAX_SHOWN
    report.add(Diagnostic(code="NS203", summary="wrong"))
    assert report.failed


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "mounts:\n" + "- {taget: a}\n" * 3000,
        HEAD + "mounts: [" + "{}," * 9000 + "]",
        HEAD + "env:\n" + "".join(f"  A{i}: []\n" for i in range(3000)),
        HEAD + "files:\n" + "".join(f"  f{i}: {{contnt: a}}\n" for i in range(3000)),
        HEAD + "capabilities: [" + "".join(f"CAP_X{i}," for i in range(9000)) + "]",
        HEAD + "".join(f"k{i}: 1\n" for i in range(9000)),
        HEAD + "a: 1\n" * 9000,
    ],
    ids=["mounts", "empty", "env", "files", "capabilities", "keys", "twice"],
)
def test_an_error_in_each_entry(text: str) -> None:
    found = errors(lambda: read(text))
    assert 0 < len(found) <= MAX_SHOWN
    assert MORE in found[-1].notes


# --- as many values, steps, containers as are planned soon -------------------------------------


def test_too_many_values() -> None:
    below = parse_document("x-a: [" + "a," * (MAX_NODES - 3) + "]", "spec.yaml")
    assert isinstance(below.data, dict)
    (found,) = errors(lambda: parse_document("[" + "a," * 500_000 + "]", "spec.yaml"))
    assert (found.code, found.span and found.span.column) == ("NS104", 2 * MAX_NODES + 2)


def test_too_many_steps() -> None:
    entries = "".join(f"- {{type: tmpfs, target: /m{i}}}\n" for i in range(3000))
    spec = read(f"{HEAD}namespaces: [user, mount]\nmounts:\n{entries}")
    (found,) = errors(lambda: plan(spec, ORDINARY))
    assert (found.code, str(MAX_STEPS) in found.summary) == ("NS104", True)
    assert found.span is not None and found.path.startswith("mounts[")


def test_facts_are_not_wanted_of_what_is_hidden() -> None:
    devices = "devices: [" + "/dev/null," * 1000 + "]"
    spec = read(f"{HEAD}namespaces: [user, mount]\nrootfs: /\n{devices}")
    assert wanted(spec).paths.count("/dev/null") < 3000


def test_a_long_duration_is_not_matched() -> None:
    found = errors(lambda: read(f"{HEAD}timeout: '{'1h' * 500_000}'"))
    assert [(d.code, d.label) for d in found] == [("NS203", "at most 64 characters are allowed")]


@pytest.mark.parametrize(
    "text",
    [
        "mounts: [{{type: tmpfs, target: {0}}}]",
        "mounts: ['/usr:{0}']",
        "masked_paths: [{0}]",
        "rootfs: {0}",
        "files:\n  ? {0}\n  : {{folder: true}}",
        "files: {{/a: {{symlink: {0}}}}}",
    ],
)
def test_a_path_that_no_call_takes(text: str) -> None:
    head = f"{HEAD}namespaces: [user, mount]\n"
    (found,) = errors(lambda: read(head + text.format("/a" * 2048)))
    assert (found.code, found.summary) == ("NS203", "a path has at most 4095 bytes")
    assert found.span is not None and found.span.line >= 3
    if "rootfs" not in text:
        read(head + text.format("/b" * 2047))


def test_many_ports() -> None:
    ports = ",".join(f"'{i}:{i}'" for i in range(1, 1002))
    text = f"{HEAD}namespaces: [user, network]\nnetwork: {{mode: user, ports: [{ports}]}}"
    found = errors(lambda: read(text))
    assert [d.summary for d in found] == ["a list of more than 1000 entries"]


def test_a_set_of_many_levels() -> None:
    inputs = Inputs(sets=("a" + ".a" * 60_000 + "=1",))
    assert [d.code for d in errors(lambda: read_values(inputs))] == ["NS111"]


def test_a_name_of_blanks_in_an_env_file(tmp_path: Path) -> None:
    # A lazy match before a greedy one takes minutes for this.
    (tmp_path / "env").write_text("A" + "\t" * 1_000_000 + "b", encoding="utf-8")
    report = Collector()
    assert read_env_file(str(tmp_path / "env"), None, report) == {}
    assert [d.code for d in report.diagnostics] == ["NS319"]


def stack(folder: Path, text: str) -> Any:
    file = folder / "stack.yaml"
    file.write_text(text, encoding="utf-8")
    return load_stack(str(file))[0]


def test_a_long_chain_of_containers(tmp_path: Path) -> None:
    chain = "".join(f"  c{i}: {{command: [sh], depends_on: [c{i + 1}]}}\n" for i in range(499))
    made = stack(tmp_path, f"containers:\n{chain}  c499: {{command: [sh]}}\n")
    assert [m.service for m in made.members] == [f"c{i}" for i in range(499, -1, -1)]


@pytest.mark.parametrize(
    "text",
    [
        "containers:\n" + "".join(f"  c{i}: {{command: [sh]}}\n" for i in range(501)),
        "containers:\n" + "".join(f"  c{i}: {{command: [sh], replicas: 100}}\n" for i in range(6)),
        "containers: {a: {command: [sh]}}\nnetworks:\n"
        + "".join(f"  n{i}: {{}}\n" for i in range(251)),
        "containers:\n" + "".join(f"  c{i}: {{extends: ./base.yaml}}\n" for i in range(500)),
    ],
    ids=["containers", "replicas", "networks", "extends"],
)  # fmt: skip
def test_a_stack_over_a_limit(tmp_path: Path, text: str) -> None:
    base = HEAD + "env:\n" + "".join(f"  A{i}: b\n" for i in range(4000))
    (tmp_path / "base.yaml").write_text(base, encoding="utf-8")
    assert [d.code for d in errors(lambda: stack(tmp_path, text))] == ["NS104"]


def test_a_folder_is_not_listed_for_every_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[str] = []
    listdir = os.listdir

    def counted(path: str) -> list[str]:
        folders.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", counted)
    lower = ",".join(f"{tmp_path}/l{i}" for i in range(3000))
    text = f"mounts: [{{type: overlay, target: /a, lower: [{lower}]}}]"
    errors(lambda: read(f"{HEAD}namespaces: [user, mount]\n{text}"))
    assert 0 < len(folders) <= MAX_SHOWN + 1


def test_facts_are_wanted_of_few_binds_in_each_other() -> None:
    targets = ("/a" * depth for depth in range(1, 100))
    mounts = "".join(f"- {{type: bind, source: /usr, target: {target}}}\n" for target in targets)
    spec = read(f"{HEAD}namespaces: [user, mount]\nmounts:\n{mounts}")
    assert {"/usr/a", "/usr/a/a"} <= set(wanted(spec).paths)
    assert "/usr" + "/a" * 50 not in wanted(spec).paths


def test_the_next_address_is_not_looked_for_from_the_first() -> None:
    pool = Pool(subnet_of("10.0.0.0/16"))
    pool.take(ip_address("10.0.0.3"))
    taken = Counted(pool._taken)
    pool._taken = taken
    assert [str(pool.next().ip) for _ in range(3)] == ["10.0.0.2", "10.0.0.4", "10.0.0.5"]
    for _ in range(300):
        pool.next()
    assert taken.asked < 400


class Counted(set[Any]):
    asked = 0

    def __contains__(self, one: object) -> bool:
        self.asked += 1
        return super().__contains__(one)


@pytest.mark.parametrize("base", ["two.yaml", "fails.yaml.j2"])
def test_what_is_extended_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    (tmp_path / "two.yaml").write_text(HEAD, encoding="utf-8")
    (tmp_path / "fails.yaml.j2").write_text("{{ values.none }}", encoding="utf-8")
    times: list[str] = []
    read_source = source.read_source

    def counted(path: str, *inputs: Any, **words: Any) -> Any:
        times.append(path)
        return read_source(path, *inputs, **words)

    monkeypatch.setattr(stack_extends, "read_source", counted)
    text = "containers:\n" + "".join(f"  c{i}: {{extends: [./{base}, ./{base}]}}\n" for i in "ab")
    if base == "fails.yaml.j2":
        errors(lambda: stack(tmp_path, text))
    else:
        assert len(stack(tmp_path, text).members) == 2
    assert times == [str(tmp_path / base)]


def test_what_is_extended_doubles_no_further_than_the_limit(tmp_path: Path) -> None:
    for i in range(15):
        more = f"extends: [./{i + 1}.yaml, ./{i + 1}.yaml]\n"
        (tmp_path / f"{i}.yaml").write_text(HEAD + more, encoding="utf-8")
    (tmp_path / "15.yaml").write_text(HEAD, encoding="utf-8")
    found = errors(lambda: stack(tmp_path, "containers: {c: {extends: ./0.yaml}}"))
    assert [d.code for d in found] == ["NS104"]


# --- once is enough ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["validate", "plan"])
@pytest.mark.parametrize("text", [HEAD + "{{ values.none }}", HEAD], ids=["fails", "holds"])
def test_a_template_is_rendered_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, text: str
) -> None:
    file = tmp_path / "spec.yaml.j2"
    file.write_text(text, encoding="utf-8")
    times: list[str] = []
    render = template.render

    def counted(path: str, *inputs: Any) -> Any:
        times.append(path)
        return render(path, *inputs)

    monkeypatch.setattr(template, "render", counted)
    assert carry_out([command, str(file)]) == (1 if text != HEAD else 0)
    assert times == [str(file)]


# --- what surely fits is passed over -----------------------------------------------------------


def _plain() -> Any:
    """The validator without our shortcuts."""
    types = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: type(value) is int,
            "number": lambda _, value: schema_fits.number(value),
        }
    )
    extend: Any = validators.extend
    made = extend(Draft202012Validator, {"pattern": schema._pattern}, type_checker=types)
    container = DRAFT202012.create_resource(schema.load_schema("container"))
    registry: Registry[Any] = Registry().with_resource("container.schema.json", container)
    return {
        name: made(schema.load_schema(name), registry=registry) for name in ("container", "stack")
    }


PLAIN = _plain()


@FAST
@given(data=NEAR)
def test_the_same_errors_as_without_shortcuts(data: dict[str, object]) -> None:
    for name, document in (("container", data), ("stack", {"containers": {"a": data, "b": 1}})):
        ours = schema._validator(name).iter_errors(document)  # type: ignore[arg-type]
        theirs = PLAIN[name].iter_errors(document)
        assert places(ours) == places(theirs)


def places(found: Any) -> list[tuple[str, str]]:
    return sorted((str(list(error.absolute_path)), str(error.validator)) for error in found)
