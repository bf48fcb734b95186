#include "relay.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "map.h"
#include "round.h"

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
        relay->poller.pauses_max = PAUSES_MIN; /* its users need the cores more than it does */
        relay->holders = 1;
        return relay;
}

struct relay *relay_hold(struct relay *relay)
{
        map_hold(&relay->holders);
        return relay;
}

void relay_let_go(struct relay *relay)
{
        if (!map_let_go(&relay->holders))
                return;
        close(relay->control);
        pthread_mutex_destroy(&relay->lock);
        free(relay);
}

void relay_lock(struct relay *relay)
{
        atomic_store(&relay->wanted, true);
        wait_signal_eventfd(relay->control);
        pthread_mutex_lock(&relay->lock);
        atomic_store(&relay->wanted, false);
}

void relay_unlock(struct relay *relay)
{
        if (relay->uncommitted != NULL) {
                relay->now = wait_now();
                round_commit(relay);
        }
        pthread_mutex_unlock(&relay->lock);
}

struct port *relay_port(struct relay *relay, uint32_t fd)
{
        uint32_t bit = fd - FD_BASE;

        return bit < EVENT_BITS ? relay->ports[bit] : NULL;
}

static void free_domain(struct domain *domain)
{
        if (domain == NULL)
                return;
        events_unmap(domain->region);
        free(domain);
}

void relay_destroy(struct relay *relay)
{
        if (relay->running) {
                atomic_store(&relay->stop, true);
                wait_signal_eventfd(relay->control);
                pthread_join(relay->thread, NULL);
                relay->running = false;
        }
        relay_lock(relay);
        relay->now = wait_now();
        round_commit(relay);
        for (uint32_t i = 0; i < relay->words * 64; i++)
                if (relay->ports[i] != NULL)
                        relay_forget_role(relay->ports[i]);
        for (uint32_t i = 0; i < relay->words * 64; i++) {
                port_destroy(relay->ports[i]);
                relay->ports[i] = NULL;
        }
        for (uint32_t cube = 0; cube < CUBES; cube++)
                relay->active[cube] = NULL;
        while (relay->domain_count > 0)
                free_domain(relay->domains[--relay->domain_count]);
        punt_destroy(relay->punt);
        relay->punt = NULL;
        relay_unlock(relay);
        relay_let_go(relay);
}

/* ---- what the control plane asks for ---- */

int relay_add_region(struct relay *relay, struct events *region)
{
        struct domain *domain = calloc(1, sizeof *domain);
        int error = 0;

        if (domain == NULL)
                return -ENOMEM;
        domain->region = events_hold(region);
        relay_lock(relay);
        if (relay->domain_count < RELAY_DOMAINS)
                relay->domains[relay->domain_count++] = domain;
        else
                error = -ENOSPC;
        relay_unlock(relay);
        if (error < 0)
                free_domain(domain);
        return error;
}

static struct domain *domain_of(const struct relay *relay, const struct events *region)
{
        for (uint32_t d = 0; d < relay->domain_count; d++)
                if (relay->domains[d]->region == region)
                        return relay->domains[d];
        return NULL;
}

static void forget_domain(struct relay *relay, struct port *port, const struct domain *domain)
{
        if (port->domain == domain)
                port->domain = NULL;
        if (port->lacks == domain) {
                round_leave_domain(port);
                round_activate(relay, port);
        }
}

void relay_remove_region(struct relay *relay, struct events *region)
{
        struct domain *domain;

        relay_lock(relay);
        domain = domain_of(relay, region);
        if (domain != NULL) {
                for (uint32_t i = 0; i < relay->words * 64; i++)
                        if (relay->ports[i] != NULL)
                                forget_domain(relay, relay->ports[i], domain);
                for (uint32_t d = 0; d < relay->domain_count; d++)
                        if (relay->domains[d] == domain)
                                relay->domains[d] = relay->domains[--relay->domain_count];
        }
        relay_unlock(relay);
        free_domain(domain);
}

int relay_add(struct relay *relay, struct pool *pool, struct segment *segment, struct events *own,
              struct events *peer, const struct flow_spec *spec)
{
        uint32_t bit = spec->fd - FD_BASE;
        struct port *port;
        int error = 0;

