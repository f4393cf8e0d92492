"""One typed maker for each system call a plan may hold, with the kernel's own argument names.

A maker only describes the call; nothing here enters the kernel. Each docstring names the man
page. ``fd`` arguments are registers, or ``AT_FDCWD`` as :data:`CWD`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from collections.abc import Iterable
from enum import IntEnum, IntFlag

from nsrun.kernel import abi
from nsrun.kernel.values import (
    NULL,
    Arg,
    Bytes,
    Call,
    Expect,
    Fmt,
    Hole,
    Int,
    Length,
    Out,
    Pointer,
    Reg,
    RegKind,
    Str,
    Strings,
)

CWD = Int(abi.AT_FDCWD, "AT_FDCWD")
Fd = Reg | Int
Path = str | Str | Fmt


def allow(
    call: Call, *, accept: Iterable[str] = (), skip: Iterable[str] = (), log: Reg | None = None
) -> Call:
    """``call`` with errnos that count as success or end its action, and the log to read."""
    return dataclasses.replace(
        call,
        accept=call.accept + tuple(accept),
        skip=call.skip + tuple(skip),
        log=log or call.log,
    )


def flags(value: int, kind: type[IntFlag]) -> Int:
    return Int(int(value), abi.flag_text(int(value), kind))


def enum(value: IntEnum) -> Int:
    return Int(int(value), value.name)


def octal(mode: int) -> Int:
    return Int(mode, f"0{mode:o}")


def _path(path: Path) -> Str | Fmt:
    return Str(path) if isinstance(path, str) else path


def _string(value: str | Arg | None) -> Arg:
    if value is None:
        return NULL
    return Str(value) if isinstance(value, str) else value


# --- files and paths -------------------------------------------------------------------------


def openat(dirfd: Fd, pathname: Path, oflags: int, mode: int = 0, *, save: Reg | None) -> Call:
    """openat(2)"""
    args: tuple[Arg, ...] = (dirfd, _path(pathname), flags(oflags, abi.OpenFlag))
    if oflags & abi.OpenFlag.O_CREAT:
        args += (octal(mode),)
    return Call(name="openat", args=args, save=save)


def openat2(
    dirfd: Fd, pathname: Path, oflags: int, resolve: int, *, mode: int = 0, save: Reg
) -> Call:
    """openat2(2): ``resolve`` holds for every component, so no symlink leads astray."""
    text = f"{{{abi.flag_text(oflags, abi.OpenFlag)}"
    if mode:
        text += f", 0{mode:o}"
    text += f", {abi.flag_text(resolve, abi.ResolveFlag)}}}"
    how = struct.pack("=QQQ", oflags, mode, resolve)
    return Call(
        name="openat2",
        args=(dirfd, _path(pathname), Bytes(how, text), Int(len(how))),
        save=save,
    )


def close(fd: Reg) -> Call:
    """close(2)"""
    return Call(name="close", args=(fd,))


def write(fd: Fd, data: bytes | Fmt, text: str = "") -> Call:
    """write(2): a short write is a failure."""
    if isinstance(data, Fmt):
        return Call(name="write", args=(fd, data, Length(data)))
    shown = text or data.decode("utf-8", "backslashreplace")
    return Call(name="write", args=(fd, Bytes(data, shown), Int(len(data))), result=len(data))


def read(fd: Reg, size: int) -> Call:
    """read(2) of at most ``size`` bytes, which nobody keeps."""
    return Call(name="read", args=(fd, Out(size), Int(size)))


def getdents64(fd: Reg, size: int) -> Call:
    """getdents(2): entries of an open folder, which nobody keeps."""
    return Call(name="getdents64", args=(fd, Out(size), Int(size)))


def mkdirat(dirfd: Fd, pathname: Path, mode: int) -> Call:
    """mkdir(2)"""
    return Call(name="mkdirat", args=(dirfd, _path(pathname), octal(mode)))


def read_digit_zero(fd: Reg, offset: int, text: str) -> Call:
    """read(2) of a text of the kernel's in which a number that begins at ``offset`` is 0."""
    # A number is written without zeros before it: another one begins otherwise.
    check = Expect(offset, 1, 0xFF, ord("0"), text)
    size = 128
    return Call(name="read", args=(fd, Out(size, expects=(check,)), Int(size)))


