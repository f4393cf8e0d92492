/* Moving bytes between the caller's terminal and a container's, in bounded buffers.
 *
 * Descriptors 0 and 1 may be shared with other programs, and O_NONBLOCK would be set for them too:
 * poll(2) says when a write of up to PIPE_BUF bytes does not wait. The master is ours alone.
 */
#include "relay.h"
#include "run.h"

#include <asm/ioctls.h>
#include <linux/signal.h>

/* PIPE_BUF of linux/limits.h: a pipe that polls writable takes this much. */
#define CHUNK 4096

void window_size_copy(int master)
{
    unsigned short size[4];
    for (int fd = 0; fd < 3; fd++) {
        if (SYS3(ioctl, fd, TIOCGWINSZ, size) < 0)
            continue;
        SYS3(ioctl, master, TIOCSWINSZ, size);
        return;
    }
}

/* Whether this process may use a terminal; true for what is no terminal of ours. */
static int in_foreground(int fd)
{
    int group;
    return SYS3(ioctl, fd, TIOCGPGRP, &group) < 0 || group == SYS1(getpgid, 0);
}

/* --- raw mode ------------------------------------------------------------------------------*/

/* As cfmakeraw(3) changes them: every byte passes as it is. */
static void make_raw(struct termios *t)
{
    t->c_iflag &= ~(u32)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    t->c_oflag &= ~(u32)OPOST;
    t->c_cflag = (t->c_cflag & ~(u32)(CSIZE | PARENB)) | CS8;
    t->c_lflag &= ~(u32)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    t->c_cc[VMIN] = 1;
    t->c_cc[VTIME] = 0;
}

/* A background process that changes its terminal is stopped by SIGTTOU unless it blocks it
 * (termios(3)). TCSETSW would wait for a reader that may never come. */
static void set_attributes(const struct termios *attributes)
{
    u64 ttou = 1ull << (SIGTTOU - 1), before;
    SYS4(rt_sigprocmask, SIG_BLOCK, &ttou, &before, 8);
    SYS3(ioctl, 0, TCSETS, attributes);
    SYS4(rt_sigprocmask, SIG_SETMASK, &before, NULL, 8);
}

void raw_enter(struct raw_mode *raw)
{
    struct termios attributes;
    if (SYS3(ioctl, 0, TCGETS, &attributes) < 0 || !in_foreground(0))
        return;
    if (!raw->saved)
        raw->attributes = attributes;
    raw->saved = 1;
    attributes = raw->attributes;
    make_raw(&attributes);
    set_attributes(&attributes);
}

void raw_leave(struct raw_mode *raw)
{
    if (raw->saved)
        set_attributes(&raw->attributes);
    raw->saved = 0;
}

/* --- the relay -----------------------------------------------------------------------------*/

void relay_start(struct relay *relay, int master)
{
    relay->master = master;
    relay->stdin_open = relay->stdout_open = 1;
    relay->stdin_paused = relay->hung_up = relay->at_end = relay->output_lost = 0;
    relay->input_used = relay->output_used = 0;
    relay->last_input = '\n';
    i64 flags = SYS3(fcntl, master, F_GETFL, 0);
    SYS3(fcntl, master, F_SETFL, flags | O_NONBLOCK);
}

u32 relay_wanted(const struct relay *relay, struct pollfd *polls)
{
    u32 count = 0;
    if (!relay->hung_up) {
        int reading = relay->output_used < RELAY_BUFFER ? POLLIN : 0;
        int writing = relay->input_used ? POLLOUT : 0;
        if (reading | writing)
            polls[count++] = (struct pollfd){relay->master, (short)(reading | writing), 0};
    }
    if (relay->stdin_open && !relay->stdin_paused && relay->input_used < RELAY_BUFFER - CHUNK)
        polls[count++] = (struct pollfd){0, POLLIN, 0};
    if (relay->output_used)
        polls[count++] = (struct pollfd){1, POLLOUT, 0};
    return count;
}

static void drop(char *buffer, u32 *used, u32 size)
{
    *used -= size;
    memmove(buffer, buffer + size, *used);
}

static void read_master(struct relay *relay)
{
    i64 size = SYS3(read, relay->master, relay->output + relay->output_used, RELAY_BUFFER);
    if (size == -EAGAIN || size == -EINTR)
        return;
    if (size <= 0)
        /* EIO: no process has the slave open (pty(7)); one may open it again. */
        relay->hung_up = 1;
    else if (relay->stdout_open)
        relay->output_used += (u32)size;
}

static void write_master(struct relay *relay)
{
    i64 written = SYS3(write, relay->master, relay->input, relay->input_used);
    if (written == -EAGAIN || written == -EINTR)
        return;
    drop(relay->input, &relay->input_used, written < 0 ? relay->input_used : (u32)written);
}

static void add_input(struct relay *relay, char byte)
{
    if (relay->input_used < sizeof relay->input)
        relay->input[relay->input_used++] = byte;
}

/* What makes the command's terminal read end of file. */
static void add_end_of_file(struct relay *relay)
{
    struct termios t;
    if (SYS3(ioctl, relay->master, TCGETS, &t) < 0)
        return;
    /* It would be read as a character and stand in the output. */
    if ((t.c_lflag & ECHO) && !(t.c_lflag & ICANON))
        return;
    add_input(relay, (char)t.c_cc[VEOF]);
    /* Within a line the first one only hands the line over (termios(3), VEOF). */
    if (relay->last_input != '\n')
        add_input(relay, (char)t.c_cc[VEOF]);
}

static void read_stdin(struct relay *relay)
{
    i64 size = SYS3(read, 0, relay->input + relay->input_used, CHUNK);
    if (size == -EAGAIN || size == -EINTR)
        return;
    if (size == -EIO && !in_foreground(0)) {
        /* SIGTTIN is blocked: a background read fails instead of stopping us. */
        relay->stdin_paused = 1;
        return;
    }
    if (size > 0) {
        relay->input_used += (u32)size;
        relay->last_input = relay->input[relay->input_used - 1];
        return;
    }
    relay->stdin_open = 0;
    relay->at_end = 1;
    add_end_of_file(relay);
}

/* The character is gone where nobody was reading, or the mode of the terminal has changed since: a
 * shell that edits its lines reads raw, and takes it for the end itself. */
void relay_repeat_end(struct relay *relay)
{
    relay->last_input = '\n';
    if (!relay->input_used)
        add_end_of_file(relay);
}

static void write_stdout(struct relay *relay, int events)
{
    if (!(events & (POLLERR | POLLNVAL))) {
        u32 size = relay->output_used < CHUNK ? relay->output_used : CHUNK;
        i64 written = SYS3(write, 1, relay->output, size);
        if (written == -EAGAIN || written == -EINTR)
            return;
        if (written >= 0) {
            drop(relay->output, &relay->output_used, (u32)written);
            return;
        }
    }
    /* Nobody reads any more: go on reading, so that the command can end. */
    relay->stdout_open = 0;
    relay->output_lost = 1;
    relay->output_used = 0;
}

void relay_handle(struct relay *relay, int fd, int events)
{
    if (fd == relay->master) {
        if (events & POLLOUT)
            write_master(relay);
        if (events & ~POLLOUT)
            read_master(relay);
    } else if (fd == 0) {
        read_stdin(relay);
    } else if (fd == 1) {
        write_stdout(relay, events);
    }
}

void relay_stop_input(struct relay *relay)
{
    relay->stdin_open = 0;
    relay->input_used = 0;
}

void relay_resume(struct relay *relay) { relay->hung_up = relay->stdin_paused = 0; }
