/*
 * rtt: how long a packet and its acknowledgement take, and after what time a packet is taken for lost
 * (spec/frcp 8). All times in ns.
 */
#ifndef OUROBOROS_RTT_H
#define OUROBOROS_RTT_H

#include <stdbool.h>
#include <stdint.h>

#define RTO_FIRST 1000000000ll
#define RTO_MIN 250000ll
#define RTO_MAX 5000000000ll /* several tries before R is over, also after it has doubled and doubled */
/* A lone packet is acknowledged this much later than one of many (8.4: delayed acknowledgement and tick). */
#define RTO_ALLOWANCE 15000000ll

struct rtt {
        int64_t srtt; /* 0: no sample yet */
        int64_t min_rtt; /* of late: the way without waiting */
        int64_t dev;
        int64_t rto;
        int64_t probe_at; /* when the probe was sent */
        uint32_t probe;   /* its sequence number */
        bool probing;
};

void rtt_init(struct rtt *rtt);

/* The sequence number that is sent now becomes the probe, unless there is one. */
void rtt_probe(struct rtt *rtt, uint32_t seq, int64_t now);

/* The probe, if it is before `ackno`, was acknowledged. */
void rtt_acked(struct rtt *rtt, uint32_t ackno, int64_t now);

/*
 * `seq` is sent again. Karn: what comes back for the probe says nothing any more, nor when an earlier packet held it up.
 * For the packet that was the last probe the RTO doubles, each time that it was not acknowledged in time (`timed_out`).
 */
void rtt_resent(struct rtt *rtt, uint32_t seq, bool timed_out);

/* After how long without an acknowledgement a packet is sent again. */
int64_t rtt_timeout(const struct rtt *rtt);

/* The same as if it had never doubled: for packets that were sent again, when acknowledgements come once more. */
int64_t rtt_base_timeout(const struct rtt *rtt);

/* One sample (for tests: the arithmetic alone). */
void rtt_sample(struct rtt *rtt, int64_t sample);

#endif