def sendfile_whole(out: Reg, source: Reg, size: int) -> Call:
    """sendfile(2) of the first ``size`` bytes of ``source``, wherever it has been read to."""
    # The buffer is zero: the offset to begin at, which is written to and moves ``source`` not.
    return Call(name="sendfile", args=(out, source, Out(8), Int(size)))


def wait_a_moment(nanoseconds: int) -> Call:
    """ppoll(2) of no descriptor: it ends when the time is over."""
    time = struct.pack("=qq", *divmod(nanoseconds, 10**9))
    text = f"{nanoseconds / 10**6:g} ms"
    return Call(name="ppoll", args=(NULL, Int(0), Bytes(time, text), NULL, Int(8)))


def mknodat(dirfd: Fd, pathname: Path, mode: int, dev: int = 0) -> Call:
    """mknod(2): used to make an empty regular file in one call."""
    kind, bits = mode & 0o170000, mode & 0o7777
    text = f"{abi.flag_text(kind, abi.FileType)}|0{bits:o}"
    return Call(name="mknodat", args=(dirfd, _path(pathname), Int(mode, text), Int(dev)))


def symlinkat(target: str, newdirfd: Fd, linkpath: Path) -> Call:
    """symlink(2)"""
    return Call(name="symlinkat", args=(Str(target), newdirfd, _path(linkpath)))


def unlinkat(dirfd: Fd, pathname: Path, aflags: int = 0) -> Call:
    """unlink(2); AT_REMOVEDIR removes an empty folder."""
    return Call(name="unlinkat", args=(dirfd, _path(pathname), flags(aflags, abi.AtFlag)))


def fchown(fd: Reg, uid: int, gid: int) -> Call:
    """chown(2); -1 leaves an id as it is."""
    return Call(name="fchown", args=(fd, Int(uid), Int(gid)))


def fchownat(dirfd: Fd, pathname: Path, uid: int, gid: int, aflags: int) -> Call:
    """chown(2); -1 leaves an id as it is."""
    ids = Int(uid), Int(gid)
    return Call(name="fchownat", args=(dirfd, _path(pathname), *ids, flags(aflags, abi.AtFlag)))


def fsetxattr(fd: Reg, name: str, value: bytes) -> Call:
    """setxattr(2)"""
    return Call(name="fsetxattr", args=(fd, Str(name), Bytes(value), Int(len(value)), Int(0)))


def readlink_is(dirfd: Reg, pathname: str, target: str) -> Call:
    """readlink(2): the symbolic link says exactly ``target``."""
    data = os_bytes(target)
    expects = tuple(
        Expect(at, len(data[at : at + 1]), 0xFF, data[at], f"it leads to {target}")
        for at in range(len(data))
    )
    return Call(
        name="readlinkat",
        args=(dirfd, Str(pathname), Out(4096, expects=expects, text="link"), Int(4096)),
        result=len(data),
    )


def fchmod(fd: Reg, mode: int) -> Call:
    """fchmod(2)"""
    return Call(name="fchmod", args=(fd, octal(mode)))


def fchdir(fd: Reg) -> Call:
    """chdir(2)"""
    return Call(name="fchdir", args=(fd,))


def chdir(path: str) -> Call:
    """chdir(2)"""
    return Call(name="chdir", args=(Str(path),))


def getcwd_inside() -> Call:
    """getcwd(2), where the answer must lie below the root.

    The kernel answers "(unreachable)/..." for a working directory outside the root.
    """
    check = Expect(0, 1, 0xFF, ord("/"), "the working directory lies below the root")
    return Call(name="getcwd", args=(Out(4096, expects=(check,), text="cwd"), Int(4096)))


