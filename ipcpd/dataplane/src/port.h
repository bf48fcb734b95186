/*
 * port: an IPCP's end (end.h) of a flow that it provides, or uses itself, for the packet thread.
 * The thread takes packets from a port and forwards each to another port, by reference within a trust domain and
 * copied across, or frees it after it has sent or copied it. port_commit publishes all packets of a turn together.
 * The receiving ring owns a taken block until it is forwarded or freed: a kill in between leaks nothing.
 * The caller is the thread, or holds the relay's lock.
 */
#ifndef OUROBOROS_PORT_H
#define OUROBOROS_PORT_H

#include "cubes.h"
#include "end.h"

#define PORT_BATCH 128u /* packets of one port before the next one has its turn */

struct relay;
struct port;
struct domain;

/* Take at most PORT_BATCH packets from the port, and do something with each. */
typedef void port_serve(struct relay *relay, struct port *port, int64_t now);

struct port {
        struct end end;
        struct events *own;    /* the event region that the process at the other end signals */
        struct domain *domain; /* the trust domain of the pool and `own`; NULL: its region has been removed */
        uint32_t cube;
        uint32_t taken;       /* from rx, not consumed yet */
        uint32_t unpublished; /* packets enqueued in tx */

        port_serve *serve;              /* NULL: packets wait */
        void *role;                     /* what `serve` needs */
        void (*on_removal)(struct port *port); /* the port is about to be removed */

        bool active; /* on the list of ports that are polled without a notification */
        uint32_t idle; /* looks in a row that found nothing */
        struct port *next;
        bool uncommitted; /* on the list of ports to commit */
        struct port **uncommitted_list;
        struct port *next_uncommitted;

        struct port *waits_for; /* its packets wait until fewer than `level` are queued there */
        uint32_t level;
        struct port *sleeps_at; /* the port on whose list of waiters it is, or NULL */
        struct port *waiters;   /* ports that sleep until there is space here */
        struct port *next_waiter;
        int64_t paused; /* not served before, ns */

        struct domain *lacks;    /* the domain whose pool had no block for its next packet */
        bool queued_for_block;   /* on that domain's queue */
        struct port *next_short;

        uint32_t standing_queue; /* packets that were queued in tx throughout the last window */
        uint32_t min_depth;      /* of tx in this window so far (CoDel) */
        int64_t window;          /* when it began, ns */

        uint32_t target_depth;    /* packets that the reader takes in a short time, while its queue never runs dry */
        uint32_t drain_min_depth; /* as `min_depth`, of a longer window, which began at `drain_window`, */
        uint64_t drained;         /* when the reader had come so far */
        int64_t drain_window;

        uint64_t packets; /* taken from rx */
        uint64_t octets;
        uint64_t sent;       /* packets put into tx */
        int64_t received_at; /* ns */
        int64_t sent_at;
};

/* A packet that was taken, or a block that was reserved. */
struct packet {
        uint8_t *data;
        uint32_t length;
        uint32_t offset; /* in its block */
        uint32_t block;
};

/* Space for a header in front: the new start, or NULL when there is none. */
static inline uint8_t *packet_push(struct packet *packet, uint32_t octets)
{
        if (packet->offset < octets)
                return NULL;
        packet->offset -= octets;
        packet->length += octets;
        packet->data -= octets;
        return packet->data;
}

/* Take a header off; false: the packet is shorter. */
static inline bool packet_pull(struct packet *packet, uint32_t octets)
{
        if (packet->length < octets)
                return false;
        packet->offset += octets;
        packet->length -= octets;
        packet->data += octets;
        return true;
}

/* It holds the objects it uses (map.h) until it is destroyed; the spec exists (end_exists). NULL: no memory. */
struct port *port_create(struct pool *pool, struct segment *segment, struct events *own, struct events *peer,
                         const struct flow_spec *spec);
void port_destroy(struct port *port); /* NULL: nothing */

/* The next packet that waits, opened; slots that make no sense, and what cannot be opened, are refused and counted. False:
 * none is left. */
bool port_take(struct port *port, struct packet *packet);

/* The one taken last stays for later. Not of a port whose packets are protected: it has been opened where it lies. */
void port_unget(struct port *port);

/* Forward a packet, protected if `to` is. `from` has it no more in any case; false: dropped, and counted at `to`. */
bool port_forward(struct port *from, struct packet *packet, struct port *to);

/* The same where nothing is lost: false, and nothing has happened, when the domain of `to` has no block for it now. */
bool port_try_forward(struct port *from, struct packet *packet, struct port *to);
void port_free(struct port *from, const struct packet *packet);
void port_drop(struct port *from, const struct packet *packet); /* counted at `from` */

void port_refuse(struct port *to); /* a packet for it was dropped before it came here: counted */

/* Packets that may be put now. */
uint32_t port_space(struct port *port);

/* Packets put that the other process has not read, as last seen (settling looks). */
static inline uint32_t port_queued(const struct port *port)
{
        return (uint32_t)(port->end.tx.at - port->end.tx.other) + port->unpublished;
}

/* The standing queue that a packet put now joins. A burst that the reader takes by the next look does not count. */
static inline uint32_t port_standing_queue(const struct port *port)
{
        return port->standing_queue;
}

/* The same, as it is now: it looks at the reader's index. */
uint32_t port_queued_now(struct port *port);

/* The depth of a short queue: the packets that the reader takes in a few milliseconds. */
static inline uint32_t port_target_depth(const struct port *port)
{
        return port->target_depth != 0 ? port->target_depth : RING_SLOTS;
}

/* A new block, to be filled and put or cancelled. NULL: no space or no block, counted as dropped. */
uint8_t *port_reserve(struct port *to, uint32_t length, struct packet *packet);
void port_enqueue(struct port *to, struct packet *packet);
void port_cancel(struct port *to, const struct packet *packet);
bool port_copy(struct port *to, const void *data, uint32_t length);

/* The port is served again when fewer than `level` packets are queued at `on`. */
static inline void port_wait_below(struct port *port, struct port *on, uint32_t level)
{
        port->waits_for = on;
        port->level = level;
}

/* The port is served again when there is space at `on`. */
static inline void port_wait(struct port *port, struct port *on)
{
        port_wait_below(port, on, RING_SLOTS);
}

/* Whether what it waits for has come; looks at the reader's index, as it is now. */
bool port_may_resume(struct port *port);

/* The port is served again when the pool of `on` may have a block. False: that domain is about to go, and has none ever. */
static inline bool port_wait_block(struct port *port, const struct port *on)
{
        port->lacks = on->domain;
        return on->domain != NULL;
}

/* The port is not served before `until`, ns. */
static inline void port_pause(struct port *port, int64_t until)
{
        port->paused = until;
}

/* Publish the packets taken and put, and notify the process at the other end. */
void port_commit(struct port *port, int64_t now);

#endif
