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

#define BATCH 128u       /* packets of one port before the next one has its turn */
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

/* The thread holds the lock for whole rounds; whoever wants it says so, and the thread lets go. */
static void acquire(struct relay *relay)
{
        atomic_store(&relay->wanted, true);
        wait_ring_eventfd(relay->control);
        pthread_mutex_lock(&relay->lock);
        atomic_store(&relay->wanted, false);
}

static void release(struct relay *relay)
{
        pthread_mutex_unlock(&relay->lock);
}

/* ---- telling the process at the other end of a port ---- */

static void tell(struct port *port, _Atomic uint32_t *word, uint32_t wanted)
{
        if (wanted & WAIT_FUTEX)
                wait_wake(word);
        if (wanted & WAIT_EVENT && port->peer != NULL)
                events_raise(port->peer, port->peer_fd);
}

/* ---- moving ---- */

static void activate(struct relay *relay, struct port *port)
{
        port->idle = 0;
        if (port->active)
                return;
        port->active = true;
        port->next = relay->active;
        relay->active = port;
}

static uint32_t port_room(struct port *port)
{
        return budget_room(&port->budget, &port->tx, port->pool);
}

static void count(_Atomic uint64_t *counter)
{
        atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

enum verdict { MOVED, DROPPED };

/* Between domains: the packet is copied, and the block given back to the pool it came from. */
static enum verdict copy_across(struct port *from, struct port *to, uint64_t slot, const uint8_t *packet,
                                uint32_t ahead)
{
        uint32_t length = SLOT_LENGTH(slot);
        int64_t block = pool_alloc(to->pool, length);
        int c;

        if (block >= 0) {
                c = pool_class_of(to->pool, (uint32_t)block);
                memcpy(pool_block(to->pool, c, (uint32_t)block) + HEADROOM, packet, length);
                pool_give(to->pool, (uint32_t)block, to->tx.owner);
                CRASH(18);
                ring_put(&to->tx, ahead, SLOT(block, HEADROOM, length));
                budget_charge(&to->budget, &to->tx, ahead, to->pool, c);
        }
        if (!pool_free(from->pool, SLOT_BLOCK(slot), from->rx.owner))
                count(&from->end->refused);
        return block >= 0 ? MOVED : DROPPED;
}

/* Move one packet: `ahead` slots are put but not published yet. */
static enum verdict move(struct port *from, struct port *to, uint64_t slot, uint32_t ahead)
{
        const uint8_t *packet = pool_packet(from->pool, slot);

        if (packet == NULL) {
                count(&from->end->refused);
                return DROPPED;
        }
        if (from->pool != to->pool) {
                if (copy_across(from, to, slot, packet, ahead) == MOVED)
                        return MOVED;
                count(&from->end->dropped);
                return DROPPED;
        }
        if (!pool_transfer(from->pool, SLOT_BLOCK(slot), from->rx.owner, to->tx.owner)) {
                count(&from->end->refused);
                return DROPPED;
        }
        CRASH(14);
        ring_put(&to->tx, ahead, slot);
        budget_charge(&to->budget, &to->tx, ahead, to->pool, pool_class_of(to->pool, SLOT_BLOCK(slot)));
        return MOVED;
}

/* Forward what fits, at most BATCH. Returns how many packets were taken. */
static uint32_t forward(struct port *from, struct port *to)
{
        uint32_t ready = ring_ready(&from->rx);
        uint32_t room, taken, moved = 0, wanted;

        if (ready == 0)
                return 0;
        if (ready > BATCH)
                ready = BATCH;
        room = port_room(to);
        for (taken = 0; taken < ready && moved < room && !budget_spent(&to->budget); taken++) {
                uint64_t slot = ring_peek(&from->rx, taken);

                if (taken + 8 < ready) {
                        uint64_t soon = ring_peek(&from->rx, taken + 8);

                        if (SLOT_BLOCK(soon) < from->pool->blocks)
                                __builtin_prefetch(&from->pool->owner[SLOT_BLOCK(soon)], 1);
                }
                from->octets += SLOT_LENGTH(slot);
                if (move(from, to, slot, moved) == MOVED)
                        moved++;
        }
        if (taken == 0)
                return 0;
        from->packets += taken;
        if (moved > 0) {
                wanted = ring_publish(&to->tx, moved);
                if (wanted)
                        tell(to, &to->tx.shm->cons_wait, wanted);
        }
        wanted = ring_consume(&from->rx, taken);
        if (wanted)
                tell(from, &from->rx.shm->prod_wait, wanted);
        return taken;
}

/* Whether the port has nothing to do until it is told. It asks to be told first, of packets and then of room. */
static bool quiet(struct port *port)
{
        ring_ask(&port->rx.shm->cons_wait, WAIT_EVENT);
        if (ring_ready(&port->rx) == 0 || port->pair == NULL)
                return true;
        ring_ask(&port->pair->tx.shm->prod_wait, WAIT_EVENT);
        return port_room(port->pair) == 0;
}

/* One round over the active ports. Returns how many packets were moved. */
static uint32_t round_active(struct relay *relay)
{
        struct port **at = &relay->active;
        uint32_t total = 0;

        while (*at != NULL) {
                struct port *port = *at;
                uint32_t n = port->pair != NULL ? forward(port, port->pair) : 0;

                total += n;
                port->idle = n > 0 ? 0 : port->idle + 1;
                if (port->idle >= IDLE_LOOKS && quiet(port)) {
                        port->active = false;
                        *at = port->next;
                        continue;
                }
                at = &port->next;
        }
        return total;
}

/* Ports that were rung, for packets or for room: the port and its pair are looked at. */
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
                                if (port->pair != NULL)
                                        activate(relay, port->pair);
                        }
                }
        }
        return any;
}

