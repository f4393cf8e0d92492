/* Netlink requests: send one message, read its acknowledgement (netlink(7)). */
#include "run.h"

#include <linux/netlink.h>
#include <linux/poll.h>
#include <linux/time_types.h>

#define RECEIVE_MAX (1 << 16)
/* The kernel acknowledges before sendto(2) returns; a socket that is no netlink never does. */
#define PATIENCE 5000000000ll

static u32 aligned(u32 length) { return (length + 3) & ~3u; }

/* NLMSGERR_ATTR_MSG; the request's own bytes stand before it unless the ack is capped. */
static void kernel_text(struct run *run, const u8 *body, u32 size, u32 flags)
{
    u32 request;
    if (!(flags & NLM_F_ACK_TLVS) || size < 8)
        return;
    memcpy(&request, body + 4, 4);
    u64 offset = 4 + (flags & NLM_F_CAPPED ? (u64)sizeof(struct nlmsghdr) : (u64)aligned(request));
    while (offset + sizeof(struct nlattr) <= size) {
        struct nlattr attribute;
        memcpy(&attribute, body + offset, sizeof attribute);
        if (attribute.nla_len < sizeof attribute || offset + attribute.nla_len > size)
            return;
        if ((attribute.nla_type & NLA_TYPE_MASK) == NLMSGERR_ATTR_MSG) {
            u32 length = attribute.nla_len - (u32)sizeof attribute;
            if (length > TEXT_MAX)
                length = TEXT_MAX;
            memcpy(run->text, body + offset + sizeof attribute, length);
            while (length && !run->text[length - 1])
                length--;
            run->fault.text = run->text;
            run->fault.text_size = length;
            return;
        }
        offset += aligned(attribute.nla_len);
    }
}

/* The errno of the NLMSG_ERROR for `sequence` in a datagram, its text in run->fault; -1: none. */
static int acknowledgement(struct run *run, const u8 *data, u32 size, u32 sequence)
{
    u32 offset = 0;
    while (size - offset >= sizeof(struct nlmsghdr)) {
        struct nlmsghdr header;
        memcpy(&header, data + offset, sizeof header);
        if (header.nlmsg_len < sizeof header || header.nlmsg_len > size - offset)
            return -1;
        const u8 *body = data + offset + sizeof header;
        u32 length = header.nlmsg_len - (u32)sizeof header;
        if (header.nlmsg_type == NLMSG_ERROR && header.nlmsg_seq == sequence &&
            length >= 4 + sizeof header) {
            int err;
            memcpy(&err, body, 4);
            fail(run, FAIL_ERRNO, -err, -1);
            kernel_text(run, body, length, header.nlmsg_flags);
            return -err;
        }
        u32 next = aligned(header.nlmsg_len);
        if (next > size - offset)
            return -1;
        offset += next;
    }
    return -1;
}

static int not_acknowledged(struct run *run)
{
    static const char words[] = "the kernel did not acknowledge the message";
    fail(run, FAIL_ERRNO, ETIMEDOUT, -1);
    run->fault.text = words;
    run->fault.text_size = sizeof words - 1;
    return ETIMEDOUT;
}

/* The errno of the acknowledgement, 0 for success; the failure is in run->fault. */
static int acknowledged(struct run *run, int fd, u32 sequence)
{
    static u8 answer[RECEIVE_MAX];
    i64 deadline = sys_monotonic() + PATIENCE;
    struct pollfd poll = {fd, POLLIN, 0};
    for (;;) {
        i64 left = deadline - sys_monotonic();
        if (left <= 0)
            return not_acknowledged(run);
        struct __kernel_timespec time = {left / 1000000000, left % 1000000000};
        i64 ready = SYS5(ppoll, &poll, 1, &time, NULL, 8);
        if (ready == -EINTR)
            continue;
        if (ready <= 0)
            return not_acknowledged(run);
        i64 size = SYS6(recvfrom, fd, answer, sizeof answer, 0, NULL, NULL);
        if (size == -EINTR || size == -EAGAIN)
            continue;
        if (size < 0) {
            fail(run, FAIL_ERRNO, (int)-size, -1);
            return (int)-size;
        }
        int err = acknowledgement(run, answer, (u32)size, sequence);
        if (err >= 0)
            return err;
    }
}

static int among(const u32 *errnos, u32 count, int err)
{
    for (u32 i = 0; i < count; i++)
        if ((int)errnos[i] == err)
            return 1;
    return 0;
}

enum how run_netlink(struct run *run, const u32 *step, struct result *result)
{
    u32 accepted = step[2] & 0xff, skipping = step[2] >> 8 & 0xff, size = 0;
    const u32 *errnos = step + 3, *words = errnos + accepted + skipping;
    i64 fd;
    u64 at;
    struct nlmsghdr header;
    if (reg_argument(run, step[1], &fd) || arg_value(run, &words, &at, &size))
        return FAILED;
    if (size < sizeof header)
        return fail_internal(run, "a netlink message is shorter than its header");
    memcpy(&header, (const void *)at, sizeof header);
    if (!(header.nlmsg_flags & NLM_F_ACK))
        return fail_internal(run, "a netlink message does not ask for its acknowledgement");
    /* Without an address a netlink socket sends to port 0: the kernel. */
    i64 sent = SYS6(sendto, fd, at, size, 0, NULL, 0);
    if (sent < 0)
        return fail(run, FAIL_ERRNO, (int)-sent, -1);
    int err = acknowledged(run, (int)fd, header.nlmsg_seq);
    if (!err)
        return OK;
    result->err = err;
    result->value = -1;
    if (among(errnos + accepted, skipping, err)) {
        result->state = STATE_SKIPPED;
        return SKIPPED;
    }
    if (among(errnos, accepted, err)) {
        result->state = STATE_ACCEPTED;
        return OK;
    }
    return FAILED;
}
