"""Commands that cannot be executed: which part is missing, closed or of another kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.box import Box, give
from tests.support.hints import Said, run_after, said
from tests.support.requires import requires

REFUSES_EXECVE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ERRNO"}],
}
ROOTED = ["user", "mount", "pid", "ipc", "uts", "network"]


@pytest.fixture
def rooted(box: Box, own_root: Path) -> Box:
    """A box in a rootfs of its user's own."""
    return box.with_(namespaces=ROOTED, rootfs=str(own_root))


def failed(box: Box, status: int, command: list[str], **keys: object) -> Said:
    result = box.run(command, **keys)
    assert result.status == status, str(result)
    return said(result)


def program(path: Path, text: str | bytes, mode: int = 0o755) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)


def test_the_folders_that_were_searched(rooted: Box, own_root: Path) -> None:
    found = failed(rooted, 127, ["no-such-tool"], env={"PATH": "/bin:/opt/bin"})
    assert found.why == f"no-such-tool is in no folder of PATH in {own_root}: /bin, /opt/bin"


def test_the_first_missing_part_of_a_program(rooted: Box, own_root: Path) -> None:
    found = failed(rooted, 127, ["/srv/a/tool"])
    assert found.why == f"/srv/a does not exist in {own_root}"


def test_a_missing_loader(rooted: Box, own_root: Path) -> None:
    program(own_root / "bin/dynamic", Path("/usr/bin/env").read_bytes())
    give(own_root, rooted.runner)
    found = failed(rooted, 127, ["dynamic"])
    assert "/bin/dynamic exists, the program that loads it does not: /lib" in found.why
    assert f"is missing in {own_root}" in found.why
    assert "a static program" in found.tips


def test_a_missing_interpreter(rooted: Box, own_root: Path) -> None:
    program(own_root / "bin/script", "#!/usr/bin/perl -w\n")
    give(own_root, rooted.runner)
    found = failed(rooted, 127, ["/bin/script"])
    assert "what its #! line names does not: /usr/bin/perl is missing" in found.why


def test_an_interpreter_that_cannot_be_loaded(rooted: Box, own_root: Path) -> None:
    program(own_root / "bin/dynamic", Path("/usr/bin/env").read_bytes())
    program(own_root / "bin/script", "#!/bin/dynamic sh\n")
    give(own_root, rooted.runner)
    found = failed(rooted, 127, ["/bin/script"])
    assert "/bin/dynamic exists, the program that loads it does not" in found.why


def test_a_file_without_permission(rooted: Box, own_root: Path) -> None:
    program(own_root / "srv/tool", "#!/bin/sh\n", 0o644)
    give(own_root, rooted.runner)
    found = failed(rooted, 126, ["/srv/tool"])
    assert found.why == "/srv/tool has no execute permission (mode 0644)"
    assert found.tips == f"chmod +x {own_root}/srv/tool"


def test_a_folder(rooted: Box) -> None:
    assert failed(rooted, 126, ["/srv"]).why == "/srv is a folder"


def test_an_entry_that_is_noexec(rooted: Box, own_root: Path) -> None:
    tools = rooted.folder_of_user("tools")
    program(tools / "tool", "#!/bin/sh\n")
    give(tools, rooted.runner)
    entry = {"type": "bind", "source": str(tools), "target": "/srv", "options": ["noexec"]}
    found = failed(rooted, 126, ["/srv/tool"], mounts=[entry])
    assert found.why == "/srv/tool lies on /srv, which the spec mounts noexec"
    assert found.tips == "leave noexec out of the options of /srv"


@requires("root")
def test_a_source_that_is_noexec(user_box: Box, rootfs: Path) -> None:
    tools = user_box.folder_of_user("tools")
    made = f"mount -t tmpfs -o noexec,mode=755 t {tools}"
    script = f"{made} && printf '#!/bin/sh\\n' > {tools}/tool && chmod 755 {tools}/tool"
    spec = user_box.spec(
        namespaces=ROOTED, rootfs=str(rootfs), mounts=[f"{tools}:/srv"], command=["/srv/tool"]
    )
    result = run_after(user_box.runner, script, spec)
    assert result.status == 126, str(result)
    assert said(result).why == f"{tools}/tool lies on {tools}, which is mounted noexec"


