/* A kernel that is none, for native/fuzz_plan.c: it answers each call with what the input says,
 * writes where that call lets a kernel write, and ends the process after a while.
 *
 * An answer of 0 is that of a machine where all goes well: descriptors are new, messages are those
 * that are waited for, helpers and the command end with 0. So a plan is replayed as far as its
 * input does not say otherwise.
 *
 * A plan may pass any number as an address, as the real kernel lets it: that is EFAULT here. The
 * executor's own addresses are its variables, its stack, and what sys_memory() gave.
 */
#include "fuzz_kernel.h"
#include "reap.h"

#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <linux/netlink.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/signalfd.h>
#include <linux/stat.h>
#include <linux/utsname.h>
#include <linux/wait.h>
#include <stdlib.h>

#define CALLS_MAX 20000
#define BLOCKS_MAX 64
#define BLOCK_MAX (64u << 20)
#define STACK_MAX (1u << 20)
#define PIECE_MAX 8192
#define FIRST_PID 1000

extern char __data_start[], _end[];

jmp_buf fuzz_ended;
static const u8 *answers;
static size_t answers_size, answers_at;
static u32 calls, clones, new_processes, received[2], sequence;
static i64 now;

static struct block {
    u64 at, size;
} blocks[BLOCKS_MAX], plan;
static u32 block_count;

void kernel_begin(const u8 *from, size_t size, u32 news)
{
    answers = from;
    answers_size = size;
    answers_at = calls = clones = received[0] = received[1] = 0;
    new_processes = news;
}

u8 kernel_answer(void) { return answers_at < answers_size ? answers[answers_at++] : 0; }

void kernel_plan(const void *at, size_t size) { plan = (struct block){(u64)at, size}; }

void kernel_end(void)
{
    while (block_count)
        free((void *)blocks[--block_count].at);
}

NORETURN void sys_exit(int status) { longjmp(fuzz_ended, 1 + (status & 0xff)); }

static i64 memory(u64 size)
{
    if (block_count == BLOCKS_MAX || size > BLOCK_MAX)
        return -ENOMEM;
    void *at = calloc(1, size);
    blocks[block_count++] = (struct block){(u64)at, size};
    return (i64)at;
}

/* --- addresses -----------------------------------------------------------------------------*/

static int in(const struct block *block, u64 at, u64 size)
{
    return at >= block->at && at - block->at <= block->size &&
           size <= block->size - (at - block->at);
}

static int writable(u64 at, u64 size)
{
    u64 here = (u64)&size;
    for (u32 i = 0; i < block_count; i++)
        if (in(&blocks[i], at, size))
            return 1;
    return (at >= here && at - here < STACK_MAX) ||
           (at >= (u64)__data_start && at < (u64)_end);
}

i64 kernel_put(u64 at, const void *from, u64 size)
{
    if (!writable(at, size))
        return -EFAULT;
    memcpy((void *)at, from, size);
    return (i64)size;
}

/* As many bytes of the input as it says, `unit` at a time; the rest of a piece is zeros. */
static i64 put_answers(u64 at, u64 most, u8 said, u32 unit)
{
    static u8 piece[PIECE_MAX];
    u64 size = (u64)said * unit;
    size = size < most ? size : most;
    size = size < sizeof piece ? size : sizeof piece;
    for (u64 i = 0; i < size; i++)
        piece[i] = kernel_answer();
    return kernel_put(at, piece, size);
}

/* --- messages of the channel -----------------------------------------------------------------*/

