/*
 * end: one end of a flow, as every process has it (paper 2.7): rings, state, doorbell, protection. The library's flow
 * (flow.h) and an IPCP's port are built on it.
 * No function sleeps or locks: one thread at a time uses a direction, and a flow has a lock for each. Negative
 * results are -errno, or a number of errors.h.
 */
#ifndef OUROBOROS_END_H
#define OUROBOROS_END_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>

#include "budget.h"
#include "errors.h"
#include "events.h"
#include "pool.h"
#include "ring.h"
#include "seal.h"
#include "segment.h"
#include "wait.h"

/* The IRMd's description of an end; trusted. */
struct flow_spec {
        uint32_t fd;
        uint32_t index;
        uint32_t side;
        uint32_t peer_fd;
        uint64_t serial;
        uint64_t max_packet;
};

/* Causes that this process has found by itself, beside END_*. */
#define DOWN_IRMD 256u            /* the IRMd has exited */
#define DOWN_PEER_CORRUPT 512u    /* the peer wrote an index into a ring that is out of range */
#define DOWN_UNACKNOWLEDGED 1024u /* the peer has not acknowledged data for R */

struct end {
        struct pool *pool;
        struct segment *segment;
        struct flow_shm *shm;
        struct end_shm *own;   /* state, latched events and counters of this end */
        struct events *peer;   /* the peer's event region, may be NULL */
        struct seal *seal;     /* protects every packet; NULL: none */
        uint32_t fd;
        uint32_t side;
        uint32_t peer_fd;
        uint32_t max_packet;          /* octets of a packet, before it is protected */
        _Atomic uint32_t local_state; /* END_*, DOWN_*: found by this process */
        _Alignas(CACHE_LINE) struct ring tx;
        struct budget budget; /* of tx */
        _Alignas(CACHE_LINE) struct ring rx;
};

/* Whether the segment has such an end, and the event region such a descriptor. */
bool end_exists(const struct segment *segment, const struct flow_spec *spec);

/* The end holds the objects it uses (map.h) until it is detached. `end` is zeroed; its spec exists. */
void end_attach(struct end *end, struct pool *pool, struct segment *segment, struct events *peer,
                const struct flow_spec *spec);
void end_detach(struct end *end);

/*
 * Protect the packets from now on; called before the first one. `cipher` is a number of spec/oap 2 with its key (0 and
 * NULL: none), `check` adds a CRC-32. max_packet shrinks by the overhead. 0, -EINVAL: no such cipher, -EMSGSIZE:
 * packets are too short, -ENOMEM.
 */
int end_protect(struct end *end, uint32_t cipher, const uint8_t *key, bool check);

/* Free the packets that wait in `rx`, in one pass: the peer may write forever. The WAIT_* bits of the producer. */
uint32_t end_drain(struct end *end);

/* END_* and DOWN_*: why the flow is down; and the same as a result: 0, -EFLOWDOWN or -EFLOWPEER. */
static inline uint32_t end_state(const struct end *end)
{
        return atomic_load_explicit(&end->own->state, memory_order_seq_cst) |
               atomic_load_explicit(&end->local_state, memory_order_relaxed);
}
int end_error(const struct end *end);

/* The latched EVENT_*, which this clears; and these events with DOWN and UP as the state is now, not as it was. */
uint32_t end_take_events(struct end *end);
uint32_t end_events_now(const struct end *end, uint32_t events);

/* ---- the doorbell ---- */

static inline void end_notify(struct end *end, _Atomic uint32_t *word, uint32_t wanted)
{
        if (wanted & WAIT_FUTEX)
                wait_wake(word);
        if (wanted & WAIT_EVENT && end->peer != NULL)
                events_raise(end->peer, end->peer_fd);
}

/* ---- sending ---- */

/* Packets that may be put: as last seen, or by the reader's present index. */
static inline uint32_t end_space(struct end *end)
{
        return budget_space(&end->budget, &end->tx, end->pool);
}