        if (!end_exists(segment, spec))
                return -EINVAL;
        port = port_create(pool, segment, own, peer, spec);
        if (port == NULL)
                return -ENOMEM;
        port->uncommitted_list = &relay->uncommitted;
        relay_lock(relay);
        port->domain = domain_of(relay, own);
        if (relay->ports[bit] != NULL) {
                port_destroy(port);
                error = -EEXIST;
        } else {
                relay->ports[bit] = port;
                if (relay->words < bit / 64 + 1)
                        relay->words = bit / 64 + 1;
                round_pass_events(relay, port); /* events from before the port was added */
        }
        relay_unlock(relay);
        return error;
}

int relay_protect(struct relay *relay, uint32_t fd, uint32_t cipher, const uint8_t *key, bool check)
{
        struct port *port;
        int result = -EBADF;

        relay_lock(relay);
        port = relay_port(relay, fd);
        if (port != NULL)
                result = end_protect(&port->end, cipher, key, check);
        if (result == 0)
                result = (int)port->end.max_packet;
        relay_unlock(relay);
        return result;
}

int relay_cube(struct relay *relay, uint32_t fd, uint32_t cube)
{
        struct port *port;

        relay_lock(relay);
        port = relay_port(relay, fd);
        if (port != NULL && cube < CUBES && port->cube != cube) {
                bool active = port->active;

                if (active)
                        round_deactivate(relay, port);
                port->cube = cube;
                if (active)
                        round_activate(relay, port);
        }
        relay_unlock(relay);
        return port == NULL ? -EBADF : cube < CUBES ? 0 : -EINVAL;
}

void relay_forget_role(struct port *port)
{
        if (port->on_removal != NULL)
                port->on_removal(port);
        round_leave_waiters(port);
        round_leave_domain(port);
        port->waits_for = NULL;
        port->paused = 0;
        port->serve = NULL;
        port->role = NULL;
        port->on_removal = NULL;
}

void relay_role(struct relay *relay, struct port *port, port_serve *serve_it, void *role)
{
        relay_forget_role(port);
        port->serve = serve_it;
        port->role = role;
        round_activate(relay, port);
}

void relay_serve(struct relay *relay, struct port *port, port_serve *serve_it)
{
        port->serve = serve_it;
        round_activate(relay, port);
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

void relay_events(struct relay *relay, struct punt *punt, uint32_t component)
{
        struct punt *before;

        relay_lock(relay);
        before = relay->punt;
        relay->punt = punt_hold(punt);
        relay->component = component;
        relay_unlock(relay);
        punt_destroy(before);
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

/* The port is about to be removed: no other port waits for it any longer. */
static void let_go(struct relay *relay, struct port *port)
{
        round_wake_waiters(relay, port);
        for (uint32_t cube = 0; cube < CUBES; cube++)
                for (struct port *other = relay->active[cube]; other != NULL; other = other->next)
                        if (other->waits_for == port)
                                other->waits_for = NULL;
}

int relay_remove(struct relay *relay, uint32_t fd)
{
        struct port *port;
        bool known;

        relay_lock(relay);
        port = relay_port(relay, fd);
        if (port != NULL) {
                /* Packets that its process wrote before it left are still delivered, as far as there is space. */
                relay->now = wait_now();
                port->paused = 0;
                round_leave_domain(port);
                for (uint32_t n = 0; n < RING_SLOTS; n += PORT_BATCH)
                        if (round_serve(relay, port) == 0)
                                break;
                round_commit(relay);
                end_drain(&port->end);
                relay_forget_role(port);
                round_deactivate(relay, port);
                let_go(relay, port);
                relay->ports[fd - FD_BASE] = NULL;
        }
        relay_unlock(relay);
        known = port != NULL;
        port_destroy(port);
        return known ? 0 : -EBADF;
}

int relay_stats(struct relay *relay, uint32_t fd, struct port_stats *stats)
{
        struct port *port;

        relay_lock(relay);
        port = relay_port(relay, fd);
        if (port != NULL) {
                uint64_t queued = port->end.tx.at - atomic_load(&port->end.tx.shm->tail);

                *stats = (struct port_stats){
                        .packets = port->packets,
                        .octets = port->octets,
                        .dropped = atomic_load(&port->end.own->dropped),
                        .refused = atomic_load(&port->end.own->refused),
                        .queued = queued > RING_SLOTS ? 0 : queued,
                        .sent = port->sent,
                        .received_at = port->received_at,
                        .sent_at = port->sent_at,
                };
        }
        relay_unlock(relay);
        return port != NULL ? 0 : -EBADF;
}
