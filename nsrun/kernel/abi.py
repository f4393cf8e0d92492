"""The kernel's binary interface: system call numbers, flags and magic numbers.

Each constant stands here once, under the name of the uapi header that defines it. Text for
people is made by :func:`flag_text`, which prints a remainder it does not know as hex.
"""

from __future__ import annotations

import functools
import os
import signal
from enum import IntEnum, IntFlag

# (x86_64, aarch64): asm/unistd_64.h and asm-generic/unistd.h; None: the machine has no such call.
_MACHINES = ("x86_64", "aarch64")
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "bind": (49, 200),
    "bpf": (321, 280),
    "capget": (125, 90),
    "capset": (126, 91),
    "chdir": (80, 49),
    "clone": (56, 220),
    "clone3": (435, 435),
    "close": (3, 57),
    "close_range": (436, 436),
    "connect": (42, 203),
    "dup3": (292, 24),
    "execve": (59, 221),
    "execveat": (322, 281),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "fallocate": (285, 47),
    "fchdir": (81, 50),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "fcntl": (72, 25),
    "flock": (73, 32),
    "fsconfig": (431, 431),
    "fsetxattr": (190, 7),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "fstat": (5, 80),
    "fstatfs": (138, 44),
    "ftruncate": (77, 46),
    "getcwd": (79, 17),
    "getpid": (39, 172),
    "getdents64": (217, 61),
    "getppid": (110, 173),
    "getsockopt": (55, 209),
    "gettid": (186, 178),
    "ioctl": (16, 29),
    "ioprio_set": (251, 30),
    "keyctl": (250, 219),
    "kill": (62, 129),
    "landlock_add_rule": (445, 445),
    "landlock_create_ruleset": (444, 444),
    "landlock_restrict_self": (446, 446),
    "linkat": (265, 37),
    "listen": (50, 201),
    "listmount": (458, 458),
    "lseek": (8, 62),
    "memfd_create": (319, 279),
    "mkdirat": (258, 34),
    "mknodat": (259, 33),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_unlink": (241, 181),
    "open_tree": (428, 428),
    "openat": (257, 56),
    "openat2": (437, 437),
    "personality": (135, 92),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pipe2": (293, 59),
    "pivot_root": (155, 41),
    "poll": (7, None),
    "ppoll": (271, 73),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "read": (0, 63),
    "readlinkat": (267, 78),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "renameat2": (316, 276),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "seccomp": (317, 277),
    "sendfile": (40, 71),
    "sendmsg": (46, 211),
    "sendto": (44, 206),
    "set_mempolicy": (238, 237),
    "setdomainname": (171, 162),
    "setgid": (106, 144),
    "setgroups": (116, 159),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "setpriority": (141, 140),
    "setresgid": (119, 149),
    "setresuid": (117, 147),
    "setsid": (112, 157),
    "setsockopt": (54, 208),
    "shutdown": (48, 210),
    "setuid": (105, 146),
    "setxattr": (188, 5),
    "signalfd4": (289, 74),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "statfs": (137, 43),
    "statmount": (457, 457),
    "statx": (332, 291),
    "symlinkat": (266, 36),
    "timerfd_create": (283, 85),
    "timerfd_settime": (286, 86),
    "umask": (95, 166),
    "umount2": (166, 39),
    "unlinkat": (263, 35),
    "unshare": (272, 97),
    "wait4": (61, 260),
    "waitid": (247, 95),
    "write": (1, 64),
}


class UnknownSyscallError(LookupError):
    """A system call that this machine's table does not hold."""


def syscall_number(name: str, machine: str) -> int:
    """The number of system call ``name`` on ``machine`` (uname -m).

    Raises UnknownSyscallError where the machine or the call is not known: a guessed number
    would be another call.
    """
    if machine not in _MACHINES:
        raise UnknownSyscallError(f"no system call table for {machine}")
    number = _NUMBERS.get(name, (None, None))[_MACHINES.index(machine)]
    if number is None:
        raise UnknownSyscallError(f"no system call {name} on {machine}")
    return number


