#define _GNU_SOURCE
#include "map.h"

#include "layout.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

unsigned map_generation = 1;

static void forked_child(void)
{
        map_generation++;
}

__attribute__((constructor)) static void watch_forks(void)
{
        pthread_atfork(NULL, NULL, forked_child);
}

/* ---- memory that the system cannot allocate ---- */

/* A mapping. The signal handler reads the list without a lock, so an entry is reused and never freed. */
struct mapping {
        _Atomic uintptr_t start; /* 0: unused */
        _Atomic size_t size;
        struct mapping *next;
        struct mapping *next_unused;
};

static struct mapping *_Atomic mappings;
static struct mapping *unused;
static pthread_mutex_t mappings_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool surviving;
static _Atomic uint64_t lost;

static bool add_mapping(void *address, size_t size)
{
        struct mapping *entry;

        if (!atomic_load(&surviving))
                return true;
        pthread_mutex_lock(&mappings_lock);
        entry = unused;
        if (entry != NULL) {
                unused = entry->next_unused;
        } else {
                entry = calloc(1, sizeof *entry);
                if (entry != NULL) {
                        entry->next = atomic_load(&mappings);
                        atomic_store(&mappings, entry);
                }
        }
        if (entry != NULL) {
                atomic_store(&entry->size, size);
                atomic_store(&entry->start, (uintptr_t)address);
        }
        pthread_mutex_unlock(&mappings_lock);
        return entry != NULL;
}

static void remove_mapping(const void *address)
{
        pthread_mutex_lock(&mappings_lock);
        for (struct mapping *entry = atomic_load(&mappings); entry != NULL; entry = entry->next)
                if (atomic_load(&entry->start) == (uintptr_t)address) {
                        atomic_store(&entry->start, 0);
                        entry->next_unused = unused;
                        unused = entry;
                        break;
                }
        pthread_mutex_unlock(&mappings_lock);
}

/*
 * The instruction is repeated after this handler: on private memory, or once more with the default action, which ends
 * the process.
 */
static void memory_lost(int number, siginfo_t *info, void *context)
{
        uintptr_t at = (uintptr_t)info->si_addr;
        int saved = errno;

        (void)context;
        for (struct mapping *entry = atomic_load(&mappings); entry != NULL; entry = entry->next) {
                uintptr_t start = atomic_load(&entry->start);
                size_t size = atomic_load(&entry->size);

                if (start == 0 || at < start || at - start >= size)
                        continue;
                if (mmap((void *)start, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
                    MAP_FAILED)
                        break;
                atomic_fetch_add(&lost, 1);
                errno = saved;
                return;
        }
        signal(number, SIG_DFL);
        errno = saved;
}

int map_survive(void)
{
        struct sigaction action = {.sa_sigaction = memory_lost, .sa_flags = SA_SIGINFO};

        atomic_store(&surviving, true);
        return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

uint64_t map_lost(void)
{
        return atomic_load(&lost);
}

/* ---- mapping ---- */

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

void *map_shared(int fd, size_t min_size, size_t *size)
{
        struct stat st;
        void *address;
        int seals = fcntl(fd, F_GET_SEALS);

        if (seals < 0 || fstat(fd, &st) < 0)
                return NULL;
        if (!(seals & F_SEAL_SHRINK) || st.st_size < (off_t)min_size) {
                errno = EINVAL;
                return NULL;
        }
        *size = (size_t)st.st_size;
        address = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (address == MAP_FAILED)
                return NULL;
        madvise(address, *size, MADV_DONTFORK);
        if (!add_mapping(address, *size)) {
                munmap(address, *size);
                errno = ENOMEM;
                return NULL;
        }
        return address;
}

void map_release(void *address, size_t size)
{
        remove_mapping(address);
        munmap(address, size);
}

bool map_populate(void *address, size_t size)
{
        uintptr_t first = (uintptr_t)address / PAGE * PAGE;
        uintptr_t end = ((uintptr_t)address + size + PAGE - 1) / PAGE * PAGE;

        return madvise((void *)first, end - first, MADV_POPULATE_WRITE) == 0 || errno == EINVAL;
}
