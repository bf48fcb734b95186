/*
 * events: the event region of a process: a bitmap over its flow descriptors and an eventcount
 * (docs/design/shared-memory.md).
 * A bit means "examine this flow"; the flow itself holds the event (packets in the ring: a level; other events:
 * latched in end_shm.events). So the region cannot overflow, and a spurious bit costs one examination. An application
 * has one region; an IPCP has one for each trust domain, so that no process can clear the bits of another domain.
 */
#ifndef OUROBOROS_EVENTS_H
#define OUROBOROS_EVENTS_H

#include <stddef.h>

#include "layout.h"

/*
 * The doorbell wakes a thread that sleeps in poll(2). It is a pair of datagram sockets: the owner has one, all other
 * processes share the other. An eventfd would not do: any process that holds one could make it blocking, and full,
 * for all the others, whatever their user.
 */
struct events {
        struct events_shm *shm;
        size_t size;
        int doorbell; /* the owner's socket becomes readable when another process sends; -1: none */
        int own;      /* an eventfd with which the owner wakes itself; -1: none */
        unsigned generation;
        _Atomic uint32_t holders; /* map.h */
};

int events_create(const char *name);

/*
 * The caller keeps both descriptors, and is the first holder; doorbell -1: no thread sleeps in poll(2). NULL with
 * errno set.
 */
struct events *events_map(int fd, int doorbell);
struct events *events_hold(struct events *events); /* NULL stays NULL */
void events_unmap(struct events *events);          /* once for each holder: the last unmaps it. NULL: no effect */

/* Set the bit of a descriptor and wake the owner. No effect when the descriptor is out of range. */
void events_raise(struct events *events, uint32_t fd);

/*
 * The same, and wake every thread that sleeps even if the sleepers' flag is clear: for the IRMd, since a process may have
 * been killed between clearing the flag and waking the sleepers.
 */
void events_raise_always(struct events *events, uint32_t fd);

/* Empty the owner's socket after it became readable. Never blocks. */
void events_drain_doorbell(struct events *events);

/* Wake every thread that sleeps on the region, without an event. */
void events_wake(struct events *events);

/* Take the bits of word `w` in `mask`. */
static inline uint64_t events_take(struct events *events, uint32_t w, uint64_t mask)
{
        uint64_t bits = atomic_load_explicit(&events->shm->pending[w], memory_order_seq_cst) & mask;

        if (bits != 0)
                atomic_fetch_and_explicit(&events->shm->pending[w], ~bits, memory_order_seq_cst);
        return bits;
}

#endif
