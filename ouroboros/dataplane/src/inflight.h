/*
 * inflight: how many packets, and how large ones, a sender has on the path: its rules of congestion (spec/frcp 9; design/frcp, "Beyond
 * the prototype"). FRCP has no congestion control of its own: that belongs to the layers below (paper 2.16). These rules keep one flow
 * from overflowing the queues between its ends, which the window does not bound. A machine without I/O.
 */
#ifndef OUROBOROS_INFLIGHT_H
#define OUROBOROS_INFLIGHT_H

#include "sendq.h"

#define INFLIGHT_PACKETS 512u   /* in-flight bound on a path with a short round trip, in packets */
#define INFLIGHT_OCTETS 786432u /* and in octets */
/* From this round trip on, packets are on the wire and not in queues; it includes the delayed acknowledgement of a single packet. */
#define INFLIGHT_LONG_RTT 20000000ll /* ns */

#define INFLIGHT_CLAMP 1400u        /* octets of data in a packet that no link on the path fragments */
#define INFLIGHT_LARGE_LOSS 64u     /* Loss budget of large packets: a loss costs 64, a packet sent earns 1; */
#define INFLIGHT_LARGE_LIMIT 1024u  /* above this the sender clamps. */

struct inflight {
        uint32_t limit;      /* packets */
        uint32_t weight;     /* sum of sent_weight of the packets sent and not acknowledged */
        uint32_t large_loss; /* loss budget of large packets, as spent */
        bool limited;        /* the bound is reached */
        bool clamped;        /* packets are clamped to INFLIGHT_CLAMP, so that no layer below fragments them */
};

/*
 * The window bounds the packets that the peer can take, not those that the queues on the path can take: with a short
 * round trip all unacknowledged packets stand in these queues. At the bound the sender stops, and goes on
 * when half of it has been acknowledged: queues that never drain count as congestion, and sending packets one at a
 * time costs every hop more than sending many together. In shared memory no queue is congested; there the bound is in
 * octets, so that they fit the cache of a processor.
 */
static inline void inflight_update(struct inflight *inflight, uint32_t packets)
{
        if (packets >= inflight->limit || inflight->weight >= INFLIGHT_OCTETS)
                inflight->limited = true;
        else if (packets <= inflight->limit / 2 && inflight->weight <= INFLIGHT_OCTETS / 2)
                inflight->limited = false;
}

/* `lossless`: the path is shared memory. `window`: packets that the peer can take. */
static inline void inflight_init(struct inflight *inflight, bool lossless, uint32_t window)
{
        *inflight = (struct inflight){.limit = lossless ? window : INFLIGHT_PACKETS};
}

/* A packet was sent for the first time; `packets` are unacknowledged with it. */
static inline void inflight_sent(struct inflight *inflight, uint32_t length, uint32_t packets)
{
        inflight->weight += sent_weight(length);
        inflight->large_loss -= inflight->large_loss > 0 && length > INFLIGHT_CLAMP;
        inflight_update(inflight, packets);
}

/* Packets of this weight were acknowledged; `packets` are left. */
static inline void inflight_acked(struct inflight *inflight, uint32_t weight, uint32_t packets)
{
        inflight->weight -= weight;
        inflight_update(inflight, packets);
}

/*
 * A packet is retransmitted. `lost`: the peer has received later ones; after a time-out it may only be late. `stuck`: nothing has
 * been acknowledged for several attempts.
 *
 * A layer over IP takes packets larger than the MTU of its links, and IP fragments
 * them: the loss of one IP fragment loses the packet, and the other fragments occupy the reassembly memory of the
 * destination for half a minute; when that is full, no large packet gets through. After many losses of large packets
 * the sender clamps its packets below the MTU (FRCP-25).
 */
static inline void inflight_resent(struct inflight *inflight, uint32_t length, bool lost, bool stuck)
{
        if (length <= INFLIGHT_CLAMP)
                return;
        if (lost)
                inflight->large_loss += INFLIGHT_LARGE_LOSS;
        inflight->clamped = inflight->clamped || inflight->large_loss > INFLIGHT_LARGE_LIMIT || stuck;
}

/* Whether the sender waits for acknowledgements. */
static inline bool inflight_limited(const struct inflight *inflight, int64_t min_rtt)
{
        return inflight->limited && min_rtt < INFLIGHT_LONG_RTT;
}

#endif
