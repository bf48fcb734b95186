/* flow_write: writing packets (docs/reference/api.md), and keep-alives; runs once per packet in a process. */
#define _GNU_SOURCE
#include <string.h>

#include "flow.h"
#include "flow_notify.h"
#include "frcp_io.h"
#include "map.h"

#define MAX_ATTEMPTS 16 /* attempts of one call before it returns to its caller, whatever the peer does */

int flow_may_write(const struct flow *flow)
{
        if (flow->tx_closed)
                return -ENOTALLOC;
        if ((atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_ACCMODE) == FLOW_RDONLY)
                return -EPERM;
        return end_error(&flow->end);
}

/* Inlined into flow_writev: it has no header, and a call would cost some percent of a small packet. */
static inline __attribute__((always_inline)) int put(struct end *end, uint32_t offset, const void *header,
                                                     uint32_t header_length, const void *data, uint32_t length)
{
        struct pool *pool = end->pool;
        uint32_t total = header_length + length;
        int64_t block = end_alloc(end, total);
        uint8_t *at;
        int c;

        if (block < 0)
                return (int)block;
        c = pool_class_of(pool, (uint32_t)block);
        at = pool_block(pool, c, (uint32_t)block) + HEADROOM;
        if (end->seal == NULL) {
                if (header_length > 0)
                        memcpy(at, header, header_length);
                if (length > 0)
                        memcpy(at + header_length, data, length);
        } else {
                ssize_t n = seal_packet(end->seal, header, header_length, data, length, at);

                if (n < 0) {
                        pool_free(pool, (uint32_t)block, pool->self);
                        return (int)n;
                }
                total = (uint32_t)n;
        }
        CRASH(4);
        pool_give(pool, (uint32_t)block, end->tx.owner);
        CRASH(5);
        end_enqueue(end, pool, offset, SLOT(block, HEADROOM, total), c);
        return 0;
}

int flow_put(struct flow *flow, uint32_t offset, const void *header, uint32_t header_length, const void *data,
             uint32_t length)
{
        return put(&flow->end, offset, header, header_length, data, length);
}

struct space_wanted {
        const struct flow *flow;
        uint64_t tail;
};

/* A polling writer waits for a quarter of the ring: else it would come back for every single slot. */
static bool quarter_free(const void *arg)
{
        const struct space_wanted *wanted = arg;
        const struct flow *flow = wanted->flow;
        uint64_t tail = atomic_load_explicit(&flow->end.tx.shm->tail, memory_order_relaxed);

        return tail - wanted->tail >= RING_SLOTS / 4 || end_state(&flow->end) ||
               (tail != wanted->tail && atomic_load_explicit(&flow->end.tx.shm->head, memory_order_relaxed) == tail);
}

/* The ring is full. 0: try again; else the result for the caller. */
static int await_space(struct flow *flow, uint64_t tail, int *attempts)
{
        struct space_wanted wanted = {flow, tail};

        if (atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_WNOBLOCK)
                return -EAGAIN;
        if (++*attempts >= MAX_ATTEMPTS)
                return -EMUSTSLEEP;
        if (wait_poll(&flow->tx_poller, quarter_free, &wanted))
                return 0;
        return atomic_load_explicit(&flow->end.tx.shm->tail, memory_order_relaxed) != tail ? 0 : -EMUSTSLEEP;
}

/*
 * The flow went down during the write: the IRMd, which frees the packets of a dead reader, may have looked before
 * they were published. Free the packets of this write; the owner word's compare-and-swap decides if the reader or the
 * IRMd frees them too.
 */
static uint32_t reclaim(struct flow *flow, uint32_t count)
{
        uint32_t reclaimed = 0;

        for (uint64_t at = flow->end.tx.at - count; at != flow->end.tx.at; at++) {
                uint64_t slot = atomic_load_explicit(&flow->end.tx.slots[at & RING_MASK], memory_order_relaxed);

                if (pool_packet(flow->end.pool, slot) != NULL)
                        reclaimed += pool_free(flow->end.pool, SLOT_BLOCK(slot), flow->end.tx.owner);
        }
        return reclaimed;
}

uint32_t flow_publish(struct flow *flow, uint32_t count)
{
        end_publish(&flow->end, count);
        return end_error(&flow->end) != 0 ? reclaim(flow, count) : 0;
}

