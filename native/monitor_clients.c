/* Who is connected to a container's socket, and what they ask for. */
#include "monitor.h"

#include <linux/socket.h>

#define SOCK_CLOEXEC O_CLOEXEC
#define MSG_DONTWAIT 0x40
#define MSG_NOSIGNAL 0x4000

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

void clients_show(char kind, const char *bytes, size_t size)
{
    static char packet[LINE_MAX_BYTES + 1];
    packet[0] = kind;
    memcpy(packet + 1, bytes, size);
    for (int i = the.clients_used - 1; i >= 0; i--)
        if (the.clients[i].attached && !send_to(&the.clients[i], packet, size + 1))
            drop(i);
}

void clients_tell_end(int status, int signal)
{
    char packet[1 + 2 * sizeof(int)] = {'x'};
    memcpy(packet + 1, &status, sizeof status);
    memcpy(packet + 1 + sizeof status, &signal, sizeof signal);
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
        input_keep(rest, length);
        client->waits = 1;
        input_write();
        break;
    case 'c':
        input_end();
        break;
    case 'w':
        terminal_resize(rest, length);
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

void clients_hear(int number)
{
    if (!hear(&the.clients[number]))
        drop(number);
}

void clients_welcome(void)
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