# struct statx, linux/stat.h: stx_mode 28, stx_ino 32, stx_size 40, stx_rdev_major 128,
# stx_rdev_minor 132.
STATX_SIZE_OF = 256
STATX_MODE_AT, STATX_INO_AT, STATX_SIZE_AT = 28, 32, 40
STATX_RDEV_MAJOR_AT, STATX_RDEV_MINOR_AT = 128, 132
S_IFMT = 0o170000


def statx(fd: Fd, *expects: Expect, path: Path = "") -> Call:
    """statx(2) of a descriptor (or of ``path`` below it), checked against ``expects``."""
    at = abi.AtFlag.AT_EMPTY_PATH if path == "" else abi.AtFlag.AT_SYMLINK_NOFOLLOW
    return Call(
        name="statx",
        args=(
            fd,
            _path(path),
            flags(at, abi.AtFlag),
            Int(abi.StatxMask.STATX_BASIC_STATS, "STATX_BASIC_STATS"),
            Out(STATX_SIZE_OF, expects=expects, text="; ".join(e.text for e in expects)),
        ),
    )


def is_device(major: int, minor: int) -> tuple[Expect, ...]:
    """The file is the character device ``major``:``minor``."""
    return (
        Expect(STATX_MODE_AT, 2, S_IFMT, abi.FileType.S_IFCHR, "a character device"),
        Expect(STATX_RDEV_MAJOR_AT, 4, abi.UINT_MAX, major, f"major {major}"),
        Expect(STATX_RDEV_MINOR_AT, 4, abi.UINT_MAX, minor, f"minor {minor}"),
    )


def fstatfs(fd: Reg, *magics: abi.Magic) -> Call:
    """fstatfs(2): the descriptor lies on the file system with this magic number."""
    (magic,) = magics
    check = Expect(0, 8, 0xFFFF_FFFF_FFFF_FFFF, int(magic), f"f_type == {magic.name}")
    return Call(name="fstatfs", args=(fd, Out(120, expects=(check,), text=magic.name)))


def dup3(oldfd: Reg, newfd: int) -> Call:
    """dup(2)"""
    return Call(name="dup3", args=(oldfd, Int(newfd), Int(0)))


def close_range(first: int, last: int, cflags: int) -> Call:
    """close_range(2)"""
    end = Int(last, "UINT_MAX") if last == abi.UINT_MAX else Int(last)
    return Call(name="close_range", args=(Int(first), end, flags(cflags, abi.CloseRangeFlag)))


def pipe2(pflags: int, *, read_end: Reg, write_end: Reg) -> Call:
    """pipe(2)"""
    out = Out(8, saves=(Hole(0, 4, read_end), Hole(4, 4, write_end)), text="pipe")
    return Call(name="pipe2", args=(out, flags(pflags, abi.OpenFlag)))


def flock(fd: Reg, operation: int) -> Call:
    """flock(2)"""
    return Call(name="flock", args=(fd, flags(operation, abi.FlockOperation)))


def renameat2(olddir: Fd, old: Path, newdir: Fd, new: Path, rflags: int = 0) -> Call:
    """rename(2)"""
    return Call(
        name="renameat2",
        args=(olddir, _path(old), newdir, _path(new), flags(rflags, abi.RenameFlag)),
    )


# --- mounts ----------------------------------------------------------------------------------


def mount(
    source: str | None, target: str, fstype: str | None, mflags: int, data: str | None = None
) -> Call:
    """mount(2)"""
    return Call(
        name="mount",
        args=(
            _string(source),
            Str(target),
            _string(fstype),
            flags(mflags, abi.MountFlag),
            _string(data),
        ),
    )


def bind(source: Path, target: str) -> Call:
    """mount(2) with MS_BIND"""
    mflags = flags(abi.MountFlag.MS_BIND, abi.MountFlag)
    return Call(name="mount", args=(_path(source), Str(target), NULL, mflags, NULL))


