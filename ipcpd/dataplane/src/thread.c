#define _GNU_SOURCE
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

#include "round.h"

#define BUSY_PACKETS 64u          /* packets of a round that justify another round immediately */
#define BUSY_TIME 100000    /* ns: BUSY_PACKETS packets in less time are a stream, and not requests and responses */
#define COALESCE_MAX 50000u  /* ns */
#define COALESCE_MIN 5000u
#define COALESCE_PACKETS 256u /* as many should wait after a delay: a quarter of the ring */

/* ---- looking for work without changing anything ---- */

/* Space as last seen, or the reader has moved since. */
static bool may_have_space(const struct port *port, uint32_t level)
{
        return (!budget_spent(&port->end.budget) && port_queued(port) < level) ||
               atomic_load_explicit(&port->end.tx.shm->tail, memory_order_relaxed) != port->end.tx.other;
}

static bool may_be_served(const struct port *port, int64_t now)
{
        return port->serve != NULL && port->paused <= now &&
               atomic_load_explicit(&port->end.rx.shm->head, memory_order_relaxed) != port->end.rx.at &&
               (port->waits_for == NULL || may_have_space(port->waits_for, port->level));
}

static nfds_t poll_list(const struct relay *relay, struct pollfd *fds)
{
        nfds_t n = 0;

        for (uint32_t s = 0; s < RELAY_SOURCES; s++)
                if (relay->sources[s] != NULL)
                        fds[n++] = (struct pollfd){.fd = relay->sources[s]->fd, .events = POLLIN};
        return n;
}

static bool notified(const void *arg)
{
        const struct relay *relay = arg;
        struct pollfd fds[RELAY_SOURCES];
        nfds_t n;

        if (atomic_load_explicit(&relay->wanted, memory_order_relaxed))
                return true;
        for (uint32_t cube = 0; cube < CUBES; cube++)
                for (const struct port *port = relay->active[cube]; port != NULL; port = port->next)
                        if (may_be_served(port, relay->now))
                                return true;
        for (uint32_t d = 0; d < relay->domain_count; d++)
                for (uint32_t w = 0; w < relay->words; w++)
                        if (atomic_load_explicit(&relay->domains[d]->region->shm->pending[w], memory_order_relaxed))
                                return true;
        n = poll_list(relay, fds);
        return n > 0 && poll(fds, n, 0) > 0;
}

/* ---- sleeping ---- */

/* Not removed while we slept. */
static bool is_region(const struct relay *relay, const struct events *region)
{
        for (uint32_t d = 0; d < relay->domain_count; d++)
                if (relay->domains[d]->region == region)
                        return true;
        return false;
}

static void sleep_until_notified(struct relay *relay)
{
        struct pollfd fds[1 + RELAY_SOURCES + RELAY_DOMAINS];
        struct events *regions[RELAY_DOMAINS];
        struct timespec time, *limit = NULL;
        nfds_t n, rings, of = 0;

        n = poll_list(relay, fds);
        rings = n;
        fds[n++] = (struct pollfd){.fd = relay->control, .events = POLLIN};
        for (uint32_t d = 0; d < relay->domain_count; d++) {
                struct events *region = relay->domains[d]->region;

                atomic_fetch_or(&region->shm->sleepers, SLEEP_DOORBELL);
                fds[n++] = (struct pollfd){.fd = region->doorbell, .events = POLLIN};
                regions[of++] = region;
        }
        atomic_thread_fence(memory_order_seq_cst); /* the last look sees a notification from before the request */
        if (notified(relay))
                return;
        if (relay->wake != 0) {
                int64_t left = relay->wake - wait_now();

                if (left <= 0)
                        return;
                time = (struct timespec){left / 1000000000, left % 1000000000};
                limit = &time;
        }
        pthread_mutex_unlock(&relay->lock);
        if (ppoll(fds, n, limit, NULL) > 0 && fds[rings].revents & POLLIN)
                wait_clear_eventfd(relay->control);
        pthread_mutex_lock(&relay->lock);
        for (nfds_t r = 0; r < of; r++)
                if (fds[rings + 1 + r].revents & POLLIN && is_region(relay, regions[r]))
                        events_drain_doorbell(regions[r]);
}

