/* The relay between the caller's terminal and a container's pty (pty(7), termios(3)).
 *
 *     descriptor 0 ──▶ to the master ──▶ the command reads its terminal
 *     descriptor 1 ◀── from the master ◀── the command writes
 */
#ifndef NSRUN_RELAY_H
#define NSRUN_RELAY_H

#include "sys.h"

#include <asm/termbits.h>
#include <linux/poll.h>

#define RELAY_BUFFER (1 << 16)

struct relay {
    int master; /* -1: no terminal, and nothing to relay */
    int stdin_open, stdin_paused, stdout_open;
    int hung_up, at_end, output_lost;
    char last_input;
    u32 input_used, output_used;
    char input[RELAY_BUFFER + 64];
    char output[2 * RELAY_BUFFER];
};

void relay_start(struct relay *relay, int master);
/* Adds the descriptors to wait for to `polls`; how many: 3 at the most. */
u32 relay_wanted(const struct relay *relay, struct pollfd *polls);
/* Does what poll(2) says can be done now. */
void relay_handle(struct relay *relay, int fd, int events);
/* Leave what is still typed to whoever reads the terminal next. */
void relay_stop_input(struct relay *relay);
/* Look again: the master may have a slave again, we may be in the foreground again. */
void relay_resume(struct relay *relay);
/* Say once more that the input has ended, to whoever reads the terminal now. */
void relay_repeat_end(struct relay *relay);

/* The caller's terminal, raw while the command owns it, and always put back. */
struct raw_mode {
    int saved;
    struct termios attributes;
};
void raw_enter(struct raw_mode *raw);
void raw_leave(struct raw_mode *raw);

#endif