def syscall_names() -> frozenset[str]:
    """Every system call a plan may name."""
    return frozenset(_NUMBERS)


AT_FDCWD = -100
UINT_MAX = 0xFFFF_FFFF
# uid_t and gid_t -1 means "leave as it is" to setresuid(2) and is never an id.
ID_MAX = 0xFFFF_FFFE


class CloneFlag(IntFlag):
    """linux/sched.h"""

    CLONE_NEWTIME = 0x80
    CLONE_PIDFD = 0x1000
    CLONE_PARENT = 0x8000
    CLONE_NEWNS = 0x20000
    CLONE_NEWCGROUP = 0x2000000
    CLONE_NEWUTS = 0x4000000
    CLONE_NEWIPC = 0x8000000
    CLONE_NEWUSER = 0x10000000
    CLONE_NEWPID = 0x20000000
    CLONE_NEWNET = 0x40000000
    CLONE_CLEAR_SIGHAND = 0x100000000
    CLONE_INTO_CGROUP = 0x200000000


class MountFlag(IntFlag):
    """linux/mount.h, MS_*: mount(2)"""

    MS_RDONLY = 0x1
    MS_NOSUID = 0x2
    MS_NODEV = 0x4
    MS_NOEXEC = 0x8
    MS_REMOUNT = 0x20
    MS_BIND = 0x1000
    MS_MOVE = 0x2000
    MS_REC = 0x4000
    MS_UNBINDABLE = 0x20000
    MS_PRIVATE = 0x40000
    MS_SLAVE = 0x80000
    MS_SHARED = 0x100000


class UmountFlag(IntFlag):
    """linux/fs.h, MNT_*: umount2(2)"""

    MNT_FORCE = 1
    MNT_DETACH = 2
    MNT_EXPIRE = 4
    UMOUNT_NOFOLLOW = 8


class OpenTreeFlag(IntFlag):
    """linux/mount.h, with the AT_* flags open_tree(2) takes"""

    OPEN_TREE_CLONE = 1
    AT_SYMLINK_NOFOLLOW = 0x100
    AT_NO_AUTOMOUNT = 0x800
    AT_EMPTY_PATH = 0x1000
    AT_RECURSIVE = 0x8000
    OPEN_TREE_CLOEXEC = os.O_CLOEXEC


class MoveMountFlag(IntFlag):
    """linux/mount.h: move_mount(2)"""

    MOVE_MOUNT_F_SYMLINKS = 0x1
    MOVE_MOUNT_F_AUTOMOUNTS = 0x2
    MOVE_MOUNT_F_EMPTY_PATH = 0x4
    MOVE_MOUNT_T_SYMLINKS = 0x10
    MOVE_MOUNT_T_AUTOMOUNTS = 0x20
    MOVE_MOUNT_T_EMPTY_PATH = 0x40
    MOVE_MOUNT_SET_GROUP = 0x100
    MOVE_MOUNT_BENEATH = 0x200


class FsopenFlag(IntFlag):
    """linux/mount.h: fsopen(2)"""

    FSOPEN_CLOEXEC = 1


class FsmountFlag(IntFlag):
    """linux/mount.h: fsmount(2)"""

    FSMOUNT_CLOEXEC = 1


class FspickFlag(IntFlag):
    """linux/mount.h: fspick(2)"""

    FSPICK_CLOEXEC = 1
    FSPICK_SYMLINK_NOFOLLOW = 2
    FSPICK_NO_AUTOMOUNT = 4
    FSPICK_EMPTY_PATH = 8


class FsconfigCommand(IntEnum):
    """linux/mount.h, enum fsconfig_command"""

    FSCONFIG_SET_FLAG = 0
    FSCONFIG_SET_STRING = 1
    FSCONFIG_SET_BINARY = 2
    FSCONFIG_SET_PATH = 3
    FSCONFIG_SET_PATH_EMPTY = 4
    FSCONFIG_SET_FD = 5
    FSCONFIG_CMD_CREATE = 6
    FSCONFIG_CMD_RECONFIGURE = 7


