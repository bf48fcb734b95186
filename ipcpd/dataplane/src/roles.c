/* The two roles that need nothing but ports and the punt queue. */
#include <errno.h>
#include <stdlib.h>

#include "round.h"

/* ---- a pair ---- */

static void forward(struct relay *relay, struct port *from, int64_t now)
{
        struct port *to = from->role;
        struct packet packet;

        (void)now;
        for (uint32_t n = 0; n < PORT_BATCH; n++) {
                if (port_space(to) == 0) {
                        port_wait(from, to);
                        return;
                }
                if (!port_take(from, &packet))
                        return;
                if (!port_try_forward(from, &packet, to)) {
                        if (port_wait_block(from, to))
                                port_unget(from);
                        else
                                port_drop(from, &packet);
                        return;
                }
                if (n == 0 && from->end.pool != to->end.pool && to->domain != NULL && to->domain->short_first != NULL)
                        round_found_block(relay, to->domain);
        }
}

static void part(struct port *port)
{
        struct port *other = port->role;

        other->on_removal = NULL; /* this is it */
        relay_forget_role(other);
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
                one->on_removal = other->on_removal = part;
        }
        relay_unlock(relay);
        return error;
}

/* ---- a component of the control plane ---- */

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

                if (punt_push(component->punt, component->number, port->end.fd, packet.data, packet.length))
                        port_free(port, &packet);
                else
                        port_drop(port, &packet);
                if (component->once && !empty) {
                        port->serve = NULL; /* packets behind it wait for the next role */
                        return;
                }
        }
}

static void free_component(struct component *component)
{
        punt_destroy(component->punt);
        free(component);
}

static void forget_component(struct port *port)
{
        free_component(port->role);
}

int relay_punt(struct relay *relay, uint32_t fd, struct punt *punt, uint32_t number, bool once)
{
        struct component *component = malloc(sizeof *component);
        struct port *port;

        if (component == NULL)
                return -ENOMEM;
        *component = (struct component){punt_hold(punt), number, once};
        relay_lock(relay);
        port = relay_port(relay, fd);
        if (port != NULL) {
                relay_role(relay, port, hand_over, component);
                port->on_removal = forget_component;
        }
        relay_unlock(relay);
        if (port == NULL)
                free_component(component);
        return port != NULL ? 0 : -EBADF;
}
