/* The parts of the monitor; native/monitor.c says what it is. */
#ifndef NSRUN_MONITOR_H
#define NSRUN_MONITOR_H

#include "launch.h"
#include "log.h"
#include "run.h"

#include <linux/signal.h>

#define SOCK_DGRAM 2
#define SOCK_SEQPACKET 5
#define CLIENTS_MAX 32
#define INPUT_MAX 65536
/* Room for what a small file of the folder says; see folder_reserve(). */
#define FILE_BYTES LOST_BYTES

struct client {
    int fd;
    int attached;
    int waits; /* what it has typed is not taken yet */
};

/* Descriptors are -1 where there is none. */
struct monitor {
    int folder, plan, ready, cwd;
    int terminal, keeps_input, removes;
    const char *name;
    int signals, notify, socket;
    int launcher, command; /* pidfds; command -1 until it is told */
    int alive; /* a pipe whose other end the launcher has, and who undoes in its place */
    int launcher_pid;
    int master, input, out, err;
    i64 started;
    struct log log;
    struct lines out_lines, err_lines;
    struct client clients[CLIENTS_MAX];
    int clients_used;
    char pending[INPUT_MAX];
    size_t pending_at, pending_end;
    char early[INPUT_MAX]; /* of standard error, until it is known whether the start succeeds */
    size_t early_used;
    int input_ends;
};

/* One process keeps one container. */
extern struct monitor the;

/* monitor.c: what a system call gave; its failure ends the monitor, and the caller hears it. */
int must(const char *what, i64 result);

/* monitor_folder.c: the files and sockets of the container's folder. */

/* A file of the folder, whole or not there. */
void folder_write(const char *name, const char *temporary, const struct text *content);
/* Takes the room that a file needs, before the log has taken all there is: how the container ended
 * is written down on a full disk too. The file's descriptor. */
int folder_reserve(const char *temporary);
int folder_socket(const char *name, int kind);
/* Everything of ours in the folder, and the folder if nothing else is in it. */
void folder_remove(void);

/* monitor_streams.c: what the launcher writes and reads. */

/* Opens both ends of the launcher's three streams: ours in `the`, not blocking, and the launcher's
 * here. Each is close-on-exec. */
void streams_open(int theirs[3]);
/* Some bytes of standard output or error, into the log and to the clients; 0 where it has ended
 * or has nothing now. */
int streams_take_out(void);
int streams_take_err(void);
/* Gives the caller what was written before a start that has failed. */
void streams_tell_early(void);
/* Bytes for standard input; what has no room is lost. */
void input_keep(const char *bytes, size_t size);
void input_end(void);
/* Writes what is kept as far as it is taken. */
void input_write(void);
int input_is_pending(void);
/* Rows and columns of the terminal, as two unsigned shorts. */
void terminal_resize(const char *bytes, size_t size);

/* monitor_clients.c: who is connected to the folder's socket. */

void clients_welcome(void);
/* A packet of this one, who is dropped where it is gone. */
void clients_hear(int number);
/* What the container wrote, to who is attached. */
void clients_show(char kind, const char *bytes, size_t size);
void clients_tell_end(int status, int signal);

#endif
