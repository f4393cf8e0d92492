/* The launcher's standard streams: a terminal or pipes, read into the log and to clients. */
#include "monitor.h"

#include <asm/ioctls.h>

#define VEOF_CHARACTER 4

static void open_pipe(int *ours, int *theirs, int we_write)
{
    int ends[2];
    must("make a pipe", SYS2(pipe2, ends, O_CLOEXEC));
    *ours = ends[we_write ? 1 : 0];
    *theirs = ends[we_write ? 0 : 1];
    SYS3(fcntl, *ours, F_SETFL, O_NONBLOCK);
}

void streams_open(int theirs[3])
{
    int number = 0;
    the.master = the.input = the.out = -1;
    if (the.terminal) {
        the.master = must("open a terminal",
                          SYS4(openat, AT_FDCWD, "/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, 0));
        must("unlock a terminal", SYS3(ioctl, the.master, TIOCSPTLCK, &number));
        theirs[0] = must("open a terminal", SYS3(ioctl, the.master, TIOCGPTPEER,
                                                  O_RDWR | O_NOCTTY | O_CLOEXEC));
        theirs[1] = theirs[0];
        SYS3(fcntl, the.master, F_SETFL, O_NONBLOCK);
        the.out = the.master;
        the.input = the.master;
    } else {
        open_pipe(&the.out, &theirs[1], 0);
        if (the.keeps_input)
            open_pipe(&the.input, &theirs[0], 1);
        else
            theirs[0] = must("open /dev/null",
                             SYS4(openat, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC, 0));
    }
    open_pipe(&the.err, &theirs[2], 0);
}

static int take(int *fd, struct lines *lines, char kind)
{
    static char bytes[LINE_MAX_BYTES];
    if (*fd < 0)
        return 0;
    i64 size = SYS3(read, *fd, bytes, sizeof bytes);
    if (size == -EAGAIN || size == -EINTR)
        return 0;
    if (size <= 0) {
        /* EIO: a terminal whose other end nobody has open. */
        if (size != -EIO || *fd != the.master) {
            SYS1(close, *fd);
            *fd = -1;
        }
        return 0;
    }
    log_bytes(&the.log, lines, bytes, (size_t)size);
    clients_show(kind, bytes, (size_t)size);
    /* Why a start fails is for the caller's terminal; what a command writes that has been executed,
     * maybe before the launcher could tell so, is for the log alone. */
    if (kind == 'e' && !the.started) {
        if (the.early_used + (size_t)size > sizeof the.early)
            streams_tell_early();
        memcpy(the.early + the.early_used, bytes, (size_t)size);
        the.early_used += (size_t)size;
    }
    return 1;
}

void streams_tell_early(void)
{
    struct text text = {.at = the.early, .size = the.early_used, .used = the.early_used};
    text_write(&text, 2);
    the.early_used = 0;
}

int streams_take_out(void)
{
    return take(&the.out, &the.out_lines, 'o');
}

int streams_take_err(void)
{
    return take(&the.err, &the.err_lines, 'e');
}

/* --- standard input -------------------------------------------------------------------------*/

static void close_input(void)
{
    char end = VEOF_CHARACTER;
    if (the.input < 0)
        return;
    if (the.terminal) {
        /* The end of what one has typed; another may type on. */
        SYS3(write, the.input, &end, 1);
        the.input_ends = 0;
        return;
    }
    SYS1(close, the.input);
    the.input = -1;
}

void input_keep(const char *bytes, size_t size)
{
    if (the.input < 0 || the.input_ends)
        return;
    if (the.pending_at == the.pending_end)
        the.pending_at = the.pending_end = 0;
    if (size > INPUT_MAX - the.pending_end)
        size = INPUT_MAX - the.pending_end;
    memcpy(the.pending + the.pending_end, bytes, size);
    the.pending_end += size;
}

void input_write(void)
{
    size_t left = the.pending_end - the.pending_at;
    if (left) {
        i64 written = SYS3(write, the.input, the.pending + the.pending_at, left);
        if (written > 0)
            the.pending_at += (size_t)written;
        else if (written != -EAGAIN && written != -EINTR)
            the.pending_at = the.pending_end;
    }
    if (the.pending_at < the.pending_end)
        return;
    for (int i = 0; i < the.clients_used; i++)
        the.clients[i].waits = 0;
    if (the.input_ends)
        close_input();
}

void input_end(void)
{
    the.input_ends = 1;
    input_write();
}

int input_is_pending(void)
{
    return the.pending_at < the.pending_end;
}

void terminal_resize(const char *bytes, size_t size)
{
    unsigned short window[4] = {0};
    if (!the.terminal || size != 2 * sizeof window[0])
        return;
    memcpy(window, bytes, size);
    SYS3(ioctl, the.master, TIOCSWINSZ, window);
}
