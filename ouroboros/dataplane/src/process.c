#define _GNU_SOURCE
#include "process.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "flow_ops.h"
#include "frcp_io.h"
#include "map.h"

struct process *process_create(struct events *events)
{
        struct process *process = calloc(1, sizeof *process);

        if (process == NULL)
                return NULL;
        process->events = events_hold(events);
        process->generation = map_generation;
        process->control = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        process->rpc = -1;
        if (process->control < 0) {
                events_unmap(events);
                free(process);
                return NULL;
        }
        events->own = process->control;
        pthread_mutex_init(&process->lock, NULL);
        wheel_init(&process->wheel, wait_now());
        return process;
}

void process_stop(struct process *process)
{
        if (process->generation != map_generation || !process->watching)
                return;
        atomic_store(&process->stop, true);
        wait_signal_eventfd(process->control);
        pthread_join(process->watcher, NULL);
        process->watching = false;
}

static void orphan_all(struct process *process)
{
        pthread_mutex_lock(&process->lock);
        for (uint32_t bit = 0; bit < process->words * 64; bit++)
                if (process->flows[bit] != NULL) {
                        flow_orphan(process->flows[bit]);
                        events_raise(process->events, bit + FD_BASE);
                }
        atomic_store(&process->orphan, true);
        pthread_mutex_unlock(&process->lock);
        events_wake(process->events);
}

/* Signal the eventfds that poll for the region's bits. Bits of set members stay for the set. */
static void distribute(struct process *process)
{
        struct events *events = process->events;

        pthread_mutex_lock(&process->lock);
        for (uint32_t w = 0; w < process->words; w++) {
                uint64_t bits = atomic_load(&events->shm->pending[w]);

                for (struct fset *set = process->sets; set != NULL; set = set->next)
                        if (bits & set->member[w])
                                wait_signal_eventfd(set->eventfd);
                for (uint64_t polled = bits & process->polled[w]; polled != 0; polled &= polled - 1) {
                        uint32_t bit = w * 64 + (uint32_t)__builtin_ctzll(polled);

                        process_poll_soon(process, process->flows[bit]);
                        if (!((process->grouped[w] | process->watched[w]) & 1ull << bit % 64))
                                events_take(events, w, 1ull << bit % 64);
                }
                bits &= process->watched[w];
                while (bits != 0) {
                        uint32_t bit = w * 64 + (uint32_t)__builtin_ctzll(bits);
                        struct flow *flow = process->flows[bit];

                        bits &= bits - 1;
                        if (flow == NULL)
                                continue;
                        if (!(process->grouped[w] & 1ull << (bit % 64)))
                                events_take(events, w, 1ull << (bit % 64));
                        wait_signal_eventfd(atomic_load(&flow->eventfd));
                        wait_signal_eventfd(atomic_load(&flow->writable_eventfd));
                }
        }
        pthread_mutex_unlock(&process->lock);
}

/* ---- timers ---- */

/* An end that asked for an event has packets. */
void process_poll_soon(struct process *process, struct flow *flow)
{
        int64_t due = wait_now() + FRCP_IO_POLL_INTERVAL;

        /* An idle end's timer may be set to its next keep-alive, which is far away. */
        if (flow != NULL && flow->ops->polled && !(wheel_is_set(&flow->timer) && flow->timer.due <= due))
                wheel_set(&process->wheel, &flow->timer, due);
}

/* Called by a user's call without any lock: the flow may be detaching, but exists as long as the call lasts. */
static void request_poll(void *arg, struct flow *flow)
{
        struct process *process = arg;

        pthread_mutex_lock(&process->lock);
        if (process->flows[flow->end.fd - FD_BASE] == flow)
                process_poll_soon(process, flow);
        pthread_mutex_unlock(&process->lock);
        wait_signal_eventfd(process->control);
}

static void run_timers(struct process *process)
{
        struct wheel_timer *timer;
        int64_t now = wait_now();

        pthread_mutex_lock(&process->lock);
        while ((timer = wheel_expire(&process->wheel, now)) != NULL) {
                struct flow *flow = (struct flow *)(void *)((char *)timer - offsetof(struct flow, timer));
                bool woken;
                int64_t next = flow->ops->on_timer(flow, now, &woken);

                if (next != NEVER)
                        wheel_set(&process->wheel, timer, next);
                if (woken) {
                        flow_withdraw_all(flow);
                        events_raise(process->events, flow->end.fd);
                }
        }
        pthread_mutex_unlock(&process->lock);
}

