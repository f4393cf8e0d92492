/* Ending processes and collecting them: only children of this process, never by name. */
#include "reap.h"
#include "run.h"

#include <linux/poll.h>
#include <linux/signal.h>
#include <linux/wait.h>

#define SECOND 1000000000
/* A killed process that does not end sits in the kernel; nothing here can help it along. */
#define PATIENCE (2ll * SECOND)
#define CHILDREN_MAX 256

i64 wait_child(int type, int id, struct child_end *end, int options)
{
    /* siginfo_t (asm-generic/siginfo.h): signo, errno, code, then for SIGCHLD pid, uid, status. */
    struct {
        int signo, err, code, padding, pid;
        u32 uid;
        int status;
        int rest[25];
    } info = {0};
    i64 result;
    do
        result = SYS5(waitid, type, id, &info, options, NULL);
    while (result == -EINTR);
    if (result < 0)
        return result;
    end->pid = info.pid;
    end->signal = info.code == CLD_EXITED ? 0 : info.status;
    end->status = info.code == CLD_EXITED ? info.status : SIGNALLED + info.status;
    return 0;
}

int reap_has_children(void)
{
    struct child_end end;
    return wait_child(P_ALL, 0, &end, WEXITED | WNOHANG | WNOWAIT) != -ECHILD;
}

int reap_ended(int pidfd, i64 patience)
{
    struct pollfd poll = {pidfd, POLLIN, 0};
    struct __kernel_timespec left = {patience / SECOND, patience % SECOND};
    i64 ready;
    do
        ready = SYS5(ppoll, &poll, 1, patience < 0 ? NULL : &left, NULL, 8);
    while (ready == -EINTR);
    return ready > 0;
}

int reap_collect(int pidfd, int *status, int *signal)
{
    struct child_end end = {0};
    i64 result = wait_child(P_PIDFD, pidfd, &end, WEXITED | WNOHANG);
    if (result < 0)
        return (int)result;
    if (!end.pid)
        return -EAGAIN;
    *status = end.status;
    *signal = end.signal;
    return 0;
}

int reap_peek(int pidfd)
{
    struct child_end end = {0};
    i64 result = wait_child(P_PIDFD, pidfd, &end, WEXITED | WNOHANG | WNOWAIT);
    return result < 0 || !end.pid ? -1 : end.status;
}

void reap_kill(int pidfd) { SYS4(pidfd_send_signal, pidfd, SIGKILL, NULL, 0); }

void reap_finish(int pidfd)
{
    int status, signal;
    /* One that has been collected is no child any more, and needs no waiting for. */
    if (reap_collect(pidfd, &status, &signal) != -EAGAIN)
        return;
    reap_ended(pidfd, PATIENCE);
    reap_collect(pidfd, &status, &signal);
}

void reap_orphans(int keep)
{
    struct child_end end;
    for (;;) {
        end.pid = 0;
        if (wait_child(P_ALL, 0, &end, WEXITED | WNOHANG | WNOWAIT) || !end.pid || end.pid == keep)
            return;
        wait_child(P_PID, end.pid, &end, WEXITED | WNOHANG);
    }
}

/* --- all that is left ----------------------------------------------------------------------*/

/* The pids of this process's children without `keep`, as many as fit; none where procfs does not say
 * (CONFIG_PROC_CHILDREN). */
static u32 children(int keep, int *pids, u32 most)
{
    static char text[8192];
    i64 fd = SYS4(openat, AT_FDCWD, "/proc/thread-self/children", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    i64 size = SYS3(read, fd, text, sizeof text);
    SYS1(close, fd);
    u32 count = 0, pid = 0;
    for (i64 at = 0; at < size && count < most; at++) {
        if (text[at] >= '0' && text[at] <= '9') {
            pid = 10 * pid + (u32)(text[at] - '0');
        } else if (pid) {
            if ((int)pid != keep)
                pids[count++] = (int)pid;
            pid = 0;
        }
    }
    return count;
}

/* The procfs asked may belong to another pid namespace, or be a forgery in an image: only
 * waitid(2) knows. A child's pid is not used again before it is collected. */
static void kill_child(int pid)
{
    struct child_end end;
    if (!wait_child(P_PID, pid, &end, WEXITED | WNOHANG | WNOWAIT))
        SYS2(kill, pid, SIGKILL);
}

/* Collects what has ended; 0 where no child is left. */
static int collect_all(void)
{
    struct child_end end;
    for (;;) {
        end.pid = 0;
        if (wait_child(P_ALL, 0, &end, WEXITED | WNOHANG))
            return 0;
        if (!end.pid)
            return 1;
    }
}

u32 reap_all(int keep, int *left, u32 most)
{
    static int pids[CHILDREN_MAX];
    i64 pause = SECOND / 2000, deadline = 0;
    while (collect_all()) {
        u32 count = children(keep, pids, CHILDREN_MAX);
        for (u32 i = 0; i < count; i++)
            kill_child(pids[i]);
        i64 now = sys_monotonic();
        if (!deadline)
            deadline = now + PATIENCE;
        if (!count || now > deadline) {
            if (count > most)
                count = most;
            memcpy(left, pids, count * sizeof *left);
            return count;
        }
        struct __kernel_timespec time = {0, pause};
        SYS2(nanosleep, &time, NULL);
        pause = pause < SECOND / 100 ? 2 * pause : SECOND / 50;
    }
    return 0;
}

void reap_sweep(struct run *run)
{
    run->survivors = reap_all(run->heir.pid, run->survivor, SURVIVORS_MAX);
}
