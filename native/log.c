#include "log.h"
#include "launch.h"

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

/* --- what is lost --------------------------------------------------------------------------*/

static void tell_lost(const struct log *log)
{
    char at[LOST_BYTES];
    struct text text = {.at = at, .size = sizeof at};
    if (log->lost_fd < 0)
        return;
    text_number(&text, log->lost);
    text_string(&text, " ");
    text_number(&text, log->lost_err);
    while (text.used < sizeof at)
        text_string(&text, text.used < sizeof at - 1 ? " " : "\n");
    /* The same bytes again, which have their room, at a disk that has none left. */
    SYS4(pwrite64, log->lost_fd, at, text.used, 0);
}

static void lose(struct log *log, i64 err)
{
    if (!log->lost)
        SYS5(renameat2, log->folder, ".lost", log->folder, "lost", 0);
    log->lost++;
    log->lost_err = (int)err;
    tell_lost(log);
}

/* What a monitor before this one could not say in the log is said by this one. */
static void inherit_lost(struct log *log)
{
    char at[LOST_BYTES];
    i64 numbers[2] = {0, 0}, size = 0;
    i64 fd = SYS4(openat, log->folder, "lost", O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    size = SYS3(read, fd, at, sizeof at);
    SYS1(close, fd);
    for (i64 i = 0, which = 0; i < size && which < 2; i++)
        if (at[i] < '0' || at[i] > '9')
            which++;
        else if (numbers[which] < INT64_MAX / 20)
            numbers[which] = 10 * numbers[which] + (at[i] - '0');
    log->lost = numbers[0];
    log->lost_err = (int)numbers[1];
    SYS5(renameat2, log->folder, ".lost", log->folder, "lost", 0);
    tell_lost(log);
}

static void find_again(struct log *log)
{
    log->lost = 0;
    SYS5(renameat2, log->folder, "lost", log->folder, ".lost", 0);
}

void log_open(struct log *log, int folder, i64 size_max, int files_max, int lost_fd)
{
    *log = (struct log){.folder = folder, .size_max = size_max, .files_max = files_max,
                        .fd = -1, .lost_fd = lost_fd};
    if (!files_max)
        return;
    inherit_lost(log);
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

static void begin_line(struct text *text, const char *stream, const char *kind)
{
    text_time(text, sys_realtime());
    text_string(text, " ");
    text_string(text, stream);
    text_string(text, kind);
}

/* In front of the first line after some were lost. No container writes a line of this kind. */
static void text_lost(struct text *text, const struct log *log)
{
    if (!log->lost)
        return;
    begin_line(text, "stderr", " F:lost ");
    text_number(text, log->lost);
    text_string(text, log->lost == 1 ? " line was" : " lines were");
    text_string(text, " lost here: ");
    text_errno(text, log->lost_err);
    text_string(text, "\n");
}

/* All of it, or nothing: 0, or an errno. */
static i64 append(struct log *log, const struct text *text)
{
    if (log->size_max && log->size && log->size + (i64)text->used > log->size_max)
        rotate(log);
    if (log->fd < 0)
        open_file(log);
    if (log->fd < 0)
        return -log->fd;
    i64 written = SYS3(write, log->fd, text->at, text->used);
    if (written == (i64)text->used) {
        log->size += written;
        return 0;
    }
    if (written < 0)
        return -written;
    /* A full disk: half a line would make two of the next one. */
    SYS2(ftruncate, log->fd, log->size);
    return ENOSPC;
}

static void write_line(struct log *log, struct lines *lines, const char *kind)
{
    static char at[LINE_MAX_BYTES + 256];
    struct text text = {.at = at, .size = sizeof at};
    if (log->files_max) {
        text_lost(&text, log);
        begin_line(&text, lines->stream, kind);
        text_bytes(&text, lines->at, lines->used);
        text_string(&text, "\n");
        i64 err = append(log, &text);
        if (err)
            lose(log, err);
        else if (log->lost)
            find_again(log);
    }
    lines->used = 0;
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

void log_close(struct log *log)
{
    char at[256];
    struct text text = {.at = at, .size = sizeof at};
    text_lost(&text, log);
    if (text.used && append(log, &text) == 0)
        find_again(log);
    /* "lost" stays, where that is so. */
    SYS3(unlinkat, log->folder, ".lost", 0);
}