# strndup_user(value, 256) in fsconfig(2): a longer string is EINVAL.
FSCONFIG_STRING_MAX = 255


class MountAttr(IntFlag):
    """linux/mount.h, MOUNT_ATTR_*: fsmount(2), mount_setattr(2)"""

    MOUNT_ATTR_RDONLY = 0x1
    MOUNT_ATTR_NOSUID = 0x2
    MOUNT_ATTR_NODEV = 0x4
    MOUNT_ATTR_NOEXEC = 0x8
    MOUNT_ATTR_NOATIME = 0x10
    MOUNT_ATTR_STRICTATIME = 0x20
    MOUNT_ATTR__ATIME = 0x70
    MOUNT_ATTR_NODIRATIME = 0x80
    MOUNT_ATTR_IDMAP = 0x100000
    MOUNT_ATTR_NOSYMFOLLOW = 0x200000


class AtFlag(IntFlag):
    """linux/fcntl.h, AT_*"""

    AT_SYMLINK_NOFOLLOW = 0x100
    AT_REMOVEDIR = 0x200
    AT_NO_AUTOMOUNT = 0x800
    AT_EMPTY_PATH = 0x1000
    AT_RECURSIVE = 0x8000


class OpenFlag(IntFlag):
    """asm/fcntl.h, O_*; the numbers are this machine's"""

    O_WRONLY = os.O_WRONLY
    O_RDWR = os.O_RDWR
    O_CREAT = os.O_CREAT
    O_EXCL = os.O_EXCL
    O_NOCTTY = os.O_NOCTTY
    O_TRUNC = os.O_TRUNC
    O_NONBLOCK = os.O_NONBLOCK
    O_DIRECTORY = os.O_DIRECTORY
    O_NOFOLLOW = os.O_NOFOLLOW
    O_CLOEXEC = os.O_CLOEXEC
    O_PATH = os.O_PATH


class ResolveFlag(IntFlag):
    """linux/openat2.h"""

    RESOLVE_NO_XDEV = 0x01
    RESOLVE_NO_MAGICLINKS = 0x02
    RESOLVE_NO_SYMLINKS = 0x04
    RESOLVE_BENEATH = 0x08
    RESOLVE_IN_ROOT = 0x10
    RESOLVE_CACHED = 0x20


class CloseRangeFlag(IntFlag):
    """linux/close_range.h"""

    CLOSE_RANGE_UNSHARE = 2
    CLOSE_RANGE_CLOEXEC = 4


class FileType(IntFlag):
    """linux/stat.h, S_IF*"""

    S_IFIFO = 0o010000
    S_IFCHR = 0o020000
    S_IFDIR = 0o040000
    S_IFREG = 0o100000


class StatxMask(IntFlag):
    """linux/stat.h, STATX_*"""

    STATX_TYPE = 0x1
    STATX_MODE = 0x2
    STATX_SIZE = 0x200
    STATX_BASIC_STATS = 0x7FF


class Magic(IntEnum):
    """linux/magic.h: f_type of statfs(2)"""

    PROC_SUPER_MAGIC = 0x9FA0
    SYSFS_MAGIC = 0x62656572
    TMPFS_MAGIC = 0x01021994
    DEVPTS_SUPER_MAGIC = 0x1CD1
    NSFS_MAGIC = 0x6E736673
    CGROUP2_SUPER_MAGIC = 0x63677270
    CGROUP_SUPER_MAGIC = 0x27E0EB


class Prctl(IntEnum):
    """linux/prctl.h"""

    PR_SET_PDEATHSIG = 1
    PR_SET_DUMPABLE = 4
    PR_SET_KEEPCAPS = 8
    PR_SET_NAME = 15
    PR_CAPBSET_READ = 23
    PR_CAPBSET_DROP = 24
    PR_SET_CHILD_SUBREAPER = 36
    PR_SET_NO_NEW_PRIVS = 38
    PR_GET_NO_NEW_PRIVS = 39
    PR_CAP_AMBIENT = 47


