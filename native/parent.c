/* The parent's operations: they run in the launcher, which watches the child while it waits. */
#include "run.h"

#include <linux/poll.h>
#include <linux/signal.h>

/* What a process needs between closing its last descriptor and being waitable. */
#define ENDING 1000000000

static void remember_process(struct run *run, int pidfd)
{
    if (run->process_count < PROCESSES_MAX)
        run->processes[run->process_count++] = pidfd;
}

static int latest(const struct run *run)
{
    return run->process_count ? run->processes[run->process_count - 1] : -1;
}

/* --- the child's end -----------------------------------------------------------------------*/

/* Whether the child is in an execve that has not failed: the command runs, or ran. */
int child_entered_exec(const struct run *run)
{
    const u32 *at = run->plan.child;
    u32 index = 0;
    while (at < run->plan.child_end && (*at & 0xff) == PLAN_WORD_ACTION) {
        u32 steps = at[2];
        for (at += 4; steps; steps--, at += step_words(at), index++)
            if (step_op(at) == OP_CALL && (at[1] >> 24 & CALL_IS_EXEC) &&
                marked(run, CHILD, index).state == STATE_ENTERED)
                return 1;
    }
    return 0;
}

/* The failure of a child that is gone without a word. */
static enum how child_ended(struct run *run)
{
    if (latest(run) < 0)
        return fail_internal(run, "the plan waits for a child it has not cloned");
    int status = reap_ended(latest(run), ENDING) ? reap_peek(latest(run)) : -1;
    return fail(run, FAIL_ENDED, 0, status);
}

/* --- messages ------------------------------------------------------------------------------*/

/* A report of the child, kept where the end of the run looks for it. */
static void keep_report(struct run *run, const struct message *message)
{
    struct failure *kept = &run->reported;
    kept->set = 1;
    kept->track = CHILD;
    kept->index = message->step;
    kept->kind = message->kind;
    kept->err = message->err;
    kept->value = message->value;
    kept->expect = message->expect;
    kept->text_size = message->text_size;
    memcpy(kept->text, message->text, message->text_size);
}

/* Signals that came while waiting: FAILED for one that asks nsrun to end. */
static enum how look_at_signals(struct run *run, int fd)
{
    struct received received[EARLY_MAX];
    u32 count = signals_read(fd, received, EARLY_MAX);
    /* An init that has not closed its end yet hides the command's execve: then the command runs,
     * and the signal is its to know. */
    int running = child_entered_exec(run);
    for (u32 i = 0; i < count; i++) {
        int number = received[i].number;
        if (signal_ends(number) && !running) {
            run->interrupted = number;
            return fail(run, FAIL_INTERNAL, 0, number);
        }
        /* Nothing the command would want to know of once it runs. */
        if (number != SIGCHLD && number != SIGWINCH && run->early_count < EARLY_MAX)
            run->early[run->early_count++] = received[i];
    }
    return OK;
}

/* The child's next message or end of file; FAILED when it failed, or we are to end. */
static enum how receive(struct run *run, u32 channel, u32 signals, struct message *message,
                        enum reading *reading)
{
    i64 fd, signal_fd = -1;
    if (reg_argument(run, channel, &fd) || (signals && reg_argument(run, signals - 1, &signal_fd)))
        return FAILED;
    for (int gone = 0;;) {
        *reading = channel_receive(run, (int)fd, 0, message);
        if (*reading == READ_FAILED)
            return FAILED;
        if (*reading == READ_MESSAGE && message->tag == TAG_FAIL) {
            keep_report(run, message);
            return fail(run, FAIL_ENDED, 0, -1);
        }
        if (*reading != READ_AGAIN)
            return OK;
        if (gone) {
            /* It ended, and sent nothing before: some other process holds its end open. */
            *reading = READ_EOF;
            return OK;
        }
        struct pollfd polls[3] = {
            {(int)fd, POLLIN, 0}, {(int)signal_fd, POLLIN, 0}, {latest(run), POLLIN, 0}};
        SYS5(ppoll, polls, COUNT(polls), NULL, NULL, 8);
        gone = polls[2].revents != 0;
        if (polls[1].revents && !polls[0].revents && !gone && look_at_signals(run, (int)signal_fd))
            return FAILED;
    }
}


