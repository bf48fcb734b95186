/*
 * paths: the paths of a link IPCP to its neighbours (path.h), by the neighbour's link address. A path exists while a flow
 * uses it, so a stranger adds none.
 *
 * The first part is for the data plane of a type, with the relay's lock held; the second for the control plane.
 */
#ifndef OUROBOROS_PATHS_H
#define OUROBOROS_PATHS_H

#include "path.h"
#include "relay.h"

#define PATHS_PEER 24u /* octets of a link address: a MAC address, or a struct udp_address */

struct paths;

struct paths_type {
        uint32_t overhead; /* octets of a frame besides the packet */
        path_send *send;
        bool (*emit)(void *owner, const uint8_t *peer, const uint8_t *message, uint32_t length);
};

/* Samples go to the component of the punt, as a struct path_sample. NULL: no memory. */
struct paths *paths_create(struct relay *relay, struct punt *punt, uint32_t component, const struct paths_type *type,
                           void *owner);
void paths_free(struct paths *paths); /* no flow uses it any more */

/* The flow uses the path to this neighbour from now on. -ENOMEM. */
int paths_join(struct paths *paths, const uint8_t *peer, uint32_t length, struct path_flow *flow, struct port *port);
void paths_leave(struct paths *paths, struct path_flow *flow); /* nothing, where it uses none */

/* A message arrived. False: not from a neighbour whose path is measured. */
bool paths_message(struct paths *paths, const uint8_t *peer, uint32_t length, const uint8_t *message, uint32_t octets);

/* ---- control ---- */

/* The neighbour, as in paths_join, answers marks. Its path's id, or -ENOENT. */
int64_t paths_measure(struct paths *paths, const uint8_t *peer, uint32_t length);

/* Octets per second that every path has from now on, until paths_set; 0: no limit. */
void paths_rate(struct paths *paths, uint64_t rate);

/* The pace of a path (path_set). -ENOENT. */
int paths_set(struct paths *paths, uint32_t id, uint64_t rate, uint64_t window, int64_t spacing, int64_t now);

struct path_state {
        uint32_t id;
        uint32_t flows;
        uint8_t peer[PATHS_PEER];
        uint32_t measured;
        uint32_t waiting; /* flows that wait for the pace */
        uint64_t rate, window;
        struct path_counters counters;
};

/* The state of the n-th path; -ENOENT: there are fewer. */
int paths_read(struct paths *paths, uint32_t n, struct path_state *state);

#endif
