#include "dt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOOKAHEAD 32u /* packets whose headers and table entries are prefetched together */

/* Packets of each cube that may wait in a lower flow: for those that come by, and for those that begin here. */
static const uint32_t share[CUBES] = CUBES_FORWARDED;
static const uint32_t own_share[CUBES] = CUBES_OWN;

struct upper {
        struct dt *dt;
        struct port *port;
        uint64_t eid;
        uint64_t peer_eid;
        uint32_t peer;
        uint8_t cube;
        struct congestion congestion;
        struct dt_flow_counters counters;
};

struct dt {
        struct relay *relay;
        struct punt *punt;
        uint32_t address;
        uint8_t max_ttl;
        bool congestion;
        struct fib *fib[CUBES];
        struct port *usable[EVENT_BITS]; /* lower flows that are not down */
        struct port *lower[EVENT_BITS];
        struct upper *upper[EVENT_BITS];
        struct dt_counters counters[CUBES];
        uint64_t keepalives;
};

struct header {
        uint32_t address;
        uint8_t cube;
        uint8_t ttl;
        uint8_t ecn;
        uint64_t eid;
} __attribute__((packed));

_Static_assert(sizeof(struct header) == DT_HEADER, "the header of the wire");

/* ---- where a packet goes ---- */

static struct port *next_hop(struct dt *dt, uint32_t cube, uint32_t address)
{
        struct fib *fib = dt->fib[cube];
        struct fib_hops *hops = fib != NULL ? fib_find(fib, address) : NULL;
        uint32_t first = 0;

        if (hops == NULL)
                return NULL;
        if (fib->function == FIB_MULTIPATH)
                first = hops->turn++;
        for (uint32_t i = 0; i < hops->count; i++) {
                struct port *port = dt->usable[hops->bit[(first + i) % hops->count]];

                if (port != NULL)
                        return port;
        }
        return NULL;
}

static uint8_t mark(const struct dt *dt, const struct port *out)
{
        return dt->congestion ? (uint8_t)(port_standing_queue(out) >> 4) : 0;
}

/* ---- packets from a neighbour ---- */

static void deliver(struct dt *dt, struct port *from, struct packet *packet, struct dt_counters *counters)
{
        struct header header;
        struct upper *upper;
        uint16_t level;
        uint32_t bit;

        memcpy(&header, packet->data, sizeof header);
        packet_pull(packet, DT_HEADER);
        bit = (uint32_t)header.eid - FD_BASE;
        if (header.eid < DT_ENDPOINTS) {
                if (header.eid >= DT_COMPONENTS)
                        counters->unknown++;
                else if (punt_push(dt->punt, (uint32_t)header.eid, from->end.fd, packet->data, packet->length))
                        counters->punted++;
                else
                        counters->no_room++;
                port_free(from, packet);
                return;
        }
        upper = bit < EVENT_BITS ? dt->upper[bit] : NULL;
        if (upper == NULL || upper->eid != header.eid) {
                counters->unknown++;
                port_free(from, packet);
                return;
        }
        upper->counters.marked += header.ecn != 0;
        /* A sender that exceeds the reader's rate gets the same updates as one that exceeds the path's. */
        if (dt->congestion && congestion_receive(&upper->congestion, header.ecn | mark(dt, upper->port))) {
                level = upper->congestion.seen;
                punt_push(dt->punt, DT_CONGESTION, upper->port->end.fd, &level, sizeof level);
        }
        if (port_forward(from, packet, upper->port)) {
                upper->counters.received++;
                counters->delivered++;
        } else {
                upper->counters.dropped++;
                counters->no_room++;
        }
}

/* The last view of a full queue may be old: no packet is put there any more, so nothing refreshes it. */
static bool is_full(struct port *out, uint32_t most)
{
        return port_queued(out) >= most && port_queued_now(out) >= most;
}

static void forward(struct dt *dt, struct port *from, struct packet *packet, uint32_t cube,
                    struct dt_counters *counters)
{
        struct header *header = (struct header *)packet->data;
        struct port *out = next_hop(dt, cube, header->address);

