/*
 * flow_notify: how the two ends of a flow notify each other of packets and of space, shared by reading and writing,
 * with FRCP and without. Called with a lock of the end held, so that no thread detaches the end and unmaps its
 * memory.
 */
#ifndef OUROBOROS_FLOW_NOTIFY_H
#define OUROBOROS_FLOW_NOTIFY_H

#include "flow.h"

static inline void flow_notify(struct flow *flow, _Atomic uint32_t *word, uint32_t wanted)
{
        if (wanted & WAIT_FUTEX)
                wait_wake(word);
        if (wanted & WAIT_EVENT && flow->peer != NULL)
                events_raise(flow->peer, flow->peer_fd);
}

/*
 * A reader found the ring empty: if the end is polled through an eventfd, clear it and ask for an event. Returns the
 * eventfd, to be signalled if a packet has arrived meanwhile; -1: the end is not polled.
 */
int flow_clear_eventfd(struct flow *flow);

/* Whether the ring holds packets that were not read. Ordered after this thread's ring_ask. */
static inline bool flow_rx_pending(const struct flow *flow)
{
        return !flow->rx.peer_corrupt && atomic_load_explicit(&flow->rx.shm->head, memory_order_seq_cst) != flow->rx.at;
}

/* For waiting threads: also true when the flow is down. */
static inline bool flow_rx_pending_or_down(const struct flow *flow)
{
        return flow_rx_pending(flow) || flow_state(flow);
}

/* State of the rings when a thread released the lock, for polling without it. */
struct flow_snapshot {
        const struct flow *flow;
        uint64_t rx;
        uint64_t tx;
        bool full; /* the transmit ring was full */
};

static inline bool flow_rx_advanced(const void *arg)
{
        const struct flow_snapshot *snapshot = arg;

        return atomic_load_explicit(&snapshot->flow->rx.shm->head, memory_order_seq_cst) != snapshot->rx ||
               flow_state(snapshot->flow);
}

/* Prefetch a packet in the ring, which another core has written. */
#define PREFETCH_DISTANCE 4u
static inline void flow_prefetch(const struct flow *flow, uint32_t at)
{
        const uint8_t *packet = pool_packet(flow->pool, ring_peek(&flow->rx, at));

        if (packet != NULL) {
                __builtin_prefetch(packet);
                __builtin_prefetch(packet + CACHE_LINE); /* with a header, a small packet spans two lines */
        }
}

#endif
