"""The default seccomp profile: which system calls a container may make.

An allow-list. What is on it is what programs need, and what the kernel checks by the caller's own
rights; a call that is not named is refused with EPERM, one newer than :data:`NEWEST` does not exist
(ENOSYS): programs have a way round it, for older kernels. Left out for everybody, with every
capability, are calls that only old programs make (uselib, _sysctl, modify_ldt), whose objects know
no namespaces (keyctl, add_key, request_key), or that have been a way into kernels again and again
(io_uring, userfaultfd).

Every call of x86_64 and aarch64; the names that a machine does not have mean nothing there.
"""

from __future__ import annotations

from nsrun.kernel.abi import Capability as Cap

# set_mempolicy_home_node: the last call that was weighed for the lists below. From 424 on calls
# have the same numbers on every architecture.
NEWEST = 450


def _calls(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Allowed to everyone, by what they are about.
ALLOWED: dict[str, tuple[str, ...]] = {
    "files by descriptor": _calls("""
        close close_range copy_file_range dup dup2 dup3 fadvise64 fallocate fcntl fdatasync flock
        fsync ftruncate getdents getdents64 ioctl lseek pread64 preadv preadv2 pwrite64 pwritev
        pwritev2 read readahead readv sendfile splice sync sync_file_range syncfs tee vmsplice
        write writev
    """),
    "files by name": _calls("""
        access chdir chmod chown creat faccessat faccessat2 fchdir fchmod fchmodat fchown fchownat
        fstat fstatfs futimesat getcwd lchown link linkat lstat mkdir mkdirat mknod mknodat
        name_to_handle_at newfstatat open openat openat2 readlink readlinkat rename renameat
        renameat2 rmdir stat statfs statx symlink symlinkat truncate umask unlink unlinkat utime
        utimensat utimes
    """),
    "extended attributes": _calls("""
        fgetxattr flistxattr fremovexattr fsetxattr getxattr lgetxattr listxattr llistxattr
        lremovexattr lsetxattr removexattr setxattr
    """),
    "waiting for events": _calls("""
        epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
        epoll_wait_old eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1
        inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit poll
        ppoll pselect6 select signalfd signalfd4 timerfd_create timerfd_gettime timerfd_settime
    """),
    "memory": _calls("""
        brk madvise membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mprotect
        mremap msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
    """),
    "processes and threads": _calls("""
        arch_prctl execve execveat exit exit_group fork futex futex_waitv get_robust_list
        get_thread_area getcpu getpgid getpgrp getpid getppid getpriority getrlimit getrusage getsid
        gettid ioprio_get ioprio_set kill pidfd_open pidfd_send_signal pipe pipe2 prctl prlimit64
        process_mrelease restart_syscall rseq sched_get_priority_max sched_get_priority_min
        sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
        sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
        set_robust_list set_thread_area set_tid_address setpgid setpriority setrlimit setsid tgkill
        times tkill vfork wait4 waitid
    """),
    "signals": _calls("""
        alarm getitimer pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
        rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo setitimer sigaltstack
    """),
    "ids and rights": _calls("""
        capget capset getegid geteuid getgid getgroups getresgid getresuid getuid
        landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp setfsgid setfsuid
        setgid setgroups setregid setresgid setresuid setreuid setuid
    """),
    # Setting it needs CAP_SYS_TIME, reading it nothing: these do both.
    "time": _calls("""
        adjtimex clock_adjtime clock_getres clock_gettime clock_nanosleep gettimeofday nanosleep
        time timer_create timer_delete timer_getoverrun timer_gettime timer_settime
    """),
    "sockets": _calls("""
        accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg
        recvmsg sendmmsg sendmsg sendto setsockopt shutdown socketpair
    """),
    "System V and POSIX messages": _calls("""
        mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv
        msgsnd semctl semget semop semtimedop shmat shmctl shmdt shmget
    """),
    "the system": _calls("getrandom sysinfo uname"),
}

# Allowed to a container that holds one of the capabilities.
BY_CAPABILITY: tuple[tuple[tuple[Cap, ...], tuple[str, ...]], ...] = (
    (
        (Cap.CAP_SYS_ADMIN,),
        _calls("""
            clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount
            mount_setattr move_mount open_tree pivot_root quotactl quotactl_fd setdomainname
            sethostname setns umount2 unshare
        """),
    ),
    ((Cap.CAP_BPF, Cap.CAP_SYS_ADMIN), _calls("bpf")),
    ((Cap.CAP_PERFMON, Cap.CAP_SYS_ADMIN), _calls("perf_event_open")),
    ((Cap.CAP_SYSLOG, Cap.CAP_SYS_ADMIN), _calls("syslog")),
    ((Cap.CAP_DAC_READ_SEARCH,), _calls("open_by_handle_at")),
    ((Cap.CAP_SYS_BOOT,), _calls("kexec_file_load kexec_load reboot")),
    ((Cap.CAP_SYS_CHROOT,), _calls("chroot")),
    ((Cap.CAP_SYS_MODULE,), _calls("delete_module finit_module init_module")),
    (
        (Cap.CAP_SYS_NICE,),
        _calls("""
            get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node
        """),
    ),
    ((Cap.CAP_SYS_PACCT,), _calls("acct")),
    (
        (Cap.CAP_SYS_PTRACE,),
        _calls("kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ),
    ((Cap.CAP_SYS_RAWIO,), _calls("ioperm iopl")),
    ((Cap.CAP_SYS_TIME,), _calls("clock_settime settimeofday")),
    ((Cap.CAP_SYS_TTY_CONFIG,), _calls("vhangup")),
)

# A filter sees clone3's flags only by their address, so it does not exist: the C library makes
# its threads by clone then, whose flags are seen.
MISSING = ("clone3",)

# Families that socket(2) takes, and the capability some of them need (linux/socket.h). AF_ALG,
# AF_VSOCK and all others are refused: each is a part of the kernel that few programs know of.
FAMILIES: tuple[tuple[int, Cap | None], ...] = (
    (1, None),  # AF_UNIX
    (2, None),  # AF_INET
    (10, None),  # AF_INET6
    (15, Cap.CAP_NET_ADMIN),  # AF_KEY
    (16, None),  # AF_NETLINK
    (17, Cap.CAP_NET_RAW),  # AF_PACKET
    (44, Cap.CAP_NET_RAW),  # AF_XDP
)

# What personality(2) may be set to (linux/personality.h): PER_LINUX, PER_LINUX32, both with
# UNAME26, and to ask what it is. ADDR_NO_RANDOMIZE and READ_IMPLIES_EXEC are refused.
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFF_FFFF)

# The namespace flags of clone(2) and unshare(2); clone takes CLONE_NEWTIME for a part of the
# signal's number.
CLONE_NAMESPACES = 0x7E020000
UNSHARE_NAMESPACES = CLONE_NAMESPACES | 0x80
