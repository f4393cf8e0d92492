/* The messages between the two tracks, on a SOCK_SEQPACKET socketpair (unix(7)).
 *
 *     message                               sent by            read by
 *     SYNC  name, value                     signal             wait
 *     FD    name, value, 1 descriptor       send_fd, clone     receive_fd
 *     FAIL  step, kind, errno, value, text  a failing child    any wait of the parent
 *     end of file                           execve (CLOEXEC)   wait for exec
 */
#include "run.h"

#include <linux/socket.h>

/* linux/socket.h of the kernel has these, its uapi copy does not. */
struct iovec {
    void *base;
    size_t size;
};
struct msghdr {
    void *name;
    int name_size;
    struct iovec *vector;
    size_t vectors;
    void *control;
    size_t control_size;
    u32 flags;
};
struct control {
    size_t size;
    int level, type;
    int fd, padding;
};
#define CONTROL_SIZE (sizeof(struct control) - 4)
#define SOL_SOCKET 1
#define SCM_RIGHTS 1
#define MSG_CTRUNC 0x8
#define MSG_TRUNC 0x20
#define MSG_DONTWAIT 0x40
#define MSG_NOSIGNAL 0x4000
#define MSG_CMSG_CLOEXEC 0x40000000

/* The part of a message that travels as bytes before the name and the text. */
struct wire {
    u8 tag, kind, length, padding;
    int step, err, expect;
    i64 value;
};

/* One datagram; a process has one message under way at a time. */
static char datagram[sizeof(struct wire) + PLAN_SYNC_MAX + TEXT_MAX];

enum how channel_send(struct run *run, int fd, const struct message *message)
{
    struct wire wire = {message->tag, message->kind, message->length, 0,
                        message->step, message->err, message->expect, message->value};
    memcpy(datagram, &wire, sizeof wire);
    memcpy(datagram + sizeof wire, message->name, message->length);
    memcpy(datagram + sizeof wire + message->length, message->text, message->text_size);
    struct iovec part = {datagram, sizeof wire + message->length + message->text_size};
    struct control control = {CONTROL_SIZE, SOL_SOCKET, SCM_RIGHTS, message->fd, 0};
    struct msghdr header = {.vector = &part, .vectors = 1};
    if (message->fd >= 0) {
        header.control = &control;
        header.control_size = sizeof control;
    }
    i64 sent;
    /* The child may have SIGPIPE's default action again. */
    do
        sent = SYS3(sendmsg, fd, &header, MSG_NOSIGNAL);
    while (sent == -EINTR);
    return sent < 0 ? fail(run, FAIL_ERRNO, (int)-sent, -1) : OK;
}

static int passed(const struct msghdr *header, const struct control *control)
{
    if (header->control_size < CONTROL_SIZE)
        return -1;
    return control->level == SOL_SOCKET && control->type == SCM_RIGHTS ? control->fd : -1;
}

static enum reading cut(struct run *run, int fd)
{
    if (fd >= 0)
        SYS1(close, fd);
    fail_internal(run, "a message of the channel is cut");
    return READ_FAILED;
}

enum reading channel_receive(struct run *run, int fd, int block, struct message *message)
{
    struct wire wire;
    struct control control = {0};
    const char *rest = datagram + sizeof wire;
    struct iovec part = {datagram, sizeof datagram};
    struct msghdr header = {.vector = &part, .vectors = 1};
    i64 size;
    do {
        header.control = &control;
        header.control_size = sizeof control;
        size = SYS3(recvmsg, fd, &header, MSG_CMSG_CLOEXEC | (block ? 0 : MSG_DONTWAIT));
        /* A peer that closed with messages unread leaves ECONNRESET, reported once and before
         * what it had sent itself; the next call reads that (unix_release_sock()). */
    } while (size == -EINTR || size == -ECONNRESET);
    if (size == -EAGAIN)
        return READ_AGAIN;
    if (size < 0) {
        fail(run, FAIL_ERRNO, (int)-size, -1);
        return READ_FAILED;
    }
    if (size == 0)
        return READ_EOF;
    int received = passed(&header, &control);
    memcpy(&wire, datagram, sizeof wire);
    if (size < (i64)sizeof wire || (header.flags & (MSG_TRUNC | MSG_CTRUNC)) ||
        size < (i64)sizeof wire + wire.length)
        return cut(run, received);
    message->tag = wire.tag;
    message->kind = wire.kind;
    message->length = wire.length;
    message->step = wire.step;
    message->err = wire.err;
    message->expect = wire.expect;
    message->value = wire.value;
    message->fd = received;
    memcpy(message->name, rest, wire.length);
    message->name[wire.length] = 0;
    message->text_size = (u32)(size - (i64)sizeof wire - wire.length);
    if (message->text_size > TEXT_MAX)
        message->text_size = TEXT_MAX;
    memcpy(message->text, rest + wire.length, message->text_size);
    return READ_MESSAGE;
}