static enum how wait(struct run *run, const u32 *step, struct result *result)
{
    struct message *message = &run->message;
    enum reading reading;
    if (receive(run, step[1], step[3], message, &reading))
        return FAILED;
    if (step[4] & WAIT_EXEC) {
        if (reading == READ_MESSAGE)
            return message_unexpected(run, message, step + 5);
        if (!child_entered_exec(run))
            return child_ended(run);
        run->started = 1;
        run->started_at = sys_monotonic();
        return OK;
    }
    if (reading == READ_EOF)
        return child_ended(run);
    if (!message_is(run, message, TAG_SYNC, step + 5))
        return message_unexpected(run, message, step + 5);
    result->value = message->value;
    return step[2] ? reg_set(run, step[2] - 1, message->value) : OK;
}

static enum how receive_fd(struct run *run, const u32 *step, struct result *result)
{
    struct message *message = &run->message;
    enum reading reading;
    if (receive(run, step[1], step[4], message, &reading))
        return FAILED;
    if (reading == READ_EOF)
        return child_ended(run);
    if (!message_is(run, message, TAG_FD, step + 5))
        return message_unexpected(run, message, step + 5);
    if (message->kind)
        remember_process(run, message->fd);
    result->value = message->fd;
    if (reg_set(run, step[2], message->fd))
        return FAILED;
    return step[3] ? reg_set(run, step[3] - 1, message->value) : OK;
}

int parent_drain(struct run *run)
{
    u32 reg = run->plan.header->listens_on;
    if (!reg || !run->is_set[reg - 1] || run->is_closed[reg - 1])
        return 0;
    struct message *message = &run->message;
    while (channel_receive(run, (int)run->value[reg - 1], 0, message) == READ_MESSAGE) {
        if (message->tag == TAG_FAIL) {
            keep_report(run, message);
            return 1;
        }
        if (message->tag == TAG_FD && message->kind)
            remember_process(run, message->fd);
        else if (message->fd >= 0)
            SYS1(close, message->fd);
    }
    return 0;
}

/* --- processes -----------------------------------------------------------------------------*/

static enum how hold(struct run *run, const u32 *step, struct result *result)
{
    i64 pidfd = -1;
    i64 pid = hold_clone(run, step[2] | (u64)step[3] << 32, (int)step[4], &pidfd);
    if (pid < 0)
        return fail(run, FAIL_ERRNO, (int)-pid, -1);
    result->value = pid;
    return reg_set(run, step[5], pid) || reg_set(run, step[6], pidfd) ? FAILED : OK;
}

static enum how clone(struct run *run, const u32 *step, struct result *result)
{
    if (step[1] & CLONE_BIT_HOLD)
        return hold(run, step, result);
    int pidfd = -1;
    /* Before the child can make anything on the host, someone is there to take it back. */
    i64 appointed = heir_appoint(run);
    if (appointed < 0)
        return fail(run, FAIL_ERRNO, (int)-appointed, -1);
    i64 pid = sys_clone(step[2] | (u64)step[3] << 32, (int)step[4], &pidfd);
    if (pid == 0)
        child_main(run);
    if (pid < 0)
        return fail(run, FAIL_ERRNO, (int)-pid, -1);
    remember_process(run, pidfd);
    result->value = pid;
    return reg_set(run, step[5], pid) || reg_set(run, step[6], pidfd) ? FAILED : OK;
}

static enum how await(struct run *run, const u32 *step, struct result *result)
{
    struct ended ended = {0};
    if (!run->started_at)
        run->started_at = sys_monotonic();
    if (run_await(run, step, &ended))
        return FAILED;
    if (!run->started) {
        /* The plan did not wait for the execve: only now is it known whether it came to one. */
        if (parent_drain(run))
            return fail(run, FAIL_ENDED, 0, -1);
        if ((run->plan.header->flags & HEADER_HAS_EXEC) && !child_entered_exec(run))
            return fail(run, FAIL_ENDED, 0, ended.status);
        run->started = 1;
    }
    ended.known = 1;
    run->ended = ended;
    result->value = ended.status;
    return reg_set(run, step[4], ended.status);
}

