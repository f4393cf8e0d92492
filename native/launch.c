/* The `nsrun` command: replays a plan that is ready, and leaves everything else to Python.
 *
 *     nsrun-replay FD OPTIONS [FD]   replay the plan in a descriptor (how Python starts a replay);
 *                                    t: take times and tell all, s: stop first, k: end by the
 *                                    signal that has ended the command
 *     nsrun-monitor ...              keep a detached container (native/monitor.c)
 *     a compiled spec                replay the plan behind this program's own end
 *     nsrun WORDS                    replay the plan cached for these words, if there is one that
 *                                    still holds; else execute nsrun-python with the same words
 *
 * A replay that has something to tell hands plan and outcome to nsrun-python, which explains.
 */
#include "entry.h"
#include "launch.h"
#include "run.h"

#include <linux/fcntl.h>
#include <linux/memfd.h>
#include <linux/prctl.h>
#include <linux/signal.h>
#include <linux/stat.h>

static struct run the_run;
static struct outcome the_outcome;

/* --- what Python is asked ------------------------------------------------------------------*/

/* The path of nsrun-python: beside this program, wherever that is linked from. A sealed copy of it
 * (nsrun/host/sealed.py) is named as the program: "/memfd:/usr/bin/nsrun (deleted)". */
static int python_path(char *path, size_t size)
{
    static const char name[] = "nsrun-python", copy[] = "/memfd:";
    i64 length = SYS4(readlinkat, AT_FDCWD, "/proc/self/exe", path, size - sizeof name);
    if (length <= 0)
        return 0;
    while (length && path[length - 1] != '/')
        length--;
    memcpy(path + length, name, sizeof name);
    size_t skipped = sizeof copy - 1;
    if ((size_t)length > skipped && !memcmp(path, copy, skipped))
        for (size_t i = 0; i < (size_t)length + sizeof name - skipped; i++)
            path[i] = path[i + skipped];
    return 1;
}

static NORETURN void no_python(const char *path, i64 err)
{
    static char at[PATH_SIZE + 128];
    struct text text = {.at = at, .size = sizeof at};
    text_string(&text, "error: cannot execute ");
    text_string(&text, path);
    text_string(&text, ": ");
    text_errno(&text, (int)-err);
    text_string(&text, "\n");
    text_write(&text, 2);
    sys_exit(NSRUN_FAILED);
}

NORETURN void execute_python(char **argv, char **envp)
{
    static char path[PATH_SIZE];
    i64 err = -ENOENT;
    if (python_path(path, sizeof path)) {
        argv[0] = path;
        err = SYS3(execve, path, argv, envp);
    }
    no_python(path, err);
}

/* --- telling -------------------------------------------------------------------------------*/

static int write_all(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size) {
        i64 written = SYS3(write, fd, at, size);
        if (written == -EINTR)
            continue;
        if (written <= 0)
            return 0;
        at += written;
        size -= (size_t)written;
    }
    return 1;
}

/* The records of a track, with times where they were taken. */
static int write_records(const struct run *run, int fd, enum track track, u32 steps)
{
    static struct record piece[64];
    u32 first = track == PARENT ? 0 : run->plan.header->parent_steps, count = 0;
    if (run->records)
        return write_all(fd, run->records + first, steps * sizeof piece[0]);
    for (u32 i = 0; i < steps; i++) {
        struct mark found = marked(run, track, i);
        piece[count++] = (struct record){.err = found.err, .state = found.state};
        if (count < COUNT(piece) && i + 1 < steps)
            continue;
        if (!write_all(fd, piece, count * sizeof piece[0]))
            return 0;
        count = 0;
    }
    return 1;
}

static int write_outcome(const struct run *run, int fd, const struct outcome *outcome)
{
    return write_all(fd, outcome, sizeof *outcome) &&
           write_records(run, fd, PARENT, outcome->parent_steps) &&
           write_records(run, fd, CHILD, outcome->child_steps);
}

/* The failure in a few words, where there is no Python to explain it. */
static void tell_shortly(const struct run *run, const struct outcome *outcome)
{
    static char at[TEXT_MAX + 512];
    struct text text = {.at = at, .size = sizeof at};
    const struct failure *failure = &outcome->failure;
    text_string(&text, "error: ");
    text_string(&text, (const char *)run->plan.data + run->plan.header->name);
    if (failure->set && failure->index >= 0) {
        text_string(&text, failure->track == CHILD ? ": step c" : ": step p");
        text_number(&text, failure->index);
        text_string(&text, " failed: ");
        if (failure->err)
            text_errno(&text, failure->err);
        else
            text_string(&text, "not as the plan expects");
        if (failure->text_size) {
            text_string(&text, ": ");
            text_bytes(&text, failure->text, failure->text_size);
        }
    } else if (outcome->timed_out) {
        text_string(&text, ": the command ran out of time and was stopped");
    } else {
        text_string(&text, ": the run ended early");
    }
    text_string(&text, "\n");
    text_write(&text, 2);
}