/* Milliseconds until the next timer, for poll(2), rounded up. */
static int poll_timeout(struct process *process)
{
        int64_t deadline, now = wait_now();

        pthread_mutex_lock(&process->lock);
        deadline = wheel_deadline(&process->wheel);
        pthread_mutex_unlock(&process->lock);
        if (deadline == NEVER)
                return -1;
        deadline = deadline > now ? (deadline - now + FRCP_MS - 1) / FRCP_MS : 0;
        return deadline < 60000 ? (int)deadline : 60000;
}

static void *watch(void *arg)
{
        struct process *process = arg;
        struct pollfd fds[3] = {
                {.fd = process->control, .events = POLLIN},
                {.fd = process->events->doorbell, .events = POLLIN},
                {.fd = process->rpc, .events = POLLRDHUP},
        };

        while (!atomic_load(&process->stop)) {
                atomic_fetch_or(&process->events->shm->sleepers, SLEEP_DOORBELL);
                distribute(process);
                run_timers(process);
                if (poll(fds, 3, poll_timeout(process)) < 0)
                        continue;
                if (fds[0].revents & POLLIN)
                        wait_clear_eventfd(process->control);
                if (fds[1].revents & POLLIN)
                        events_drain_doorbell(process->events);
                if (fds[2].revents != 0) {
                        orphan_all(process);
                        distribute(process);
                        break;
                }
        }
        return NULL;
}

int process_watch(struct process *process, int rpc)
{
        sigset_t all, before;
        int error;

        if (process->watching)
                return 0;
        process->rpc = rpc;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        error = pthread_create(&process->watcher, NULL, watch, process);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        process->watching = error == 0;
        return -error;
}

bool process_is_orphan(const struct process *process)
{
        return atomic_load(&process->orphan);
}

void process_add(struct process *process, struct flow *flow)
{
        uint32_t bit = flow->end.fd - FD_BASE;
        int64_t due;

        pthread_mutex_lock(&process->lock);
        process->flows[bit] = flow;
        if (process->words < bit / 64 + 1)
                process->words = bit / 64 + 1;
        if (atomic_load(&process->orphan))
                flow_orphan(flow);
        if (flow->ops->polled)
                process->polled[bit / 64] |= 1ull << (bit % 64);
        due = flow->ops->start_timer(flow, request_poll, process);
        if (due != NEVER)
                wheel_set(&process->wheel, &flow->timer, due);
        pthread_mutex_unlock(&process->lock);
        if (due != NEVER)
                wait_signal_eventfd(process->control);
}

void process_remove(struct process *process, struct flow *flow)
{
        uint32_t bit = flow->end.fd - FD_BASE;

        if (flow_check(flow) != 0)
                return;
        pthread_mutex_lock(&process->lock);
        if (process->flows[bit] == flow) {
                process->flows[bit] = NULL;
                process->watched[bit / 64] &= ~(1ull << (bit % 64));
                process->polled[bit / 64] &= ~(1ull << (bit % 64));
                wheel_cancel(&process->wheel, &flow->timer);
        }
        pthread_mutex_unlock(&process->lock);
}

static int set_eventfd(struct process *process, struct flow *flow, _Atomic int *slot, int eventfd)
{
        uint32_t bit = flow->end.fd - FD_BASE;
        int error = flow_check(flow);

        if (error != 0)
                return error;
        pthread_mutex_lock(&process->lock);
        if (process->flows[bit] != flow) {
                error = -ENOTALLOC;
        } else {
                atomic_store(slot, eventfd);
                process->watched[bit / 64] |= 1ull << (bit % 64);
                /* Readable until a read (a write) finds nothing: that clears it and asks for the event. */
                wait_signal_eventfd(eventfd);
        }
        pthread_mutex_unlock(&process->lock);
        wait_signal_eventfd(process->control);
        return error;
}

int process_poll_flow(struct process *process, struct flow *flow, int eventfd)
{
        return set_eventfd(process, flow, &flow->eventfd, eventfd);
}

int process_poll_writable(struct process *process, struct flow *flow, int eventfd)
{
        return set_eventfd(process, flow, &flow->writable_eventfd, eventfd);
}

void process_unpoll(struct process *process, struct flow *flow)
{
        uint32_t bit = flow->end.fd - FD_BASE;

        if (process->generation != map_generation)
                return;
        pthread_mutex_lock(&process->lock);
        process->watched[bit / 64] &= ~(1ull << (bit % 64));
        flow_unpoll(flow);
        pthread_mutex_unlock(&process->lock);
}