        if (out == NULL) {
                counters->no_route++;
                port_free(from, packet);
                return;
        }
        /* Packets of components are best effort, but a flow waits long for a dropped answer: they get the next share. */
        if (is_full(out, share[cube == 0 && header->eid < DT_ENDPOINTS ? 1 : cube])) {
                counters->no_room++;
                port_refuse(out);
                port_free(from, packet);
                return;
        }
        header->ttl--;
        header->ecn |= mark(dt, out);
        if (port_forward(from, packet, out))
                counters->forwarded++;
        else
                counters->no_room++;
}

static void receive(struct dt *dt, struct port *from, struct packet *packet)
{
        struct dt_counters *counters;
        struct header header;
        uint32_t cube;

        if (packet->length < DT_HEADER) {
                if (packet->length == 0)
                        dt->keepalives++;
                else
                        dt->counters[0].malformed++;
                port_free(from, packet);
                return;
        }
        memcpy(&header, packet->data, sizeof header);
        cube = header.cube < CUBES ? header.cube : 0;
        counters = &dt->counters[cube];
        counters->received++;
        if (header.address == dt->address && header.ttl > 0) {
                deliver(dt, from, packet, counters);
        } else if (header.ttl <= 1) { /* a packet with a TTL of 0 has been forwarded too often already */
                counters->expired++;
                port_free(from, packet);
        } else {
                forward(dt, from, packet, cube, counters);
        }
}

static void fetch(const struct dt *dt, const struct packet *packet)
{
        struct header header;

        if (packet->length < DT_HEADER)
                return;
        memcpy(&header, packet->data, sizeof header);
        if (header.cube < CUBES && dt->fib[header.cube] != NULL)
                __builtin_prefetch(&dt->fib[header.cube]->slots[fib_at(dt->fib[header.cube], header.address)]);
}

static void serve_lower(struct relay *relay, struct port *port, int64_t now)
{
        struct packet packets[LOOKAHEAD];
        struct dt *dt = port->role;
        uint32_t n;

        (void)relay, (void)now;
        for (uint32_t total = 0; total < PORT_BATCH; total += n) {
                for (n = 0; n < LOOKAHEAD && port_take(port, &packets[n]); n++)
                        ;
                if (n == 0)
                        return;
                for (uint32_t i = 0; i < n; i++)
                        fetch(dt, &packets[i]);
                for (uint32_t i = 0; i < n; i++)
                        receive(dt, port, &packets[i]);
        }
}

/* ---- packets that begin here ---- */

static struct header header_of(const struct dt *dt, uint32_t address, uint32_t cube, uint64_t eid,
                               const struct port *out)
{
        return (struct header){
                .address = address, .cube = (uint8_t)cube, .ttl = dt->max_ttl, .ecn = mark(dt, out), .eid = eid};
}

/* The header goes in front of the packet where it lies, or of its copy when it must be copied anyway. */
static bool emit(struct port *from, struct packet *packet, const struct header *header, struct port *out)
{
        struct packet copy;
        uint8_t *data;

        if (from->end.pool == out->end.pool && packet_push(packet, DT_HEADER) != NULL) {
                memcpy(packet->data, header, DT_HEADER);
                return port_forward(from, packet, out);
        }
        data = port_reserve(out, packet->length + DT_HEADER, &copy);
        if (data != NULL) {
                memcpy(data, header, DT_HEADER);
                memcpy(data + DT_HEADER, packet->data, packet->length);
                port_enqueue(out, &copy);
        }
        port_free(from, packet);
        return data != NULL;
}

static void send(struct upper *upper, struct packet *packet, struct port *out)
{
        struct dt *dt = upper->dt;
        struct header header = header_of(dt, upper->peer, upper->cube, upper->peer_eid, out);

        if (emit(upper->port, packet, &header, out)) {
                upper->counters.sent++;
                dt->counters[upper->cube].sent++;
        } else {
                dt->counters[upper->cube].no_room++;
        }
}

/* The sender may wait: a long queue would only delay other flows. */
static uint32_t own_limit(const struct port *out, uint32_t cube)
{
        uint32_t depth = cube < CUBES - 1 ? port_target_depth(out) << cube : RING_SLOTS;

        return depth < own_share[cube] ? depth : own_share[cube];
}