def umount2(target: Path, uflags: int) -> Call:
    """umount(2)"""
    return Call(name="umount2", args=(_path(target), flags(uflags, abi.UmountFlag)))


def pivot_root(new_root: str, put_old: str) -> Call:
    """pivot_root(2)"""
    return Call(name="pivot_root", args=(Str(new_root), Str(put_old)))


def open_tree(dirfd: Fd, path: Path, oflags: int, *, save: Reg) -> Call:
    """open_tree(2); with OPEN_TREE_CLONE a detached copy of the mount."""
    return Call(
        name="open_tree",
        args=(dirfd, _path(path), flags(oflags, abi.OpenTreeFlag)),
        save=save,
    )


def move_mount(from_fd: Fd, from_path: Path, to_fd: Fd, to_path: Path, mflags: int) -> Call:
    """move_mount(2)"""
    return Call(
        name="move_mount",
        args=(
            from_fd,
            _path(from_path),
            to_fd,
            _path(to_path),
            flags(mflags, abi.MoveMountFlag),
        ),
    )


def fsopen(fstype: str, *, save: Reg) -> Call:
    """fsopen(2)"""
    return Call(name="fsopen", args=(Str(fstype), enum_flag("FSOPEN_CLOEXEC", 1)), save=save)


def enum_flag(name: str, value: int) -> Int:
    return Int(value, name)


def fsconfig_flag(fd: Reg, key: str) -> Call:
    """fsconfig(2): a parameter without a value."""
    command = enum(abi.FsconfigCommand.FSCONFIG_SET_FLAG)
    return Call(name="fsconfig", args=(fd, command, Str(key), NULL, Int(0)), log=fd)


def fsconfig_string(fd: Reg, key: str, value: str | Fmt) -> Call:
    """fsconfig(2): a parameter with a value of at most 255 bytes."""
    command = enum(abi.FsconfigCommand.FSCONFIG_SET_STRING)
    return Call(name="fsconfig", args=(fd, command, Str(key), _path(value), Int(0)), log=fd)


def fsconfig_create(fd: Reg) -> Call:
    """fsconfig(2): make the superblock."""
    command = enum(abi.FsconfigCommand.FSCONFIG_CMD_CREATE)
    return Call(name="fsconfig", args=(fd, command, NULL, NULL, Int(0)), log=fd)


def fsconfig_reconfigure(fd: Reg) -> Call:
    """fsconfig(2): change the superblock's parameters."""
    command = enum(abi.FsconfigCommand.FSCONFIG_CMD_RECONFIGURE)
    return Call(name="fsconfig", args=(fd, command, NULL, NULL, Int(0)), log=fd)


def fsmount(fd: Reg, attributes: int, *, save: Reg) -> Call:
    """fsmount(2): a detached mount of the superblock."""
    return Call(
        name="fsmount",
        args=(fd, enum_flag("FSMOUNT_CLOEXEC", 1), flags(attributes, abi.MountAttr)),
        save=save,
        log=fd,
    )


def fspick(dirfd: Fd, path: Path, pflags: int, *, save: Reg) -> Call:
    """fspick(2): the superblock of what is mounted there, to be reconfigured."""
    return Call(name="fspick", args=(dirfd, _path(path), flags(pflags, abi.FspickFlag)), save=save)


def mount_setattr(
    fd: Fd,
    path: Path,
    aflags: int,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns: Reg | None = None,
) -> Call:
    """mount_setattr(2); ``userns`` is the user namespace of MOUNT_ATTR_IDMAP."""
    words = []
    if attr_set:
        words.append(f"set={abi.flag_text(attr_set, abi.MountAttr)}")
    if attr_clr:
        words.append(f"clr={abi.flag_text(attr_clr, abi.MountAttr)}")
    if propagation:
        words.append(f"propagation={abi.flag_text(propagation, abi.MountFlag)}")
    if userns is not None:
        words.append(f"userns=%{userns.name}")
    holes = (Hole(24, 8, userns),) if userns is not None else ()
    attr = struct.pack("=QQQQ", attr_set, attr_clr, propagation, 0)
    return Call(
        name="mount_setattr",
        args=(
            fd,
            _path(path),
            flags(aflags, abi.AtFlag),
            Bytes(attr, "{" + ", ".join(words) + "}", holes),
            Int(len(attr)),
        ),
    )


