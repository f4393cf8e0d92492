#include "log.h"

#define SEEK_END 2

/* "log.999999" and a NUL */
#define NAME_SIZE 12

static void name_of(char *name, int number)
{
    struct text text = {.at = name, .size = NAME_SIZE - 1};
    memset(name, 0, NAME_SIZE);
    text_string(&text, "log");
    if (number) {
        text_string(&text, ".");
        text_number(&text, number);
    }
}

static void open_file(struct log *log)
{
    i64 flags = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC;
    log->fd = (int)SYS4(openat, log->folder, "log", flags, 0600);
    log->size = log->fd < 0 ? 0 : SYS3(lseek, log->fd, 0, SEEK_END);
}

void log_open(struct log *log, int folder, i64 size_max, int files_max)
{
    *log = (struct log){.folder = folder, .size_max = size_max, .files_max = files_max};
    open_file(log);
}

static void rotate(struct log *log)
{
    char from[NAME_SIZE], to[NAME_SIZE];
    if (log->fd >= 0)
        SYS1(close, log->fd);
    for (int number = log->files_max - 1; number > 0; number--) {
        name_of(from, number - 1);
        name_of(to, number);
        SYS5(renameat2, log->folder, from, log->folder, to, 0);
    }
    if (log->files_max < 2)
        SYS3(unlinkat, log->folder, "log", 0);
    open_file(log);
}

/* --- lines ---------------------------------------------------------------------------------*/

static void padded(struct text *text, i64 number, int digits)
{
    i64 least = 1;
    while (--digits)
        least *= 10;
    for (; number < least && least > 1; least /= 10)
        text_string(text, "0");
    text_number(text, number);
}

/* RFC 3339 in UTC. The calendar's arithmetic on days since 1970 is Howard Hinnant's
 * (chrono-Compatible Low-Level Date Algorithms, civil_from_days). */
static void text_time(struct text *text, i64 now)
{
    i64 seconds = now / 1000000000, days = seconds / 86400, rest = seconds % 86400;
    i64 z = days + 719468, era = z / 146097, doe = z - era * 146097;
    i64 yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    i64 doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    i64 day = doy - (153 * mp + 2) / 5 + 1, month = mp < 10 ? mp + 3 : mp - 9;
    padded(text, yoe + era * 400 + (month <= 2), 4);
    text_string(text, "-");
    padded(text, month, 2);
    text_string(text, "-");
    padded(text, day, 2);
    text_string(text, "T");
    padded(text, rest / 3600, 2);
    text_string(text, ":");
    padded(text, rest / 60 % 60, 2);
    text_string(text, ":");
    padded(text, rest % 60, 2);
    text_string(text, ".");
    padded(text, now % 1000000000, 9);
    text_string(text, "Z");
}

static void write_line(struct log *log, struct lines *lines, const char *kind)
{
    static char at[LINE_MAX_BYTES + 64];
    struct text text = {.at = at, .size = sizeof at};
    text_time(&text, sys_realtime());
    text_string(&text, " ");
    text_string(&text, lines->stream);
    text_string(&text, kind);
    text_bytes(&text, lines->at, lines->used);
    text_string(&text, "\n");
    lines->used = 0;
    if (log->size_max && log->size && log->size + (i64)text.used > log->size_max)
        rotate(log);
    if (log->fd < 0)
        open_file(log);
    if (log->fd < 0)
        return;
    i64 written = SYS3(write, log->fd, at, text.used);
    if (written == (i64)text.used)
        log->size += written;
    else if (written > 0)
        /* A full disk: half a line would make two of the next one. */
        SYS2(ftruncate, log->fd, log->size);
}

void log_bytes(struct log *log, struct lines *lines, const char *bytes, size_t size)
{
    for (; size; bytes++, size--) {
        if (*bytes == '\n') {
            write_line(log, lines, " F ");
            continue;
        }
        if (lines->used == sizeof lines->at)
            write_line(log, lines, " P ");
        lines->at[lines->used++] = *bytes;
    }
}

void log_rest(struct log *log, struct lines *lines)
{
    if (lines->used)
        write_line(log, lines, " P ");
}
