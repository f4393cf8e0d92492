/* One track: its actions in order, each step entered, run and marked. */
#include "run.h"

static u32 slot(const struct run *run, enum track track, u32 index)
{
    return track == PARENT ? index : run->plan.header->parent_steps + index;
}

void mark(struct run *run, enum track track, u32 index, enum state state, int err, i64 value)
{
    u32 at = slot(run, track, index);
    run->shared->step[at] = (struct mark){(u8)state, (u8)err};
    if (!run->records)
        return;
    struct record *record = &run->records[at];
    record->state = state;
    record->err = err;
    record->value = value;
    if (state == STATE_ENTERED)
        record->start = sys_realtime();
    else if (state != STATE_LEFT_OUT)
        record->end = sys_realtime();
}

struct mark marked(const struct run *run, enum track track, u32 index)
{
    return run->shared->step[slot(run, track, index)];
}

/* Runs the steps of one action; *effect: at least one did something. */
static enum how action(struct run *run, enum track track, const u32 *step, u32 steps,
                       executor execute, u32 *index, int *effect)
{
    for (u32 left = steps; left; left--, step += step_words(step), ++*index) {
        mark(run, track, *index, STATE_ENTERED, 0, 0);
        struct result result = {.state = STATE_DONE};
        switch (execute(run, step, *index, &result)) {
        case OK: break;
        case FAILED:
            mark(run, track, *index, STATE_FAILED, run->fault.err, run->fault.value);
            return FAILED;
        case SKIPPED:
            mark(run, track, *index, STATE_SKIPPED, result.err, result.value);
            while (--left)
                mark(run, track, ++*index, STATE_LEFT_OUT, 0, 0);
            ++*index;
            return SKIPPED;
        }
        /* A new process that goes on with the track: the old one, which knows the pid, marks it. */
        if (result.state != STATE_ENTERED)
            mark(run, track, *index, result.state, result.err, result.value);
        *effect = 1;
    }
    return OK;
}

enum how track_run(struct run *run, enum track track, executor execute, u32 *index)
{
    const u32 *at = track == PARENT ? run->plan.parent : run->plan.child;
    const u32 *end = track == PARENT ? run->plan.parent_end : run->plan.child_end;
    *index = 0;
    while (at < end && (*at & 0xff) == PLAN_WORD_ACTION) {
        int effect = 0;
        u32 steps = at[2];
        if (track == PARENT && *at & ACTION_NEW_HEIR && parent_renew_heir(run)) {
            mark(run, track, *index, STATE_FAILED, run->fault.err, run->fault.value);
            return FAILED;
        }
        if (action(run, track, at + 4, steps, execute, index, &effect) == FAILED)
            return FAILED;
        if (effect && track == PARENT)
            run->done[run->done_count++] = at;
        for (at += 4; steps; steps--)
            at += step_words(at);
    }
    return OK;
}
