/* The log of a detached container: lines as Kubernetes' CRI has them, rotated by size. */
#ifndef NSRUN_LOG_H
#define NSRUN_LOG_H

#include "sys.h"

/* A longer line is written in parts. */
#define LINE_MAX_BYTES 8192
/* Room for "LINES ERRNO", in digits, in the file `lost`. */
#define LOST_BYTES 96

struct log {
    int folder;
    int fd; /* -1: it could not be opened; lines are lost then, and the container goes on */
    i64 size, size_max;
    int files_max; /* log, log.1 ...; 0: nothing is kept */
    i64 lost;      /* lines since the last one that was written */
    int lost_err;
    int lost_fd; /* of the file that says so while there is no room to say it in the log */
};

/* What has come from one stream and is no whole line yet. */
struct lines {
    const char *stream;
    size_t used;
    char at[LINE_MAX_BYTES];
};

/* `lost_fd`: of the file .lost, with room for LOST_BYTES, or -1. */
void log_open(struct log *log, int folder, i64 size_max, int files_max, int lost_fd);
void log_bytes(struct log *log, struct lines *lines, const char *bytes, size_t size);
/* What is left of a line when its stream has ended. */
void log_rest(struct log *log, struct lines *lines);
/* No more comes: the log says what it lacks, or else the file `lost` does. */
void log_close(struct log *log);

#endif
