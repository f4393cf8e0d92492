/* A stranger's bytes as a plan and as an entry: whatever is in them, no byte outside of them is
 * read or written, and nothing hangs.
 *
 *     plan or entry, as long as its header says    what is loaded
 *     a byte: bit 0 take times, bits 1 to 7 the clones answered in the new process
 *     answers                                      native/fuzz_kernel.c
 *
 * What the loader finds sound is replayed. A checksum is put right first, or nothing would ever
 * come past it.
 */
#include "entry.h"
#include "fuzz_kernel.h"

#include <stdlib.h>

struct run fuzz_run;
static struct outcome outcome;

static void replay(const void *bytes, size_t size, int times)
{
    kernel_plan(bytes, size);
    if (plan_load(&fuzz_run.plan, bytes, size) || run_prepare(&fuzz_run, times))
        return;
    if (!setjmp(fuzz_ended)) {
        run_replay(&fuzz_run, &outcome);
        outcome_speaks(&outcome);
    }
}

static void depend(const void *bytes, size_t size)
{
    static char *environment[] = {"HOME=/", "TERM=x", NULL};
    if (entry_load(bytes, size))
        return;
    if (!setjmp(fuzz_ended))
        entry_differs(bytes, environment);
}

static int starts(const u8 *data, size_t size, const char *magic)
{
    return size >= 24 && !memcmp(data, magic, 8);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    u32 claimed;
    int is_entry = starts(data, size, ENTRY_MAGIC);
    u32 from = is_entry ? ENTRY_CHECKED_FROM : PLAN_CHECKED_FROM;
    if (!is_entry && !starts(data, size, PLAN_MAGIC))
        return 0;
    memcpy(&claimed, data + 12, sizeof claimed);
    if (claimed > size || claimed < from)
        claimed = (u32)size;
    /* In memory of just its size: a byte beyond is an error. */
    u8 *at = malloc(claimed);
    memcpy(at, data, claimed);
    if (claimed >= from) {
        u64 sum = plan_checksum(at + from, claimed - from);
        memcpy(at + 16, &sum, sizeof sum);
    }
    u8 mode = claimed < size ? data[claimed] : 0;
    size_t answers = claimed < size ? claimed + 1 : size;
    memset(&fuzz_run, 0, sizeof fuzz_run);
    memset(&outcome, 0, sizeof outcome);
    kernel_begin(data + answers, size - answers, mode >> 1);
    if (is_entry)
        depend(at, claimed);
    else
        replay(at, claimed, mode & 1);
    kernel_end();
    free(at);
    return 0;
}
