/* Made by tools/gen_plan_h.py from nsrun/plan/binary_format.py and nsrun/replay/outcome.py; do not edit.
 * What the words mean is said there. */
#ifndef NSRUN_PLAN_H
#define NSRUN_PLAN_H

#include <asm/unistd.h>
#include <stdint.h>

#define PLAN_MAGIC "nsrunpl\n"
#define PLAN_FORMAT 3u
#define PLAN_CHECKED_FROM 24u
#define PLAN_SIZE_MAX 16777216u
#define PLAN_REGISTERS_MAX 65536u
#define PLAN_ARGUMENTS_MAX 6u
#define PLAN_ERRNOS_MAX 63u
#define PLAN_HOLE_DECIMAL 128u
#define PLAN_DIGITS_MAX 20u
#define PLAN_SYNC_MAX 255u
#define PLAN_POINTER_DEPTH 4u
#define PLAN_SCRATCH_MAX 4194304u
#define PLAN_WORD_ACTION 160u
#define PLAN_NO_UNDO 4294967295u
#define PLAN_CHECKSUM_PRIME 0x9e3779b97f4a7c15u
#define PLAN_MACHINE_x86_64 62u
#define PLAN_MACHINE_aarch64 183u
#ifdef __x86_64__
#define PLAN_MACHINE 62u
#endif
#ifdef __aarch64__
#define PLAN_MACHINE 183u
#endif

struct plan_header {
    unsigned char magic[8];
    uint32_t format;
    uint32_t size;
    uint64_t checksum;
    uint32_t machine;
    uint32_t registers;
    uint32_t parent_offset;
    uint32_t parent_size;
    uint32_t child_offset;
    uint32_t child_size;
    uint32_t undo_offset;
    uint32_t undo_size;
    uint32_t kinds_offset;
    uint32_t data_offset;
    uint32_t data_size;
    uint32_t parent_steps;
    uint32_t child_steps;
    uint32_t actions;
    uint32_t reports_to;
    uint32_t listens_on;
    uint32_t terminal;
    uint32_t flags;
    uint32_t annotations;
    uint32_t name;
    uint32_t annotations_sum;
    uint32_t reserved;
};

enum op {
    OP_CALL = 1,
    OP_CLONE = 2,
    OP_SIGNAL = 3,
    OP_WAIT = 4,
    OP_SEND_FD = 5,
    OP_RECEIVE_FD = 6,
    OP_NETLINK = 7,
    OP_SPAWN = 8,
    OP_INIT = 9,
    OP_AWAIT = 10,
};

enum reg_kind {
    KIND_FD = 0,
    KIND_PID = 1,
    KIND_IFINDEX = 2,
    KIND_NUMBER = 3,
};

enum arg_kind {
    ARG_INT = 1,
    ARG_INT64 = 2,
    ARG_REG = 3,
    ARG_DATA = 4,
    ARG_FMT = 5,
    ARG_LENGTH = 6,
    ARG_BUFFER = 7,
    ARG_STRINGS = 8,
    ARG_OUT = 9,
    ARG_LITERAL = 10,
};

enum undo_when {
    WHEN_END = 0,
    WHEN_FAILURE = 1,
};

enum otherwise {
    ELSE_FAIL = 0,
    ELSE_SKIP = 1,
};

enum stdin_kind {
    STDIN_NONE = 0,
    STDIN_ARGUMENT = 1,
};

enum state {
    STATE_NOT_REACHED = 0,
    STATE_ENTERED = 1,
    STATE_DONE = 2,
    STATE_ACCEPTED = 3,
    STATE_SKIPPED = 4,
    STATE_LEFT_OUT = 5,
    STATE_FAILED = 6,
};

enum fail_kind {
    FAIL_ERRNO = 0,
    FAIL_RESULT = 1,
    FAIL_EXPECT = 2,
    FAIL_SPAWN = 3,
    FAIL_ENDED = 4,
    FAIL_INTERNAL = 5,
};
#define HEADER_HAS_INIT 1u
#define HEADER_HAS_EXEC 2u
#define CALL_HAS_RESULT 1u
#define CALL_IS_EXEC 2u
#define CALL_CLOSES 4u
#define ACTION_NEW_HEIR 65536u
#define CLONE_BIT_HAND_OVER 1u
#define CLONE_BIT_HOLD 2u
#define WAIT_EXEC 1u

