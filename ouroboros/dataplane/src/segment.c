#define _GNU_SOURCE
#include "segment.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "map.h"

int segment_create(const char *name, uint32_t flows)
{
        struct segment_shm *shm;
        size_t size = sizeof *shm + (size_t)flows * sizeof shm->flow[0];
        int fd = map_create(name, size);

        if (fd < 0)
                return fd;
        shm = map_shared(fd, size, &size);
        if (shm == NULL) {
                int error = errno;

                close(fd);
                return -error;
        }
        shm->version = LAYOUT_VERSION;
        shm->flows = flows;
        shm->magic = SEGMENT_MAGIC;
        map_release(shm, size);
        return fd;
}

struct segment *segment_map(int fd)
{
        struct segment *segment = calloc(1, sizeof *segment);

        if (segment == NULL)
                return NULL;
        segment->generation = map_generation;
        segment->holders = 1;
        segment->shm = map_shared(fd, sizeof *segment->shm, &segment->size);
        if (segment->shm == NULL)
                goto fail;
        segment->flows = segment->shm->flows;
        if (segment->shm->magic != SEGMENT_MAGIC || segment->shm->version != LAYOUT_VERSION ||
            sizeof *segment->shm + (size_t)segment->flows * sizeof segment->shm->flow[0] != segment->size) {
                errno = EINVAL;
                goto fail;
        }
        return segment;
fail:
        if (segment->shm != NULL)
                map_release(segment->shm, segment->size);
        free(segment);
        return NULL;
}

struct segment *segment_hold(struct segment *segment)
{
        map_hold(&segment->holders);
        return segment;
}

void segment_unmap(struct segment *segment)
{
        if (!map_let_go(&segment->holders))
                return;
        if (segment->generation == map_generation)
                map_release(segment->shm, segment->size);
        free(segment);
}
