/* frcp_poll: polls of flow ends with FRCP that have no call in progress (paper 2.17), and of lingering ones. */
#include "flow_notify.h"
#include "frcp_io.h"
#include "map.h"

#define IDLE_POLLS 10u /* polls without activity, after which the end asks for an event */

/* EVENT_DEALLOC, once, when the peer has left. On a direct flow the IRMd raises it. */
static uint32_t peer_closed(struct frcp_end *end)
{
        if (end->dealloc_raised || end->frcp.fin_received != FRCP_CLOSED || end->frcp.config.mpl_ms <= FRCP_DIRECT_MS)
                return 0;
        end->dealloc_raised = true;
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
                frcp_end_run(end, now);
                events = end_take_events(&flow->end);
                /* The user may not read soon: the thread acknowledges the packets. */
                if (taken > 0 && !atomic_exchange_explicit(&end->poll_requested, true, memory_order_relaxed))
                        events |= FLOW_NEEDS_POLL;
                events |= peer_closed(end);
                if (frcp_end_readable(end)) {
                        events |= EVENT_PKT;
                        *again = true;
                } else {
                        ring_ask(&flow->end.rx.shm->cons_wait, WAIT_EVENT);
                        *again = end_rx_pending(&flow->end);
                }
        }
        frcp_end_unlock(flow);
        return events;
}

int64_t frcp_io_poll(struct flow *flow, int64_t now, bool *woken)
{
        struct frcp_end *end = flow->frcp;
        int64_t next = NEVER;

        *woken = false;
        frcp_end_lock(flow);
        if (flow->rx_closed) {
                frcp_end_unlock(flow);
                return NEVER;
        }
        if (flow->end.rx.at == end->rx_at_poll && end_rx_pending(&flow->end))
                *woken = frcp_end_take(end, RING_SLOTS, NULL, now) > 0;
        end->idle_polls = flow->end.rx.at == end->rx_at_poll && !end_rx_pending(&flow->end) ? end->idle_polls + 1 : 0;
        end->rx_at_poll = flow->end.rx.at;
        frcp_end_run(end, now);
        *woken = *woken || end->state_changed;
        end->state_changed = false;
        next = frcp_deadline(&end->frcp);
        if (end->idle_polls < IDLE_POLLS && next > now + FRCP_IO_POLL_INTERVAL) {
                next = now + FRCP_IO_POLL_INTERVAL;
        } else if (end->idle_polls >= IDLE_POLLS) {
                ring_ask(&flow->end.rx.shm->cons_wait, WAIT_EVENT);
                if (end_rx_pending(&flow->end))
                        next = now + FRCP_IO_POLL_INTERVAL;
        }
        /* A later call of the user sees this store, and an earlier one has been seen here: both hold the lock. */
        atomic_store_explicit(&end->poll_requested, next <= now + FRCP_IO_POLL_INTERVAL, memory_order_relaxed);
        frcp_end_unlock(flow);
        return next;
}

/* A closing end drops received data; the machine still processes acknowledgements. */
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
        if (!flow->rx_closed && !flow->end.rx.peer_corrupt)
                /* the ring may hold the last acknowledgement of a peer that has left */
                frcp_end_take(end, RING_SLOTS, NULL, now);
        if (!flow->rx_closed && end_error(&flow->end) == 0) {
                frcp_end_run(end, now);
                frcp_close(&end->frcp, now);
                frcp_end_publish(end);
                lingers = frcp_lingers(&end->frcp);
        }
        /* A flow that is down has a quiet time, too: its packets may still be on their way. */
        if (!flow->rx_closed)
                result = lingers ? -EMUSTSLEEP : (int)frcp_quiet_time(&end->frcp, now);
        frcp_end_unlock(flow);
        if (first)
                flow_withdraw_all(flow); /* wakes threads that sleep in a read or a write */
        return result;
}
