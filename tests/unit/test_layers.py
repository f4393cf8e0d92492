"""The direction of imports (the folders are the data flow): what each part may import."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / "nsrun"

# Part -> the parts or modules of nsrun it may import, beside itself. `nsrun.diag`, the
# constants of nsrun.kernel.abi and the version are for everyone.
EVERYONE = ("nsrun.diag", "nsrun.kernel.abi")
ALLOWED: dict[str, tuple[str, ...]] = {
    "nsrun.diag": (),
    "nsrun.spec": (),
    "nsrun.kernel": (),
    "nsrun.plan": ("nsrun.spec.model", "nsrun.kernel"),
    "nsrun.replay": (
        "nsrun.plan.ops",
        "nsrun.plan.model",
        "nsrun.plan.codec",
        "nsrun.plan.binary",
        "nsrun.plan.channels",
        "nsrun.plan.heirs",
        "nsrun.kernel.values",
    ),
    "nsrun.host": ("nsrun.kernel",),
    "nsrun.render": (
        "nsrun.plan.model",
        "nsrun.plan.ops",
        "nsrun.plan.diff",
        "nsrun.plan.registers",
        "nsrun.plan.netnames",
        "nsrun.spec.model",
        "nsrun.replay.outcome",
        "nsrun.host.hints",
        "nsrun.kernel",
    ),
    "nsrun.runtime": (
        "nsrun.plan",
        "nsrun.replay",
        "nsrun.host",
        "nsrun.spec.model",
        "nsrun.spec.stack",
        "nsrun.kernel",
    ),
    "nsrun.cli": ("nsrun",),
}
# Modules of a part that may import less than the part: the plan's data know no spec.
NARROWER: dict[str, tuple[str, ...]] = {
    "nsrun.plan.ops": ("nsrun.kernel", "nsrun.plan"),
    "nsrun.plan.model": ("nsrun.kernel", "nsrun.plan"),
    "nsrun.plan.codec": ("nsrun.kernel", "nsrun.plan"),
    "nsrun.plan.binary": ("nsrun.kernel", "nsrun.plan"),
    "nsrun.plan.entry": ("nsrun.kernel.depend", "nsrun.plan"),
}
# What is not the standard library, and the parts or modules that may import it.
THIRD_PARTY: dict[str, tuple[str, ...]] = {
    "yaml": ("nsrun.spec",),
    "jsonschema": ("nsrun.spec",),
    "referencing": ("nsrun.spec",),
    "jinja2": ("nsrun.spec",),
    "pyroute2": ("nsrun.kernel.netlink",),
    "pyseccomp": ("nsrun.kernel.seccomp",),
    "prctl": ("nsrun.replay", "nsrun.host", "nsrun.runtime"),
    "rich": ("nsrun.cli",),
    "shtab": ("nsrun.cli",),
}


@dataclass(frozen=True, slots=True)
class Import:
    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


MODULES = modules()


def imports(name: str, tree: ast.Module) -> Iterator[Import]:
    """Every import of a module, also those in functions and for type checkers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: a relative import"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield Import(name, full if full in MODULES else base, node.lineno)


IMPORTS = [found for name, tree in MODULES.items() for found in imports(name, tree)]


def within(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


def part_of(name: str) -> str:
    return ".".join(name.split(".")[:2])


def allowed(found: Import) -> bool:
    part = part_of(found.importer)
    if part not in ALLOWED:
        # The package itself and __main__ start the command line, and nothing else.
        return part == "nsrun.__main__" and found.imported == "nsrun.cli"
    narrower = NARROWER.get(found.importer)
    may = narrower if narrower is not None else (*ALLOWED[part], part)
    return any(within(found.imported, one) for one in (*may, *EVERYONE))


def test_imports_follow_the_data_flow() -> None:
    ours = [found for found in IMPORTS if within(found.imported, "nsrun")]
    assert len(ours) > 50, "the walk finds nsrun's imports"
    assert [str(found) for found in ours if not allowed(found)] == []


def test_every_folder_has_a_rule() -> None:
    folders = {f"nsrun.{path.parent.name}" for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= ALLOWED.keys()


@pytest.mark.parametrize(
    "package", ["yaml", "jsonschema", "pyroute2", "pyseccomp", "rich", "shtab"]
)
def test_libraries_stay_where_they_are_used(package: str) -> None:
    strays = [
        str(found)
        for found in IMPORTS
        if within(found.imported, package)
        and not any(within(found.importer, part) for part in THIRD_PARTY[package])
    ]
    assert strays == []


def test_no_other_library_is_imported() -> None:
    known = {"nsrun", "__future__", *sys.stdlib_module_names, *THIRD_PARTY}
    assert [str(f) for f in IMPORTS if f.imported.partition(".")[0] not in known] == []


def test_the_rules_find_a_wrong_import() -> None:
    assert not allowed(Import("nsrun.spec.check", "nsrun.plan.model", 1))
    assert not allowed(Import("nsrun.replay.engine", "nsrun.plan.build", 1))
    assert not allowed(Import("nsrun.replay.engine", "nsrun.kernel.calls", 1))
    assert not allowed(Import("nsrun.kernel.abi", "nsrun.spec.model", 1))
    assert not allowed(Import("nsrun.plan.ops", "nsrun.spec.model", 1))
    assert allowed(Import("nsrun.plan.build", "nsrun.spec.model", 1))
    assert not allowed(Import("nsrun.plan.build", "nsrun.spec.load", 1))


def reachable(start: str) -> set[str]:
    """The modules that an import of ``start`` brings in: imports at the top of a module only."""
    seen: set[str] = set()
    queue = [start]
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        tree = MODULES.get(name)
        if tree is None:
            continue
        top = ast.Module([n for n in tree.body if not _only_for_types(n)], [])
        inside = {id(n) for f in ast.walk(top) if _is_function(f) for n in ast.walk(f)}
        lines = {n.lineno for n in ast.walk(top) if _is_import(n) and id(n) not in inside}
        queue += [i.imported for i in imports(name, tree) if i.line in lines]
    return seen


def _only_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


@pytest.mark.parametrize("start", ["nsrun.replay.engine", "nsrun.plan.codec", "nsrun.plan.build"])
def test_a_replay_and_a_plan_need_no_yaml(start: str) -> None:
    heavy = {"yaml", "jsonschema", "jinja2", "pyseccomp", "rich", "shtab"}
    assert start in MODULES
    assert {name.partition(".")[0] for name in reachable(start)} & heavy == set()


def test_a_replay_imports_nothing_late() -> None:
    """In the child a module imported late would be looked for in the container's own files;
    one that is built into the interpreter has no file."""
    late = []
    for name, tree in MODULES.items():
        functions = [node for node in ast.walk(tree) if _is_function(node)]
        lines = {n.lineno for f in functions for n in ast.walk(f) if _is_import(n)}
        if within(name, "nsrun.replay"):
            late += [str(i) for i in imports(name, tree) if i.line in lines and not _built_in(i)]
    assert late == []


def _built_in(found: Import) -> bool:
    return found.imported in sys.builtin_module_names
