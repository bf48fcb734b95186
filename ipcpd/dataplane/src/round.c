#include "round.h"

void round_commit(struct relay *relay)
{
        while (relay->uncommitted != NULL) {
                struct port *port = relay->uncommitted;

                relay->uncommitted = port->next_uncommitted;
                port->uncommitted = false;
                port_commit(port, relay->now);
        }
}

/* ---- which ports are looked at ---- */

/* It leaves the list of waiters, and still waits for the same space. */
void round_leave_waiters(struct port *port)
{
        struct port **at;

        if (port->sleeps_at == NULL)
                return;
        for (at = &port->sleeps_at->waiters; *at != port; at = &(*at)->next_waiter)
                ;
        *at = port->next_waiter;
        port->sleeps_at = NULL;
}

/* A port that waits for a block of a pool stays where it is, however often it is notified of packets. */
void round_activate(struct relay *relay, struct port *port)
{
        port->idle = 0;
        if (port->active || port->queued_for_block)
                return;
        round_leave_waiters(port);
        port->active = true;
        port->next = relay->active[port->cube];
        relay->active[port->cube] = port;
}

void round_deactivate(struct relay *relay, struct port *port)
{
        struct port **at = &relay->active[port->cube];

        while (*at != NULL && *at != port)
                at = &(*at)->next;
        if (*at != NULL)
                *at = port->next;
        port->active = false;
}

/* There is space at a port: those that sleep until then are looked at. */
void round_wake_waiters(struct relay *relay, struct port *port)
{
        while (port->waiters != NULL) {
                struct port *waiter = port->waiters;

                port->waiters = waiter->next_waiter;
                waiter->sleeps_at = NULL;
                round_activate(relay, waiter);
        }
}

/* ---- ports that wait for a block of a pool that is used up ---- */

static void queue_for_block(struct relay *relay, struct port *port)
{
        struct domain *domain = port->lacks;

        port->queued_for_block = true;
        port->next_short = NULL;
        if (domain->short_first == NULL) {
                domain->short_first = port;
                domain->retry = relay->now + RELAY_RETRY;
        } else {
                domain->short_last->next_short = port;
        }
        domain->short_last = port;
}

void round_leave_domain(struct port *port)
{
        struct domain *domain = port->lacks;
        struct port **at, *before = NULL;

        port->lacks = NULL;
        if (!port->queued_for_block)
                return;
        port->queued_for_block = false;
        for (at = &domain->short_first; *at != port; at = &(*at)->next_short)
                before = *at;
        *at = port->next_short;
        if (domain->short_last == port)
                domain->short_last = before;
}

bool round_retry(struct relay *relay, struct domain *domain)
{
        struct port *port = domain->short_first;

        if (port == NULL)
                return false;
        domain->short_first = port->next_short;
        port->queued_for_block = false;
        port->lacks = NULL;
        round_activate(relay, port);
        return true;
}

void round_found_block(struct relay *relay, struct domain *domain)
{
        for (uint32_t n = 0; n < 2 && round_retry(relay, domain); n++)
                ;
}

/* One port for each domain whose pool had no block a while ago. */
static void retry_domains(struct relay *relay)
{
        for (uint32_t d = 0; d < relay->domain_count; d++) {
                struct domain *domain = relay->domains[d];

                if (domain->short_first == NULL || domain->retry > relay->now)
                        continue;
                domain->retry = relay->now + RELAY_RETRY;
                round_retry(relay, domain);
        }
}

/* Whether the port is idle until a notification. It requests the notification first: of packets, then of space. */
static bool quiet(struct port *port)
{
        ring_ask(&port->end.rx.shm->cons_wait, WAIT_EVENT);
        if (ring_ready(&port->end.rx) == 0 || port->serve == NULL)
                return true;
        if (port->waits_for == NULL)
                return false;
        ring_ask(&port->waits_for->end.tx.shm->prod_wait, WAIT_EVENT);
        return !port_may_resume(port);
}

