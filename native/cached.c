/* Where a plan comes from: the cache, the end of this program, a descriptor. */
#include "entry.h"
#include "launch.h"
#include "plan.h"
#include "run.h"

#include <linux/stat.h>

#define KEY_MAX 8192

void text_errno(struct text *text, int err)
{
    switch (err) {
#define X(number, name) case number: text_string(text, name); return;
        ERRNO_NAMES(X)
#undef X
    default: text_number(text, err);
    }
}

/* `size` bytes of a file from `offset`, in memory of their own; NULL where they are not there. */
static void *read_part(int fd, size_t offset, size_t size)
{
    char *at = sys_memory(size, 0);
    size_t used = 0;
    while (at && used < size) {
        i64 got = SYS4(pread64, fd, at + used, size - used, offset + used);
        if (got <= 0)
            return NULL;
        used += (size_t)got;
    }
    return at;
}

/* The size of the executed part of the plan at `offset`, 0 where there is none: its annotations,
 * which are larger, are not read. */
static size_t plan_size(int fd, size_t offset)
{
    struct plan_header header;
    if (SYS4(pread64, fd, &header, sizeof header, offset) != sizeof header)
        return 0;
    return header.size > PLAN_SIZE_MAX ? 0 : header.size;
}

const void *read_plan(int fd, size_t offset, size_t *size)
{
    *size = plan_size(fd, offset);
    const void *plan = *size ? read_part(fd, offset, *size) : NULL;
    if (!plan)
        *size = 0;
    return plan;
}

const struct entry_header *read_entry(int fd, size_t offset, size_t *size)
{
    struct entry_header header;
    if (SYS4(pread64, fd, &header, sizeof header, offset) != sizeof header ||
        header.size > ENTRY_SIZE_MAX)
        return NULL;
    *size = header.size + plan_size(fd, offset + header.size);
    const void *entry = read_part(fd, offset, *size);
    return entry && !entry_load(entry, *size) ? entry : NULL;
}

/* --- the cache -----------------------------------------------------------------------------*/

/* The folder of the cache: as nsrun/runtime/cache.py finds it. */
static int folder(struct text *path, char **envp, i64 uid)
{
    const char *given = variable(envp, "NSRUN_CACHE_DIR");
    if (given && *given == '/') {
        text_string(path, given);
    } else if (uid == 0) {
        text_string(path, "/var/cache/nsrun");
    } else if ((given = variable(envp, "XDG_CACHE_HOME")) && *given == '/') {
        text_string(path, given);
        text_string(path, "/nsrun");
    } else if ((given = variable(envp, "HOME")) && *given == '/') {
        text_string(path, given);
        text_string(path, "/.cache/nsrun");
    } else {
        return 0;
    }
    text_bytes(path, "", 1);
    return path->used < path->size;
}

/* Only what this user alone can have written is trusted. */
static int ours(int fd, i64 uid, u32 type)
{
    struct statx found;
    if (SYS5(statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &found) < 0)
        return 0;
    return (found.stx_mode & 0170000) == type && found.stx_uid == uid &&
           !(found.stx_mode & 077) && (type != 0100000 || found.stx_nlink == 1);
}

static int open_folder(char **envp, i64 uid)
{
    static char at[PATH_SIZE];
    struct text path = {.at = at, .size = sizeof at};
    if (!folder(&path, envp, uid))
        return -1;
    i64 fd = SYS4(openat, AT_FDCWD, at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (fd >= 0 && !ours((int)fd, uid, 0040000)) {
        SYS1(close, fd);
        return -1;
    }
    return (int)fd;
}

/* What an entry answers to: the working folder and the words, each with a NUL behind it. */
static size_t key_of(char **argv, char *at, size_t size)
{
    struct text key = {.at = at, .size = size};
    i64 length = SYS2(getcwd, at, size);
    if (length <= 0)
        return 0;
    key.used = (size_t)length;
    for (argv++; *argv; argv++)
        text_bytes(&key, *argv, strlen(*argv) + 1);
    return key.used < key.size ? key.used : 0;
}

/* The name of an entry: the key's sum, and which of those for one key it is. */
static void name_of(const char *key, size_t size, u32 slot, char name[19])
{
    static const char digits[] = "0123456789abcdef";
    u64 sum = plan_checksum(key, size);
    for (int i = 15; i >= 0; i--, sum >>= 4)
        name[i] = digits[sum & 15];
    name[16] = '.';
    name[17] = (char)('0' + slot);
    name[18] = 0;
}

int is_word(const char *one, const char *other)
{
    size_t size = strlen(one);
    return size == strlen(other) && !memcmp(one, other, size);
}

static int same_user(void)
{
    return SYS0(getuid) == SYS0(geteuid) && SYS0(getgid) == SYS0(getegid);
}

/* An entry of the folder, as bytes; NULL where it is none to be trusted. */
static const struct entry_header *open_entry(int folder, const char *name, i64 uid, int *fd,
                                             size_t *size)
{
    *fd = (int)SYS4(openat, folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0);
    if (*fd < 0)
        return NULL;
    const struct entry_header *entry = ours(*fd, uid, 0100000) ? read_entry(*fd, 0, size) : NULL;
    if (!entry)
        SYS1(close, *fd);
    return entry;
}

/* Fills in what can be launched; 0 where there is nothing for these words that still holds. One
 * user's runs may differ in what a plan depends on (a terminal's name, a limit), so a few entries
 * are kept for the same words. */
static int find(char **envp, const char *key, size_t size, struct launch *found)
{
    i64 uid = SYS0(getuid);
    int at = open_folder(envp, uid);
    for (u32 slot = 0; at >= 0 && slot < ENTRY_SLOTS; slot++) {
        char name[19];
        int fd;
        size_t entry_size;
        struct plan plan;
        name_of(key, size, slot, name);
        const struct entry_header *entry = open_entry(at, name, uid, &fd, &entry_size);
        if (!entry)
            continue;
        const u8 *start = (const u8 *)entry + entry->size;
        if (entry->key_size == size && !memcmp((const char *)entry + entry->key_offset, key, size) &&
            !entry_differs(entry, envp) && !plan_load(&plan, start, entry_size - entry->size)) {
            *found = (struct launch){
                .plan = start, .plan_size = entry_size - entry->size, .plan_fd = fd, .outcome_fd = -1};
            break;
        }
        SYS1(close, fd);
    }
    if (at >= 0)
        SYS1(close, at);
    return found->plan != NULL;
}

void launch_cached(char **argv, char **envp)
{
    static char key[KEY_MAX];
    const char *wanted = variable(envp, "NSRUN_EXECUTOR");
    /* Whatever else than `native` it says is for Python to carry out, or to refuse. */
    if (!argv[1] || *argv[1] == '-' || (wanted && !is_word(wanted, "native")) || !same_user())
        return;
    size_t size = key_of(argv, key, sizeof key);
    if (!size)
        return;
    struct launch found = {0};
    if (find(envp, key, size, &found))
        launch(&found, envp);
}
