#define _GNU_SOURCE
#include "relay.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "map.h"

#define FEW 64u          /* packets of a round that are worth another round at once */
#define STREAM 100000    /* ns: FEW packets in less time are a stream, not a conversation */
#define NAP_MOST 50000u  /* ns */
#define NAP_LEAST 5000u
#define NAP_PACKETS 256u /* as many should wait after a nap: a quarter of the ring */
#define IDLE_LOOKS 64u   /* empty looks before a port asks for the event */

struct relay *relay_create(void)
{
        struct relay *relay = calloc(1, sizeof *relay);

        if (relay == NULL)
                return NULL;
        relay->control = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (relay->control < 0) {
                free(relay);
                return NULL;
        }
        pthread_mutex_init(&relay->lock, NULL);
        relay->nap = NAP_LEAST;
        relay->poller.pauses_most = PAUSES_LEAST; /* its users need the cores more than it does */
        return relay;
}

void relay_lock(struct relay *relay)
{
        atomic_store(&relay->wanted, true);
        wait_ring_eventfd(relay->control);
        pthread_mutex_lock(&relay->lock);
        atomic_store(&relay->wanted, false);
}

static void settle_ports(struct relay *relay)
{
        while (relay->unsettled != NULL) {
                struct port *port = relay->unsettled;

                relay->unsettled = port->next_unsettled;
                port->unsettled = false;
                port_settle(port, relay->now);
        }
}

void relay_unlock(struct relay *relay)
{
        if (relay->unsettled != NULL) {
                relay->now = wait_now();
                settle_ports(relay);
        }
        pthread_mutex_unlock(&relay->lock);
}

struct port *relay_port(struct relay *relay, uint32_t fd)
{
        uint32_t bit = fd - FD_BASE;

        return bit < EVENT_BITS ? relay->ports[bit] : NULL;
}

/* ---- which ports are looked at ---- */

/* It need not be told of room any more. What it waits for stays. */
static void leave_waiters(struct port *port)
{
        struct port **at;

        if (!port->waiting)
                return;
        port->waiting = false;
        for (at = &port->waits_for->waiters; *at != port; at = &(*at)->next_waiter)
                ;
        *at = port->next_waiter;
}

static void activate(struct relay *relay, struct port *port)
{
        port->idle = 0;
        if (port->active)
                return;
        leave_waiters(port);
        port->active = true;
        port->next = relay->active[port->cube];
        relay->active[port->cube] = port;
}

static void deactivate(struct relay *relay, struct port *port)
{
        struct port **at = &relay->active[port->cube];

        while (*at != NULL && *at != port)
                at = &(*at)->next;
        if (*at != NULL)
                *at = port->next;
        port->active = false;
}

/* There is room at a port: those that sleep until then are looked at. */
static void wake_waiters(struct relay *relay, struct port *port)
{
        while (port->waiters != NULL) {
                struct port *waiter = port->waiters;

                port->waiters = waiter->next_waiter;
                waiter->waiting = false;
                activate(relay, waiter);
        }
}

/* Whether the port has nothing to do until it is told. It asks to be told first, of packets and then of room. */
static bool quiet(struct port *port)
{
        ring_ask(&port->rx.shm->cons_wait, WAIT_EVENT);
        if (ring_ready(&port->rx) == 0 || port->serve == NULL)
                return true;
        if (port->waits_for == NULL)
                return false;
        ring_ask(&port->waits_for->tx.shm->prod_wait, WAIT_EVENT);
        return !port_may_go_on(port);
}

static void sleep_port(struct port *port)
{
        if (port->waits_for == NULL)
                return;
        port->waiting = true;
        port->next_waiter = port->waits_for->waiters;
        port->waits_for->waiters = port;
}

/* ---- serving ---- */

static uint32_t serve(struct relay *relay, struct port *port)
{
        uint32_t taken;

        if (port->serve == NULL || ring_ready(&port->rx) == 0)
                return 0;
        if (port->paused > relay->now)
                return 0;
        if (port->waits_for != NULL && !port_may_go_on(port))
                return 0;
        port->serve(relay, port, relay->now);
        taken = port->taken;
        settle_ports(relay);
        return taken;
}

/* Those of a higher cube need not wait until everybody else has had his turn. */
static uint32_t serve_above(struct relay *relay, uint32_t cube)
{
        uint32_t total = 0;

        for (uint32_t above = CUBES - 1; above > cube; above--)
                for (struct port *port = relay->active[above]; port != NULL; port = port->next)
                        total += serve(relay, port);
        return total;
}

