/*
 * relay: the thread of an IPCP that moves packets: between its flows, its sockets, and the control plane.
 *
 * Every port has a role, which handles the packets that its process writes. The one role in this file is the
 * pair: the process at one end reads the packets that the process at the other end writes, and none is lost: a packet that does
 * not fit waits in its ring, which fills up and blocks its writer, and no other port is delayed. Other roles (dt, eth,
 * udp, broadcast) are files of their own.
 *
 * The thread serves ports by QoS cube, and looks at those of a higher cube again before it goes on to the next of a
 * lower one. Ports that had packets recently are polled without a notification; one that stays empty requests the
 * event. Ports whose packets need a block of a pool that has none are queued at the trust domain of that pool, and one of
 * them tries for all. With nothing to do the thread polls for a moment, then sleeps in poll(2) on the sockets of its event regions
 * (one a trust domain) and on its sockets.
 */
#ifndef OUROBOROS_RELAY_H
#define OUROBOROS_RELAY_H

#include <pthread.h>

#include "port.h"
#include "punt.h"

#define RELAY_DOMAINS 1024u /* trust domains that an IPCP serves together: the system, and users */
#define RELAY_SOURCES 4

/* A socket. `serve` handles what waits in it, without blocking, and returns how many packets that was. */
struct source {
        int fd;
        uint32_t (*serve)(struct relay *relay, struct source *source, int64_t now);
};

/*
 * A trust domain: a pool, and the event region that its processes signal. Ports whose packets need a block of a pool that
 * is used up wait here, in the order in which they found it so. The first one tries again for all after RELAY_RETRY; a
 * port that gets a block lets two more ports try. So the work that an empty pool causes does not grow with the number of
 * flows of its user.
 */
struct domain {
        struct events *region;
        struct port *short_first;
        struct port *short_last;
        int64_t retry; /* ns; of no meaning while none waits */
};

#define RELAY_RETRY 5000000 /* ns */

struct relay {
        pthread_mutex_t lock;
        struct port *ports[EVENT_BITS];
        struct domain *domains[RELAY_DOMAINS]; /* the first `domain_count` are in use */
        uint32_t domain_count;
        struct source *sources[RELAY_SOURCES];
        uint32_t words;
        struct port *active[CUBES];
        struct port *uncommitted;
        struct punt *punt; /* receives flow events, or NULL */
        uint32_t component;
        int64_t now;  /* when the round began */
        bool stepped; /* by a caller that has its own time */
        int64_t wake; /* when the next paused or queued port is to be served, 0: none is */
        int control;
        _Atomic bool wanted; /* the control plane waits for the lock */
        _Atomic bool stop;
        bool running;
        pthread_t thread;
        struct poller poller;
        uint32_t coalesce_delay; /* ns, adapted */
        _Atomic uint32_t holders; /* map.h: its creator, and the files with other roles */
};

struct relay *relay_create(void);
struct relay *relay_hold(struct relay *relay);
void relay_let_go(struct relay *relay); /* the last holder frees it */

/* End the thread, and remove all ports, regions and the receiver of events. Then release it. */
void relay_destroy(struct relay *relay);
int relay_start(struct relay *relay);

/* One round without the thread, for tests, the simulator and the benchmark. Returns how many packets were taken. */
uint32_t relay_step(struct relay *relay, int64_t now);

/* Event regions of this process, one for each trust domain, held until they are removed. -ENOSPC beyond RELAY_DOMAINS, -ENOMEM. */
int relay_add_region(struct relay *relay, struct events *region);
void relay_remove_region(struct relay *relay, struct events *region);

int relay_add(struct relay *relay, struct pool *pool, struct segment *segment, struct events *own,
              struct events *peer, const struct flow_spec *spec);

/* Protect the packets of a lower flow, before it has a role: -EINVAL, -EMSGSIZE or -ENOMEM when that cannot be, else how
 * long a packet may be. */
int relay_protect(struct relay *relay, uint32_t fd, uint32_t cipher, const uint8_t *key, bool check);
int relay_cube(struct relay *relay, uint32_t fd, uint32_t cube);
int relay_pair(struct relay *relay, uint32_t a, uint32_t b);

/* Leave the flow. Its pair, if any, stays, alone. */
int relay_remove(struct relay *relay, uint32_t fd);

/* Packets of this port go to a component of the control plane. `once`: only the next one that is not empty. */
int relay_punt(struct relay *relay, uint32_t fd, struct punt *punt, uint32_t component, bool once);

/* Flow events of every port go to a component, as a mask of EVENT_* in four octets of this machine's order. */
void relay_events(struct relay *relay, struct punt *punt, uint32_t component);

/* Write a packet from the control plane. -EAGAIN: no space, counted; -EBADF. */
int relay_send(struct relay *relay, uint32_t fd, const void *packet, uint32_t length);

struct port_stats {
        uint64_t packets;
        uint64_t octets;
        uint64_t dropped;
        uint64_t refused;
        uint64_t queued; /* waiting for the process at the other end */
        uint64_t sent;
        int64_t received_at; /* ns, 0: never */
        int64_t sent_at;
};

int relay_stats(struct relay *relay, uint32_t fd, struct port_stats *stats);

/* ---- for the files with the other roles ---- */

/* The thread holds the lock for whole rounds; a caller that needs it sets `wanted`, and the thread releases it. */
void relay_lock(struct relay *relay);

/* Settles what was put meanwhile. */
void relay_unlock(struct relay *relay);

/* With the lock held: */
static inline int64_t relay_clock(const struct relay *relay) /* the time now: a round may be long */
{
        return relay->stepped ? relay->now : wait_now();
}

void relay_forget_role(struct port *port);
struct port *relay_port(struct relay *relay, uint32_t fd);
void relay_role(struct relay *relay, struct port *port, port_serve *serve, void *role); /* ends the role before */
void relay_serve(struct relay *relay, struct port *port, port_serve *serve); /* the same role, served from now on */
int relay_add_source(struct relay *relay, struct source *source); /* -ENOSPC */
void relay_remove_source(struct relay *relay, struct source *source);

#endif
