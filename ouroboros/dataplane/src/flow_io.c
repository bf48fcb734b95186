/* flow_io: reading and writing packets (spec cli-api 4.3); the only code that runs once per packet in a process. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flow.h"
#include "frcp_io.h"
#include "map.h"

#define ROUNDS 16 /* tries of one call before the caller has its turn, whatever the peer does */

/* ---- telling the other side. With the lock held: a detaching thread must not unmap what is used here. ---- */

static void tell(struct flow *flow, _Atomic uint32_t *word, uint32_t wanted)
{
        if (wanted & WAIT_FUTEX)
                wait_wake(word);
        if (wanted & WAIT_EVENT && flow->peer != NULL)
                events_raise(flow->peer, flow->peer_fd);
}

/* ---- writing ---- */

int flow_may_write(const struct flow *flow)
{
        if (flow->tx_closed)
                return -ENOTALLOC;
        if ((atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_ACCMODE) == FLOW_RDONLY)
                return -EPERM;
        return flow_error(flow);
}

/* The packet goes protected into the block: how long it is there. -EIO: it could not be, and the block is free again. */
static ssize_t protect(struct flow *flow, uint32_t block, uint8_t *at, const void *packet, size_t length)
{
        ssize_t n = seal_close(flow->seal, NULL, 0, packet, (uint32_t)length, at);

        if (n < 0)
                pool_free(flow->pool, block, flow->pool->self);
        return n;
}

