/* Arguments of steps, and the operation `call`: one system call, made once. */
#include "run.h"

enum how fail_internal(struct run *run, const char *words)
{
    fail(run, FAIL_INTERNAL, 0, 0);
    run->fault.text = words;
    run->fault.text_size = (u32)strlen(words);
    return FAILED;
}

i64 reg_get(struct run *run, u32 reg) { return run->value[reg]; }

enum how reg_set(struct run *run, u32 reg, i64 value)
{
    if (run->is_set[reg])
        return fail_internal(run, "a register is set twice");
    run->value[reg] = value;
    run->is_set[reg] = 1;
    return OK;
}

static enum how unset(struct run *run)
{
    fail_internal(run, "a register was never set");
    run->fault.expect = UNSET;
    return FAILED;
}

enum how reg_argument(struct run *run, u32 reg, i64 *value)
{
    if (!run->is_set[reg])
        return unset(run);
    *value = run->value[reg];
    if (run->plan.kinds[reg] == KIND_PID && *value <= 0)
        return fail_internal(run, "a register holds no process");
    return OK;
}

void args_reset(struct run *run) { run->scratch_used = 0; }

/* load.c has counted what a step needs. */
static void *scratch(struct run *run, size_t size)
{
    void *at = run->scratch + run->scratch_used;
    run->scratch_used += (size + 7) & ~(size_t)7;
    return at;
}

static u64 word64(const u32 *words) { return words[0] | (u64)words[1] << 32; }

static enum how format(struct run *run, const u32 **words, u32 parts, char **at, size_t *length)
{
    char *start = (char *)run->scratch + run->scratch_used;
    struct text text = {.at = start, .size = run->plan.scratch - run->scratch_used};
    for (; parts; parts--) {
        u32 word = *(*words)++;
        if ((word & 0xff) == ARG_LITERAL) {
            text_bytes(&text, (const char *)run->plan.data + (word >> 8), *(*words)++);
            continue;
        }
        if (!run->is_set[word >> 8])
            return unset(run);
        text_number(&text, run->value[word >> 8]);
    }
    start[text.used] = 0;
    scratch(run, text.used + 1);
    *at = start;
    *length = text.used;
    return OK;
}

static enum how digits(struct run *run, char *at, u32 size, i64 value)
{
    char held[24];
    struct text text = {.at = held, .size = sizeof held};
    text_number(&text, value);
    if (text.used > size)
        return fail_internal(run, "a register does not fit into its place");
    memset(at, ' ', size);
    memcpy(at, held, text.used);
    return OK;
}

static enum how hole(struct run *run, u8 *buffer, const u32 *words)
{
    u32 size = words[1] & 0x7f, number = words[1] >> 8;
    if (!run->is_set[number])
        return unset(run);
    i64 value = run->value[number];
    if (words[1] & PLAN_HOLE_DECIMAL)
        return digits(run, (char *)buffer + words[0], size, value);
    if (size < 8) {
        i64 top = value >> (8 * size - 1);
        if (top != 0 && top != -1 && (u64)value >> (8 * size))
            return fail_internal(run, "a register does not fit into its place");
    }
    memcpy(buffer + words[0], &value, size);
    return OK;
}

/* A buffer that is the same in every run is passed as it lies in the plan. */
static enum how buffer(struct run *run, const u32 **words, u32 offset, u8 **at)
{
    u32 size = *(*words)++, counts = *(*words)++;
    *at = (u8 *)(uintptr_t)(run->plan.data + offset);
    if (!counts)
        return OK;
    *at = scratch(run, size);
    memcpy(*at, run->plan.data + offset, size);
    for (u32 i = counts & 0xffff; i; i--, *words += 2)
        if (hole(run, *at, *words))
            return FAILED;
    for (u32 i = counts >> 16; i; i--) {
        u32 place = *(*words)++, word = *(*words)++;
        u8 *target;
        if (buffer(run, words, word >> 8, &target))
            return FAILED;
        u64 address = (u64)target;
        memcpy(*at + place, &address, 8);
    }
    return OK;
}

