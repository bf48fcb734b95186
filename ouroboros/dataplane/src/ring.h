/*
 * ring: a single-producer single-consumer FIFO of block references (docs/design/shared-memory.md, FIFOs).
 * The textbook ring, with free-running indices. The producer makes the ring the owner of the block, writes the slot,
 * and stores `head`, which publishes it. The consumer reads the slot, takes the block by compare-and-swap of the
 * owner word, and stores `tail`, which frees the slot. Hence, wherever either side is killed:
 * - a block that the ring owns and that lies in [tail, head) is a packet in flight;
 * - a block that the ring owns and that lies outside was never published.
 * head and tail are stored seq_cst before the other side's wait word is loaded, and a wait word is set seq_cst before
 * head or tail is loaded again, seq_cst too: one of the two sides always sees the other (Dekker). Each end has a
 * private struct; threads that share an end hold its lock.
 */
#ifndef OUROBOROS_RING_H
#define OUROBOROS_RING_H

#include <stdbool.h>

#include "crash.h"
#include "layout.h"

struct ring {
        struct ring_shm *shm;
        _Atomic uint64_t *slots;
        uint64_t owner;    /* OWNER_RING of this ring */
        uint64_t at;       /* producer: head. consumer: tail. */
        uint64_t other;    /* last seen index of the other side */
        bool peer_corrupt; /* the peer wrote an index that is out of range */
};

static inline void ring_attach(struct ring *ring, struct flow_shm *flow, unsigned which, uint64_t serial,
                               bool producer)
{
        ring->shm = &flow->ring[which];
        ring->slots = flow->slots[which];
        ring->owner = OWNER_RING(serial, which);
        ring->at = atomic_load_explicit(producer ? &ring->shm->head : &ring->shm->tail, memory_order_relaxed);
        ring->other = ring->at;
        ring->peer_corrupt = false;
}

/* Producer: free slots by the consumer's current index. */
static inline uint32_t ring_space_now(struct ring *ring)
{
        uint64_t tail = atomic_load_explicit(&ring->shm->tail, memory_order_seq_cst);

        if (ring->at - tail > RING_SLOTS) {
                ring->peer_corrupt = true;
                return 0;
        }
        ring->other = tail;
        return RING_SLOTS - (uint32_t)(ring->at - tail);
}

/* Producer, after a check of the space: write a slot without publishing it. The ring owns the block already. */
static inline void ring_put(struct ring *ring, uint32_t offset, uint64_t slot)
{
        atomic_store_explicit(&ring->slots[(ring->at + offset) & RING_MASK], slot, memory_order_relaxed);
}

/* Producer: publish the slots. Returns the WAIT_* bits of a consumer to notify, already cleared. */
static inline uint32_t ring_publish(struct ring *ring, uint32_t count)
{
        ring->at += count;
        CRASH(6);
        atomic_store_explicit(&ring->shm->head, ring->at, memory_order_seq_cst);
        CRASH(7);
        if (atomic_load_explicit(&ring->shm->cons_wait, memory_order_seq_cst) == 0)
                return 0;
        return atomic_exchange_explicit(&ring->shm->cons_wait, 0, memory_order_seq_cst);
}

/* Consumer: packets waiting; loads the producer's index only when the last one shows none. */
static inline uint32_t ring_ready(struct ring *ring)
{
        uint64_t ready = ring->other - ring->at;

        if (ready == 0) {
                uint64_t head = atomic_load_explicit(&ring->shm->head, memory_order_seq_cst);

                ready = head - ring->at;
                if (ready > RING_SLOTS) {
                        ring->peer_corrupt = true;
                        return 0;
                }
                ring->other = head;
        }
        return (uint32_t)ready;
}

static inline uint64_t ring_peek(const struct ring *ring, uint32_t offset)
{
        return atomic_load_explicit(&ring->slots[(ring->at + offset) & RING_MASK], memory_order_relaxed);
}

/* Consumer: free slots whose blocks were taken. Returns the WAIT_* bits of a producer to notify. */
static inline uint32_t ring_consume(struct ring *ring, uint32_t count)
{
        ring->at += count;
        CRASH(8);
        atomic_store_explicit(&ring->shm->tail, ring->at, memory_order_seq_cst);
        CRASH(9);
        if (atomic_load_explicit(&ring->shm->prod_wait, memory_order_seq_cst) == 0)
                return 0;
        return atomic_exchange_explicit(&ring->shm->prod_wait, 0, memory_order_seq_cst);
}

/* Ask for a notification: sets bits of a wait word; the caller looks again before it sleeps on the value returned. */
static inline uint32_t ring_ask(_Atomic uint32_t *wait, uint32_t bits)
{
        return atomic_fetch_or_explicit(wait, bits, memory_order_seq_cst) | bits;
}

#endif
