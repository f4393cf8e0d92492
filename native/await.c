/* `await`: stay with the command until it ends, and be its face to the caller.
 *
 * SIGTERM, the timeout   the stop signal, then SIGKILL after stop_timeout
 * SIGINT, SIGHUP, ...    forwarded as they are
 * SIGTSTP, SIGCONT       stop and continue, the command and ourselves
 * SIGWINCH               the pty's window size
 * SIGCHLD                collect orphans; the command's own end shows on its pidfd
 */
#include "drops.h"
#include "relay.h"
#include "run.h"

#include <linux/signal.h>
#include <linux/signalfd.h>
#include <linux/time_types.h>

#define MILLISECOND 1000000ll
#define NEVER INT64_MAX
/* asm-generic/siginfo.h: sent by the kernel, as by a terminal's line discipline */
#define SI_KERNEL 0x80
/* How soon a command that goes on after the end of its input is told again, and the longest wait. */
#define END_AGAIN (1000 * MILLISECOND)
#define END_AGAIN_MAX (8000 * MILLISECOND)
/* While no process has the slave open the master always polls as hung up: look at times. */
#define HANGUP_RECHECK (200 * MILLISECOND)
/* The kernel hands what was written to a slave over from a work queue: after the command's end the
 * last bytes may still be on their way. */
#define QUIET (100 * MILLISECOND)

struct supervisor {
    int pidfd, signals, child;
    int init; /* the process is nsrun's own PID 1, which passes on what it gets */
    int stop_signal;
    i64 stop_timeout;
    i64 deadline, kill_at, recheck_at, end_again_at, end_again_after, quiet_until;
    int stopping, killed, timed_out, dropped, ended, abandoned;
    struct relay *relay; /* NULL: no terminal */
    struct raw_mode raw;
};

u32 signals_read(int fd, struct received *received, u32 most)
{
    struct signalfd_siginfo infos[EARLY_MAX];
    i64 size = SYS3(read, fd, infos, sizeof infos[0] * (most < EARLY_MAX ? most : EARLY_MAX));
    u32 count = size < 0 ? 0 : (u32)((size_t)size / sizeof infos[0]);
    for (u32 i = 0; i < count; i++)
        received[i] = (struct received){(int)infos[i].ssi_signo, infos[i].ssi_code,
                                        (int)infos[i].ssi_pid};
    return count;
}

int signal_ends(int number)
{
    return number == SIGINT || number == SIGTERM || number == SIGQUIT || number == SIGHUP;
}

/* --- signals -------------------------------------------------------------------------------*/

/* It may have just ended, or have ids we may not signal. */
static void send(const struct supervisor *s, int number)
{
    SYS4(pidfd_send_signal, s->pidfd, number, NULL, 0);
}

static void kill_command(struct supervisor *s)
{
    s->kill_at = NEVER;
    if (!s->killed)
        reap_kill(s->pidfd);
    s->killed = 1;
}

/* Send a signal to the command, or SIGKILL where the kernel would drop it. */
static void deliver(struct supervisor *s, int number, int already)
{
    int ends = signal_ends(number) || (s->stopping && number == s->stop_signal);
    if (ends && !s->init && drops_signal(s->child, number)) {
        s->dropped = number;
        kill_command(s);
    } else if (!already) {
        send(s, number);
    }
}

/* Begin to stop the command; the second time, kill it. */
static void stop(struct supervisor *s)
{
    if (s->stopping) {
        kill_command(s);
        return;
    }
    s->stopping = 1;
    s->kill_at = sys_after(sys_monotonic(), s->stop_timeout);
    deliver(s, s->stop_signal, 0);
}

static void resume(struct supervisor *s)
{
    if (s->relay) {
        raw_enter(&s->raw);
        window_size_copy(s->relay->master);
        relay_resume(s->relay);
    }
    send(s, SIGCONT);
}

/* Ctrl-Z: stop the command, then ourselves; go on when the shell says so. */
static void suspend(struct supervisor *s)
{
    /* nsrun's PID 1 would stop alone; it turns SIGTSTP into the command's SIGSTOP. */
    if (!s->relay)
        send(s, s->init ? SIGTSTP : SIGSTOP);
    raw_leave(&s->raw);
    SYS2(kill, SYS0(getpid), SIGSTOP);
    resume(s);
}

/* Whether a terminal sent the signal to the command too, being of our process group. */
static int reached_child(const struct supervisor *s, const struct received *received)
{
    return received->code == SI_KERNEL && s->child > 0 &&
           SYS1(getpgid, s->child) == SYS1(getpgid, 0);
}

static void handle(struct supervisor *s, const struct received *received)
{
    int number = received->number;
    if (number == SIGCHLD)
        reap_orphans(s->child);
    /* The first two are ours, not the command's: its terminal is another. */
    else if (number == SIGTTIN || number == SIGTTOU ||
             (number == SIGPIPE && received->sender == SYS0(getpid)))
        return;
    else if (s->ended)
        s->abandoned |= signal_ends(number);
    else if (number == SIGWINCH && s->relay)
        window_size_copy(s->relay->master);
    else if (number == SIGTSTP)
        suspend(s);
    else if (number == SIGCONT)
        resume(s);
    else if (number == SIGTERM || (number == SIGINT && s->stopping))
        stop(s);
    else
        deliver(s, number, reached_child(s, received));
}

/* --- times ---------------------------------------------------------------------------------*/

/* The end of the input, told again at growing intervals while the command goes on. */
static void end_again(struct supervisor *s, i64 now)
{
    if (s->end_again_at == NEVER) {
        s->end_again_at = now + s->end_again_after;
    } else if (now >= s->end_again_at) {
        s->end_again_after *= 2;
        if (s->end_again_after > END_AGAIN_MAX)
            s->end_again_after = END_AGAIN_MAX;
        s->end_again_at = now + s->end_again_after;
        relay_repeat_end(s->relay);
    }
}

