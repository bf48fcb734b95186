/* flow_raw: a flow whose packets pass as they are, with keep-alives (docs/reference/api.md); once per packet in a process. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "flow_ops.h"

/* ---- writing ---- */

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

static ssize_t raw_writev(struct flow *flow, const void *buffer, const uint32_t *lengths, uint32_t each, uint32_t count)
{
        const uint8_t *packet = buffer;
        uint32_t space, done;
        uint64_t tail;
        int attempts = 0;
        int error;

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
                error = length > flow->max_packet ? -EMSGSIZE : end_enqueue(&flow->end, done, NULL, 0, packet, length);
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

/* ---- reading ---- */

static void discard(struct flow *flow, uint64_t slot)
{
        if (pool_packet(flow->end.pool, slot) != NULL)
                pool_free(flow->end.pool, SLOT_BLOCK(slot), flow->end.rx.owner);
        else
                flow_refuse(flow);
}

/* Open the packet at the front of the ring, before a reader is notified of it: it may be invalid or empty. */
static bool open_front(struct flow *flow, const uint8_t *packet, uint32_t length)
{
        ssize_t n;

        if (flow->opened_size < length) {
                free(flow->opened);
                flow->opened = malloc(length);
                flow->opened_size = flow->opened != NULL ? length : 0;
        }
        if (flow->opened == NULL)
                return false;
        n = end_open(&flow->end, packet, length, flow->opened);
        if (n <= 0)
                return false;
        flow->opened_at = flow->end.rx.at + 1;
        flow->opened_length = (uint32_t)n;
        return true;
}

/*
 * Length of the plaintext of the front packet, which is opened unless its plaintext certainly is not empty and has at
 * most `most` octets. False: the packet is invalid or empty.
 */
static bool look_at_front(struct flow *flow, const uint8_t *packet, uint32_t *length, uint32_t most)
{
        uint32_t overhead = flow->end.seal->overhead;

        if (flow->opened_at != flow->end.rx.at + 1) {
                if (*length > overhead && *length - overhead <= most) {
                        *length -= overhead;
                        return true;
                }
                if (!open_front(flow, packet, *length))
                        return false;
        }
        *length = flow->opened_length;
        return true;
}

/*
 * Copy the plaintext of the packet `i` places behind the front; returns its length. -EBADMSG: invalid; -ENOBUFS:
 * longer than `size`.
 */
static ssize_t copy_opened(struct flow *flow, uint32_t i, const uint8_t *packet, uint32_t length, uint8_t *at, size_t size)
{
        if (i == 0 && flow->opened_at == flow->end.rx.at + 1) {
                if (flow->opened_length > size)
                        return -ENOBUFS;
                memcpy(at, flow->opened, flow->opened_length);
                return flow->opened_length;
        }
        if (length > size + flow->end.seal->overhead)
                return -ENOBUFS;
        return end_open(&flow->end, packet, length, at);
}

/*
 * The length of the packet at the front. Empty packets (keep-alives), packets that the seal refuses and invalid slots
 * are dropped on the way; a packet of at most `most` octets may still be refused when it is read. 0, -EAGAIN, or the
 * reason why the flow is down. The state is read before the ring, so that a reader gets all packets that the peer
 * wrote before it left, and then the error.
 */
static int rx_front(struct flow *flow, uint32_t *length, uint32_t most)
{
        int error = end_error(&flow->end);
        uint8_t *packet;
        uint64_t slot;

        for (uint32_t i = 0; i < RING_SLOTS; i++) {
                if (ring_ready(&flow->end.rx) == 0) {
                        if (!flow->end.rx.peer_corrupt)
                                return error != 0 ? error : -EAGAIN;
                        flow_mark_corrupt(flow);
                        return -EFLOWDOWN;
                }
                slot = ring_peek(&flow->end.rx, 0);
                packet = pool_packet(flow->end.pool, slot);
                *length = SLOT_LENGTH(slot);
                if (packet != NULL && *length > 0 &&
                    (flow->end.seal == NULL || look_at_front(flow, packet, length, most)))
                        return 0;
                discard(flow, slot);
                end_consume(&flow->end, 1);
        }
        return -EAGAIN;
}

/* The ring is empty and the end is polled through an eventfd: clear it, ask for an event, look again. */
static void rearm(struct flow *flow)
{
        int eventfd = flow_clear_eventfd(flow);

        if (eventfd < 0)
                return;
        if (flow_rx_pending_or_down(flow) || flow_readahead(flow))
                wait_signal_eventfd(eventfd);
}

/*
 * No packet for the reader: releases the lock. 0: try again; else the result for the caller. A peer that sends only
 * keep-alives must not keep the caller, which has signals and a deadline, in C: `attempts` counts.
 */
static int await_packet(struct flow *flow, int error, int *attempts)
{
        struct flow_snapshot seen = {.flow = flow, .rx = flow->end.rx.at};
        bool found;

        rearm(flow);
        if (flow_readahead(flow))
                error = -EREADAHEAD;
        if (error != -EAGAIN || atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_RNOBLOCK) {
                spinlock_release(&flow->rx_lock);
                return error;
        }
        atomic_fetch_add(&flow->sleepers, 1);
        spinlock_release(&flow->rx_lock);
        found = ++*attempts < MAX_ATTEMPTS && wait_poll(&flow->rx_poller, flow_rx_advanced, &seen);
        atomic_fetch_sub(&flow->sleepers, 1);
        return found ? 0 : -EMUSTSLEEP;
}

/* Copy whole packets while they fit; `*taken` is the number of slots to consume. */
static uint32_t gather(struct flow *flow, uint8_t *at, size_t size, uint32_t *lengths, uint32_t max,
                       uint32_t *taken)
{
        uint32_t ready = ring_ready(&flow->end.rx);
        uint32_t n = 0, i;

        for (i = 0; i < ready && n < max; i++) {
                uint64_t slot = ring_peek(&flow->end.rx, i);
                uint8_t *packet = pool_packet(flow->end.pool, slot);
                uint32_t length = SLOT_LENGTH(slot);

                if (i + PREFETCH_DISTANCE < ready)
                        end_prefetch(&flow->end, i + PREFETCH_DISTANCE);
                if (packet == NULL || length == 0) {
                        discard(flow, slot);
                        continue;
                }
                if (flow->end.seal != NULL) {
                        ssize_t opened = copy_opened(flow, i, packet, length, at, size);

                        if (opened == -ENOBUFS)
                                break;
                        if (opened <= 0) {
                                discard(flow, slot);
                                continue;
                        }
                        length = (uint32_t)opened;
                } else {
                        if (length > size)
                                break;
                        memcpy(at, packet, length);
                }
                CRASH(12);
                if (!pool_free(flow->end.pool, SLOT_BLOCK(slot), flow->end.rx.owner))
                        continue;
                lengths[n++] = length;
                at += length;
                size -= length;
        }
        *taken = i;
        return n;
}

static ssize_t raw_readv(struct flow *flow, struct burst *burst, uint32_t max, uint32_t limit, bool readahead)
{
        int attempts = 0;
        uint32_t taken, front;
        ssize_t n;

again:
        spinlock_acquire(&flow->rx_lock);
        n = flow_may_read(flow);
        if (n != 0)
                goto out;
        if (!flow_may_readahead(flow) && readahead)
                max = 1;
        n = rx_front(flow, &front, burst->size);
        if (n != 0) {
                n = await_packet(flow, (int)n, &attempts);
                if (n == 0)
                        goto again;
                return n;
        }
        burst->lengths[0] = front;
        if (front > burst->size) {
                n = -ENOBUFS;
                goto out;
        }
        if (limit < front)
                limit = front;
        n = gather(flow, burst->buffer, limit < burst->size ? limit : burst->size, burst->lengths, max, &taken);
        end_consume(&flow->end, taken);
        if (readahead && n > 1)
                flow_begin_readahead(flow);
        spinlock_release(&flow->rx_lock);
        if (n > 0)
                return n;
        if (++attempts < MAX_ATTEMPTS)
                goto again;
        return atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_RNOBLOCK ? -EAGAIN : -EMUSTSLEEP;
out:
        spinlock_release(&flow->rx_lock);
        return n;
}

static uint32_t raw_examine(struct flow *flow, bool *again)
{
        uint32_t events = 0;
        uint32_t length;

        *again = false;
        spinlock_acquire(&flow->rx_lock);
        if (!flow->rx_closed) {
                events = end_take_events(&flow->end);
                if (flow_readahead(flow) || rx_front(flow, &length, 0) == 0) {
                        events |= EVENT_PKT;
                        *again = true;
                } else {
                        ring_ask(&flow->end.rx.shm->cons_wait, WAIT_EVENT);
                        *again = flow->end.rx.peer_corrupt ? atomic_load(&flow->end.own->events) != 0 :
                                                   atomic_load(&flow->end.rx.shm->head) != flow->end.rx.at;
                }
        }
        spinlock_release(&flow->rx_lock);
        return events;
}

/* ---- waiting ---- */

static uint64_t queued(const struct ring_shm *ring)
{
        uint64_t n = atomic_load(&ring->head) - atomic_load(&ring->tail);

        return n > RING_SLOTS ? 0 : n;
}

static void raw_queues(struct flow *flow, uint64_t *rx, uint64_t *tx)
{
        spinlock_acquire(&flow->rx_lock);
        if (!flow->rx_closed) {
                *rx = queued(flow->end.rx.shm);
                *tx = queued(flow->end.tx.shm);
        }
        spinlock_release(&flow->rx_lock);
}

static bool tx_has_space(struct flow *flow)
{
        return atomic_load_explicit(&flow->end.tx.shm->tail, memory_order_seq_cst) != flow->end.tx.other;
}

static uint32_t raw_ask(struct flow *flow, enum flow_cause cause, _Atomic uint32_t **word, int64_t *due)
{
        bool writing = cause == FLOW_WRITING;
        struct spinlock *lock = writing ? &flow->tx_lock : &flow->rx_lock;
        uint32_t value = 0;

        (void)due;
        *word = writing ? &flow->end.tx.shm->prod_wait : &flow->end.rx.shm->cons_wait;
        spinlock_acquire(lock);
        if (!(writing ? flow->tx_closed : flow->rx_closed)) {
                value = ring_ask(*word, WAIT_FUTEX);
                CRASH(16);
                if ((writing ? tx_has_space(flow) : end_rx_pending(&flow->end) || flow_readahead(flow)) ||
                    end_state(&flow->end)) {
                        value = 0;
                        flow_withdraw(flow, *word);
                }
        }
        spinlock_release(lock);
        return value;
}

static bool raw_notify_writable(struct flow *flow)
{
        bool writable;

        spinlock_acquire(&flow->tx_lock);
        if (flow->tx_closed) {
                spinlock_release(&flow->tx_lock);
                return true;
        }
        wait_clear_eventfd(atomic_load(&flow->writable_eventfd));
        ring_ask(&flow->end.tx.shm->prod_wait, WAIT_EVENT);
        writable = tx_has_space(flow) || end_state(&flow->end);
        spinlock_release(&flow->tx_lock);
        return writable;
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
        if (end_space(&flow->end) > 0 && end_enqueue(&flow->end, 0, NULL, 0, NULL, 0) == 0)
                flow_publish(flow, 1);
        flow->last_tx_index = flow->end.tx.at;
        flow->alive.sent = now;
}

int64_t flow_on_timer(struct flow *flow, int64_t now, bool *found)
{
        struct keepalive *alive = &flow->alive;
        uint32_t length;
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
                rx_front(flow, &length, UINT32_MAX); /* unread keep-alives must not fill the ring */
                if (keepalive_quiet(alive, now))
                        send_keepalive(flow, now);
        }
        spinlock_release(&flow->tx_lock);
        spinlock_release(&flow->rx_lock);
        return keepalive_deadline(alive);
}

static int64_t raw_start_timer(struct flow *flow, void (*request)(void *arg, struct flow *flow), void *arg)
{
        (void)request;
        (void)arg;
        return keepalive_deadline(&flow->alive);
}

static void raw_fini(struct flow *flow)
{
        free(flow->opened);
}

const struct flow_ops flow_raw = {
        .writev = raw_writev,
        .readv = raw_readv,
        .ask = raw_ask,
        .notify_writable = raw_notify_writable,
        .examine = raw_examine,
        .queues = raw_queues,
        .start_timer = raw_start_timer,
        .on_timer = flow_on_timer,
        .fini = raw_fini,
};
