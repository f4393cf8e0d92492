/* The files and sockets of a container's folder. */
#include "monitor.h"

#include <linux/socket.h>
#include <linux/un.h>

#define SOCK_NONBLOCK O_NONBLOCK
#define SOCK_CLOEXEC O_CLOEXEC

void folder_write(const char *name, const char *temporary, const struct text *content)
{
    i64 flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
    i64 fd = SYS4(openat, the.folder, temporary, flags, 0600);
    if (fd < 0)
        return;
    text_write(content, (int)fd);
    SYS2(ftruncate, fd, content->used);
    SYS1(close, fd);
    SYS5(renameat2, the.folder, temporary, the.folder, name, 0);
}

int folder_reserve(const char *temporary)
{
    char blank[FILE_BYTES];
    struct text text = {.at = blank, .size = sizeof blank};
    memset(blank, ' ', sizeof blank);
    i64 flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
    int fd = must("write in the container's folder",
                  SYS4(openat, the.folder, temporary, flags, 0600));
    text.used = sizeof blank;
    must("write in the container's folder", SYS3(write, fd, text.at, text.used));
    return fd;
}

int folder_socket(const char *name, int kind)
{
    struct sockaddr_un address = {.sun_family = 1 /* AF_UNIX */};
    size_t length = strlen(name);
    memcpy(address.sun_path, name, length);
    SYS3(unlinkat, the.folder, name, 0);
    int fd = must("make a socket", SYS3(socket, 1, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    /* The folder is the working directory: a path has no room in an address (unix(7)). */
    must("name a socket", SYS3(bind, fd, &address, sizeof address.sun_family + length + 1));
    return fd;
}

void folder_remove(void)
{
    static const char *const names[] = {"container.json", "plan", "joined", "exit",
                                        "lock",           "log",  "lost",   ".pid", "oom"};
    for (size_t i = 0; i < COUNT(names); i++)
        SYS3(unlinkat, the.folder, names[i], 0);
    for (int rotated = 1; rotated < the.log.files_max; rotated++) {
        char name[16] = "log.";
        struct text text = {.at = name + 4, .size = sizeof name - 5};
        text_number(&text, rotated);
        SYS3(unlinkat, the.folder, name, 0);
    }
    /* The folders above, as long as they are empty. */
    const char *const folders[] = {the.name, "containers", "nsrun"};
    i64 at = the.folder;
    for (size_t i = 0; i < COUNT(folders); i++) {
        i64 above = SYS4(openat, at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
        if (above < 0 || SYS3(unlinkat, above, folders[i], 0x200 /* AT_REMOVEDIR */) < 0)
            return;
        at = above;
    }
}
