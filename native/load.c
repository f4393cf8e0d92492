/* Is this a plan? Every offset, count and length of it is looked at here, once; what replays it
 * afterwards checks none of them again. Pure: bytes in, an answer out. */
#include "run.h"

/* The walk: one stream of words, and what it may refer to. */
struct walk {
    const struct plan *plan;
    const u32 *at, *end;
    const char *wrong;
    u64 scratch; /* of the step being looked at */
    u32 most;    /* of the largest step */
};

u64 plan_checksum(const void *bytes, size_t size)
{
    const u8 *at = bytes;
    u64 value = 0xcbf29ce484222325u ^ size;
    while (size) {
        u64 word = 0;
        size_t piece = size < 8 ? size : 8;
        if (piece == 8)
            __builtin_memcpy(&word, at, 8);
        else
            memcpy(&word, at, piece);
        value = (value ^ word) * PLAN_CHECKSUM_PRIME;
        value ^= value >> 29;
        at += piece;
        size -= piece;
    }
    return value;
}

static int wrong(struct walk *walk, const char *why)
{
    if (!walk->wrong)
        walk->wrong = why;
    return 0;
}

/* `count` words, or NULL. */
static const u32 *words(struct walk *walk, u64 count)
{
    if (count > (u64)(walk->end - walk->at)) {
        wrong(walk, "a step is cut");
        return NULL;
    }
    const u32 *found = walk->at;
    walk->at += count;
    return found;
}

static int reg(struct walk *walk, u32 number)
{
    return number < walk->plan->header->registers || wrong(walk, "a register it does not have");
}

/* A register's number plus one, or 0 for none. */
static int reg_optional(struct walk *walk, u32 number) { return !number || reg(walk, number - 1); }

static int bytes(struct walk *walk, u32 offset, u64 size)
{
    u32 total = walk->plan->header->data_size;
    return (offset <= total && size <= total - offset) || wrong(walk, "data outside of its data");
}

static int string(struct walk *walk, u32 offset)
{
    const struct plan *plan = walk->plan;
    for (u32 at = offset; at < plan->header->data_size; at++)
        if (!plan->data[at])
            return 1;
    return wrong(walk, "a string without an end");
}

static int sync_name(struct walk *walk, u32 offset, u32 length)
{
    return (length <= PLAN_SYNC_MAX || wrong(walk, "the name of a sync is too long")) &&
           bytes(walk, offset, length);
}

static int scratch(struct walk *walk, u64 size)
{
    walk->scratch += (size + 7) & ~7ull;
    if (walk->scratch > PLAN_SCRATCH_MAX)
        return wrong(walk, "a step needs too much memory");
    return 1;
}

/* `size` bytes at `offset` of a buffer of `total`, an integer of the machine. */
static int integer_inside(struct walk *walk, u32 offset, u32 size, u32 total)
{
    if (size != 1 && size != 2 && size != 4 && size != 8)
        return wrong(walk, "an integer of an odd size");
    return (size <= total && offset <= total - size) || wrong(walk, "a place outside its buffer");
}

/* `count` digits at `offset` of a buffer of `total`. */
static int digits_inside(struct walk *walk, u32 offset, u32 count, u32 total)
{
    return (count && count <= PLAN_DIGITS_MAX && count <= total && offset <= total - count) ||
           wrong(walk, "digits outside their buffer");
}

static int holes(struct walk *walk, u32 count, u32 total, int with_digits)
{
    for (u32 i = 0; i < count; i++) {
        const u32 *w = words(walk, 2);
        if (!w || !reg(walk, w[1] >> 8))
            return 0;
        u32 size = w[1] & 0xff;
        if (with_digits && size & PLAN_HOLE_DECIMAL) {
            if (!digits_inside(walk, w[0], size & 0x7f, total))
                return 0;
        } else if (!integer_inside(walk, w[0], size, total)) {
            return 0;
        }
    }
    return 1;
}

static int format(struct walk *walk, u32 parts)
{
    u64 size = 1;
    for (u32 i = 0; i < parts; i++) {
        const u32 *w = words(walk, 1);
        if (!w)
            return 0;
        switch (w[0] & 0xff) {
        case ARG_REG:
            if (!reg(walk, w[0] >> 8))
                return 0;
            size += 20;
            break;
        case ARG_LITERAL: {
            const u32 *length = words(walk, 1);
            if (!length || !bytes(walk, w[0] >> 8, *length))
                return 0;
            size += *length;
            break;
        }
        default:
            return wrong(walk, "a part of a text of no known kind");
        }
    }
    return scratch(walk, size);
}