#ifdef __x86_64__
#define NR_bind 49
#ifdef __NR_bind
_Static_assert(__NR_bind == 49, "nsrun/kernel/abi.py: bind");
#endif
#define NR_bpf 321
#ifdef __NR_bpf
_Static_assert(__NR_bpf == 321, "nsrun/kernel/abi.py: bpf");
#endif
#define NR_capget 125
#ifdef __NR_capget
_Static_assert(__NR_capget == 125, "nsrun/kernel/abi.py: capget");
#endif
#define NR_capset 126
#ifdef __NR_capset
_Static_assert(__NR_capset == 126, "nsrun/kernel/abi.py: capset");
#endif
#define NR_chdir 80
#ifdef __NR_chdir
_Static_assert(__NR_chdir == 80, "nsrun/kernel/abi.py: chdir");
#endif
#define NR_clone 56
#ifdef __NR_clone
_Static_assert(__NR_clone == 56, "nsrun/kernel/abi.py: clone");
#endif
#define NR_clone3 435
#ifdef __NR_clone3
_Static_assert(__NR_clone3 == 435, "nsrun/kernel/abi.py: clone3");
#endif
#define NR_close 3
#ifdef __NR_close
_Static_assert(__NR_close == 3, "nsrun/kernel/abi.py: close");
#endif
#define NR_close_range 436
#ifdef __NR_close_range
_Static_assert(__NR_close_range == 436, "nsrun/kernel/abi.py: close_range");
#endif
#define NR_connect 42
#ifdef __NR_connect
_Static_assert(__NR_connect == 42, "nsrun/kernel/abi.py: connect");
#endif
#define NR_dup3 292
#ifdef __NR_dup3
_Static_assert(__NR_dup3 == 292, "nsrun/kernel/abi.py: dup3");
#endif
#define NR_execve 59
#ifdef __NR_execve
_Static_assert(__NR_execve == 59, "nsrun/kernel/abi.py: execve");
#endif
#define NR_execveat 322
#ifdef __NR_execveat
_Static_assert(__NR_execveat == 322, "nsrun/kernel/abi.py: execveat");
#endif
#define NR_exit 60
#ifdef __NR_exit
_Static_assert(__NR_exit == 60, "nsrun/kernel/abi.py: exit");
#endif
#define NR_exit_group 231
#ifdef __NR_exit_group
_Static_assert(__NR_exit_group == 231, "nsrun/kernel/abi.py: exit_group");
#endif
#define NR_fallocate 285
#ifdef __NR_fallocate
_Static_assert(__NR_fallocate == 285, "nsrun/kernel/abi.py: fallocate");
#endif
#define NR_fchdir 81
#ifdef __NR_fchdir
_Static_assert(__NR_fchdir == 81, "nsrun/kernel/abi.py: fchdir");
#endif
#define NR_fchmod 91
#ifdef __NR_fchmod
_Static_assert(__NR_fchmod == 91, "nsrun/kernel/abi.py: fchmod");
#endif
#define NR_fchmodat 268
#ifdef __NR_fchmodat
_Static_assert(__NR_fchmodat == 268, "nsrun/kernel/abi.py: fchmodat");
#endif
#define NR_fchown 93
#ifdef __NR_fchown
_Static_assert(__NR_fchown == 93, "nsrun/kernel/abi.py: fchown");
#endif
#define NR_fchownat 260
#ifdef __NR_fchownat
_Static_assert(__NR_fchownat == 260, "nsrun/kernel/abi.py: fchownat");
#endif
#define NR_fcntl 72
#ifdef __NR_fcntl
_Static_assert(__NR_fcntl == 72, "nsrun/kernel/abi.py: fcntl");
#endif
#define NR_flock 73
#ifdef __NR_flock
_Static_assert(__NR_flock == 73, "nsrun/kernel/abi.py: flock");
#endif
#define NR_fsconfig 431
#ifdef __NR_fsconfig
_Static_assert(__NR_fsconfig == 431, "nsrun/kernel/abi.py: fsconfig");
#endif
#define NR_fsetxattr 190
#ifdef __NR_fsetxattr
_Static_assert(__NR_fsetxattr == 190, "nsrun/kernel/abi.py: fsetxattr");
#endif
#define NR_fsmount 432
#ifdef __NR_fsmount
_Static_assert(__NR_fsmount == 432, "nsrun/kernel/abi.py: fsmount");
#endif
#define NR_fsopen 430
#ifdef __NR_fsopen
_Static_assert(__NR_fsopen == 430, "nsrun/kernel/abi.py: fsopen");
#endif
#define NR_fspick 433
#ifdef __NR_fspick
_Static_assert(__NR_fspick == 433, "nsrun/kernel/abi.py: fspick");
#endif
#define NR_fstat 5
#ifdef __NR_fstat
_Static_assert(__NR_fstat == 5, "nsrun/kernel/abi.py: fstat");
#endif
#define NR_fstatfs 138
#ifdef __NR_fstatfs
_Static_assert(__NR_fstatfs == 138, "nsrun/kernel/abi.py: fstatfs");
#endif
#define NR_ftruncate 77
#ifdef __NR_ftruncate
_Static_assert(__NR_ftruncate == 77, "nsrun/kernel/abi.py: ftruncate");
#endif
#define NR_getcwd 79
#ifdef __NR_getcwd
_Static_assert(__NR_getcwd == 79, "nsrun/kernel/abi.py: getcwd");
#endif
#define NR_getdents64 217
#ifdef __NR_getdents64
_Static_assert(__NR_getdents64 == 217, "nsrun/kernel/abi.py: getdents64");
#endif
#define NR_getpid 39
#ifdef __NR_getpid
_Static_assert(__NR_getpid == 39, "nsrun/kernel/abi.py: getpid");
#endif
#define NR_getppid 110
#ifdef __NR_getppid
_Static_assert(__NR_getppid == 110, "nsrun/kernel/abi.py: getppid");
#endif
#define NR_getsockopt 55
#ifdef __NR_getsockopt
_Static_assert(__NR_getsockopt == 55, "nsrun/kernel/abi.py: getsockopt");
#endif
#define NR_gettid 186
#ifdef __NR_gettid
_Static_assert(__NR_gettid == 186, "nsrun/kernel/abi.py: gettid");
#endif
#define NR_ioctl 16
#ifdef __NR_ioctl
_Static_assert(__NR_ioctl == 16, "nsrun/kernel/abi.py: ioctl");
#endif
#define NR_ioprio_set 251
#ifdef __NR_ioprio_set
_Static_assert(__NR_ioprio_set == 251, "nsrun/kernel/abi.py: ioprio_set");
#endif
#define NR_keyctl 250
#ifdef __NR_keyctl
_Static_assert(__NR_keyctl == 250, "nsrun/kernel/abi.py: keyctl");
#endif
#define NR_kill 62
#ifdef __NR_kill
_Static_assert(__NR_kill == 62, "nsrun/kernel/abi.py: kill");
#endif
#define NR_landlock_add_rule 445
#ifdef __NR_landlock_add_rule
_Static_assert(__NR_landlock_add_rule == 445, "nsrun/kernel/abi.py: landlock_add_rule");
#endif
#define NR_landlock_create_ruleset 444
#ifdef __NR_landlock_create_ruleset
_Static_assert(__NR_landlock_create_ruleset == 444, "nsrun/kernel/abi.py: landlock_create_ruleset");
#endif
#define NR_landlock_restrict_self 446
#ifdef __NR_landlock_restrict_self
_Static_assert(__NR_landlock_restrict_self == 446, "nsrun/kernel/abi.py: landlock_restrict_self");
#endif
#define NR_linkat 265
#ifdef __NR_linkat
_Static_assert(__NR_linkat == 265, "nsrun/kernel/abi.py: linkat");
#endif
#define NR_listen 50
#ifdef __NR_listen
_Static_assert(__NR_listen == 50, "nsrun/kernel/abi.py: listen");
#endif
#define NR_listmount 458
#ifdef __NR_listmount
_Static_assert(__NR_listmount == 458, "nsrun/kernel/abi.py: listmount");
#endif
#define NR_lseek 8
#ifdef __NR_lseek
_Static_assert(__NR_lseek == 8, "nsrun/kernel/abi.py: lseek");
#endif
#define NR_memfd_create 319
#ifdef __NR_memfd_create
_Static_assert(__NR_memfd_create == 319, "nsrun/kernel/abi.py: memfd_create");
#endif
#define NR_mkdirat 258
#ifdef __NR_mkdirat
_Static_assert(__NR_mkdirat == 258, "nsrun/kernel/abi.py: mkdirat");
#endif
#define NR_mknodat 259
#ifdef __NR_mknodat
_Static_assert(__NR_mknodat == 259, "nsrun/kernel/abi.py: mknodat");
#endif
#define NR_mount 165
#ifdef __NR_mount
_Static_assert(__NR_mount == 165, "nsrun/kernel/abi.py: mount");
#endif
#define NR_mount_setattr 442
#ifdef __NR_mount_setattr
_Static_assert(__NR_mount_setattr == 442, "nsrun/kernel/abi.py: mount_setattr");
#endif
#define NR_move_mount 429
#ifdef __NR_move_mount
_Static_assert(__NR_move_mount == 429, "nsrun/kernel/abi.py: move_mount");
#endif
#define NR_mq_unlink 241
#ifdef __NR_mq_unlink
_Static_assert(__NR_mq_unlink == 241, "nsrun/kernel/abi.py: mq_unlink");
#endif
#define NR_open_tree 428
#ifdef __NR_open_tree
_Static_assert(__NR_open_tree == 428, "nsrun/kernel/abi.py: open_tree");
#endif
#define NR_openat 257
#ifdef __NR_openat
_Static_assert(__NR_openat == 257, "nsrun/kernel/abi.py: openat");
#endif
#define NR_openat2 437
#ifdef __NR_openat2
_Static_assert(__NR_openat2 == 437, "nsrun/kernel/abi.py: openat2");
#endif
#define NR_personality 135
#ifdef __NR_personality
_Static_assert(__NR_personality == 135, "nsrun/kernel/abi.py: personality");
#endif
#define NR_pidfd_open 434
#ifdef __NR_pidfd_open
_Static_assert(__NR_pidfd_open == 434, "nsrun/kernel/abi.py: pidfd_open");
#endif
#define NR_pidfd_send_signal 424
#ifdef __NR_pidfd_send_signal
_Static_assert(__NR_pidfd_send_signal == 424, "nsrun/kernel/abi.py: pidfd_send_signal");
#endif
#define NR_pipe2 293
#ifdef __NR_pipe2
_Static_assert(__NR_pipe2 == 293, "nsrun/kernel/abi.py: pipe2");
#endif
#define NR_pivot_root 155
#ifdef __NR_pivot_root
_Static_assert(__NR_pivot_root == 155, "nsrun/kernel/abi.py: pivot_root");
#endif
#define NR_poll 7
#ifdef __NR_poll
_Static_assert(__NR_poll == 7, "nsrun/kernel/abi.py: poll");
#endif
#define NR_ppoll 271
#ifdef __NR_ppoll
_Static_assert(__NR_ppoll == 271, "nsrun/kernel/abi.py: ppoll");
#endif
#define NR_prctl 157
#ifdef __NR_prctl
_Static_assert(__NR_prctl == 157, "nsrun/kernel/abi.py: prctl");
#endif
#define NR_prlimit64 302
#ifdef __NR_prlimit64
_Static_assert(__NR_prlimit64 == 302, "nsrun/kernel/abi.py: prlimit64");
#endif
#define NR_read 0
#ifdef __NR_read
_Static_assert(__NR_read == 0, "nsrun/kernel/abi.py: read");
#endif
#define NR_readlinkat 267
#ifdef __NR_readlinkat
_Static_assert(__NR_readlinkat == 267, "nsrun/kernel/abi.py: readlinkat");
#endif
#define NR_recvfrom 45
#ifdef __NR_recvfrom
_Static_assert(__NR_recvfrom == 45, "nsrun/kernel/abi.py: recvfrom");
#endif
#define NR_recvmsg 47
#ifdef __NR_recvmsg
_Static_assert(__NR_recvmsg == 47, "nsrun/kernel/abi.py: recvmsg");
#endif
#define NR_renameat2 316
#ifdef __NR_renameat2
_Static_assert(__NR_renameat2 == 316, "nsrun/kernel/abi.py: renameat2");
#endif
#define NR_rt_sigaction 13
#ifdef __NR_rt_sigaction
_Static_assert(__NR_rt_sigaction == 13, "nsrun/kernel/abi.py: rt_sigaction");
#endif
#define NR_rt_sigprocmask 14
#ifdef __NR_rt_sigprocmask
_Static_assert(__NR_rt_sigprocmask == 14, "nsrun/kernel/abi.py: rt_sigprocmask");
#endif
#define NR_sched_setaffinity 203
#ifdef __NR_sched_setaffinity
_Static_assert(__NR_sched_setaffinity == 203, "nsrun/kernel/abi.py: sched_setaffinity");
#endif
#define NR_sched_setscheduler 144
#ifdef __NR_sched_setscheduler
_Static_assert(__NR_sched_setscheduler == 144, "nsrun/kernel/abi.py: sched_setscheduler");
#endif
#define NR_seccomp 317
#ifdef __NR_seccomp
_Static_assert(__NR_seccomp == 317, "nsrun/kernel/abi.py: seccomp");
#endif
#define NR_sendfile 40
#ifdef __NR_sendfile
_Static_assert(__NR_sendfile == 40, "nsrun/kernel/abi.py: sendfile");
#endif
#define NR_sendmsg 46
#ifdef __NR_sendmsg
_Static_assert(__NR_sendmsg == 46, "nsrun/kernel/abi.py: sendmsg");
#endif
#define NR_sendto 44
#ifdef __NR_sendto
_Static_assert(__NR_sendto == 44, "nsrun/kernel/abi.py: sendto");
#endif
#define NR_set_mempolicy 238
#ifdef __NR_set_mempolicy
_Static_assert(__NR_set_mempolicy == 238, "nsrun/kernel/abi.py: set_mempolicy");
#endif
#define NR_setdomainname 171
#ifdef __NR_setdomainname
_Static_assert(__NR_setdomainname == 171, "nsrun/kernel/abi.py: setdomainname");
#endif
#define NR_setgid 106
#ifdef __NR_setgid
_Static_assert(__NR_setgid == 106, "nsrun/kernel/abi.py: setgid");
#endif
#define NR_setgroups 116
#ifdef __NR_setgroups
_Static_assert(__NR_setgroups == 116, "nsrun/kernel/abi.py: setgroups");
#endif
#define NR_sethostname 170
#ifdef __NR_sethostname
_Static_assert(__NR_sethostname == 170, "nsrun/kernel/abi.py: sethostname");
#endif
#define NR_setns 308
#ifdef __NR_setns
_Static_assert(__NR_setns == 308, "nsrun/kernel/abi.py: setns");
#endif
#define NR_setpriority 141
#ifdef __NR_setpriority
_Static_assert(__NR_setpriority == 141, "nsrun/kernel/abi.py: setpriority");
#endif
#define NR_setresgid 119
#ifdef __NR_setresgid
_Static_assert(__NR_setresgid == 119, "nsrun/kernel/abi.py: setresgid");
#endif
#define NR_setresuid 117
#ifdef __NR_setresuid
_Static_assert(__NR_setresuid == 117, "nsrun/kernel/abi.py: setresuid");
#endif
#define NR_setsid 112
#ifdef __NR_setsid
_Static_assert(__NR_setsid == 112, "nsrun/kernel/abi.py: setsid");
#endif
#define NR_setsockopt 54
#ifdef __NR_setsockopt
_Static_assert(__NR_setsockopt == 54, "nsrun/kernel/abi.py: setsockopt");
#endif
#define NR_setuid 105
#ifdef __NR_setuid
_Static_assert(__NR_setuid == 105, "nsrun/kernel/abi.py: setuid");
#endif
#define NR_setxattr 188
#ifdef __NR_setxattr
_Static_assert(__NR_setxattr == 188, "nsrun/kernel/abi.py: setxattr");
#endif
#define NR_shutdown 48
#ifdef __NR_shutdown
_Static_assert(__NR_shutdown == 48, "nsrun/kernel/abi.py: shutdown");
#endif
#define NR_signalfd4 289
#ifdef __NR_signalfd4
_Static_assert(__NR_signalfd4 == 289, "nsrun/kernel/abi.py: signalfd4");
#endif
#define NR_socket 41
#ifdef __NR_socket
_Static_assert(__NR_socket == 41, "nsrun/kernel/abi.py: socket");
#endif
#define NR_socketpair 53
#ifdef __NR_socketpair
_Static_assert(__NR_socketpair == 53, "nsrun/kernel/abi.py: socketpair");
#endif
#define NR_statfs 137
#ifdef __NR_statfs
_Static_assert(__NR_statfs == 137, "nsrun/kernel/abi.py: statfs");
#endif
#define NR_statmount 457
#ifdef __NR_statmount
_Static_assert(__NR_statmount == 457, "nsrun/kernel/abi.py: statmount");
#endif
#define NR_statx 332
#ifdef __NR_statx
_Static_assert(__NR_statx == 332, "nsrun/kernel/abi.py: statx");
#endif
#define NR_symlinkat 266
#ifdef __NR_symlinkat
_Static_assert(__NR_symlinkat == 266, "nsrun/kernel/abi.py: symlinkat");
#endif
#define NR_timerfd_create 283
#ifdef __NR_timerfd_create
_Static_assert(__NR_timerfd_create == 283, "nsrun/kernel/abi.py: timerfd_create");
#endif
#define NR_timerfd_settime 286
#ifdef __NR_timerfd_settime
_Static_assert(__NR_timerfd_settime == 286, "nsrun/kernel/abi.py: timerfd_settime");
#endif
#define NR_umask 95
#ifdef __NR_umask
_Static_assert(__NR_umask == 95, "nsrun/kernel/abi.py: umask");
#endif
#define NR_umount2 166
#ifdef __NR_umount2
_Static_assert(__NR_umount2 == 166, "nsrun/kernel/abi.py: umount2");
#endif
#define NR_unlinkat 263
#ifdef __NR_unlinkat
_Static_assert(__NR_unlinkat == 263, "nsrun/kernel/abi.py: unlinkat");
#endif
#define NR_unshare 272
#ifdef __NR_unshare
_Static_assert(__NR_unshare == 272, "nsrun/kernel/abi.py: unshare");
#endif
#define NR_wait4 61
#ifdef __NR_wait4
_Static_assert(__NR_wait4 == 61, "nsrun/kernel/abi.py: wait4");
#endif
#define NR_waitid 247
#ifdef __NR_waitid
_Static_assert(__NR_waitid == 247, "nsrun/kernel/abi.py: waitid");
#endif
#define NR_write 1
#ifdef __NR_write
_Static_assert(__NR_write == 1, "nsrun/kernel/abi.py: write");
#endif
#endif

