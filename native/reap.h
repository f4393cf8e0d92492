/* Waiting for children, for those that know more of them than their end. */
#ifndef NSRUN_REAP_H
#define NSRUN_REAP_H

#include "sys.h"

#include <linux/time_types.h>

struct child_end {
    int pid;
    int status; /* 128+N for signal N */
    int signal; /* 0: none */
};

#define CLD_EXITED 1
/* waitid(2); pid stays 0 where none has ended. 0, or -ECHILD. */
i64 wait_child(int type, int id, struct child_end *end, int options);
/* Kill and collect all children but `keep` (0: none), also those a subreaper inherits from them;
 * how many did not end, their pids in `left`. */
u32 reap_all(int keep, int *left, u32 most);

#endif
