#include "rtt.h"

#define SRTT_MIN 1000
#define DEV_FIRST 10000000
#define DEV_MIN 100

void rtt_init(struct rtt *rtt)
{
        *rtt = (struct rtt){.dev = DEV_FIRST, .rto = RTO_FIRST};
}

void rtt_probe(struct rtt *rtt, uint32_t seq, int64_t now)
{
        if (rtt->probing)
                return;
        rtt->probing = true;
        rtt->probe = seq;
        rtt->probe_at = now;
}

static int64_t estimate(const struct rtt *rtt)
{
        int64_t rto = rtt->srtt + (rtt->dev << 2);

        if (rto < RTO_MIN)
                return RTO_MIN;
        return rto > RTO_MAX ? RTO_MAX : rto;
}

/* Shifts of negative numbers round down, as those of the peer do. */
void rtt_sample(struct rtt *rtt, int64_t sample)
{
        rtt->min_rtt += rtt->min_rtt == 0 || sample < rtt->min_rtt ? sample - rtt->min_rtt :
                                                                     (sample - rtt->min_rtt) >> 6;
        if (rtt->srtt == 0) {
                rtt->srtt = sample;
                rtt->dev = sample >> 1;
        } else {
                int64_t delta = sample - rtt->srtt;
                int64_t error = ((delta < 0 ? -delta : delta) - rtt->dev) >> 2;

                rtt->srtt += delta >> 3;
                rtt->dev += error < 0 ? error >> 3 : error;
        }
        if (rtt->srtt < SRTT_MIN)
                rtt->srtt = SRTT_MIN;
        if (rtt->dev < DEV_MIN)
                rtt->dev = DEV_MIN;
        rtt->rto = estimate(rtt);
}

void rtt_acked(struct rtt *rtt, uint32_t ackno, int64_t now)
{
        if (!rtt->probing || (int32_t)(ackno - rtt->probe) <= 0)
                return;
        rtt->probing = false;
        rtt_sample(rtt, now - rtt->probe_at);
}

void rtt_resent(struct rtt *rtt, uint32_t seq, bool timed_out)
{
        if ((int32_t)(seq - rtt->probe) <= 0)
                rtt->probing = false;
        if (seq == rtt->probe && timed_out)
                rtt->rto = rtt->rto * 2 > RTO_MAX ? RTO_MAX : rtt->rto * 2;
}

int64_t rtt_base_timeout(const struct rtt *rtt)
{
        return rtt->srtt == 0 ? RTO_FIRST : estimate(rtt) + RTO_ALLOWANCE;
}

int64_t rtt_timeout(const struct rtt *rtt)
{
        return rtt->srtt == 0 ? rtt->rto : rtt->rto + RTO_ALLOWANCE;
}