#ifdef __aarch64__
#define NR_bind 200
#ifdef __NR_bind
_Static_assert(__NR_bind == 200, "nsrun/kernel/abi.py: bind");
#endif
#define NR_bpf 280
#ifdef __NR_bpf
_Static_assert(__NR_bpf == 280, "nsrun/kernel/abi.py: bpf");
#endif
#define NR_capget 90
#ifdef __NR_capget
_Static_assert(__NR_capget == 90, "nsrun/kernel/abi.py: capget");
#endif
#define NR_capset 91
#ifdef __NR_capset
_Static_assert(__NR_capset == 91, "nsrun/kernel/abi.py: capset");
#endif
#define NR_chdir 49
#ifdef __NR_chdir
_Static_assert(__NR_chdir == 49, "nsrun/kernel/abi.py: chdir");
#endif
#define NR_clone 220
#ifdef __NR_clone
_Static_assert(__NR_clone == 220, "nsrun/kernel/abi.py: clone");
#endif
#define NR_clone3 435
#ifdef __NR_clone3
_Static_assert(__NR_clone3 == 435, "nsrun/kernel/abi.py: clone3");
#endif
#define NR_close 57
#ifdef __NR_close
_Static_assert(__NR_close == 57, "nsrun/kernel/abi.py: close");
#endif
#define NR_close_range 436
#ifdef __NR_close_range
_Static_assert(__NR_close_range == 436, "nsrun/kernel/abi.py: close_range");
#endif
#define NR_connect 203
#ifdef __NR_connect
_Static_assert(__NR_connect == 203, "nsrun/kernel/abi.py: connect");
#endif
#define NR_dup3 24
#ifdef __NR_dup3
_Static_assert(__NR_dup3 == 24, "nsrun/kernel/abi.py: dup3");
#endif
#define NR_execve 221
#ifdef __NR_execve
_Static_assert(__NR_execve == 221, "nsrun/kernel/abi.py: execve");
#endif
#define NR_execveat 281
#ifdef __NR_execveat
_Static_assert(__NR_execveat == 281, "nsrun/kernel/abi.py: execveat");
#endif
#define NR_exit 93
#ifdef __NR_exit
_Static_assert(__NR_exit == 93, "nsrun/kernel/abi.py: exit");
#endif
#define NR_exit_group 94
#ifdef __NR_exit_group
_Static_assert(__NR_exit_group == 94, "nsrun/kernel/abi.py: exit_group");
#endif
#define NR_fallocate 47
#ifdef __NR_fallocate
_Static_assert(__NR_fallocate == 47, "nsrun/kernel/abi.py: fallocate");
#endif
#define NR_fchdir 50
#ifdef __NR_fchdir
_Static_assert(__NR_fchdir == 50, "nsrun/kernel/abi.py: fchdir");
#endif
#define NR_fchmod 52
#ifdef __NR_fchmod
_Static_assert(__NR_fchmod == 52, "nsrun/kernel/abi.py: fchmod");
#endif
#define NR_fchmodat 53
#ifdef __NR_fchmodat
_Static_assert(__NR_fchmodat == 53, "nsrun/kernel/abi.py: fchmodat");
#endif
#define NR_fchown 55
#ifdef __NR_fchown
_Static_assert(__NR_fchown == 55, "nsrun/kernel/abi.py: fchown");
#endif
#define NR_fchownat 54
#ifdef __NR_fchownat
_Static_assert(__NR_fchownat == 54, "nsrun/kernel/abi.py: fchownat");
#endif
#define NR_fcntl 25
#ifdef __NR_fcntl
_Static_assert(__NR_fcntl == 25, "nsrun/kernel/abi.py: fcntl");
#endif
#define NR_flock 32
#ifdef __NR_flock
_Static_assert(__NR_flock == 32, "nsrun/kernel/abi.py: flock");
#endif
#define NR_fsconfig 431
#ifdef __NR_fsconfig
_Static_assert(__NR_fsconfig == 431, "nsrun/kernel/abi.py: fsconfig");
#endif
#define NR_fsetxattr 7
#ifdef __NR_fsetxattr
_Static_assert(__NR_fsetxattr == 7, "nsrun/kernel/abi.py: fsetxattr");
#endif
#define NR_fsmount 432
#ifdef __NR_fsmount
_Static_assert(__NR_fsmount == 432, "nsrun/kernel/abi.py: fsmount");
#endif
#define NR_fsopen 430
#ifdef __NR_fsopen
_Static_assert(__NR_fsopen == 430, "nsrun/kernel/abi.py: fsopen");
#endif
#define NR_fspick 433
#ifdef __NR_fspick
_Static_assert(__NR_fspick == 433, "nsrun/kernel/abi.py: fspick");
#endif
#define NR_fstat 80
#ifdef __NR_fstat
_Static_assert(__NR_fstat == 80, "nsrun/kernel/abi.py: fstat");
#endif
#define NR_fstatfs 44
#ifdef __NR_fstatfs
_Static_assert(__NR_fstatfs == 44, "nsrun/kernel/abi.py: fstatfs");
#endif
#define NR_ftruncate 46
#ifdef __NR_ftruncate
_Static_assert(__NR_ftruncate == 46, "nsrun/kernel/abi.py: ftruncate");
#endif
#define NR_getcwd 17
#ifdef __NR_getcwd
_Static_assert(__NR_getcwd == 17, "nsrun/kernel/abi.py: getcwd");
#endif
#define NR_getdents64 61
#ifdef __NR_getdents64
_Static_assert(__NR_getdents64 == 61, "nsrun/kernel/abi.py: getdents64");
#endif
#define NR_getpid 172
#ifdef __NR_getpid
_Static_assert(__NR_getpid == 172, "nsrun/kernel/abi.py: getpid");
#endif
#define NR_getppid 173
#ifdef __NR_getppid
_Static_assert(__NR_getppid == 173, "nsrun/kernel/abi.py: getppid");
#endif
#define NR_getsockopt 209
#ifdef __NR_getsockopt
_Static_assert(__NR_getsockopt == 209, "nsrun/kernel/abi.py: getsockopt");
#endif
#define NR_gettid 178
#ifdef __NR_gettid
_Static_assert(__NR_gettid == 178, "nsrun/kernel/abi.py: gettid");
#endif
#define NR_ioctl 29
#ifdef __NR_ioctl
_Static_assert(__NR_ioctl == 29, "nsrun/kernel/abi.py: ioctl");
#endif
#define NR_ioprio_set 30
#ifdef __NR_ioprio_set
_Static_assert(__NR_ioprio_set == 30, "nsrun/kernel/abi.py: ioprio_set");
#endif
#define NR_keyctl 219
#ifdef __NR_keyctl
_Static_assert(__NR_keyctl == 219, "nsrun/kernel/abi.py: keyctl");
#endif
#define NR_kill 129
#ifdef __NR_kill
_Static_assert(__NR_kill == 129, "nsrun/kernel/abi.py: kill");
#endif
#define NR_landlock_add_rule 445
#ifdef __NR_landlock_add_rule
_Static_assert(__NR_landlock_add_rule == 445, "nsrun/kernel/abi.py: landlock_add_rule");
#endif
#define NR_landlock_create_ruleset 444
#ifdef __NR_landlock_create_ruleset
_Static_assert(__NR_landlock_create_ruleset == 444, "nsrun/kernel/abi.py: landlock_create_ruleset");
#endif
#define NR_landlock_restrict_self 446
#ifdef __NR_landlock_restrict_self
_Static_assert(__NR_landlock_restrict_self == 446, "nsrun/kernel/abi.py: landlock_restrict_self");
#endif
#define NR_linkat 37
#ifdef __NR_linkat
_Static_assert(__NR_linkat == 37, "nsrun/kernel/abi.py: linkat");
#endif
#define NR_listen 201
#ifdef __NR_listen
_Static_assert(__NR_listen == 201, "nsrun/kernel/abi.py: listen");
#endif
#define NR_listmount 458
#ifdef __NR_listmount
_Static_assert(__NR_listmount == 458, "nsrun/kernel/abi.py: listmount");
#endif
#define NR_lseek 62
#ifdef __NR_lseek
_Static_assert(__NR_lseek == 62, "nsrun/kernel/abi.py: lseek");
#endif
#define NR_memfd_create 279
#ifdef __NR_memfd_create
_Static_assert(__NR_memfd_create == 279, "nsrun/kernel/abi.py: memfd_create");
#endif
#define NR_mkdirat 34
#ifdef __NR_mkdirat
_Static_assert(__NR_mkdirat == 34, "nsrun/kernel/abi.py: mkdirat");
#endif
#define NR_mknodat 33
#ifdef __NR_mknodat
_Static_assert(__NR_mknodat == 33, "nsrun/kernel/abi.py: mknodat");
#endif
#define NR_mount 40
#ifdef __NR_mount
_Static_assert(__NR_mount == 40, "nsrun/kernel/abi.py: mount");
#endif
#define NR_mount_setattr 442
#ifdef __NR_mount_setattr
_Static_assert(__NR_mount_setattr == 442, "nsrun/kernel/abi.py: mount_setattr");
#endif
#define NR_move_mount 429
#ifdef __NR_move_mount
_Static_assert(__NR_move_mount == 429, "nsrun/kernel/abi.py: move_mount");
#endif
#define NR_mq_unlink 181
#ifdef __NR_mq_unlink
_Static_assert(__NR_mq_unlink == 181, "nsrun/kernel/abi.py: mq_unlink");
#endif
#define NR_open_tree 428
#ifdef __NR_open_tree
_Static_assert(__NR_open_tree == 428, "nsrun/kernel/abi.py: open_tree");
#endif
#define NR_openat 56
#ifdef __NR_openat
_Static_assert(__NR_openat == 56, "nsrun/kernel/abi.py: openat");
#endif
#define NR_openat2 437
#ifdef __NR_openat2
_Static_assert(__NR_openat2 == 437, "nsrun/kernel/abi.py: openat2");
#endif
#define NR_personality 92
#ifdef __NR_personality
_Static_assert(__NR_personality == 92, "nsrun/kernel/abi.py: personality");
#endif
#define NR_pidfd_open 434
#ifdef __NR_pidfd_open
_Static_assert(__NR_pidfd_open == 434, "nsrun/kernel/abi.py: pidfd_open");
#endif
#define NR_pidfd_send_signal 424
#ifdef __NR_pidfd_send_signal
_Static_assert(__NR_pidfd_send_signal == 424, "nsrun/kernel/abi.py: pidfd_send_signal");
#endif
#define NR_pipe2 59
#ifdef __NR_pipe2
_Static_assert(__NR_pipe2 == 59, "nsrun/kernel/abi.py: pipe2");
#endif
#define NR_pivot_root 41
#ifdef __NR_pivot_root
_Static_assert(__NR_pivot_root == 41, "nsrun/kernel/abi.py: pivot_root");
#endif
#define NR_ppoll 73
#ifdef __NR_ppoll
_Static_assert(__NR_ppoll == 73, "nsrun/kernel/abi.py: ppoll");
#endif
#define NR_prctl 167
#ifdef __NR_prctl
_Static_assert(__NR_prctl == 167, "nsrun/kernel/abi.py: prctl");
#endif
#define NR_prlimit64 261
#ifdef __NR_prlimit64
_Static_assert(__NR_prlimit64 == 261, "nsrun/kernel/abi.py: prlimit64");
#endif
#define NR_read 63
#ifdef __NR_read
_Static_assert(__NR_read == 63, "nsrun/kernel/abi.py: read");
#endif
#define NR_readlinkat 78
#ifdef __NR_readlinkat
_Static_assert(__NR_readlinkat == 78, "nsrun/kernel/abi.py: readlinkat");
#endif
#define NR_recvfrom 207
#ifdef __NR_recvfrom
_Static_assert(__NR_recvfrom == 207, "nsrun/kernel/abi.py: recvfrom");
#endif
#define NR_recvmsg 212
#ifdef __NR_recvmsg
_Static_assert(__NR_recvmsg == 212, "nsrun/kernel/abi.py: recvmsg");
#endif
#define NR_renameat2 276
#ifdef __NR_renameat2
_Static_assert(__NR_renameat2 == 276, "nsrun/kernel/abi.py: renameat2");
#endif
#define NR_rt_sigaction 134
#ifdef __NR_rt_sigaction
_Static_assert(__NR_rt_sigaction == 134, "nsrun/kernel/abi.py: rt_sigaction");
#endif
#define NR_rt_sigprocmask 135
#ifdef __NR_rt_sigprocmask
_Static_assert(__NR_rt_sigprocmask == 135, "nsrun/kernel/abi.py: rt_sigprocmask");
#endif
#define NR_sched_setaffinity 122
#ifdef __NR_sched_setaffinity
_Static_assert(__NR_sched_setaffinity == 122, "nsrun/kernel/abi.py: sched_setaffinity");
#endif
#define NR_sched_setscheduler 119
#ifdef __NR_sched_setscheduler
_Static_assert(__NR_sched_setscheduler == 119, "nsrun/kernel/abi.py: sched_setscheduler");
#endif
#define NR_seccomp 277
#ifdef __NR_seccomp
_Static_assert(__NR_seccomp == 277, "nsrun/kernel/abi.py: seccomp");
#endif
#define NR_sendfile 71
#ifdef __NR_sendfile
_Static_assert(__NR_sendfile == 71, "nsrun/kernel/abi.py: sendfile");
#endif
#define NR_sendmsg 211
#ifdef __NR_sendmsg
_Static_assert(__NR_sendmsg == 211, "nsrun/kernel/abi.py: sendmsg");
#endif
#define NR_sendto 206
#ifdef __NR_sendto
_Static_assert(__NR_sendto == 206, "nsrun/kernel/abi.py: sendto");
#endif
#define NR_set_mempolicy 237
#ifdef __NR_set_mempolicy
_Static_assert(__NR_set_mempolicy == 237, "nsrun/kernel/abi.py: set_mempolicy");
#endif
#define NR_setdomainname 162
#ifdef __NR_setdomainname
_Static_assert(__NR_setdomainname == 162, "nsrun/kernel/abi.py: setdomainname");
#endif
#define NR_setgid 144
#ifdef __NR_setgid
_Static_assert(__NR_setgid == 144, "nsrun/kernel/abi.py: setgid");
#endif
#define NR_setgroups 159
#ifdef __NR_setgroups
_Static_assert(__NR_setgroups == 159, "nsrun/kernel/abi.py: setgroups");
#endif
#define NR_sethostname 161
#ifdef __NR_sethostname
_Static_assert(__NR_sethostname == 161, "nsrun/kernel/abi.py: sethostname");
#endif
#define NR_setns 268
#ifdef __NR_setns
_Static_assert(__NR_setns == 268, "nsrun/kernel/abi.py: setns");
#endif
#define NR_setpriority 140
#ifdef __NR_setpriority
_Static_assert(__NR_setpriority == 140, "nsrun/kernel/abi.py: setpriority");
#endif
#define NR_setresgid 149
#ifdef __NR_setresgid
_Static_assert(__NR_setresgid == 149, "nsrun/kernel/abi.py: setresgid");
#endif
#define NR_setresuid 147
#ifdef __NR_setresuid
_Static_assert(__NR_setresuid == 147, "nsrun/kernel/abi.py: setresuid");
#endif
#define NR_setsid 157
#ifdef __NR_setsid
_Static_assert(__NR_setsid == 157, "nsrun/kernel/abi.py: setsid");
#endif
#define NR_setsockopt 208
#ifdef __NR_setsockopt
_Static_assert(__NR_setsockopt == 208, "nsrun/kernel/abi.py: setsockopt");
#endif
#define NR_setuid 146
#ifdef __NR_setuid
_Static_assert(__NR_setuid == 146, "nsrun/kernel/abi.py: setuid");
#endif
#define NR_setxattr 5
#ifdef __NR_setxattr
_Static_assert(__NR_setxattr == 5, "nsrun/kernel/abi.py: setxattr");
#endif
#define NR_shutdown 210
#ifdef __NR_shutdown
_Static_assert(__NR_shutdown == 210, "nsrun/kernel/abi.py: shutdown");
#endif
#define NR_signalfd4 74
#ifdef __NR_signalfd4
_Static_assert(__NR_signalfd4 == 74, "nsrun/kernel/abi.py: signalfd4");
#endif
#define NR_socket 198
#ifdef __NR_socket
_Static_assert(__NR_socket == 198, "nsrun/kernel/abi.py: socket");
#endif
#define NR_socketpair 199
#ifdef __NR_socketpair
_Static_assert(__NR_socketpair == 199, "nsrun/kernel/abi.py: socketpair");
#endif
#define NR_statfs 43
#ifdef __NR_statfs
_Static_assert(__NR_statfs == 43, "nsrun/kernel/abi.py: statfs");
#endif
#define NR_statmount 457
#ifdef __NR_statmount
_Static_assert(__NR_statmount == 457, "nsrun/kernel/abi.py: statmount");
#endif
#define NR_statx 291
#ifdef __NR_statx
_Static_assert(__NR_statx == 291, "nsrun/kernel/abi.py: statx");
#endif
#define NR_symlinkat 36
#ifdef __NR_symlinkat
_Static_assert(__NR_symlinkat == 36, "nsrun/kernel/abi.py: symlinkat");
#endif
#define NR_timerfd_create 85
#ifdef __NR_timerfd_create
_Static_assert(__NR_timerfd_create == 85, "nsrun/kernel/abi.py: timerfd_create");
#endif
#define NR_timerfd_settime 86
#ifdef __NR_timerfd_settime
_Static_assert(__NR_timerfd_settime == 86, "nsrun/kernel/abi.py: timerfd_settime");
#endif
#define NR_umask 166
#ifdef __NR_umask
_Static_assert(__NR_umask == 166, "nsrun/kernel/abi.py: umask");
#endif
#define NR_umount2 39
#ifdef __NR_umount2
_Static_assert(__NR_umount2 == 39, "nsrun/kernel/abi.py: umount2");
#endif
#define NR_unlinkat 35
#ifdef __NR_unlinkat
_Static_assert(__NR_unlinkat == 35, "nsrun/kernel/abi.py: unlinkat");
#endif
#define NR_unshare 97
#ifdef __NR_unshare
_Static_assert(__NR_unshare == 97, "nsrun/kernel/abi.py: unshare");
#endif
#define NR_wait4 260
#ifdef __NR_wait4
_Static_assert(__NR_wait4 == 260, "nsrun/kernel/abi.py: wait4");
#endif
#define NR_waitid 95
#ifdef __NR_waitid
_Static_assert(__NR_waitid == 95, "nsrun/kernel/abi.py: waitid");
#endif
#define NR_write 64
#ifdef __NR_write
_Static_assert(__NR_write == 64, "nsrun/kernel/abi.py: write");
#endif
#endif