/* What follows the word of a BUFFER; `depth` bounds the recursion. */
static int buffer(struct walk *walk, u32 offset, u32 depth)
{
    const u32 *w = words(walk, 2);
    if (!w || !bytes(walk, offset, w[0]) || !scratch(walk, w[0]))
        return 0;
    u32 size = w[0], pointers = w[1] >> 16;
    if (!holes(walk, w[1] & 0xffff, size, 1))
        return 0;
    if (pointers && depth >= PLAN_POINTER_DEPTH)
        return wrong(walk, "buffers point too deeply");
    for (u32 i = 0; i < pointers; i++) {
        const u32 *p = words(walk, 2);
        if (!p || !integer_inside(walk, p[0], 8, size))
            return 0;
        if ((p[1] & 0xff) != ARG_BUFFER)
            return wrong(walk, "a pointer to something else than a buffer");
        if (!buffer(walk, p[1] >> 8, depth + 1))
            return 0;
    }
    return 1;
}

static int strings(struct walk *walk, u32 count)
{
    const u32 *w = words(walk, count);
    if (!w || !scratch(walk, 8 * ((u64)count + 1)))
        return 0;
    for (u32 i = 0; i < count; i++)
        if (!string(walk, w[i]))
            return 0;
    return 1;
}

static int out(struct walk *walk, u32 size)
{
    const u32 *w = words(walk, 1);
    if (!w || !scratch(walk, size) || !holes(walk, *w & 0xffff, size, 0))
        return 0;
    for (u32 i = 0, count = *w >> 16; i < count; i++) {
        const u32 *e = words(walk, 6);
        if (!e || !integer_inside(walk, e[0], e[1] & 0xff, size))
            return 0;
        if (e[1] >> 8 != ELSE_FAIL && e[1] >> 8 != ELSE_SKIP)
            return wrong(walk, "an expectation of no known kind");
    }
    return 1;
}

/* One argument, of any kind or of one of `kinds` (bits). */
static int argument(struct walk *walk, u32 kinds)
{
    const u32 *w = words(walk, 1);
    if (!w)
        return 0;
    u32 kind = *w & 0xff, value = *w >> 8;
    if (kind > 31 || !(kinds >> kind & 1))
        return wrong(walk, "an argument of no known kind");
    switch (kind) {
    case ARG_INT: return 1;
    case ARG_INT64: return words(walk, 2) != NULL;
    case ARG_REG: return reg(walk, value);
    case ARG_DATA: return string(walk, value);
    case ARG_FMT:
    case ARG_LENGTH: return format(walk, value);
    case ARG_BUFFER: return buffer(walk, value, 0);
    case ARG_STRINGS: return strings(walk, value);
    case ARG_OUT: return out(walk, value);
    default: return wrong(walk, "an argument of no known kind");
    }
}

#define BIT(kind) (1u << (kind))
#define TEXTS (BIT(ARG_DATA) | BIT(ARG_FMT))
#define ANY                                                                                      \
    (BIT(ARG_INT) | BIT(ARG_INT64) | BIT(ARG_REG) | TEXTS | BIT(ARG_LENGTH) | BIT(ARG_BUFFER) | \
     BIT(ARG_STRINGS) | BIT(ARG_OUT))

/* Counts of accepted and skipping errnos in one word, then the errnos. */
static int errnos(struct walk *walk, u32 counts)
{
    u32 count = (counts & 0xff) + (counts >> 8 & 0xff);
    if (counts >> 16 || count > PLAN_ERRNOS_MAX)
        return wrong(walk, "too many errnos");
    return words(walk, count) != NULL;
}

static int call(struct walk *walk)
{
    const u32 *w = words(walk, 3);
    if (!w)
        return 0;
    u32 nr = w[0] & 0xffff, count = w[0] >> 16 & 0xff, flags = w[0] >> 24;
    if (count > PLAN_ARGUMENTS_MAX)
        return wrong(walk, "a call of more than 6 arguments");
    /* They would make a process behind the executor's back; it has an operation for that. */
    if (nr == NR_clone || nr == NR_clone3)
        return wrong(walk, "a clone as a call");
    if (!reg_optional(walk, w[2] & 0xffff) || !reg_optional(walk, w[2] >> 16))
        return 0;
    if ((flags & CALL_HAS_RESULT) && !words(walk, 2))
        return 0;
    if (!errnos(walk, w[1]))
        return 0;
    if ((flags & CALL_CLOSES) && (!count || walk->at == walk->end || (*walk->at & 0xff) != ARG_REG))
        return wrong(walk, "it closes what is no register");
    for (u32 i = 0; i < count; i++)
        if (!argument(walk, ANY))
            return 0;
    return 1;
}