static void recheck(struct supervisor *s, i64 now)
{
    if (s->recheck_at == NEVER) {
        s->recheck_at = now + HANGUP_RECHECK;
    } else if (now >= s->recheck_at) {
        s->recheck_at = NEVER;
        relay_resume(s->relay);
    }
}

static void on_time(struct supervisor *s)
{
    if (s->ended)
        return;
    i64 now = sys_monotonic();
    if (now >= s->deadline) {
        s->deadline = NEVER;
        s->timed_out = 1;
        stop(s);
    }
    if (now >= s->kill_at)
        kill_command(s);
    if (s->relay && s->relay->hung_up)
        recheck(s, now);
    if (s->relay && s->relay->at_end)
        end_again(s, now);
}

static i64 earlier(i64 one, i64 other) { return one < other ? one : other; }

/* When something is due. */
static i64 due(const struct supervisor *s)
{
    if (!s->ended)
        return earlier(earlier(s->deadline, s->kill_at), earlier(s->recheck_at, s->end_again_at));
    return s->relay && !s->relay->hung_up ? s->quiet_until : NEVER;
}

/* --- the loop ------------------------------------------------------------------------------*/

static void move(struct supervisor *s, int fd, int events)
{
    struct relay *relay = s->relay;
    relay_handle(relay, fd, events);
    if (fd == relay->master)
        s->quiet_until = sys_monotonic() + QUIET;
    if (relay->output_lost) {
        relay->output_lost = 0;
        /* As when a terminal's window is closed. */
        deliver(s, SIGHUP, 0);
    }
}

static void on_end(struct supervisor *s)
{
    s->ended = 1;
    if (s->relay) {
        s->quiet_until = sys_monotonic() + QUIET;
        relay_stop_input(s->relay);
    }
}

static void on_signals(struct supervisor *s)
{
    struct received received[EARLY_MAX];
    u32 count = signals_read(s->signals, received, EARLY_MAX);
    for (u32 i = 0; i < count; i++)
        handle(s, &received[i]);
}

static void turn(struct supervisor *s)
{
    struct pollfd polls[5] = {{s->ended ? -1 : s->pidfd, POLLIN, 0}, {s->signals, POLLIN, 0}};
    u32 count = 2 + (s->relay ? relay_wanted(s->relay, polls + 2) : 0);
    i64 at = due(s);
    struct __kernel_timespec time = {0, 0};
    if (at != NEVER) {
        /* Never none at all, so that a full buffer does not spin. */
        i64 left = at - sys_monotonic();
        left = left < MILLISECOND ? MILLISECOND : left;
        time = (struct __kernel_timespec){left / 1000000000, left % 1000000000};
    }
    i64 ready = SYS5(ppoll, polls, count, at == NEVER ? NULL : &time, NULL, 8);
    for (u32 i = 0; ready > 0 && i < count; i++) {
        if (!polls[i].revents)
            continue;
        if (i == 0)
            on_end(s);
        else if (i == 1)
            on_signals(s);
        else
            move(s, polls[i].fd, polls[i].revents);
    }
    on_time(s);
}

static int finished(const struct supervisor *s)
{
    if (!s->ended)
        return 0;
    if (!s->relay || s->abandoned)
        return 1;
    return (s->relay->hung_up || sys_monotonic() >= s->quiet_until) && !s->relay->output_used;
}

/* The registers and numbers of the operation's words. */
static enum how prepare(struct run *run, const u32 *step, struct supervisor *s)
{
    static struct relay relay;
    i64 pidfd, signals, master = -1, timeout = (i64)(step[9] | (u64)step[10] << 32);
    if (reg_argument(run, step[2], &pidfd) || reg_argument(run, step[3], &signals) ||
        (step[5] && reg_argument(run, step[5] - 1, &master)))
        return FAILED;
    *s = (struct supervisor){
        .pidfd = (int)pidfd,
        .signals = (int)signals,
        .child = run->is_set[step[1]] ? (int)run->value[step[1]] : -1,
        .init = (run->plan.header->flags & HEADER_HAS_INIT) != 0,
        .stop_signal = (int)step[6],
        .stop_timeout = (i64)(step[7] | (u64)step[8] << 32),
        .deadline = timeout ? sys_after(run->started_at, timeout) : NEVER,
        .kill_at = NEVER,
        .recheck_at = NEVER,
        .end_again_at = NEVER,
        .end_again_after = END_AGAIN,
    };
    if (master >= 0) {
        s->relay = &relay;
        relay_start(&relay, (int)master);
    }
    return OK;
}

enum how run_await(struct run *run, const u32 *step, struct ended *ended)
{
    static struct supervisor s;
    if (prepare(run, step, &s))
        return FAILED;
    if (s.relay)
        raw_enter(&s.raw);
    for (u32 i = 0; i < run->early_count; i++)
        handle(&s, &run->early[i]);
    while (!finished(&s))
        turn(&s);
    raw_leave(&s.raw);
    int err = -reap_collect(s.pidfd, &ended->status, &ended->signal);
    if (err && err != ECHILD)
        return fail(run, FAIL_ERRNO, err, -1);
    if (err) {
        static const char words[] = "the command is not a child of nsrun";
        fail(run, FAIL_ENDED, 0, -1);
        run->fault.text = words;
        run->fault.text_size = sizeof words - 1;
        return FAILED;
    }
    ended->timed_out = s.timed_out;
    /* The command may have come to its own end before it could be killed for that. */
    ended->dropped_signal = ended->signal == SIGKILL ? s.dropped : 0;
    return OK;
}