static void serve_upper(struct relay *relay, struct port *port, int64_t now)
{
        struct upper *upper = port->role;
        struct dt *dt = upper->dt;
        struct packet packet;
        int64_t delay;
        uint32_t most;

        (void)relay;
        for (uint32_t n = 0; n < PORT_BATCH && port_take(port, &packet); n++) {
                struct port *out = next_hop(dt, upper->cube, upper->peer);

                if (out == NULL) {
                        upper->counters.no_route++;
                        dt->counters[upper->cube].no_route++;
                        port_free(port, &packet);
                        continue;
                }
                most = own_limit(out, upper->cube);
                if (port_space(out) == 0 || port_queued(out) >= most) {
                        port_unget(port);
                        port_wait_below(port, out, most);
                        return;
                }
                delay = dt->congestion ? congestion_send(&upper->congestion, packet.length, now) : 0;
                send(upper, &packet, out);
                if (delay > 0) {
                        port_pause(port, now + delay);
                        return;
                }
        }
}

int dt_send(struct dt *dt, uint32_t address, uint32_t cube, uint64_t eid, const void *payload, uint32_t length)
{
        struct packet packet;
        struct header header;
        struct port *out;
        int error = 0;

        if (address == dt->address || cube >= CUBES)
                return -EINVAL;
        relay_lock(dt->relay);
        out = next_hop(dt, cube, address);
        if (out == NULL) {
                dt->counters[cube].no_route++;
                error = -EHOSTUNREACH;
        } else if (port_reserve(out, length + DT_HEADER, &packet) == NULL) {
                dt->counters[cube].no_room++;
                error = -EAGAIN;
        } else {
                header = header_of(dt, address, cube, eid, out);
                memcpy(packet.data, &header, DT_HEADER);
                memcpy(packet.data + DT_HEADER, payload, length);
                port_enqueue(out, &packet);
                dt->counters[cube].sent++;
        }
        relay_unlock(dt->relay);
        return error;
}

/* ---- which port is what ---- */

struct dt *dt_create(struct relay *relay, struct punt *punt, uint32_t address, uint32_t max_ttl, bool congestion)
{
        struct dt *dt = calloc(1, sizeof *dt);

        if (dt == NULL)
                return NULL;
        dt->relay = relay_hold(relay);
        dt->punt = punt_hold(punt);
        dt->address = address;
        dt->max_ttl = (uint8_t)max_ttl;
        dt->congestion = congestion;
        return dt;
}

void dt_renumber(struct dt *dt, uint32_t address)
{
        relay_lock(dt->relay);
        dt->address = address;
        relay_unlock(dt->relay);
}

static void lower_removed(struct port *port)
{
        struct dt *dt = port->role;

        dt->lower[port->end.fd - FD_BASE] = dt->usable[port->end.fd - FD_BASE] = NULL;
}

int dt_lower(struct dt *dt, uint32_t fd)
{
        struct port *port;

        relay_lock(dt->relay);
        port = relay_port(dt->relay, fd);
        if (port != NULL) {
                relay_role(dt->relay, port, serve_lower, dt);
                port->on_removal = lower_removed;
                dt->lower[fd - FD_BASE] = dt->usable[fd - FD_BASE] = port;
        }
        relay_unlock(dt->relay);
        return port != NULL ? 0 : -EBADF;
}

int dt_down(struct dt *dt, uint32_t fd, bool down)
{
        uint32_t bit = fd - FD_BASE;
        int error = -EBADF;

        relay_lock(dt->relay);
        if (bit < EVENT_BITS && dt->lower[bit] != NULL) {
                dt->usable[bit] = down ? NULL : dt->lower[bit];
                error = 0;
        }
        relay_unlock(dt->relay);
        return error;
}

static void upper_removed(struct port *port)
{
        struct upper *upper = port->role;

        upper->dt->upper[port->end.fd - FD_BASE] = NULL;
        free(upper);
}

