/*
 * flow_ops: what lies below the face of a flow (flow.h): the operations of its two kinds, raw (flow_raw.c) and with FRCP
 * (frcp_io.c), and the functions that these share. Called with a lock of the end held, so that no thread detaches the
 * end and unmaps its memory, unless a comment says otherwise.
 */
#ifndef OUROBOROS_FLOW_OPS_H
#define OUROBOROS_FLOW_OPS_H

#include "flow.h"

#define MAX_ATTEMPTS 16 /* attempts of one call before it returns to its caller, whatever the peer does */

/* What a thread waits for: packets, space, or acknowledgements after the user has closed the flow. */
enum flow_cause { FLOW_READING, FLOW_WRITING, FLOW_LINGERING };

/* Called without a lock, on a flow of this process. Set once, before the first of them is called. */
struct flow_ops {
        bool polled; /* the process's thread polls the flow when an event for it arrives */
        ssize_t (*writev)(struct flow *flow, const void *buffer, const uint32_t *lengths, uint32_t each, uint32_t count);
        /* `limit`: octets beyond the first packet */
        ssize_t (*readv)(struct flow *flow, struct burst *burst, uint32_t max, uint32_t limit, bool readahead);
        /* Ask for a notification. The value of *word to sleep on, at most until *due; 0: the flow may go on now. */
        uint32_t (*ask)(struct flow *flow, enum flow_cause cause, _Atomic uint32_t **word, int64_t *due);
        bool (*notify_writable)(struct flow *flow);
        uint32_t (*examine)(struct flow *flow, bool *again);
        void (*queues)(struct flow *flow, uint64_t *rx, uint64_t *tx);
        /* The time of the first on_timer; `request` asks the process's thread for an earlier one. */
        int64_t (*start_timer)(struct flow *flow, void (*request)(void *arg, struct flow *flow), void *arg);
        int64_t (*on_timer)(struct flow *flow, int64_t now, bool *found);
        void (*fini)(struct flow *flow);
};

extern const struct flow_ops flow_raw;

/* Sleep until the cause may have come, or the deadline. 0, -ETIMEDOUT or -EINTR. Without a lock. */
int flow_await(struct flow *flow, enum flow_cause cause, int64_t deadline);

/* 0, -ENOTALLOC, -EPERM, and for writing the reason why the flow is down. */
int flow_may_write(const struct flow *flow);
int flow_may_read(const struct flow *flow);

/*
 * Packets read ahead are on their way to the library until it has set readahead_pending and cleared readahead_owner,
 * in this order. A thread that reads again while it is the owner has lost its packets (a signal handler raised an
 * exception).
 */
bool flow_may_readahead(struct flow *flow);
void flow_begin_readahead(struct flow *flow);

static inline bool flow_readahead(const struct flow *flow)
{
        return atomic_load_explicit(&flow->readahead_owner, memory_order_relaxed) != 0 ||
               atomic_load_explicit(&flow->readahead_pending, memory_order_relaxed) != 0;
}

/* end_publish; returns the number of packets that were freed again, because the flow went down meanwhile. */
uint32_t flow_publish(struct flow *flow, uint32_t count);

/* The caller has asked to be woken, and need not sleep. */
void flow_withdraw(struct flow *flow, _Atomic uint32_t *word);

/* The peer wrote an index that is out of range: this end is down for good. With a lock of the end held. */
void flow_mark_corrupt(struct flow *flow);

/* This process has found the flow down: sets END_* and DOWN_*, latches the event, wakes its sleepers. With a lock. */
void flow_give_up(struct flow *flow, uint32_t state, uint32_t event);

/* Count an invalid slot of the peer. */
void flow_refuse(struct flow *flow);

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
