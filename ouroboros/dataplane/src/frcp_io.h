/*
 * frcp_io: what flow_write, flow_read and their like do when the flow has FRCP (paper 2.17, 4.1), what a user switches and sees of
 * it (frcp_control.c), and what the process's thread does for flows that nobody reads or writes just now (frcp_poll.c).
 */
#ifndef OUROBOROS_FRCP_IO_H
#define OUROBOROS_FRCP_IO_H

#include "frcp_end.h"

/*
 * The user deallocates: threads that read or write fail from now on. -EMUSTSLEEP: there is data that is not acknowledged, and the
 * process's thread goes on with it; call again, after frcp_io_linger if there is nothing else to do. Else seconds for which the flow
 * below must not be used again (spec/frcp 10).
 */
int frcp_io_close(struct flow *flow);

/* Sleep until the peer may have acknowledged something, or the deadline: 0, -ETIMEDOUT, -EINTR. */
int frcp_io_linger(struct flow *flow, int64_t deadline);

/* What the peer has not acknowledged; without FRCP nothing. */
struct frcp_limit_inflight {
        uint64_t octets;
        uint32_t una; /* it moves as the peer acknowledges */
};
struct frcp_limit_inflight frcp_io_rest(struct flow *flow);

/* The machine as it is, to look at: what it points to is not the caller's. -EPERM on a flow without. */
int frcp_io_look(struct flow *flow, struct frcp *frcp);

/* Flags of FRCP (fccntl); -EPERM on a flow without. */
int frcp_io_flags(struct flow *flow);
int frcp_io_set_flags(struct flow *flow, uint32_t flags);

/* This end writes no more. 0; -ENOTSUP: the peer would not understand; -EAGAIN, why the flow is down. */
int frcp_io_send_fin(struct flow *flow);

/* Whether the peer has said so, or has left, and all that it wrote has come. */
bool frcp_io_fin_received(struct flow *flow);

ssize_t frcp_io_writev(struct flow *flow, const void *buffer, const uint32_t *lengths, uint32_t each,
                       uint32_t count);
ssize_t frcp_io_take(struct flow *flow, struct burst *burst, uint32_t max, uint32_t limit, bool readahead);

/* Whether a reader (a writer) would find what he waits for. With the reader's lock. */
bool frcp_io_ready(struct flow *flow, bool writing);

/* flow_queues of such a flow: packets that can be read; that are not acknowledged, or not taken. */
void frcp_io_queues(struct flow *flow, uint64_t *rx, uint64_t *tx);

/* flow_notify_writable of such a flow: the window may be in the way, or the ring. */
bool frcp_io_notify_writable(struct flow *flow);

/* flow_sleep and flow_examine of such a flow. Who sleeps wakes when the machine wants to run: in his own next call. */
int frcp_io_sleep(struct flow *flow, bool writing, int64_t deadline);
uint32_t frcp_io_examine(struct flow *flow, bool *again);

/*
 * For the thread. It visits an end as long as anything goes on there: every FRCP_IO_POLL_INTERVAL, or when the machine wants to run.
 * What lies in the ring since the last visit nobody seems to read: it is taken in, so that the peer does not wait for this
 * user (spec/lessons 43). Once nothing goes on any more the end asks to be told of the next packet, and the visits end; a call of
 * the user that starts something again says so by frcp_io_wants_visits. *woken: somebody may be waiting for what was taken in.
 * Returns when to come next; NEVER.
 */
#define FRCP_IO_POLL_INTERVAL (2 * FRCP_TICK)
int64_t frcp_io_poll(struct flow *flow, int64_t now, bool *woken);

#endif
