/*
 * dt: data transfer of a unicast IPCP (paper 5.3; spec/dt): what happens to every packet.
 *
 * A port of the relay is one of two things here. A lower flow leads to a neighbour: its packets have a header, and are
 * forwarded to another lower flow, delivered to an upper flow, or handed to a component of the control plane. An
 * upper flow is one that the layer provides: its packets get a header and leave over the lower flow that leads to the
 * peer's address.
 *
 * A slow reader delays no other flow: its excess packets are dropped and counted. An application that sends faster than its
 * lower flow takes waits itself. A cube may fill the queue of a lower flow up to its share only, so that a packet of a
 * higher cube finds space and a short queue.
 */
#ifndef OUROBOROS_DT_H
#define OUROBOROS_DT_H

#include "congestion.h"
#include "fib.h"
#include "relay.h"

#define DT_HEADER 15u /* address 4, cube 1, TTL 1, ECN 1, endpoint 8, little-endian */
#define DT_ENDPOINTS 64u  /* endpoint ids below are components */
#define DT_COMPONENTS 2u  /* of which the wire may reach these: 0 flow allocator, 1 directory */
#define DT_CONGESTION 4u /* component that sends congestion updates: (descriptor of the upper flow, level as 2 octets) */

struct dt_counters {
        uint64_t received; /* from neighbours */
        uint64_t forwarded;
        uint64_t delivered; /* to upper flows */
        uint64_t punted;    /* to components */
        uint64_t sent;      /* from upper flows and components */
        /* dropped: */
        uint64_t malformed;
        uint64_t expired;
        uint64_t no_route;
        uint64_t no_room;
        uint64_t unknown; /* no such endpoint */
};

struct dt_flow_counters {
        uint64_t received;
        uint64_t sent;
        uint64_t dropped; /* received and not delivered */
        uint64_t no_route;
        uint64_t marked; /* received with a congestion mark */
        uint64_t updates; /* congestion updates received */
        uint64_t limit;   /* octets it may send a slot */
        uint64_t slot;    /* ns */
        uint64_t level;   /* last update received */
};

struct dt;

struct dt *dt_create(struct relay *relay, struct punt *punt, uint32_t address, uint32_t max_ttl, bool congestion);
void dt_renumber(struct dt *dt, uint32_t address); /* this member has another address now */
void dt_destroy(struct dt *dt); /* its ports, if the relay still has them, have no role then */

int dt_lower(struct dt *dt, uint32_t fd);                           /* the port leads to a neighbour */
int dt_upper(struct dt *dt, uint32_t fd, uint64_t eid, uint32_t cube); /* the port is a flow of the layer */
int dt_peer(struct dt *dt, uint32_t fd, uint64_t eid, uint32_t address); /* and this is its other end */
int dt_down(struct dt *dt, uint32_t fd, bool down);                 /* a lower flow is not to be used now */

/* Takes the table over, and destroys the one before. -EINVAL: there is no such cube, and the table stays the caller's. */
int dt_table(struct dt *dt, uint32_t cube, struct fib *fib);

/* A packet of a component. -EHOSTUNREACH, -EAGAIN: no space, -EINVAL: to ourselves. */
int dt_send(struct dt *dt, uint32_t address, uint32_t cube, uint64_t eid, const void *payload, uint32_t length);

/* A congestion update arrived for an upper flow. */
int dt_congestion(struct dt *dt, uint32_t fd, uint32_t level);

void dt_read(struct dt *dt, uint32_t cube, struct dt_counters *counters);
int dt_flow_read(struct dt *dt, uint32_t fd, struct dt_flow_counters *counters);
uint64_t dt_keepalives(struct dt *dt); /* empty packets from neighbours */

#endif
