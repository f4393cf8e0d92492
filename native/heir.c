/* A process that takes back what a killed launcher has made on the host.
 *
 * A launcher that is killed cannot undo anything: mount points it made in a rootfs and files of a
 * start that failed would stay. The heir reads a pipe whose other end the launcher has open, and
 * the child up to its execve; at the end of file it runs the undo steps in the launcher's place. It
 * is there only for plans that have any, and in a session of its own, out of reach of what a
 * terminal or a shell sends to the launcher's process group.
 *
 * It knows what the launcher knew when it was forked: before an action that is undone by a register
 * set since then, another takes its place, at the same pipe.
 */
#include "run.h"

#include <linux/signal.h>

#define MOMENT 20000 /* nanoseconds */

/* One action of the parent's track; `index` is that of its first step. */
struct action {
    const u32 *at;
    u32 index;
};

static int next(const struct run *run, struct action *action)
{
    if (!action->at) {
        action->at = run->plan.parent;
    } else {
        const u32 *step = action->at + 4;
        for (u32 left = action->at[2]; left; left--, action->index++)
            step += step_words(step);
        action->at = step;
    }
    return action->at < run->plan.parent_end && (*action->at & 0xff) == PLAN_WORD_ACTION;
}

/* The processes of clones end with the launcher by themselves. */
static int leaves_something(const struct action *action)
{
    const u32 *step = action->at + 4;
    if (action->at[3] == PLAN_NO_UNDO)
        return 0;
    for (u32 left = action->at[2]; left; left--, step += step_words(step))
        if (step_op(step) == OP_CLONE)
            return 0;
    return 1;
}

static int is_wanted(const struct run *run)
{
    struct action action = {0};
    while (next(run, &action))
        if (leaves_something(&action))
            return 1;
    return 0;
}

/* What the launcher's marks say it had begun. */
static void take_over(struct run *run)
{
    struct action action = {0};
    run->done_count = 0;
    while (next(run, &action)) {
        int begun = 0;
        for (u32 i = 0; i < action.at[2]; i++)
            begun |= marked(run, PARENT, action.index + i).state != STATE_NOT_REACHED;
        if (begun)
            run->done[run->done_count++] = action.at;
    }
}

static void close_register(struct run *run, u32 reg)
{
    if (reg && run->is_set[reg - 1] && !run->is_closed[reg - 1])
        SYS1(close, run->value[reg - 1]);
}

static NORETURN void succeed(struct run *run, const int *pipe, u32 number)
{
    static struct outcome untold;
    char byte;
    SYS0(setsid);
    __atomic_store_n(&run->shared->settled, number, __ATOMIC_RELEASE);
    SYS1(close, pipe[1]);
    /* An end of the channel held open here would hide an end of file from the others. */
    close_register(run, run->plan.header->listens_on);
    close_register(run, run->plan.header->reports_to);
    if (SYS3(read, pipe[0], &byte, 1) == 0 && run->shared->heir == number) {
        take_over(run);
        run_undo(run, &untold, !child_entered_exec(run));
    }
    sys_exit(NSRUN_FAILED);
}

/* A first one, or one more in the place of the one before, which is still there. */
static i64 start(struct run *run)
{
    struct heir *heir = &run->heir;
    u32 number = heir->number + 1;
    if (!heir->pid)
        run->shared->heir = number;
    i64 pid = sys_clone(0, SIGCHLD, NULL);
    if (pid == 0)
        succeed(run, heir->pipe, number);
    if (pid < 0)
        return pid;
    i64 pidfd = SYS2(pidfd_open, pid, 0);
    if (pidfd < 0) {
        SYS2(kill, pid, SIGKILL);
        return pidfd;
    }
    /* Until then a kill of the launcher's process group would reach it as well. */
    while (__atomic_load_n(&run->shared->settled, __ATOMIC_ACQUIRE) != number)
        if (reap_ended((int)pidfd, MOMENT))
            break;
    /* From here on the one before is it no more: nothing is undone twice. */
    run->shared->heir = number;
    heir->number = number;
    heir->pid = (int)pid;
    heir->pidfd = (int)pidfd;
    return 0;
}

static void end(const struct heir *heir)
{
    reap_kill(heir->pidfd);
    reap_finish(heir->pidfd);
    SYS1(close, heir->pidfd);
}

i64 heir_appoint(struct run *run)
{
    if (run->heir.pid || !is_wanted(run))
        return 0;
    i64 result = SYS2(pipe2, run->heir.pipe, O_CLOEXEC);
    if (result < 0)
        return result;
    result = start(run);
    if (result < 0) {
        SYS1(close, run->heir.pipe[0]);
        SYS1(close, run->heir.pipe[1]);
    }
    return result;
}

i64 heir_renew(struct run *run)
{
    struct heir before = run->heir;
    if (!before.pid)
        return 0;
    i64 result = start(run);
    if (result == 0)
        end(&before);
    return result;
}

void heir_release(struct run *run)
{
    if (!run->heir.pid)
        return;
    end(&run->heir);
    SYS1(close, run->heir.pipe[0]);
    SYS1(close, run->heir.pipe[1]);
    run->heir.pid = 0;
}
