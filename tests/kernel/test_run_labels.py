"""AppArmor's and SELinux's names on the real kernel, which here may have neither."""

from __future__ import annotations

import dataclasses
import errno
import json

import pytest

from nsrun.host.facts import gather
from nsrun.host.procfs import labelling_modules
from nsrun.kernel.values import Call
from nsrun.plan.build import plan
from nsrun.plan.wanted import wanted
from nsrun.spec.build import build
from nsrun.spec.document import parse_document
from tests.support import replays
from tests.support.box import Box

SPECS = {
    "apparmor": {"apparmor": "nsrun-test-profile-that-is-nowhere"},
    "selinux": {"selinux": {"label": "no label at all"}},
}


@pytest.mark.skipif(bool(labelling_modules()), reason="a module that labels processes is in force")
@pytest.mark.parametrize(("name", "keys"), SPECS.items())
def test_a_host_without_the_module(box: Box, name: str, keys: dict[str, object]) -> None:
    said = box.refused(["echo", "started"], namespaces=["user"], **keys)
    assert "error[NS401]" in said
    assert f'"{name}"' in said  # the line that asks for it
    assert "not in force on this host" in said


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("apparmor", ["user", "mount", "pid"]),
        ("selinux", ["user", "mount", "pid"]),
        ("selinux", ["user"]),
    ],
)
def test_what_the_kernel_refuses_is_the_end(
    name: str, kinds: list[str], both_executors: None
) -> None:
    """Planned as for a host with the module, the kernel's own answer to the write ends the run:
    EINVAL of a real file of procfs that no module answers for; ENOENT, where AppArmor is not built
    in and has no file, or does not know the profile."""
    data = {"command": ["/bin/echo", "started"], "namespaces": kinds, "seccomp": "unconfined"}
    spec = build(parse_document(json.dumps({**data, **SPECS[name]}), "labels.yaml"))
    facts = dataclasses.replace(gather(wanted(spec)), labels=frozenset({name}))
    made = plan(spec, facts)
    outcome, printed = replays.output(made)
    assert printed == ""
    assert (outcome.status, outcome.started) == (125, False)
    failure = outcome.failure
    assert failure is not None
    assert failure.errno in (errno.EINVAL, errno.ENOENT)
    begins = {"apparmor": "take AppArmor's profile", "selinux": "take SELinux's label"}[name]
    (place,) = (p for p in made.track(failure.track) if p.index == failure.index)
    assert place.action.what.startswith(begins)
    if name == "selinux":
        # Opened and found to be on procfs: the write itself is what was refused.
        assert isinstance(place.op, Call)
        assert (place.op.name, failure.errno) == ("write", errno.EINVAL)


def test_the_root_of_a_queue_takes_a_label_by_a_descriptor(both_executors: None) -> None:
    """Where no module knows the attribute, it is the attribute that is refused, not the descriptor
    (EBADF) nor the mount."""
    data = {
        "command": ["/bin/echo", "started"],
        "namespaces": ["user", "mount", "ipc"],
        "mounts": [{"type": "mqueue", "target": "/dev/mqueue"}],
        "default_mounts": False,
        "selinux": {"mount_label": "system_u:object_r:container_file_t:s0"},
    }
    spec = build(parse_document(json.dumps(data), "labels.yaml"))
    facts = dataclasses.replace(gather(wanted(spec)), labels=frozenset({"selinux"}))
    made = plan(spec, facts)
    outcome, printed = replays.output(made)
    if labelling_modules() >= {"selinux"}:
        return
    assert (printed, outcome.started) == ("", False)
    failure = outcome.failure
    assert failure is not None
    (place,) = (p for p in made.track(failure.track) if p.index == failure.index)
    assert isinstance(place.op, Call)
    # Without a right over the first user namespace it is EPERM (cap_inode_setxattr).
    assert (place.op.name, failure.errno in (errno.EOPNOTSUPP, errno.EPERM)) == ("fsetxattr", True)
