/* A process that replays nothing: it keeps its namespaces until it is killed.
 *
 * It also ends with the launcher, however that ends: it reads a pipe whose other end the launcher
 * has open, and end of file is all that can come. (A death signal, prctl(2), would have to be set
 * after the clone, and be too late for a launcher killed in between.)
 */
#include "run.h"

static NORETURN void hold(int pipe)
{
    char byte;
    /* The channel above all: an end held open here would hide the child's execve. */
    if (SYS3(dup3, pipe, 0, 0) == 0 && SYS3(close_range, 1, ~0u, 0) == 0)
        SYS3(read, 0, &byte, 1);
    sys_exit(NSRUN_FAILED);
}

i64 hold_clone(struct run *run, u64 flags, int exit_signal, i64 *pidfd)
{
    int pipe[2], found = -1;
    if (run->holder_count == HOLDERS_MAX)
        return -EMFILE;
    i64 result = SYS2(pipe2, pipe, O_CLOEXEC);
    if (result < 0)
        return result;
    i64 pid = sys_clone(flags, exit_signal, &found);
    if (pid == 0)
        hold(pipe[0]);
    SYS1(close, pipe[0]);
    if (pid < 0) {
        SYS1(close, pipe[1]);
        return pid;
    }
    run->holders[run->holder_count] = found;
    run->held[run->holder_count++] = pipe[1];
    *pidfd = found;
    return pid;
}