static u64 strings(struct run *run, const u32 **words, u32 count)
{
    u64 *vector = scratch(run, 8 * ((size_t)count + 1));
    for (u32 i = 0; i < count; i++)
        vector[i] = (u64)(run->plan.data + *(*words)++);
    vector[count] = 0;
    return (u64)vector;
}

static u64 out(struct run *run, const u32 **words, u32 size)
{
    u32 counts = *(*words)++;
    *words += 2 * (counts & 0xffff) + 6 * (counts >> 16);
    return (u64)memset(scratch(run, size), 0, size);
}

enum how arg_value(struct run *run, const u32 **words, u64 *value, u32 *size)
{
    u32 word = *(*words)++, payload = word >> 8;
    char *text;
    size_t length = 0;
    switch ((enum arg_kind)(word & 0xff)) {
    case ARG_INT: *value = payload; return OK;
    case ARG_INT64:
        *value = word64(*words);
        *words += 2;
        return OK;
    case ARG_REG: {
        i64 found = 0;
        if (reg_argument(run, payload, &found))
            return FAILED;
        *value = (u64)found;
        return OK;
    }
    case ARG_DATA: *value = (u64)(run->plan.data + payload); return OK;
    case ARG_FMT:
    case ARG_LENGTH:
        if (format(run, words, payload, &text, &length))
            return FAILED;
        *value = (word & 0xff) == ARG_FMT ? (u64)text : length;
        if (size)
            *size = (u32)length;
        return OK;
    case ARG_BUFFER: {
        u8 *at;
        if (size)
            *size = (*words)[0];
        if (buffer(run, words, payload, &at))
            return FAILED;
        *value = (u64)at;
        return OK;
    }
    case ARG_STRINGS: *value = strings(run, words, payload); return OK;
    case ARG_OUT: *value = out(run, words, payload); return OK;
    case ARG_LITERAL: break;
    }
    return fail_internal(run, "an argument of no known kind");
}

/* --- what the kernel wrote -----------------------------------------------------------------*/

static u64 integer(const u8 *buffer, u32 offset, u32 size)
{
    u64 value = 0;
    memcpy(&value, buffer + offset, size);
    return value;
}

/* Moves over one argument's words; for an OUT gives its counts' word, else NULL. */
static const u32 *next(const u32 **words)
{
    u32 word = *(*words)++, payload = word >> 8;
    switch ((enum arg_kind)(word & 0xff)) {
    case ARG_INT64: *words += 2; return NULL;
    case ARG_FMT:
    case ARG_LENGTH:
        for (; payload; payload--)
            *words += (**words & 0xff) == ARG_LITERAL ? 2 : 1;
        return NULL;
    case ARG_BUFFER: {
        u32 counts = (*words)[1];
        *words += 2 + 2 * (counts & 0xffff);
        for (u32 i = counts >> 16; i; i--) {
            *words += 1;
            next(words);
        }
        return NULL;
    }
    case ARG_STRINGS: *words += payload; return NULL;
    case ARG_OUT: {
        const u32 *found = *words;
        u32 counts = *(*words)++;
        *words += 2 * (counts & 0xffff) + 6 * (counts >> 16);
        return found;
    }
    case ARG_INT:
    case ARG_REG:
    case ARG_DATA:
    case ARG_LITERAL: return NULL;
    }
    return NULL;
}

/* SKIPPED where an expectation that does not hold ends the action. */
static enum how expectations(struct run *run, const u32 *words, u32 count, const u64 *values)
{
    int number = 0;
    for (u32 i = 0; i < count; i++) {
        const u32 *found = next(&words);
        if (!found)
            continue;
        const u32 *e = found + 1 + 2 * (*found & 0xffff);
        for (u32 left = *found >> 16; left; left--, e += 6, number++) {
            u64 mask = word64(e + 2);
            u64 actual = integer((const u8 *)values[i], e[0], e[1] & 0xff) & mask;
            if (actual == (word64(e + 4) & mask))
                continue;
            if (e[1] >> 8 == ELSE_SKIP)
                return SKIPPED;
            fail(run, FAIL_EXPECT, 0, (i64)actual);
            run->fault.expect = number;
            return FAILED;
        }
    }
    return OK;
}

