"""Attacks on what runs outside for a container: its hooks, and who is asked about system calls."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.test_run_notify import PROFILE, asked
from tests.support.box import Box, give

SPACES = ["user", "mount", "pid", "ipc"]
HOOK = "#!/bin/sh\nhead -c 1 >/dev/null; pwd; id -u; env; echo $0\n"
PLANTED = "#!/bin/sh\necho planted\n"


def hook(box: Box, text: str = HOOK) -> Path:
    """A program of the runner's, which says where and as whom it runs, into `said` beside it."""
    folder = box.folder / "hooks"
    folder.mkdir(exist_ok=True)
    program = folder / "hook"
    program.write_text(text.replace("\n", f"\nexec >>{folder}/said\n", 1))
    program.chmod(0o755)
    give(folder, box.runner)
    return program


@pytest.mark.parametrize("stage", ["prestart", "poststart", "poststop"])
def test_a_container_has_no_say_in_its_hooks(box: Box, own_rootfs: Path, stage: str) -> None:
    """Of the same path in the image another program, its variables and its folder: the hook is the
    host's, in the caller's folder, with the variables that are written out."""
    program = hook(box)
    inside = own_rootfs / str(program)[1:]
    inside.parent.mkdir(parents=True)
    inside.write_text(PLANTED)
    inside.chmod(0o755)
    give(own_rootfs, box.runner)
    env = {"PATH": "/planted", "LD_PRELOAD": "/planted.so", "BASH_ENV": "/planted", "X": "inside"}
    keys: dict[str, Any] = {
        "namespaces": SPACES, "rootfs": str(own_rootfs), "env": env, "cwd": "/bin",
        "labels": {"a\nb": "$(id)\x1b[2J"},
        "hooks": {stage: [{"path": str(program), "env": ["SAID=so"]}]},
    }  # fmt: skip
    inner = box.runner.run(box.spec(command=[str(program)], **keys))
    assert inner.stdout == "planted\n", f"the control: inside it is theirs: {inner}"
    said = (program.parent / "said").read_text().splitlines()
    assert said[:2] == [str(box.runner.cwd), str(box.runner.user.uid)]
    assert said[-1] == str(program)
    # PWD, SHLVL and _ are the shell's own.
    names = {line.partition("=")[0] for line in said[2:-1]}
    assert {"SAID"} <= names <= {"SAID", "PWD", "OLDPWD", "SHLVL", "_"}


def test_a_hook_that_the_container_could_write_is_refused(box: Box, own_rootfs: Path) -> None:
    program = hook(box)
    hooks = {"poststart": [{"path": str(program)}]}
    keys: dict[str, Any] = {"namespaces": SPACES, "rootfs": str(own_rootfs), "hooks": hooks}
    mount = {"type": "bind", "source": str(program.parent), "target": "/mnt"}
    overwrite = f"cp /bin/busybox /mnt/other && echo '{PLANTED}' >/mnt/hook; cat /mnt/hook"
    for source in (program.parent, program, program.parent / "../hooks"):
        bound = {**mount, "source": str(source), "target": f"/mnt/{len(str(source))}"}
        said = box.refused("true", **keys, mounts=[bound])
        assert "NS318" in said and "could write to its own hook" in said
    for link, leads in (("beside", program), ("folder", program.parent)):
        (box.folder / link).symlink_to(leads)
    through = {"poststart": [{"path": str(box.folder / "folder/hook")}]}
    aside = {"poststart": [{"path": str(box.folder / "beside")}]}
    for changed in (
        {"hooks": through, "mounts": [mount]},
        {"hooks": aside, "mounts": [mount]},
        {"mounts": [{**mount, "source": str(box.folder / "folder")}]},
    ):
        said = box.refused("true", **{**keys, **changed})
        assert "NS318" in said and "could write to its own hook" in said
    said = box.runner.run(
        box.spec(command=overwrite, **keys, mounts=[{**mount, "options": ["ro"]}])
    )
    assert "ead-only" in said.stderr and HOOK.splitlines()[1] in said.stdout
    own = own_rootfs / "hook"
    own.write_text(PLANTED)
    own.chmod(0o755)
    said = box.refused("true", **{**keys, "hooks": {"poststop": [{"path": str(own)}]}})
    assert "could write to its own hook" in said
    # The control: without the hook it does write there.
    box.runner.run(
        box.spec(command=overwrite, **{**keys, "hooks": None}, mounts=[mount], idmap="root")
    )
    assert "planted" in program.read_text()


def test_who_is_asked_is_connected_before_the_payload(box: Box) -> None:
    """The container puts a socket of its own in the place of the listener's, in a folder that it
    may write to; the answers are those of who was there before."""
    replace = (
        "import os, socket\n"
        "path, errors = '/mnt/' + os.listdir('/mnt')[0], []\n"
        "os.unlink(path)\n"
        "own = socket.socket(socket.AF_UNIX); own.bind(path); own.listen(); own.settimeout(0.2)\n"
        "try: os.mkdir('/tmp/made')\n"
        "except OSError as error: print(error.errno)\n"
        "try: own.accept(); print('asked')\n"
        "except TimeoutError: print('nobody')\n"
        "client = socket.socket(socket.AF_UNIX); client.connect(path); print('control')\n"
    )
    folder = box.folder_of_user("listening")
    with asked(Box(runner=box.runner, folder=folder), -os.EX_OSERR) as answering:
        mounts = [{"type": "bind", "source": str(folder), "target": "/mnt"},
                  {"type": "tmpfs", "target": "/tmp"}]  # fmt: skip
        file = box.spec(
            command=["/usr/bin/python3", "-Ic", replace],
            namespaces=SPACES,
            mounts=mounts,
            idmap="root",
            seccomp={**PROFILE, "listenerPath": str(answering.path)},
        )
        said = box.runner.run(file).ok()
    assert said.split() == [str(os.EX_OSERR), "nobody", "control"]
    assert len(answering.calls) == 1
