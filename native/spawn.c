/* Helpers run to their end by the launcher: newuidmap, nft, hooks. */
#include "run.h"

#include <linux/memfd.h>
#include <linux/poll.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/signal.h>
#include <linux/time_types.h>
#include "reap.h"
#include <linux/wait.h>

/* A helper without a timeout of its own: while one runs, the launcher answers no signal. */
#define DEFAULT_TIMEOUT (60ll * 1000000000)
#define SIGNALS 64
/* A pipe holds 64 KiB (pipe(7)): what a helper left behind in one. */
#define PIPE_SIZE (1 << 16)

/* The end of what a helper wrote: that is where a program says why it gave up. */
struct captured {
    int fd; /* -1: it has ended */
    u32 used;
    char text[TEXT_MAX];
};

struct helper {
    char **argv, **env;
    i64 launcher; /* its pid */
    int stdin;
    int writers[2];
    int pidfd;
    int pid;
    int timed_out;
    struct captured *out[2]; /* stdout, stderr */
};

/* --- what it says --------------------------------------------------------------------------*/

static void keep(struct captured *captured, const char *piece, u32 size)
{
    if (size > TEXT_MAX) {
        piece += size - TEXT_MAX;
        size = TEXT_MAX;
    }
    u32 room = TEXT_MAX - captured->used;
    if (size > room) {
        u32 surplus = size - room;
        memmove(captured->text, captured->text + surplus, captured->used - surplus);
        captured->used -= surplus;
    }
    memcpy(captured->text + captured->used, piece, size);
    captured->used += size;
}

/* Takes one piece of what there is: its size, 0 at the end, -EAGAIN. */
static i64 take(struct captured *captured)
{
    static char piece[PIPE_SIZE];
    i64 size = SYS3(read, captured->fd, piece, sizeof piece);
    if (size > 0)
        keep(captured, piece, (u32)size);
    return size;
}

static void take_and_close(struct captured *captured)
{
    if (take(captured) != 0)
        return;
    SYS1(close, captured->fd);
    captured->fd = -1;
}

/* What the helper left behind: no more than a pipe holds, and without waiting for a daemon of it
 * that keeps the pipe open. */
static void take_rest(struct captured *captured)
{
    if (captured->fd < 0)
        return;
    for (i64 taken = 0, size; taken < PIPE_SIZE && (size = take(captured)) > 0;)
        taken += size;
    SYS1(close, captured->fd);
    captured->fd = -1;
}

/* --- starting it ---------------------------------------------------------------------------*/

