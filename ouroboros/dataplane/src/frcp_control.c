/*
 * frcp_control: control and read-out of FRCP on a flow end, beside reading and writing
 * (docs/reference/api.md).
 */
#define _GNU_SOURCE
#include "frcp_io.h"
#include "map.h"

/* The end, locked. NULL: it has no FRCP, belongs to another process, or was detached; *error is the reason. */
static struct frcp_end *enter(struct flow *flow, int *error)
{
        *error = flow_check(flow);
        if (*error == 0 && flow->frcp == NULL)
                *error = -EPERM;
        if (*error != 0)
                return NULL;
        frcp_end_lock(flow);
        if (!flow->rx_closed)
                return flow->frcp;
        frcp_end_unlock(flow);
        *error = -ENOTALLOC;
        return NULL;
}

int frcp_io_send_fin(struct flow *flow)
{
        int error;
        struct frcp_end *end = enter(flow, &error);
        int64_t now = wait_now();

        if (end == NULL)
                return error == -EPERM ? -ENOTSUP : error;
        error = flow_may_write(flow);
        if (error == 0)
                error = frcp_send_fin(&end->frcp, false, now);
        frcp_end_leave(end, now);
        return error;
}

bool frcp_io_fin_received(struct flow *flow)
{
        int error;
        struct frcp_end *end = enter(flow, &error);
        bool ended;

        if (end == NULL)
                return false;
        ended = end->frcp.fin_received != FRCP_OPEN;
        frcp_end_unlock(flow);
        return ended;
}

int frcp_io_look(struct flow *flow, struct frcp *frcp)
{
        int error;
        struct frcp_end *end = enter(flow, &error);

        if (end == NULL)
                return error;
        *frcp = end->frcp;
        frcp_end_unlock(flow);
        return 0;
}

struct frcp_unacked frcp_io_unacked(struct flow *flow)
{
        int error;
        struct frcp_end *end = enter(flow, &error);
        struct frcp_unacked unacked = {0};

        if (end == NULL)
                return unacked;
        unacked.octets = frcp_unacknowledged(&end->frcp);
        unacked.una = end->frcp.una;
        frcp_end_unlock(flow);
        return unacked;
}

int frcp_io_flags(struct flow *flow)
{
        int result;
        struct frcp_end *end = enter(flow, &result);

        if (end == NULL)
                return result;
        result = (int)end->frcp.flags;
        frcp_end_unlock(flow);
        return result;
}

int frcp_io_set_flags(struct flow *flow, uint32_t flags)
{
        int error;
        struct frcp_end *end = enter(flow, &error);

        if (end == NULL)
                return error;
        frcp_set_flags(&end->frcp, flags);
        flow->max_packet = frcp_max_packet(&end->frcp);
        frcp_end_leave(end, wait_now());
        flow_withdraw_all(flow); /* the window may not limit writers any more, and fragments may be readable */
        return 0;
}
