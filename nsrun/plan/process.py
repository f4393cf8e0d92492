"""The command's surroundings: host name, terminal, standard streams, variables, signals, exec.

Sources: execve(2), signal(7), pts(4), ioctl_tty(2), OCI's config.md for the process.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping

from nsrun.kernel import abi, calls, sockets
from nsrun.kernel.abi import FileType, MoveMountFlag, OpenFlag, OpenTreeFlag, TerminalFlag
from nsrun.kernel.facts import Facts
from nsrun.kernel.values import Int, Reg, RegKind
from nsrun.plan.defaults import wanted
from nsrun.plan.draft import Draft
from nsrun.plan.identity import Identity
from nsrun.plan.launch import Launch, python_ignores
from nsrun.plan.model import Action, Track
from nsrun.plan.ops import Await, Init, Op, ReceiveFd, SendFd
from nsrun.plan.sources import part_if_shared
from nsrun.plan.tree import Tree
from nsrun.spec.model import NamespaceType, Spec

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PASSED_ON = ("TERM", "LANG")
_PING = "net.ipv4.ping_group_range"
# GID_T_MAX of net/ipv4/ping.c.
_GROUP_MAX = 2**31 - 1
# As a new pty's, without ECHO.
_UNECHOED = (
    TerminalFlag.ISIG
    | TerminalFlag.ICANON
    | TerminalFlag.ECHOE
    | TerminalFlag.ECHOK
    | TerminalFlag.ECHOCTL
    | TerminalFlag.ECHOKE
    | TerminalFlag.IEXTEN
)


# --- names and network -----------------------------------------------------------------------


def set_names(draft: Draft) -> None:
    spec = draft.spec
    if spec.hostname is not None:
        draft.child(
            f"set the host name to {spec.hostname}", calls.sethostname(spec.hostname), at="hostname"
        )
    if spec.domainname is not None:
        draft.child(
            f"set the domain name to {spec.domainname}",
            calls.setdomainname(spec.domainname),
            at="domainname",
        )


def loopback_up(draft: Draft) -> None:
    """A new network namespace has its loopback down (network_namespaces(7))."""
    spec = draft.spec
    if not spec.new(NamespaceType.NETWORK):
        return
    if spec.network is not None and not spec.network.loopback:
        return
    given = "network.loopback" in spec.spans
    fd = draft.reg("inet")
    draft.child(
        "bring up lo",
        sockets.socket_inet(save=fd),
        sockets.ioctl_interface_up(fd, "lo"),
        calls.close(fd),
        at="network.loopback" if given else "",
        rule="" if given else "default loopback",
    )


def write_sysctls(draft: Draft, identity: Identity, tree: Tree | None) -> None:
    """``sysctl``, through the container's own proc where the plan has mounted one."""
    _ping_for_everybody(draft, identity, tree)
    for key, value in draft.spec.sysctl.items():
        draft.child(
            f"set {key} to {value}", *_sysctl(draft, tree, key, value), at=f'sysctl["{key}"]'
        )


def _sysctl(
    draft: Draft, tree: Tree | None, key: str, value: str, *, skip: tuple[str, ...] = ()
) -> list[Op]:
    own = tree is not None and "/proc" in wanted(draft.spec)
    fd = draft.reg(key.rpartition(".")[2])
    name = "proc/sys/" + key.replace(".", "/")
    how = abi.ResolveFlag.RESOLVE_NO_SYMLINKS | abi.ResolveFlag.RESOLVE_NO_MAGICLINKS
    start, path = (tree.root, name) if own and tree is not None else (calls.CWD, "/" + name)
    opened = OpenFlag.O_WRONLY | OpenFlag.O_CLOEXEC
    return [
        calls.allow(calls.openat2(start, path, opened, how, save=fd), skip=skip),
        calls.fstatfs(fd, abi.Magic.PROC_SUPER_MAGIC),
        calls.write(fd, value.encode()),
        calls.close(fd),
    ]


def _ping_for_everybody(draft: Draft, identity: Identity, tree: Tree | None) -> None:
    """A new network namespace lets no group make the sockets of ping(8) (icmp(7)).

    With them it works without CAP_NET_RAW. Both ends of the range must be mapped.
    """
    if not draft.spec.new(NamespaceType.NETWORK) or _PING in draft.spec.sysctl:
        return
    low, high = 0, _GROUP_MAX
    if identity.maps is not None:
        if not identity.maps.gid:
            return
        low = min(r.container for r in identity.maps.gid)
        high = min(max(r.container + r.size - 1 for r in identity.maps.gid), _GROUP_MAX)
    draft.child(
        "let every group ping",
        # A caller whose own /proc/sys is read-only, or not there, has no ping: that is all.
        *_sysctl(draft, tree, _PING, f"{low} {high}", skip=("ENOENT", "EROFS", "EACCES")),
        rule="default ping_group_range",
    )


# --- terminal and standard streams -----------------------------------------------------------