static int spawn(struct walk *walk)
{
    const u32 *w = words(walk, 4);
    if (!w)
        return 0;
    u32 argv = w[0] & 0xffff, env = w[0] >> 16, success = w[1] & 0xffff, stdin = w[1] >> 16;
    if (!argv || stdin > STDIN_ARGUMENT)
        return wrong(walk, "a helper without a name");
    if (!scratch(walk, 8 * ((u64)argv + env + 2)))
        return 0;
    for (u32 i = 0; i < argv; i++)
        if (!argument(walk, TEXTS))
            return 0;
    const u32 *variables = words(walk, (u64)env + success);
    if (!variables)
        return 0;
    for (u32 i = 0; i < env; i++)
        if (!string(walk, variables[i]))
            return 0;
    return stdin == STDIN_NONE || argument(walk, BIT(ARG_FMT) | BIT(ARG_BUFFER));
}

/* Which registers and syncs stand where in an operation's own words. */
static int operation(struct walk *walk, u32 op, enum track track, int undoing)
{
    const u32 *w;
    if (undoing && op != OP_CALL && op != OP_NETLINK && op != OP_SPAWN)
        return wrong(walk, "an operation that cannot undo anything");
    switch ((enum op)op) {
    case OP_CALL: return call(walk);
    case OP_CLONE:
        w = words(walk, 9);
        if (!w || !reg(walk, w[4]) || !reg(walk, w[5]) || !reg_optional(walk, w[6]))
            return 0;
        if ((w[0] & CLONE_BIT_HOLD) && ((w[0] & CLONE_BIT_HAND_OVER) || track != PARENT))
            return wrong(walk, "a process that only holds is the parent's");
        if (!!(w[0] & CLONE_BIT_HAND_OVER) != (track == CHILD))
            return wrong(walk, "the child's track hands over in a clone, the parent's does not");
        if ((w[0] & CLONE_BIT_HAND_OVER) && (!w[6] || !w[8]))
            return wrong(walk, "a clone that hands over needs a sync and a channel");
        return sync_name(walk, w[7], w[8]);
    case OP_SIGNAL:
        w = words(walk, 4);
        return w && reg(walk, w[0]) && reg_optional(walk, w[1]) && sync_name(walk, w[2], w[3]);
    case OP_WAIT:
        w = words(walk, 6);
        return w && reg(walk, w[0]) && reg_optional(walk, w[1]) && reg_optional(walk, w[2]) &&
               sync_name(walk, w[4], w[5]);
    case OP_SEND_FD:
        w = words(walk, 4);
        return w && reg(walk, w[0]) && reg(walk, w[1]) && sync_name(walk, w[2], w[3]);
    case OP_RECEIVE_FD:
        w = words(walk, 6);
        return w && reg(walk, w[0]) && reg(walk, w[1]) && reg_optional(walk, w[2]) &&
               reg_optional(walk, w[3]) && sync_name(walk, w[4], w[5]);
    case OP_NETLINK:
        w = words(walk, 2);
        return w && reg(walk, w[0]) && errnos(walk, w[1]) && argument(walk, BIT(ARG_BUFFER));
    case OP_SPAWN:
        return track == PARENT ? spawn(walk) : wrong(walk, "a helper of the child's track");
    case OP_INIT:
        w = words(walk, 1);
        return w && reg(walk, w[0]) &&
               (track == CHILD || wrong(walk, "an init is part of the child's track"));
    case OP_AWAIT:
        w = words(walk, 10);
        return w && reg(walk, w[0]) && reg(walk, w[1]) && reg(walk, w[2]) && reg(walk, w[3]) &&
               reg_optional(walk, w[4]) &&
               (track == PARENT || wrong(walk, "an await is part of the parent's track"));
    }
    return wrong(walk, "an operation it does not know");
}

static int step(struct walk *walk, enum track track, int undoing)
{
    const u32 *first = walk->at;
    const u32 *w = words(walk, 1);
    if (!w)
        return 0;
    u32 length = step_words(w);
    if (!length || length > (u64)(walk->end - first))
        return wrong(walk, "a step is cut");
    struct walk inside = *walk;
    inside.end = first + length;
    inside.scratch = 0;
    int sound = operation(&inside, step_op(w), track, undoing);
    if (sound && inside.at != inside.end)
        sound = wrong(&inside, "a step is longer than its words");
    if (inside.scratch > walk->most)
        walk->most = (u32)inside.scratch;
    walk->wrong = inside.wrong;
    walk->at = first + length;
    return sound;
}

static int undo(struct walk *walk, u32 at)
{
    const struct plan *plan = walk->plan;
    struct walk inside = *walk;
    if (at >= (u64)(plan->undo_end - plan->undo))
        return wrong(walk, "an undo outside of the plan");
    inside.at = plan->undo + at + 1;
    inside.end = plan->undo_end;
    for (u32 left = plan->undo[at]; left; left--)
        if (!step(&inside, PARENT, 1)) {
            walk->wrong = inside.wrong;
            return 0;
        }
    walk->most = inside.most;
    return 1;
}

