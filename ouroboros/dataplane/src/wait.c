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
#define PAUSE_POLLS 64

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
        /* FUTEX_WAIT_BITSET takes an absolute time, so that a wait which signals interrupt does not grow. */
        if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value, until, NULL, FUTEX_BITSET_MATCH_ANY) == 0)
                return 0;
        return errno == ETIMEDOUT ? -ETIMEDOUT : errno == EINTR ? -EINTR : 0;
}

void wait_wake(_Atomic uint32_t *word)
{
        syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void wait_ring_eventfd(int fd)
{
        uint64_t one = 1;

        if (fd >= 0 && write(fd, &one, sizeof one) < 0) {
                /* EAGAIN: the counter is full, so its owner has been rung more than enough. */
        }
}

/* More patience after a success, less after a failure, within bounds. Threads may race: it is a hint. */
static void adapt(struct poller *poller, bool success)
{
        uint32_t budget = atomic_load_explicit(&poller->budget, memory_order_relaxed);

        if (success && budget < POLLER_MOST)
                budget += budget / 4;
        else if (!success && budget > POLLER_LEAST)
                budget -= budget / 4;
        atomic_store_explicit(&poller->budget, budget, memory_order_relaxed);
}

bool wait_poll(struct poller *poller, wait_condition *condition, const void *arg)
{
        int64_t budget = atomic_load_explicit(&poller->budget, memory_order_relaxed);
        int64_t start;

        for (int i = 0; i < PAUSE_POLLS; i++) {
                if (condition(arg))
                        return true;
                cpu_relax();
        }
        start = wait_now();
        do {
                sched_yield();
                if (condition(arg)) {
                        adapt(poller, true);
                        return true;
                }
        } while (wait_now() - start < budget);
        adapt(poller, false);
        return false;
}

void spinlock_contended(struct spinlock *lock)
{
        uint32_t free;

        do {
                for (int i = 0; i < PAUSE_POLLS && atomic_load_explicit(&lock->held, memory_order_relaxed); i++)
                        cpu_relax();
                if (atomic_load_explicit(&lock->held, memory_order_relaxed))
                        sched_yield();
                free = 0;
        } while (!atomic_compare_exchange_weak_explicit(&lock->held, &free, 1, memory_order_acquire,
                                                        memory_order_relaxed));
}
