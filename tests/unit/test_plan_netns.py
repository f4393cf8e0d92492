"""Named network namespaces: their plans as text, and who is refused one."""

from __future__ import annotations

import pytest

from nsrun.cli.netns import payload_at
from nsrun.diag import Diagnostic, NsrunError
from nsrun.kernel.facts import Kind, PathFact
from nsrun.plan import binary, codec
from nsrun.plan.model import Plan
from nsrun.plan.netns import is_name, path_of, plan_add, plan_delete, plan_exec
from nsrun.render.listing import listing
from tests.support.planning import ORDINARY, ROOT, folder, knowing, missing

PATH = path_of("blue")
THERE = knowing(ROOT, {PATH: PathFact(kind=Kind.FILE, namespace="network")})
STALE = knowing(ROOT, {PATH: PathFact(kind=Kind.FILE)})
OTHER = knowing(ROOT, {PATH: PathFact(kind=Kind.FILE, namespace="uts")})
FOLDER = knowing(ROOT, {PATH: folder()})
NOT_THERE = knowing(ROOT, {PATH: missing(PATH)})

ADD = """\
 ●     p0  mkdirat(cwd, "/run/netns", 0755)  [EEXIST skips]
 ●     p1  %lock = openat(cwd, "/run/netns", DIRECTORY|CLOEXEC)
 ●     p2  flock(%lock, EX)
 ●     p3  statx(cwd, "/run/netns", SYMLINK_NOFOLLOW, BASIC_STATS, {no mount is there})
 ●     p4  %tree = open_tree(cwd, "/run/netns", CLONE|RECURSIVE|CLOEXEC)
 ●     p5  mount_setattr(%tree, -, EMPTY_PATH|RECURSIVE, {propagation=SHARED})
 ●     p6  move_mount(%tree, -, cwd, "/run/netns", F_EMPTY_PATH)
 ●     p7  close(%tree)
 ●     p8  %file = openat(cwd, "/run/netns/blue", CREAT|EXCL|CLOEXEC, 00)
 ●     p9  close(%file)
 ●    p10  %home = openat(cwd, "/proc/self/ns/net", CLOEXEC)
 ●    p11  unshare(NEWNET)
 ●    p12  mount("/proc/self/ns/net", "/run/netns/blue", -, BIND, -)
 ●    p13  setns(%home, NEWNET)
undo, last first:
  p12 umount2("/run/netns/blue", DETACH|NOFOLLOW)  [or EINVAL, or ENOENT] (on failure)
  p10 setns(%home, NEWNET) (on failure)
  p8 unlinkat(cwd, "/run/netns/blue", 0)  [or ENOENT] (on failure)
  p3 umount2("/run/netns", 0)  [or EBUSY, or EINVAL] (on failure)
  p0 unlinkat(cwd, "/run/netns", REMOVEDIR)  [or ENOTEMPTY, or EBUSY, or ENOENT] (on failure)"""
DELETE = """\
 ●     p0  umount2("/run/netns/blue", DETACH|NOFOLLOW)  [or EINVAL]
 ●     p1  unlinkat(cwd, "/run/netns/blue", 0)"""
EXEC = """\
 ●     p0  %netns = openat(cwd, "/run/netns/blue", CLOEXEC)
 ●     p1  setns(%netns, NEWNET)
 ●     p2  close(%netns)
 ●     p3  unshare(NEWNS)
 ●     p4  mount(-, "/", -, REC|SLAVE, -)
 ●     p5  umount2("/sys", DETACH)  [or EINVAL]
 ●     p6  mount("blue", "/sys", "sysfs", 0, -)
 ●     p7  mount("/etc/netns/blue/hosts", "/etc/hosts", -, BIND, -)
 ●     p8  rt_sigaction(SIGPIPE, {SIG_DFL}, -, 8)
 ●     p9  rt_sigaction(SIGXFSZ, {SIG_DFL}, -, 8)
 ●    p10  execve("/usr/bin/ip", ["ip", "address"], 2 variables)  [or ENOENT, or ENOTDIR, or EACCES]
 ●    p11  execve("/bin/ip", ["ip", "address"], 2 variables)"""


def steps(plan: Plan) -> str:
    """The listing without its head and the rule on the right."""
    assert binary.decode(binary.encode(plan)) == plan
    assert codec.loads(codec.dumps(plan), file="-") == plan
    lines = [line.partition("  ·  nsrun netns")[0].rstrip() for line in listing(plan).splitlines()]
    return "\n".join(line for line in lines[2:] if line)


