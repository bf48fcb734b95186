/*
 * frcp_io: flow_write, flow_read, flow_sleep and the like on a flow with FRCP (paper 2.17, 4.1); its control by the
 * user (frcp_control.c); the polls of the process's thread, for ends without a call in progress (frcp_poll.c).
 */
#ifndef OUROBOROS_FRCP_IO_H
#define OUROBOROS_FRCP_IO_H

#include "frcp_end.h"

/*
 * The user deallocates: reads and writes fail from now on. -EMUSTSLEEP: data is unacknowledged, and the process's
 * thread goes on with it; call again, after frcp_io_linger if there is nothing else to do. Else the seconds during
 * which the flow below must not be used again (spec/frcp 10).
 */
int frcp_io_close(struct flow *flow);

/* Sleep until the peer may have acknowledged data, or until the deadline: 0, -ETIMEDOUT, -EINTR. */
int frcp_io_linger(struct flow *flow, int64_t deadline);

/* The unacknowledged data; 0 without FRCP. */
struct frcp_unacked {
        uint64_t octets;
        uint32_t una; /* advances with every acknowledgement */
};
struct frcp_unacked frcp_io_unacked(struct flow *flow);

/* A snapshot of the machine; the caller does not own the memory that it points to. -EPERM on a flow without FRCP. */
int frcp_io_look(struct flow *flow, struct frcp *frcp);

/* Flags of FRCP (fccntl); -EPERM on a flow without FRCP. */
int frcp_io_flags(struct flow *flow);
int frcp_io_set_flags(struct flow *flow, uint32_t flags);

/*
 * Send FIN: this end writes no more. 0; -ENOTSUP: the peer does not implement FIN; -EAGAIN; the reason why the flow
 * is down.
 */
int frcp_io_send_fin(struct flow *flow);

/* Whether the peer has sent FIN, and everything before it has been received. */
bool frcp_io_fin_received(struct flow *flow);

ssize_t frcp_io_writev(struct flow *flow, const void *buffer, const uint32_t *lengths, uint32_t each,
                       uint32_t count);
ssize_t frcp_io_take(struct flow *flow, struct burst *burst, uint32_t max, uint32_t limit, bool readahead);

/* Whether a read (a write) would succeed or fail immediately. With the reader's lock. */
bool frcp_io_ready(struct flow *flow, bool writing);

/* flow_queues on a flow with FRCP: packets that can be read; packets not acknowledged, or not consumed. */
void frcp_io_queues(struct flow *flow, uint64_t *rx, uint64_t *tx);

/* flow_notify_writable on a flow with FRCP: the window or the ring may be the limit. */
bool frcp_io_notify_writable(struct flow *flow);

/*
 * flow_sleep and flow_examine on a flow with FRCP. A sleeping thread wakes at frcp_deadline, and runs the machine in
 * its next call.
 */
int frcp_io_sleep(struct flow *flow, bool writing, int64_t deadline);
uint32_t frcp_io_examine(struct flow *flow, bool *again);

/*
 * Poll, for the process's thread: every FRCP_IO_POLL_INTERVAL, or when the machine is due, while the end is active.
 * Packets that have been in the ring since the last poll have no reader at the moment: the poll takes them, so that
 * the peer does not wait for this user (spec/lessons 43). After IDLE_POLLS polls without activity the end asks for an
 * event with the next packet and polling stops; a call of the user asks for it again (frcp_end_leave). *woken: the
 * poll took packets that threads may wait for. Returns the time of the next poll; NEVER.
 */
#define FRCP_IO_POLL_INTERVAL (2 * FRCP_TICK)
int64_t frcp_io_poll(struct flow *flow, int64_t now, bool *woken);

#endif
