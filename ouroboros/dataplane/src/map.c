#define _GNU_SOURCE
#include "map.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

unsigned map_generation = 1;

static void forked_child(void)
{
        map_generation++;
}

__attribute__((constructor)) static void watch_forks(void)
{
        pthread_atfork(NULL, NULL, forked_child);
}

int map_create(const char *name, size_t size)
{
        int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        int error;

        if (fd < 0)
                return -errno;
        if (ftruncate(fd, (off_t)size) == 0 &&
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
                return fd;
        error = errno;
        close(fd);
        return -error;
}

void *map_shared(int fd, size_t least, size_t *size)
{
        struct stat st;
        void *address;
        int seals = fcntl(fd, F_GET_SEALS);

        if (seals < 0 || fstat(fd, &st) < 0)
                return NULL;
        if (!(seals & F_SEAL_SHRINK) || st.st_size < (off_t)least) {
                errno = EINVAL;
                return NULL;
        }
        *size = (size_t)st.st_size;
        address = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (address == MAP_FAILED)
                return NULL;
        madvise(address, *size, MADV_DONTFORK);
        return address;
}

void map_release(void *address, size_t size)
{
        munmap(address, size);
}
