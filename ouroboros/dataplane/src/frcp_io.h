/*
 * frcp_io: FRCP on a flow end (paper 2.7, 2.17, 4.1): what flow_write, flow_read and their like do when the flow has it, and
 * what the process's thread does for flows that nobody reads or writes just now.
 *
 * The machine (frcp.h) between the user and the rings. Both locks of the end are held while it runs, the reader's first.
 * Each call takes what has come, does what is due, and publishes everything it sends at once.
 */
#ifndef OUROBOROS_FRCP_IO_H
#define OUROBOROS_FRCP_IO_H

#include "flow.h"
#include "frcp.h"

struct frcp_end {
        struct frcp frcp;
        struct flow *flow;
        bool told;      /* the reader knows that there is nothing behind what he has read */
        bool given_up;  /* the machine has found the flow down, and the end says so */
        bool closing;   /* the user has left: what can be read, and room to write, concern nobody */
        bool news;      /* so that the thread has to tell those who wait for events */
        bool announced; /* the event was raised that the peer has left */
        uint32_t ahead; /* packets put and not published */
        uint64_t seen;  /* how far the ring had been read at the last visit */
        uint32_t calm;  /* visits since anything went on */
        _Atomic bool visited; /* by the thread, soon */
        void (*visit)(void *arg, struct flow *flow); /* asks the thread for visits; NULL: there is none */
        void *visitor;
};

/*
 * FRCP from now on, before anybody reads or writes; what protects the packets (flow_protect) comes before. The first sequence
 * number, what was granted and what the QoS says are in the configuration; max_packet is the flow's. 0 or -errno.
 */
int frcp_io_begin(struct flow *flow, const struct frcp_config *config);
void frcp_io_end(struct flow *flow);

/*
 * The user deallocates. -EMUSTSLEEP: there is data that is not acknowledged; sleep (as for reading, FRCP_TICK at most) and
 * call again. Else seconds for which the flow below must not be used again (spec wire-unicast 8.11).
 */
int frcp_io_close(struct flow *flow);

/* The machine as it is, to look at: what it points to is not the caller's. -EPERM on a flow without. */
int frcp_io_look(struct flow *flow, struct frcp *frcp);

/* Flags of FRCP (fccntl); -EPERM on a flow without. */
int frcp_io_flags(struct flow *flow);
int frcp_io_set_flags(struct flow *flow, uint32_t flags);

/* This end writes no more. 0; -ENOTSUP: the peer would not understand; -EAGAIN, why the flow is down. */
int frcp_io_finish(struct flow *flow);

/* Whether the peer has said so, or has left, and all that it wrote has come. */
bool frcp_io_ended(struct flow *flow);

ssize_t frcp_io_writev(struct flow *flow, const void *buffer, const uint32_t *lengths, uint32_t each,
                       uint32_t count);
ssize_t frcp_io_take(struct flow *flow, struct burst *burst, uint32_t max, uint32_t room, bool ahead);

/* Whether a reader (a writer) would find what he waits for. With the reader's lock. */
bool frcp_io_ready(struct flow *flow, bool writing);

/* flow_queues of such a flow: packets that can be read; that are not acknowledged, or not taken. */
void frcp_io_queues(struct flow *flow, uint64_t *rx, uint64_t *tx);

/* flow_ask_room of such a flow: the window may be in the way, or the ring. */
bool frcp_io_ask_room(struct flow *flow);

/* flow_sleep and flow_examine of such a flow. Who sleeps wakes when the machine wants to run: in his own next call. */
int frcp_io_sleep(struct flow *flow, bool writing, int64_t deadline);
uint32_t frcp_io_examine(struct flow *flow, bool *again);

/*
 * For the thread. It visits an end as long as anything goes on there: every FRCP_IO_VISIT, or when the machine wants to run.
 * What lies in the ring since the last visit nobody seems to read: it is taken in, so that the peer does not wait for this
 * user (trap 43). Once nothing goes on any more the end asks to be told of the next packet, and the visits end; a call of
 * the user that starts something again says so by frcp_io_wants_visits. *woken: somebody may be waiting for what was taken in.
 * Returns when to come next; NEVER.
 */
#define FRCP_IO_VISIT (2 * FRCP_TICK)
int64_t frcp_io_visit(struct flow *flow, int64_t now, bool *woken);

/* For the files of it: both locks of an end, the reader's first; and what a call of the user does last, which lets go of them. */
static inline void frcp_io_lock(struct flow *flow)
{
        spinlock_acquire(&flow->rx_lock);
        spinlock_acquire(&flow->tx_lock);
}

static inline void frcp_io_unlock(struct flow *flow)
{
        spinlock_release(&flow->tx_lock);
        spinlock_release(&flow->rx_lock);
}

void frcp_io_leave(struct frcp_end *end, int64_t now);

#endif
