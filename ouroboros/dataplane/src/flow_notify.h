/*
 * flow_notify: what reading and writing share, with FRCP and without: telling the other side that packets, or room, are there, and
 * being told. With a lock of the end held: a detaching thread must not unmap what is used here.
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
 * A reader found nothing: if the end is polled by a descriptor, clear that and ask for the event. The descriptor, to be rung
 * should there be something after all; -1: it is not polled.
 */
int flow_clear_eventfd(struct flow *flow);

/* Whether there are packets in the ring that nobody has taken. Ordered behind an own ring_ask. */
static inline bool flow_rx_pending(const struct flow *flow)
{
        return !flow->rx.peer_corrupt && atomic_load_explicit(&flow->rx.shm->head, memory_order_seq_cst) != flow->rx.at;
}

/* For those who wait: also that nothing will ever come. */
static inline bool flow_rx_pending_or_down(const struct flow *flow)
{
        return flow_rx_pending(flow) || flow_state(flow);
}

/* What a thread that polls without a lock goes by: how far the rings had been read when it let go of the lock. */
struct flow_snapshot {
        const struct flow *flow;
        uint64_t rx;
        uint64_t tx;
        bool full; /* there was no room to write */
};

static inline bool flow_rx_advanced(const void *arg)
{
        const struct flow_snapshot *snapshot = arg;

        return atomic_load_explicit(&snapshot->flow->rx.shm->head, memory_order_seq_cst) != snapshot->rx || flow_state(snapshot->flow);
}

/* Have the packet at a place in the ring under way: who wrote it was another core. */
#define PREFETCH_DISTANCE 4u
static inline void flow_prefetch(const struct flow *flow, uint32_t at)
{
        const uint8_t *packet = pool_packet(flow->pool, ring_peek(&flow->rx, at));

        if (packet != NULL) {
                __builtin_prefetch(packet);
                __builtin_prefetch(packet + CACHE_LINE); /* a header makes two lines of a small packet's one */
        }
}

#endif
