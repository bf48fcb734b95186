/*
 * path: the way from a link IPCP to one neighbour, over a network that is not Ouroboros (spec/path): what was sent on it,
 * marks and reports that measure it, the pace, and the flows that wait for it. Pure: time is an argument, and sending is a
 * function of the type's.
 *
 * All flows to one neighbour share a path. While the path has a pace, a packet that exceeds it stays in the queue of its
 * flow, where its writer waits or gets EAGAIN, and where a unicast layer marks congestion. Credit goes to the highest cube
 * with packets, and there to the flows in turn, by octets (deficit round robin, Shreedhar and Varghese 1995).
 *
 * The packet thread composes marks, and answers those of the neighbour. It checks reports, and hands over those that are new to
 * the control plane as samples; that sets rate and window (ipcpd/link/rate_control.py).
 */
#ifndef OUROBOROS_PATH_H
#define OUROBOROS_PATH_H

#include "port.h"

#define PATH_VERSION 1u
#define PATH_MARK 1u
#define PATH_REPORT 2u
#define PATH_MESSAGE 48u /* octets of a mark, and of a report */
#define PATH_AHEAD 1024u /* packets that may overtake a mark, and are counted with it */
#define PATH_MARKS 64u   /* marks whose report may still come; the oldest is forgotten first */

/* A message to the control plane: a report, or that none arrived. */
struct path_sample {
        uint32_t path;
        uint32_t silent;        /* no report arrived for that long, ms; 0: this is a report */
        int64_t now;            /* ns: when the report arrived */
        int64_t marked;         /* when its mark was sent */
        int64_t arrived;        /* when its mark arrived, by the clock of the neighbour */
        uint64_t sent_packets;  /* before and with the mark */
        uint64_t sent_octets;
        uint64_t arrived_packets;  /* of these, as far as they had arrived with the mark */
        uint64_t arrived_octets;
        uint32_t busy;          /* packets waited for the pace since the mark before */
        uint32_t held;          /* the device was full since then */
};

struct path_counters {
        uint64_t sent_packets, sent_octets, arrived_packets, arrived_octets;
        uint64_t marks, reports, answered;
        uint64_t refused_report; /* no mark of this path has its nonce, or one had a report: forged, replayed, too late */
        uint64_t absurd_report;  /* more arrived than was sent, or less than had arrived before */
        uint64_t refused_mark;   /* malformed, or too many */
        uint64_t waits;          /* times that packets waited for the pace */
};

struct path_mark_sent {
        uint64_t nonce;
        uint64_t packets, octets;
        int64_t at;
        bool open; /* its report has not come */
        bool busy, held;
};

struct path;

/* A flow, in the queue of its path while it has packets that wait. */
struct path_flow {
        struct path *path;
        struct port *port;
        struct path_flow *next;
        int32_t deficit; /* octets that it may send before the next flow has its turn */
        bool queued;
};

/* Send what waits in the port, up to about `most` octets, overhead included, or one packet; and count the packets. Returns the octets.
 * Sets `full` of the path, and pauses the port, when the device takes no more now. */
typedef uint32_t path_send(struct path_flow *flow, uint32_t most, int64_t now);

/* The operations of a type for its paths. */
struct path_type {
        path_send *send;
        /* Send a mark or a report to the neighbour. False: it could not be sent now. */
        bool (*emit)(struct path *path, const uint8_t *message, uint32_t length);
        /* Hand a sample to the control plane. */
        void (*notify)(struct path *path, const struct path_sample *sample);
        int64_t (*clock)(const struct path *path); /* ns */
};

struct path {
        uint32_t id;
        uint32_t flows; /* that exist */
        uint32_t overhead; /* octets of a frame besides the packet, as both ends count them */
        const struct path_type *type;
        bool measured; /* the neighbour answers marks */

        /* the pace */
        uint64_t rate;    /* octets per second; 0: none */
        uint64_t window;  /* octets without a report, at most; 0: any number */
        int64_t next;     /* when the octets sent so far should have been sent, at this rate */
        uint64_t reported; /* sent_octets of the newest mark with a report */
        int64_t wake;      /* when there is credit again */
        struct path_flow *first[CUBES], *last[CUBES];

        /* marks */
        uint64_t key, serial;
        int64_t spacing;  /* ns between two marks; 0: none is sent */
        int64_t marked_at; /* when the last one was sent, */
        uint64_t mark_octets; /* and sent_octets with it */
        bool shut; /* the window was used up */
        bool full; /* the device takes no more */
        struct path_mark_sent marks[PATH_MARKS];
        bool busy, held;
        int64_t answer_at; /* no mark is answered before */
        int64_t unanswered;  /* when the first mark without a later report was sent; 0: there is none */
        int64_t sample_at;   /* no sample before, */
        int64_t watch_at;    /* and none of silence */
        uint32_t instance;   /* of this end's count */
        uint32_t neighbour;  /* the neighbour's, as in its last report */
        uint64_t best_sent;  /* of the newest mark with a report: packets, */
        uint64_t best_packets; /* and what had arrived */
        uint64_t base_packets, base_octets; /* sent before the neighbour began to count */
        bool was_busy, was_held; /* of marks since the last sample */

        struct path_counters counters;
};

/* Zeroed before; `key` is random. `overhead`: octets of a frame besides the packet. */
void path_begin(struct path *path, const struct path_type *type, uint32_t id, uint32_t overhead, uint64_t key);

/* The pace from now on: octets per second, octets without a report; 0: no limit. `spacing`: ns between marks, 0: none. */
void path_set(struct path *path, uint64_t rate, uint64_t window, int64_t spacing, int64_t now);

void path_join(struct path *path, struct path_flow *flow, struct port *port);
void path_leave(struct path_flow *flow);

/* Serve a flow that has packets: send what may be sent, of this flow and of others that wait. Pauses the port if more waits. */
void path_serve(struct path_flow *flow, int64_t now);

/* A packet arrived from the neighbour. */
static inline void path_arrived(struct path *path, uint32_t octets)
{
        path->counters.arrived_packets++;
        path->counters.arrived_octets += octets + path->overhead;
}

/* A mark or a report arrived, and was counted by path_arrived. */
void path_message(struct path *path, const uint8_t *message, uint32_t length, int64_t now);

#endif
