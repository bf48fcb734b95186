#include "broadcast.h"

#include <errno.h>
#include <stdlib.h>

struct broadcast {
        struct relay *relay;
        struct port **members;
        uint32_t count;
        uint32_t space;
        struct broadcast_counters counters;
};

struct broadcast *broadcast_create(struct relay *relay)
{
        struct broadcast *broadcast = calloc(1, sizeof *broadcast);

        if (broadcast != NULL)
                broadcast->relay = relay_hold(relay);
        return broadcast;
}

void broadcast_destroy(struct broadcast *broadcast)
{
        relay_lock(broadcast->relay);
        while (broadcast->count > 0)
                relay_role(broadcast->relay, broadcast->members[broadcast->count - 1], NULL, NULL);
        relay_unlock(broadcast->relay);
        relay_let_go(broadcast->relay);
        free(broadcast->members);
        free(broadcast);
}

static void tally(struct broadcast *broadcast, bool done)
{
        if (done)
                broadcast->counters.sent++;
        else
                broadcast->counters.dropped++;
}

/* One member of the same trust domain gets the packet itself, the others copies of it. */
static void fan_out(struct broadcast *broadcast, struct port *from, struct packet *packet)
{
        struct port *heir = NULL;

        for (uint32_t m = 0; m < broadcast->count; m++) {
                struct port *to = broadcast->members[m];

                if (to == from)
                        continue;
                if (heir == NULL && to->end.pool == from->end.pool && port_space(to) > 0)
                        heir = to;
                else
                        tally(broadcast, port_copy(to, packet->data, packet->length));
        }
        if (heir != NULL)
                tally(broadcast, port_forward(from, packet, heir));
        else
                port_free(from, packet);
}

static void serve(struct relay *relay, struct port *from, int64_t now)
{
        struct broadcast *broadcast = from->role;
        struct packet packet;

        (void)relay, (void)now;
        for (uint32_t n = 0; n < PORT_BATCH && port_take(from, &packet); n++) {
                broadcast->counters.received++;
                if (packet.length == 0) {
                        broadcast->counters.keepalives++;
                        port_free(from, &packet);
                } else if (packet.length > BROADCAST_MOST) {
                        broadcast->counters.too_large++;
                        port_drop(from, &packet);
                } else {
                        fan_out(broadcast, from, &packet);
                }
        }
}

static void leave(struct port *port)
{
        struct broadcast *broadcast = port->role;

        for (uint32_t m = 0; m < broadcast->count; m++)
                if (broadcast->members[m] == port) {
                        broadcast->members[m] = broadcast->members[--broadcast->count];
                        return;
                }
}

static int add(struct broadcast *broadcast, struct port *port)
{
        if (port == NULL)
                return -EBADF;
        if (port->serve == serve)
                return -EEXIST;
        if (broadcast->count == broadcast->space) {
                uint32_t space = broadcast->space ? 2 * broadcast->space : 16;
                struct port **members = realloc(broadcast->members, space * sizeof *members);

                if (members == NULL)
                        return -ENOMEM;
                broadcast->members = members;
                broadcast->space = space;
        }
        relay_role(broadcast->relay, port, serve, broadcast);
        port->on_removal = leave;
        broadcast->members[broadcast->count++] = port;
        return 0;
}

int broadcast_add(struct broadcast *broadcast, uint32_t fd)
{
        int error;

        relay_lock(broadcast->relay);
        error = add(broadcast, relay_port(broadcast->relay, fd));
        relay_unlock(broadcast->relay);
        return error;
}

void broadcast_read(struct broadcast *broadcast, struct broadcast_counters *counters)
{
        relay_lock(broadcast->relay);
        *counters = broadcast->counters;
        relay_unlock(broadcast->relay);
}