/* Registers from what the kernel wrote; with `values` NULL all of them become -1. */
static enum how saves(struct run *run, const u32 *words, u32 count, const u64 *values)
{
    for (u32 i = 0; i < count; i++) {
        const u32 *found = next(&words);
        if (!found)
            continue;
        for (u32 left = *found & 0xffff, at = 1; left; left--, at += 2) {
            u32 size = found[at + 1] & 0xff;
            i64 value = values ? (i64)integer((const u8 *)values[i], found[at], size) : -1;
            if (reg_set(run, found[at + 1] >> 8, value))
                return FAILED;
        }
    }
    return OK;
}

/* --- the call ------------------------------------------------------------------------------*/

/* All messages of a file system context, one a line (fsopen(2), "Message retrieval"). */
static void kernel_words(struct run *run, i64 fd)
{
    u32 used = 0;
    while (used < TEXT_MAX - 1) {
        i64 size = SYS3(read, fd, run->text + used, TEXT_MAX - used);
        if (size <= 0)
            break; /* ENODATA: no more messages */
        used += (u32)size;
        while (used && run->text[used - 1] == '\n')
            used--;
        if (used < TEXT_MAX)
            run->text[used++] = '\n';
    }
    run->fault.text = run->text;
    run->fault.text_size = used && run->text[used - 1] == '\n' ? used - 1 : used;
}

static int among(const u32 *errnos, u32 count, int err)
{
    for (u32 i = 0; i < count; i++)
        if ((int)errnos[i] == err)
            return 1;
    return 0;
}

static enum how after_errno(struct run *run, const u32 *step, const u32 *errnos, const u32 *args,
                            struct result *result)
{
    u32 accepted = step[2] & 0xff, skipping = step[2] >> 8 & 0xff;
    u32 save = step[3] & 0xffff, log = step[3] >> 16;
    int err = result->err;
    result->value = -1;
    if (among(errnos + accepted, skipping, err)) {
        result->state = STATE_SKIPPED;
        return SKIPPED;
    }
    if (among(errnos, accepted, err)) {
        result->state = STATE_ACCEPTED;
        if (save && reg_set(run, save - 1, -1))
            return FAILED;
        return saves(run, args, step[1] >> 16 & 0xff, NULL);
    }
    fail(run, FAIL_ERRNO, err, -1);
    if (log && run->is_set[log - 1])
        kernel_words(run, run->value[log - 1]);
    return FAILED;
}

enum how run_call(struct run *run, const u32 *step, struct result *result)
{
    u64 values[PLAN_ARGUMENTS_MAX] = {0};
    u32 nr = step[1] & 0xffff, count = step[1] >> 16 & 0xff, flags = step[1] >> 24;
    u32 save = step[3] & 0xffff;
    const u32 *errnos = step + 4 + (flags & CALL_HAS_RESULT ? 2 : 0);
    const u32 *args = errnos + (step[2] & 0xff) + (step[2] >> 8 & 0xff);
    const u32 *words = args;
    for (u32 i = 0; i < count; i++)
        if (arg_value(run, &words, &values[i], NULL))
            return FAILED;
    i64 got = syscall6(nr, values[0], values[1], values[2], values[3], values[4], values[5]);
    if (got < 0 && got >= -4095) {
        result->err = (int)-got;
        return after_errno(run, step, errnos, args, result);
    }
    result->value = got;
    if ((flags & CALL_HAS_RESULT) && got != (i64)word64(step + 4))
        return fail(run, FAIL_RESULT, 0, got);
    if (save && reg_set(run, save - 1, got))
        return FAILED;
    if (flags & CALL_CLOSES)
        run->is_closed[*args >> 8] = 1;
    enum how how = expectations(run, args, count, values);
    if (how == SKIPPED)
        result->state = STATE_SKIPPED;
    return how ? how : saves(run, args, count, values);
}