/* A pidfd that a step has closed is no longer ours to kill by: its number may be reused. */
static void forget_closed(struct run *run, const u32 *step)
{
    if (step_op(step) != OP_CALL || !(step[1] >> 24 & CALL_CLOSES))
        return;
    const u32 *arg = step + 4 + (step[1] >> 24 & CALL_HAS_RESULT ? 2 : 0) + (step[2] & 0xff) +
                     (step[2] >> 8 & 0xff);
    int fd = (int)run->value[*arg >> 8];
    u32 kept = 0;
    for (u32 i = 0; i < run->process_count; i++)
        if (run->processes[i] != fd)
            run->processes[kept++] = run->processes[i];
    run->process_count = kept;
    for (u32 i = 0; i < run->holder_count; i++)
        if (run->holders[i] == fd)
            run->holders[i] = -1;
}

/* The pty has its size before the command can ask for it. */
static void size_terminal(struct run *run)
{
    u32 reg = run->plan.header->terminal;
    if (reg && !run->terminal_seen && run->is_set[reg - 1]) {
        run->terminal_seen = 1;
        window_size_copy((int)run->value[reg - 1]);
    }
}

static enum how operation(struct run *run, const u32 *step, struct result *result)
{
    enum how how;
    args_reset(run);
    switch ((enum op)step_op(step)) {
    case OP_CALL:
        how = run_call(run, step, result);
        if (how != FAILED)
            forget_closed(run, step);
        return how;
    case OP_NETLINK: return run_netlink(run, step, result);
    case OP_SPAWN: return run_spawn(run, step, result);
    case OP_SIGNAL: return run_signal(run, step);
    case OP_SEND_FD: return run_send_fd(run, step);
    case OP_CLONE: return clone(run, step, result);
    case OP_WAIT: return wait(run, step, result);
    case OP_RECEIVE_FD: return receive_fd(run, step, result);
    case OP_AWAIT: return await(run, step, result);
    case OP_INIT: break;
    }
    return fail_internal(run, "an operation of the child's track");
}

/* The register of the signalfd that the parent's waits watch, plus one; 0: none. */
static u32 signals_register(const struct run *run)
{
    const u32 *at = run->plan.parent;
    while (at < run->plan.parent_end && (*at & 0xff) == PLAN_WORD_ACTION) {
        u32 steps = at[2];
        for (at += 4; steps; steps--, at += step_words(at)) {
            if (step_op(at) == OP_WAIT && at[3])
                return at[3];
            if (step_op(at) == OP_RECEIVE_FD && at[4])
                return at[4];
        }
    }
    return 0;
}

/* What came while a helper ran: the next step may let the child go on. A helper that failed may
 * have got the signal too, as all of a job do from a terminal. */
static enum how look_after_helper(struct run *run)
{
    u32 reg = signals_register(run);
    if (!reg || !run->is_set[reg - 1] || !reap_ended((int)run->value[reg - 1], 0))
        return OK;
    return look_at_signals(run, (int)run->value[reg - 1]);
}

/* The one that there is knows too little to undo what comes now. */
enum how parent_renew_heir(struct run *run)
{
    i64 result = heir_renew(run);
    return result < 0 ? fail(run, FAIL_ERRNO, (int)-result, -1) : OK;
}

enum how parent_execute(struct run *run, const u32 *step, u32 index UNUSED, struct result *result)
{
    enum how how = operation(run, step, result);
    if (step_op(step) == OP_SPAWN && look_after_helper(run))
        how = FAILED;
    if (how == OK)
        size_terminal(run);
    return how;
}

enum how undo_execute(struct run *run, const u32 *step, struct result *result)
{
    return operation(run, step, result);
}
