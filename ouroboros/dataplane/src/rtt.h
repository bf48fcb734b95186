/*
 * rtt: round-trip time and retransmission time-out (RTO) (spec/frcp FRCP-18). All times in ns.
 */
#ifndef OUROBOROS_RTT_H
#define OUROBOROS_RTT_H

#include <stdbool.h>
#include <stdint.h>

#define RTO_FIRST 1000000000ll
#define RTO_MIN 250000ll
#define RTO_MAX 5000000000ll /* several retransmissions within R, even after the RTO has doubled several times */
/* Delayed acknowledgement and tick, which delay the acknowledgement of a single packet (FRCP-15). */
#define RTO_ALLOWANCE 15000000ll

struct rtt {
        int64_t srtt;    /* 0: no sample yet */
        int64_t min_rtt; /* recent minimum: the path without queueing */
        int64_t dev;
        int64_t rto;
        int64_t probe_at; /* when the probe was sent */
        uint32_t probe;   /* its sequence number */
        bool probing;
};

void rtt_init(struct rtt *rtt);

/* `seq` is sent now and becomes the probe, unless there is one. */
void rtt_probe(struct rtt *rtt, uint32_t seq, int64_t now);

/* `ackno` acknowledges the probe if it is behind it. */
void rtt_acked(struct rtt *rtt, uint32_t ackno, int64_t now);

/*
 * `seq` is retransmitted. Karn: an acknowledgement of the probe is no sample any more, nor after the retransmission
 * of an earlier packet. The RTO doubles each time that the last probe is retransmitted after a time-out
 * (`timed_out`).
 */
void rtt_resent(struct rtt *rtt, uint32_t seq, bool timed_out);

/* Time without an acknowledgement after which a packet is retransmitted. */
int64_t rtt_timeout(const struct rtt *rtt);

/* The same without the doubling: for retransmitted packets, once acknowledgements arrive again. */
int64_t rtt_base_timeout(const struct rtt *rtt);

/* One sample (for tests: the arithmetic alone). */
void rtt_sample(struct rtt *rtt, int64_t sample);

#endif