/* For polling, which changes nothing: room as last seen, or the reader has moved since. */
static bool may_have_room(const struct port *port)
{
        return (!budget_spent(&port->budget) && port->tx.at - port->tx.other < RING_SLOTS) ||
               atomic_load_explicit(&port->tx.shm->tail, memory_order_relaxed) != port->tx.other;
}

static bool rung(const void *arg)
{
        const struct relay *relay = arg;

        if (atomic_load_explicit(&relay->wanted, memory_order_relaxed))
                return true;
        for (const struct port *port = relay->active; port != NULL; port = port->next)
                if (port->pair != NULL &&
                    atomic_load_explicit(&port->rx.shm->head, memory_order_relaxed) != port->rx.at &&
                    may_have_room(port->pair))
                        return true;
        for (uint32_t r = 0; r < RELAY_REGIONS; r++) {
                if (relay->regions[r] == NULL)
                        continue;
                for (uint32_t w = 0; w < relay->words; w++)
                        if (atomic_load_explicit(&relay->regions[r]->shm->pending[w], memory_order_relaxed))
                                return true;
        }
        return false;
}

/* ---- sleeping ---- */

static void sleep_until_rung(struct relay *relay)
{
        struct pollfd fds[RELAY_REGIONS + 1];
        uint64_t count;
        nfds_t n = 0;

        fds[n++] = (struct pollfd){.fd = relay->control, .events = POLLIN};
        for (uint32_t r = 0; r < RELAY_REGIONS; r++)
                if (relay->regions[r] != NULL) {
                        atomic_fetch_or(&relay->regions[r]->shm->sleepers, SLEEP_EVENTFD);
                        fds[n++] = (struct pollfd){.fd = relay->regions[r]->eventfd, .events = POLLIN};
                }
        atomic_thread_fence(memory_order_seq_cst); /* who rang before we asked is seen by the last look */
        if (rung(relay))
                return;
        pthread_mutex_unlock(&relay->lock);
        if (poll(fds, n, -1) > 0)
                for (nfds_t i = 0; i < n; i++)
                        if (fds[i].revents & POLLIN && read(fds[i].fd, &count, sizeof count) < 0)
                                continue;
        pthread_mutex_lock(&relay->lock);
}

/* Before sleeping every port asks for the event, whatever it did a moment ago. */
static void settle(struct relay *relay)
{
        for (struct port *port = relay->active; port != NULL; port = port->next)
                port->idle = IDLE_LOOKS;
        round_active(relay);
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
                settle(relay);
                if (relay->active == NULL)
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
                free(relay->ports[i]);
        close(relay->control);
        free(relay);
}

/* ---- what the control plane asks for ---- */

int relay_add_region(struct relay *relay, struct events *region)
{
        int error = -ENOSPC;

        acquire(relay);
        for (uint32_t r = 0; r < RELAY_REGIONS; r++)
                if (relay->regions[r] == NULL) {
                        relay->regions[r] = region;
                        error = 0;
                        break;
                }
        release(relay);
        return error;
}

