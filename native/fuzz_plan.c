/* A stranger's bytes as a plan and as an entry: whatever is in them, no byte outside of them is
 * read or written, and nothing hangs.
 *
 * What the loader finds sound is replayed, parent and child, on a kernel that is none: it answers
 * each call with what the input says, writes where a call lets it write, and ends the process after
 * a while. A checksum is put right first, or nothing would ever come past it.
 */
#include "entry.h"
#include "launch.h"
#include "run.h"

#include <setjmp.h>
#include <stdlib.h>

#define CALLS_MAX 20000

static jmp_buf ended;
static const u8 *answers;
static size_t answers_size, answers_at;
static u32 calls;

NORETURN void sys_exit(int status)
{
    longjmp(ended, 1 + (status & 0xff));
}

static u8 answer(void) { return answers_size ? answers[answers_at++ % answers_size] : 0; }

/* Memory for sys_memory(), freed when an input is done with. */
static void *blocks[64];
static u32 block_count;

static i64 memory(u64 size)
{
    if (block_count == COUNT(blocks) || size > (64u << 20))
        return -ENOMEM;
    return (i64)(blocks[block_count++] = calloc(1, size));
}

static void free_blocks(void)
{
    while (block_count)
        free(blocks[--block_count]);
}

i64 syscall6(i64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    (void)a, (void)d, (void)e, (void)f;
    if (nr == __NR_mmap)
        return memory(b);
    if (++calls > CALLS_MAX)
        sys_exit(1);
    u8 said = answer();
    if (nr == __NR_read || nr == __NR_pread64) {
        u64 size = said < 200 ? c * said / 200 : 0;
        for (u64 i = 0; i < size && i < 4096; i++)
            ((u8 *)b)[i] = answer();
        return (i64)(size < 4096 ? size : 4096);
    }
    if (nr == __NR_write || nr == __NR_sendmsg || nr == __NR_sendto)
        return said < 230 ? (i64)c : -EPIPE;
    if (nr == __NR_clone3)
        return said < 128 ? 1000 + said : -EPERM;
    if (said < 160)
        return said;
    return said < 200 ? 0 : -(i64)(said - 199);
}

static struct run run;
static struct outcome outcome;

static void replay(const void *bytes, size_t size)
{
    memset(&run, 0, sizeof run);
    memset(&outcome, 0, sizeof outcome);
    calls = 0;
    if (plan_load(&run.plan, bytes, size) || run_prepare(&run, answer() & 1))
        return;
    if (!setjmp(ended))
        run_replay(&run, &outcome);
    /* The child's track, as it would run in the process that a clone made. */
    calls = 0;
    memset(run.is_set, 0, run.plan.header->registers);
    for (u32 reg = 0; reg < run.plan.header->registers; reg++)
        if (answer() & 1)
            reg_set(&run, reg, answer());
    if (!setjmp(ended))
        child_main(&run);
}

static void depend(const void *bytes, size_t size)
{
    static char *environment[] = {"HOME=/", "TERM=x", NULL};
    calls = 0;
    if (entry_load(bytes, size))
        return;
    if (!setjmp(ended))
        entry_differs(bytes, environment);
}

/* A copy whose checksum is right, in memory of just its size: a byte beyond is an error. */
static u8 *copy(const u8 *data, size_t size, size_t place, size_t from)
{
    u8 *at = malloc(size);
    memcpy(at, data, size);
    u32 claimed;
    if (size >= from) {
        memcpy(&claimed, at + 12, sizeof claimed);
        if (claimed >= from && claimed <= size) {
            u64 sum = plan_checksum(at + from, claimed - from);
            memcpy(at + place, &sum, sizeof sum);
        }
    }
    return at;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    answers = data;
    answers_size = size;
    answers_at = 0;
    u8 *at = copy(data, size, 16, PLAN_CHECKED_FROM);
    replay(at, size);
    depend(at, size);
    free(at);
    free_blocks();
    return 0;
}
