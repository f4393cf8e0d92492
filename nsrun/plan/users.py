"""Numbers for the user and groups of a spec, names looked up in the rootfs's own files."""

from __future__ import annotations

from dataclasses import dataclass

from nsrun.kernel.abi import ID_MAX
from nsrun.kernel.facts import Facts
from nsrun.plan.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedUser:
    """None where the spec does not say."""

    uid: int | None
    gid: int | None
    groups: tuple[int, ...]


def find_user(draft: Draft, facts: Facts) -> WantedUser:
    """The numbers of ``user``; a user's name also brings its primary and supplementary groups.

    A name that the rootfs's passwd(5) or group(5) does not hold is refused (NS317) and left out.
    """
    user = draft.spec.user
    uid, gid = user.uid, user.gid
    named = isinstance(uid, str)
    found = (_group(draft, facts, g, "user.groups") for g in user.groups)
    groups = tuple(g for g in found if g is not None)
    if isinstance(uid, str):
        entry = _passwd_entry(facts, uid)
        if entry is None:
            _unknown(draft, "user", uid, "user", "passwd", facts.passwd)
        elif gid is None:
            gid = entry[1]
            groups = groups or _groups_of(facts, uid, gid)
        uid = entry[0] if entry is not None else None
    if isinstance(gid, str):
        gid = _group(draft, facts, gid, "user")
    if uid is not None and gid is None and not named:
        gid = _primary_of_number(facts, uid)
    return WantedUser(uid=uid, gid=gid, groups=groups)


def _group(draft: Draft, facts: Facts, group: int | str, at: str) -> int | None:
    if isinstance(group, int):
        return group
    for fields in _lines(facts.group):
        if len(fields) >= 3 and fields[0] == group and _number(fields[2]) is not None:
            return int(fields[2])
    _unknown(draft, "group", group, at, "group", facts.group)
    return None


def _unknown(
    draft: Draft, kind: str, name: str, at: str, file: str, text: str | None
) -> None:
    where = "the rootfs's" if draft.spec.rootfs else "the caller's"
    found = f"it is not in {where} /etc/{file}"
    draft.refuse(
        "NS317",
        f"{kind} {name} is not known",
        at,
        "give the number instead",
        why=found if text is not None else f"there is no {where} /etc/{file} to look in",
    )


def _lines(text: str | None) -> list[list[str]]:
    return [line.split(":") for line in (text or "").splitlines()]


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) <= ID_MAX else None


def _passwd_entry(facts: Facts, name: str) -> tuple[int, int] | None:
    for fields in _lines(facts.passwd):
        if len(fields) >= 4 and fields[0] == name:
            uid, gid = _number(fields[2]), _number(fields[3])
            if uid is not None and gid is not None:
                return (uid, gid)
    return None


def _primary_of_number(facts: Facts, uid: int) -> int | None:
    """The group of the first passwd line of that number, as Docker takes it."""
    for fields in _lines(facts.passwd):
        if len(fields) >= 4 and _number(fields[2]) == uid:
            return _number(fields[3])
    return None


def _groups_of(facts: Facts, name: str, primary: int) -> tuple[int, ...]:
    found = {
        int(fields[2])
        for fields in _lines(facts.group)
        if len(fields) >= 4 and name in fields[3].split(",") and _number(fields[2]) is not None
    }
    return tuple(sorted(found - {primary}))
