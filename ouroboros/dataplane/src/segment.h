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
};

int segment_create(const char *name, uint32_t flows);

/* The descriptor stays the caller's. NULL with errno set. */
struct segment *segment_map(int fd);
void segment_unmap(struct segment *segment);

#endif
