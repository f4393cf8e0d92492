/* Entries: are they whole, and does all that they depend on still hold? */
#include "entry.h"
#include "plan.h"
#include "run.h"

#include <linux/openat2.h>
#include <linux/resource.h>
#include <linux/stat.h>
#include <linux/utsname.h>

#ifndef RLIM_NLIMITS
#define RLIM_NLIMITS 16
#endif

/* --- loading -------------------------------------------------------------------------------*/

static int string_inside(const struct entry_header *entry, u32 offset)
{
    const char *bytes = (const char *)entry;
    for (u32 at = offset; at < entry->size; at++)
        if (!bytes[at])
            return 1;
    return 0;
}

static int inside(const struct entry_header *entry, u32 offset, u64 size)
{
    return offset <= entry->size && size <= entry->size - offset;
}

static const struct entry_depend *depends(const struct entry_header *entry)
{
    return (const struct entry_depend *)((const u8 *)entry + entry->depends_offset);
}

const char *entry_load(const void *bytes, size_t size)
{
    const struct entry_header *entry = bytes;
    if (size < sizeof *entry || memcmp(entry->magic, ENTRY_MAGIC, sizeof entry->magic) ||
        entry->format != ENTRY_FORMAT)
        return "it does not start as one";
    if (entry->size < sizeof *entry || entry->size > size || entry->size > ENTRY_SIZE_MAX ||
        entry->size % 8)
        return "it is cut";
    if (plan_checksum((const u8 *)entry + ENTRY_CHECKED_FROM, entry->size - ENTRY_CHECKED_FROM) !=
        entry->checksum)
        return "its checksum is another";
    if (!inside(entry, entry->key_offset, entry->key_size) || entry->depends_offset % 8 ||
        !inside(entry, entry->depends_offset, (u64)entry->depends * sizeof(struct entry_depend)))
        return "a part of it lies outside";
    for (u32 i = 0; i < entry->depends; i++) {
        const struct entry_depend *d = &depends(entry)[i];
        if (!string_inside(entry, d->path) || !string_inside(entry, d->root) ||
            !string_inside(entry, d->text) || !inside(entry, d->data, d->data_size))
            return "a part of it lies outside";
    }
    return NULL;
}

/* --- what it depends on --------------------------------------------------------------------*/

const char *variable(char **envp, const char *name)
{
    size_t size = strlen(name);
    for (; *envp; envp++)
        if (!memcmp(*envp, name, strlen(*envp) < size ? strlen(*envp) : size) &&
            strlen(*envp) > size && (*envp)[size] == '=')
            return *envp + size + 1;
    return NULL;
}

/* The root of the last path looked at inside one: they come one after the other. */
struct roots {
    u32 offset;
    int fd;
};

