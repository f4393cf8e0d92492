/* What a plan itself says of how the kernel is to answer, for native/fuzz_kernel.c. */
#include "fuzz_kernel.h"

struct place {
    const u32 *at, *end;
    u32 steps; /* left in the action */
    u32 index; /* of the step */
};

static struct place start(enum track track)
{
    const struct plan *p = &fuzz_run.plan;
    return track == CHILD ? (struct place){.at = p->child, .end = p->child_end, .index = ~0u}
                          : (struct place){.at = p->parent, .end = p->parent_end, .index = ~0u};
}

/* The next step of a track, NULL at its end. */
static const u32 *next_step(struct place *place)
{
    while (!place->steps) {
        if (place->at >= place->end || (*place->at & 0xff) != PLAN_WORD_ACTION)
            return NULL;
        place->steps = place->at[2];
        place->at += 4;
    }
    const u32 *found = place->at;
    place->at += step_words(found);
    place->steps--;
    place->index++;
    return found;
}

const u32 *steps_awaited(u32 number)
{
    struct place place = start(fuzz_run.in_child ? CHILD : PARENT);
    const u32 *step;
    while ((step = next_step(&place)))
        if ((step_op(step) == OP_WAIT || step_op(step) == OP_RECEIVE_FD) && !number--)
            return step;
    return NULL;
}

void steps_enter_exec(void)
{
    struct place place = start(CHILD);
    const u32 *step;
    while ((step = next_step(&place)))
        if (step_op(step) == OP_CALL && (step[1] >> 24 & CALL_IS_EXEC))
            mark(&fuzz_run, CHILD, place.index, STATE_ENTERED, 0, 0);
}

/* The call of `nr` that is under way, NULL where it is none of the plan's. */
static const u32 *under_way(i64 nr)
{
    enum track track = fuzz_run.in_child ? CHILD : PARENT;
    struct place place = start(track);
    const u32 *step, *found = NULL;
    while ((step = next_step(&place)))
        if (marked(&fuzz_run, track, place.index).state == STATE_ENTERED)
            found = step;
    return found && step_op(found) == OP_CALL && (found[1] & 0xffff) == nr ? found : NULL;
}

/* Behind one argument; `counts` takes the word of an OUT's counts, NULL for another argument. */
static const u32 *behind(const u32 *words, const u32 **counts)
{
    u32 word = *words++, payload = word >> 8;
    const u32 *inner;
    *counts = NULL;
    switch (word & 0xff) {
    case ARG_INT64: return words + 2;
    case ARG_FMT:
    case ARG_LENGTH:
        for (; payload; payload--)
            words += (*words & 0xff) == ARG_LITERAL ? 2 : 1;
        return words;
    case ARG_BUFFER: {
        u32 pointers = words[1] >> 16;
        for (words += 2 + 2 * (words[1] & 0xffff); pointers; pointers--)
            words = behind(words + 1, &inner);
        return words;
    }
    case ARG_STRINGS: return words + payload;
    case ARG_OUT:
        *counts = words;
        return words + 1 + 2 * (*words & 0xffff) + 6 * (*words >> 16);
    default: return words;
    }
}

int steps_agree(i64 nr, const u64 *values, i64 *result)
{
    const u32 *step = under_way(nr), *counts;
    if (!step)
        return 0;
    u32 has_result = step[1] >> 24 & CALL_HAS_RESULT;
    const u32 *words = step + 4 + (has_result ? 2 : 0) + (step[2] & 0xff) + (step[2] >> 8 & 0xff);
    for (u32 i = 0, count = step[1] >> 16 & 0xff; i < count; i++) {
        words = behind(words, &counts);
        if (!counts)
            continue;
        const u32 *e = counts + 1 + 2 * (*counts & 0xffff);
        for (u32 left = *counts >> 16; left; left--, e += 6)
            kernel_put(values[i] + e[0], e + 4, e[1] & 0xff);
    }
    if (has_result)
        *result = (i64)(step[4] | (u64)step[5] << 32);
    return has_result != 0;
}