#define ERRNO_NAMES(X) \
    X(1, "EPERM") \
    X(2, "ENOENT") \
    X(3, "ESRCH") \
    X(4, "EINTR") \
    X(5, "EIO") \
    X(6, "ENXIO") \
    X(7, "E2BIG") \
    X(8, "ENOEXEC") \
    X(9, "EBADF") \
    X(10, "ECHILD") \
    X(11, "EAGAIN") \
    X(12, "ENOMEM") \
    X(13, "EACCES") \
    X(14, "EFAULT") \
    X(15, "ENOTBLK") \
    X(16, "EBUSY") \
    X(17, "EEXIST") \
    X(18, "EXDEV") \
    X(19, "ENODEV") \
    X(20, "ENOTDIR") \
    X(21, "EISDIR") \
    X(22, "EINVAL") \
    X(23, "ENFILE") \
    X(24, "EMFILE") \
    X(25, "ENOTTY") \
    X(26, "ETXTBSY") \
    X(27, "EFBIG") \
    X(28, "ENOSPC") \
    X(29, "ESPIPE") \
    X(30, "EROFS") \
    X(31, "EMLINK") \
    X(32, "EPIPE") \
    X(33, "EDOM") \
    X(34, "ERANGE") \
    X(35, "EDEADLOCK") \
    X(36, "ENAMETOOLONG") \
    X(37, "ENOLCK") \
    X(38, "ENOSYS") \
    X(39, "ENOTEMPTY") \
    X(40, "ELOOP") \
    X(42, "ENOMSG") \
    X(43, "EIDRM") \
    X(44, "ECHRNG") \
    X(45, "EL2NSYNC") \
    X(46, "EL3HLT") \
    X(47, "EL3RST") \
    X(48, "ELNRNG") \
    X(49, "EUNATCH") \
    X(50, "ENOCSI") \
    X(51, "EL2HLT") \
    X(52, "EBADE") \
    X(53, "EBADR") \
    X(54, "EXFULL") \
    X(55, "ENOANO") \
    X(56, "EBADRQC") \
    X(57, "EBADSLT") \
    X(59, "EBFONT") \
    X(60, "ENOSTR") \
    X(61, "ENODATA") \
    X(62, "ETIME") \
    X(63, "ENOSR") \
    X(64, "ENONET") \
    X(65, "ENOPKG") \
    X(66, "EREMOTE") \
    X(67, "ENOLINK") \
    X(68, "EADV") \
    X(69, "ESRMNT") \
    X(70, "ECOMM") \
    X(71, "EPROTO") \
    X(72, "EMULTIHOP") \
    X(73, "EDOTDOT") \
    X(74, "EBADMSG") \
    X(75, "EOVERFLOW") \
    X(76, "ENOTUNIQ") \
    X(77, "EBADFD") \
    X(78, "EREMCHG") \
    X(79, "ELIBACC") \
    X(80, "ELIBBAD") \
    X(81, "ELIBSCN") \
    X(82, "ELIBMAX") \
    X(83, "ELIBEXEC") \
    X(84, "EILSEQ") \
    X(85, "ERESTART") \
    X(86, "ESTRPIPE") \
    X(87, "EUSERS") \
    X(88, "ENOTSOCK") \
    X(89, "EDESTADDRREQ") \
    X(90, "EMSGSIZE") \
    X(91, "EPROTOTYPE") \
    X(92, "ENOPROTOOPT") \
    X(93, "EPROTONOSUPPORT") \
    X(94, "ESOCKTNOSUPPORT") \
    X(95, "ENOTSUP") \
    X(96, "EPFNOSUPPORT") \
    X(97, "EAFNOSUPPORT") \
    X(98, "EADDRINUSE") \
    X(99, "EADDRNOTAVAIL") \
    X(100, "ENETDOWN") \
    X(101, "ENETUNREACH") \
    X(102, "ENETRESET") \
    X(103, "ECONNABORTED") \
    X(104, "ECONNRESET") \
    X(105, "ENOBUFS") \
    X(106, "EISCONN") \
    X(107, "ENOTCONN") \
    X(108, "ESHUTDOWN") \
    X(109, "ETOOMANYREFS") \
    X(110, "ETIMEDOUT") \
    X(111, "ECONNREFUSED") \
    X(112, "EHOSTDOWN") \
    X(113, "EHOSTUNREACH") \
    X(114, "EALREADY") \
    X(115, "EINPROGRESS") \
    X(116, "ESTALE") \
    X(117, "EUCLEAN") \
    X(118, "ENOTNAM") \
    X(119, "ENAVAIL") \
    X(120, "EISNAM") \
    X(121, "EREMOTEIO") \
    X(122, "EDQUOT") \
    X(123, "ENOMEDIUM") \
    X(124, "EMEDIUMTYPE") \
    X(125, "ECANCELED") \
    X(126, "ENOKEY") \
    X(127, "EKEYEXPIRED") \
    X(128, "EKEYREVOKED") \
    X(129, "EKEYREJECTED") \
    X(130, "EOWNERDEAD") \
    X(131, "ENOTRECOVERABLE") \
    X(132, "ERFKILL") \
    /* errnos of asm-generic */
#endif