void relay_remove_region(struct relay *relay, struct events *region)
{
        acquire(relay);
        for (uint32_t r = 0; r < RELAY_REGIONS; r++)
                if (relay->regions[r] == region)
                        relay->regions[r] = NULL;
        release(relay);
}

int relay_add(struct relay *relay, struct pool *pool, struct segment *segment, struct events *own,
              struct events *peer, const struct flow_spec *spec)
{
        uint32_t bit = spec->fd - FD_BASE;
        struct port *port;
        int error = 0;

        if (bit >= EVENT_BITS || spec->index >= segment->flows || spec->side > 1)
                return -EINVAL;
        port = calloc(1, sizeof *port);
        if (port == NULL)
                return -ENOMEM;
        port->shm = &segment->shm->flow[spec->index];
        port->end = &port->shm->end[spec->side];
        port->pool = pool;
        port->own = own;
        port->peer = peer;
        port->fd = spec->fd;
        port->peer_fd = spec->peer_fd;
        ring_attach(&port->tx, port->shm, spec->side, spec->serial, true);
        ring_attach(&port->rx, port->shm, 1 - spec->side, spec->serial, false);
        acquire(relay);
        if (relay->ports[bit] != NULL) {
                free(port);
                error = -EEXIST;
        } else {
                relay->ports[bit] = port;
                if (relay->words < bit / 64 + 1)
                        relay->words = bit / 64 + 1;
        }
        release(relay);
        return error;
}

static struct port *port_of(struct relay *relay, uint32_t fd)
{
        uint32_t bit = fd - FD_BASE;

        return bit < EVENT_BITS ? relay->ports[bit] : NULL;
}

int relay_pair(struct relay *relay, uint32_t a, uint32_t b)
{
        struct port *one, *other;
        int error = 0;

        acquire(relay);
        one = port_of(relay, a);
        other = port_of(relay, b);
        if (one == NULL || other == NULL || one == other) {
                error = -EBADF;
        } else if (one->pair != NULL || other->pair != NULL) {
                error = -EISCONN;
        } else {
                one->pair = other;
                other->pair = one;
                activate(relay, one);
                activate(relay, other);
        }
        release(relay);
        return error;
}

static void deactivate(struct relay *relay, struct port *port)
{
        struct port **at = &relay->active;

        while (*at != NULL && *at != port)
                at = &(*at)->next;
        if (*at != NULL)
                *at = port->next;
}

/* Packets that can no longer be delivered go back to the pool. One look: its process may write for ever. */
static void drain(struct port *port)
{
        uint32_t ready = ring_ready(&port->rx);

        for (uint32_t i = 0; i < ready; i++) {
                uint64_t slot = ring_peek(&port->rx, i);

                if (pool_packet(port->pool, slot) != NULL)
                        pool_free(port->pool, SLOT_BLOCK(slot), port->rx.owner);
        }
        if (ready > 0)
                ring_consume(&port->rx, ready);
}

int relay_remove(struct relay *relay, uint32_t fd)
{
        struct port *port;

        acquire(relay);
        port = port_of(relay, fd);
        if (port != NULL) {
                /* What its process wrote before it left is still delivered, as far as there is room. */
                for (uint32_t n = 0; n < RING_SLOTS && port->pair != NULL; n += BATCH)
                        if (forward(port, port->pair) == 0)
                                break;
                drain(port);
                if (port->pair != NULL)
                        port->pair->pair = NULL;
                deactivate(relay, port);
                relay->ports[fd - FD_BASE] = NULL;
        }
        release(relay);
        free(port);
        return port != NULL ? 0 : -EBADF;
}

int relay_stats(struct relay *relay, uint32_t fd, struct port_stats *stats)
{
        struct port *port;

        acquire(relay);
        port = port_of(relay, fd);
        if (port != NULL) {
                uint64_t queued = port->tx.at - atomic_load(&port->tx.shm->tail);

                *stats = (struct port_stats){
                        .packets = port->packets,
                        .octets = port->octets,
                        .dropped = atomic_load(&port->end->dropped),
                        .refused = atomic_load(&port->end->refused),
                        .queued = queued > RING_SLOTS ? 0 : queued,
                };
        }
        release(relay);
        return port != NULL ? 0 : -EBADF;
}
