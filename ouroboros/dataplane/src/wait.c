#define _GNU_SOURCE
#include "wait.h"

#include <errno.h>
#include <linux/futex.h>
#include <limits.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ll
#define SPIN_PAUSES 64
/* ns: an answer as fast as this comes from another core, and more PAUSE polls would have seen it */
#define SAME_CACHE_NS 1000

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
}

int64_t wait_now(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

int wait_sleep(_Atomic uint32_t *word, uint32_t value, int64_t deadline)
{
        struct timespec ts;
        const struct timespec *until = NULL;

        if (deadline >= 0) {
                ts.tv_sec = deadline / NS_PER_S;
                ts.tv_nsec = deadline % NS_PER_S;
                until = &ts;
        }
        /* FUTEX_WAIT_BITSET takes an absolute time, so that signals do not prolong the wait. */
        if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value, until, NULL, FUTEX_BITSET_MATCH_ANY) == 0)
                return 0;
        return errno == ETIMEDOUT ? -ETIMEDOUT : errno == EINTR ? -EINTR : 0;
}

void wait_wake(_Atomic uint32_t *word)
{
        syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void wait_signal_eventfd(int fd)
{
        uint64_t one = 1;

        if (fd >= 0 && write(fd, &one, sizeof one) < 0) {
                /* EAGAIN: the counter is full, and the eventfd readable. */
        }
}

void wait_clear_eventfd(int fd)
{
        uint64_t count;

        if (fd >= 0 && read(fd, &count, sizeof count) < 0) {
                /* EAGAIN: it was clear already. */
        }
}

static uint32_t get(const _Atomic uint32_t *value, uint32_t initial)
{
        uint32_t v = atomic_load_explicit(value, memory_order_relaxed);

        return v != 0 ? v : initial;
}

static void set(_Atomic uint32_t *value, uint32_t v, uint32_t min, uint32_t max)
{
        atomic_store_explicit(value, v < min ? min : v > max ? max : v, memory_order_relaxed);
}

/*
 * PAUSE is right when the peer runs on another core and answers immediately, and wrong when it waits for this core.
 * Threads that share a poller race: both values are hints, and any mix of them is valid.
 */
bool wait_poll(struct poller *poller, wait_condition *condition, const void *arg)
{
        uint32_t max = poller->pauses_max ? poller->pauses_max : PAUSES_MAX;
        uint32_t pauses = get(&poller->pauses, max);
        uint32_t budget = get(&poller->budget, POLLER_INITIAL);
        int64_t start, spent;

        for (uint32_t i = 0; i < pauses; i++) {
                if (condition(arg)) {
                        if (i > 0 && pauses < max)
                                set(&poller->pauses, 2 * pauses, PAUSES_MIN, max);
                        return true;
                }
                cpu_relax();
        }
        start = wait_now();
        do {
                sched_yield();
                spent = wait_now() - start;
                if (condition(arg)) {
                        set(&poller->pauses, spent < SAME_CACHE_NS ? pauses + 8 : pauses / 2, PAUSES_MIN, max);
                        set(&poller->budget, budget + budget / 4, POLLER_MIN, POLLER_MAX);
                        return true;
                }
        } while (spent < (int64_t)budget);
        set(&poller->budget, budget - budget / 4, POLLER_MIN, POLLER_MAX);
        return false;
}

void spinlock_contended(struct spinlock *lock)
{
        uint32_t free;

        do {
                for (int i = 0; i < SPIN_PAUSES && atomic_load_explicit(&lock->held, memory_order_relaxed); i++)
                        cpu_relax();
                if (atomic_load_explicit(&lock->held, memory_order_relaxed))
                        sched_yield();
                free = 0;
        } while (!atomic_compare_exchange_weak_explicit(&lock->held, &free, 1, memory_order_acquire,
                                                        memory_order_relaxed));
}