/* struct msghdr as the channel fills it: where the datagram goes, and the descriptor. */
static i64 receive(const u64 *header, u8 said)
{
    struct {
        u8 tag, kind, length, padding;
        int step, err, expect;
        i64 value;
        char name[256];
    } wire = {.tag = TAG_SYNC, .expect = -1, .value = FIRST_PID};
    const u64 *part = (const u64 *)header[2];
    if (header[2] % 8 || !writable(header[2], 16))
        return -EFAULT;
    if (said == 1)
        return 0;
    if (said == 2)
        return -EAGAIN;
    if (said > 2) {
        int fd = kernel_answer();
        if (fd & 1)
            kernel_put(header[4] + 16, &fd, sizeof fd);
        return put_answers(part[0], part[1], said, 1);
    }
    const u32 *step = steps_awaited(received[fuzz_run.in_child]);
    if (!step)
        return -EAGAIN;
    received[fuzz_run.in_child]++;
    if (step_op(step) == OP_WAIT && (step[4] & WAIT_EXEC)) {
        steps_enter_exec();
        return 0;
    }
    if (step_op(step) == OP_RECEIVE_FD) {
        int control[6] = {20, 0, 1, 1, 77, 0};
        wire.tag = TAG_FD;
        kernel_put(header[4], control, sizeof control);
    }
    wire.length = (u8)step[6];
    memcpy(wire.name, fuzz_run.plan.data + step[5], wire.length);
    return kernel_put(part[0], &wire, 24u + wire.length);
}

/* --- netlink -------------------------------------------------------------------------------*/

static void sent(u64 at, u64 size)
{
    if (size >= sizeof(struct nlmsghdr) && (in(&plan, at, size) || writable(at, size)))
        memcpy(&sequence, (const char *)at + offsetof(struct nlmsghdr, nlmsg_seq), sizeof sequence);
}

static i64 acknowledge(u64 at, u64 size, u8 said)
{
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        u8 attributes[256];
    } ack = {.header = {.nlmsg_type = NLMSG_ERROR, .nlmsg_seq = sequence}};
    u32 length = sizeof ack - sizeof ack.attributes;
    if (said > 250)
        return put_answers(at, size, kernel_answer(), 16);
    if (said) {
        ack.error.error = -(int)said;
        ack.error.msg.nlmsg_len = kernel_answer();
        ack.header.nlmsg_flags = (uint16_t)(kernel_answer() << 8);
        u8 more = kernel_answer();
        for (u32 i = 0; i < more; i++)
            ack.attributes[i] = kernel_answer();
        length += more;
    }
    ack.header.nlmsg_len = length;
    return kernel_put(at, &ack, length < size ? length : size);
}

/* --- processes -----------------------------------------------------------------------------*/

static i64 poll(u64 at, u64 count, u8 said)
{
    struct pollfd *polls = (struct pollfd *)at;
    i64 ready = 0;
    if (said == 255)
        return -EINTR;
    if (count > 8 || at % 8 || !writable(at, count * sizeof *polls))
        return -EFAULT;
    for (u32 i = 0; i < count; i++) {
        int is_ready = polls[i].fd >= 0 && (!said || (said >> i & 1));
        polls[i].revents = is_ready ? (short)(polls[i].events | (said & 0x40 ? POLLHUP : 0)) : 0;
        ready += is_ready;
    }
    return ready;
}

static i64 wait(u64 type, u64 at, u8 said)
{
    struct {
        int signo, err, code, padding, pid;
        u32 uid;
        int status, rest[25];
    } info = {.signo = 17, .code = CLD_EXITED, .pid = FIRST_PID};
    if (said > 200 || (!said && type == P_ALL))
        return -ECHILD;
    if (said) {
        info.pid = said & 1 ? FIRST_PID + said : 0;
        info.code = 1 + said % 3;
        info.status = said & 0x7f;
    }
    i64 result = kernel_put(at, &info, sizeof info);
    return result < 0 ? result : 0;
}

static i64 make_process(const struct clone_args *args, u8 said)
{
    int pidfd = 90;
    int is_new = clones < 8 && (new_processes >> clones & 1);
    clones++;
    if (is_new || said > 240)
        return 0;
    if (said > 200)
        return -EAGAIN;
    if (args->flags & CLONE_PIDFD)
        kernel_put(args->pidfd, &pidfd, sizeof pidfd);
    return FIRST_PID + clones;
}

/* --- the calls -----------------------------------------------------------------------------*/