static void wake_at(struct relay *relay, int64_t time)
{
        if (relay->wake == 0 || time < relay->wake)
                relay->wake = time;
}

/*
 * Before sleeping every port asks for the event, whatever it did a moment ago. True: only paused ones are left, and
 * `wake` is when the first of them, or of those that wait for a block, goes on.
 */
static bool may_sleep(struct relay *relay)
{
        for (uint32_t cube = 0; cube < CUBES; cube++)
                for (struct port *port = relay->active[cube]; port != NULL; port = port->next)
                        port->idle = ROUND_IDLE_LOOKS;
        relay->now = wait_now();
        round_run(relay);
        relay->wake = 0;
        for (uint32_t cube = 0; cube < CUBES; cube++)
                for (struct port *port = relay->active[cube]; port != NULL; port = port->next) {
                        if (port->paused <= relay->now)
                                return false;
                        wake_at(relay, port->paused);
                }
        for (uint32_t d = 0; d < relay->domain_count; d++)
                if (relay->domains[d]->short_first != NULL)
                        wake_at(relay, relay->domains[d]->retry);
        return true;
}

/*
 * Interrupt moderation. Packets stream in, a few per round. Polling would take a core from their writers and readers,
 * and a wake-up would cost the writer a system call for every few packets: so the thread leaves the core to them until
 * a quarter of a ring may have arrived. Requests and responses come one at a time, and are forwarded immediately.
 */
static void coalesce(struct relay *relay, uint32_t packets)
{
        struct timespec time = {0, relay->coalesce_delay};

        if (packets > COALESCE_PACKETS && relay->coalesce_delay > COALESCE_MIN)
                relay->coalesce_delay -= relay->coalesce_delay / 4;
        else if (packets < COALESCE_PACKETS && relay->coalesce_delay < COALESCE_MAX)
                relay->coalesce_delay += relay->coalesce_delay / 4;
        pthread_mutex_unlock(&relay->lock);
        nanosleep(&time, NULL);
        pthread_mutex_lock(&relay->lock);
}

static void *run(void *arg)
{
        struct relay *relay = arg;
        uint32_t moved, stream = 0; /* packets since `since` */
        int64_t since = wait_now();
        bool any;

        prctl(PR_SET_TIMERSLACK, 1000ul);
        pthread_mutex_lock(&relay->lock);
        while (!atomic_load(&relay->stop)) {
                if (atomic_load_explicit(&relay->wanted, memory_order_relaxed)) {
                        pthread_mutex_unlock(&relay->lock);
                        while (atomic_load(&relay->wanted) && !atomic_load(&relay->stop))
                                sched_yield();
                        pthread_mutex_lock(&relay->lock);
                }
                relay->now = wait_now();
                any = round_collect(relay);
                moved = round_run(relay);
                stream += moved;
                if (moved >= BUSY_PACKETS)
                        continue;
                if (stream >= BUSY_PACKETS) {
                        if (wait_now() - since < BUSY_TIME)
                                coalesce(relay, stream);
                        since = wait_now();
                        stream = 0;
                        continue;
                }
                if (any || moved > 0) {
                        sched_yield(); /* their receivers may wait for this core */
                        continue;
                }
                if (wait_poll(&relay->poller, notified, relay))
                        continue;
                if (may_sleep(relay))
                        sleep_until_notified(relay);
        }
        pthread_mutex_unlock(&relay->lock);
        return NULL;
}

int relay_start(struct relay *relay)
{
        sigset_t all, before;
        int error;

        relay->coalesce_delay = COALESCE_MIN;
        sigfillset(&all);
        sigdelset(&all, SIGBUS); /* map_survive */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        error = pthread_create(&relay->thread, NULL, run, relay);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        relay->running = error == 0;
        return -error;
}