# --- namespaces, identity, limits ------------------------------------------------------------


def setns(fd: Reg, nstype: int) -> Call:
    """setns(2): fails with EINVAL where the descriptor is not of the named type."""
    return Call(name="setns", args=(fd, flags(nstype, abi.CloneFlag)))


def unshare(uflags: int) -> Call:
    """unshare(2)"""
    return Call(name="unshare", args=(flags(uflags, abi.CloneFlag),))


def sethostname(name: str) -> Call:
    """sethostname(2): at most 64 bytes (uname(2), linux/utsname.h)."""
    data = os_bytes(name)
    return Call(name="sethostname", args=(Bytes(data, name), Int(len(data))))


def setdomainname(name: str) -> Call:
    """setdomainname(2)"""
    data = os_bytes(name)
    return Call(name="setdomainname", args=(Bytes(data, name), Int(len(data))))


def os_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def setgroups(groups: tuple[int, ...]) -> Call:
    """setgroups(2)"""
    data = struct.pack(f"={len(groups)}I", *groups)
    shown = "[" + ", ".join(str(g) for g in groups) + "]"
    return Call(name="setgroups", args=(Int(len(groups)), Bytes(data, shown)))


def setresgid(gid: int) -> Call:
    """setresuid(2), all three ids alike"""
    return Call(name="setresgid", args=(Int(gid), Int(gid), Int(gid)))


def setresuid(uid: int) -> Call:
    """setresuid(2), all three ids alike"""
    return Call(name="setresuid", args=(Int(uid), Int(uid), Int(uid)))


def setsid() -> Call:
    """setsid(2)"""
    return Call(name="setsid", args=())


def umask(mask: int) -> Call:
    """umask(2): it cannot fail; the result is the old mask."""
    return Call(name="umask", args=(octal(mask),))


def prlimit(resource: abi.RlimitResource, soft: int | None, hard: int | None) -> Call:
    """prlimit(2) of the caller; None is unlimited."""

    def number(value: int | None) -> int:
        return abi.RLIM_INFINITY if value is None else value

    def word(value: int | None) -> str:
        return "unlimited" if value is None else str(value)

    limit = struct.pack("=QQ", number(soft), number(hard))
    return Call(
        name="prlimit64",
        args=(Int(0), enum(resource), Bytes(limit, f"{{{word(soft)}, {word(hard)}}}"), NULL),
    )


def prctl(option: abi.Prctl, *args: Int) -> Call:
    """prctl(2): the arguments that an option does not use must be zero."""
    padded = args + (Int(0),) * (4 - len(args))
    return Call(name="prctl", args=(enum(option), *padded))


def capset(effective: int, permitted: int, inheritable: int) -> Call:
    """capset(2) of the caller; each set is a bit mask."""
    header = struct.pack("=II", abi.CAPABILITY_VERSION_3, 0)
    words = []
    for shift in (0, 32):
        words += [(s >> shift) & abi.UINT_MAX for s in (effective, permitted, inheritable)]
    text = f"{{effective={effective:#x}, permitted={permitted:#x}, inheritable={inheritable:#x}}}"
    return Call(
        name="capset",
        args=(
            Bytes(header, "{_LINUX_CAPABILITY_VERSION_3, 0}"),
            Bytes(struct.pack("=6I", *words), text),
        ),
    )


