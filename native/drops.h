/* Signals that PID 1 of a pid namespace never sees. */
#ifndef NSRUN_DROPS_H
#define NSRUN_DROPS_H

/* Whether a process never sees this signal: PID 1 of its pid namespace, without a handler.
 *
 * pid_namespaces(7): such a process gets only the signals it has a handler for. One that it ignores by
 * its own choice or blocks for later is not counted as dropped, and neither is one that it waits
 * for: sigwaitinfo(2) is how tini and dumb-init take theirs. False where procfs does not say
 * enough to be sure. */
int drops_signal(int pid, int number);

#endif
