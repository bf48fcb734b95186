#define _GNU_SOURCE
#include "events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crash.h"
#include "map.h"
#include "wait.h"

#define DOORBELL_BATCH 64 /* signals taken together: usually there is one */

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

struct events *events_map(int fd, int doorbell)
{
        struct events *events = calloc(1, sizeof *events);

        if (events == NULL)
                return NULL;
        events->doorbell = -1;
        events->own = -1;
        events->generation = map_generation;
        events->holders = 1;
        events->shm = map_shared(fd, sizeof *events->shm, &events->size);
        if (events->shm == NULL)
                goto fail;
        if (events->shm->magic != EVENTS_MAGIC || events->shm->version != LAYOUT_VERSION) {
                errno = EINVAL;
                goto fail;
        }
        if (doorbell >= 0) {
                events->doorbell = fcntl(doorbell, F_DUPFD_CLOEXEC, 0); /* kept for as long as the region */
                if (events->doorbell < 0)
                        goto fail;
        }
        return events;
fail:
        if (events->shm != NULL)
                map_release(events->shm, events->size);
        free(events);
        return NULL;
}

struct events *events_hold(struct events *events)
{
        if (events != NULL)
                map_hold(&events->holders);
        return events;
}

void events_unmap(struct events *events)
{
        if (events == NULL || !map_let_go(&events->holders))
                return;
        if (events->generation == map_generation) { /* in a forked child the descriptor's number may be reused */
                map_release(events->shm, events->size);
                if (events->doorbell >= 0)
                        close(events->doorbell);
        }
        free(events);
}

/* Never blocks, whatever other processes do with the socket; when it is full, the owner is signalled already. */
static void signal_doorbell(struct events *events)
{
        if (events->own >= 0)
                wait_signal_eventfd(events->own);
        else if (send(events->doorbell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                return;
}

void events_drain_doorbell(struct events *events)
{
        char octet;

        for (int i = 0; i < DOORBELL_BATCH && recv(events->doorbell, &octet, sizeof octet, MSG_DONTWAIT) >= 0; i++)
                continue;
}

static void wake(struct events *events)
{
        uint32_t sleepers;

        if (atomic_load_explicit(&events->shm->sleepers, memory_order_seq_cst) == 0)
                return;
        sleepers = atomic_exchange_explicit(&events->shm->sleepers, 0, memory_order_seq_cst);
        CRASH(11);
        /*
         * seq grows after the flag is cleared: a thread that set the flag, and is not asleep yet, sees that it must
         * not sleep.
         */
        atomic_fetch_add_explicit(&events->shm->seq, 1, memory_order_seq_cst);
        if (sleepers & SLEEP_FUTEX)
                wait_wake(&events->shm->seq);
        if (sleepers & SLEEP_DOORBELL)
                signal_doorbell(events);
}

static bool set_bit(struct events *events, uint32_t fd)
{
        uint32_t bit = fd - FD_BASE;

        if (bit >= EVENT_BITS || events->generation != map_generation)
                return false;
        atomic_fetch_or_explicit(&events->shm->pending[bit / 64], 1ull << (bit % 64), memory_order_seq_cst);
        return true;
}

void events_raise(struct events *events, uint32_t fd)
{
        if (!set_bit(events, fd))
                return;
        CRASH(10);
        wake(events);
}

void events_raise_always(struct events *events, uint32_t fd)
{
        if (!set_bit(events, fd))
                return;
        atomic_store_explicit(&events->shm->sleepers, 0, memory_order_seq_cst);
        atomic_fetch_add_explicit(&events->shm->seq, 1, memory_order_seq_cst);
        wait_wake(&events->shm->seq);
        signal_doorbell(events);
}

void events_wake(struct events *events)
{
        if (events->generation == map_generation)
                wake(events);
}
