/*
 * events: the event region of a process: a bitmap over its flow descriptors and an eventcount (docs/design/shared-memory.md).
 *
 * A bit says "look at this flow"; what there is to see lies in the flow (packets in the ring: a level; other events:
 * latched in end_shm.events). So it cannot overflow, and a bit set without a reason costs one look.
 * An application has one region; an IPCP one for each trust domain, so that nobody can clear another's bits.
 */
#ifndef OUROBOROS_EVENTS_H
#define OUROBOROS_EVENTS_H

#include <stddef.h>

#include "layout.h"

/*
 * Who sleeps in poll(2) is rung through a pair of datagram sockets: the owner has one of them, all others share the other. Not
 * through an eventfd: whoever has that one could make it blocking, and full, for all who ring it, of whatever user they are.
 */
struct events {
        struct events_shm *shm;
        size_t size;
        int doorbell; /* the socket: the owner's becomes readable when another one sends something */
        int own;  /* an eventfd by which the owner rings himself; -1: there is none */
        unsigned generation;
        _Atomic uint32_t holders; /* map.h */
};

int events_create(const char *name);

/* Both descriptors stay the caller's, who is the first holder; -1: nobody sleeps in poll(2). NULL with errno set. */
struct events *events_map(int fd, int doorbell);
struct events *events_hold(struct events *events); /* NULL stays NULL */
void events_unmap(struct events *events);          /* once for each holder: the last unmaps it. NULL: nothing */

/* Set the bit of a descriptor and wake the owner. Out of range: nothing. */
void events_raise(struct events *events, uint32_t fd);

/* The owner has been rung: the socket is not readable any more. Never blocks. */
void events_drain_doorbell(struct events *events);

/* Wake every thread that sleeps on the region, without an event. */
void events_wake(struct events *events);

/*
 * Wake them whether or not they have asked: for the IRMd, behind a process that may have been killed after it had
 * cleared the sleepers' flag and before it woke them.
 */
void events_wake_always(struct events *events);

/* Take the bits of word `w` that `mask` wants. */
static inline uint64_t events_take(struct events *events, uint32_t w, uint64_t mask)
{
        uint64_t bits = atomic_load_explicit(&events->shm->pending[w], memory_order_seq_cst) & mask;

        if (bits != 0)
                atomic_fetch_and_explicit(&events->shm->pending[w], ~bits, memory_order_seq_cst);
        return bits;
}

#endif
