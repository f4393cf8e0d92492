/* One replay: what its parts share.
 *
 *     load.c     is this a plan? every offset, once
 *     args.c     arguments of steps, and `call`
 *     channel.c  messages between the two tracks
 *     track.c    one track: actions and their steps
 *     parent.c   the parent's operations, and the waits that watch the child
 *     child.c    the child's operations
 *     replay.c   both tracks, the first failure, the end and its undo
 *     netlink.c spawn.c hold.c heir.c init.c await.c relay.c reap.c   an operation or a helper each
 *
 * The executor knows the operations and nothing of mounts, namespaces or networks.
 */
#ifndef NSRUN_RUN_H
#define NSRUN_RUN_H

#include "plan.h"
#include "sys.h"

/* Exit statuses a shell gives too (POSIX sh, 2.8.2). */
#define NSRUN_FAILED 125
#define NOT_EXECUTABLE 126
#define NOT_FOUND 127
#define SIGNALLED 128

#define TEXT_MAX 4096
#define UNDO_FAILURES_MAX 64
#define SURVIVORS_MAX 64
#define PROCESSES_MAX 8
#define HOLDERS_MAX 8

/* A plan that load.c has found sound. Pointers point into the bytes it was given. */
struct plan {
    const struct plan_header *header;
    const u32 *parent, *parent_end;
    const u32 *child, *child_end;
    const u32 *undo, *undo_end;
    const u8 *kinds;
    const u8 *data;
    u32 scratch; /* bytes the largest step needs for its arguments */
};

/* NULL, or why `bytes` is no plan for this machine; nothing of it may be used then. `size` is
 * that of the executed part at least. */
const char *plan_load(struct plan *plan, const void *bytes, size_t size);
u64 plan_checksum(const void *bytes, size_t size);

enum track { PARENT, CHILD };

/* How a step ended. What `text` points to is valid until the next step. */
struct fault {
    enum fail_kind kind;
    int err;
    i64 value;
    int expect; /* -1: none */
    const char *text;
    u32 text_size;
};

struct result {
    enum state state;
    int err; /* of an ACCEPTED or SKIPPED step */
    i64 value;
};

/* What nsrun/replay/outcome.py calls Failure. */
struct failure {
    u32 set;
    u32 track;
    i64 value;
    int index;
    u32 kind;
    int err;
    int expect;
    u32 text_size;
    u32 padding;
    char text[TEXT_MAX];
};

struct undo_failure {
    u32 action;
    u32 step;
    i64 value;
    u32 kind;
    int err;
    u32 text_size;
    u32 padding;
    char text[256];
};

/* How a replay ended: nsrun/replay/native.py reads it as it lies here, then the records. */
struct outcome {
    char magic[8]; /* "nsrunout" */
    u32 size;
    int status;
    u32 started;
    u32 interrupted;
    u32 timed_out;
    int signal;         /* 0: none */
    int dropped_signal; /* 0: none */
    u32 undo_failures;
    u32 survivors;
    u32 parent_steps;
    u32 child_steps;
    u32 padding;
    int survivor[SURVIVORS_MAX];
    struct failure failure;
    struct undo_failure undo[UNDO_FAILURES_MAX];
};

/* A step's record as nsrun/replay/outcome.py reads it. */
struct record {
    i64 value;
    i64 start, end; /* CLOCK_REALTIME; 0 unless times are asked for */
    int err;
    int state;
};

/* Shared by both tracks' processes, made before the clone: writing needs no system call, and
 * what a killed process wrote stays readable. `step` is the compact record of each step. */
struct shared {
    int spawn_error; /* errno of a helper's execve */
    u32 heir;        /* which of the heirs is the one */
    u32 settled;     /* which of them is out of reach of the launcher's process group */
    struct mark {
        u8 state;
        u8 err;
    } step[];
};

