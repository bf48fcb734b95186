#define _GNU_SOURCE
#include "events.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "crash.h"
#include "map.h"
#include "wait.h"

int events_create(const char *name)
{
        struct events_shm *shm;
        size_t size;
        int fd = map_create(name, sizeof *shm);

        if (fd < 0)
                return fd;
        shm = map_shared(fd, sizeof *shm, &size);
        if (shm == NULL) {
                int error = errno;

                close(fd);
                return -error;
        }
        shm->version = LAYOUT_VERSION;
        shm->magic = EVENTS_MAGIC;
        map_release(shm, size);
        return fd;
}

struct events *events_map(int fd, int eventfd)
{
        struct events *events = calloc(1, sizeof *events);

        if (events == NULL)
                return NULL;
        events->eventfd = eventfd;
        events->generation = map_generation;
        events->shm = map_shared(fd, sizeof *events->shm, &events->size);
        if (events->shm == NULL)
                goto fail;
        if (events->shm->magic != EVENTS_MAGIC || events->shm->version != LAYOUT_VERSION) {
                errno = EINVAL;
                goto fail;
        }
        return events;
fail:
        if (events->shm != NULL)
                map_release(events->shm, events->size);
        free(events);
        return NULL;
}

void events_unmap(struct events *events)
{
        if (events->generation == map_generation)
                map_release(events->shm, events->size);
        free(events);
}

static void wake(struct events *events)
{
        uint32_t sleepers;

        if (atomic_load_explicit(&events->shm->sleepers, memory_order_seq_cst) == 0)
                return;
        sleepers = atomic_exchange_explicit(&events->shm->sleepers, 0, memory_order_seq_cst);
        CRASH(11);
        /* seq grows after the flag has gone: who asked in time, and is not asleep yet, sees that it must not sleep. */
        atomic_fetch_add_explicit(&events->shm->seq, 1, memory_order_seq_cst);
        if (sleepers & SLEEP_FUTEX)
                wait_wake(&events->shm->seq);
        if (sleepers & SLEEP_EVENTFD)
                wait_ring_eventfd(events->eventfd);
}

void events_force(struct events *events)
{
        atomic_fetch_add_explicit(&events->shm->seq, 1, memory_order_seq_cst);
        wait_wake(&events->shm->seq);
        wait_ring_eventfd(events->eventfd);
}

void events_raise(struct events *events, uint32_t fd)
{
        uint32_t bit = fd - FD_BASE;

        if (bit >= EVENT_BITS || events->generation != map_generation)
                return;
        atomic_fetch_or_explicit(&events->shm->pending[bit / 64], 1ull << (bit % 64), memory_order_seq_cst);
        CRASH(10);
        wake(events);
}

void events_kick(struct events *events)
{
        if (events->generation == map_generation)
                wake(events);
}