/* Packets wait for a time, not for an event. */
static bool is_paused(const struct relay *relay, struct port *port)
{
        return port->paused > relay->now && ring_ready(&port->rx) > 0;
}

static uint32_t serve_cube(struct relay *relay, uint32_t cube)
{
        struct port **at = &relay->active[cube];
        uint32_t total = 0;

        while (*at != NULL) {
                struct port *port = *at;
                uint32_t n = serve(relay, port);

                total += n;
                if (n > 0 && cube < CUBES - 1)
                        total += serve_above(relay, cube);
                port->idle = n > 0 || is_paused(relay, port) ? 0 : port->idle + 1;
                if (port->idle >= IDLE_LOOKS && quiet(port)) {
                        port->active = false;
                        *at = port->next;
                        sleep_port(port);
                        continue;
                }
                at = &port->next;
        }
        return total;
}

/* One round over the sockets and the active ports. Returns how many packets were handled. */
static uint32_t round_active(struct relay *relay)
{
        uint32_t total = 0;

        for (uint32_t cube = CUBES; cube-- > 0;)
                total += serve_cube(relay, cube);
        for (uint32_t s = 0; s < RELAY_SOURCES; s++)
                if (relay->sources[s] != NULL) {
                        total += relay->sources[s]->serve(relay, relay->sources[s], relay->now);
                        settle_ports(relay);
                }
        return total;
}

/*
 * What the IRMd says of a flow, for the control plane: after what was written before it. DOWN and UP say how it is now,
 * however often it has changed.
 */
static void pass_events(struct relay *relay, struct port *port)
{
        uint32_t events;

        if (relay->punt == NULL || atomic_load_explicit(&port->end->events, memory_order_relaxed) == 0)
                return;
        events = atomic_exchange(&port->end->events, 0);
        for (uint32_t n = 0; n < RING_SLOTS; n += PORT_BATCH)
                if (serve(relay, port) == 0)
                        break;
        if (events & (EVENT_DOWN | EVENT_UP)) {
                events &= ~(EVENT_DOWN | EVENT_UP);
                events |= atomic_load(&port->end->state) ? EVENT_DOWN : EVENT_UP;
        }
        if (events != 0 && !punt_push(relay->punt, relay->component, port->fd, &events, sizeof events))
                atomic_fetch_or(&port->end->events, events); /* the next ring of the port tries again */
}

/* Ports that were rung, for packets, for room or for an event. */
static bool collect(struct relay *relay)
{
        bool any = false;

        for (uint32_t r = 0; r < RELAY_REGIONS; r++) {
                struct events *region = relay->regions[r];

                if (region == NULL)
                        continue;
                for (uint32_t w = 0; w < relay->words; w++) {
                        uint64_t bits = events_take(region, w, UINT64_MAX);

                        for (; bits != 0; bits &= bits - 1) {
                                struct port *port = relay->ports[w * 64 + (uint32_t)__builtin_ctzll(bits)];

                                if (port == NULL || port->own != region)
                                        continue;
                                any = true;
                                activate(relay, port);
                                wake_waiters(relay, port);
                                pass_events(relay, port);
                        }
                }
        }
        return any;
}

uint32_t relay_step(struct relay *relay, int64_t now)
{
        uint32_t total;

        pthread_mutex_lock(&relay->lock);
        relay->now = now;
        collect(relay);
        total = round_active(relay);
        pthread_mutex_unlock(&relay->lock);
        return total;
}

/* ---- looking for work without changing anything ---- */

/* Room as last seen, or the reader has moved since. */
static bool may_have_room(const struct port *port, uint32_t level)
{
        return (!budget_spent(&port->budget) && port_queued(port) < level) ||
               atomic_load_explicit(&port->tx.shm->tail, memory_order_relaxed) != port->tx.other;
}

static bool may_be_served(const struct port *port, int64_t now)
{
        return port->serve != NULL && port->paused <= now &&
               atomic_load_explicit(&port->rx.shm->head, memory_order_relaxed) != port->rx.at &&
               (port->waits_for == NULL || may_have_room(port->waits_for, port->level));
}

