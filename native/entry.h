/* A plan put away for another run, and what must still hold for it: nsrun/plan/entry.py says what
 * the fields mean. */
#ifndef NSRUN_ENTRY_H
#define NSRUN_ENTRY_H

#include "entry_format.h"
#include "sys.h"

/* NULL, or why `bytes` are no entry; all offsets of it are sound then. */
const char *entry_load(const void *bytes, size_t size);
/* NULL where all that the entry depends on is as it was, else the text that names the first
 * thing that is not. */
const char *entry_differs(const struct entry_header *entry, char **envp);
/* A variable's value in the environment, NULL where it has none. */
const char *variable(char **envp, const char *name);

#endif
