/* The hardened container of specs/hardened.yaml, started by one straight program: the system
 * calls of its plan in the plan's order, with nothing read, parsed or looked up.
 *
 *     handwritten ROOTFS IDMAP COMMAND [ARG...]      IDMAP is a line of uid_map(5)
 *
 * What a plan leaves to the machine is given when it is built: -DCPUS=N -DLAST_CAP=N. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define DETACH 2 /* MNT_DETACH of sys/mount.h, which does not go with linux/mount.h */
#define SIGSET 8 /* bytes of the kernel's sigset_t */
#define NOBODY (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
/* Defaults of hardening: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP
 * NET_BIND_SERVICE SYS_CHROOT SETFCAP */
#define KEPT UINT64_C(0x800405fb)

static long must(long result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "handwritten: %s: %s\n", what, strerror(errno));
        _exit(125);
    }
    return result;
}
#define CALL(name, ...) must(syscall(SYS_##name, __VA_ARGS__), #name)

/* --- small things made of two or more calls ------------------------------------------------ */

static int inside(int root, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = {.flags = O_PATH | O_CLOEXEC | flags,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve};
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

static int filesystem(const char *type)
{
    int fs = (int)CALL(fsopen, type, FSOPEN_CLOEXEC);
    CALL(fsconfig, fs, FSCONFIG_SET_STRING, "source", type, 0);
    return fs;
}

#define option(fs, key, value) CALL(fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0)

static int mounted(int fs, unsigned attributes)
{
    CALL(fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
    int mount = (int)CALL(fsmount, fs, FSMOUNT_CLOEXEC, attributes);
    close(fs);
    return mount;
}

static void attach(int mount, int target)
{
    CALL(move_mount, mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static void attach_at(int mount, int folder, const char *name)
{
    CALL(move_mount, mount, "", folder, name, MOVE_MOUNT_F_EMPTY_PATH);
    close(mount);
}

static void is_device(int fd, unsigned major, unsigned minor)
{
    struct statx st;
    CALL(statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st);
    if (!S_ISCHR(st.stx_mode) || st.stx_rdev_major != major || st.stx_rdev_minor != minor)
        must(-1, "not the device");
}

static void device(int dev, const char *path, unsigned major, unsigned minor)
{
    int node = (int)CALL(open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    is_device(node, major, minor);
    const char *name = path + strlen("/dev/");
    CALL(mknodat, dev, name, S_IFREG | 0666, 0);
    attach_at(node, dev, name);
}

static void hide_file(int root, int null, const char *path)
{
    int hidden = inside(root, path, 0, 0);
    if (hidden < 0 && errno == ENOENT)
        return;
    must(hidden, path);
    int cover = (int)CALL(open_tree, null, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | OPEN_TREE_CLOEXEC);
    attach(cover, hidden);
    close(cover);
    close(hidden);
}

static void hide_folder(int root, const char *path)
{
    int hidden = inside(root, path, O_DIRECTORY, 0);
    if (hidden < 0 && (errno == ENOENT || errno == ENOTDIR))
        return;
    must(hidden, path);
    int fs = filesystem("tmpfs");
    option(fs, "size", "4k");
    option(fs, "mode", "0755");
    int empty = mounted(fs, MOUNT_ATTR_RDONLY | NOBODY);
    attach(empty, hidden);
    close(empty);
    close(hidden);
}

static void read_only(int root, const char *path)
{
    int fixed = inside(root, path, 0, 0);
    if (fixed < 0 && errno == ENOENT)
        return;
    must(fixed, path);
    int copy = (int)CALL(open_tree, fixed, "",
                         OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLOEXEC);
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    CALL(mount_setattr, copy, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr);
    attach(copy, fixed);
    close(copy);
    close(fixed);
}

static void write_map(int child, const char *name, const char *line)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", child, name);
    int fd = (int)must(open(path, O_WRONLY | O_CLOEXEC), path);
    struct statfs fs;
    must(fstatfs(fd, &fs), path);
    if (fs.f_type != PROC_SUPER_MAGIC)
        must(-1, "not procfs");
    must(write(fd, line, strlen(line)), path);
    close(fd);
}

static void send_to_child(int channel, int fd)
{
    char byte = 1;
    struct iovec iov = {&byte, 1};
    union { struct cmsghdr head; char space[CMSG_SPACE(sizeof(int))]; } control = {0};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    }
    must(sendmsg(channel, &message, MSG_NOSIGNAL), "sendmsg");
}

static int receive(int channel)
{
    char byte;
    int fd = -1;
    struct iovec iov = {&byte, 1};
    union { struct cmsghdr head; char space[CMSG_SPACE(sizeof(int))]; } control = {0};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1,
                             .msg_control = &control, .msg_controllen = sizeof control};
    if (must(recvmsg(channel, &message, MSG_CMSG_CLOEXEC), "recvmsg") == 0)
        _exit(125);
    if (message.msg_controllen)
        memcpy(&fd, CMSG_DATA(&control.head), sizeof fd);
    return fd;
}

/* --- the child ----------------------------------------------------------------------------- */

static void devices(int root)
{
    int fs = filesystem("tmpfs");
    option(fs, "mode", "0755");
    option(fs, "size", "64m");
    int dev = mounted(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_STRICTATIME);
    int at = (int)must(inside(root, "dev", 0, RESOLVE_NO_SYMLINKS), "dev");
    attach(dev, at);
    close(at);
    device(dev, "/dev/null", 1, 3);
    device(dev, "/dev/zero", 1, 5);
    device(dev, "/dev/full", 1, 7);
    device(dev, "/dev/random", 1, 8);
    device(dev, "/dev/urandom", 1, 9);
    device(dev, "/dev/tty", 5, 0);
    static const char *links[][2] = {{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"},
                                     {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
                                     {"pts/ptmx", "ptmx"}};
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        must(symlinkat(links[i][0], dev, links[i][1]), links[i][1]);

    fs = filesystem("devpts");
    CALL(fsconfig, fs, FSCONFIG_SET_FLAG, "newinstance", NULL, 0);
    option(fs, "ptmxmode", "0666");
    option(fs, "mode", "0620");
    option(fs, "gid", "5");
    int pts = mounted(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    must(mkdirat(dev, "pts", 0755), "pts");
    attach_at(pts, dev, "pts");

    fs = filesystem("tmpfs");
    option(fs, "mode", "1777");
    option(fs, "size", "64m");
    int shm = mounted(fs, NOBODY);
    must(mkdirat(dev, "shm", 0755), "shm");
    attach_at(shm, dev, "shm");

    int mqueue = mounted(filesystem("mqueue"), NOBODY);
    must(mkdirat(dev, "mqueue", 0755), "mqueue");
    attach_at(mqueue, dev, "mqueue");
    close(dev);
}

static void kernel_filesystem(int root, const char *type, const char *name, unsigned attributes)
{
    int mount = mounted(filesystem(type), attributes);
    int at = (int)must(inside(root, name, 0, RESOLVE_NO_SYMLINKS), name);
    attach(mount, at);
    close(at);
    close(mount);
}

static void masks(int root)
{
    int null = (int)must(open("/dev/null", O_PATH | O_CLOEXEC), "/dev/null");
    is_device(null, 1, 3);
    static const char *files[] = {"proc/interrupts", "proc/kcore", "proc/keys",
                                  "proc/latency_stats", "proc/sched_debug", "proc/timer_list",
                                  "proc/timer_stats"};
    static const char *folders[] = {"proc/acpi", "proc/asound", "proc/scsi", "sys/firmware",
                                    "sys/devices/virtual/powercap", "sys/fs/selinux"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        hide_file(root, null, files[i]);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        hide_folder(root, folders[i]);
    for (int cpu = 0; cpu < CPUS; cpu++) {
        char path[64];
        snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%d/thermal_throttle", cpu);
        hide_folder(root, path);
    }
    close(null);
    static const char *fixed[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys",
                                  "proc/sysrq-trigger"};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        read_only(root, fixed[i]);
}

static void give_up_privileges(void)
{
    for (int cap = 0; cap <= LAST_CAP; cap++)
        if (!(KEPT >> cap & 1))
            must(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0), "PR_CAPBSET_DROP");
    CALL(setgroups, 0, NULL);
    CALL(setresgid, 0, 0, 0);
    CALL(setresuid, 0, 0, 0);
    must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "PR_CAP_AMBIENT");
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{(uint32_t)KEPT, (uint32_t)KEPT, 0},
                                             {KEPT >> 32, KEPT >> 32, 0}};
    CALL(capset, &head, data);
}

/* nsrun's default filter, as it is in the plan of the same container: bench/peers.py writes it. */
static const uint8_t filter[] __attribute__((aligned(8))) = {
#include FILTER
};

static _Noreturn void child(int channel, int name, char **command)
{
    must(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "PR_SET_PDEATHSIG");
    syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
    must(setsid(), "setsid");
    umask(0);
    syscall(SYS_listen, name, 4096);
    receive(channel);
    must(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "PR_SET_DUMPABLE");
    int root = receive(channel);
    struct mount_attr private = {.propagation = MS_PRIVATE};
    CALL(mount_setattr, root, "", AT_EMPTY_PATH | AT_RECURSIVE, &private, sizeof private);
    CALL(setresgid, 0, 0, 0);
    CALL(setresuid, 0, 0, 0);
    must(sethostname("hardened", strlen("hardened")), "sethostname");
    int inet = (int)must(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    must(ioctl(inet, SIOCSIFFLAGS, &lo), "SIOCSIFFLAGS");
    close(inet);

    CALL(mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    CALL(move_mount, root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH);
    kernel_filesystem(root, "proc", "proc", NOBODY);
    kernel_filesystem(root, "sysfs", "sys", MOUNT_ATTR_RDONLY | NOBODY);
    devices(root);
    masks(root);
    must(fchdir(root), "fchdir");
    CALL(pivot_root, ".", ".");
    CALL(umount2, ".", DETACH);
    must(chdir("/"), "chdir");

    give_up_privileges();
    must(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "PR_SET_PDEATHSIG");
    char byte;
    if (recv(channel, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
        _exit(125); /* the launcher has gone */
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
    umask(022);
    CALL(close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
    /* Whatever the caller ignores; the C library keeps two signals for itself, the kernel not. */
    uint64_t plain[4] = {0};
    for (int number = 1; number <= 64; number++)
        syscall(SYS_rt_sigaction, number, plain, NULL, SIGSET);
    uint64_t none = 0;
    CALL(rt_sigprocmask, SIG_SETMASK, &none, NULL, SIGSET);
    char *envp[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "TERM=linux", "LANG=C.UTF-8", NULL};
    struct sock_fprog program = {.len = sizeof filter / sizeof(struct sock_filter),
                                 .filter = (struct sock_filter *)(uintptr_t)filter};
    CALL(seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
    execve(command[0], command, envp);
    must(-1, command[0]);
    _exit(125);
}

/* --- the launcher -------------------------------------------------------------------------- */

static int supervise(int child, int pidfd, int signals)
{
    struct pollfd polls[] = {{pidfd, POLLIN, 0}, {signals, POLLIN, 0}};
    for (;;) {
        must(poll(polls, 2, -1), "poll");
        struct signalfd_siginfo info;
        if ((polls[1].revents & POLLIN) && read(signals, &info, sizeof info) == sizeof info &&
            info.ssi_signo != SIGCHLD)
            syscall(SYS_pidfd_send_signal, pidfd, info.ssi_signo, NULL, 0);
        if (polls[0].revents)
            break;
    }
    siginfo_t info;
    must(waitid(P_PID, (id_t)child, &info, WEXITED), "waitid");
    return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 125;
    uint64_t all = ~UINT64_C(0);
    CALL(rt_sigprocmask, SIG_SETMASK, &all, NULL, SIGSET);
    int signals = (int)CALL(signalfd4, -1, &all, SIGSET, SFD_NONBLOCK | SFD_CLOEXEC);
    int ends[2];
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), "socketpair");
    must(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "PR_SET_CHILD_SUBREAPER");
    int name = (int)must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0nsrun-bench/handwritten"};
    syscall(SYS_bind, name, &address,
            offsetof(struct sockaddr_un, sun_path) + sizeof "\0nsrun-bench/handwritten" - 1);

    int pidfd = -1;
    struct clone_args args = {
        .flags = CLONE_PIDFD | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                 CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_CLEAR_SIGHAND,
        .pidfd = (uintptr_t)&pidfd,
        .exit_signal = SIGCHLD};
    int pid = (int)CALL(clone3, &args, sizeof args);
    if (pid == 0) {
        close(ends[0]);
        child(ends[1], name, argv + 3);
    }
    close(ends[1]);
    write_map(pid, "uid_map", argv[2]);
    write_map(pid, "gid_map", argv[2]);
    send_to_child(ends[0], -1);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
    int userns = (int)must(open(path, O_RDONLY | O_CLOEXEC), path);
    int root = (int)CALL(open_tree, AT_FDCWD, argv[1],
                         OPEN_TREE_CLONE | AT_RECURSIVE | OPEN_TREE_CLOEXEC);
    struct mount_attr mapped = {.attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_NOSUID,
                                .userns_fd = (uint64_t)userns};
    CALL(mount_setattr, root, "", AT_EMPTY_PATH, &mapped, sizeof mapped);
    send_to_child(ends[0], root);
    close(root);
    close(userns);
    char byte;
    recv(ends[0], &byte, 1, 0); /* the end of the channel: the command has been executed */
    return supervise(pid, pidfd, signals);
}