def open_terminal(
    draft: Draft, identity: Identity, launch: Launch, tree: Tree | None
) -> Reg | None:
    """A fresh pty: its master goes to the launcher, the register of its other end is returned.

    Opened from the container's own devpts where the plan has mounted one, so that the name
    /dev/pts/0 is right inside.
    """
    spec = draft.spec
    if not spec.tty:
        return None
    master, pty = draft.reg("master"), draft.reg("pty")
    own = tree is not None and _own_devpts(spec)
    opened = OpenFlag.O_RDWR | OpenFlag.O_NOCTTY | OpenFlag.O_CLOEXEC
    steps: list[Op] = []
    if own and tree is not None:
        steps.append(tree.resolve("/dev/pts/ptmx", save=master, oflags=opened))
        steps.append(calls.fstatfs(master, abi.Magic.DEVPTS_SUPER_MAGIC))
    else:
        steps.append(calls.openat(calls.CWD, "/dev/ptmx", opened, save=master))
    steps += [
        calls.ioctl_pty_unlock(master),
        calls.ioctl_pty_peer(master, save=pty),
        calls.fstatfs(pty, abi.Magic.DEVPTS_SUPER_MAGIC),
        SendFd(sync="terminal", channel=launch.inner, fd=master),
        calls.close(master),
    ]
    if identity.uid is not None and identity.uid != identity.setup_uid:
        steps.append(calls.fchown(pty, identity.uid, -1))
    draft.child("open a pseudo-terminal", *steps, at="tty")
    draft.child(
        "echo nothing where nobody types",
        # The end of a file on descriptor 0 becomes the character VEOF, and its meaning is that
        # of the terminal's mode when the kernel comes to it: a command that has gone raw by
        # then would have it echoed into its output.
        calls.ioctl_no_terminal(0),
        calls.ioctl_new_terminal(pty, _UNECHOED),
        rule="standard input is no terminal",
    )
    if tree is not None and "/dev" in wanted(spec):
        _console(draft, tree, pty)
    return pty


def _own_devpts(spec: Spec) -> bool:
    entries = {m.target.rstrip("/"): m.type for m in spec.mounts}
    return "/dev/pts" in wanted(spec) or entries.get("/dev/pts") == "devpts"


def _console(draft: Draft, tree: Tree, pty: Reg) -> None:
    dev, console = draft.reg("dev"), draft.reg("console")
    cloned = (
        OpenTreeFlag.OPEN_TREE_CLONE
        | OpenTreeFlag.OPEN_TREE_CLOEXEC
        | OpenTreeFlag.AT_EMPTY_PATH
    )
    opened = OpenFlag.O_PATH | OpenFlag.O_DIRECTORY | OpenFlag.O_CLOEXEC
    draft.child(
        "bind the terminal on /dev/console",
        tree.resolve("/dev", save=dev, oflags=opened),
        calls.mknodat(dev, "console", FileType.S_IFREG | 0o600),
        calls.open_tree(pty, "", cloned, save=console),
        *part_if_shared(draft, console),
        calls.move_mount(console, "", dev, "console", MoveMountFlag.MOVE_MOUNT_F_EMPTY_PATH),
        calls.close(console),
        calls.close(dev),
        at="tty",
    )


def receive_terminal(draft: Draft, launch: Launch) -> Reg | None:
    if not draft.spec.tty:
        return None
    terminal = draft.reg("terminal")
    draft.parent(
        "take the terminal's other end",
        ReceiveFd(
            sync="terminal", channel=launch.outer, save=terminal, signals=launch.signals
        ),
        at="tty",
    )
    return terminal


def open_stdin(draft: Draft, launch: Launch) -> Reg | None:
    """What becomes descriptor 0: nothing for ``inherit``, else a register."""
    spec = draft.spec
    if spec.tty or spec.stdin == "inherit":
        return None
    if spec.stdin == "closed":
        null = draft.reg("stdin")
        opened = OpenFlag.O_NOCTTY | OpenFlag.O_CLOEXEC
        draft.child(
            "give no standard input",
            calls.openat(calls.CWD, "/dev/null", opened, save=null),
            calls.statx(null, *calls.is_device(1, 3)),
            at="stdin",
        )
        return null
    read_end, write_end = draft.reg("stdin"), draft.reg("stdin_held")
    draft.parent_at(
        launch.early,
        Action(
            track=Track.PARENT,
            what="hold a standard input open",
            origin=draft.origin("stdin", ""),
            steps=(
                calls.pipe2(OpenFlag.O_CLOEXEC, read_end=read_end, write_end=write_end),
            ),
        ),
    )
    draft.child("leave it to the launcher to hold it open", calls.close(write_end), at="stdin")
    return read_end