ssize_t flow_writev(struct flow *flow, const void *buffer, const uint32_t *lengths, uint32_t each, uint32_t count)
{
        const uint8_t *packet = buffer;
        uint32_t space, done;
        uint64_t tail;
        int attempts = 0;
        int error;

        if (flow->generation != map_generation)
                return flow_check(flow);
        if (count == 0)
                return 0;
        if (flow->frcp != NULL)
                return frcp_io_writev(flow, buffer, lengths, each, count);
        for (;;) {
                spinlock_acquire(&flow->tx_lock);
                error = flow_may_write(flow);
                if (error != 0)
                        goto out;
                space = end_space(&flow->end);
                if (space > 0)
                        break;
                if (flow->end.tx.peer_corrupt) {
                        flow_mark_corrupt(flow);
                        error = -EFLOWDOWN;
                        goto out;
                }
                tail = flow->end.tx.other;
                atomic_fetch_add(&flow->sleepers, 1);
                spinlock_release(&flow->tx_lock);
                error = await_space(flow, tail, &attempts);
                atomic_fetch_sub(&flow->sleepers, 1);
                if (error != 0)
                        return error;
        }
        for (done = 0; done < count && done < space; done++) {
                uint32_t length = lengths != NULL ? lengths[done] : each;

                if (budget_spent(&flow->end.budget))
                        break;
                error = length > flow->max_packet ? -EMSGSIZE : put(&flow->end, done, NULL, 0, packet, length);
                if (error != 0)
                        break;
                packet += length;
        }
        if (done == 0)
                goto out;
        done -= flow_publish(flow, done);
        if (done == 0) {
                error = end_error(&flow->end);
                goto out;
        }
        spinlock_release(&flow->tx_lock);
        return done;
out:
        spinlock_release(&flow->tx_lock);
        return error;
}

ssize_t flow_write(struct flow *flow, const void *buffer, size_t length)
{
        ssize_t written;

        if (length > SLOT_LENGTH(UINT64_MAX))
                return -EMSGSIZE;
        written = flow_writev(flow, buffer, NULL, (uint32_t)length, 1);
        return written == 1 ? (ssize_t)length : written;
}

/* ---- keep-alives ---- */

void flow_keep_alive(struct flow *flow, uint32_t timeout_ms)
{
        keepalive_init(&flow->alive, timeout_ms, wait_now());
        flow->last_rx_index = flow->end.rx.at;
        flow->last_tx_index = flow->end.tx.at;
}

/* Send a keep-alive, unless the ring is full: then the peer has packets to read. */
static void send_keepalive(struct flow *flow, int64_t now)
{
        if (end_error(&flow->end) != 0)
                return;
        if (end_space(&flow->end) > 0 && flow_put(flow, 0, NULL, 0, NULL, 0) == 0)
                flow_publish(flow, 1);
        flow->last_tx_index = flow->end.tx.at;
        flow->alive.sent = now;
}

int64_t flow_on_timer(struct flow *flow, int64_t now, bool *found)
{
        struct keepalive *alive = &flow->alive;
        uint64_t head;

        *found = false;
        spinlock_acquire(&flow->rx_lock);
        spinlock_acquire(&flow->tx_lock);
        if (flow->rx_closed || end_state(&flow->end) & ~END_DECLARED)
                alive->expired = true;
        head = atomic_load_explicit(&flow->end.rx.shm->head, memory_order_relaxed);
        if (head != flow->last_rx_index || head - flow->end.rx.at >= RING_SLOTS)
                alive->received = now; /* also while the ring is full, because the peer cannot send then */
        flow->last_rx_index = head;
        if (flow->end.tx.at != flow->last_tx_index)
                alive->sent = now;
        flow->last_tx_index = flow->end.tx.at;
        if (!alive->expired && keepalive_lost(alive, now)) {
                alive->expired = true;
                flow_give_up(flow, END_PEER, EVENT_PEER);
                *found = true;
        } else if (!alive->expired) {
                flow_skip_empty(flow); /* unread keep-alives must not fill the ring */
                if (keepalive_quiet(alive, now))
                        send_keepalive(flow, now);
        }
        spinlock_release(&flow->tx_lock);
        spinlock_release(&flow->rx_lock);
        return keepalive_deadline(alive);
}
