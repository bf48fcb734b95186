/*
 * punt: hands packets for the IPCP's own components from the packet threads (C) to the control plane (Python).
 *
 * Packets are copied into a buffer in private memory, so that nothing the control plane is slow with holds a block
 * of the pool. Every component has a quota of octets: a flood on one delays no other. A packet that does not fit
 * is dropped and counted. An eventfd is readable while there is something.
 */
#ifndef OUROBOROS_PUNT_H
#define OUROBOROS_PUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "map.h"
#include "wait.h"

#define PUNT_COMPONENTS 16

struct punt_component {
        uint32_t quota;
        uint32_t used;
        uint64_t passed;
        uint64_t dropped;
};

struct punt {
        struct spinlock lock;
        uint8_t *buffer;
        uint32_t size;
        uint32_t read;  /* free-running */
        uint32_t write;
        int eventfd;
        _Atomic uint32_t holders; /* map.h: the reader, and every role that pushes into it */
        struct punt_component component[PUNT_COMPONENTS];
};

/* `size`: octets of the buffer, a power of two. */
struct punt *punt_create(uint32_t size);
struct punt *punt_hold(struct punt *punt); /* NULL stays NULL */
void punt_destroy(struct punt *punt);      /* once for each holder: the last frees it. NULL: nothing */
int punt_quota(struct punt *punt, uint32_t component, uint32_t octets);

/* From any packet thread. False: dropped and counted. */
bool punt_push(struct punt *punt, uint32_t component, uint32_t fd, const void *packet, uint32_t length);

/* Octets of the oldest packet, -EAGAIN: none (and then the eventfd is clear), -EMSGSIZE: does not fit. */
int64_t punt_pop(struct punt *punt, void *packet, uint32_t size, uint32_t *component, uint32_t *fd);

void punt_counters(struct punt *punt, uint32_t component, uint64_t *passed, uint64_t *dropped);

#endif