static i64 open_inside(struct roots *roots, const struct entry_header *entry,
                       const struct entry_depend *d)
{
    const char *strings = (const char *)entry;
    if (roots->offset != d->root) {
        if (roots->fd >= 0)
            SYS1(close, roots->fd);
        roots->offset = d->root;
        roots->fd = (int)SYS4(openat, AT_FDCWD, strings + d->root,
                              O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    }
    if (roots->fd < 0)
        return roots->fd;
    struct open_how how = {
        .flags = O_PATH | O_CLOEXEC | (d->mask & DEPEND_NOFOLLOW ? O_NOFOLLOW : 0),
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    return SYS4(openat2, roots->fd, strings + d->path, &how, sizeof how);
}

static i64 look(struct roots *roots, const struct entry_header *entry,
                const struct entry_depend *d, struct statx *found)
{
    const char *path = (const char *)entry + d->path;
    if (!d->root) {
        u32 flags = d->mask & DEPEND_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0;
        return SYS5(statx, AT_FDCWD, path, flags, STATX_BASIC_STATS, found);
    }
    i64 fd = open_inside(roots, entry, d);
    if (fd < 0)
        return fd;
    i64 result = SYS5(statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, found);
    SYS1(close, fd);
    return result;
}

static int same_stat(struct roots *roots, const struct entry_header *entry,
                     const struct entry_depend *d)
{
    struct statx s;
    i64 result = look(roots, entry, d, &s);
    if (result < 0 || d->error)
        return result == -(i64)d->error;
    u32 mask = d->mask;
    if ((mask & DEPEND_IDENTITY) && (s.stx_ino != d->ino || s.stx_dev_major != d->dev_major ||
                                     s.stx_dev_minor != d->dev_minor))
        return 0;
    if ((mask & DEPEND_MODE) && s.stx_mode != d->mode)
        return 0;
    if ((mask & DEPEND_TYPE) && (s.stx_mode & 0170000) != (d->mode & 0170000))
        return 0;
    if ((mask & DEPEND_OWNER) && (s.stx_uid != d->uid || s.stx_gid != d->gid))
        return 0;
    if (!(mask & DEPEND_CONTENT))
        return 1;
    return s.stx_size == d->size && s.stx_mtime.tv_sec == d->mtime &&
           s.stx_mtime.tv_nsec == d->mtime_nsec && s.stx_ctime.tv_sec == d->ctime &&
           s.stx_ctime.tv_nsec == d->ctime_nsec;
}

/* The small file that was read last: some are looked at for two reasons, one after the other. */
struct file {
    const char *path;
    i64 size;
    char at[ENTRY_CONTENT_MAX];
};

static i64 read_file(const char *path, char *at, size_t size)
{
    i64 fd = SYS4(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0)
        return fd;
    size_t used = 0;
    i64 got;
    while (used < size && (got = SYS3(read, fd, at + used, size - used)) > 0)
        used += (size_t)got;
    SYS1(close, fd);
    return (i64)used;
}

/* Its size, or -errno. */
static i64 read_small(struct file *file, const char *path)
{
    if (file->path != path) {
        file->path = path;
        file->size = read_file(path, file->at, sizeof file->at);
    }
    return file->size;
}

static int same_content(const struct entry_header *entry, const struct entry_depend *d,
                        struct file *file)
{
    i64 size = read_small(file, (const char *)entry + d->path);
    if (size < 0 || d->error)
        return size == -(i64)d->error;
    return size == d->data_size && !memcmp(file->at, (const char *)entry + d->data, d->data_size);
}

static int has_line(const char *at, const char *end, const char *line, size_t size)
{
    while (at < end) {
        const char *next = at;
        while (next < end && *next != '\n')
            next++;
        if ((size_t)(next - at) == size && !memcmp(at, line, size))
            return 1;
        at = next + 1;
    }
    return 0;
}

static int has_lines(const struct entry_header *entry, const struct entry_depend *d,
                     struct file *file)
{
    const char *at = file->at;
    i64 size = read_small(file, (const char *)entry + d->path);
    if (size < 0)
        return 0;
    const char *line = (const char *)entry + d->data, *end = line + d->data_size;
    while (line < end) {
        const char *next = line;
        while (next < end && *next != '\n')
            next++;
        if (!has_line(at, at + size, line, (size_t)(next - line)))
            return 0;
        line = next + 1;
    }
    return 1;
}

static int same_variable(const struct entry_header *entry, const struct entry_depend *d, char **envp)
{
    const char *value = variable(envp, (const char *)entry + d->path);
    if (!value || d->error)
        return !value && d->error;
    return strlen(value) == d->data_size && !memcmp(value, (const char *)entry + d->data, d->data_size);
}

static int same_text(const struct entry_header *entry, const struct entry_depend *d, const char *text)
{
    return strlen(text) == d->data_size && !memcmp(text, (const char *)entry + d->data, d->data_size);
}

/* A release of at least two numbers, `6.18`. */
static int at_least(const char *release, u32 major, u32 minor)
{
    u32 numbers[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        for (; *release >= '0' && *release <= '9'; release++)
            numbers[i] = 10 * numbers[i] + (u32)(*release - '0');
        if (*release)
            release++;
    }
    return numbers[0] > major || (numbers[0] == major && numbers[1] >= minor);
}

/* The signals that are ignored, as /proc/self/status says (proc_pid_status(5), SigIgn). */
static int same_ignored(const struct entry_header *entry, const struct entry_depend *d,
                        struct file *file)
{
    static const char name[] = "\nSigIgn:\t";
    const char *at = file->at;
    i64 size = read_small(file, (const char *)entry + d->path);
    u64 ignored = 0;
    i64 place = 0;
    while (place + (i64)sizeof name - 1 + 16 <= size && memcmp(at + place, name, sizeof name - 1))
        place++;
    if (place + (i64)sizeof name - 1 + 16 > size)
        return 0;
    for (const char *digit = at + place + sizeof name - 1, *end = digit + 16; digit < end; digit++)
        ignored = ignored << 4 | (u64)(*digit <= '9' ? *digit - '0' : *digit - 'a' + 10);
    return (ignored | ENTRY_IGNORED_BY_PYTHON) == d->ino;
}

static int same_limits(const struct entry_header *entry, const struct entry_depend *d)
{
    u64 limits[2 * RLIM_NLIMITS];
    if (d->data_size != sizeof limits)
        return 0;
    for (int i = 0; i < RLIM_NLIMITS; i++)
        if (SYS4(prlimit64, 0, i, NULL, limits + 2 * i) < 0)
            return 0;
    return !memcmp(limits, (const char *)entry + d->data, sizeof limits);
}

const char *entry_differs(const struct entry_header *entry, char **envp)
{
    static struct file file;
    static struct new_utsname name;
    struct roots roots = {0, -1};
    file.path = NULL;
    SYS1(uname, &name);
    for (u32 i = 0; i < entry->depends; i++) {
        const struct entry_depend *d = &depends(entry)[i];
        int same = 0;
        switch ((enum depend_kind)d->kind) {
        case DEPEND_KIND_STAT: same = same_stat(&roots, entry, d); break;
        case DEPEND_KIND_CONTENT: same = same_content(entry, d, &file); break;
        case DEPEND_KIND_LINES: same = has_lines(entry, d, &file); break;
        case DEPEND_KIND_ENV: same = same_variable(entry, d, envp); break;
        case DEPEND_KIND_RELEASE: same = same_text(entry, d, name.release); break;
        case DEPEND_KIND_MACHINE: same = same_text(entry, d, name.machine); break;
        case DEPEND_KIND_KERNEL: same = at_least(name.release, d->dev_major, d->dev_minor); break;
        case DEPEND_KIND_IGNORED: same = same_ignored(entry, d, &file); break;
        case DEPEND_KIND_LIMITS: same = same_limits(entry, d); break;
        }
        if (!same) {
            if (roots.fd >= 0)
                SYS1(close, roots.fd);
            return (const char *)entry + d->text;
        }
    }
    if (roots.fd >= 0)
        SYS1(close, roots.fd);
    return NULL;
}
