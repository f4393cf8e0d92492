"""Other limits for a container that runs: its control groups are there, and get new texts.

All of it is the parent's track; where one limit is refused, those before it are put back.
"""

from __future__ import annotations

from collections.abc import Mapping

from nsrun.kernel import calls
from nsrun.kernel.abi import OpenFlag
from nsrun.kernel.facts import Facts
from nsrun.plan.build import finished
from nsrun.plan.cgroup import groups_for, write_file
from nsrun.plan.cgroup_limits import Group, Limit, group_name
from nsrun.plan.cgroup_memory import size_words
from nsrun.plan.draft import Draft
from nsrun.plan.model import Plan, UndoWhen
from nsrun.spec.model import Spec


def limited_files(spec: Spec, facts: Facts, folders: tuple[str, ...]) -> dict[str, str]:
    """The files of the groups in ``folders`` that :func:`plan_update` writes to, and the texts."""
    assert spec.resources is not None
    return {
        f"{_place(group, spec)}/{limit.file}": limit.text
        for group in groups_for(Draft(spec), facts, spec.resources, inherit=False)
        if _place(group, spec) in folders
        for limit in group.limits
    }


def _place(group: Group, spec: Spec) -> str:
    return f"{group.folder.path}/{group_name(spec.name)}"


def plan_update(
    spec: Spec, facts: Facts, folders: tuple[str, ...], before: Mapping[str, str]
) -> Plan:
    """The limits of ``spec`` for the groups in ``folders``, which there are; ``before``: what is
    written in each of :func:`limited_files`, by path.

    Raises NsrunError (NS401) for what no group of the container limits.
    """
    draft = Draft(spec)
    assert spec.resources is not None
    for group in groups_for(draft, facts, spec.resources, inherit=False):
        place = _place(group, spec)
        if place not in folders:
            for controller in group.controllers:
                draft.refuse(
                    "NS401",
                    f"{spec.name} has no control group for {controller}",
                    "",
                    "start it with a limit of this kind under `resources`",
                )
            continue
        for limit in _in_order(group.limits, place, before):
            _change(draft, place, limit, before)
    return finished(draft, facts)


def _in_order(limits: list[Limit], place: str, before: Mapping[str, str]) -> list[Limit]:
    """Kernel, version 1: memory with swap is never less than memory: it grows first."""
    sizes = {one.file: one.text for one in limits}
    both = sizes.get("memory.memsw.limit_in_bytes")
    now = before.get(f"{place}/memory.memsw.limit_in_bytes", "")
    if both is None or not now.isdigit() or int(both) <= int(now):
        return limits
    return sorted(limits, key=lambda one: one.file != "memory.memsw.limit_in_bytes")


def _change(draft: Draft, place: str, limit: Limit, before: Mapping[str, str]) -> None:
    old = before.get(f"{place}/{limit.file}")
    size = limit.file.startswith("memory.") and limit.text.isdigit()
    own = draft.reg("group")
    folder = OpenFlag.O_PATH | OpenFlag.O_DIRECTORY | OpenFlag.O_CLOEXEC
    draft.parent(
        f"limit {limit.file} to {size_words(int(limit.text)) if size else limit.text}",
        calls.openat(calls.CWD, place, folder, save=own),
        *write_file(draft, own, limit.file, limit.text),
        rule="nsrun update",
        undo=tuple(write_file(draft, own, limit.file, old)) if old else (),
        undo_when=UndoWhen.FAILURE,
    )
