"""As whom, and with which executor, tests run: what pytest collects, and their fixtures."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from tests.support.paths import ROOT

_USERS = {"root": "root", "ordinary": "user"}
_EXECUTORS = ("native", "python")
# Fixtures by which a test is of one user alone.
_ROOT = {"root_box", "root_c", "root", "stacks", "lab", "nsrun", "root_seeds"}
_USER = {"user_box", "own_stacks"}


@dataclass(frozen=True, slots=True)
class Runs:
    """``users``: of "root" and "user"; ``executors``: of "native" and "python". Neither where a
    test calls functions of its own process."""

    users: frozenset[str]
    executors: frozenset[str]

    def __str__(self) -> str:
        if not self.users and not self.executors:
            return "in process"
        users = ", ".join(sorted(self.users)) or "in process"
        return f"{users}; {', '.join(sorted(self.executors))}" if self.executors else users


def merged(several: Iterable[Runs]) -> Runs:
    found = list(several)
    return Runs(
        frozenset().union(*(one.users for one in found)),
        frozenset().union(*(one.executors for one in found)),
    )


def collected(files: Iterable[str]) -> dict[tuple[str, str], Runs]:
    """By file (from the checkout's top) and name, for all tests of ``files`` in every pair."""
    paths = sorted(set(files))
    words = ["--collect-only", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", *paths]
    # Run by pytest itself: its own variables are of another run.
    others = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=ROOT, env={**others, "NSRUN_MATRIX": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    asked = {path: _arguments(path) for path in paths}
    found: dict[tuple[str, str], Runs] = {}
    for line in done.stdout.splitlines():
        path, colons, rest = line.partition("::")
        if not colons or path not in asked:
            continue
        name, _, case = rest.partition("[")
        runs = _runs(set(case.rstrip("]").split("-")), asked[path].get(name, set()))
        before = found.get((path, name))
        found[path, name] = runs if before is None else merged((before, runs))
    return found


def _runs(case: set[str], arguments: set[str]) -> Runs:
    users = {word for token, word in _USERS.items() if token in case}
    executors = case & set(_EXECUTORS)
    if not users and arguments & _ROOT:
        users = {"root"}
    if not users and arguments & _USER:
        users = {"user"}
    return Runs(frozenset(users), frozenset(executors))


def _arguments(path: str) -> dict[str, set[str]]:
    tree = ast.parse((ROOT / path).read_text())
    return {
        node.name: {argument.arg for argument in node.args.args}
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }
