/* Replaying a plan.
 *
 *     run the parent's track ─┬─ clone: the child's track, in child.c
 *                             └─ on any end:
 *     take the first failure ── kill and collect the child ── sweep what it left ── undo ── close
 *                                   (where nsrun is killed: its heir undoes, heir.c)
 */
#include "run.h"

#include <linux/signal.h>

int run_prepare(struct run *run, int times)
{
    const struct plan_header *header = run->plan.header;
    size_t registers = header->registers, steps = (size_t)header->parent_steps + header->child_steps;
    size_t private_size = registers * sizeof *run->value + 2 * ((registers + 7) & ~7ull) +
                          (size_t)header->actions * sizeof *run->done + run->plan.scratch;
    size_t marks_size = (sizeof *run->shared + steps * sizeof run->shared->step[0] + 7) & ~7ull;
    u8 *at = sys_memory(private_size, 0);
    run->shared = sys_memory(marks_size + header->actions * sizeof *run->undone, 1);
    if (times)
        run->records = sys_memory(steps * sizeof *run->records, 1);
    if (!at || !run->shared || (times && !run->records))
        return -ENOMEM;
    run->undone = (u32 *)((u8 *)run->shared + marks_size);
    run->value = (i64 *)at;
    at += registers * sizeof *run->value;
    run->done = (const u32 **)at;
    at += header->actions * sizeof *run->done;
    run->scratch = at;
    at += run->plan.scratch;
    run->is_set = at;
    run->is_closed = at + ((registers + 7) & ~7ull);
    return 0;
}

/* --- the first failure wins ----------------------------------------------------------------*/

static void set_failure(struct failure *failure, enum track track, int index,
                        const struct fault *fault)
{
    *failure = (struct failure){
        .set = 1,
        .track = track,
        .index = index,
        .kind = fault->kind,
        .err = fault->err,
        .value = fault->value,
        .expect = fault->expect < 0 ? -1 : fault->expect,
        .text_size = fault->text_size,
    };
    memcpy(failure->text, fault->text, fault->text_size);
}

/* A failure that the child marked but could not send. */
static int recorded(const struct run *run, struct failure *failure)
{
    for (u32 i = 0; i < run->plan.header->child_steps; i++) {
        struct mark found = marked(run, CHILD, i);
        if (found.state != STATE_FAILED)
            continue;
        struct fault fault = {
            .kind = FAIL_ERRNO, .err = found.err, .value = -1, .expect = -1, .text = ""};
        if (!found.err) {
            fault.kind = FAIL_INTERNAL;
            fault.text = "the child's report did not arrive";
            fault.text_size = (u32)strlen(fault.text);
        }
        set_failure(failure, CHILD, (int)i, &fault);
        return 1;
    }
    return 0;
}

/* The child is gone: the last step it had begun is where it ended. */
static int last_begun(const struct run *run)
{
    int last = -1;
    for (u32 i = 0; i < run->plan.header->child_steps; i++) {
        u8 state = marked(run, CHILD, i).state;
        if (state != STATE_NOT_REACHED && state != STATE_LEFT_OUT)
            last = (int)i;
    }
    return last;
}

static int is_exec(const u32 *step)
{
    return step_op(step) == OP_CALL && (step[1] >> 24 & CALL_IS_EXEC);
}

/* Of several candidates for one execve, the one found but refused is the cause, as execvp(3)
 * reports EACCES although it went on to look in the rest of PATH. True for a failed execve. */
static int exec_cause(const struct run *run, struct failure *failure)
{
    if (failure->track != CHILD || failure->index < 0)
        return 0;
    const u32 *at = run->plan.child;
    for (int first = 0; at < run->plan.child_end && (*at & 0xff) == PLAN_WORD_ACTION;) {
        int refused = -1, index = first, steps = (int)at[2];
        for (at += 4; index < first + steps; at += step_words(at), index++) {
            if (index == failure->index) {
                if (!is_exec(at))
                    return 0;
                if (refused >= 0 && (failure->err == ENOENT || failure->err == ENOTDIR)) {
                    struct fault fault = {
                        .kind = FAIL_ERRNO, .err = EACCES, .value = -1, .expect = -1, .text = ""};
                    set_failure(failure, CHILD, refused, &fault);
                }
                return 1;
            }
            struct mark found = marked(run, CHILD, (u32)index);
            if (is_exec(at) && found.state == STATE_ACCEPTED && found.err == EACCES && refused < 0)
                refused = index;
        }
        first += steps;
    }
    return 0;
}

/* The exit status for a failed execve(2): 127 not found, 126 not executable, else 125. */
static int exec_status(int err)
{
    static const int not_executable[] = {EACCES, ENOEXEC, EPERM,  EISDIR, ELOOP,
                                         ETXTBSY, ELIBBAD, EINVAL, E2BIG,  ENAMETOOLONG};
    if (err == ENOENT || err == ENOTDIR)
        return NOT_FOUND;
    for (u32 i = 0; i < COUNT(not_executable); i++)
        if (not_executable[i] == err)
            return NOT_EXECUTABLE;
    return NSRUN_FAILED;
}

/* The failure to report: the child's own where there is one, for ours follows from it. */
static void first_failure(struct run *run, u32 index, struct failure *failure)
{
    struct fault ours = run->fault;
    static char text[TEXT_MAX];
    memcpy(text, ours.text, ours.text_size);
    ours.text = text;
    if (run->reported.set || parent_drain(run))
        *failure = run->reported;
    else if (recorded(run, failure))
        ;
    else if (ours.kind == FAIL_ENDED && ours.text_size == 0)
        set_failure(failure, CHILD, last_begun(run), &ours);
    else
        set_failure(failure, PARENT, (int)index, &ours);
}

