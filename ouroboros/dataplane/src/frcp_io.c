#define _GNU_SOURCE
#include "frcp_io.h"

#include "flow_notify.h"
#include "map.h"

#define MAX_ATTEMPTS 16      /* attempts of one call before it returns to its caller, whatever the peer does */
#define AGAIN (-EINPROGRESS) /* no result yet: the call tries again */

static bool is_blocking(const struct flow *flow, uint32_t flag)
{
        return !(atomic_load_explicit(&flow->flags, memory_order_relaxed) & flag);
}

/* ---- writing ---- */

/* New packets, which may acknowledge or open the window, or space in a ring that was full. */
static bool may_write_now(const void *arg)
{
        const struct flow_snapshot *snapshot = arg;

        return flow_rx_advanced(snapshot) ||
               (snapshot->full &&
                atomic_load_explicit(&snapshot->flow->end.tx.shm->tail, memory_order_relaxed) != snapshot->tx);
}

static ssize_t write_some(struct frcp_end *end, const uint8_t *packet, const uint32_t *lengths, uint32_t each,
                          uint32_t count, int64_t now)
{
        uint32_t done;
        ssize_t result = 0;

        for (done = 0; done < count; done++) {
                uint32_t length = lengths != NULL ? lengths[done] : each;

                result = frcp_write(&end->frcp, packet, length, now);
                if (result < 0)
                        break;
                packet += length;
        }
        return done > 0 ? (ssize_t)done : result;
}

ssize_t frcp_io_writev(struct flow *flow, const void *buffer, const uint32_t *lengths, uint32_t each,
                       uint32_t count)
{
        struct frcp_end *end = flow->frcp;
        ssize_t result;

        for (int attempt = 0;; attempt++) {
                struct flow_snapshot snapshot = {.flow = flow};
                int64_t now;

                frcp_end_lock(flow);
                result = end->closing ? -ENOTALLOC : flow_may_write(flow);
                if (result != 0) {
                        frcp_end_unlock(flow);
                        return result;
                }
                now = wait_now();
                frcp_end_take(end, FRCP_BATCH, NULL, now);
                result = write_some(end, buffer, lengths, each, count, now);
                snapshot.full = result == -EAGAIN && frcp_end_space(end) == 0;
                snapshot.rx = flow->end.rx.at;
                snapshot.tx = flow->end.tx.other;
                atomic_fetch_add(&flow->sleepers, 1);
                frcp_end_leave(end, now);
                if (result == -EAGAIN && is_blocking(flow, FLOW_WNOBLOCK))
                        result = attempt < MAX_ATTEMPTS && wait_poll(&flow->tx_poller, may_write_now, &snapshot) ?
                                         AGAIN :
                                         -EMUSTSLEEP;
                atomic_fetch_sub(&flow->sleepers, 1);
                if (result != AGAIN)
                        return result;
        }
}

/* ---- reading ---- */

/* Packets for the reader; else the reason: -ENOBUFS, -EAGAIN, or why the flow is down. */
static ssize_t read_some(struct frcp_end *end, struct burst *burst, struct frcp_reader *reader, int64_t now)
{
        struct flow *flow = end->flow;
        int error = end_error(&flow->end);
        struct frcp_piece piece;

        frcp_end_read(end, reader, now);
        /* At most RING_SLOTS packets: a peer that sends unreadable packets forever must not keep the caller in C. */
        for (uint32_t all = 0, taken = 1; taken > 0 && all < RING_SLOTS; all += taken) {
                if (reader->count > 0 || end->frcp.recvq.messages > 0)
                        break;
                taken = frcp_end_take(end, FRCP_BATCH, reader, now);
        }
        if (reader->count > 0)
                return reader->count;
        if (frcp_front(&end->frcp, &piece)) {
                burst->lengths[0] = piece.length;
                return -ENOBUFS;
        }
        if (end->frcp.fin_received) {
                end->eof_read = true;
                return -EFLOWDOWN;
        }
        if (end->frcp.down != 0)
                return end->frcp.down;
        return error != 0 ? error : -EAGAIN;
}

/* The reader found nothing and the end is polled through an eventfd: clear it, ask for an event, look again. */
static void rearm(struct frcp_end *end)
{
        struct flow *flow = end->flow;
        int eventfd = flow_clear_eventfd(flow);

        if (eventfd < 0)
                return;
        if (flow_rx_pending_or_down(flow) || frcp_end_readable(end) || end->frcp.down != 0)
                wait_signal_eventfd(eventfd);
}