static nfds_t poll_list(const struct relay *relay, struct pollfd *fds)
{
        nfds_t n = 0;

        for (uint32_t s = 0; s < RELAY_SOURCES; s++)
                if (relay->sources[s] != NULL)
                        fds[n++] = (struct pollfd){.fd = relay->sources[s]->fd, .events = POLLIN};
        return n;
}

static bool rung(const void *arg)
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
        for (uint32_t r = 0; r < RELAY_REGIONS; r++) {
                if (relay->regions[r] == NULL)
                        continue;
                for (uint32_t w = 0; w < relay->words; w++)
                        if (atomic_load_explicit(&relay->regions[r]->shm->pending[w], memory_order_relaxed))
                                return true;
        }
        n = poll_list(relay, fds);
        return n > 0 && poll(fds, n, 0) > 0;
}

/* ---- sleeping ---- */

static void sleep_until_rung(struct relay *relay)
{
        struct pollfd fds[1 + RELAY_SOURCES + RELAY_REGIONS];
        struct timespec time, *limit = NULL;
        uint64_t count;
        nfds_t n, rings;

        n = poll_list(relay, fds);
        rings = n;
        fds[n++] = (struct pollfd){.fd = relay->control, .events = POLLIN};
        for (uint32_t r = 0; r < RELAY_REGIONS; r++)
                if (relay->regions[r] != NULL) {
                        atomic_fetch_or(&relay->regions[r]->shm->sleepers, SLEEP_EVENTFD);
                        fds[n++] = (struct pollfd){.fd = relay->regions[r]->eventfd, .events = POLLIN};
                }
        atomic_thread_fence(memory_order_seq_cst); /* who rang before we asked is seen by the last look */
        if (rung(relay))
                return;
        if (relay->wake != 0) {
                int64_t left = relay->wake - wait_now();

                if (left <= 0)
                        return;
                time = (struct timespec){left / 1000000000, left % 1000000000};
                limit = &time;
        }
        pthread_mutex_unlock(&relay->lock);
        if (ppoll(fds, n, limit, NULL) > 0)
                for (nfds_t i = rings; i < n; i++)
                        if (fds[i].revents & POLLIN && read(fds[i].fd, &count, sizeof count) < 0)
                                continue;
        pthread_mutex_lock(&relay->lock);
}

/*
 * Before sleeping every port asks for the event, whatever it did a moment ago. True: only paused ones are left, and
 * `wake` is when the first of them goes on.
 */
static bool may_sleep(struct relay *relay)
{
        for (uint32_t cube = 0; cube < CUBES; cube++)
                for (struct port *port = relay->active[cube]; port != NULL; port = port->next)
                        port->idle = IDLE_LOOKS;
        relay->now = wait_now();
        round_active(relay);
        relay->wake = 0;
        for (uint32_t cube = 0; cube < CUBES; cube++)
                for (struct port *port = relay->active[cube]; port != NULL; port = port->next) {
                        if (port->paused <= relay->now)
                                return false;
                        if (relay->wake == 0 || port->paused < relay->wake)
                                relay->wake = port->paused;
                }
        return true;
}

/*
 * Packets stream in, a few at each look. Looking on would take a core from those who write and read them, and being
 * woken would cost the writer a system call for every few: so leave the cores to them for as long as it takes a
 * quarter of a ring to come together. Where packets come one by one, as in a conversation, latency counts instead.
 */
static void nap(struct relay *relay, uint32_t packets)
{
        struct timespec time = {0, relay->nap};

        if (packets > NAP_PACKETS && relay->nap > NAP_LEAST)
                relay->nap -= relay->nap / 4;
        else if (packets < NAP_PACKETS && relay->nap < NAP_MOST)
                relay->nap += relay->nap / 4;
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
                any = collect(relay);
                moved = round_active(relay);
                stream += moved;
                if (moved >= FEW)
                        continue;
                if (stream >= FEW) {
                        if (wait_now() - since < STREAM)
                                nap(relay, stream);
                        since = wait_now();
                        stream = 0;
                        continue;
                }
                if (any || moved > 0) {
                        sched_yield(); /* whoever gets these may wait for our core */
                        continue;
                }
                if (wait_poll(&relay->poller, rung, relay))
                        continue;
                if (may_sleep(relay))
                        sleep_until_rung(relay);
        }
        pthread_mutex_unlock(&relay->lock);
        return NULL;
}

int relay_start(struct relay *relay)
{
        sigset_t all, before;
        int error;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        error = pthread_create(&relay->thread, NULL, run, relay);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        relay->running = error == 0;
        return -error;
}

