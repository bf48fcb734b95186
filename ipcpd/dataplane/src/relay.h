/*
 * relay: the thread of an IPCP that moves packets between its flows.
 *
 * A port is the IPCP's end of a flow. Two ports are paired: what one end's process writes, the other end's process
 * reads. Nothing is lost: a packet that does not fit waits where it is, its writer feels the ring fill up, and no
 * other pair is delayed. Within a trust domain a packet moves by reference, its owner word going from ring to ring;
 * between domains it is copied.
 *
 * The thread looks at ports that had packets a moment ago without being told; a port that stays empty asks for the
 * event. With nothing to do it polls for a moment, then sleeps in poll(2) on the eventfds of its event regions (one
 * a trust domain).
 */
#ifndef OUROBOROS_RELAY_H
#define OUROBOROS_RELAY_H

#include <pthread.h>

#include "flow.h"

#define RELAY_REGIONS 64

struct port {
        struct flow_shm *shm;
        struct end_shm *end; /* dropped: no block in the other domain's pool, or larger than its blocks */
        struct pool *pool;
        struct events *own;  /* region that the process at the other end rings */
        struct events *peer; /* its region */
        struct ring rx;
        struct ring tx;
        struct budget budget; /* of tx */
        struct port *pair;
        uint32_t fd;
        uint32_t peer_fd;
        uint32_t idle; /* looks in a row that found nothing */
        bool active;   /* on the list of those looked at without being told */
        struct port *next;
        uint64_t packets; /* taken from rx */
        uint64_t octets;
};

struct relay {
        pthread_mutex_t lock;
        struct port *ports[EVENT_BITS];
        struct events *regions[RELAY_REGIONS];
        uint32_t words;
        struct port *active;
        int control;
        _Atomic bool wanted; /* somebody waits for the lock */
        _Atomic bool stop;
        bool running;
        pthread_t thread;
        struct poller poller;
        uint32_t nap; /* ns, adapted */
};

struct relay *relay_create(void);
void relay_destroy(struct relay *relay);
int relay_start(struct relay *relay);

/* Event regions of this process. -ENOSPC when there are too many. */
int relay_add_region(struct relay *relay, struct events *region);
void relay_remove_region(struct relay *relay, struct events *region);

int relay_add(struct relay *relay, struct pool *pool, struct segment *segment, struct events *own,
              struct events *peer, const struct flow_spec *spec);
int relay_pair(struct relay *relay, uint32_t a, uint32_t b);

/* Leave the flow. Its pair, if any, stays, alone. */
int relay_remove(struct relay *relay, uint32_t fd);

struct port_stats {
        uint64_t packets;
        uint64_t octets;
        uint64_t dropped;
        uint64_t refused;
        uint64_t queued; /* waiting for the process at the other end */
};

int relay_stats(struct relay *relay, uint32_t fd, struct port_stats *stats);

#endif
