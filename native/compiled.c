/* A compiled spec: this program with an entry behind its own end.
 *
 * `nsrun compile` copies this program, puts the entry behind it, and writes the offset where it
 * starts over the one below: a program that carries nothing has to look for nothing.
 */
#include "entry.h"
#include "launch.h"
#include "run.h"

/* Found in the file by its first 16 bytes; volatile, or the compiler would know it is 0. */
static const volatile struct {
    char mark[16];
    u64 offset;
} carried = {"nsrun:carries:->", 0};

static NORETURN void refuse(const char *name, const char *why, const char *what)
{
    static char at[2 * PATH_SIZE];
    struct text text = {.at = at, .size = sizeof at - 1};
    text_string(&text, "error: ");
    text_string(&text, name);
    text_string(&text, ": ");
    text_string(&text, why);
    text_string(&text, what);
    text_string(&text, "\n");
    text_write(&text, 2);
    sys_exit(NSRUN_FAILED);
}

void launch_compiled(char **argv, char **envp)
{
    if (!carried.offset)
        return;
    if (argv[1])
        refuse(argv[0], "a compiled spec takes no arguments", "");
    size_t size;
    i64 fd = SYS4(openat, AT_FDCWD, "/proc/self/exe", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        refuse(argv[0], "cannot read itself through /proc/self/exe", "");
    const struct entry_header *entry = read_entry((int)fd, carried.offset, &size);
    if (!entry)
        refuse(argv[0], "the plan behind the program is damaged", "");
    const char *differs = entry_differs(entry, envp);
    if (differs)
        refuse(argv[0], "it was compiled for, and needs, ", differs);
    struct launch found = {.plan = (const u8 *)entry + entry->size,
                           .plan_size = size - entry->size,
                           .plan_fd = -1,
                           .outcome_fd = -1};
    launch(&found, envp);
}