static inline uint32_t end_space_now(struct end *end)
{
        return budget_space_now(&end->budget, &end->tx, end->pool);
}

/* A block for a packet of `length` octets and its protection: its index, or -EMSGSIZE or -ENOMEM. */
static inline int64_t end_alloc(struct end *end, uint32_t length)
{
        return pool_alloc(end->pool, end->seal == NULL ? length : length + end->seal->overhead);
}

/*
 * Put a block of class `c`, which `tx` owns already, behind `offset` unpublished packets. The caller has loaded the
 * end's pool before: loading it again would cost 1 % of a small packet.
 */
static inline void end_enqueue_block(struct end *end, const struct pool *pool, uint32_t offset, uint64_t slot,
                                     int c)
{
        ring_put(&end->tx, offset, slot);
        budget_charge(&end->budget, &end->tx, offset, pool, c);
}

/*
 * Put one packet, header | data, behind `offset` unpublished ones; the caller has checked the space. 0, -ENOMEM, or
 * -EIO: the packet could not be protected. Inlined: a call would cost some percent of a small packet.
 */
static inline __attribute__((always_inline)) int
end_enqueue(struct end *end, uint32_t offset, const void *header, uint32_t header_length, const void *data,
            uint32_t length)
{
        struct pool *pool = end->pool;
        uint32_t total = header_length + length;
        int64_t block = end_alloc(end, total);
        uint8_t *at;
        int c;

        if (block < 0)
                return (int)block;
        c = pool_class_of(pool, (uint32_t)block);
        at = pool_block(pool, c, (uint32_t)block) + HEADROOM;
        if (end->seal == NULL) {
                if (header_length > 0)
                        memcpy(at, header, header_length);
                if (length > 0)
                        memcpy(at + header_length, data, length);
        } else {
                ssize_t n = seal_packet(end->seal, header, header_length, data, length, at);

                if (n < 0) {
                        pool_free(pool, (uint32_t)block, pool->self);
                        return (int)n;
                }
                total = (uint32_t)n;
        }
        CRASH(4);
        pool_give(pool, (uint32_t)block, end->tx.owner);
        CRASH(5);
        end_enqueue_block(end, pool, offset, SLOT(block, HEADROOM, total), c);
        return 0;
}

/* Publish packets; notify the reader if it has asked. */
static inline void end_publish(struct end *end, uint32_t count)
{
        uint32_t wanted = ring_publish(&end->tx, count);

        if (wanted)
                end_notify(end, &end->tx.shm->cons_wait, wanted);
}

/* ---- receiving ---- */

/* Consume slots; notify the writer if it has asked. */
static inline void end_consume(struct end *end, uint32_t count)
{
        uint32_t wanted = ring_consume(&end->rx, count);

        if (wanted)
                end_notify(end, &end->rx.shm->prod_wait, wanted);
}

/* Whether the ring holds packets that were not read. Ordered after this thread's ring_ask. */
static inline bool end_rx_pending(const struct end *end)
{
        return !end->rx.peer_corrupt && atomic_load_explicit(&end->rx.shm->head, memory_order_seq_cst) != end->rx.at;
}

/* Prefetch the packet `at` slots behind the front, which another core has written. */
static inline void end_prefetch(const struct end *end, uint32_t at)
{
        const uint8_t *packet = pool_packet(end->pool, ring_peek(&end->rx, at));

        if (packet != NULL) {
                __builtin_prefetch(packet);
                __builtin_prefetch(packet + CACHE_LINE); /* with a header, a small packet spans two lines */
        }
}

/* Count a packet or a slot that is refused. */
static inline void end_refuse(struct end *end)
{
        atomic_fetch_add_explicit(&end->own->refused, 1, memory_order_relaxed);
}

/* seal_open; a packet that the seal refuses is counted here, too. */
static inline ssize_t end_open(struct end *end, const uint8_t *packet, uint32_t length, uint8_t *out)
{
        ssize_t n = seal_open(end->seal, packet, length, out);

        if (n < 0)
                end_refuse(end);
        return n;
}

#endif
