"""Id maps: which, who writes them, and who the command becomes."""

from __future__ import annotations

import pytest

from nsrun.kernel.facts import Facts, MapLine, SubIds
from nsrun.plan.model import Plan, Track
from nsrun.plan.ops import Spawn
from tests.support.planning import (
    ORDINARY,
    ROOT,
    WITH_IDS,
    has,
    knowing,
    lines,
    only,
    order,
    planned,
    refusals,
    refused,
    why,
)

USER = {"namespaces": ["user"]}
DIRECT = [
    'openat(AT_FDCWD, "/proc/%child/{0}_map", O_WRONLY|O_CLOEXEC)',
    "fstatfs(%{0}map, {{f_type == PROC_SUPER_MAGIC}})",
    'write(%{0}map, "{1}", {2})',
    "close(%{0}map)",
]


def direct(kind: str, text: str) -> list[str]:
    shown = text.replace("\n", "\\n")
    return [line.format(kind, shown, len(text)) for line in DIRECT]


def maps(plan: Plan) -> tuple[list[str], list[str]]:
    return lines(only(plan, "map uids")), lines(only(plan, "map gids"))


def test_an_ordinary_user_alone_is_root_inside() -> None:
    plan = planned(ORDINARY, **USER)
    assert maps(plan) == (direct("uid", "0 1000 1\n"), direct("gid", "0 1000 1\n"))
    # user_namespaces(7): without it the kernel takes no gid_map of the unprivileged.
    denied = only(plan, "deny setgroups")
    assert lines(denied)[2] == 'write(%setgroups, "deny", 4)'
    assert "fstatfs" in lines(denied)[1]
    order(plan, Track.PARENT, "start the child", "deny setgroups", "map uids", "map gids",
          "tell the child that its ids")  # fmt: skip
    assert "setgroups(" not in " ".join(lines(only(plan, "become 0:0")))


def test_subordinate_ids_are_mapped_behind_the_caller_by_the_helpers() -> None:
    plan = planned(WITH_IDS, **USER)
    numbers = '"%child", "0", "1000", "1", "1", "100000", "65536"'
    assert maps(plan) == (
        [f'spawn(["/usr/bin/newuidmap", {numbers}], timeout=30s)'],
        [f'spawn(["/usr/bin/newgidmap", {numbers}], timeout=30s)'],
    )
    assert not has(plan, "deny setgroups")
    assert lines(only(plan, "become 0:0"))[0] == "setgroups(0, [])"


def test_several_subordinate_ranges_follow_each_other() -> None:
    ranges = (SubIds(start=500_000, size=10), SubIds(start=700_000, size=20))
    (helper,) = only(planned(knowing(WITH_IDS, subuid=ranges), **USER), "map uids").steps
    assert isinstance(helper, Spawn)
    assert [getattr(word, "value", "") for word in helper.argv[2:]] == (
        ["0", "1000", "1", "1", "500000", "10", "11", "700000", "20"]
    )


def test_without_the_helpers_the_caller_alone_is_mapped_unless_more_is_asked_for() -> None:
    bare = knowing(WITH_IDS, newgidmap=None)
    assert maps(planned(bare, **USER))[0] == direct("uid", "0 1000 1\n")
    assert refused(bare, idmap="auto", **USER) == [("NS403", "idmap")]


@pytest.mark.parametrize(
    ("kind", "facts", "text"),
    [
        ("root", ORDINARY, "0 1000 1\n"),
        ("keep", ORDINARY, "1000 1000 1\n"),
        ("root", ROOT, "0 0 1\n"),
    ],
)
def test_one_id(kind: str, facts: Facts, text: str) -> None:
    assert maps(planned(facts, idmap=kind, **USER)) == (direct("uid", text), direct("gid", text))


def test_keep_makes_the_command_the_caller() -> None:
    plan = planned(ORDINARY, idmap="keep", **USER)
    assert lines(only(plan, "become 1000:1000 of the user namespace")) == [
        "setresgid(1000, 1000, 1000)",
        "setresuid(1000, 1000, 1000)",
    ]
    assert not has(plan, "become the container's root")


def block(name: str, facts: Facts = ROOT) -> int:
    text = maps(planned(facts, name=name, **USER))[0][2]
    inside, outside, size = text.split('"')[1].removesuffix("\\n").split()
    assert (inside, size) == ("0", "65536")
    return int(outside)


def test_roots_containers_have_a_block_of_host_ids_by_their_name() -> None:
    """0 inside is no root outside, and two containers are no neighbours."""
    one, other = block("one"), block("other")
    assert one != other
    assert block("one") == one
    for start in (one, other):
        assert 0x80000 <= start < 0x6FFF0000 and start % 0x10000 == 0


def test_roots_own_subordinate_range_comes_first() -> None:
    assert block("one", knowing(ROOT, subuid=(SubIds(start=300_000, size=65_536),))) == 300_000


def test_inside_a_user_namespace_its_own_ids_are_mapped_on() -> None:
    inner = (MapLine(inside=0, outside=1000, size=1), MapLine(inside=1, outside=100_000, size=9))
    plan = planned(knowing(ROOT, uid_map=inner, gid_map=inner), **USER)
    assert maps(plan)[0] == direct("uid", "0 0 1\n1 1 9\n")


