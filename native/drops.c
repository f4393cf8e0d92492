/* What /proc/PID says of a process's signals (proc_pid_status(5)). */
#include "drops.h"
#include "sys.h"

#include <linux/signal.h>

#define FILE_MAX 4096

/* /proc/PID/NAME as a string; its size, or -1. */
static i64 read_file(int pid, const char *name, char *at)
{
    char place[64];
    struct text path = {.at = place, .size = sizeof place - 1};
    text_string(&path, "/proc/");
    text_number(&path, pid);
    text_string(&path, "/");
    text_string(&path, name);
    place[path.used] = 0;
    i64 fd = SYS4(openat, AT_FDCWD, place, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    i64 size = SYS3(read, fd, at, FILE_MAX - 1);
    SYS1(close, fd);
    if (size < 0)
        return -1;
    at[size] = 0;
    return size;
}

static int starts(const char *at, const char *words)
{
    for (; *words; at++, words++)
        if (*at != *words)
            return 0;
    return 1;
}

static const char *find(const char *text, const char *words)
{
    for (; *text; text++)
        if (starts(text, words))
            return text;
    return NULL;
}

/* Whether a process is in rt_sigtimedwait(2), or cannot be looked into. */
static int waits_for_signals(int pid)
{
    static char at[FILE_MAX];
    i64 size = read_file(pid, "syscall", at);
    if (size >= 0) {
        u64 number = 0;
        const char *digit = at;
        for (; *digit >= '0' && *digit <= '9'; digit++)
            number = 10 * number + (u64)(*digit - '0');
        return digit != at && number == __NR_rt_sigtimedwait;
    }
    size = read_file(pid, "wchan", at);
    return size <= 0 || (size == 1 && *at == '0') || find(at, "sigtimedwait") != NULL;
}

/* What stands behind `\nNAME:` in a status, "" where that is not there. */
static const char *field(const char *status, const char *name)
{
    const char *at = find(status, name);
    if (!at)
        return "";
    at += strlen(name);
    while (*at == '\t' || *at == ' ')
        at++;
    return at;
}

static u64 mask(const char *status, const char *name)
{
    u64 value = 0;
    for (const char *at = field(status, name);; at++) {
        if (*at >= '0' && *at <= '9')
            value = value << 4 | (u64)(*at - '0');
        else if (*at >= 'a' && *at <= 'f')
            value = value << 4 | (u64)(*at - 'a' + 10);
        else
            return value;
    }
}

/* Whether the last of at least two numbers is 1. */
static int is_first(const char *status)
{
    const char *at = field(status, "\nNSpid:");
    u32 numbers = 0, value = 0;
    while (*at && *at != '\n') {
        value = 0;
        for (; *at >= '0' && *at <= '9'; at++)
            value = 10 * value + (u32)(*at - '0');
        numbers++;
        while (*at == '\t' || *at == ' ')
            at++;
        if (*at != '\n' && (*at < '0' || *at > '9'))
            return 0;
    }
    return numbers >= 2 && value == 1;
}

int drops_signal(int pid, int number)
{
    static char status[FILE_MAX];
    /* From an ancestor namespace these two come through to any process (pid_namespaces(7)). */
    if (number == SIGKILL || number == SIGSTOP)
        return 0;
    if (pid <= 0 || waits_for_signals(pid) || read_file(pid, "status", status) < 0 ||
        !is_first(status))
        return 0;
    u64 handled = mask(status, "\nSigCgt:") | mask(status, "\nSigBlk:") | mask(status, "\nSigIgn:");
    /* Blocked signals show as unblocked while they are waited for: it may have begun just now. */
    return !(handled >> (number - 1) & 1) && !waits_for_signals(pid);
}
