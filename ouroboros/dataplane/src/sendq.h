/*
 * sendq: the send queue: unacknowledged packets, and fragments for which the window has no space yet (paper 2.14;
 * spec/frcp 8).
 * Places by sequence number, and the octets in a ring; both are allocated on demand, grow by doubling up to a bound,
 * and are freed when the queue is cleared. Data is kept as it was written: a retransmission gets a new header, and is
 * encrypted and checked anew (spec/lessons 37, 47). Of a packet whose delivery is assured only the sequence number is
 * kept.
 */
#ifndef OUROBOROS_SENDQ_H
#define OUROBOROS_SENDQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SENDQ_PLACES 4096u      /* packets at most */
#define SENDQ_OCTETS (4u << 20) /* their data at most */

struct sent {
        int64_t first; /* first transmission, ns; R counts from here */
        int64_t last;  /* last transmission */
        int64_t due;   /* next retransmission, by the RTO at the last one */
        uint32_t at;   /* in the ring of octets */
        uint32_t length;
        uint32_t kept;  /* octets kept: all or none */
        uint32_t tries; /* number of retransmissions */
        uint8_t bits;   /* PCI_PIECE bits */
        bool arrived;   /* the peer has received it, out of order */
};

struct sendq {
        struct sent *place; /* of sequence number n: place[n & mask] */
        uint32_t mask;
        uint32_t first; /* sequence number of the oldest packet kept */
        uint32_t count;
        uint8_t *ring;
        uint32_t size;
        uint32_t head; /* where the next octets go */
        uint32_t tail; /* where the oldest are */
        uint32_t octets;
};

void sendq_init(struct sendq *q, uint32_t first);
void sendq_clear(struct sendq *q, uint32_t first);

/* Whether there is or can be space for `packets` packets of `octets` octets together. */
bool sendq_has_space(const struct sendq *q, uint32_t packets, uint32_t octets);

/*
 * Make space for `packets` packets of `octets` octets together. 0; -EAGAIN: not before others are acknowledged;
 * -ENOMEM. An empty queue has space for SENDQ_PLACES and SENDQ_OCTETS.
 */
int sendq_reserve(struct sendq *q, uint32_t packets, uint32_t octets);

/* Add the packet with the next sequence number, after sendq_reserve. */
struct sent *sendq_push(struct sendq *q, const uint8_t *data, uint32_t length, uint8_t bits);

/* Add a packet without its octets, which need no space. And: remove the newest, which was not sent. */
struct sent *sendq_push_seq_only(struct sendq *q, uint32_t length, uint8_t bits);
void sendq_pop(struct sendq *q);

/*
 * Weight of a packet in flight in the queues on the path, which bound large blocks (budget.h): a packet larger than
 * SENT_SMALL occupies a block of the next size.
 */
#define SENT_SMALL 1800u
#define SENT_LARGE 10240u

static inline uint32_t sent_weight(uint32_t length)
{
        return length <= SENT_SMALL || length >= SENT_LARGE ? length : SENT_LARGE;
}

/* Drop the packets before `seq`. Returns the sum of their weights. */
uint32_t sendq_drop(struct sendq *q, uint32_t seq);

/* Whether there is space already, without sendq_reserve. */
static inline bool sendq_ready(const struct sendq *q, uint32_t packets, uint32_t octets)
{
        return q->place != NULL && (q->octets > 0 || octets == 0) && q->count + packets <= q->mask + 1 &&
               (q->head < q->tail ? q->tail - q->head > octets : q->size - q->head >= octets);
}

static inline struct sent *sendq_at(const struct sendq *q, uint32_t seq)
{
        return &q->place[seq & q->mask];
}

static inline const uint8_t *sendq_data(const struct sendq *q, const struct sent *sent)
{
        return q->ring + sent->at;
}

#endif