/* The new process: three descriptors, default signals, the helper. */
static NORETURN void execute(struct run *run, const struct helper *helper)
{
    u64 none = 0, action[4] = {0};
    /* prctl(2): it ends with the launcher, which may have ended just before. */
    SYS5(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (SYS0(getppid) != helper->launcher)
        sys_exit(NSRUN_FAILED);
    i64 err = SYS3(dup3, helper->stdin, 0, 0);
    err = err < 0 ? err : SYS3(dup3, helper->writers[0], 1, 0);
    err = err < 0 ? err : SYS3(dup3, helper->writers[1], 2, 0);
    for (int number = 1; number <= SIGNALS; number++)
        SYS4(rt_sigaction, number, action, NULL, 8);
    SYS4(rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
    if (err >= 0)
        err = SYS3(execve, helper->argv[0], helper->argv, helper->env);
    run->shared->spawn_error = (int)-err;
    sys_exit(NSRUN_FAILED);
}

static i64 open_pipes(struct helper *helper)
{
    for (int i = 0; i < 2; i++) {
        int ends[2];
        i64 result = SYS2(pipe2, ends, O_CLOEXEC);
        if (result < 0)
            return result;
        helper->out[i]->fd = ends[0];
        helper->writers[i] = ends[1];
        /* Non-blocking is for our end alone: the two ends are two descriptions. */
        SYS3(fcntl, ends[0], F_SETFL, O_NONBLOCK);
    }
    return 0;
}

static void close_writers(struct helper *helper)
{
    for (int i = 0; i < 2; i++)
        if (helper->writers[i] >= 0)
            SYS1(close, helper->writers[i]);
}

static i64 start(struct run *run, struct helper *helper)
{
    i64 result = open_pipes(helper);
    if (result == 0) {
        run->shared->spawn_error = 0;
        helper->launcher = SYS0(getpid);
        /* CLONE_VFORK: the caller goes on when the helper has been executed or has failed to. */
        result = sys_clone(CLONE_VFORK, SIGCHLD, &helper->pidfd);
        if (result == 0)
            execute(run, helper);
    }
    close_writers(helper);
    if (result < 0)
        return result;
    helper->pid = (int)result;
    return 0;
}

/* --- waiting for it ------------------------------------------------------------------------*/

static void watch(struct helper *helper, i64 deadline)
{
    for (;;) {
        i64 left = deadline - sys_monotonic();
        if (left <= 0 && !helper->timed_out) {
            helper->timed_out = 1;
            reap_kill(helper->pidfd);
        }
        struct __kernel_timespec time = {left / 1000000000, left % 1000000000};
        struct pollfd polls[3] = {{helper->pidfd, POLLIN, 0},
                                  {helper->out[0]->fd, POLLIN, 0},
                                  {helper->out[1]->fd, POLLIN, 0}};
        if (SYS5(ppoll, polls, COUNT(polls), helper->timed_out ? NULL : &time, NULL, 8) <= 0)
            continue;
        for (int i = 0; i < 2; i++)
            if (polls[i + 1].revents)
                take_and_close(helper->out[i]);
        if (polls[0].revents)
            return;
    }
}

static int finish(struct helper *helper, i64 timeout)
{
    struct child_end end = {0};
    watch(helper, sys_after(sys_monotonic(), timeout));
    take_rest(helper->out[0]);
    take_rest(helper->out[1]);
    wait_child(P_PID, helper->pid, &end, WEXITED);
    SYS1(close, helper->pidfd);
    return end.status;
}

/* --- the operation -------------------------------------------------------------------------*/

/* A file, not a pipe: a helper that does not read cannot make the launcher wait. */
static i64 open_stdin(const char *content, u32 size)
{
    if (!content)
        return SYS4(openat, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC, 0);
    i64 fd = SYS2(memfd_create, "stdin", MFD_CLOEXEC);
    while (fd >= 0 && size) {
        i64 written = SYS3(write, fd, content, size);
        if (written <= 0) {
            SYS1(close, fd);
            return written ? written : -EIO;
        }
        content += written;
        size -= (u32)written;
    }
    if (fd >= 0)
        SYS3(lseek, fd, 0, 0);
    return fd;
}

static enum how vectors(struct run *run, const u32 **words, u32 argv, u32 env, struct helper *helper)
{
    char **at = (char **)(run->scratch + run->scratch_used);
    run->scratch_used += 8 * ((size_t)argv + env + 2);
    helper->argv = at;
    helper->env = at + argv + 1;
    for (u32 i = 0; i < argv; i++) {
        u64 value;
        if (arg_value(run, words, &value, NULL))
            return FAILED;
        helper->argv[i] = (char *)value;
    }
    helper->argv[argv] = NULL;
    for (u32 i = 0; i < env; i++)
        helper->env[i] = (char *)(uintptr_t)(run->plan.data + *(*words)++);
    helper->env[env] = NULL;
    return OK;
}

static enum how spawn_failed(struct run *run, const struct helper *helper, int err, int status)
{
    const struct captured *said = helper->out[1]->used ? helper->out[1] : helper->out[0];
    fail(run, FAIL_SPAWN, err, status);
    memcpy(run->text, said->text, said->used);
    run->fault.text = run->text;
    run->fault.text_size = said->used;
    return FAILED;
}

static enum how run_helper(struct run *run, struct helper *helper, const u32 *success, u32 count,
                           i64 timeout, struct result *result)
{
    i64 started = start(run, helper);
    if (started < 0)
        return fail(run, FAIL_ERRNO, (int)-started, -1);
    int status = finish(helper, timeout);
    if (run->shared->spawn_error)
        return fail(run, FAIL_ERRNO, run->shared->spawn_error, -1);
    if (helper->timed_out)
        return spawn_failed(run, helper, ETIMEDOUT, status);
    result->value = status;
    for (u32 i = 0; i < count; i++)
        if ((int)success[i] == status)
            return OK;
    return spawn_failed(run, helper, 0, status);
}

enum how run_spawn(struct run *run, const u32 *step, struct result *result)
{
    static struct captured out[2];
    struct helper helper = {.writers = {-1, -1}, .pidfd = -1, .out = {&out[0], &out[1]}};
    u32 argv = step[1] & 0xffff, env = step[1] >> 16;
    u32 success = step[2] & 0xffff, has_stdin = step[2] >> 16, size = 0;
    i64 timeout = (i64)(step[3] | (u64)step[4] << 32);
    const u32 *words = step + 5;
    u64 content = 0;
    out[0].fd = out[1].fd = -1;
    out[0].used = out[1].used = 0;
    if (vectors(run, &words, argv, env, &helper))
        return FAILED;
    const u32 *statuses = words;
    words += success;
    if (has_stdin && arg_value(run, &words, &content, &size))
        return FAILED;
    /* Everything above 2 becomes close-on-exec: the helper gets three descriptors, whatever the
     * launcher itself was given. */
    i64 closed = SYS3(close_range, 3, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */);
    if (closed < 0)
        return fail(run, FAIL_ERRNO, (int)-closed, -1);
    i64 stdin = open_stdin((const char *)content, size);
    if (stdin < 0)
        return fail(run, FAIL_ERRNO, (int)-stdin, -1);
    helper.stdin = (int)stdin;
    enum how how =
        run_helper(run, &helper, statuses, success, timeout ? timeout : DEFAULT_TIMEOUT, result);
    SYS1(close, stdin);
    for (int i = 0; i < 2; i++)
        if (out[i].fd >= 0)
            SYS1(close, out[i].fd);
    return how;
}
