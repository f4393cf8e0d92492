/* The kernel, called without a C library: system calls and the few functions on memory.
 *
 * A system call returns its result, or -errno (syscall(2), "Architecture calling conventions").
 * With a C library (the builds for fuzzing) memory functions are the library's.
 */
#ifndef NSRUN_SYS_H
#define NSRUN_SYS_H

#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <stddef.h>
#include <stdint.h>

typedef int64_t i64;
typedef uint64_t u64;
typedef uint32_t u32;
typedef uint8_t u8;

#define UNUSED __attribute__((unused))
#define NORETURN __attribute__((noreturn))
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#if defined(NSRUN_HOSTED)
/* A kernel that is none: native/fuzz_plan.c. */
i64 syscall6(i64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);
NORETURN void sys_exit(int status);
#elif defined(__x86_64__)
static inline i64 syscall6(i64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    i64 result;
    register u64 r10 __asm__("r10") = d;
    register u64 r8 __asm__("r8") = e;
    register u64 r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
static inline i64 syscall6(i64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    register i64 x8 __asm__("x8") = nr;
    register u64 x0 __asm__("x0") = a;
    register u64 x1 __asm__("x1") = b;
    register u64 x2 __asm__("x2") = c;
    register u64 x3 __asm__("x3") = d;
    register u64 x4 __asm__("x4") = e;
    register u64 x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return (i64)x0;
}
#else
#error "nsrun knows x86_64 and aarch64"
#endif

#define SYS0(name) syscall6(__NR_##name, 0, 0, 0, 0, 0, 0)
#define SYS1(name, a) syscall6(__NR_##name, (u64)(a), 0, 0, 0, 0, 0)
#define SYS2(name, a, b) syscall6(__NR_##name, (u64)(a), (u64)(b), 0, 0, 0, 0)
#define SYS3(name, a, b, c) syscall6(__NR_##name, (u64)(a), (u64)(b), (u64)(c), 0, 0, 0)
#define SYS4(name, a, b, c, d) \
    syscall6(__NR_##name, (u64)(a), (u64)(b), (u64)(c), (u64)(d), 0, 0)
#define SYS5(name, a, b, c, d, e) \
    syscall6(__NR_##name, (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), 0)
#define SYS6(name, a, b, c, d, e, f) \
    syscall6(__NR_##name, (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), (u64)(f))

#if !defined(NSRUN_HOSTED)
/* A filter that is set already may refuse both calls: what is left to end by is a fault. */
static inline NORETURN void sys_exit(int status)
{
    SYS1(exit_group, status);
    SYS1(exit, status);
    for (;;)
        __builtin_trap();
}
#endif

#if defined(NSRUN_HOSTED)
#include <string.h>
#else
void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *at, int value, size_t size);
int memcmp(const void *one, const void *other, size_t size);
size_t strlen(const char *text);
#endif

/* Memory of zeros that is never given back; NULL when there is none. */
void *sys_memory(size_t size, int shared);
/* CLOCK_MONOTONIC and CLOCK_REALTIME in nanoseconds. */
i64 sys_monotonic(void);
i64 sys_realtime(void);
/* A moment some nanoseconds after another; the last one there is where that is beyond it. */
static inline i64 sys_after(i64 moment, i64 nanoseconds)
{
    if (nanoseconds < 0)
        return moment;
    return nanoseconds > INT64_MAX - moment ? INT64_MAX : moment + nanoseconds;
}

/* clone3(2) as fork(2): 0 in the new process, its pid in the caller, or -errno. With `pidfd` that
 * takes a pidfd, close-on-exec. */
i64 sys_clone(u64 flags, int exit_signal, int *pidfd);

/* Text, cut where it does not fit; `used` counts what is in it. */
struct text {
    char *at;
    size_t size;
    size_t used;
};
void text_bytes(struct text *text, const char *bytes, size_t size);
void text_string(struct text *text, const char *string);
void text_number(struct text *text, i64 number);
/* Writes all of it to a descriptor; what cannot be written is lost. */
void text_write(const struct text *text, int fd);

#endif
