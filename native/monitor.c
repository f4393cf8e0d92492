/* The monitor of a detached container: `nsrun-monitor FOLDER PLAN READY CWD OPTIONS SIZE
 * FILES NAME`.
 *
 * FOLDER, PLAN, READY and CWD are descriptors: the container's folder, its plan, a pipe to the caller
 * that is told when the command runs, or that it does not, and the launcher's working directory.
 * OPTIONS: t: a terminal, i: standard input is kept open, r: the folder goes with the end, -: none.
 * SIZE and FILES: of the log, in bytes; 0 bytes: never rotated.
 *
 * It knows no container. It holds a lock, runs the launcher, keeps what that writes, and does
 * what is asked on a socket. docs/decisions/0019-state.md has the files and the messages.
 */
#include "launch.h"
#include "log.h"
#include "reap.h"
#include "run.h"

#include <asm/ioctls.h>
#include <asm/poll.h>
#include <linux/prctl.h>
#include <linux/signal.h>
#include <linux/signalfd.h>
#include <linux/socket.h>
#include <linux/un.h>
#include <linux/wait.h>

#define SOCK_DGRAM 2
#define SOCK_SEQPACKET 5
#define SOCK_NONBLOCK O_NONBLOCK
#define SOCK_CLOEXEC O_CLOEXEC
#define MSG_DONTWAIT 0x40
#define MSG_NOSIGNAL 0x4000
#define LOCK_EX 2
#define LOCK_NB 4
#define CLIENTS_MAX 32
#define INPUT_MAX 65536
/* Room for what a small file says; see reserve(). */
#define FILE_BYTES 96
#define VEOF_CHARACTER 4

struct client {
    int fd;
    int attached;
    int waits; /* what it has typed is not taken yet */
};

static struct monitor {
    int folder, plan, ready, cwd;
    int terminal, keeps_input, removes;
    const char *name;
    int signals, notify, socket;
    int launcher, command; /* pidfds; command -1 until it is told */
    int launcher_pid;
    int master, input, out, err;
    i64 started;
    struct log log;
    struct lines out_lines, err_lines;
    struct client clients[CLIENTS_MAX];
    int clients_used;
    char pending[INPUT_MAX];
    size_t pending_at, pending_end;
    int input_ends;
} the;

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

static int must(const char *what, i64 result)
{
    if (result < 0)
        give_up(what, result);
    return (int)result;
}

/* A file of the folder, whole or not there. */
static void write_file(const char *name, const char *temporary, const struct text *content)
{
    i64 flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
    i64 fd = SYS4(openat, the.folder, temporary, flags, 0600);
    if (fd < 0)
        return;
    text_write(content, (int)fd);
    SYS2(ftruncate, fd, content->used);
    SYS1(close, fd);
    SYS5(renameat2, the.folder, temporary, the.folder, name, 0);
}

/* Takes the room that a file needs, before the log has taken all there is: how the container ended
 * is written down on a full disk too. */
static void reserve(const char *temporary)
{
    char blank[FILE_BYTES];
    struct text text = {.at = blank, .size = sizeof blank};
    memset(blank, ' ', sizeof blank);
    i64 flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC;
    int fd = must("write in the container's folder",
                  SYS4(openat, the.folder, temporary, flags, 0600));
    text.used = sizeof blank;
    must("write in the container's folder", SYS3(write, fd, text.at, text.used));
    SYS1(close, fd);
}

/* --- set up --------------------------------------------------------------------------------*/