int dt_upper(struct dt *dt, uint32_t fd, uint64_t eid, uint32_t cube)
{
        struct upper *upper = calloc(1, sizeof *upper);
        struct port *port;

        if (upper == NULL)
                return -ENOMEM;
        if (cube >= CUBES || (uint32_t)eid != fd || eid < DT_ENDPOINTS) {
                free(upper);
                return -EINVAL;
        }
        *upper = (struct upper){.dt = dt, .eid = eid, .cube = (uint8_t)cube};
        relay_lock(dt->relay);
        port = relay_port(dt->relay, fd);
        if (port != NULL) {
                relay_role(dt->relay, port, NULL, upper);
                port->on_removal = upper_removed;
                upper->port = port;
                dt->upper[fd - FD_BASE] = upper;
        }
        relay_unlock(dt->relay);
        if (port == NULL)
                free(upper);
        return port != NULL ? 0 : -EBADF;
}

void dt_destroy(struct dt *dt)
{
        relay_lock(dt->relay);
        for (uint32_t bit = 0; bit < EVENT_BITS; bit++) {
                if (dt->lower[bit] != NULL)
                        relay_role(dt->relay, dt->lower[bit], NULL, NULL);
                if (dt->upper[bit] != NULL)
                        relay_role(dt->relay, dt->upper[bit]->port, NULL, NULL);
        }
        relay_unlock(dt->relay);
        relay_let_go(dt->relay);
        punt_destroy(dt->punt);
        for (uint32_t cube = 0; cube < CUBES; cube++)
                fib_destroy(dt->fib[cube]);
        free(dt);
}

static struct upper *upper_of(const struct dt *dt, uint32_t fd)
{
        uint32_t bit = fd - FD_BASE;

        return bit < EVENT_BITS ? dt->upper[bit] : NULL;
}

int dt_peer(struct dt *dt, uint32_t fd, uint64_t eid, uint32_t address)
{
        struct upper *upper;

        relay_lock(dt->relay);
        upper = upper_of(dt, fd);
        if (upper != NULL) {
                upper->peer_eid = eid;
                upper->peer = address;
                relay_serve(dt->relay, upper->port, serve_upper);
        }
        relay_unlock(dt->relay);
        return upper != NULL ? 0 : -EBADF;
}

int dt_table(struct dt *dt, uint32_t cube, struct fib *fib)
{
        struct fib *before;

        if (cube >= CUBES)
                return -EINVAL;
        relay_lock(dt->relay);
        before = dt->fib[cube];
        dt->fib[cube] = fib;
        relay_unlock(dt->relay);
        fib_destroy(before);
        return 0;
}

/* ---- congestion and counters ---- */

int dt_congestion(struct dt *dt, uint32_t fd, uint32_t level)
{
        struct upper *upper;

        relay_lock(dt->relay);
        upper = dt->congestion ? upper_of(dt, fd) : NULL;
        if (upper != NULL) {
                congestion_update(&upper->congestion, (uint16_t)level);
                upper->counters.updates++;
        }
        relay_unlock(dt->relay);
        return upper != NULL ? 0 : -EBADF;
}

void dt_read(struct dt *dt, uint32_t cube, struct dt_counters *counters)
{
        *counters = (struct dt_counters){0};
        if (cube >= CUBES)
                return;
        relay_lock(dt->relay);
        *counters = dt->counters[cube];
        relay_unlock(dt->relay);
}

int dt_flow_read(struct dt *dt, uint32_t fd, struct dt_flow_counters *counters)
{
        struct upper *upper;

        relay_lock(dt->relay);
        upper = upper_of(dt, fd);
        if (upper != NULL) {
                *counters = upper->counters;
                counters->limit = upper->congestion.limit;
                counters->slot = 1ull << upper->congestion.exponent;
                counters->level = upper->congestion.level;
        }
        relay_unlock(dt->relay);
        return upper != NULL ? 0 : -EBADF;
}

uint64_t dt_keepalives(struct dt *dt)
{
        uint64_t keepalives;

        relay_lock(dt->relay);
        keepalives = dt->keepalives;
        relay_unlock(dt->relay);
        return keepalives;
}