/* Put one packet behind `ahead` unpublished ones. */
static int put(struct flow *flow, uint32_t ahead, const void *packet, size_t length)
{
        struct pool *pool = flow->pool;
        uint8_t *at;
        int64_t block;
        int c;

        if (length > flow->max_packet)
                return -EMSGSIZE;
        block = pool_alloc(pool, flow->seal == NULL ? length : length + flow->seal->overhead);
        if (block < 0)
                return (int)block;
        c = pool_class_of(pool, (uint32_t)block);
        at = pool_block(pool, c, (uint32_t)block) + HEADROOM;
        if (flow->seal == NULL) {
                memcpy(at, packet, length);
        } else {
                ssize_t n = protect(flow, (uint32_t)block, at, packet, length);

                if (n < 0)
                        return (int)n;
                length = (size_t)n;
        }
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
static int await_room(struct flow *flow, uint64_t tail, int *rounds)
{
        struct room_wanted wanted = {flow, tail};

        if (atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_WNOBLOCK)
                return -EAGAIN;
        if (++*rounds >= ROUNDS)
                return -EMUSTSLEEP;
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

/* Returns how many were taken back. */
uint32_t flow_publish(struct flow *flow, uint32_t count)
{
        uint32_t wanted = ring_publish(&flow->tx, count);

        if (wanted)
                tell(flow, &flow->tx.shm->cons_wait, wanted);
        return flow_error(flow) != 0 ? take_back(flow, count) : 0;
}

ssize_t flow_writev(struct flow *flow, const void *buffer, const uint32_t *lengths, uint32_t each, uint32_t count)
{
        const uint8_t *packet = buffer;
        uint32_t room, done;
        uint64_t tail;
        int rounds = 0;
        int error;

        if (flow == NULL)
                return -ENOTALLOC;
        if (flow->generation != map_generation)
                return -EBADF;
        if (count == 0)
                return 0;
        if (flow->frcp != NULL)
                return frcp_io_writev(flow, buffer, lengths, each, count);
        for (;;) {
                spinlock_acquire(&flow->tx_lock);
                error = flow_may_write(flow);
                if (error != 0)
                        goto out;
                room = budget_room(&flow->budget, &flow->tx, flow->pool);
                if (room > 0)
                        break;
                if (flow->tx.broken) {
                        flow_break(flow);
                        error = -EFLOWDOWN;
                        goto out;
                }
                tail = flow->tx.other;
                atomic_fetch_add(&flow->sleepers, 1);
                spinlock_release(&flow->tx_lock);
                error = await_room(flow, tail, &rounds);
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
        done -= flow_publish(flow, done);
        if (done == 0) {
                error = flow_error(flow);
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

static _Thread_local char this_thread; /* its address names the thread */

int flow_may_read(const struct flow *flow)
{
        if (flow->rx_closed)
                return -ENOTALLOC;
        if ((atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_ACCMODE) == FLOW_WRONLY)
                return -EPERM;
        return 0;
}

void flow_consume(struct flow *flow, uint32_t count)
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
                flow_refuse(flow);
}

/* Open the packet at the front of the ring: what it holds must be known before somebody is told of it. */
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
        n = seal_open(flow->seal, packet, length, flow->opened);
        if (n < 0)
                flow_refuse_packet(flow);
        if (n <= 0)
                return false;
        flow->opened_at = flow->rx.at + 1;
        flow->opened_length = (uint32_t)n;
        return true;
}

/* How long it is, if that can be told without opening it, or it is not longer than `most`; else it is opened. False: it is none. */
static bool look_at_front(struct flow *flow, const uint8_t *packet, uint32_t *length, uint32_t most)
{
        uint32_t overhead = flow->seal->overhead;

        if (flow->opened_at != flow->rx.at + 1) {
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

/* What the packet `i` behind the front holds, copied out: its length. -EBADMSG: refused; -ENOBUFS: longer than that. */
static ssize_t copy_opened(struct flow *flow, uint32_t i, const uint8_t *packet, uint32_t length, uint8_t *at, size_t size)
{
        ssize_t n;

        if (i == 0 && flow->opened_at == flow->rx.at + 1) {
                if (flow->opened_length > size)
                        return -ENOBUFS;
                memcpy(at, flow->opened, flow->opened_length);
                return flow->opened_length;
        }
        if (length > size + flow->seal->overhead)
                return -ENOBUFS;
        n = seal_open(flow->seal, packet, length, at);
        if (n < 0)
                flow_refuse_packet(flow);
        return n;
}

/*
 * The length of the packet at the front. Empty packets (keep-alives), those that cannot be opened, and slots that make no
 * sense are dropped on the way. One of at most `most` octets may still be refused when it is read.
 * 0, or -EAGAIN, or why there will never be one. The state is read before the ring, so that what a peer wrote
 * before it left is read before its leaving is told.
 */
static int rx_front(struct flow *flow, uint32_t *length, uint32_t most)
{
        int gone = flow_error(flow);
        uint8_t *packet;
        uint64_t slot;

        for (uint32_t i = 0; i < RING_SLOTS; i++) {
                if (ring_ready(&flow->rx) == 0) {
                        if (!flow->rx.broken)
                                return gone != 0 ? gone : -EAGAIN;
                        flow_break(flow);
                        return -EFLOWDOWN;
                }
                slot = ring_peek(&flow->rx, 0);
                packet = pool_packet(flow->pool, slot);
                *length = SLOT_LENGTH(slot);
                if (packet != NULL && *length > 0 &&
                    (flow->seal == NULL || look_at_front(flow, packet, length, most)))
                        return 0;
                discard(flow, slot);
                flow_consume(flow, 1);
        }
        return -EAGAIN;
}

static bool something_to_read(const void *arg)
{
        const struct flow *flow = arg;

        return atomic_load_explicit(&flow->rx.shm->head, memory_order_seq_cst) != flow->rx.at || flow_state(flow);
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
        if (something_to_read(flow) || flow_in_hand(flow))
                wait_ring_eventfd(eventfd);
}

/*
 * Nothing for the reader: lets go of the lock. 0: try again; else what the caller returns. A peer that sends what is
 * never read (keep-alives) must not hold the caller here, who has signals and a deadline: `rounds` counts.
 */
static int await_packet(struct flow *flow, int error, int *rounds)
{
        bool found;

        rearm(flow);
        if (flow_in_hand(flow))
                error = -EINHAND;
        if (error != -EAGAIN || atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_RNOBLOCK) {
                spinlock_release(&flow->rx_lock);
                return error;
        }
        atomic_fetch_add(&flow->sleepers, 1);
        spinlock_release(&flow->rx_lock);
        found = ++*rounds < ROUNDS && wait_poll(&flow->rx_poller, something_to_read, flow);
        atomic_fetch_sub(&flow->sleepers, 1);
        return found ? 0 : -EMUSTSLEEP;
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
                if (flow->seal != NULL) {
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
                if (!pool_free(flow->pool, SLOT_BLOCK(slot), flow->rx.owner))
                        continue;
                lengths[n++] = length;
                at += length;
                size -= length;
        }
        *taken = i;
        return n;
}

bool flow_may_take_ahead(struct flow *flow)
{
        uintptr_t hand = atomic_load_explicit(&flow->hand, memory_order_relaxed);

        if (hand == (uintptr_t)&this_thread)
                atomic_store_explicit(&flow->hand, 0, memory_order_relaxed);
        return hand == 0 || hand == (uintptr_t)&this_thread;
}

void flow_taken_ahead(struct flow *flow)
{
        _Atomic uint32_t *word = &flow->rx.shm->cons_wait;

        atomic_store(&flow->hand, (uintptr_t)&this_thread);
        if (atomic_load(&flow->sleepers) > 0 && atomic_fetch_and(word, ~WAIT_FUTEX) & WAIT_FUTEX)
                wait_wake(word); /* threads that wait for packets, too, look for what we have taken */
}

/* Take packets from the front of the ring; holds the lock, which it lets go. `room`: octets beyond the first one. */
static ssize_t take(struct flow *flow, struct burst *burst, uint32_t max, uint32_t room, bool ahead)
{
        int rounds = 0;
        uint32_t taken, front;
        ssize_t n;

        if (flow == NULL)
                return -ENOTALLOC;
        if (flow->generation != map_generation)
                return -EBADF;
        if (max == 0)
                return 0;
        if (flow->frcp != NULL)
                return frcp_io_take(flow, burst, max, room, ahead);
again:
        spinlock_acquire(&flow->rx_lock);
        n = flow_may_read(flow);
        if (n != 0)
                goto out;
        if (!flow_may_take_ahead(flow) && ahead)
                max = 1;
        n = rx_front(flow, &front, burst->size);
        if (n != 0) {
                n = await_packet(flow, (int)n, &rounds);
                if (n == 0)
                        goto again;
                return n;
        }
        burst->lengths[0] = front;
        if (front > burst->size) {
                n = -ENOBUFS;
                goto out;
        }
        if (room < front)
                room = front;
        n = gather(flow, burst->buffer, room < burst->size ? room : burst->size, burst->lengths, max, &taken);
        flow_consume(flow, taken);
        if (ahead && n > 1)
                flow_taken_ahead(flow);
        spinlock_release(&flow->rx_lock);
        if (n > 0)
                return n;
        if (++rounds < ROUNDS)
                goto again;
        return atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_RNOBLOCK ? -EAGAIN : -EMUSTSLEEP;
out:
        spinlock_release(&flow->rx_lock);
        return n;
}

/* Their length when all are equally long, else 0. */
static uint32_t common_length(const uint32_t *lengths, ssize_t count)
{
        for (ssize_t i = 1; i < count; i++)
                if (lengths[i] != lengths[0])
                        return 0;
        return lengths[0];
}

ssize_t flow_readv(struct flow *flow, struct burst *burst, uint32_t max)
{
        ssize_t n = take(flow, burst, max, burst->size, false);

        if (n > 0)
                burst->each = common_length(burst->lengths, n);
        return n;
}

ssize_t flow_read(struct flow *flow, struct burst *burst)
{
        ssize_t n = take(flow, burst, AHEAD_PACKETS, AHEAD_OCTETS, true);

        if (n == 1)
                return burst->lengths[0];
        if (n > 1) {
                burst->each = common_length(burst->lengths, n);
                return n | FLOW_MANY;
        }
        return n;
}

ssize_t flow_read_into(struct flow *flow, void *buffer, size_t size)
{
        uint32_t length = 0;
        struct burst burst = {buffer, &length, size < UINT32_MAX ? (uint32_t)size : UINT32_MAX, 0};
        ssize_t n = take(flow, &burst, 1, 0, false);

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
                events = flow_take_events(flow);
                if (flow_in_hand(flow) || rx_front(flow, &length, 0) == 0) {
                        events |= EVENT_PKT;
                        *again = true;
                } else {
                        ring_ask(&flow->rx.shm->cons_wait, WAIT_EVENT);
                        *again = flow->rx.broken ? atomic_load(&flow->end->events) != 0 :
                                                   atomic_load(&flow->rx.shm->head) != flow->rx.at;
                }
        }
        spinlock_release(&flow->rx_lock);
        return events;
}

/* ---- keep-alives ---- */

void flow_keep_alive(struct flow *flow, uint32_t timeout_ms)
{
        keepalive_init(&flow->alive, timeout_ms, wait_now());
        flow->heard = flow->rx.at;
        flow->spoke = flow->tx.at;
}

/* A sign of life. A ring without room is one: the peer has something to read. */
static void give_sign(struct flow *flow, int64_t now)
{
        if (flow_error(flow) != 0)
                return;
        if (budget_room(&flow->budget, &flow->tx, flow->pool) > 0 && put(flow, 0, "", 0) == 0)
                flow_publish(flow, 1);
        flow->spoke = flow->tx.at;
        flow->alive.sent = now;
}

int64_t flow_visit(struct flow *flow, int64_t now, bool *found)
{
        struct keepalive *alive = &flow->alive;
        uint32_t length;
        uint64_t head;

        *found = false;
        spinlock_acquire(&flow->rx_lock);
        spinlock_acquire(&flow->tx_lock);
        if (flow->rx_closed || flow_state(flow) & ~END_DECLARED)
                alive->gone = true;
        head = atomic_load_explicit(&flow->rx.shm->head, memory_order_relaxed);
        if (head != flow->heard || head - flow->rx.at >= RING_SLOTS)
                alive->received = now; /* also when the peer cannot say anything, because nobody reads what it has said */
        flow->heard = head;
        if (flow->tx.at != flow->spoke)
                alive->sent = now;
        flow->spoke = flow->tx.at;
        if (!alive->gone && keepalive_lost(alive, now)) {
                alive->gone = true;
                flow_give_up(flow, END_PEER, EVENT_PEER);
                *found = true;
        } else if (!alive->gone) {
                rx_front(flow, &length, UINT32_MAX); /* keep-alives that nobody reads must not fill the ring */
                if (keepalive_quiet(alive, now))
                        give_sign(flow, now);
        }
        spinlock_release(&flow->tx_lock);
        spinlock_release(&flow->rx_lock);
        return keepalive_deadline(alive);
}
