/*
 * frcp_end: FRCP at a flow end (paper 2.7): the machine (frcp.h) between the rings that carry its packets.
 * Both locks of the end are held while the machine runs, the reader's first. Calls of the user (frcp_io,
 * frcp_control) and polls of the process's thread (frcp_poll) run it; each takes packets from the ring, does
 * everything that is due, and publishes immediately.
 */
#ifndef OUROBOROS_FRCP_END_H
#define OUROBOROS_FRCP_END_H

#include "flow.h"
#include "frcp.h"

#define FRCP_BATCH 64u /* packets taken from the ring together at most */

struct frcp_end {
        struct frcp frcp;
        struct flow *flow;
        bool eof_read;                                      /* a read has reported the end of the stream */
        bool down_raised; /* the machine found the flow down, and the event was raised */
        bool closing; /* the user has deallocated: reads and writes fail, as after flow_detach */
        bool state_changed;                                 /* the thread must raise an event for waiting threads */
        bool dealloc_raised;                                /* the event was raised that the peer has deallocated */
        uint32_t unpublished;                               /* packets put into the ring and not published */
        uint64_t rx_at_poll;                                /* the ring's read index at the last poll */
        uint32_t idle_polls;                                /* consecutive polls that found no activity */
        _Atomic bool poll_requested;                        /* the thread will poll this end soon */
        void (*request_poll)(void *arg, struct flow *flow); /* asks the thread to poll; NULL: there is no thread */
        void *request_arg;
};

/*
 * Use FRCP from now on; called before the first read or write, and after flow_protect. The configuration carries the
 * initial sequence number, the granted extensions and the QoS; max_packet is the flow's. 0 or -errno.
 */
int frcp_io_begin(struct flow *flow, const struct frcp_config *config);
void frcp_io_end(struct flow *flow);

static inline void frcp_end_lock(struct flow *flow)
{
        spinlock_acquire(&flow->rx_lock);
        spinlock_acquire(&flow->tx_lock);
}

static inline void frcp_end_unlock(struct flow *flow)
{
        spinlock_release(&flow->tx_lock);
        spinlock_release(&flow->rx_lock);
}

/* The functions below are called with both locks held. */

/* The buffer of a reader. */
struct frcp_reader {
        uint8_t *at;
        uint32_t size; /* octets of space left */
        uint32_t *lengths;
        uint32_t count, max;
};

/*
 * Take at most `most` packets from the ring; returns their number. Packets in order go to `reader`, if there is one,
 * while they fit.
 */
uint32_t frcp_end_take(struct frcp_end *end, uint32_t most, struct frcp_reader *reader, int64_t now);

/* Copy packets from the receive queue to the reader, as far as they fit. */
void frcp_end_read(struct frcp_end *end, struct frcp_reader *reader, int64_t now);

/* Free slots of the ring; when there are none left, publishes first and looks again. */
uint32_t frcp_end_space(struct frcp_end *end);
void frcp_end_publish(struct frcp_end *end);

/* Do everything that is due, and publish. */
void frcp_end_run(struct frcp_end *end, int64_t now);

/* The last step of a user's call: frcp_end_run, ask the thread to poll the end, release the locks. */
void frcp_end_leave(struct frcp_end *end, int64_t now);

/* Whether a read would return packets, or the end of the stream that no read has reported yet. */
static inline bool frcp_end_readable(const struct frcp_end *end)
{
        return flow_readahead(end->flow) || end->frcp.recvq.messages > 0 || (end->frcp.fin_received && !end->eof_read);
}

#endif
