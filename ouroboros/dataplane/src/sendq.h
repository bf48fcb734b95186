/*
 * sendq: what a sender keeps: packets that are not acknowledged yet, and fragments for which the window has no room yet
 * (paper 2.14; spec/frcp 8).
 *
 * Places by sequence number, and the octets in a ring; both are made when they are needed, grow by doubling up to a bound,
 * and go when the queue is cleared. The data is kept as it was written: what is sent again gets a new header, and is
 * encrypted and checked anew (spec/lessons 37, 47). Of what cannot be lost only the number is kept.
 */
#ifndef OUROBOROS_SENDQ_H
#define OUROBOROS_SENDQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SENDQ_PLACES 4096u      /* packets at most */
#define SENDQ_OCTETS (4u << 20) /* their data at most */

struct sent {
        int64_t first; /* when it was first sent, ns; the bound R counts from here */
        int64_t last;  /* when it was last sent */
        int64_t due;   /* when it is to be sent again, as it was known then */
        uint32_t at;   /* in the ring of octets */
        uint32_t length;
        uint32_t kept; /* octets there: all or none */
        uint32_t tries; /* how often it was sent again */
        uint8_t bits;   /* PCI_PIECE bits */
        bool arrived;   /* the peer has it, though not yet all before it */
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

/* Whether there is room for so many packets of `octets` octets together, or can be made. */
bool sendq_has_space(const struct sendq *q, uint32_t packets, uint32_t octets);

/*
 * Make room for so many packets of `octets` octets together. 0; -EAGAIN: not before others were acknowledged; -ENOMEM.
 * An empty queue has room for SENDQ_PLACES and SENDQ_OCTETS.
 */
int sendq_reserve(struct sendq *q, uint32_t packets, uint32_t octets);

/* Add the packet with the next sequence number; there is room. */
struct sent *sendq_push(struct sendq *q, const uint8_t *data, uint32_t length, uint8_t bits);

/* The same without its octets, which need no room. And: the newest was not sent after all. */
struct sent *sendq_push_seq_only(struct sendq *q, uint32_t length, uint8_t bits);
void sendq_pop(struct sendq *q);

/*
 * What a packet under way takes of the queues on its way, which bound the memory of large blocks (budget.h): what is not small
 * lies in a block of the next size, however little of it is used.
 */
#define SENT_SMALL 1800u
#define SENT_LARGE 10240u

static inline uint32_t sent_weight(uint32_t length)
{
        return length <= SENT_SMALL || length >= SENT_LARGE ? length : SENT_LARGE;
}

/* Forget the packets before `seq`. Their weight together. */
uint32_t sendq_drop(struct sendq *q, uint32_t seq);

/* Whether there is room as it is: then sendq_reserve has nothing to do. */
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