static NORETURN void end(const struct outcome *outcome, const struct launch *launch)
{
    u64 action[4] = {0}, others;
    if (launch->by_signal && outcome->started && outcome->signal &&
        outcome->status == SIGNALLED + outcome->signal) {
        /* core(5): the command has left its own, if it was to; of this process there is none. */
        SYS5(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
        SYS4(rt_sigaction, outcome->signal, action, NULL, 8);
        SYS2(kill, SYS0(getpid), outcome->signal);
        others = ~(1ull << (outcome->signal - 1));
        SYS4(rt_sigprocmask, SIG_SETMASK, &others, NULL, 8);
    }
    sys_exit(outcome->status);
}

static NORETURN void explain(const struct run *run, const struct outcome *outcome,
                             const struct launch *launch, char **envp)
{
    static char plan_fd[24], outcome_fd[24];
    static char *argv[] = {NULL, "@outcome", plan_fd, outcome_fd, NULL, NULL, NULL};
    i64 fd = SYS2(memfd_create, "outcome", 0);
    if (fd < 0 || launch->plan_fd < 0 || !write_outcome(run, (int)fd, outcome)) {
        tell_shortly(run, outcome);
        end(outcome, launch);
    }
    struct text text = {.at = plan_fd, .size = sizeof plan_fd - 1};
    text_number(&text, launch->plan_fd);
    text = (struct text){.at = outcome_fd, .size = sizeof outcome_fd - 1};
    text_number(&text, fd);
    char **more = argv + 4;
    if (launch->trace)
        *more++ = "--trace";
    if (launch->by_signal)
        *more++ = "--by-signal";
    SYS3(fcntl, launch->plan_fd, F_SETFD, 0);
    static char path[PATH_SIZE];
    if (python_path(path, sizeof path)) {
        argv[0] = path;
        SYS3(execve, path, argv, envp);
    }
    tell_shortly(run, outcome);
    end(outcome, launch);
}

/* --- replaying -----------------------------------------------------------------------------*/

/* /dev/null where 0, 1 or 2 is closed, or the plan's own descriptors would land there and be
 * taken for the command's input and output. */
static void standard_descriptors(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (SYS3(fcntl, fd, F_GETFD, 0) == -EBADF)
            SYS4(openat, AT_FDCWD, "/dev/null", O_RDWR | O_NOCTTY, 0);
}

/* The kernel would reap the children of a caller that ignores SIGCHLD, their statuses lost. */
static void default_sigchld(void)
{
    struct {
        void *handler;
        u64 flags;
        void *restorer;
        u64 mask;
    } action = {0}, current = {0};
    SYS4(rt_sigaction, SIGCHLD, NULL, &current, 8);
    if (current.handler == (void *)1)
        SYS4(rt_sigaction, SIGCHLD, &action, NULL, 8);
}

NORETURN void launch(const struct launch *launch, char **envp)
{
    struct run *run = &the_run;
    const char *why = plan_load(&run->plan, launch->plan, launch->plan_size);
    if (why || run_prepare(run, launch->trace)) {
        static char at[256];
        struct text text = {.at = at, .size = sizeof at};
        text_string(&text, "error: this is no plan that can be replayed: ");
        text_string(&text, why ? why : "there is not enough memory");
        text_string(&text, "\n");
        text_write(&text, 2);
        sys_exit(NSRUN_FAILED);
    }
    if (launch->plan_fd >= 0)
        SYS3(fcntl, launch->plan_fd, F_SETFD, FD_CLOEXEC);
    standard_descriptors();
    default_sigchld();
    run_replay(run, &the_outcome);
    if (launch->outcome_fd >= 0) {
        /* Who reads it finds it cut and knows no more than that. */
        if (!write_outcome(run, launch->outcome_fd, &the_outcome) && outcome_speaks(&the_outcome))
            tell_shortly(run, &the_outcome);
    } else if (launch->trace || outcome_speaks(&the_outcome))
        explain(run, &the_outcome, launch, envp);
    end(&the_outcome, launch);
}

/* The number in a word, -1 for another word. */
static int number(const char *word)
{
    int value = 0;
    if (!word || !*word)
        return -1;
    for (; *word; word++) {
        if (*word < '0' || *word > '9' || value > 1000000)
            return -1;
        value = 10 * value + (*word - '0');
    }
    return value;
}

/* Started by nsrun/replay/native.py: the plan is in a descriptor. */
static NORETURN void replay_descriptor(char **argv, char **envp)
{
    struct launch given = {.plan_fd = number(argv[1]), .outcome_fd = -1};
    const char *options = argv[1] && argv[2] ? argv[2] : "";
    for (; *options; options++) {
        given.trace |= *options == 't';
        given.by_signal |= *options == 'k';
        /* For a tracer to attach: what it counts begins with the replay. */
        if (*options == 's')
            SYS2(kill, SYS0(getpid), SIGSTOP);
    }
    if (argv[1] && argv[2] && argv[3])
        given.outcome_fd = number(argv[3]);
    if (given.plan_fd >= 0)
        given.plan = read_plan(given.plan_fd, 0, &given.plan_size);
    if (given.outcome_fd >= 0)
        SYS3(fcntl, given.outcome_fd, F_SETFD, FD_CLOEXEC);
    launch(&given, envp);
}

UNUSED NORETURN void nsrun_main(u64 *stack)
{
    char **argv = (char **)(stack + 1), **envp = argv + *stack + 1;
    if (!*stack)
        sys_exit(NSRUN_FAILED);
    if (is_word(argv[0], "nsrun-replay"))
        replay_descriptor(argv, envp);
    if (is_word(argv[0], "nsrun-monitor"))
        monitor(argv, envp);
    launch_compiled(argv, envp);
    launch_cached(argv, envp);
    execute_python(argv, envp);
}

#ifndef NSRUN_HOSTED
/* The kernel leaves argc, argv and the environment on the stack (execve(2)). */
#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp,%ebp\n\tmov %rsp,%rdi\n\tand $-16,%rsp\n\tcall nsrun_main\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n\tmov x29,#0\n\tmov x0,sp\n\tbl nsrun_main\n");
#endif
#endif
