/* The monitor of a detached container: `nsrun-monitor FOLDER PLAN READY CWD OPTIONS SIZE
 * FILES NAME`.
 *
 * FOLDER, PLAN, READY and CWD are descriptors: the container's folder, its plan, a pipe to the caller
 * that is told when the command runs, or that it does not, and the launcher's working directory.
 * OPTIONS: t: a terminal, i: standard input is kept open, r: the folder goes with the end, -: none.
 * SIZE and FILES: of the log, in bytes; 0 bytes: never rotated; 0 files: nothing is kept.
 *
 * It knows no container. It holds a lock, runs the launcher, keeps what that writes, and does
 * what is asked on a socket. docs/decisions/0019-state.md has the files and the messages.
 *
 * Here are its start, its loop and the launcher; monitor_folder.c has the files, monitor_streams.c
 * what the launcher writes and reads, monitor_clients.c who is connected.
 */
#include "monitor.h"
#include "reap.h"

#include <asm/ioctls.h>
#include <asm/poll.h>
#include <linux/prctl.h>
#include <linux/signalfd.h>
#include <linux/wait.h>

#define MSG_DONTWAIT 0x40
#define LOCK_EX 2
#define LOCK_NB 4

struct monitor the;

static void say(const char *words)
{
    struct text text = {.at = (char *)words, .size = strlen(words), .used = strlen(words)};
    text_write(&text, 2);
}

