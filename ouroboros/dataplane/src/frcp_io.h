/*
 * frcp_io: a flow with FRCP (paper 2.17, 4.1): its operations (flow_ops.h), its control by the user, and the polls of
 * the process's thread for ends without a call in progress. The machine (frcp.h) runs between the rings that carry its
 * packets, with both locks of the end held, the reader's first. Each call and each poll takes packets from the ring, does
 * everything that is due, and publishes immediately.
 */
#ifndef OUROBOROS_FRCP_IO_H
#define OUROBOROS_FRCP_IO_H

#include "flow.h"
#include "frcp.h"

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