ssize_t frcp_io_take(struct flow *flow, struct burst *burst, uint32_t max, uint32_t limit, bool readahead)
{
        struct frcp_end *end = flow->frcp;
        ssize_t n;

        for (int attempt = 0;; attempt++) {
                /* Readahead is bounded, the packet at the front is not. */
                struct frcp_reader reader = {burst->buffer, burst->size, burst->lengths, 0, 1};
                struct flow_snapshot snapshot = {.flow = flow};
                int64_t now;
                bool may_readahead;

                frcp_end_lock(flow);
                n = end->closing ? -ENOTALLOC : flow_may_read(flow);
                if (n != 0) {
                        frcp_end_unlock(flow);
                        return n;
                }
                now = wait_now();
                may_readahead = flow_may_readahead(flow);
                n = read_some(end, burst, &reader, now);
                if (n <= 0 && n != -ENOBUFS && flow_readahead(flow))
                        n = -EREADAHEAD;
                if (n > 0 && max > 1 && (may_readahead || !readahead) && limit > burst->lengths[0]) {
                        reader.max = max;
                        reader.size = (limit < burst->size ? limit : burst->size) - burst->lengths[0];
                        frcp_end_read(end, &reader, now);
                        frcp_end_take(end, max - reader.count, &reader, now);
                        n = reader.count;
                }
                if (n > 1 && readahead)
                        flow_begin_readahead(flow);
                if (n == -EAGAIN)
                        rearm(end);
                snapshot.rx = flow->end.rx.at;
                atomic_fetch_add(&flow->sleepers, 1);
                frcp_end_leave(end, now);
                if (n == -EAGAIN && is_blocking(flow, FLOW_RNOBLOCK))
                        n = attempt < MAX_ATTEMPTS && wait_poll(&flow->rx_poller, flow_rx_advanced, &snapshot) ?
                                    AGAIN :
                                    -EMUSTSLEEP;
                atomic_fetch_sub(&flow->sleepers, 1);
                if (n != AGAIN)
                        return n;
        }
}

/* ---- waiting, and the thread ---- */

bool frcp_io_ready(struct flow *flow, bool writing)
{
        struct frcp *frcp = &flow->frcp->frcp;

        if (frcp->down != 0 || flow->frcp->closing)
                return true;
        return writing ? frcp_writable(frcp, 1) : frcp->recvq.messages > 0 || frcp->fin_received;
}

bool frcp_io_notify_writable(struct flow *flow)
{
        struct frcp_end *end = flow->frcp;
        bool writable = true;

        frcp_end_lock(flow);
        if (!flow->rx_closed && end_error(&flow->end) == 0 && end->frcp.down == 0 && end->frcp.fin_received != FRCP_CLOSED) {
                wait_clear_eventfd(atomic_load(&flow->writable_eventfd));
                ring_ask(&flow->end.rx.shm->cons_wait, WAIT_EVENT);
                ring_ask(&flow->end.tx.shm->prod_wait, WAIT_EVENT);
                /* The following write processes pending packets: one may open the window. */
                writable = flow_rx_pending_or_down(flow) || (frcp_writable(&end->frcp, 1) && frcp_end_space(end) > 0);
        }
        frcp_end_unlock(flow);
        return writable;
}

/*
 * Whether a thread about to sleep would find its cause already: a packet (which may open the window) or, with a full
 * ring, space.
 */
static bool need_not_sleep(struct flow *flow, bool writing, bool full)
{
        if (full)
                return end_state(&flow->end) || flow->end.tx.peer_corrupt || flow->frcp->closing ||
                       frcp_end_space(flow->frcp) > 0;
        return flow_rx_pending_or_down(flow) || frcp_io_ready(flow, writing) || (!writing && flow_readahead(flow));
}

enum cause { READING, WRITING, LINGERING };

/* A lingering end waits neither for packets to read nor for space. */
static int sleep_until(struct flow *flow, enum cause cause, int64_t deadline)
{
        bool writing = cause == WRITING;
        _Atomic uint32_t *word = &flow->end.rx.shm->cons_wait;
        uint32_t value = 0;
        int64_t due = NEVER;
        int result;

        atomic_fetch_add(&flow->sleepers, 1);
        frcp_end_lock(flow);
        if (!flow->rx_closed) {
                bool full = writing && frcp_end_space(flow->frcp) == 0;

                if (full)
                        word = &flow->end.tx.shm->prod_wait;
                due = frcp_deadline(&flow->frcp->frcp);
                value = ring_ask(word, WAIT_FUTEX);
                if (cause == LINGERING ? flow_rx_pending_or_down(flow) || flow->frcp->frcp.down != 0 :
                                         need_not_sleep(flow, writing, full)) {
                        value = 0;
                        flow_withdraw(flow, word);
                }
        }
        frcp_end_unlock(flow);
        if (value == 0) {
                atomic_fetch_sub(&flow->sleepers, 1);
                return 0;
        }
        result = wait_sleep(word, value, due != NEVER && (deadline < 0 || due < deadline) ? due : deadline);
        atomic_fetch_sub(&flow->sleepers, 1);
        return result == -ETIMEDOUT && (deadline < 0 || due < deadline) ? 0 : result;
}

int frcp_io_sleep(struct flow *flow, bool writing, int64_t deadline)
{
        return sleep_until(flow, writing ? WRITING : READING, deadline);
}

int frcp_io_linger(struct flow *flow, int64_t deadline)
{
        if (flow->frcp == NULL || flow->generation != map_generation)
                return 0;
        return sleep_until(flow, LINGERING, deadline);
}

void frcp_io_queues(struct flow *flow, uint64_t *rx, uint64_t *tx)
{
        struct frcp_end *end = flow->frcp;
        int64_t now = wait_now();

        frcp_end_lock(flow);
        if (flow->rx_closed) {
                frcp_end_unlock(flow);
                return;
        }
        frcp_end_take(end, FRCP_BATCH, NULL, now);
        *rx = end->frcp.recvq.messages;
        *tx = end->frcp.sendq.count;
        if (!end->frcp.config.retransmit) {
                ring_space_now(&flow->end.tx);
                *tx += flow->end.tx.at - flow->end.tx.other;
        }
        frcp_end_leave(end, now);
}
