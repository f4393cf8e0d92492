"""What a plan asks of the host's facts."""

from __future__ import annotations

import json
import os.path

import pytest

from nsrun.plan.wanted import wanted
from nsrun.spec.build import build
from nsrun.spec.document import parse_document
from nsrun.spec.model import Spec


def spec_of(mounts: list[str | dict[str, object]]) -> Spec:
    keys = {"namespaces": ["mount"], "mounts": mounts, "command": ["true"]}
    return build(parse_document(json.dumps(keys), "/here/spec.yaml"))


@pytest.mark.parametrize(
    ("outer", "inner", "behind"),
    [
        ("/a", "/a", "/src"),
        ("/a", "/a/b/c", "/src/b/c"),
        ("/", "/a/b", "/src/a/b"),
        # A name may begin with two dots, and lead no folder up.
        ("/a", "/a/..b", "/src/..b"),
        ("/a", "/ab", None),
        ("/a/b", "/a", None),
    ],
)
def test_the_places_behind_an_earlier_bind(outer: str, inner: str, behind: str | None) -> None:
    paths = wanted(spec_of([f"/src:{outer}", {"type": "tmpfs", "target": inner}])).paths
    assert paths == tuple(dict.fromkeys(p for p in ("/src", behind) if p is not None))


def test_a_later_bind_is_behind_nothing() -> None:
    query = wanted(spec_of([{"type": "tmpfs", "target": "/a/b"}, "/src:/a"]))
    assert query.paths == ("/src",)


def test_thousands_of_mounts_are_not_each_held_against_all(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    real = os.path.relpath

    def relpath(path: str, start: str) -> str:
        compared.append(path)
        return real(path, start)

    monkeypatch.setattr(os.path, "relpath", relpath)
    wanted(spec_of([{"type": "tmpfs", "target": f"/x/{n}"} for n in range(1000)]))
    assert len(compared) <= 2000
