"""A secret's copy is given to ids of the container's user namespace, by who has the right to."""

from __future__ import annotations

import dataclasses

import pytest

from nsrun.diag import NsrunError
from nsrun.kernel.facts import Facts
from nsrun.plan.build import plan
from nsrun.plan.model import Plan, Track
from nsrun.render.steps import step_text
from nsrun.spec.model import Mount, Owner
from tests.support.planning import ORDINARY, ROOT, WITH_IDS, spec_of

EXPLICIT = {"uid": ["5:500:9"], "gid": ["5:500:9"]}


def planned(facts: Facts, uid: int | None, gid: int | None, **keys: object) -> Plan:
    spec = spec_of(**{"namespaces": ["user", "mount"], **keys})
    secret = Mount(
        type="bind", target="/run/secrets/pw", path="secrets[0]", source="/run/copy",
        options=("ro",), recursive=False, uncovered=True, owner=Owner(uid=uid, gid=gid),
    )  # fmt: skip
    return plan(dataclasses.replace(spec, mounts=(secret,)), facts)


def given(*of: object, **keys: object) -> list[tuple[Track, str]]:
    made = planned(*of, **keys)  # type: ignore[arg-type]
    return [
        (placed.track, step_text(placed.op))
        for placed in made.steps()
        if "fchownat" in step_text(placed.op)
    ]


def test_root_gives_it_to_the_host_s_ids() -> None:
    mapped = {"idmap": {"uid": ["0:7000:50"], "gid": ["0:8000:50"]}}
    outer = 'fchownat(cwd, "/run/copy", {}, {}, SYMLINK_NOFOLLOW)'
    assert given(ROOT, 33, 4, **mapped) == [(Track.PARENT, outer.format(7033, 8004))]
    assert given(ROOT, 33, None, **mapped) == [(Track.PARENT, outer.format(7033, 8000))]
    assert given(ROOT, None, None, **mapped) == [(Track.PARENT, outer.format(7000, 8000))]
    assert planned(ROOT, None, None, **mapped).needs.root


def test_an_ordinary_user_s_child_gives_it_away_once_its_ids_are_mapped() -> None:
    inner = 'fchownat(%m_pw, -, {}, {}, EMPTY_PATH)'
    assert given(WITH_IDS, 33, 4) == [(Track.CHILD, inner.format(33, 4))]
    assert given(WITH_IDS, 33, None) == [(Track.CHILD, inner.format(33, 0))]
    texts = [step_text(p.op) for p in planned(WITH_IDS, 33, 4).steps() if p.track is Track.CHILD]
    chown = texts.index(inner.format(33, 4))
    assert next(n for n, t in enumerate(texts) if "mapped" in t) < chown
    assert "open_tree" in texts[chown - 1] and "/run/copy" in texts[chown - 1]


@pytest.mark.parametrize("facts", [ORDINARY, WITH_IDS])
def test_what_is_root_s_inside_already_stays(facts: Facts) -> None:
    assert given(facts, None, None) == []
    assert given(facts, 0, 0) == []


def test_a_joined_namespace_s_ids_are_known_to_its_members_alone() -> None:
    joined = {"namespaces": ["mount", {"type": "user", "path": "/run/ns"}]}
    assert given(ORDINARY, 3, None, **joined) == [
        (Track.CHILD, 'fchownat(%m_pw, -, 3, -1, EMPTY_PATH)')
    ]
    assert given(ROOT, None, None, **joined) == []
    with pytest.raises(NsrunError, match="joined user namespace"):
        planned(ROOT, 3, None, **joined)


@pytest.mark.parametrize(
    ("facts", "uid", "gid", "keys", "summary"),
    [
        (ORDINARY, 33, None, {}, "uid 33 of /run/secrets/pw is not mapped"),
        (WITH_IDS, 0, 70_000, {}, "gid 70000 of /run/secrets/pw is not mapped"),
        (ROOT, 4, 5, {"idmap": EXPLICIT}, "uid 4 of /run/secrets/pw is not mapped"),
        (
            WITH_IDS, 1, None, {"idmap": {"uid": ["0:100000:9"], "gid": ["0:100000:9"]}},
            "the caller is not mapped",
        ),
    ],
)  # fmt: skip
def test_ids_that_cannot_be_given(
    facts: Facts, uid: int | None, gid: int | None, keys: dict[str, object], summary: str
) -> None:
    with pytest.raises(NsrunError, match=summary) as refused:
        planned(facts, uid, gid, **keys)
    assert [d.code for d in refused.value.diagnostics] == ["NS403"]