class PrCapAmbient(IntEnum):
    """linux/prctl.h, PR_CAP_AMBIENT_*"""

    PR_CAP_AMBIENT_RAISE = 2
    PR_CAP_AMBIENT_LOWER = 3
    PR_CAP_AMBIENT_CLEAR_ALL = 4


class AuditArch(IntEnum):
    """linux/audit.h, AUDIT_ARCH_*: ``arch`` of struct seccomp_data (seccomp(2))"""

    AUDIT_ARCH_I386 = 0x40000003
    AUDIT_ARCH_ARM = 0x40000028
    AUDIT_ARCH_X86_64 = 0xC000003E
    AUDIT_ARCH_AARCH64 = 0xC00000B7


class SeccompOperation(IntEnum):
    """linux/seccomp.h: operations of seccomp(2)"""

    SECCOMP_SET_MODE_STRICT = 0
    SECCOMP_SET_MODE_FILTER = 1
    SECCOMP_GET_ACTION_AVAIL = 2
    SECCOMP_GET_NOTIF_SIZES = 3


class LandlockAccessFs(IntFlag):
    """linux/landlock.h, LANDLOCK_ACCESS_FS_*; REFER since ABI 2, TRUNCATE 3, IOCTL_DEV 5"""

    EXECUTE = 1
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


class LandlockScope(IntFlag):
    """linux/landlock.h, LANDLOCK_SCOPE_*; since ABI 6"""

    ABSTRACT_UNIX_SOCKET = 1
    SIGNAL = 2


class SeccompFlag(IntFlag):
    """linux/seccomp.h: flags of SECCOMP_SET_MODE_FILTER"""

    SECCOMP_FILTER_FLAG_TSYNC = 1
    SECCOMP_FILTER_FLAG_LOG = 2
    SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
    SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
    SECCOMP_FILTER_FLAG_TSYNC_ESRCH = 16
    SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 32


class SeccompAction(IntEnum):
    """linux/seccomp.h, SECCOMP_RET_*: the upper half is the action, the lower its data"""

    SECCOMP_RET_KILL_PROCESS = 0x80000000
    SECCOMP_RET_KILL_THREAD = 0x00000000
    SECCOMP_RET_TRAP = 0x00030000
    SECCOMP_RET_ERRNO = 0x00050000
    SECCOMP_RET_USER_NOTIF = 0x7FC00000
    SECCOMP_RET_TRACE = 0x7FF00000
    SECCOMP_RET_LOG = 0x7FFC0000
    SECCOMP_RET_ALLOW = 0x7FFF0000


# BPF_MAXINSNS, linux/bpf_common.h: the most instructions of a filter.
BPF_MAX_INSTRUCTIONS = 4096


class Capability(IntEnum):
    """linux/capability.h"""

    CAP_CHOWN = 0
    CAP_DAC_OVERRIDE = 1
    CAP_DAC_READ_SEARCH = 2
    CAP_FOWNER = 3
    CAP_FSETID = 4
    CAP_KILL = 5
    CAP_SETGID = 6
    CAP_SETUID = 7
    CAP_SETPCAP = 8
    CAP_LINUX_IMMUTABLE = 9
    CAP_NET_BIND_SERVICE = 10
    CAP_NET_BROADCAST = 11
    CAP_NET_ADMIN = 12
    CAP_NET_RAW = 13
    CAP_IPC_LOCK = 14
    CAP_IPC_OWNER = 15
    CAP_SYS_MODULE = 16
    CAP_SYS_RAWIO = 17
    CAP_SYS_CHROOT = 18
    CAP_SYS_PTRACE = 19
    CAP_SYS_PACCT = 20
    CAP_SYS_ADMIN = 21
    CAP_SYS_BOOT = 22
    CAP_SYS_NICE = 23
    CAP_SYS_RESOURCE = 24
    CAP_SYS_TIME = 25
    CAP_SYS_TTY_CONFIG = 26
    CAP_MKNOD = 27
    CAP_LEASE = 28
    CAP_AUDIT_WRITE = 29
    CAP_AUDIT_CONTROL = 30
    CAP_SETFCAP = 31
    CAP_MAC_OVERRIDE = 32
    CAP_MAC_ADMIN = 33
    CAP_SYSLOG = 34
    CAP_WAKE_ALARM = 35
    CAP_BLOCK_SUSPEND = 36
    CAP_AUDIT_READ = 37
    CAP_PERFMON = 38
    CAP_BPF = 39
    CAP_CHECKPOINT_RESTORE = 40