def test_explicit_maps_each_by_who_may_write_them() -> None:
    keys = {"idmap": {"uid": ["0:1000:1", "1:100000:9"], "gid": ["0:1000:1"]}, **USER}
    plan = planned(WITH_IDS, **keys)
    assert lines(only(plan, "map uids"))[0].startswith('spawn(["/usr/bin/newuidmap"')
    assert lines(only(plan, "map gids")) == direct("gid", "0 1000 1\n")
    assert has(plan, "deny setgroups")
    assert why(only(plan, "map uids")) == "idmap.uid"
    assert why(only(plan, "map gids")) == "idmap.gid"
    both = {"idmap": {"uid": ["0:7:2", "9:1:1"], "gid": ["0:8:2"]}, **USER}
    uids, gids = maps(planned(ROOT, **both))
    assert uids == direct("uid", "0 7 2\n9 1 1\n")
    assert gids == direct("gid", "0 8 2\n")


@pytest.mark.parametrize(
    ("facts", "uid"),
    [
        (WITH_IDS, "0:5:1"),  # another user's
        (WITH_IDS, "0:100000:65537"),  # one more than the range has
        (WITH_IDS, "0:1000:2"),  # the caller's own and the next
        (ORDINARY, "0:100000:1"),
        (knowing(ROOT, uid_map=(MapLine(inside=0, outside=9, size=5),)), "0:4:2"),
    ],
)
def test_ids_that_are_not_the_callers_to_map(facts: Facts, uid: str) -> None:
    own = f"0:{facts.gid}:1"
    found = refused(facts, idmap={"uid": [uid], "gid": [own]}, **USER)
    assert ("NS403", "idmap.uid[0]") in found


def test_the_child_waits_for_its_maps_before_it_becomes_anybody() -> None:
    plan = planned(WITH_IDS, **USER)
    order(plan, Track.CHILD, "wait for the id maps", "become the container's root")
    for what in ("map uids", "tell the child that its ids", "wait for the id maps"):
        assert why(only(plan, what)) == "(default idmap)"


# --- who the command is --------------------------------------------------------------------------


def test_a_user_and_groups_by_number_and_by_name() -> None:
    named = knowing(
        WITH_IDS,
        passwd="root:x:0:0::/:/bin/sh\nann:x:1000:100::/:/bin/sh\n",
        group="users:x:100:\nvideo:x:44:ann,bob\nwheel:x:10:bob\n",
    )
    assert lines(only(planned(named, user="ann", **USER), "become 1000:100")) == [
        "setgroups(1, [44])",
        "setresgid(100, 100, 100)",
        "setresuid(1000, 1000, 1000)",
    ]
    keys = {"user": {"uid": 7, "gid": "video", "groups": ["wheel", 5]}, **USER}
    assert lines(only(planned(named, **keys), "become 7:44"))[0] == "setgroups(2, [10, 5])"
    # A number brings the primary group of its first passwd line, and no others.
    number = planned(named, user=1000, **USER)
    assert lines(only(number, "become 1000:100"))[0] == "setgroups(0, [])"


@pytest.mark.parametrize(
    ("user", "places"),
    [
        ("nobody", [("NS317", "user")]),
        ("ann", [("NS317", "user")]),  # a number too large for an id
        ({"uid": 0, "gid": "audio"}, [("NS317", "user")]),
        ({"uid": 0, "gid": 0, "groups": ["audio", "disk"]},
         [("NS317", "user.groups"), ("NS317", "user.groups")]),
        ({"uid": 70_000, "gid": 0}, [("NS403", "user")]),
        ({"uid": 0, "gid": 70_000}, [("NS403", "user")]),
        ({"uid": 0, "gid": 0, "groups": [70_000]}, [("NS403", "user.groups")]),
    ],
)  # fmt: skip
def test_users_that_cannot_be(user: object, places: list[tuple[str, str]]) -> None:
    facts = knowing(WITH_IDS, passwd="ann:x:4294967295:1::/:/bin/sh\nshort:x\n", group="g:x:1:\n")
    assert refused(facts, user=user, **USER) == places


@pytest.mark.parametrize(
    ("idmap", "facts", "uid", "help_"),
    [
        ("keep", ROOT, 34, "`idmap: auto`, or a mapping with a line for 34 in place of `keep`"),
        ("root", WITH_IDS, 7, "`idmap: auto`, or a mapping with a line for 7 in place of `root`"),
        ("keep", ORDINARY, 7, "a mapping with a line for 7 in place of `keep`"),
        ("auto", ROOT, 70_000, "give `idmap` a mapping with a line for 70000"),
        ({"uid": ["0:0:1"], "gid": ["0:0:1"]}, ROOT, 7, "add a line for 7 to idmap.uid"),
    ],
)
def test_what_would_map_a_user(idmap: object, facts: Facts, uid: int, help_: str) -> None:
    found = refusals(facts, idmap=idmap, user={"uid": uid, "gid": 0}, **USER)
    assert help_ in [word for one in found for word in one.help]


def test_without_a_user_namespace_only_root_can_become_another() -> None:
    become = lines(only(planned(ROOT, user={"uid": 7, "gid": 8, "groups": [9]}), "become 7:8"))
    assert become == ["setgroups(1, [9])", "setresgid(8, 8, 8)", "setresuid(7, 7, 7)"]
    assert refused(ORDINARY, user="7:8") == [("NS402", "user")]
    assert lines(only(planned(ORDINARY), "become 1000:1000")) == [
        "setresgid(1000, 1000, 1000)",
        "setresuid(1000, 1000, 1000)",
    ]


def test_in_a_joined_user_namespace_the_ids_are_taken_where_they_are_there() -> None:
    plan = planned(
        knowing(ROOT, pids=frozenset({7})), namespaces=[{"type": "user", "pid": 7}], user="3:4"
    )
    assert not has(plan, "map uids")
    root, groups = only(plan, "become the container's root"), only(plan, "become 3:4").steps[0]
    assert [getattr(op, "accept", None) for op in root.steps] == [("EINVAL", "EPERM")] * 2
    # It may deny setgroups for good.
    assert getattr(groups, "accept", None) == ("EPERM",)
