/* The log of a detached container: lines as Kubernetes' CRI has them, rotated by size. */
#ifndef NSRUN_LOG_H
#define NSRUN_LOG_H

#include "sys.h"

/* A longer line is written in parts. */
#define LINE_MAX_BYTES 8192

struct log {
    int folder;
    int fd; /* -1: it could not be opened; lines are lost then, and the container goes on */
    i64 size, size_max;
    int files_max; /* log, log.1 ... */
};

/* What has come from one stream and is no whole line yet. */
struct lines {
    const char *stream;
    size_t used;
    char at[LINE_MAX_BYTES];
};

void log_open(struct log *log, int folder, i64 size_max, int files_max);
void log_bytes(struct log *log, struct lines *lines, const char *bytes, size_t size);
/* What is left of a line when its stream has ended. */
void log_rest(struct log *log, struct lines *lines);

#endif