/* heir.c's process; pid 0: none. */
struct heir {
    int pid;
    int pidfd;
    int pipe[2]; /* theirs and ours */
    u32 number;  /* from 1 */
};

/* How the command ended. */
struct ended {
    int known;
    int status;
    int signal;
    int timed_out;
    int dropped_signal;
};

/* A signal as read from a signalfd. */
struct received {
    int number;
    int code;
    int sender;
};
#define EARLY_MAX 16

/* A message on the channel. */
enum tag { TAG_SYNC = 1, TAG_FD = 2, TAG_FAIL = 3 };

struct message {
    u8 tag;
    u8 kind;    /* FAIL: fail_kind; FD: 1 for a process handed over (its pidfd) */
    u8 length;  /* of the name */
    u8 padding;
    int step, err, expect;
    i64 value;
    int fd; /* not sent as a number */
    u32 text_size;
    char name[PLAN_SYNC_MAX + 1];
    char text[TEXT_MAX];
};

struct run {
    struct plan plan;
    i64 *value; /* registers */
    u8 *is_set;
    u8 *is_closed;
    u8 *scratch;
    size_t scratch_used;
    struct shared *shared;
    struct record *records; /* NULL unless times are asked for; shared */
    u32 *undone;            /* of each action how many of its undo steps are through; shared */
    const u32 **done;       /* actions of the parent that ran, in order */
    u32 done_count;
    struct fault fault;      /* of the step that failed last */
    struct failure reported; /* what the child said of its own */
    struct message message;  /* the one received last */
    char text[TEXT_MAX];

    int processes[PROCESSES_MAX]; /* pidfds of the child's processes, the latest last */
    u32 process_count;
    int holders[HOLDERS_MAX]; /* pidfds of those that only hold namespaces, and their pipes */
    int held[HOLDERS_MAX];
    u32 holder_count;
    int alone;     /* no child of another making when the run began */
    int in_child;  /* this process replays the child's track */
    int started;   /* the command's execve has succeeded */
    i64 started_at;
    int interrupted; /* the signal that ended the preparations; 0: none */
    int terminal_seen;
    struct ended ended;
    struct heir heir;
    struct received early[EARLY_MAX]; /* signals that came before the command ran */
    u32 early_count;
    int survivor[SURVIVORS_MAX];
    u32 survivors;
};

/* Steps report how they ended by these; a failure is in run->fault. */
enum how { OK, FAILED, SKIPPED };

static inline enum how fail(struct run *run, enum fail_kind kind, int err, i64 value)
{
    run->fault =
        (struct fault){.kind = kind, .err = err, .value = value, .expect = -1, .text = ""};
    return FAILED;
}
enum how fail_internal(struct run *run, const char *words);
/* fault.expect of a step that reads a register no step has written. */
#define UNSET (-2)

/* Registers: written once each. */
i64 reg_get(struct run *run, u32 reg); /* of one that is known to be set */
enum how reg_set(struct run *run, u32 reg, i64 value);
/* For a system call's argument: set, and no pid of 0 or -1, which kill(2) takes for many. */
enum how reg_argument(struct run *run, u32 reg, i64 *value);

/* --- args.c ---------------------------------------------------------------------------------*/

/* Arguments are built in run->scratch; args_reset() before each step. */
void args_reset(struct run *run);
/* Reads one argument at *words and moves behind it. BUFFER and DATA give an address, FMT one of
 * NUL-terminated text, LENGTH a size; `size` (may be NULL) takes a BUFFER's or FMT's size. */
enum how arg_value(struct run *run, const u32 **words, u64 *value, u32 *size);
enum how run_call(struct run *run, const u32 *step, struct result *result);

/* --- channel.c ------------------------------------------------------------------------------*/

enum reading { READ_MESSAGE, READ_EOF, READ_AGAIN, READ_FAILED };

enum how channel_send(struct run *run, int fd, const struct message *message);
enum reading channel_receive(struct run *run, int fd, int block, struct message *message);