def capget_lacks(capability: abi.Capability) -> Call:
    """capget(2) of the caller; the action ends where ``capability`` is in its permitted set."""
    header = struct.pack("=II", abi.CAPABILITY_VERSION_3, 0)
    # Two of struct __user_cap_data_struct: effective, permitted, inheritable; the low words first.
    at = capability // 32 * 12 + 4
    lacks = Expect(at, 4, 1 << capability % 32, 0, f"not {capability.name}", "skip")
    return Call(
        name="capget",
        args=(
            Bytes(header, "{_LINUX_CAPABILITY_VERSION_3, 0}"),
            Out(24, expects=(lacks,), text=lacks.text),
        ),
    )


def exit_group(status: int) -> Call:
    """_exit(2) of the whole process."""
    return Call(name="exit_group", args=(Int(status),))


# struct sock_filter of linux/filter.h, an instruction; struct sock_fprog is their number and,
# aligned to 8 bytes, their address.
BPF_INSTRUCTION = struct.Struct("=HBBI")
_FPROG = struct.Struct("=H6xQ")


def seccomp_filter(program: bytes, sflags: int, *, listener: Reg | None = None) -> Call:
    """seccomp(2): every later call of this process and its children has to pass ``program``, a
    sequence of struct sock_filter. ``listener``: takes the descriptor that is asked about some
    (seccomp_unotify(2))."""
    count, rest = divmod(len(program), BPF_INSTRUCTION.size)
    assert count and not rest
    digest = hashlib.sha256(program).hexdigest()[:8]
    text = f"{{filter {count} instructions, sha256:{digest}}}"
    fprog = Bytes(_FPROG.pack(count, 0), text, pointers=(Pointer(8, Bytes(program, text)),))
    operation = enum(abi.SeccompOperation.SECCOMP_SET_MODE_FILTER)
    if listener is not None:
        sflags |= abi.SeccompFlag.SECCOMP_FILTER_FLAG_NEW_LISTENER
    return Call(
        name="seccomp",
        args=(operation, flags(sflags, abi.SeccompFlag), fprog),
        result=0 if listener is None else None,
        save=listener,
    )


def seccomp_programs(call: Call) -> list[tuple[bytes, int]]:
    """The program and the flags of a :func:`seccomp_filter`, nothing for another call."""
    match call:
        case Call(name="seccomp", args=(_, Int(value=sflags), Bytes(pointers=(pointer,)))):
            return [(pointer.target.value, sflags)]
        case _:
            return []


# struct landlock_ruleset_attr: a kernel knows as much of it as its ABI has (landlock(7)).
_RULESET_SIZES = ((6, 24), (4, 16), (1, 8))
_RULE_PATH_BENEATH = 1


def landlock_create_ruleset(abi_version: int, handled: int, scoped: int, *, save: Reg) -> Call:
    """landlock_create_ruleset(2): what is forbidden where no rule allows it."""
    size = next(size for oldest, size in _RULESET_SIZES if abi_version >= oldest)
    words = [f"fs={abi.flag_text(handled, abi.LandlockAccessFs)}"]
    words += [f"scoped={abi.flag_text(scoped, abi.LandlockScope)}"] if scoped else []
    attr = struct.pack("=QQQ", handled, 0, scoped)[:size]
    return Call(
        name="landlock_create_ruleset",
        args=(Bytes(attr, f"{{{', '.join(words)}}}"), Int(size), Int(0)),
        save=save,
    )


def landlock_add_rule(ruleset: Reg, below: Reg, allowed: int) -> Call:
    """landlock_add_rule(2): ``allowed`` for the file of ``below``, and for all below a folder."""
    text = f"{{{abi.flag_text(allowed, abi.LandlockAccessFs)}, %{below.name}}}"
    # struct landlock_path_beneath_attr is packed.
    attr = Bytes(struct.pack("=Qi", allowed, 0), text, holes=(Hole(8, 4, below),))
    kind = Int(_RULE_PATH_BENEATH, "LANDLOCK_RULE_PATH_BENEATH")
    return Call(name="landlock_add_rule", args=(ruleset, kind, attr, Int(0)))


