/* flow_read: reading packets (docs/reference/api.md), and their events; runs once per packet in a process. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "flow.h"
#include "flow_notify.h"
#include "frcp_io.h"
#include "map.h"

#define MAX_ATTEMPTS 16 /* attempts of one call before it returns to its caller, whatever the peer does */

static _Thread_local char this_thread; /* its address identifies the thread */

int flow_may_read(const struct flow *flow)
{
        if (flow->rx_closed)
                return -ENOTALLOC;
        if ((atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_ACCMODE) == FLOW_WRONLY)
                return -EPERM;
        return 0;
}

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

void flow_skip_empty(struct flow *flow)
{
        uint32_t length;

        rx_front(flow, &length, UINT32_MAX);
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

bool flow_may_readahead(struct flow *flow)
{
        uintptr_t owner = atomic_load_explicit(&flow->readahead_owner, memory_order_relaxed);

        if (owner == (uintptr_t)&this_thread)
                atomic_store_explicit(&flow->readahead_owner, 0, memory_order_relaxed);
        return owner == 0 || owner == (uintptr_t)&this_thread;
}

void flow_begin_readahead(struct flow *flow)
{
        _Atomic uint32_t *word = &flow->end.rx.shm->cons_wait;

        atomic_store(&flow->readahead_owner, (uintptr_t)&this_thread);
        if (atomic_load(&flow->sleepers) > 0 && atomic_fetch_and(word, ~WAIT_FUTEX) & WAIT_FUTEX)
                wait_wake(word); /* other threads that wait for packets get those read ahead */
}

/* Read packets from the front of the ring; takes and releases the lock. `limit`: octets beyond the first packet. */
static ssize_t read_packets(struct flow *flow, struct burst *burst, uint32_t max, uint32_t limit, bool readahead)
{
        int attempts = 0;
        uint32_t taken, front;
        ssize_t n;

        if (flow->generation != map_generation)
                return flow_check(flow);
        if (max == 0)
                return 0;
        if (flow->frcp != NULL)
                return frcp_io_take(flow, burst, max, limit, readahead);
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

/* The common length of all packets, or 0. */
static uint32_t common_length(const uint32_t *lengths, ssize_t count)
{
        for (ssize_t i = 1; i < count; i++)
                if (lengths[i] != lengths[0])
                        return 0;
        return lengths[0];
}

ssize_t flow_readv(struct flow *flow, struct burst *burst, uint32_t max)
{
        ssize_t n = read_packets(flow, burst, max, burst->size, false);

        if (n > 0)
                burst->each = common_length(burst->lengths, n);
        return n;
}

ssize_t flow_read(struct flow *flow, struct burst *burst)
{
        ssize_t n = read_packets(flow, burst, READAHEAD_PACKETS, READAHEAD_OCTETS, true);

        if (n == 1)
                return burst->lengths[0];
        if (n > 1) {
                burst->each = common_length(burst->lengths, n);
                return n | FLOW_READAHEAD;
        }
        return n;
}

ssize_t flow_read_into(struct flow *flow, void *buffer, size_t size)
{
        uint32_t length = 0;
        struct burst burst = {buffer, &length, size < UINT32_MAX ? (uint32_t)size : UINT32_MAX, 0};
        ssize_t n = read_packets(flow, &burst, 1, 0, false);

        return n == 1 ? length : n;
}

uint32_t flow_examine(struct flow *flow, bool *again)
{
        uint32_t events = 0;
        uint32_t length;

        if (flow->frcp != NULL)
                return frcp_io_examine(flow, again);
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
