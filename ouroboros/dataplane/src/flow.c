#define _GNU_SOURCE
#include "flow_ops.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

static _Thread_local char this_thread; /* its address identifies the thread */

struct flow *flow_attach(struct pool *pool, struct segment *segment, struct events *peer,
                         const struct flow_spec *spec)
{
        struct flow *flow;

        if (!end_exists(segment, spec))
                return NULL;
        flow = aligned_alloc(CACHE_LINE, (sizeof *flow + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
        if (flow == NULL)
                return NULL;
        *flow = (struct flow){
                .ops = &flow_raw,
                .generation = map_generation,
                .flags = FLOW_RDWR | FLOW_WNOPART,
                .eventfd = -1,
                .writable_eventfd = -1,
        };
        end_attach(&flow->end, pool, segment, peer, spec);
        flow->max_packet = flow->end.max_packet;
        return flow;
}

int flow_protect(struct flow *flow, uint32_t cipher, const uint8_t *key, bool check)
{
        int error = end_protect(&flow->end, cipher, key, check);

        flow->max_packet = flow->end.max_packet;
        return error;
}

static void wake_sleepers(struct flow *flow)
{
        atomic_store(&flow->end.rx.shm->cons_wait, 0);
        atomic_store(&flow->end.tx.shm->prod_wait, 0);
        wait_wake(&flow->end.rx.shm->cons_wait);
        wait_wake(&flow->end.tx.shm->prod_wait);
}

static void detach(struct flow *flow)
{
        spinlock_acquire(&flow->rx_lock);
        spinlock_acquire(&flow->tx_lock);
        if (!flow->rx_closed) {
                if (end_drain(&flow->end) & WAIT_FUTEX)
                        wait_wake(&flow->end.rx.shm->prod_wait);
                flow->rx_closed = true;
                flow->tx_closed = true;
        }
        spinlock_release(&flow->tx_lock);
        spinlock_release(&flow->rx_lock);
        while (atomic_load(&flow->sleepers) > 0) {
                wake_sleepers(flow);
                sched_yield();
        }
}

struct flow *flow_none(void)
{
        static struct flow none = {.rx_closed = true, .tx_closed = true, .eventfd = -1, .writable_eventfd = -1};

        return &none;
}

static void let_go(struct flow *flow, uint32_t how)
{
        if (flow_check(flow) != 0 || !handle_let_go(&flow->let_go, how))
                return;
        flow->ops->fini(flow);
        end_detach(&flow->end);
        free(flow);
}

void flow_detach(struct flow *flow)
{
        if (flow_check(flow) == 0)
                detach(flow);
        let_go(flow, LET_GO_CLOSED);
}

void flow_destroy(struct flow *flow)
{
        let_go(flow, LET_GO_DROPPED);
}

/* 0 with the reader's lock held while the end is attached; else an error, without the lock. */
static int enter(struct flow *flow)
{
        int error = flow_check(flow);

        if (error != 0)
                return error;
        spinlock_acquire(&flow->rx_lock);
        if (!flow->rx_closed)
                return 0;
        spinlock_release(&flow->rx_lock);
        return -ENOTALLOC;
}

int flow_get_flags(struct flow *flow)
{
        int result = enter(flow);

        if (result != 0)
                return result;
        result = (int)atomic_load_explicit(&flow->flags, memory_order_relaxed);
        spinlock_release(&flow->rx_lock);
        return result;
}

int flow_set_flags(struct flow *flow, uint32_t flags)
{
        int error = enter(flow);

        if (error != 0)
                return error;
        atomic_store_explicit(&flow->flags, flags | FLOW_WNOPART, memory_order_relaxed);
        spinlock_release(&flow->rx_lock);
        return 0;
}

void flow_refuse(struct flow *flow)
{
        atomic_fetch_add_explicit(&flow->end.pool->refused, 1, memory_order_relaxed);
        end_refuse(&flow->end);
}

void flow_give_up(struct flow *flow, uint32_t state, uint32_t event)
{
        if (atomic_fetch_or(&flow->end.local_state, state) != 0)
                return;
        atomic_fetch_or(&flow->end.own->events, event);
        wake_sleepers(flow);
}

void flow_mark_corrupt(struct flow *flow)
{
        if (atomic_load(&flow->end.local_state) != 0)
                return;
        flow_refuse(flow);
        flow_give_up(flow, END_DOWN | DOWN_PEER_CORRUPT, EVENT_DOWN);
}

uint32_t flow_down_cause(struct flow *flow)
{
        uint32_t cause;

        if (enter(flow) != 0)
                return 0;
        cause = end_state(&flow->end);
        spinlock_release(&flow->rx_lock);
        return cause;
}

/* Wakes sleeping threads; a request for an event stays, since this raises none. */
static void latch(struct flow *flow, unsigned side, uint32_t event)
{
        struct ring_shm *rx = &flow->end.shm->ring[1 - side];
        struct ring_shm *tx = &flow->end.shm->ring[side];

        atomic_fetch_or(&flow->end.shm->end[side].events, event);
        atomic_fetch_and(&rx->cons_wait, ~WAIT_FUTEX);
        atomic_fetch_and(&tx->prod_wait, ~WAIT_FUTEX);
        wait_wake(&rx->cons_wait);
        wait_wake(&tx->prod_wait);
}

void flow_declare(struct flow *flow, bool down)
{
        if (enter(flow) != 0)
                return;
        for (unsigned side = 0; side < 2; side++) {
                _Atomic uint32_t *state = &flow->end.shm->end[side].state;
                uint32_t before = down ? atomic_fetch_or(state, END_DECLARED) :
                                         atomic_fetch_and(state, ~END_DECLARED);

                if (((before & END_DECLARED) != 0) == down)
                        continue;
                latch(flow, side, down ? EVENT_DOWN : EVENT_UP);
                if (side != flow->end.side && flow->end.peer != NULL)
                        events_raise(flow->end.peer, flow->end.peer_fd);
        }
        spinlock_release(&flow->rx_lock);
}

void flow_orphan(struct flow *flow)
{
        spinlock_acquire(&flow->rx_lock);
        atomic_fetch_or(&flow->end.local_state, END_DOWN | DOWN_IRMD);
        if (!flow->rx_closed) {
                latch(flow, flow->end.side, EVENT_DOWN);
                wait_signal_eventfd(atomic_load(&flow->eventfd));
                wait_signal_eventfd(atomic_load(&flow->writable_eventfd));
        }
        spinlock_release(&flow->rx_lock);
}

void flow_unpoll(struct flow *flow)
{
        spinlock_acquire(&flow->rx_lock);
        atomic_store(&flow->eventfd, -1);
        atomic_store(&flow->writable_eventfd, -1);
        spinlock_release(&flow->rx_lock);
}

/* ---- packets ---- */

static ssize_t read_packets(struct flow *flow, struct burst *burst, uint32_t max, uint32_t limit, bool readahead)
{
        if (flow->generation != map_generation)
                return flow_check(flow);
        return max == 0 ? 0 : flow->ops->readv(flow, burst, max, limit, readahead);
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

ssize_t flow_writev(struct flow *flow, const void *buffer, const uint32_t *lengths, uint32_t each, uint32_t count)
{
        if (flow->generation != map_generation)
                return flow_check(flow);
        return count == 0 ? 0 : flow->ops->writev(flow, buffer, lengths, each, count);
}

ssize_t flow_write(struct flow *flow, const void *buffer, size_t length)
{
        ssize_t written;

        if (length > SLOT_LENGTH(UINT64_MAX))
                return -EMSGSIZE;
        written = flow_writev(flow, buffer, NULL, (uint32_t)length, 1);
        return written == 1 ? (ssize_t)length : written;
}

uint32_t flow_examine(struct flow *flow, bool *again)
{
        return flow->ops->examine(flow, again);
}

void flow_queues(struct flow *flow, uint64_t *rx, uint64_t *tx)
{
        *rx = *tx = 0;
        if (flow_check(flow) == 0)
                flow->ops->queues(flow, rx, tx);
}

int flow_sleep(struct flow *flow, bool writing, int64_t deadline)
{
        int error = flow_check(flow);

        return error != 0 ? error : flow_await(flow, writing ? FLOW_WRITING : FLOW_READING, deadline);
}

bool flow_notify_writable(struct flow *flow)
{
        /* Without the flow, the following write returns the error. */
        return flow_check(flow) != 0 || flow->ops->notify_writable(flow);
}

/* ---- for the operations ---- */

int flow_await(struct flow *flow, enum flow_cause cause, int64_t deadline)
{
        _Atomic uint32_t *word;
        int64_t due = NEVER;
        uint32_t value;
        int result = 0;

        atomic_fetch_add(&flow->sleepers, 1);
        value = flow->ops->ask(flow, cause, &word, &due);
        if (value != 0) {
                bool early = due != NEVER && (deadline < 0 || due < deadline);

                result = wait_sleep(word, value, early ? due : deadline);
                if (early && result == -ETIMEDOUT)
                        result = 0;
        }
        atomic_fetch_sub(&flow->sleepers, 1);
        return result;
}

int flow_may_write(const struct flow *flow)
{
        if (flow->tx_closed)
                return -ENOTALLOC;
        if ((atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_ACCMODE) == FLOW_RDONLY)
                return -EPERM;
        return end_error(&flow->end);
}

int flow_may_read(const struct flow *flow)
{
        if (flow->rx_closed)
                return -ENOTALLOC;
        if ((atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_ACCMODE) == FLOW_WRONLY)
                return -EPERM;
        return 0;
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

int flow_clear_eventfd(struct flow *flow)
{
        int eventfd = atomic_load_explicit(&flow->eventfd, memory_order_relaxed);

        if (eventfd < 0)
                return -1;
        wait_clear_eventfd(eventfd);
        ring_ask(&flow->end.rx.shm->cons_wait, WAIT_EVENT);
        return eventfd;
}

/*
 * The caller has asked to be woken and need not sleep. Another thread of this process may be about to sleep on the
 * value that the caller has set again after the peer had cleared it for both threads: wake it, so that it looks
 * again.
 */
void flow_withdraw(struct flow *flow, _Atomic uint32_t *word)
{
        if (atomic_load(&flow->sleepers) > 1 && atomic_fetch_and(word, ~WAIT_FUTEX) & WAIT_FUTEX)
                wait_wake(word);
}

void flow_withdraw_all(struct flow *flow)
{
        _Atomic uint32_t *words[] = {&flow->end.rx.shm->cons_wait, &flow->end.tx.shm->prod_wait};

        spinlock_acquire(&flow->rx_lock);
        for (unsigned i = 0; i < 2 && !flow->rx_closed; i++)
                if (atomic_fetch_and(words[i], ~WAIT_FUTEX) & WAIT_FUTEX)
                        wait_wake(words[i]);
        spinlock_release(&flow->rx_lock);
}
