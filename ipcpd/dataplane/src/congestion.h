/*
 * congestion: multi-bit ECN congestion avoidance of one flow over a unicast layer (paper 4.3; spec/congestion).
 *
 * Forwarders write into packets how long their queues are; the receiver averages that and sends it back now and then;
 * the sender limits how many octets it sends in a time slot. Pure functions of the state and `now`.
 */
#ifndef OUROBOROS_CONGESTION_H
#define OUROBOROS_CONGESTION_H

#include <stdbool.h>
#include <stdint.h>

struct congestion {
        /* sender */
        uint32_t exponent; /* a slot is 2^exponent ns */
        uint64_t slot;     /* the one we are in */
        uint64_t limit;    /* octets a slot */
        uint64_t increment;
        uint64_t octets; /* sent in this slot */
        uint32_t packets;
        uint32_t silence; /* packets since the last update */
        uint16_t level;   /* the level in the last update */
        bool avoiding;    /* slow start is over */
        /* receiver */
        uint16_t seen;
        uint32_t marked;
};

/* Zeroed is how a flow begins. */

/* A packet is about to be sent: how long to wait before the next one, ns. */
int64_t congestion_send(struct congestion *c, uint32_t length, int64_t now);

/* An update from the receiver. */
void congestion_update(struct congestion *c, uint16_t level);

/* A packet arrived with this mark; true: an update with `seen` is due for the sender. */
bool congestion_receive(struct congestion *c, uint8_t mark);

#endif