void relay_destroy(struct relay *relay)
{
        if (relay->running) {
                atomic_store(&relay->stop, true);
                wait_ring_eventfd(relay->control);
                pthread_join(relay->thread, NULL);
        }
        for (uint32_t i = 0; i < relay->words * 64; i++)
                if (relay->ports[i] != NULL && relay->ports[i]->gone != NULL)
                        relay->ports[i]->gone(relay->ports[i]);
        for (uint32_t i = 0; i < relay->words * 64; i++)
                free(relay->ports[i]);
        close(relay->control);
        free(relay);
}

/* ---- what the control plane asks for ---- */

int relay_add_region(struct relay *relay, struct events *region)
{
        int error = -ENOSPC;

        relay_lock(relay);
        for (uint32_t r = 0; r < RELAY_REGIONS; r++)
                if (relay->regions[r] == NULL) {
                        relay->regions[r] = region;
                        error = 0;
                        break;
                }
        relay_unlock(relay);
        return error;
}

void relay_remove_region(struct relay *relay, struct events *region)
{
        relay_lock(relay);
        for (uint32_t r = 0; r < RELAY_REGIONS; r++)
                if (relay->regions[r] == region)
                        relay->regions[r] = NULL;
        relay_unlock(relay);
}

int relay_add(struct relay *relay, struct pool *pool, struct segment *segment, struct events *own,
              struct events *peer, const struct flow_spec *spec)
{
        uint32_t bit = spec->fd - FD_BASE;
        struct port *port;
        int error = 0;

        if (bit >= EVENT_BITS || spec->index >= segment->flows || spec->side > 1)
                return -EINVAL;
        port = port_create(pool, segment, own, peer, spec);
        if (port == NULL)
                return -ENOMEM;
        port->unsettled_list = &relay->unsettled;
        relay_lock(relay);
        if (relay->ports[bit] != NULL) {
                free(port);
                error = -EEXIST;
        } else {
                relay->ports[bit] = port;
                if (relay->words < bit / 64 + 1)
                        relay->words = bit / 64 + 1;
                pass_events(relay, port); /* what happened before we looked */
        }
        relay_unlock(relay);
        return error;
}

int relay_cube(struct relay *relay, uint32_t fd, uint32_t cube)
{
        struct port *port;

        relay_lock(relay);
        port = relay_port(relay, fd);
        if (port != NULL && cube < CUBES && port->cube != cube) {
                bool active = port->active;

                if (active)
                        deactivate(relay, port);
                port->cube = cube;
                if (active)
                        activate(relay, port);
        }
        relay_unlock(relay);
        return port == NULL ? -EBADF : cube < CUBES ? 0 : -EINVAL;
}

static void forget_role(struct port *port)
{
        if (port->gone != NULL)
                port->gone(port);
        leave_waiters(port);
        port->waits_for = NULL;
        port->paused = 0;
        port->serve = NULL;
        port->role = NULL;
        port->gone = NULL;
}

void relay_role(struct relay *relay, struct port *port, port_serve *serve_it, void *role)
{
        forget_role(port);
        port->serve = serve_it;
        port->role = role;
        activate(relay, port);
}

void relay_serve(struct relay *relay, struct port *port, port_serve *serve_it)
{
        port->serve = serve_it;
        activate(relay, port);
}

int relay_add_source(struct relay *relay, struct source *source)
{
        for (uint32_t s = 0; s < RELAY_SOURCES; s++)
                if (relay->sources[s] == NULL) {
                        relay->sources[s] = source;
                        return 0;
                }
        return -ENOSPC;
}

void relay_remove_source(struct relay *relay, struct source *source)
{
        for (uint32_t s = 0; s < RELAY_SOURCES; s++)
                if (relay->sources[s] == source)
                        relay->sources[s] = NULL;
}

/* ---- roles: a pair, and the control plane ---- */

static void forward(struct relay *relay, struct port *from, int64_t now)
{
        struct port *to = from->role;
        struct packet packet;

        (void)relay, (void)now;
        for (uint32_t n = 0; n < PORT_BATCH; n++) {
                if (port_room(to) == 0) {
                        port_wait(from, to);
                        return;
                }
                if (!port_take(from, &packet))
                        return;
                port_pass(from, &packet, to);
        }
}

static void part(struct port *port)
{
        struct port *other = port->role;

        other->gone = NULL; /* this is it */
        forget_role(other);
}

