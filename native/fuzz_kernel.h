/* The kernel that is none: what a fuzzer's input makes of system calls. */
#ifndef NSRUN_FUZZ_KERNEL_H
#define NSRUN_FUZZ_KERNEL_H

#include "run.h"

#include <setjmp.h>

/* The run it serves, and where it goes on when a process ends. */
extern struct run fuzz_run;
extern jmp_buf fuzz_ended;

/* Answers to come are `answers`, then 0 for ever: a kernel where all goes well. Bit N of `news`:
 * clone N is answered in the new process. */
void kernel_begin(const u8 *answers, size_t size, u32 news);
u8 kernel_answer(void);
/* The bytes of the plan, which may be read. */
void kernel_plan(const void *at, size_t size);
/* Gives back what sys_memory() took. */
void kernel_end(void);

/* `size`, or -EFAULT. Beyond one of the executor's own buffers it is a finding of the sanitizer. */
i64 kernel_put(u64 at, const void *from, u64 size);

/* --- fuzz_steps.c: what the plan says of it --------------------------------------------------*/

/* The step that waits for a message after `number` others have, of the track that runs. */
const u32 *steps_awaited(u32 number);
/* The command's execve is under way: what an end of file without a failure means. */
void steps_enter_exec(void);
/* Writes what the plan expects this call of it to write; whether it expects a `result` too. */
int steps_agree(i64 nr, const u64 *values, i64 *result);

#endif