/* --- the operations -------------------------------------------------------------------------*/

/* Words of a step: step[0] is the operation's word, the operation's own follow. */
static inline u32 step_op(const u32 *step) { return step[0] & 0xff; }
static inline u32 step_words(const u32 *step) { return step[0] >> 8; }

enum how run_signal(struct run *run, const u32 *step);
enum how run_send_fd(struct run *run, const u32 *step);
/* Whether a message is the one of this tag and sync (offset, length). */
int message_is(const struct run *run, const struct message *message, u8 tag, const u32 *sync);
enum how message_unexpected(struct run *run, const struct message *message, const u32 *sync);
enum how run_netlink(struct run *run, const u32 *step, struct result *result);
enum how run_spawn(struct run *run, const u32 *step, struct result *result);




/* hold.c: make the process that only holds; 0 and run->holders, or -errno. */
i64 hold_clone(struct run *run, u64 flags, int exit_signal, i64 *pidfd);
/* heir.c: start the process that takes back what a killed launcher made, where the plan has such
 * (0 or -errno); another in its place, where there is one; end it. */
i64 heir_appoint(struct run *run);
i64 heir_renew(struct run *run);
void heir_release(struct run *run);
/* init.c: become PID 1, which answers signals and has no descriptor but 0 to 2 (0 or -errno), and
 * be it until the command ends. */
i64 init_settle(void);
NORETURN void init_stay(int command);

/* await.c: supervise until the pidfd's process ends. */
enum how run_await(struct run *run, const u32 *step, struct ended *ended);
/* The signals that wait in a signalfd, at most `most`; their number. */
u32 signals_read(int fd, struct received *received, u32 most);
int signal_ends(int number); /* one that a person sends to end a program */

/* relay.c: the caller's terminal and a container's pty. */
void window_size_copy(int master);

/* reap.c */
int reap_has_children(void);
int reap_ended(int pidfd, i64 patience); /* or readable: nanoseconds; -1: for ever */
/* 0 and the exit status (128+N) and signal; -ECHILD: not ours; -EAGAIN: it runs */
int reap_collect(int pidfd, int *status, int *signal);
int reap_peek(int pidfd); /* exit status of an ended child that stays; -1 */
void reap_kill(int pidfd);
void reap_finish(int pidfd);
void reap_orphans(int keep);
/* Kill and collect all children; the pids that did not end go to run->survivor. */
void reap_sweep(struct run *run);

/* --- the tracks -----------------------------------------------------------------------------*/

typedef enum how (*executor)(struct run *run, const u32 *step, u32 index, struct result *result);
/* Runs a track's actions; FAILED: run->fault, and *index is the step's. */
enum how track_run(struct run *run, enum track track, executor execute, u32 *index);
void mark(struct run *run, enum track track, u32 index, enum state state, int err, i64 value);
struct mark marked(const struct run *run, enum track track, u32 index);

/* After an interruption, which is no failure, parent operations return FAILED with this set. */
enum how parent_execute(struct run *run, const u32 *step, u32 index, struct result *result);
enum how parent_renew_heir(struct run *run);
enum how undo_execute(struct run *run, const u32 *step, struct result *result);
/* Whether the child's report waits unread (it goes to run->reported); processes handed over are
 * remembered. */
int parent_drain(struct run *run);
NORETURN void child_main(struct run *run);
int child_entered_exec(const struct run *run);

/* Prepares `run` for a loaded plan: registers, shared memory. 0 or -errno. */
int run_prepare(struct run *run, int times);
/* Replays it to its end and takes back what it made. */
void run_replay(struct run *run, struct outcome *outcome);
/* The undo steps of all done actions, last first; `failed`: before the command ran. */
void run_undo(struct run *run, struct outcome *outcome, int failed);
/* Whether a user is to be told more than the exit status. */
int outcome_speaks(const struct outcome *outcome);

#endif