static int track(struct walk *walk, enum track which, u32 steps)
{
    u32 counted = 0, actions = 0;
    int clones = 0;
    while (walk->at != walk->end) {
        const u32 *w = words(walk, 4);
        if (!w || (w[0] & 0xff) != PLAN_WORD_ACTION) {
            /* The stream is padded to a multiple of 8 bytes; an action there would go on behind it. */
            if (walk->end - walk->at == 1 && !*walk->at && counted == steps)
                break;
            return wrong(walk, "a track is cut");
        }
        if (w[0] >> 8 & ~(ACTION_NEW_HEIR >> 8 | 0xffu) || (w[0] >> 8 & 0xff) > WHEN_FAILURE ||
            (w[0] & ACTION_NEW_HEIR && (which == CHILD || !w[2])))
            return wrong(walk, "an action with bits it does not know");
        /* Each is remembered when it is done: as many as there is room for. */
        if (w[1] >= walk->plan->header->actions || actions++ >= walk->plan->header->actions)
            return wrong(walk, "an action it does not have");
        if (w[3] != PLAN_NO_UNDO && (which == CHILD || !undo(walk, w[3])))
            return wrong(walk, "only the parent's actions can be undone");
        for (u32 i = 0; i < w[2]; i++, counted++) {
            const u32 *at = walk->at;
            if (!step(walk, which, 0))
                return 0;
            if (which == PARENT && step_op(at) == OP_CLONE && !(at[1] & CLONE_BIT_HOLD) && clones++)
                return wrong(walk, "the parent's track clones twice");
        }
    }
    return counted == steps || wrong(walk, "its steps are not as many as it says");
}

static const char *header(const struct plan_header *h, size_t size)
{
    if (size < sizeof *h || memcmp(h->magic, PLAN_MAGIC, sizeof h->magic))
        return "it does not start as one";
    if (h->format != PLAN_FORMAT)
        return "it is of another format";
    if (h->size < sizeof *h || h->size > PLAN_SIZE_MAX || h->size > size || h->size % 8)
        return "it is cut";
    if (h->machine != PLAN_MACHINE)
        return "it is for another machine";
    if (plan_checksum((const u8 *)h + PLAN_CHECKED_FROM, h->size - PLAN_CHECKED_FROM) != h->checksum)
        return "its checksum is another";
    if (h->registers >= PLAN_REGISTERS_MAX)
        return "it has too many registers";
    return NULL;
}

static int section(const struct plan_header *h, u32 offset, u32 size)
{
    return !(offset % 8) && offset >= sizeof *h && offset <= h->size && size <= h->size - offset;
}

const char *plan_load(struct plan *plan, const void *at, size_t size)
{
    const struct plan_header *h = at;
    const u8 *base = at;
    const char *why = header(h, size);
    if (why)
        return why;
    if (!section(h, h->parent_offset, h->parent_size) || !section(h, h->child_offset, h->child_size) ||
        !section(h, h->undo_offset, h->undo_size) || !section(h, h->kinds_offset, h->registers) ||
        !section(h, h->data_offset, h->data_size) || (h->parent_size | h->child_size | h->undo_size) % 4)
        return "a part of it lies outside";
    u32 most_steps = h->size / 4;
    if (h->parent_steps > most_steps || h->child_steps > most_steps || h->actions > most_steps)
        return "its counts are beyond its size";
    *plan = (struct plan){
        .header = h,
        .parent = (const u32 *)(base + h->parent_offset),
        .parent_end = (const u32 *)(base + h->parent_offset + h->parent_size),
        .child = (const u32 *)(base + h->child_offset),
        .child_end = (const u32 *)(base + h->child_offset + h->child_size),
        .undo = (const u32 *)(base + h->undo_offset),
        .undo_end = (const u32 *)(base + h->undo_offset + h->undo_size),
        .kinds = base + h->kinds_offset,
        .data = base + h->data_offset,
    };
    struct walk walk = {.plan = plan, .at = plan->parent, .end = plan->parent_end};
    int sound = track(&walk, PARENT, h->parent_steps);
    walk.at = plan->child;
    walk.end = plan->child_end;
    sound = sound && track(&walk, CHILD, h->child_steps);
    sound = sound && reg_optional(&walk, h->reports_to) && reg_optional(&walk, h->listens_on) &&
            reg_optional(&walk, h->terminal) && string(&walk, h->name);
    plan->scratch = walk.most;
    return sound ? NULL : walk.wrong;
}
