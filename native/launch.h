/* How a replay is started, and what Python is left with. */
#ifndef NSRUN_LAUNCH_H
#define NSRUN_LAUNCH_H

#include "sys.h"

#define PATH_SIZE 4096

struct entry_header;

struct launch {
    const void *plan; /* its executed part at least */
    size_t plan_size;
    int plan_fd;    /* from where Python reads it again; -1: none */
    int outcome_fd; /* who wants the outcome as data; -1: it is told */
    int trace;
    int by_signal; /* end by the signal that has ended the command */
};

NORETURN void launch(const struct launch *launch, char **envp);
/* The same words to nsrun-python, which is beside this program. */
NORETURN void execute_python(char **argv, char **envp);

/* native/monitor.c */
NORETURN void monitor(char **argv, char **envp);

/* Return where they have nothing to launch. */
void launch_compiled(char **argv, char **envp);
void launch_cached(char **argv, char **envp);

/* The executed part of a plan, or an entry and that of its plan, at `offset` of a file; NULL where
 * there is none. */
const void *read_plan(int fd, size_t offset, size_t *size);
const struct entry_header *read_entry(int fd, size_t offset, size_t *size);
int is_word(const char *one, const char *other);
/* `EINVAL`, or the number. */
void text_errno(struct text *text, int err);

#endif
