/*
 * broadcast: the packet transfer of a broadcast IPCP (paper 2.13, 5.6.1; spec/broadcast): a packet from one member
 * goes to all others.
 *
 * A member is a port: the flow of an application that joined, or an adjacency with another broadcast IPCP. Packets have
 * no header. Empty ones are keep-alives of the flow they came over, and go no further. A member that does not read loses
 * its own copies, and delays no other member. Packets of 1400 octets and more break the stream of a prototype that
 * receives them: they are dropped.
 */
#ifndef OUROBOROS_BROADCAST_H
#define OUROBOROS_BROADCAST_H

#include "relay.h"

#define BROADCAST_MOST 1399u /* octets of a packet */

struct broadcast_counters {
        uint64_t received;
        uint64_t keepalives; /* of which empty */
        uint64_t too_large;  /* of which dropped because of their length */
        uint64_t sent;       /* copies, over all members */
        uint64_t dropped;    /* copies that a member did not take; counted at its flow too */
};

struct broadcast;

struct broadcast *broadcast_create(struct relay *relay);
void broadcast_destroy(struct broadcast *broadcast); /* its members, if the relay still has them, have no role then */

/* From now on the port is a member, until it is removed or gets another role. -EBADF, -ENOMEM, -EEXIST. */
int broadcast_add(struct broadcast *broadcast, uint32_t fd);

void broadcast_read(struct broadcast *broadcast, struct broadcast_counters *counters);

#endif
