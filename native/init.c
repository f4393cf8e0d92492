/* PID 1 of a container: the process that stays behind an `init` operation.
 *
 *     child track ── init ──●── reap, forward ─────────── end with the command's status
 *                           └── rest of the track ── execve
 */
#include "reap.h"
#include "run.h"

#include <linux/signal.h>
#include <linux/wait.h>

#define EVERY_SIGNAL (~0ull)

static i64 set_handler(int number, u64 handler)
{
    u64 action[4] = {handler};
    return SYS4(rt_sigaction, number, action, NULL, 8);
}

/* Collects all that have ended; the exit status of the command if it is among them, else -1. */
static int reap_until(int command)
{
    int found = -1;
    for (;;) {
        struct child_end end = {0};
        /* Without any child left the command is gone, whoever collected it. */
        if (wait_child(P_ALL, 0, &end, WEXITED | WNOHANG))
            return found < 0 ? NSRUN_FAILED : found;
        if (!end.pid)
            return found;
        if (end.pid == command)
            found = end.status;
    }
}

/* Waits for a signal and passes it on, if it is the command's to know. */
static void forward(int command)
{
    u64 every = EVERY_SIGNAL;
    i64 number = SYS4(rt_sigtimedwait, &every, NULL, NULL, 8);
    /* Terminal output of a background process, and a write by this process itself. */
    if (number <= 0 || number == SIGCHLD || number == SIGTTIN || number == SIGTTOU ||
        number == SIGPIPE)
        return;
    /* The command's process group is orphaned, and there SIGTSTP does not stop (setpgid(2));
     * SIGSTOP does. */
    SYS2(kill, command, number == SIGTSTP ? SIGSTOP : number);
}

i64 init_settle(void)
{
    u64 every = EVERY_SIGNAL;
    i64 result = SYS4(rt_sigprocmask, SIG_BLOCK, &every, NULL, 8);
    /* With SIGCHLD ignored the kernel would reap the command and keep its status (wait(2)). */
    if (result == 0)
        result = set_handler(SIGCHLD, 0);
    if (result == 0)
        result = set_handler(SIGTTIN, 1);
    if (result == 0)
        result = set_handler(SIGTTOU, 1);
    /* The parent reads the channel's end of file as the command's execve. */
    return result ? result : SYS3(close_range, 3, ~0u, 0);
}

NORETURN void init_stay(int command)
{
    int status, left[1];
    while ((status = reap_until(command)) < 0)
        forward(command);
    /* Only with the init of a pid namespace does the kernel end all others. */
    if (SYS0(getpid) != 1)
        reap_all(0, left, 0);
    sys_exit(status);
}