def landlock_restrict_self(ruleset: Reg) -> Call:
    """landlock_restrict_self(2): from here on, for this process and its children."""
    return Call(name="landlock_restrict_self", args=(ruleset, Int(0)))


# union bpf_attr of linux/bpf.h, as far as each command needs it: prog_type, insn_cnt, insns,
# license, log_level, log_size, log_buf, kern_version, prog_flags, prog_name; and target_fd,
# attach_bpf_fd, attach_type, attach_flags.
_BPF_LOAD = struct.Struct("=IIQQIIQII16s")
_BPF_ATTACH = struct.Struct("=IIII")


def bpf_prog_load(kind: abi.BpfProgType, program: bytes, name: str, *, save: Reg) -> Call:
    """bpf(2): ``program``, a sequence of struct bpf_insn, is proven and taken by the kernel.

    ``name`` is at most 15 bytes, and tools show it. It lives until its last descriptor and its last
    place are gone.
    """
    count, rest = divmod(len(program), 8)
    assert count and not rest
    digest = hashlib.sha256(program).hexdigest()[:8]
    text = f"{count} instructions, sha256:{digest}"
    attr = Bytes(
        _BPF_LOAD.pack(kind, count, 0, 0, 0, 0, 0, 0, 0, name.encode()),
        f"{{{kind.name}, {text}, {name}}}",
        pointers=(Pointer(8, Bytes(program, text)), Pointer(16, Bytes(b"GPL\0", "GPL"))),
    )
    command = enum(abi.BpfCommand.BPF_PROG_LOAD)
    return Call(name="bpf", args=(command, attr, Int(_BPF_LOAD.size)), save=save)


def bpf_prog_attach(
    target: Reg, program: Reg, kind: abi.BpfAttachType, aflags: abi.BpfAttachFlag
) -> Call:
    """bpf(2): ``program`` is asked for what happens in the control group ``target`` and below.

    Until the group is gone. With BPF_F_ALLOW_MULTI the programs of the groups above are asked too,
    and all must agree.
    """
    words = (kind.name, f"%{target.name}", f"%{program.name}", abi.flag_text(aflags, type(aflags)))
    attr = Bytes(
        _BPF_ATTACH.pack(0, 0, kind, aflags),
        f"{{{', '.join(words)}}}",
        holes=(Hole(0, 4, target), Hole(4, 4, program)),
    )
    command = enum(abi.BpfCommand.BPF_PROG_ATTACH)
    return Call(name="bpf", args=(command, attr, Int(_BPF_ATTACH.size)))


def keyctl_join_session() -> Call:
    """keyctl(2): a new anonymous session keyring, so that the caller's is out of reach."""
    return Call(name="keyctl", args=(enum(abi.Keyctl.KEYCTL_JOIN_SESSION_KEYRING), NULL))


# --- processes, signals, sockets -------------------------------------------------------------

# The kernel's sigset_t is one 64-bit word on every machine here (rt_sigprocmask(2)).
ALL_SIGNALS = 0xFFFF_FFFF_FFFF_FFFF


def rt_sigprocmask(how: abi.SigprocmaskHow, mask: int) -> Call:
    """rt_sigprocmask(2) with an explicit 64-bit set."""
    return Call(
        name="rt_sigprocmask",
        args=(enum(how), Bytes(struct.pack("=Q", mask), signal_set(mask)), NULL, Int(8)),
    )


def signal_set(mask: int) -> str:
    if mask == 0:
        return "[]"
    return "~[]" if mask == ALL_SIGNALS else f"{mask:#x}"


def rt_sigaction_default(number: int, name: str) -> Call:
    """rt_sigaction(2): SIG_DFL. The kernel's struct sigaction is 32 bytes here."""
    return Call(
        name="rt_sigaction",
        args=(Int(number, name), Bytes(bytes(32), "{SIG_DFL}"), NULL, Int(8)),
    )


