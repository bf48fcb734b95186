/* fset: sets of flows and waiting for their events (paper Listings 6 and 7). */
#define _GNU_SOURCE
#include <stdlib.h>

#include "map.h"
#include "process.h"

struct fset *fset_create(struct process *process)
{
        struct fset *set = calloc(1, sizeof *set);

        if (set == NULL)
                return NULL;
        set->process = process;
        set->eventfd = -1;
        return set;
}

struct fset *fset_none(void)
{
        static struct fset none = {.eventfd = -1, .closed = true};

        return &none;
}

/* Whether the set exists and belongs to this process: a forked child has not inherited the memory behind it. */
static bool is_ours(const struct fset *set)
{
        return set->process != NULL && set->process->generation == map_generation;
}

int fset_set_eventfd(struct fset *set, int eventfd)
{
        struct process *process = set->process;

        if (!is_ours(set))
                return -EBADF;
        pthread_mutex_lock(&process->lock);
        if (atomic_load(&set->closed)) { /* by another thread, which does not unlink it again */
                pthread_mutex_unlock(&process->lock);
                return -EBADF;
        }
        if (set->eventfd < 0) {
                set->next = process->sets;
                process->sets = set;
        }
        set->eventfd = eventfd;
        wait_signal_eventfd(eventfd); /* readable until a take finds nothing */
        pthread_mutex_unlock(&process->lock);
        wait_signal_eventfd(process->control);
        return 0;
}

static void unlink_set(struct fset *set)
{
        struct fset **at = &set->process->sets;

        while (*at != NULL && *at != set)
                at = &(*at)->next;
        if (*at != NULL)
                *at = set->next;
}

static void leave(struct fset *set)
{
        struct process *process = set->process;

        pthread_mutex_lock(&process->lock);
        if (set->eventfd >= 0)
                unlink_set(set);
        set->eventfd = -1;
        for (uint32_t w = 0; w < EVENT_WORDS; w++) {
                process->grouped[w] &= ~set->member[w];
                set->member[w] = set->pending[w] = 0;
        }
        atomic_store(&set->closed, true);
        pthread_mutex_unlock(&process->lock);
        events_wake(process->events); /* threads that wait on the set */
}

void fset_close(struct fset *set)
{
        if (!is_ours(set))
                return;
        leave(set);
        if (handle_let_go(&set->let_go, LET_GO_CLOSED))
                free(set);
}

void fset_destroy(struct fset *set)
{
        if (is_ours(set) && handle_let_go(&set->let_go, LET_GO_DROPPED))
                free(set);
}

static uint64_t bit_of(uint32_t fd, uint32_t *w)
{
        *w = (fd - FD_BASE) / 64;
        return 1ull << ((fd - FD_BASE) % 64);
}

int fset_add(struct fset *set, uint32_t fd)
{
        struct process *process = set->process;
        uint32_t w;
        uint64_t bit = bit_of(fd, &w);
        int error = 0;

        if (w >= EVENT_WORDS || !is_ours(set))
                return -EBADF;
        pthread_mutex_lock(&process->lock);
        if (atomic_load(&set->closed)) {
                error = -EBADF;
        } else if (!(set->member[w] & bit)) {
                if (process->grouped[w] & bit) {
                        error = -EPERM;
                } else {
                        process->grouped[w] |= bit;
                        set->member[w] |= bit;
                        set->pending[w] |= bit; /* packets may be waiting already */
                        if (process->words < w + 1)
                                process->words = w + 1;
                }
        }
        if (error == 0)
                wait_signal_eventfd(set->eventfd);
        pthread_mutex_unlock(&process->lock);
        if (error == 0)
                events_wake(process->events);
        return error;
}

void fset_remove(struct fset *set, uint32_t fd)
{
        uint32_t w;
        uint64_t bit = bit_of(fd, &w);

        if (w >= EVENT_WORDS || !is_ours(set))
                return;
        pthread_mutex_lock(&set->process->lock);
        if (set->member[w] & bit) {
                set->member[w] &= ~bit;
                set->pending[w] &= ~bit;
                set->process->grouped[w] &= ~bit;
        }
        pthread_mutex_unlock(&set->process->lock);
}