def take_streams(draft: Draft, pty: Reg | None, stdin: Reg | None, *, forked: bool) -> None:
    """Put the terminal or the wanted input on descriptors 0 to 2."""
    if pty is not None:
        steps: list[Op] = []
        if forked:
            # The process forked by init is no session leader, and only one may own a terminal.
            steps.append(calls.setsid())
        steps.append(calls.ioctl_controlling_terminal(pty))
        steps += [calls.dup3(pty, fd) for fd in (0, 1, 2)]
        draft.child("take the terminal", *steps, at="tty")
    elif stdin is not None:
        draft.child("take the standard input", calls.dup3(stdin, 0), at="stdin")


# --- the last steps --------------------------------------------------------------------------


def go_to_work(draft: Draft) -> None:
    """The working directory, as the command's own user."""
    spec = draft.spec
    if spec.cwd is None and spec.rootfs is not None:
        return
    path = spec.cwd
    steps: list[Op] = []
    if path is not None:
        steps.append(calls.chdir(path))
    # ENOENT: the caller's folder has been removed, which is the caller's affair.
    inside = calls.getcwd_inside()
    steps.append(inside if path else calls.allow(inside, accept=("ENOENT",)))
    draft.child(
        f"work in {path}" if path else "stay in the caller's folder",
        *steps,
        at="cwd" if path is not None else "",
        rule="" if path is not None else "default cwd",
    )


def become_init(draft: Draft, launch: Launch) -> None:
    if not draft.spec.init:
        return
    steps: list[Op] = []
    new_pid = draft.spec.namespace(NamespaceType.PID)
    if new_pid is None or new_pid.joined:
        steps.append(calls.prctl(abi.Prctl.PR_SET_CHILD_SUBREAPER, Int(1)))
    steps.append(Init(channel=launch.inner))
    # fork(2) clears the death signal of the process that goes on.
    death = calls.prctl(abi.Prctl.PR_SET_PDEATHSIG, Int(int(signal.SIGKILL), "SIGKILL"))
    steps.append(death)
    draft.child("leave an init behind as the first process", *steps, at="init")


def last_steps(draft: Draft, facts: Facts) -> None:
    """Descriptors, signals, umask."""
    spec = draft.spec
    umask = spec.user.umask
    draft.child(
        "set the command's umask",
        calls.umask(0o022 if umask is None else umask),
        at="user.umask" if umask is not None else "",
        rule="" if umask is not None else "default umask",
    )
    draft.child(
        "pass on no descriptor but 0 to 2",
        calls.close_range(3, abi.UINT_MAX, abi.CloseRangeFlag.CLOSE_RANGE_CLOEXEC),
        rule="nothing is inherited",
    )
    ignored = python_ignores(facts)
    draft.child(
        "reset signals to what a new process has",
        *(calls.rt_sigaction_default(n, _signal_name(n)) for n in ignored),
        calls.rt_sigprocmask(abi.SigprocmaskHow.SIG_SETMASK, 0),
        rule="nothing is inherited",
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


def execute(draft: Draft, env: tuple[str, ...]) -> None:
    """The command: nothing follows."""
    command = draft.spec.command
    draft.child(f"run {command[0]}", *searched(command, env), at="command")


def searched(command: tuple[str, ...], env: tuple[str, ...]) -> list[Op]:
    """An execve for each place where PATH in ``env`` lets the program be."""
    program = command[0]
    paths = [program]
    if "/" not in program:
        search = next((e[5:] for e in env if e.startswith("PATH=")), DEFAULT_PATH)
        paths = [f"{folder or '.'}/{program}".replace("//", "/") for folder in search.split(":")]
    tries = [calls.execve(path, command, env) for path in paths]
    # execvp(3): go on past what is missing or not executable.
    missing = ("ENOENT", "ENOTDIR", "EACCES")
    return [*(calls.allow(call, accept=missing) for call in tries[:-1]), *tries[-1:]]


def environment(spec: Spec, facts: Facts) -> tuple[str, ...]:
    """``NAME=value`` of everything the command gets; nothing else of the caller's passes on."""
    values: dict[str, str] = {"PATH": DEFAULT_PATH}
    for name in PASSED_ON:
        if name in facts.environment:
            values[name] = facts.environment[name]
    if spec.tty:
        values.setdefault("TERM", "xterm")
    _merge(values, spec.env, facts)
    return tuple(f"{name}={value}" for name, value in values.items())


def _merge(values: dict[str, str], env: Mapping[str, str | None], facts: Facts) -> None:
    for name, value in env.items():
        given = facts.environment.get(name) if value is None else value
        if given is None:
            values.pop(name, None)
        else:
            values[name] = given


def supervise(draft: Draft, launch: Launch, terminal: Reg | None) -> None:
    spec = draft.spec
    status = draft.reg("status", RegKind.NUMBER)
    draft.parent(
        "supervise the command",
        Await(
            child=launch.child,
            pidfd=launch.pidfd,
            signals=launch.signals,
            status=status,
            stop_signal=Int(abi.signal_number(spec.stop_signal), spec.stop_signal),
            stop_timeout=spec.stop_timeout,
            timeout=spec.timeout,
            terminal=terminal,
        ),
        at="command",
    )