def test_a_folder_that_the_user_may_not_enter(rooted: Box, own_root: Path) -> None:
    program(own_root / "priv/bin/tool", "#!/bin/sh\n")
    give(own_root, rooted.runner)
    (own_root / "priv").chmod(0o750)
    found = failed(rooted, 126, ["/priv/bin/tool"], user="1000:1000")
    assert "uid 1000, which is " in found.why
    assert "on the host, may not enter /priv (mode 0750, owner " in found.why


def test_what_no_look_at_the_host_shows_has_no_cause(rooted: Box) -> None:
    entry = {"type": "tmpfs", "target": "/srv"}
    found = failed(rooted, 127, ["/srv/tool"], mounts=[entry])
    assert (found.why, found.tips) == ("", "")


def test_a_working_directory_that_is_missing(rooted: Box, own_root: Path) -> None:
    found = said(rooted.refused("true", cwd="/no/where"))
    assert found.why == f"{own_root} has no /no/where"
    found = said(rooted.refused("true", cwd="/etc/passwd"))
    assert found.why == "/etc/passwd is not a folder"
    found = said(rooted.refused("true", cwd="/srv/a", mounts=[{"type": "tmpfs", "target": "/srv"}]))
    assert found.why == ""


@pytest.mark.parametrize(
    ("keys", "status", "words"),
    [
        (
            {"landlock": {"read": ["/lib", "/lib64", "/usr/lib"], "write": ["/tmp"]}},
            126,
            "no rule of landlock lets /usr/bin/id be executed",
        ),
        (
            {"landlock": {"read": ["/usr/bin"], "write": ["/tmp"]}},
            126,
            "/usr/bin/id is run by /lib64/",
        ),
        ({"seccomp": REFUSES_EXECVE}, 126, "the filter of the spec answers execve with EPERM"),
        (
            {"mounts": [{"type": "tmpfs", "target": "/usr/lib"}]},
            127,
            "that it needs does not: /usr/lib is an empty tmpfs, which the spec mounts there",
        ),
        ({"args": ["a" * 140_000]}, 126, "an argument has 140000 bytes"),
    ],
)
@requires("landlock")
def test_a_wall_before_the_command(
    box: Box, keys: dict[str, object], status: int, words: str
) -> None:
    found = failed(box, status, ["/usr/bin/id"], namespaces=["user", "mount"], **keys)
    assert words in found.why
    assert found.tips


def test_on_the_way_to_the_command(rooted: Box, own_root: Path) -> None:
    """What runs it without the right to be executed, a file for a folder, a link to itself."""
    program(own_root / "srv/runs", b"", 0o644)
    program(own_root / "srv/script", "#!/srv/runs\n")
    (own_root / "srv/link").symlink_to("link")
    give(own_root, rooted.runner)
    assert failed(rooted, 126, ["/srv/script"]).why.splitlines() == [
        "/srv/script is run by /srv/runs",
        "/srv/runs has no execute permission (mode 0644)",
    ]
    assert failed(rooted, 127, ["/srv/runs/x"]).why == "/srv/runs is not a folder"
    assert "/srv/link is a symbolic link to link" in failed(rooted, 126, ["/srv/link"]).why


def test_a_program_that_is_being_written(rooted: Box, own_root: Path) -> None:
    program(own_root / "bin/busy", Path("/bin/true").read_bytes())
    give(own_root, rooted.runner)
    with (own_root / "bin/busy").open("ab"):
        found = failed(rooted, 126, ["/bin/busy"])
    name = Path("/proc/self/comm").read_text().strip()
    who = "a process whose descriptors you may not see"
    if rooted.runner.user.uid == os.geteuid():
        who = f"process {os.getpid()} ({name})"
    assert found.why == f"{who} has it open for writing"
    assert "rename it when it is whole" in found.tips


def test_a_name_that_is_too_long(rooted: Box) -> None:
    found = failed(rooted, 126, ["/bin/" + "x" * 256])
    assert found.why == "a name in it has 256 bytes, and the kernel takes 255"