static int bound_socket(const char *name, int kind)
{
    struct sockaddr_un address = {.sun_family = 1 /* AF_UNIX */};
    size_t length = strlen(name);
    memcpy(address.sun_path, name, length);
    SYS3(unlinkat, the.folder, name, 0);
    int fd = must("make a socket", SYS3(socket, 1, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    /* The folder is the working directory: a path has no room in an address (unix(7)). */
    must("name a socket", SYS3(bind, fd, &address, sizeof address.sun_family + length + 1));
    return fd;
}

static void open_signals(void)
{
    u64 all = ~0ull;
    SYS4(rt_sigprocmask, SIG_SETMASK, &all, NULL, 8);
    the.signals = must("read signals",
                       SYS4(signalfd4, -1, &all, 8, SFD_CLOEXEC | SFD_NONBLOCK));
}

static void open_pipe(int *ours, int *theirs, int we_write)
{
    int ends[2];
    must("make a pipe", SYS2(pipe2, ends, O_CLOEXEC));
    *ours = ends[we_write ? 1 : 0];
    *theirs = ends[we_write ? 0 : 1];
    SYS3(fcntl, *ours, F_SETFL, O_NONBLOCK);
}

/* The launcher's three streams; each is close-on-exec, and copied to its place in the child. */
static void open_streams(int theirs[3])
{
    int number = 0;
    the.master = the.input = the.out = -1;
    if (the.terminal) {
        the.master = must("open a terminal",
                          SYS4(openat, AT_FDCWD, "/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, 0));
        must("unlock a terminal", SYS3(ioctl, the.master, TIOCSPTLCK, &number));
        theirs[0] = must("open a terminal", SYS3(ioctl, the.master, TIOCGPTPEER,
                                                  O_RDWR | O_NOCTTY | O_CLOEXEC));
        theirs[1] = theirs[0];
        SYS3(fcntl, the.master, F_SETFL, O_NONBLOCK);
        the.out = the.master;
        the.input = the.master;
    } else {
        open_pipe(&the.out, &theirs[1], 0);
        if (the.keeps_input)
            open_pipe(&the.input, &theirs[0], 1);
        else
            theirs[0] = must("open /dev/null",
                             SYS4(openat, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC, 0));
    }
    open_pipe(&the.err, &theirs[2], 0);
}

static NORETURN void become_launcher(const int theirs[3], int parent, char **envp)
{
    static char plan[24];
    static char *argv[] = {"nsrun-replay", plan, "", NULL};
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
    SYS4(rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
    SYS3(execve, "/proc/self/exe", argv, envp);
    sys_exit(NSRUN_FAILED);
}

static void start_launcher(char **envp)
{
    int theirs[3], parent = (int)SYS0(getpid);
    open_streams(theirs);
    i64 pid = sys_clone(0, SIGCHLD, &the.launcher);
    if (pid == 0)
        become_launcher(theirs, parent, envp);
    the.launcher_pid = must("start the launcher", pid);
    for (int i = 0; i < 3; i++)
        if (i != 1 || theirs[1] != theirs[0])
            SYS1(close, theirs[i]);
}

/* --- clients -------------------------------------------------------------------------------*/

static void drop(int number)
{
    SYS1(close, the.clients[number].fd);
    the.clients[number] = the.clients[--the.clients_used];
}

/* A client that does not read is left behind (0): the container does not wait for it. One that has
 * closed its end may have typed before, which is still to be heard. */
static int send_to(const struct client *client, const char *packet, size_t size)
{
    i64 sent = SYS6(sendto, client->fd, packet, size, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
    return sent >= 0 || sent == -EPIPE || sent == -ECONNRESET;
}

static void show(char kind, const char *bytes, size_t size)
{
    static char packet[LINE_MAX_BYTES + 1];
    packet[0] = kind;
    memcpy(packet + 1, bytes, size);
    for (int i = the.clients_used - 1; i >= 0; i--)
        if (the.clients[i].attached && !send_to(&the.clients[i], packet, size + 1))
            drop(i);
}

static void tell_end(int status)
{
    char packet[5] = {'x'};
    memcpy(packet + 1, &status, sizeof status);
    for (int i = 0; i < the.clients_used; i++)
        send_to(&the.clients[i], packet, sizeof packet);
}

static void signal_to(int pidfd, const char *bytes, size_t size)
{
    int number;
    if (pidfd < 0 || size != sizeof number)
        return;
    memcpy(&number, bytes, sizeof number);
    SYS4(pidfd_send_signal, pidfd, number, NULL, 0);
}

static void close_input(void)
{
    char end = VEOF_CHARACTER;
    if (the.input < 0)
        return;
    if (the.terminal) {
        /* The end of what one has typed; another may type on. */
        SYS3(write, the.input, &end, 1);
        the.input_ends = 0;
        return;
    }
    SYS1(close, the.input);
    the.input = -1;
}

static void keep_input(const char *bytes, size_t size)
{
    if (the.input < 0 || the.input_ends)
        return;
    if (the.pending_at == the.pending_end)
        the.pending_at = the.pending_end = 0;
    if (size > INPUT_MAX - the.pending_end)
        size = INPUT_MAX - the.pending_end;
    memcpy(the.pending + the.pending_end, bytes, size);
    the.pending_end += size;
}

static void write_input(void)
{
    size_t left = the.pending_end - the.pending_at;
    if (left) {
        i64 written = SYS3(write, the.input, the.pending + the.pending_at, left);
        if (written > 0)
            the.pending_at += (size_t)written;
        else if (written != -EAGAIN && written != -EINTR)
            the.pending_at = the.pending_end;
    }
    if (the.pending_at < the.pending_end)
        return;
    for (int i = 0; i < the.clients_used; i++)
        the.clients[i].waits = 0;
    if (the.input_ends)
        close_input();
}

static void resize(const char *bytes, size_t size)
{
    unsigned short window[4] = {0};
    if (!the.terminal || size != 2 * sizeof window[0])
        return;
    memcpy(window, bytes, size);
    SYS3(ioctl, the.master, TIOCSWINSZ, window);
}

/* One packet of a client; 0 where it is gone. */
static int hear(struct client *client)
{
    static char packet[LINE_MAX_BYTES + 1];
    i64 size = SYS6(recvfrom, client->fd, packet, sizeof packet, MSG_DONTWAIT, NULL, NULL);
    /* unix_release_sock(): who closes with something unread leaves ECONNRESET, told once and before
     * what was sent earlier. */
    if (size == -EAGAIN || size == -EINTR || size == -ECONNRESET)
        return 1;
    if (size <= 0)
        return 0;
    const char *rest = packet + 1;
    size_t length = (size_t)size - 1;
    switch (packet[0]) {
    case 'a':
        client->attached = 1;
        /* Nothing, as an answer: what was written before is in the log by now. */
        return send_to(client, "o", 1);
    case 'i':
        keep_input(rest, length);
        client->waits = 1;
        write_input();
        break;
    case 'c':
        the.input_ends = 1;
        write_input();
        break;
    case 'w':
        resize(rest, length);
        break;
    case 's':
        signal_to(the.launcher, rest, length);
        break;
    case 'k':
        signal_to(the.command, rest, length);
        break;
    default: /* q: it waits for the end, which everybody is told */
        break;
    }
    return 1;
}

static void welcome(void)
{
    i64 fd = SYS4(accept4, the.socket, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (the.clients_used == CLIENTS_MAX) {
        SYS1(close, fd);
        return;
    }
    the.clients[the.clients_used++] = (struct client){.fd = (int)fd};
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
    write_file("pid", ".pid", &text);
    tell_caller("ready", pid);
}

/* Some bytes of a stream; 0 where it has ended or has nothing now. */
static int take(int *fd, struct lines *lines, char kind)
{
    static char bytes[LINE_MAX_BYTES];
    if (*fd < 0)
        return 0;
    i64 size = SYS3(read, *fd, bytes, sizeof bytes);
    if (size == -EAGAIN || size == -EINTR)
        return 0;
    if (size <= 0) {
        /* EIO: a terminal whose other end nobody has open. */
        if (size != -EIO || *fd != the.master) {
            SYS1(close, *fd);
            *fd = -1;
        }
        return 0;
    }
    log_bytes(&the.log, lines, bytes, (size_t)size);
    show(kind, bytes, (size_t)size);
    if (kind == 'e' && !the.started) {
        struct text text = {.at = bytes, .size = (size_t)size, .used = (size_t)size};
        text_write(&text, 2);
    }
    return 1;
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

/* Everything of ours in the folder, and the folder if nothing else is in it. */
static void remove_folder(void)
{
    static const char *const names[] = {"container.json", "plan", "joined", "exit",
                                        "lock",           "log",  ".pid"};
    for (size_t i = 0; i < COUNT(names); i++)
        SYS3(unlinkat, the.folder, names[i], 0);
    for (int rotated = 1; rotated < the.log.files_max; rotated++) {
        char name[16] = "log.";
        struct text text = {.at = name + 4, .size = sizeof name - 5};
        text_number(&text, rotated);
        SYS3(unlinkat, the.folder, name, 0);
    }
    /* The folders above, as long as they are empty. */
    const char *const folders[] = {the.name, "containers", "nsrun"};
    i64 at = the.folder;
    for (size_t i = 0; i < COUNT(folders); i++) {
        i64 above = SYS4(openat, at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
        if (above < 0 || SYS3(unlinkat, above, folders[i], 0x200 /* AT_REMOVEDIR */) < 0)
            return;
        at = above;
    }
}

static NORETURN void end(void)
{
    struct child_end ended = {.status = NSRUN_FAILED};
    char at[FILE_BYTES];
    struct text text = {.at = at, .size = sizeof at};
    wait_child(P_PID, the.launcher_pid, &ended, WEXITED);
    while (take(&the.out, &the.out_lines, 'o'))
        ;
    while (take(&the.err, &the.err_lines, 'e'))
        ;
    log_rest(&the.log, &the.out_lines);
    log_rest(&the.log, &the.err_lines);
    text_number(&text, ended.status);
    text_string(&text, " ");
    text_number(&text, the.started);
    text_string(&text, " ");
    text_number(&text, sys_realtime());
    text_string(&text, "\n");
    write_file("exit", ".exit", &text);
    SYS3(unlinkat, the.folder, "pid", 0);
    SYS3(unlinkat, the.folder, "notify", 0);
    SYS3(unlinkat, the.folder, "socket", 0);
    /* Who never ran has a caller that takes the folder away. */
    if (the.removes && the.started)
        remove_folder();
    tell_end(ended.status);
    tell_caller("end", ended.status);
    sys_exit(ended.status);
}

/* --- the loop ------------------------------------------------------------------------------*/

static void turn(void)
{
    struct pollfd polls[7 + CLIENTS_MAX];
    int has_pending = the.pending_at < the.pending_end, clients = the.clients_used;
    polls[0] = (struct pollfd){.fd = the.launcher, .events = POLLIN};
    polls[1] = (struct pollfd){.fd = the.signals, .events = POLLIN};
    polls[2] = (struct pollfd){.fd = the.notify, .events = POLLIN};
    polls[3] = (struct pollfd){.fd = the.socket, .events = POLLIN};
    polls[4] = (struct pollfd){.fd = the.out, .events = POLLIN};
    polls[5] = (struct pollfd){.fd = the.err, .events = POLLIN};
    polls[6] = (struct pollfd){.fd = has_pending ? the.input : -1, .events = POLLOUT};
    for (int i = 0; i < clients; i++)
        /* While input waits to be taken, its senders do; the others are heard. */
        polls[7 + i] = (struct pollfd){.fd = the.clients[i].waits ? -1 : the.clients[i].fd,
                                       .events = POLLIN};
    if (SYS5(ppoll, polls, 7 + clients, NULL, NULL, 0) < 0)
        return;
    if (polls[1].revents)
        pass_signals_on();
    if (polls[4].revents)
        take(&the.out, &the.out_lines, 'o');
    if (polls[5].revents)
        take(&the.err, &the.err_lines, 'e');
    if (polls[2].revents)
        notified();
    if (polls[6].revents)
        write_input();
    /* Last first: who is dropped gives its place to the last. */
    for (int i = clients - 1; i >= 0 && i < the.clients_used; i--)
        if (polls[7 + i].revents && the.clients[i].fd == polls[7 + i].fd && !hear(&the.clients[i]))
            drop(i);
    if (polls[3].revents)
        welcome();
    if (polls[0].revents) {
        notified();
        end();
    }
}

static int number(const char *word)
{
    int value = 0;
    for (; word && *word >= '0' && *word <= '9' && value < 100000000; word++)
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
    the.folder = number(argv[1]);
    the.plan = number(argv[2]);
    the.ready = number(argv[3]);
    the.cwd = number(argv[4]);
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
    SYS3(unlinkat, the.folder, "exit", 0);
    reserve(".pid");
    reserve(".exit");
    open_signals();
    log_open(&the.log, the.folder, number(argv[6]), number(argv[7]));
    the.notify = bound_socket("notify", SOCK_DGRAM);
    the.socket = bound_socket("socket", SOCK_SEQPACKET);
    must("listen", SYS2(listen, the.socket, CLIENTS_MAX));
    start_launcher(envp);
    for (;;)
        turn();
}