/* "ready 1234" or "end 125" to who waits for it; nobody waits twice. */
static void tell_caller(const char *word, i64 number)
{
    char at[64];
    struct text text = {.at = at, .size = sizeof at};
    if (the.ready < 0)
        return;
    text_string(&text, word);
    text_string(&text, " ");
    text_number(&text, number);
    text_string(&text, "\n");
    text_write(&text, the.ready);
    SYS1(close, the.ready);
    the.ready = -1;
    /* From here on nobody of the caller's is held up by our descriptors. */
    i64 null = SYS4(openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
    for (int fd = 0; null >= 0 && fd < 3; fd++)
        SYS3(dup3, null, fd, 0);
    if (null > 2)
        SYS1(close, null);
}

static NORETURN void give_up(const char *what, i64 err)
{
    char at[256];
    struct text text = {.at = at, .size = sizeof at};
    text_string(&text, "error: nsrun cannot ");
    text_string(&text, what);
    text_string(&text, ": ");
    text_errno(&text, (int)-err);
    text_string(&text, "\n");
    text_write(&text, 2);
    tell_caller("end", NSRUN_FAILED);
    sys_exit(NSRUN_FAILED);
}

int must(const char *what, i64 result)
{
    if (result < 0)
        give_up(what, result);
    return (int)result;
}

/* --- set up --------------------------------------------------------------------------------*/

static void open_signals(void)
{
    u64 all = ~0ull;
    SYS4(rt_sigprocmask, SIG_SETMASK, &all, NULL, 8);
    the.signals = must("read signals",
                       SYS4(signalfd4, -1, &all, 8, SFD_CLOEXEC | SFD_NONBLOCK));
}

static NORETURN void become_launcher(const int theirs[3], int alive, int parent, char **envp)
{
    static char plan[24];
    static char *argv[] = {"nsrun-replay", plan, "k", NULL};
    struct text text = {.at = plan, .size = sizeof plan - 1};
    u64 none = 0;
    text_number(&text, the.plan);
    SYS5(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    /* prctl(2): the monitor may have ended just before. */
    if (SYS0(getppid) != parent)
        sys_exit(NSRUN_FAILED);
    if (the.terminal) {
        SYS0(setsid);
        SYS3(ioctl, theirs[0], TIOCSCTTY, 0);
    }
    for (int fd = 0; fd < 3; fd++)
        SYS3(dup3, theirs[fd], fd, 0);
    SYS1(fchdir, the.cwd);
    SYS3(fcntl, the.plan, F_SETFD, 0);
    SYS3(fcntl, alive, F_SETFD, 0);
    SYS4(rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
    SYS3(execve, "/proc/self/exe", argv, envp);
    sys_exit(NSRUN_FAILED);
}

static void start_launcher(char **envp)
{
    int theirs[3], alive[2], parent = (int)SYS0(getpid);
    streams_open(theirs);
    must("open a pipe", SYS2(pipe2, alive, O_CLOEXEC));
    i64 pid = sys_clone(0, SIGCHLD, &the.launcher);
    if (pid == 0)
        become_launcher(theirs, alive[1], parent, envp);
    the.launcher_pid = must("start the launcher", pid);
    the.alive = alive[0];
    SYS1(close, alive[1]);
    for (int i = 0; i < 3; i++)
        if (i != 1 || theirs[1] != theirs[0])
            SYS1(close, theirs[i]);
}

/* --- the launcher --------------------------------------------------------------------------*/

/* A line "NAME=number" of a datagram of sd_notify(3); -1 where there is none. */
static i64 field(const char *text, size_t size, const char *name)
{
    size_t length = strlen(name);
    for (size_t at = 0; at + length < size; at++) {
        if ((at && text[at - 1] != '\n') || memcmp(text + at, name, length) != 0)
            continue;
        i64 value = 0;
        for (at += length; at < size && text[at] >= '0' && text[at] <= '9' && value < 1 << 30; at++)
            value = 10 * value + (text[at] - '0');
        return value;
    }
    return -1;
}

static void notified(void)
{
    char datagram[256];
    i64 size = SYS6(recvfrom, the.notify, datagram, sizeof datagram, MSG_DONTWAIT, NULL, NULL);
    if (size <= 0 || the.started || field(datagram, (size_t)size, "READY=") != 1)
        return;
    i64 pid = field(datagram, (size_t)size, "MAINPID=");
    char at[24];
    struct text text = {.at = at, .size = sizeof at};
    the.started = sys_realtime();
    the.command = pid > 0 ? (int)SYS2(pidfd_open, pid, 0) : -1;
    text_number(&text, pid);
    text_string(&text, "\n");
    folder_write("pid", ".pid", &text);
    tell_caller("ready", pid);
}

static void pass_signals_on(void)
{
    struct signalfd_siginfo info;
    while (SYS3(read, the.signals, &info, sizeof info) == sizeof info) {
        int number = (int)info.ssi_signo;
        if (number != SIGCHLD && number != SIGPIPE)
            SYS4(pidfd_send_signal, the.launcher, number, NULL, 0);
    }
}

static NORETURN void end(void)
{
    struct child_end ended = {.status = NSRUN_FAILED};
    char at[FILE_BYTES];
    struct text text = {.at = at, .size = sizeof at};
    wait_child(P_PID, the.launcher_pid, &ended, WEXITED);
    while (streams_take_out())
        ;
    while (streams_take_err())
        ;
    if (!the.started)
        streams_tell_early();
    log_rest(&the.log, &the.out_lines);
    log_rest(&the.log, &the.err_lines);
    log_close(&the.log);
    text_number(&text, ended.status);
    text_string(&text, " ");
    text_number(&text, the.started);
    text_string(&text, " ");
    text_number(&text, sys_realtime());
    text_string(&text, " ");
    text_number(&text, ended.signal);
    text_string(&text, "\n");
    folder_write("exit", ".exit", &text);
    SYS3(unlinkat, the.folder, "pid", 0);
    SYS3(unlinkat, the.folder, "notify", 0);
    SYS3(unlinkat, the.folder, "socket", 0);
    /* Who never ran has a caller that takes the folder away. */
    if (the.removes && the.started)
        folder_remove();
    clients_tell_end(ended.status, ended.signal);
    tell_caller("end", ended.status);
    sys_exit(ended.status);
}

/* --- the loop ------------------------------------------------------------------------------*/

static void turn(void)
{
    struct pollfd polls[7 + CLIENTS_MAX];
    int clients = the.clients_used;
    /* Not the launcher alone: where it is killed its heir still undoes, and the name is not free. */
    polls[0] = (struct pollfd){.fd = the.alive, .events = POLLIN};
    polls[1] = (struct pollfd){.fd = the.signals, .events = POLLIN};
    polls[2] = (struct pollfd){.fd = the.notify, .events = POLLIN};
    polls[3] = (struct pollfd){.fd = the.socket, .events = POLLIN};
    polls[4] = (struct pollfd){.fd = the.out, .events = POLLIN};
    polls[5] = (struct pollfd){.fd = the.err, .events = POLLIN};
    polls[6] = (struct pollfd){.fd = input_is_pending() ? the.input : -1, .events = POLLOUT};
    for (int i = 0; i < clients; i++)
        /* While input waits to be taken, its senders do; the others are heard. */
        polls[7 + i] = (struct pollfd){.fd = the.clients[i].waits ? -1 : the.clients[i].fd,
                                       .events = POLLIN};
    if (SYS5(ppoll, polls, 7 + clients, NULL, NULL, 0) < 0)
        return;
    if (polls[1].revents)
        pass_signals_on();
    if (polls[4].revents)
        streams_take_out();
    if (polls[5].revents)
        streams_take_err();
    if (polls[2].revents)
        notified();
    if (polls[6].revents)
        input_write();
    /* Last first: who is dropped gives its place to the last. */
    for (int i = clients - 1; i >= 0 && i < the.clients_used; i--)
        if (polls[7 + i].revents && the.clients[i].fd == polls[7 + i].fd)
            clients_hear(i);
    if (polls[3].revents)
        clients_welcome();
    if (polls[0].revents) {
        notified();
        end();
    }
}

static i64 number(const char *word)
{
    i64 value = 0;
    for (; word && *word >= '0' && *word <= '9' && value < INT64_MAX / 20; word++)
        value = 10 * value + (*word - '0');
    return word && !*word ? value : -1;
}

static int has(const char *options, char wanted)
{
    for (; *options; options++)
        if (*options == wanted)
            return 1;
    return 0;
}

NORETURN void monitor(char **argv, char **envp)
{
    int words = 0;
    while (argv[words])
        words++;
    if (words != 9) {
        say("error: nsrun-monitor is started by nsrun\n");
        sys_exit(NSRUN_FAILED);
    }
    the.folder = (int)number(argv[1]);
    the.plan = (int)number(argv[2]);
    the.ready = (int)number(argv[3]);
    the.cwd = (int)number(argv[4]);
    the.terminal = has(argv[5], 't');
    the.keeps_input = has(argv[5], 'i');
    the.removes = has(argv[5], 'r');
    the.name = argv[8];
    the.command = -1;
    for (int i = 1; i < 5; i++)
        SYS3(fcntl, number(argv[i]), F_SETFD, 1 /* FD_CLOEXEC */);
    the.out_lines.stream = "stdout";
    the.err_lines.stream = "stderr";
    SYS0(setsid);
    SYS1(umask, 077);
    SYS5(prctl, PR_SET_NAME, "nsrun-monitor", 0, 0, 0);
    must("enter the container's folder", SYS1(fchdir, the.folder));
    int lock = must("open the lock",
                    SYS4(openat, the.folder, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    must("lock the container's folder", SYS2(flock, lock, LOCK_EX | LOCK_NB));
    /* Of the time before: a killed monitor leaves its pid, which is somebody else's now. */
    SYS3(unlinkat, the.folder, "pid", 0);
    SYS1(close, folder_reserve(".pid"));
    int lost = folder_reserve(".lost");
    /* How it ended last is known until there is room to say how it ends next: the same room. */
    SYS5(renameat2, the.folder, "exit", the.folder, ".exit", 0);
    SYS1(close, folder_reserve(".exit"));
    open_signals();
    log_open(&the.log, the.folder, number(argv[6]), (int)number(argv[7]), lost);
    the.notify = folder_socket("notify", SOCK_DGRAM);
    the.socket = folder_socket("socket", SOCK_SEQPACKET);
    must("listen", SYS2(listen, the.socket, CLIENTS_MAX));
    start_launcher(envp);
    for (;;)
        turn();
}
