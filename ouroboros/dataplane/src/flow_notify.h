/*
 * flow_notify: how the two ends of a flow notify each other of packets and of space, shared by reading and writing,
 * with FRCP and without. Called with a lock of the end held, so that no thread detaches the end and unmaps its
 * memory.
 */
#ifndef OUROBOROS_FLOW_NOTIFY_H
#define OUROBOROS_FLOW_NOTIFY_H

#include "flow.h"

/*
 * A reader found the ring empty: if the end is polled through an eventfd, clear it and ask for an event. Returns the
 * eventfd, to be signalled if a packet has arrived meanwhile; -1: the end is not polled.
 */
int flow_clear_eventfd(struct flow *flow);

/* For waiting threads: also true when the flow is down. */
static inline bool flow_rx_pending_or_down(const struct flow *flow)
{
        return end_rx_pending(&flow->end) || end_state(&flow->end);
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

        return atomic_load_explicit(&snapshot->flow->end.rx.shm->head, memory_order_seq_cst) != snapshot->rx ||
               end_state(&snapshot->flow->end);
}

#define PREFETCH_DISTANCE 4u /* packets */

#endif