static void sleep_port(struct port *port)
{
        if (port->waits_for == NULL)
                return;
        port->sleeps_at = port->waits_for;
        port->next_waiter = port->waits_for->waiters;
        port->waits_for->waiters = port;
}

/* ---- serving ---- */

uint32_t round_serve(struct relay *relay, struct port *port)
{
        uint32_t taken;

        if (port->serve == NULL || ring_ready(&port->end.rx) == 0)
                return 0;
        if (port->paused > relay->now || port->lacks != NULL)
                return 0;
        if (port->waits_for != NULL && !port_may_resume(port))
                return 0;
        port->serve(relay, port, relay->now);
        taken = port->taken;
        round_commit(relay);
        return taken;
}

/* Ports of a higher cube do not wait for the turns of all others. */
static uint32_t serve_above(struct relay *relay, uint32_t cube)
{
        uint32_t total = 0;

        for (uint32_t above = CUBES - 1; above > cube; above--)
                for (struct port *port = relay->active[above]; port != NULL; port = port->next)
                        total += round_serve(relay, port);
        return total;
}

/* Packets wait for a time, not for an event. */
static bool is_paused(const struct relay *relay, struct port *port)
{
        return port->paused > relay->now && ring_ready(&port->end.rx) > 0;
}

static uint32_t serve_cube(struct relay *relay, uint32_t cube)
{
        struct port **at = &relay->active[cube];
        uint32_t total = 0;

        while (*at != NULL) {
                struct port *port = *at;
                uint32_t n = round_serve(relay, port);

                total += n;
                if (n > 0 && cube < CUBES - 1)
                        total += serve_above(relay, cube);
                if (port->lacks != NULL) {
                        port->active = false;
                        *at = port->next;
                        queue_for_block(relay, port);
                        continue;
                }
                port->idle = n > 0 || is_paused(relay, port) ? 0 : port->idle + 1;
                if (port->idle >= ROUND_IDLE_LOOKS && quiet(port)) {
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
uint32_t round_run(struct relay *relay)
{
        uint32_t total = 0;

        retry_domains(relay);
        for (uint32_t cube = CUBES; cube-- > 0;)
                total += serve_cube(relay, cube);
        for (uint32_t s = 0; s < RELAY_SOURCES; s++)
                if (relay->sources[s] != NULL) {
                        total += relay->sources[s]->serve(relay, relay->sources[s], relay->now);
                        round_commit(relay);
                }
        return total;
}

/*
 * Events of a flow from the IRMd, for the control plane, after the packets that were written before them. DOWN and UP report the present state,
 * however often it has changed.
 */
void round_pass_events(struct relay *relay, struct port *port)
{
        uint32_t events;

        if (relay->punt == NULL || atomic_load_explicit(&port->end.own->events, memory_order_relaxed) == 0)
                return;
        events = atomic_exchange(&port->end.own->events, 0);
        for (uint32_t n = 0; n < RING_SLOTS; n += PORT_BATCH)
                if (round_serve(relay, port) == 0)
                        break;
        events = end_events_now(&port->end, events);
        if (events != 0 && !punt_push(relay->punt, relay->component, port->end.fd, &events, sizeof events))
                atomic_fetch_or(&port->end.own->events, events); /* the next ring of the port tries again */
}

/* Ports that were notified, for packets, for space or for an event. */
bool round_collect(struct relay *relay)
{
        bool any = false;

        for (uint32_t d = 0; d < relay->domain_count; d++) {
                struct events *region = relay->domains[d]->region;

                for (uint32_t w = 0; w < relay->words; w++) {
                        uint64_t bits = events_take(region, w, UINT64_MAX);

                        for (; bits != 0; bits &= bits - 1) {
                                struct port *port = relay->ports[w * 64 + (uint32_t)__builtin_ctzll(bits)];

                                if (port == NULL || port->own != region)
                                        continue;
                                any = true;
                                round_activate(relay, port);
                                round_wake_waiters(relay, port);
                                round_pass_events(relay, port);
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
        relay->stepped = true;
        round_collect(relay);
        total = round_run(relay);
        pthread_mutex_unlock(&relay->lock);
        return total;
}