def exec_plan(facts: object = THERE, **more: object) -> Plan:
    env = {"PATH": "/usr/bin:/bin", "A": "b"}
    return plan_exec("blue", ("ip", "address"), facts, env=env, **more)  # type: ignore[arg-type]


def refusals(function: object, facts: object) -> list[tuple[str, str]]:
    found = refused(function, facts)
    return [(one.code, one.summary) for one in found]


def refused(function: object, facts: object) -> tuple[Diagnostic, ...]:
    with pytest.raises(NsrunError) as raised:
        function("blue", facts) if function is not exec_plan else exec_plan(facts)  # type: ignore[operator]
    return raised.value.diagnostics


def test_add() -> None:
    plan = plan_add("blue", NOT_THERE)
    assert steps(plan) == ADD
    assert plan.needs.root


def test_a_private_mount_is_shared_and_private_again() -> None:
    text = steps(plan_add("blue", NOT_THERE, private=True))
    assert ' p8  mount(-, "/run/netns", -, REC|SHARED, -)\n' in text
    assert '\n  p8 mount(-, "/run/netns", -, PRIVATE, -) (on failure)\n' in text


def test_delete() -> None:
    assert steps(plan_delete("blue", THERE)) == DELETE
    # What one that was killed half-way has left is removed in the same way.
    assert steps(plan_delete("blue", STALE)) == DELETE


def test_exec() -> None:
    assert steps(exec_plan(files=("hosts",))) == EXEC


def test_a_read_only_sys_that_is_locked_allows_a_read_only_one() -> None:
    """The second is left out by the kernel where the first is there: EBUSY."""
    text = steps(exec_plan(read_only_sys=True))
    assert ' p6  mount("blue", "/sys", "sysfs", 0, -)  [or EPERM]\n' in text
    assert ' p7  mount("blue", "/sys", "sysfs", RDONLY, -)  [or EBUSY]\n' in text


@pytest.mark.parametrize(
    ("function", "facts", "code", "summary"),
    [
        (plan_add, THERE, "NS318", "there is a network namespace blue already"),
        (plan_add, OTHER, "NS318", f"{PATH} is there already, and no network namespace"),
        (plan_add, FOLDER, "NS318", f"{PATH} is there already, and no network namespace"),
        (plan_delete, NOT_THERE, "NS305", "there is no network namespace blue"),
        (plan_delete, FOLDER, "NS309", f"{PATH} is a folder, not a network namespace"),
        (exec_plan, NOT_THERE, "NS305", "there is no network namespace blue"),
        (exec_plan, FOLDER, "NS309", f"{PATH} is a folder, not a network namespace"),
        (exec_plan, STALE, "NS309", f"{PATH} holds no namespace"),
        (exec_plan, OTHER, "NS309", f"{PATH} holds a uts namespace"),
        # Who may not look into the folder is not told that there is nothing.
        (plan_add, ORDINARY, "NS402", "adding a named network namespace is not permitted"),
        (plan_delete, ORDINARY, "NS402", "deleting a named network namespace is not permitted"),
        (exec_plan, ORDINARY, "NS402", "entering a named network namespace is not permitted"),
    ],
)
def test_what_is_refused(function: object, facts: object, code: str, summary: str) -> None:
    assert refusals(function, facts) == [(code, summary)]


def test_a_folder_is_not_said_to_be_removable() -> None:
    assert refused(plan_add, FOLDER)[0].help == ("choose another name",)
    assert "remove it: nsrun netns delete blue" in refused(plan_add, STALE)[0].help


def test_what_is_a_name() -> None:
    assert all(map(is_name, ("a", "-", "a b", "...", "ö" * 127, "x" * 255, "\udcff")))
    assert not any(map(is_name, ("", ".", "..", "a/b", "/", "a\0b", "ö" * 128, "x" * 256)))


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("exec blue ip -4 address", "ip -4 address"),
        ("--plan exec blue ip", "ip"),
        ("exec --format json blue ip --plan", "ip --plan"),
        ("exec blue --plan ip", "ip"),
        ("exec blue sh -c x -- y", "sh -c x -- y"),
        # The words after `--` are the command's wherever it stands; the parser sees to it.
        ("exec blue -- ip", None),
        ("exec blue", None),
        ("add blue green red", None),
        ("list --format json", None),
        ("", None),
    ],
)
def test_where_the_command_begins(line: str, command: str | None) -> None:
    words = line.split()
    at = payload_at(words)
    assert (None if at is None else words[at:]) == (None if command is None else command.split())
