/*
 * frcp_end: FRCP at a flow end (paper 2.7): its machine (frcp.h) between the rings, which carry what it sends and what it gets.
 *
 * Both locks of the end are held while it runs, the reader's first. What runs it are calls of the user (frcp_io, frcp_control)
 * and visits of the process's thread (frcp_poll); each takes what has come, does what is due, and publishes at once.
 */
#ifndef OUROBOROS_FRCP_END_H
#define OUROBOROS_FRCP_END_H

#include "flow.h"
#include "frcp.h"

#define FRCP_BATCH 64u /* packets taken from the ring at once */

struct frcp_end {
        struct frcp frcp;
        struct flow *flow;
        bool eof_read;      /* the reader knows that there is nothing behind what he has read */
        bool down_raised;  /* the machine has found the flow down, and the end says so */
        bool closing;   /* the user has left: reading and writing fail, as after flow_detach */
        bool state_changed;      /* so that the thread has to tell those who wait for events */
        bool dealloc_raised; /* the event was raised that the peer has left */
        uint32_t unpublished; /* packets put and not published */
        uint64_t rx_at_poll;  /* how far the ring had been read at the last visit */
        uint32_t idle_polls;  /* visits since anything went on */
        _Atomic bool poll_requested; /* by the thread, soon */
        void (*request_poll)(void *arg, struct flow *flow); /* asks the thread for visits; NULL: there is none */
        void *request_arg;
};

/*
 * FRCP from now on, before anybody reads or writes; what protects the packets (flow_protect) comes before. The first sequence
 * number, what was granted and what the QoS says are in the configuration; max_packet is the flow's. 0 or -errno.
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

/* What follows is called with both locks. */

/* Where a reader wants his packets. */
struct frcp_reader {
        uint8_t *at;
        uint32_t size; /* octets left */
        uint32_t *lengths;
        uint32_t count, max;
};

/* Take at most so many packets from the ring: how many there were. The reader, if there is one, gets what is his. */
uint32_t frcp_end_take(struct frcp_end *end, uint32_t most, struct frcp_reader *reader, int64_t now);

/* To the reader what has been kept, as far as it fits. */
void frcp_end_read(struct frcp_end *end, struct frcp_reader *reader, int64_t now);

/* How many packets the ring has room for; those that were put are published when there seems to be none. */
uint32_t frcp_end_space(struct frcp_end *end);
void frcp_end_publish(struct frcp_end *end);

/* Do what is due, and let the peer see it. */
void frcp_end_run(struct frcp_end *end, int64_t now);

/* What a call of the user does last: that, and the thread looks after the end from now on. Lets go of the locks. */
void frcp_end_leave(struct frcp_end *end, int64_t now);

/* Packets that can be read; or that there are no more, until it was read. */
static inline bool frcp_end_readable(const struct frcp_end *end)
{
        return flow_readahead(end->flow) || end->frcp.recvq.messages > 0 || (end->frcp.fin_received && !end->eof_read);
}

#endif
