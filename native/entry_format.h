/* Made by tools/gen_plan_h.py from nsrun/plan/entry.py and nsrun/kernel/depend.py; do not edit.
 * What the words mean is said there. */
#ifndef NSRUN_ENTRY_FORMAT_H
#define NSRUN_ENTRY_FORMAT_H

#include <asm/unistd.h>
#include <stdint.h>

#define ENTRY_MAGIC "nsrunent"
#define ENTRY_FORMAT 1u
#define ENTRY_CHECKED_FROM 24u
#define ENTRY_SIZE_MAX 1048576u
#define ENTRY_SLOTS 4u
#define ENTRY_CONTENT_MAX 4096u
#define ENTRY_IGNORED_BY_PYTHON 16781312u

struct entry_header {
    unsigned char magic[8];
    uint32_t format;
    uint32_t size;
    uint64_t checksum;
    uint32_t key_offset;
    uint32_t key_size;
    uint32_t depends_offset;
    uint32_t depends;
};

struct entry_depend {
    uint64_t ino;
    uint64_t size;
    int64_t mtime;
    int64_t ctime;
    uint32_t kind;
    uint32_t mask;
    uint32_t path;
    uint32_t root;
    uint32_t text;
    uint32_t data;
    uint32_t data_size;
    uint32_t error;
    uint32_t dev_major;
    uint32_t dev_minor;
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
    uint32_t mtime_nsec;
    uint32_t ctime_nsec;
    uint32_t reserved;
};

enum depend_kind {
    DEPEND_KIND_STAT = 1,
    DEPEND_KIND_CONTENT = 2,
    DEPEND_KIND_LINES = 3,
    DEPEND_KIND_ENV = 4,
    DEPEND_KIND_RELEASE = 5,
    DEPEND_KIND_KERNEL = 6,
    DEPEND_KIND_MACHINE = 7,
    DEPEND_KIND_IGNORED = 8,
    DEPEND_KIND_LIMITS = 9,
};
#define DEPEND_IDENTITY 1u
#define DEPEND_MODE 2u
#define DEPEND_OWNER 4u
#define DEPEND_CONTENT 8u
#define DEPEND_TYPE 16u
#define DEPEND_NOFOLLOW 32u
#endif