def signalfd4(mask: int, sflags: int, *, save: Reg) -> Call:
    """signalfd(2) with an explicit 64-bit set."""
    return Call(
        name="signalfd4",
        args=(
            Int(-1),
            Bytes(struct.pack("=Q", mask), signal_set(mask)),
            Int(8),
            flags(sflags, abi.SignalfdFlag),
        ),
        save=save,
    )


def ioctl_pty_unlock(master: Reg) -> Call:
    """ioctl_tty(2) TIOCSPTLCK: the peer can be opened."""
    return Call(
        name="ioctl",
        args=(master, enum(abi.Ioctl.TIOCSPTLCK), Bytes(bytes(4), "[0]")),
    )


def ioctl_pty_peer(master: Reg, *, save: Reg) -> Call:
    """ioctl_tty(2) TIOCGPTPEER: the other end by descriptor, whatever stands at its path."""
    oflags = abi.OpenFlag.O_RDWR | abi.OpenFlag.O_NOCTTY | abi.OpenFlag.O_CLOEXEC
    return Call(
        name="ioctl",
        args=(master, enum(abi.Ioctl.TIOCGPTPEER), flags(oflags, abi.OpenFlag)),
        save=save,
    )


def ioctl_controlling_terminal(fd: Reg) -> Call:
    """ioctl_tty(2) TIOCSCTTY"""
    return Call(name="ioctl", args=(fd, enum(abi.Ioctl.TIOCSCTTY), Int(0)))


# struct termios of asm-generic/termbits.h: iflag, oflag, cflag, lflag, line, cc; and what a new
# pty has but for lflag (tty_std_termios, and pty_unix98_init of drivers/tty).
_TERMIOS = struct.Struct("=IIIIB19s")
_NEW_PTY = (0x0500, 0x0005, 0x00BF)
_NEW_CONTROL = b"\x03\x1c\x7f\x15\x04\0\x01\0\x11\x13\x1a\0\x12\x0f\x17\x16"


def ioctl_no_terminal(fd: int) -> Call:
    """ioctl_tty(2) TCGETS: goes on where ``fd`` is no terminal, else ends the action."""
    # A line discipline has a number below 32 (linux/tty.h).
    never = Expect(16, 1, 0xFF, 0xFF, "it is no terminal", otherwise="skip")
    return Call(
        name="ioctl",
        args=(Int(fd), enum(abi.Ioctl.TCGETS), Out(_TERMIOS.size, (), (never,), "termios")),
        # EIO: a terminal that is hung up; EBADF: it is closed.
        accept=("ENOTTY", "EINVAL", "EIO", "EBADF"),
    )


def ioctl_new_terminal(fd: Reg, lflag: abi.TerminalFlag) -> Call:
    """ioctl_tty(2) TCSETS: a new pty's attributes, with other local flags."""
    value = _TERMIOS.pack(*_NEW_PTY, lflag, 0, _NEW_CONTROL)
    text = f"{{c_lflag={abi.flag_text(int(lflag), abi.TerminalFlag)}}}"
    return Call(name="ioctl", args=(fd, enum(abi.Ioctl.TCSETS), Bytes(value, text)))


def waitid_reap(pidfd: Reg) -> Call:
    """waitid(2) by pidfd, until the process has ended."""
    return Call(
        name="waitid",
        args=(
            enum(abi.WaitId.P_PIDFD),
            pidfd,
            Out(128, text="siginfo"),
            flags(abi.WaitFlag.WEXITED, abi.WaitFlag),
            NULL,
        ),
    )


def pidfd_send_signal(pidfd: Reg, number: Int) -> Call:
    """pidfd_send_signal(2)"""
    return Call(name="pidfd_send_signal", args=(pidfd, number, NULL, Int(0)))


def getpid(*, save: Reg) -> Call:
    """getpid(2)"""
    assert save.kind is RegKind.PID
    return Call(name="getpid", args=(), save=save)


def execve(pathname: str, argv: tuple[str, ...], envp: tuple[str, ...]) -> Call:
    """execve(2)"""
    return Call(name="execve", args=(Str(pathname), Strings(argv), Strings(envp)))