# _LINUX_CAPABILITY_VERSION_3, linux/capability.h: two 32-bit words a set.
CAPABILITY_VERSION_3 = 0x20080522


class RlimitResource(IntEnum):
    """asm-generic/resource.h"""

    RLIMIT_CPU = 0
    RLIMIT_FSIZE = 1
    RLIMIT_DATA = 2
    RLIMIT_STACK = 3
    RLIMIT_CORE = 4
    RLIMIT_RSS = 5
    RLIMIT_NPROC = 6
    RLIMIT_NOFILE = 7
    RLIMIT_MEMLOCK = 8
    RLIMIT_AS = 9
    RLIMIT_LOCKS = 10
    RLIMIT_SIGPENDING = 11
    RLIMIT_MSGQUEUE = 12
    RLIMIT_NICE = 13
    RLIMIT_RTPRIO = 14
    RLIMIT_RTTIME = 15


RLIM_INFINITY = 0xFFFF_FFFF_FFFF_FFFF


class Ioctl(IntEnum):
    """asm-generic/ioctls.h, linux/sockios.h, linux/nsfs.h"""

    TCGETS = 0x5401
    TCSETS = 0x5402
    TIOCSCTTY = 0x540E
    TIOCGWINSZ = 0x5413
    TIOCSWINSZ = 0x5414
    TIOCSPTLCK = 0x40045431
    TIOCGPTPEER = 0x5441
    SIOCSIFFLAGS = 0x8914
    NS_GET_USERNS = 0xB701
    NS_GET_NSTYPE = 0xB703


class TerminalFlag(IntFlag):
    """asm-generic/termbits.h: c_lflag of struct termios"""

    ISIG = 0x0001
    ICANON = 0x0002
    ECHO = 0x0008
    ECHOE = 0x0010
    ECHOK = 0x0020
    ECHOCTL = 0x0200
    ECHOKE = 0x0800
    IEXTEN = 0x8000


class InterfaceFlag(IntFlag):
    """linux/if.h"""

    IFF_UP = 0x1
    IFF_LOOPBACK = 0x8
    IFF_RUNNING = 0x40


class SocketFamily(IntEnum):
    """linux/socket.h, AF_*"""

    AF_UNIX = 1
    AF_INET = 2
    AF_INET6 = 10
    AF_NETLINK = 16


class SocketType(IntFlag):
    """linux/net.h, SOCK_*"""

    SOCK_STREAM = 1
    SOCK_DGRAM = 2
    SOCK_RAW = 3
    SOCK_SEQPACKET = 5
    SOCK_NONBLOCK = os.O_NONBLOCK
    SOCK_CLOEXEC = os.O_CLOEXEC


class SocketLevel(IntEnum):
    """asm-generic/socket.h, linux/socket.h: the level of a socket's option"""

    SOL_SOCKET = 1
    SOL_IPV6 = 41
    SOL_NETLINK = 270


class SocketOption(IntEnum):
    """asm-generic/socket.h, SO_*"""

    SO_REUSEADDR = 2
    SO_SNDTIMEO = 21
    SO_BINDTODEVICE = 25
    SO_BINDTOIFINDEX = 62


class NetlinkOption(IntEnum):
    """linux/netlink.h, NETLINK_*"""

    NETLINK_EXT_ACK = 11


class Ipv6Option(IntEnum):
    """linux/in6.h, IPV6_*"""

    IPV6_V6ONLY = 26


class MsgFlag(IntFlag):
    """linux/socket.h, MSG_*"""

    MSG_PEEK = 0x2
    MSG_DONTWAIT = 0x40
    MSG_NOSIGNAL = 0x4000


class SigprocmaskHow(IntEnum):
    """asm-generic/signal-defs.h"""

    SIG_BLOCK = 0
    SIG_UNBLOCK = 1
    SIG_SETMASK = 2


