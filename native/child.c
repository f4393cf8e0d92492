/* The child's track: from the clone to execve, and nothing else. */
#include "run.h"

#include <linux/signal.h>

/* The parent's end of the channel is closed: there is nobody to report to. */
static NORETURN void parent_gone(void) { sys_exit(NSRUN_FAILED); }

/* Tell the parent; the shared record holds the failure if this does not arrive. */
static void report(struct run *run, u32 index)
{
    const struct fault *fault = &run->fault;
    u32 reg = run->plan.header->reports_to;
    static struct message message;
    message = (struct message){
        .tag = TAG_FAIL,
        .kind = (u8)fault->kind,
        .step = (int)index,
        .err = fault->err,
        .expect = fault->expect < 0 ? -1 : fault->expect,
        .value = fault->value,
        .fd = -1,
        .text_size = fault->text_size,
    };
    memcpy(message.text, fault->text, fault->text_size);
    if (reg && run->is_set[reg - 1])
        channel_send(run, (int)run->value[reg - 1], &message);
}

static enum how send(struct run *run, u32 channel, u8 tag, u8 kind, const u32 *sync, i64 value,
                     int fd)
{
    static struct message message;
    i64 end;
    if (reg_argument(run, channel, &end))
        return FAILED;
    message.tag = tag;
    message.kind = kind;
    message.length = (u8)sync[1];
    message.step = message.err = 0;
    message.expect = -1;
    message.value = value;
    message.fd = fd;
    message.text_size = 0;
    memcpy(message.name, run->plan.data + sync[0], sync[1]);
    return channel_send(run, (int)end, &message);
}

enum how run_signal(struct run *run, const u32 *step)
{
    i64 value = 0;
    if (step[2] && reg_argument(run, step[2] - 1, &value))
        return FAILED;
    return send(run, step[1], TAG_SYNC, 0, step + 3, value, -1);
}

enum how run_send_fd(struct run *run, const u32 *step)
{
    i64 fd;
    if (reg_argument(run, step[2], &fd))
        return FAILED;
    return send(run, step[1], TAG_FD, 0, step + 3, fd, (int)fd);
}

int message_is(const struct run *run, const struct message *message, u8 tag, const u32 *sync)
{
    return message->tag == tag && message->length == sync[1] &&
           !memcmp(message->name, run->plan.data + sync[0], sync[1]);
}

enum how message_unexpected(struct run *run, const struct message *message, const u32 *sync)
{
    struct text text = {.at = run->text, .size = sizeof run->text};
    text_string(&text, "waited for ");
    text_bytes(&text, (const char *)run->plan.data + sync[0], sync[1]);
    text_string(&text, ", got ");
    text_bytes(&text, message->name, message->length);
    fail(run, FAIL_INTERNAL, 0, 0);
    run->fault.text = run->text;
    run->fault.text_size = (u32)text.used;
    return FAILED;
}

/* The parent's next message, which is to be this one. */
static enum how expect(struct run *run, u32 channel, u8 tag, const u32 *sync,
                       struct message *message)
{
    i64 end;
    if (reg_argument(run, channel, &end))
        return FAILED;
    switch (channel_receive(run, (int)end, 1, message)) {
    case READ_MESSAGE: break;
    case READ_FAILED: return FAILED;
    case READ_EOF:
    case READ_AGAIN: parent_gone();
    }
    if (!message_is(run, message, tag, sync))
        return message_unexpected(run, message, sync);
    return OK;
}

static enum how wait(struct run *run, const u32 *step, struct result *result)
{
    static struct message message;
    if (expect(run, step[1], TAG_SYNC, step + 5, &message))
        return FAILED;
    result->value = message.value;
    return step[2] ? reg_set(run, step[2] - 1, message.value) : OK;
}

static enum how receive_fd(struct run *run, const u32 *step, struct result *result)
{
    static struct message message;
    if (expect(run, step[1], TAG_FD, step + 5, &message))
        return FAILED;
    result->value = message.fd;
    if (reg_set(run, step[2], message.fd))
        return FAILED;
    return step[3] ? reg_set(run, step[3] - 1, message.value) : OK;
}

/* The new process goes on; this one says who it is, and ends. */
static enum how hand_over(struct run *run, const u32 *step, u32 index, struct result *result)
{
    int pidfd = -1;
    i64 pid = sys_clone(step[2] | (u64)step[3] << 32, (int)step[4], &pidfd);
    if (pid < 0)
        return fail(run, FAIL_ERRNO, (int)-pid, -1);
    if (pid == 0) {
        result->state = STATE_ENTERED;
        return OK;
    }
    if (send(run, step[7] - 1, TAG_FD, 1, step + 8, pid, pidfd)) {
        /* Nobody knows of the new process: it may not outlive this one. */
        reap_kill(pidfd);
        return FAILED;
    }
    mark(run, CHILD, index, STATE_DONE, 0, pid);
    sys_exit(0);
}

/* The new process goes on; this one is PID 1 until that has ended. */
static enum how init(struct run *run, u32 index, struct result *result)
{
    i64 pid = sys_clone(0, SIGCHLD, NULL);
    if (pid < 0)
        return fail(run, FAIL_ERRNO, (int)-pid, -1);
    if (pid == 0) {
        result->state = STATE_ENTERED;
        return OK;
    }
    mark(run, CHILD, index, STATE_DONE, 0, pid);
    i64 settled = init_settle();
    if (settled < 0)
        return fail(run, FAIL_ERRNO, (int)-settled, -1);
    /* From here on a failure of PID 1 itself is not reported: its channel is closed, and the
     * command, whose end follows from its own, is the one to tell. */
    init_stay((int)pid);
}

static enum how execute(struct run *run, const u32 *step, u32 index, struct result *result)
{
    args_reset(run);
    switch ((enum op)step_op(step)) {
    case OP_CALL: return run_call(run, step, result);
    case OP_NETLINK: return run_netlink(run, step, result);
    case OP_SIGNAL: return run_signal(run, step);
    case OP_SEND_FD: return run_send_fd(run, step);
    case OP_WAIT: return wait(run, step, result);
    case OP_RECEIVE_FD: return receive_fd(run, step, result);
    case OP_CLONE: return hand_over(run, step, index, result);
    case OP_INIT: return init(run, index, result);
    case OP_SPAWN:
    case OP_AWAIT: break;
    }
    return fail_internal(run, "an operation of the parent's track");
}

NORETURN void child_main(struct run *run)
{
    u32 index;
    run->in_child = 1;
    if (track_run(run, CHILD, execute, &index) == FAILED) {
        report(run, index);
        sys_exit(NSRUN_FAILED);
    }
    sys_exit(0);
}