/* --- the end -------------------------------------------------------------------------------*/

static void end_processes(struct run *run)
{
    for (u32 i = 0; i < run->process_count; i++)
        reap_kill(run->processes[i]);
    for (u32 i = 0; i < run->holder_count; i++)
        if (run->holders[i] >= 0)
            reap_kill(run->holders[i]);
    for (u32 i = 0; i < run->process_count; i++)
        reap_finish(run->processes[i]);
    for (u32 i = 0; i < run->holder_count; i++)
        if (run->holders[i] >= 0)
            reap_finish(run->holders[i]);
    if (run->alone)
        reap_sweep(run);
}

static void undo_failed(struct run *run, struct outcome *outcome, u32 action, u32 step)
{
    if (outcome->undo_failures == UNDO_FAILURES_MAX)
        return;
    struct undo_failure *failure = &outcome->undo[outcome->undo_failures++];
    const struct fault *fault = &run->fault;
    *failure = (struct undo_failure){.action = action, .step = step, .kind = fault->kind,
                                     .err = fault->err, .value = fault->value};
    failure->text_size = fault->text_size < sizeof failure->text ? fault->text_size
                                                                 : sizeof failure->text;
    memcpy(failure->text, fault->text, failure->text_size);
}

/* All undo steps of one action, whichever fail. Where the launcher is killed while it undoes, its
 * heir does not start a second time what has run; calls may be made twice. */
static void undo_action(struct run *run, struct outcome *outcome, const u32 *action)
{
    const u32 *step = run->plan.undo + action[3] + 1;
    u32 count = run->plan.undo[action[3]], *through = &run->undone[action[1]];
    if (*through == count)
        return;
    for (u32 i = 0; i < count; i++, step += step_words(step)) {
        struct result result = {.state = STATE_DONE};
        if (i < *through && step_op(step) == OP_SPAWN)
            continue;
        enum how how = undo_execute(run, step, &result);
        *through = how == SKIPPED ? count : *through > i ? *through : i + 1;
        switch (how) {
        case OK: break;
        case SKIPPED: return;
        case FAILED:
            /* The step that makes it was left out: there is nothing to take back. */
            if (run->fault.expect != UNSET)
                undo_failed(run, outcome, action[1], i);
            break;
        }
    }
}

void run_undo(struct run *run, struct outcome *outcome, int failed)
{
    for (u32 i = run->done_count; i; i--) {
        const u32 *action = run->done[i - 1];
        u32 when = action[0] >> 8 & 0xff;
        if (action[3] != PLAN_NO_UNDO && (when == WHEN_END || failed))
            undo_action(run, outcome, action);
    }
}

/* Close every descriptor that a register still holds; the end of the process would too, but not
 * where it goes on as the program that explains. */
static void close_registers(struct run *run)
{
    for (u32 i = 0; i < run->holder_count; i++)
        if (run->held[i] >= 0)
            SYS1(close, run->held[i]);
    for (u32 reg = 0; reg < run->plan.header->registers; reg++)
        if (run->is_set[reg] && !run->is_closed[reg] && run->plan.kinds[reg] == KIND_FD &&
            run->value[reg] > 2)
            SYS1(close, run->value[reg]);
}

static int status(const struct run *run, const struct failure *failure, int exec)
{
    if (run->interrupted)
        return SIGNALLED + run->interrupted;
    if (!failure->set)
        return run->ended.known ? run->ended.status : 0;
    return exec && failure->kind == FAIL_ERRNO ? exec_status(failure->err) : NSRUN_FAILED;
}

static void finish(struct run *run, struct outcome *outcome, int exec)
{
    parent_drain(run);
    end_processes(run);
    run_undo(run, outcome, (outcome->failure.set || run->interrupted) && !run->started);
    heir_release(run);
    close_registers(run);
    outcome->status = status(run, &outcome->failure, exec);
    outcome->started = (u32)run->started;
    outcome->interrupted = run->interrupted != 0;
    outcome->timed_out = (u32)run->ended.timed_out;
    outcome->signal = run->ended.known ? run->ended.signal : run->interrupted;
    outcome->dropped_signal = run->ended.dropped_signal;
    outcome->survivors = run->survivors;
    memcpy(outcome->survivor, run->survivor, run->survivors * sizeof run->survivor[0]);
}

void run_replay(struct run *run, struct outcome *outcome)
{
    u32 index;
    int exec = 0;
    u64 everything = ~0ull;
    memcpy(outcome->magic, "nsrunout", sizeof outcome->magic);
    outcome->size = sizeof *outcome;
    outcome->parent_steps = run->plan.header->parent_steps;
    outcome->child_steps = run->plan.header->child_steps;
    /* Children of another making are not ours to end. */
    run->alone = !reap_has_children();
    enum how how = track_run(run, PARENT, parent_execute, &index);
    SYS4(rt_sigprocmask, SIG_BLOCK, &everything, NULL, sizeof everything);
    if (how == FAILED && !run->interrupted) {
        first_failure(run, index, &outcome->failure);
        exec = exec_cause(run, &outcome->failure);
    }
    finish(run, outcome, exec);
}

int outcome_speaks(const struct outcome *outcome)
{
    return outcome->failure.set || outcome->interrupted || outcome->timed_out ||
           outcome->dropped_signal || outcome->undo_failures || outcome->survivors ||
           outcome->signal == SIGSYS;
}