class SignalfdFlag(IntFlag):
    """linux/signalfd.h"""

    SFD_NONBLOCK = os.O_NONBLOCK
    SFD_CLOEXEC = os.O_CLOEXEC


class WaitId(IntEnum):
    """linux/wait.h, the idtype of waitid(2)"""

    P_ALL = 0
    P_PID = 1
    P_PGID = 2
    P_PIDFD = 3


class WaitFlag(IntFlag):
    """linux/wait.h"""

    WNOHANG = 0x1
    WEXITED = 0x4
    WNOWAIT = 0x1000000


class Keyctl(IntEnum):
    """linux/keyctl.h"""

    KEYCTL_JOIN_SESSION_KEYRING = 1


class BpfCommand(IntEnum):
    """linux/bpf.h, enum bpf_cmd: bpf(2)"""

    BPF_PROG_LOAD = 5
    BPF_PROG_ATTACH = 8
    BPF_PROG_QUERY = 16


class BpfProgType(IntEnum):
    """linux/bpf.h, enum bpf_prog_type"""

    BPF_PROG_TYPE_CGROUP_DEVICE = 15


class BpfAttachType(IntEnum):
    """linux/bpf.h, enum bpf_attach_type"""

    BPF_CGROUP_DEVICE = 6


class BpfAttachFlag(IntFlag):
    """linux/bpf.h: flags of BPF_PROG_ATTACH"""

    BPF_F_ALLOW_OVERRIDE = 1
    BPF_F_ALLOW_MULTI = 2


class BpfDeviceAccess(IntFlag):
    """linux/bpf.h, BPF_DEVCG_ACC_*: the upper half of access_type"""

    BPF_DEVCG_ACC_MKNOD = 1
    BPF_DEVCG_ACC_READ = 2
    BPF_DEVCG_ACC_WRITE = 4


class BpfDeviceType(IntEnum):
    """linux/bpf.h, BPF_DEVCG_DEV_*: the lower half of access_type"""

    BPF_DEVCG_DEV_BLOCK = 1
    BPF_DEVCG_DEV_CHAR = 2


class FlockOperation(IntFlag):
    """asm-generic/fcntl.h, LOCK_*: flock(2)"""

    LOCK_SH = 1
    LOCK_EX = 2
    LOCK_NB = 4
    LOCK_UN = 8


class RenameFlag(IntFlag):
    """linux/fs.h, RENAME_*"""

    RENAME_NOREPLACE = 1
    RENAME_EXCHANGE = 2


@functools.cache
def flag_text(value: int, kind: type[IntFlag]) -> str:
    """``value`` as ``NAME|NAME|0x40``; "0" for none. Multi-bit members are matched whole."""
    if value == 0:
        return "0"
    # Iteration leaves out members of several bits (SOCK_SEQPACKET is 5); __members__ has all.
    members = kind.__members__
    names: list[str] = []
    rest = value
    for name, member in sorted(members.items(), key=lambda item: -item[1].value.bit_count()):
        if member.value and rest & member.value == member.value:
            names.append(name)
            rest &= ~member.value
    names.sort(key=list(members).index)
    if rest:
        names.append(hex(rest))
    return "|".join(names)


def signal_name(number: int) -> str:
    """``SIGTERM``, ``SIGRTMIN+3``, or the number itself without a name."""
    low = int(signal.SIGRTMIN)
    if low < number < int(signal.SIGRTMAX):
        return f"SIGRTMIN+{number - low}"
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def signal_number(name: str) -> int:
    """The number of ``SIGTERM`` or ``SIGRTMIN+3``; raises ValueError for no signal's name."""
    base, plus, offset = name.partition("+")
    number = int(signal.Signals[base]) if base in signal.Signals.__members__ else 0
    if not number or (plus and (base != "SIGRTMIN" or not offset.isdigit())):
        raise ValueError(f"no signal is called {name}")
    number += int(offset) if plus else 0
    if number > int(signal.SIGRTMAX):
        raise ValueError(f"no signal is called {name}")
    return number
