/* flow_io: reading and writing packets (spec cli-api 4.3); the only code that runs once per packet in a process. */
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>

#include "flow.h"
#include "map.h"

/* ---- telling the other side. With the lock held: a detaching thread must not unmap what is used here. ---- */

static void tell(struct flow *flow, _Atomic uint32_t *word, uint32_t wanted)
{
        if (wanted & WAIT_FUTEX)
                wait_wake(word);
        if (wanted & WAIT_EVENT && flow->peer != NULL)
                events_raise(flow->peer, flow->peer_fd);
}

/* ---- writing ---- */

static int tx_check(const struct flow *flow)
{
        if (flow->tx_closed)
                return -ENOTALLOC;
        if ((atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_ACCMODE) == FLOW_RDONLY)
                return -EPERM;
        if (flow->tx.broken)
                return -EFLOWDOWN;
        return flow_error(flow);
}

/* Put one packet behind `ahead` unpublished ones. */
static int put(struct flow *flow, uint32_t ahead, const void *packet, size_t length)
{
        struct pool *pool = flow->pool;
        int64_t block;
        int c;

        if (length > flow->max_packet)
                return -EMSGSIZE;
        block = pool_alloc(pool, length);
        if (block < 0)
                return (int)block;
        c = pool_class_of(pool, (uint32_t)block);
        memcpy(pool_block(pool, c, (uint32_t)block) + HEADROOM, packet, length);
        CRASH(4);
        pool_give(pool, (uint32_t)block, flow->tx.owner);
        CRASH(5);
        ring_put(&flow->tx, ahead, SLOT(block, HEADROOM, length));
        budget_charge(&flow->budget, &flow->tx, ahead, pool, c);
        return 0;
}

struct room_wanted {
        const struct flow *flow;
        uint64_t tail;
};

/* A writer that polls waits for a quarter of the ring: else it would come back for every single slot. */
static bool much_room(const void *arg)
{
        const struct room_wanted *wanted = arg;
        const struct flow *flow = wanted->flow;
        uint64_t tail = atomic_load_explicit(&flow->tx.shm->tail, memory_order_relaxed);

        return tail - wanted->tail >= RING_SLOTS / 4 || flow_state(flow) ||
               (tail != wanted->tail && atomic_load_explicit(&flow->tx.shm->head, memory_order_relaxed) == tail);
}

/* The ring is full. 0: try again; else what the caller returns. */
static int await_room(struct flow *flow, uint64_t tail)
{
        struct room_wanted wanted = {flow, tail};

        if (atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_WNOBLOCK)
                return -EAGAIN;
        if (wait_poll(&flow->tx_poller, much_room, &wanted))
                return 0;
        return atomic_load_explicit(&flow->tx.shm->tail, memory_order_relaxed) != tail ? 0 : -EMUSTSLEEP;
}

/*
 * The flow went down while we wrote: whoever cleans up behind a dead reader may have looked before we published.
 * What we put just now goes back; compare-and-swap decides should the reader, or the IRMd, be at it too.
 */
static uint32_t take_back(struct flow *flow, uint32_t count)
{
        uint32_t taken = 0;

        for (uint64_t at = flow->tx.at - count; at != flow->tx.at; at++) {
                uint64_t slot = atomic_load_explicit(&flow->tx.slots[at & RING_MASK], memory_order_relaxed);

                if (pool_packet(flow->pool, slot) != NULL)
                        taken += pool_free(flow->pool, SLOT_BLOCK(slot), flow->tx.owner);
        }
        return taken;
}

