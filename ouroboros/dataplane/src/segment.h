/* segment: the FIFOs of the flows between one pair of processes, in one memfd (docs/design/shared-memory.md, FIFOs). */
#ifndef OUROBOROS_SEGMENT_H
#define OUROBOROS_SEGMENT_H

#include <stddef.h>

#include "layout.h"

struct segment {
        struct segment_shm *shm;
        size_t size;
        uint32_t flows;
        unsigned generation;
        _Atomic uint32_t holders; /* map.h */
};

int segment_create(const char *name, uint32_t flows);

/* The caller keeps the descriptor, and is the first holder. NULL with errno set. */
struct segment *segment_map(int fd);
struct segment *segment_hold(struct segment *segment);
void segment_unmap(struct segment *segment); /* once for each holder: the last unmaps it */

#endif