/* ALLOC before the events that it makes possible, the end of the flow last. */
static const uint32_t order[] = {EVENT_ALLOC, EVENT_PKT, EVENT_DOWN, EVENT_UP, EVENT_PEER, EVENT_DEALLOC};
#define TYPES (int)(sizeof order / sizeof order[0])

static int deliver(struct fset *set, uint32_t bit, struct fevent *out, bool *needs_poll)
{
        struct flow *flow = set->process->flows[bit];
        uint64_t mask = 1ull << (bit % 64);
        uint32_t events;
        bool again;
        int n = 0;

        if (flow == NULL) {
                set->pending[bit / 64] &= ~mask;
                out[0] = (struct fevent){bit + FD_BASE, EVENT_ALLOC};
                return 1;
        }
        events = flow_examine(flow, &again);
        if (!again)
                set->pending[bit / 64] &= ~mask;
        if (events & FLOW_NEEDS_POLL) {
                process_poll_soon(set->process, flow);
                *needs_poll = true;
        }
        for (int i = 0; i < TYPES; i++)
                if (events & order[i])
                        out[n++] = (struct fevent){bit + FD_BASE, order[i]};
        return n;
}

/* Examine every member whose bit is set, from the member where the last call stopped. */
static int take(struct fset *set, struct fevent *out, int max)
{
        struct process *process = set->process;
        uint32_t words, i;
        bool needs_poll = false;
        int n = 0;

        pthread_mutex_lock(&process->lock);
        words = process->words;
        for (i = 0; i < words && n + TYPES <= max; i++) {
                uint32_t w = (set->cursor + i) % words;
                uint64_t bits;

                if (set->member[w] == 0)
                        continue;
                bits = events_take(process->events, w, set->member[w]);
                if (bits != 0)
                        set->pending[w] |= bits;
                for (bits = set->pending[w]; bits != 0 && n + TYPES <= max; bits &= bits - 1)
                        n += deliver(set, w * 64 + (uint32_t)__builtin_ctzll(bits), out + n, &needs_poll);
                if (bits != 0)
                        break; /* `out` is full: the next call begins with this word, so that no member starves */
        }
        set->cursor = words ? (set->cursor + i) % words : 0;
        pthread_mutex_unlock(&process->lock);
        if (needs_poll)
                wait_signal_eventfd(process->control);
        return n;
}

static bool has_events(const void *arg)
{
        const struct fset *set = arg;
        const struct process *process = set->process;

        for (uint32_t w = 0; w < process->words; w++)
                if ((atomic_load_explicit(&process->events->shm->pending[w], memory_order_relaxed) |
                     set->pending[w]) &
                    set->member[w])
                        return true;
        return false;
}

/*
 * No event for the poller of the eventfd: clear it and look again. With the lock: another thread may be closing it.
 */
static void rearm(struct fset *set)
{
        pthread_mutex_lock(&set->process->lock);
        if (set->eventfd >= 0) {
                wait_clear_eventfd(set->eventfd);
                if (has_events(set))
                        wait_signal_eventfd(set->eventfd);
        }
        pthread_mutex_unlock(&set->process->lock);
}

int fset_take(struct fset *set, struct fevent *out, int max, bool poll)
{
        int n;

        if (!is_ours(set) || atomic_load(&set->closed))
                return -EBADF;
        n = take(set, out, max);
        if (n > 0)
                return n;
        if (poll && wait_poll(&set->poller, has_events, set))
                n = take(set, out, max);
        if (n == 0)
                rearm(set);
        return n;
}

int fset_sleep(struct fset *set, int64_t deadline)
{
        struct events_shm *shm;
        uint32_t seq;
        bool found;

        if (!is_ours(set))
                return -EBADF;
        shm = set->process->events->shm;
        seq = atomic_load(&shm->seq);
        atomic_fetch_or(&shm->sleepers, SLEEP_FUTEX);
        /* With the lock: another thread may be moving bits from the region to the set. */
        pthread_mutex_lock(&set->process->lock);
        found = has_events(set);
        pthread_mutex_unlock(&set->process->lock);
        if (found)
                return 0;
        /*
         * After the sleepers' flag is set: the thread that sets these wakes all sleepers. The end of the flows is
         * reported first.
         */
        if (atomic_load(&set->closed))
                return -EBADF;
        if (atomic_load(&set->process->orphan))
                return has_events(set) ? 0 : -EIRMD;
        return wait_sleep(&shm->seq, seq, deadline);
}
