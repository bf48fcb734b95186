/*
 * keepalive: whether the peer of a flow is alive (spec/protection 5), with FRCP or without.
 * Any packet counts at the moment when the flow takes it; an end that has sent no packet for a quarter of the
 * time-out sends an empty one. Times in ns.
 */
#ifndef OUROBOROS_KEEPALIVE_H
#define OUROBOROS_KEEPALIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "wheel.h"

struct keepalive {
        int64_t timeout; /* 0: the peer never times out */
        int64_t received;
        int64_t sent;
        bool expired; /* the peer timed out, for good */
};

static inline void keepalive_init(struct keepalive *alive, uint32_t timeout_ms, int64_t now)
{
        *alive = (struct keepalive){.timeout = timeout_ms * 1000000ll, .received = now, .sent = now};
}

static inline int64_t keepalive_deadline(const struct keepalive *alive)
{
        int64_t lost = alive->received + alive->timeout + 1, quiet = alive->sent + alive->timeout / 4 + 1;

        if (alive->timeout == 0 || alive->expired)
                return NEVER;
        return lost < quiet ? lost : quiet;
}

/* Nothing was received for the time-out. */
static inline bool keepalive_lost(const struct keepalive *alive, int64_t now)
{
        return alive->timeout != 0 && now - alive->received > alive->timeout;
}

/* A keep-alive is due. */
static inline bool keepalive_quiet(const struct keepalive *alive, int64_t now)
{
        return alive->timeout != 0 && now - alive->sent > alive->timeout / 4;
}

#endif
