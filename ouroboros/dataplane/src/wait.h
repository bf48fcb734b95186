/*
 * wait: how a thread waits for another process (docs/design/shared-memory.md, Waiting).
 *
 * A few PAUSE polls, then sched_yield polls for an adaptive budget, then the caller sleeps on a futex.
 * Polling without yielding would hold the core that the peer needs.
 */
#ifndef OUROBOROS_WAIT_H
#define OUROBOROS_WAIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

int64_t wait_now(void); /* CLOCK_MONOTONIC, ns */

/* Sleep while *word == value, until the absolute deadline (ns, -1: none). 0, -ETIMEDOUT or -EINTR. */
int wait_sleep(_Atomic uint32_t *word, uint32_t value, int64_t deadline);
void wait_wake(_Atomic uint32_t *word);

/* Make an eventfd readable, -1: no effect; and clear it. Neither blocks. */
void wait_signal_eventfd(int fd);
void wait_clear_eventfd(int fd);

/* Both adapt to the outcome; zero is a valid start. */
struct poller {
        _Atomic uint32_t budget; /* ns of sched_yield polling */
        _Atomic uint32_t pauses; /* PAUSE polls before the first sched_yield */
        uint32_t pauses_max;     /* 0: PAUSES_MAX */
};

#define POLLER_INITIAL 20000u
#define POLLER_MIN 10000u
#define POLLER_MAX 50000u
#define PAUSES_MIN 2u
#define PAUSES_MAX 32u

typedef bool wait_condition(const void *arg);

/* Poll until the condition holds: true. False when the budget is spent. */
bool wait_poll(struct poller *poller, wait_condition *condition, const void *arg);

/* A lock between threads of one process, in private memory, held for a few hundred instructions. */
struct spinlock {
        _Atomic uint32_t held;
};

void spinlock_contended(struct spinlock *lock);

static inline void spinlock_acquire(struct spinlock *lock)
{
        uint32_t free = 0;

        if (!atomic_compare_exchange_strong_explicit(&lock->held, &free, 1, memory_order_acquire,
                                                     memory_order_relaxed))
                spinlock_contended(lock);
}

static inline void spinlock_release(struct spinlock *lock)
{
        atomic_store_explicit(&lock->held, 0, memory_order_release);
}

#endif