ssize_t flow_writev(struct flow *flow, const void *buffer, const uint32_t *lengths, uint32_t each, uint32_t count)
{
        const uint8_t *packet = buffer;
        uint32_t room, done, wanted;
        uint64_t tail;
        int error;

        if (flow == NULL)
                return -ENOTALLOC;
        if (flow->generation != map_generation)
                return -EBADF;
        if (count == 0)
                return 0;
        for (;;) {
                spinlock_acquire(&flow->tx_lock);
                error = tx_check(flow);
                if (error != 0)
                        goto out;
                room = budget_room(&flow->budget, &flow->tx, flow->pool);
                if (room > 0)
                        break;
                if (flow->tx.broken) {
                        error = -EFLOWDOWN;
                        goto out;
                }
                tail = flow->tx.other;
                atomic_fetch_add(&flow->sleepers, 1);
                spinlock_release(&flow->tx_lock);
                error = await_room(flow, tail);
                atomic_fetch_sub(&flow->sleepers, 1);
                if (error != 0)
                        return error;
        }
        for (done = 0; done < count && done < room; done++) {
                size_t length = lengths != NULL ? lengths[done] : each;

                if (budget_spent(&flow->budget))
                        break;
                error = put(flow, done, packet, length);
                if (error != 0)
                        break;
                packet += length;
        }
        if (done == 0)
                goto out;
        wanted = ring_publish(&flow->tx, done);
        if (wanted)
                tell(flow, &flow->tx.shm->cons_wait, wanted);
        error = flow_error(flow);
        if (error != 0) {
                done -= take_back(flow, done);
                if (done == 0)
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

/* ---- reading ---- */

static int rx_check(const struct flow *flow)
{
        if (flow->rx_closed)
                return -ENOTALLOC;
        if ((atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_ACCMODE) == FLOW_WRONLY)
                return -EPERM;
        return 0;
}

static void consume(struct flow *flow, uint32_t count)
{
        uint32_t wanted = ring_consume(&flow->rx, count);

        if (wanted)
                tell(flow, &flow->rx.shm->prod_wait, wanted);
}

static void discard(struct flow *flow, uint64_t slot)
{
        if (pool_packet(flow->pool, slot) != NULL)
                pool_free(flow->pool, SLOT_BLOCK(slot), flow->rx.owner);
        else
                atomic_fetch_add_explicit(&flow->pool->refused, 1, memory_order_relaxed);
}

/*
 * The packet at the front. Empty packets (keep-alives) and slots that make no sense are dropped on the way.
 * 0, or -EAGAIN, or why there will never be one. The state is read before the ring, so that what a peer wrote
 * before it left is read before its leaving is told.
 */
static int rx_front(struct flow *flow, uint64_t *slot, uint8_t **packet)
{
        int gone = flow_error(flow);

        for (uint32_t i = 0; i < RING_SLOTS; i++) {
                if (ring_ready(&flow->rx) == 0)
                        return flow->rx.broken ? -EFLOWDOWN : gone != 0 ? gone : -EAGAIN;
                *slot = ring_peek(&flow->rx, 0);
                *packet = pool_packet(flow->pool, *slot);
                if (*packet != NULL && SLOT_LENGTH(*slot) > 0)
                        return 0;
                discard(flow, *slot);
                consume(flow, 1);
        }
        return -EAGAIN;
}

static bool something_to_read(const void *arg)
{
        const struct flow *flow = arg;

        return atomic_load_explicit(&flow->rx.shm->head, memory_order_relaxed) != flow->rx.at || flow_state(flow);
}

/* Nothing there and the end is polled by a descriptor: clear it, ask for the event, look once more. */
static void rearm(struct flow *flow)
{
        int eventfd = atomic_load_explicit(&flow->eventfd, memory_order_relaxed);
        uint64_t count;

        if (eventfd < 0)
                return;
        if (read(eventfd, &count, sizeof count) < 0) {
                /* Was clear already. */
        }
        ring_ask(&flow->rx.shm->cons_wait, WAIT_EVENT);
        if (something_to_read(flow))
                wait_ring_eventfd(eventfd);
}

/* The ring is empty: lets go of the lock. 0: try again; else what the caller returns. */
static int await_packet(struct flow *flow, int error)
{
        bool found;

        rearm(flow);
        if (error != -EAGAIN || atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_RNOBLOCK) {
                spinlock_release(&flow->rx_lock);
                return error;
        }
        atomic_fetch_add(&flow->sleepers, 1);
        spinlock_release(&flow->rx_lock);
        found = wait_poll(&flow->rx_poller, something_to_read, flow);
        atomic_fetch_sub(&flow->sleepers, 1);
        return found ? 0 : -EMUSTSLEEP;
}

static size_t take_part(struct flow *flow, void *buffer, size_t count)
{
        size_t n = count < flow->part_length ? count : flow->part_length;

        memcpy(buffer, flow->part, n);
        flow->part += n;
        flow->part_length -= (uint32_t)n;
        if (flow->part_length == 0) {
                pool_free(flow->pool, flow->part_block, flow->pool->self);
                flow->end_mark = n == count;
        }
        return n;
}

/* Copy out the packet at the front, or as much as fits. Octets, or -EMSGSIZE, or -EAGAIN when it was a sham. */
static ssize_t take_front(struct flow *flow, uint64_t slot, uint8_t *packet, void *buffer, size_t count)
{
        bool whole = atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_RNOPART;
        uint32_t length = SLOT_LENGTH(slot);

        if (count >= length) {
                memcpy(buffer, packet, length);
                CRASH(12);
                if (!pool_free(flow->pool, SLOT_BLOCK(slot), flow->rx.owner))
                        return -EAGAIN;
                flow->end_mark = count == length && !whole;
                return length;
        }
        if (whole) {
                discard(flow, slot);
                return -EMSGSIZE;
        }
        if (!pool_transfer(flow->pool, SLOT_BLOCK(slot), flow->rx.owner, flow->pool->self))
                return -EAGAIN;
        CRASH(13);
        flow->part_block = SLOT_BLOCK(slot);
        flow->part_length = length;
        flow->part = packet;
        return (ssize_t)take_part(flow, buffer, count);
}

ssize_t flow_read(struct flow *flow, void *buffer, size_t count)
{
        uint8_t *packet;
        uint64_t slot;
        ssize_t n;

        if (flow == NULL)
                return -ENOTALLOC;
        if (flow->generation != map_generation)
                return -EBADF;
again:
        spinlock_acquire(&flow->rx_lock);
        n = rx_check(flow);
        if (n != 0)
                goto out;
        if (flow->end_mark || count == 0) {
                flow->end_mark = false;
                goto out;
        }
        if (flow->part_length > 0) {
                n = (ssize_t)take_part(flow, buffer, count);
                goto out;
        }
        n = rx_front(flow, &slot, &packet);
        if (n != 0) {
                n = await_packet(flow, (int)n);
                if (n == 0)
                        goto again;
                return n;
        }
        n = take_front(flow, slot, packet, buffer, count);
        consume(flow, 1);
        spinlock_release(&flow->rx_lock);
        if (n == -EAGAIN)
                goto again;
        return n;
out:
        spinlock_release(&flow->rx_lock);
        return n;
}

/* A packet that was read in part comes first, whole as far as it is left; its end mark is implied. */
static ssize_t readv_part(struct flow *flow, void *buffer, size_t size, uint32_t *lengths, uint32_t *each)
{
        lengths[0] = *each = flow->part_length;
        if (flow->part_length > size)
                return -ENOBUFS;
        take_part(flow, buffer, size);
        flow->end_mark = false;
        return 1;
}

/* Copy whole packets while they fit; `*taken` slots are done with afterwards. */
static uint32_t gather(struct flow *flow, uint8_t *at, size_t size, uint32_t *lengths, uint32_t max,
                       uint32_t *taken)
{
        uint32_t ready = ring_ready(&flow->rx);
        uint32_t n = 0, i;

        for (i = 0; i < ready && n < max; i++) {
                uint64_t slot = ring_peek(&flow->rx, i);
                uint8_t *packet = pool_packet(flow->pool, slot);
                uint32_t length = SLOT_LENGTH(slot);

                if (i + 4 < ready) {
                        uint8_t *soon = pool_packet(flow->pool, ring_peek(&flow->rx, i + 4));

                        if (soon != NULL)
                                __builtin_prefetch(soon);
                }
                if (packet == NULL || length == 0) {
                        discard(flow, slot);
                        continue;
                }
                if (length > size)
                        break;
                memcpy(at, packet, length);
                if (!pool_free(flow->pool, SLOT_BLOCK(slot), flow->rx.owner))
                        continue;
                lengths[n++] = length;
                at += length;
                size -= length;
        }
        *taken = i;
        return n;
}

ssize_t flow_readv(struct flow *flow, void *buffer, size_t size, uint32_t *lengths, uint32_t max, uint32_t *each)
{
        uint32_t taken;
        uint8_t *packet;
        uint64_t slot;
        ssize_t n;

        if (flow == NULL)
                return -ENOTALLOC;
        if (flow->generation != map_generation)
                return -EBADF;
        if (max == 0)
                return 0;
again:
        spinlock_acquire(&flow->rx_lock);
        n = rx_check(flow);
        if (n != 0)
                goto out;
        flow->end_mark = false;
        if (flow->part_length > 0) {
                n = readv_part(flow, buffer, size, lengths, each);
                goto out;
        }
        n = rx_front(flow, &slot, &packet);
        if (n != 0) {
                n = await_packet(flow, (int)n);
                if (n == 0)
                        goto again;
                return n;
        }
        if (SLOT_LENGTH(slot) > size) {
                lengths[0] = SLOT_LENGTH(slot);
                n = -ENOBUFS;
                goto out;
        }
        n = gather(flow, buffer, size, lengths, max, &taken);
        consume(flow, taken);
        spinlock_release(&flow->rx_lock);
        if (n == 0)
                goto again;
        *each = lengths[0];
        for (ssize_t i = 1; i < n; i++)
                if (lengths[i] != lengths[0]) {
                        *each = 0;
                        break;
                }
        return n;
out:
        spinlock_release(&flow->rx_lock);
        return n;
}

uint32_t flow_examine(struct flow *flow, bool *again)
{
        uint32_t events = 0;
        uint8_t *packet;
        uint64_t slot;

        *again = false;
        spinlock_acquire(&flow->rx_lock);
        if (!flow->rx_closed) {
                events = flow_take_events(flow);
                if (flow->part_length > 0 || rx_front(flow, &slot, &packet) == 0) {
                        events |= EVENT_PKT;
                        *again = true;
                } else {
                        ring_ask(&flow->rx.shm->cons_wait, WAIT_EVENT);
                        *again = atomic_load(&flow->rx.shm->head) != flow->rx.at;
                }
        }
        spinlock_release(&flow->rx_lock);
        return events;
}
