/* Memory, time and text without a C library. */
#include "sys.h"

#include <linux/mman.h>
#include <linux/sched.h>
#include <linux/time.h>

#ifndef NSRUN_HOSTED
/* The barrier keeps the compiler from making a loop into a call of the very function it is in. */
#define BARRIER __asm__ volatile("" ::: "memory")

void *memcpy(void *to, const void *from, size_t size)
{
    char *t = to;
    const char *f = from;
    for (; size >= 8; size -= 8, t += 8, f += 8) {
        u64 word;
        __builtin_memcpy(&word, f, 8);
        __builtin_memcpy(t, &word, 8);
        BARRIER;
    }
    for (; size; size--) {
        *t++ = *f++;
        BARRIER;
    }
    return to;
}

void *memmove(void *to, const void *from, size_t size)
{
    char *t = to;
    const char *f = from;
    if (t <= f || t >= f + size)
        return memcpy(to, from, size);
    while (size--) {
        t[size] = f[size];
        BARRIER;
    }
    return to;
}

void *memset(void *at, int value, size_t size)
{
    char *t = at;
    u64 word = 0x0101010101010101u * (u8)value;
    for (; size >= 8; size -= 8, t += 8) {
        __builtin_memcpy(t, &word, 8);
        BARRIER;
    }
    for (; size; size--) {
        *t++ = (char)value;
        BARRIER;
    }
    return at;
}

int memcmp(const void *one, const void *other, size_t size)
{
    const u8 *a = one, *b = other;
    for (; size; size--, a++, b++)
        if (*a != *b)
            return *a < *b ? -1 : 1;
    return 0;
}

size_t strlen(const char *text)
{
    size_t size = 0;
    while (text[size]) {
        size++;
        BARRIER;
    }
    return size;
}
#endif

void *sys_memory(size_t size, int shared)
{
    u64 flags = MAP_ANONYMOUS | MAP_POPULATE | (shared ? MAP_SHARED : MAP_PRIVATE);
    i64 at = SYS6(mmap, 0, size ? size : 1, PROT_READ | PROT_WRITE, flags, -1, 0);
    return at < 0 && at > -4096 ? NULL : (void *)at;
}

static i64 clock(int which)
{
    struct __kernel_timespec now = {0, 0};
    SYS2(clock_gettime, which, &now);
    return now.tv_sec * 1000000000 + now.tv_nsec;
}

i64 sys_monotonic(void) { return clock(CLOCK_MONOTONIC); }
i64 sys_realtime(void) { return clock(CLOCK_REALTIME); }

i64 sys_clone(u64 flags, int exit_signal, int *pidfd)
{
    /* Without a stack of its own the new process goes on on a copy of the caller's. */
    struct clone_args args = {
        .flags = flags | (pidfd ? CLONE_PIDFD : 0),
        .pidfd = (u64)pidfd,
        .exit_signal = (u64)exit_signal,
    };
    return SYS2(clone3, &args, sizeof args);
}

void text_bytes(struct text *text, const char *bytes, size_t size)
{
    size_t room = text->size - text->used;
    if (size > room)
        size = room;
    memcpy(text->at + text->used, bytes, size);
    text->used += size;
}

void text_string(struct text *text, const char *string) { text_bytes(text, string, strlen(string)); }

void text_number(struct text *text, i64 number)
{
    char digits[20];
    size_t at = sizeof digits;
    u64 left = number < 0 ? 0 - (u64)number : (u64)number;
    do
        digits[--at] = (char)('0' + left % 10);
    while (left /= 10);
    if (number < 0)
        text_string(text, "-");
    text_bytes(text, digits + at, sizeof digits - at);
}

void text_write(const struct text *text, int fd)
{
    size_t at = 0;
    while (at < text->used) {
        i64 written = SYS3(write, fd, text->at + at, text->used - at);
        if (written == -EINTR)
            continue;
        if (written <= 0)
            return;
        at += (size_t)written;
    }
}