int relay_pair(struct relay *relay, uint32_t a, uint32_t b)
{
        struct port *one, *other;
        int error = 0;

        relay_lock(relay);
        one = relay_port(relay, a);
        other = relay_port(relay, b);
        if (one == NULL || other == NULL || one == other) {
                error = -EBADF;
        } else if (one->serve != NULL || other->serve != NULL) {
                error = -EISCONN;
        } else {
                relay_role(relay, one, forward, other);
                relay_role(relay, other, forward, one);
                one->gone = other->gone = part;
        }
        relay_unlock(relay);
        return error;
}

struct component {
        struct punt *punt;
        uint32_t number;
        bool once;
};

static void hand_over(struct relay *relay, struct port *port, int64_t now)
{
        const struct component *component = port->role;
        struct packet packet;

        (void)relay, (void)now;
        for (uint32_t n = 0; n < PORT_BATCH && port_take(port, &packet); n++) {
                bool empty = packet.length == 0;

                if (punt_push(component->punt, component->number, port->fd, packet.data, packet.length))
                        port_free(port, &packet);
                else
                        port_drop(port, &packet);
                if (component->once && !empty) {
                        port->serve = NULL; /* what is behind it waits for whoever is next */
                        return;
                }
        }
}

static void forget_component(struct port *port)
{
        free(port->role);
}

int relay_punt(struct relay *relay, uint32_t fd, struct punt *punt, uint32_t number, bool once)
{
        struct component *component = malloc(sizeof *component);
        struct port *port;

        if (component == NULL)
                return -ENOMEM;
        *component = (struct component){punt, number, once};
        relay_lock(relay);
        port = relay_port(relay, fd);
        if (port != NULL) {
                relay_role(relay, port, hand_over, component);
                port->gone = forget_component;
        }
        relay_unlock(relay);
        if (port == NULL)
                free(component);
        return port != NULL ? 0 : -EBADF;
}

void relay_events(struct relay *relay, struct punt *punt, uint32_t component)
{
        relay_lock(relay);
        relay->punt = punt;
        relay->component = component;
        relay_unlock(relay);
}

int relay_send(struct relay *relay, uint32_t fd, const void *packet, uint32_t length)
{
        struct port *port;
        int error = -EBADF;

        relay_lock(relay);
        port = relay_port(relay, fd);
        if (port != NULL)
                error = port_copy(port, packet, length) ? 0 : -EAGAIN;
        relay_unlock(relay);
        return error;
}

/* ---- leaving ---- */

/* The port is about to go: nobody waits for it any longer. */
static void let_go(struct relay *relay, struct port *port)
{
        wake_waiters(relay, port);
        for (uint32_t cube = 0; cube < CUBES; cube++)
                for (struct port *other = relay->active[cube]; other != NULL; other = other->next)
                        if (other->waits_for == port)
                                other->waits_for = NULL;
}

int relay_remove(struct relay *relay, uint32_t fd)
{
        struct port *port;

        relay_lock(relay);
        port = relay_port(relay, fd);
        if (port != NULL) {
                /* What its process wrote before it left is still delivered, as far as there is room. */
                relay->now = wait_now();
                port->paused = 0;
                for (uint32_t n = 0; n < RING_SLOTS; n += PORT_BATCH)
                        if (serve(relay, port) == 0)
                                break;
                settle_ports(relay);
                port_drain(port);
                forget_role(port);
                deactivate(relay, port);
                let_go(relay, port);
                relay->ports[fd - FD_BASE] = NULL;
        }
        relay_unlock(relay);
        free(port);
        return port != NULL ? 0 : -EBADF;
}

int relay_stats(struct relay *relay, uint32_t fd, struct port_stats *stats)
{
        struct port *port;

        relay_lock(relay);
        port = relay_port(relay, fd);
        if (port != NULL) {
                uint64_t queued = port->tx.at - atomic_load(&port->tx.shm->tail);

                *stats = (struct port_stats){
                        .packets = port->packets,
                        .octets = port->octets,
                        .dropped = atomic_load(&port->end->dropped),
                        .refused = atomic_load(&port->end->refused),
                        .queued = queued > RING_SLOTS ? 0 : queued,
                        .sent = port->sent,
                        .received_at = port->received_at,
                        .sent_at = port->sent_at,
                };
        }
        relay_unlock(relay);
        return port != NULL ? 0 : -EBADF;
}