static int makes_descriptor(i64 nr)
{
    static const u32 numbers[] = {
        __NR_openat, __NR_openat2,   __NR_open_tree,    __NR_fsopen,    __NR_fsmount, __NR_fspick,
        __NR_socket, __NR_pidfd_open, __NR_memfd_create, __NR_signalfd4, __NR_dup,
    };
    for (u32 i = 0; i < COUNT(numbers); i++)
        if (numbers[i] == nr)
            return 1;
    return 0;
}

static i64 two_descriptors(u64 at)
{
    int fds[2] = {100 + (int)(calls % 1000), 101 + (int)(calls % 1000)};
    return kernel_put(at, fds, sizeof fds) < 0 ? -EFAULT : 0;
}

static i64 read_bytes(u64 at, u64 size, u8 said)
{
    struct signalfd_siginfo infos[EARLY_MAX] = {{0}};
    if (size != sizeof infos)
        return put_answers(at, size, said, 16);
    /* A signalfd: whole records, of signals there are. */
    u32 count = said % (EARLY_MAX + 1);
    for (u32 i = 0; i < count; i++) {
        infos[i].ssi_signo = 1 + kernel_answer() % 64;
        infos[i].ssi_code = (signed char)kernel_answer();
        infos[i].ssi_pid = kernel_answer();
    }
    return count ? kernel_put(at, infos, count * sizeof infos[0]) : -EAGAIN;
}

static i64 any(i64 nr, u8 said)
{
    if (!said)
        return makes_descriptor(nr) ? 100 + calls % 1000 : 0;
    if (said < 64)
        return said;
    return said < 128 ? (i64)said << 24 : -(i64)(said - 127);
}

i64 syscall6(i64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    static struct new_utsname name = {.release = "6.18.5", .machine = "x86_64"};
    if (nr == __NR_mmap)
        return memory(b);
    if (nr == __NR_clock_gettime) {
        now += 1000000;
        i64 time[2] = {now / 1000000000, now % 1000000000};
        return kernel_put(b, time, sizeof time);
    }
    if (++calls > CALLS_MAX)
        sys_exit(1);
    i64 wanted;
    u8 said = kernel_answer();
    if (!said && steps_agree(nr, (u64[]){a, b, c, d, e, f}, &wanted))
        return wanted;
    switch (nr) {
    case __NR_read:
    case __NR_pread64: return read_bytes(b, c, said);
    case __NR_write: return said < 230 ? (i64)(c & 0xfffff) : -EPIPE;
    case __NR_sendto: sent(b, c); return said < 230 ? (i64)(c & 0xfffff) : -EPIPE;
    case __NR_recvfrom: return acknowledge(b, c, said);
    case __NR_recvmsg: return !(b % 8) && writable(b, 56) ? receive((const u64 *)b, said) : -EFAULT;
    case __NR_ppoll:
        now += said & 0x80 ? 1000000000 : 0;
        return poll(a, b, said);
    case __NR_waitid: return wait(a, c, said);
    case __NR_clone3: return make_process((const struct clone_args *)a, said);
    case __NR_pipe2: return said < 230 ? two_descriptors(a) : -EMFILE;
    case __NR_socketpair: return said < 230 ? two_descriptors(d) : -EMFILE;
    case __NR_uname: return kernel_put(a, &name, sizeof name) < 0 ? -EFAULT : 0;
    case __NR_getpid:
    case __NR_getppid:
    case __NR_getpgid: return 1;
    case __NR_execve: return -(i64)(said ? said : ENOENT);
    case __NR_statx:
        return said < 128 ? put_answers(e, sizeof(struct statx), said, 4) & 0 : -(i64)(said - 127);
    case __NR_ioctl:
        if (b == TCGETS)
            put_answers(c, sizeof(struct termios), said, 1);
        if (b == TIOCGPGRP)
            kernel_put(c, &(int){1 + (said & 1)}, sizeof(int));
        return said < 200 ? 0 : -ENOTTY;
    default: return any(nr, said);
    }
}
