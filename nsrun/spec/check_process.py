"""Checks about the command: names it gets, its limits and rights."""

from __future__ import annotations

import os
import re

from nsrun.spec.checking import Problems, looks_at, problem
from nsrun.spec.model import Spec
from nsrun.spec.names import CONTAINER_NAME
from nsrun.spec.path import key_path
from nsrun.spec.words import quote, quote_path

# __NEW_UTS_LEN, linux/utsname.h.
_MAX_HOSTNAME = 64
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@looks_at("name")
def name_is_allowed(spec: Spec) -> Problems:
    if not CONTAINER_NAME.fullmatch(spec.name):
        yield problem(spec, "NS316", "name", f"{quote(spec.name)} cannot be a container's name")


@looks_at("hostname", "domainname")
def hostname_fits(spec: Spec) -> Problems:
    for key, value in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if value is None:
            continue
        size = len(value.encode())
        if size > _MAX_HOSTNAME:
            yield problem(
                spec,
                "NS308",
                key,
                f"`{key}` is too long",
                label=f"{size} bytes, the most is {_MAX_HOSTNAME}",
            )
        if _CONTROL.search(value):
            yield problem(spec, "NS316", key, f"a control character in `{key}`")


@looks_at("capabilities")
def capability_sets_agree(spec: Spec) -> Problems:
    """Effective within permitted (capset(2)), ambient within permitted and inheritable too."""
    sets = spec.capabilities.sets
    if sets is None:
        return
    for inner, outer in (("effective", "permitted"), ("ambient", "permitted"),
                         ("ambient", "inheritable")):  # fmt: skip
        missing = [name for name in sets.get(inner, ()) if name not in sets.get(outer, ())]
        if missing:
            yield problem(
                spec,
                "NS318",
                f"capabilities.{inner}",
                f"{quote(missing[0])} is {inner} and not {outer}",
                help=(f"add it to `{outer}`",),
            )


@looks_at(each=("rlimits",))
def soft_limit_is_within_the_hard_one(spec: Spec) -> Problems:
    for limit in spec.rlimits:
        if limit.hard is not None and (limit.soft is None or limit.soft > limit.hard):
            path = next((p for p in spec.spans if _names_limit(p, limit.name)), "rlimits")
            yield problem(
                spec,
                "NS318",
                path,
                f"the soft limit of `{limit.name}` is over the hard",
                help=("write `soft:hard`, the smaller first",),
            )


def _names_limit(path: str, name: str) -> bool:
    """Whether ``path`` is the entry of limit ``name``, in whatever form the document has it."""
    key = path.removeprefix("rlimits.").lower().removeprefix("rlimit_")
    return path.startswith("rlimits.") and key == name


@looks_at("tty", "stdin")
def a_terminal_is_the_input(spec: Spec) -> Problems:
    if spec.tty and spec.stdin == "closed":
        yield problem(
            spec,
            "NS318",
            "stdin",
            "`stdin: closed` with `tty: true`",
            label="the terminal is the standard input",
            help=("remove one of them",),
        )


@looks_at("hooks")
def hooks_have_their_own_name(spec: Spec) -> Problems:
    """A helper is executed under its path; what else its vector calls it would be lost."""
    phases = {"prestart": spec.hooks.prestart, "poststart": spec.hooks.poststart,
              "poststop": spec.hooks.poststop}  # fmt: skip
    for phase, hooks in phases.items():
        for index, hook in enumerate(hooks):
            name = os.path.basename(hook.path)
            if hook.args and os.path.basename(hook.args[0]) != name:
                yield problem(
                    spec,
                    "NS318",
                    f"hooks.{phase}[{index}].args[0]",
                    f"{quote(hook.args[0])} is not the name of {quote_path(hook.path)}",
                    label="the first argument is the program's name",
                    help=(f"write {quote(name)}, and a program of the wanted name as the path",),
                )


@looks_at(each=("files",))
def files_are_given_once(spec: Spec) -> Problems:
    first: set[str] = set()
    for entry in spec.files:
        if entry.target in first:
            path = key_path("files", entry.target)
            what = f"the file {quote(entry.target)} is given twice"
            yield problem(spec, "NS318", path, what, key=True)
        first.add(entry.target)
