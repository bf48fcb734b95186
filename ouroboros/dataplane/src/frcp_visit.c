/* frcp_visit: flow ends with FRCP that nobody reads or writes just now (paper 2.17), and those that linger. */
#include "flow_tell.h"
#include "frcp_io.h"
#include "map.h"

#define CALM 10u /* visits on which nothing went on, before the end asks to be told */

/* The peer has left, once. Of a direct flow the IRMd says so. */
static uint32_t departed(struct frcp_end *end)
{
        if (end->announced || end->frcp.heard != FRCP_LEFT || end->frcp.config.mpl_ms <= FRCP_DIRECT_MS)
                return 0;
        end->announced = true;
        return EVENT_DEALLOC;
}

uint32_t frcp_io_examine(struct flow *flow, bool *again)
{
        struct frcp_end *end = flow->frcp;
        uint32_t events = 0, taken;
        int64_t now = wait_now();

        *again = false;
        frcp_end_lock(flow);
        if (!flow->rx_closed) {
                taken = frcp_end_take(end, FRCP_BATCH, NULL, now);
                frcp_end_settle(end, now);
                events = flow_take_events(flow);
                /* Nobody may read for long what has been taken in: the thread acknowledges it. */
                if (taken > 0 && !atomic_exchange_explicit(&end->visited, true, memory_order_relaxed))
                        events |= FLOW_VISIT;
                events |= departed(end);
                if (frcp_end_readable(end)) {
                        events |= EVENT_PKT;
                        *again = true;
                } else {
                        ring_ask(&flow->rx.shm->cons_wait, WAIT_EVENT);
                        *again = flow_packets_came(flow);
                }
        }
        frcp_end_unlock(flow);
        return events;
}

int64_t frcp_io_visit(struct flow *flow, int64_t now, bool *woken)
{
        struct frcp_end *end = flow->frcp;
        int64_t next = NEVER;

        *woken = false;
        frcp_end_lock(flow);
        if (flow->rx_closed) {
                frcp_end_unlock(flow);
                return NEVER;
        }
        if (flow->rx.at == end->seen && flow_packets_came(flow))
                *woken = frcp_end_take(end, RING_SLOTS, NULL, now) > 0;
        end->calm = flow->rx.at == end->seen && !flow_packets_came(flow) ? end->calm + 1 : 0;
        end->seen = flow->rx.at;
        frcp_end_settle(end, now);
        *woken = *woken || end->news;
        end->news = false;
        next = frcp_deadline(&end->frcp);
        if (end->calm < CALM && next > now + FRCP_IO_VISIT) {
                next = now + FRCP_IO_VISIT;
        } else if (end->calm >= CALM) {
                ring_ask(&flow->rx.shm->cons_wait, WAIT_EVENT);
                if (flow_packets_came(flow))
                        next = now + FRCP_IO_VISIT;
        }
        /* Those who call from now on see it, or have been seen: both hold the lock. */
        atomic_store_explicit(&end->visited, next <= now + FRCP_IO_VISIT, memory_order_relaxed);
        frcp_end_unlock(flow);
        return next;
}

/* An end that is closing receives nothing any more for its user, but what the machine has to see. */
int frcp_io_close(struct flow *flow)
{
        struct frcp_end *end = flow->frcp;
        int64_t now = wait_now();
        bool lingers = false, first;
        int result = 0;

        if (end == NULL || flow_check(flow) != 0)
                return 0;
        frcp_end_lock(flow);
        first = !end->closing;
        end->closing = true;
        if (!flow->rx_closed && !flow->rx.broken)
                frcp_end_take(end, RING_SLOTS, NULL, now); /* also the last acknowledgement of a peer that has left */
        if (!flow->rx_closed && flow_error(flow) == 0) {
                frcp_end_settle(end, now);
                frcp_close(&end->frcp, now);
                frcp_end_publish(end);
                lingers = frcp_lingers(&end->frcp);
        }
        /* Also of a flow that is down: what it has sent may still be on its way. */
        if (!flow->rx_closed)
                result = lingers ? -EMUSTSLEEP : (int)frcp_quiet_time(&end->frcp, now);
        frcp_end_unlock(flow);
        if (first)
                flow_withdraw_all(flow); /* those who sleep in a read or a write learn it */
        return result;
}
