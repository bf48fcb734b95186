#define _GNU_SOURCE
#include "punt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct record {
        uint32_t component;
        uint32_t fd;
        uint32_t length;
};

struct punt *punt_create(uint32_t size)
{
        struct punt *punt;

        if (size < 4096 || (size & (size - 1)) != 0)
                return NULL;
        punt = calloc(1, sizeof *punt);
        if (punt == NULL)
                return NULL;
        punt->buffer = malloc(size);
        punt->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        punt->size = size;
        punt->holders = 1;
        if (punt->buffer == NULL || punt->eventfd < 0) {
                punt_destroy(punt);
                return NULL;
        }
        return punt;
}

struct punt *punt_hold(struct punt *punt)
{
        if (punt != NULL)
                map_hold(&punt->holders);
        return punt;
}

void punt_destroy(struct punt *punt)
{
        if (punt == NULL || !map_let_go(&punt->holders))
                return;
        if (punt->eventfd >= 0)
                close(punt->eventfd);
        free(punt->buffer);
        free(punt);
}

int punt_quota(struct punt *punt, uint32_t component, uint32_t octets)
{
        if (component >= PUNT_COMPONENTS || octets > punt->size)
                return -EINVAL;
        spinlock_acquire(&punt->lock);
        punt->component[component].quota = octets;
        spinlock_release(&punt->lock);
        return 0;
}

static void copy_in(struct punt *punt, const void *from, uint32_t length)
{
        uint32_t at = punt->write & (punt->size - 1);
        uint32_t first = length < punt->size - at ? length : punt->size - at;

        memcpy(punt->buffer + at, from, first);
        memcpy(punt->buffer, (const uint8_t *)from + first, length - first);
        punt->write += length;
}

static void copy_out(struct punt *punt, void *to, uint32_t length)
{
        uint32_t at = punt->read & (punt->size - 1);
        uint32_t first = length < punt->size - at ? length : punt->size - at;

        memcpy(to, punt->buffer + at, first);
        memcpy((uint8_t *)to + first, punt->buffer, length - first);
        punt->read += length;
}

bool punt_push(struct punt *punt, uint32_t component, uint32_t fd, const void *packet, uint32_t length)
{
        struct record record = {component, fd, length};
        struct punt_component *c;
        uint64_t need = sizeof record + (uint64_t)length;
        bool fits, first;

        if (component >= PUNT_COMPONENTS)
                return false;
        c = &punt->component[component];
        spinlock_acquire(&punt->lock);
        first = punt->read == punt->write;
        fits = c->used + need <= c->quota && punt->write - punt->read + need <= punt->size;
        if (fits) {
                copy_in(punt, &record, sizeof record);
                copy_in(punt, packet, length);
                c->used += (uint32_t)need;
                c->passed++;
        } else {
                c->dropped++;
        }
        spinlock_release(&punt->lock);
        if (fits && first)
                wait_signal_eventfd(punt->eventfd);
        return fits;
}

int64_t punt_pop(struct punt *punt, void *packet, uint32_t size, uint32_t *component, uint32_t *fd)
{
        struct record record;
        uint32_t before;
        uint64_t count;
        int64_t result;

        spinlock_acquire(&punt->lock);
        before = punt->read;
        if (punt->read == punt->write) {
                if (read(punt->eventfd, &count, sizeof count) < 0) {
                        /* Was clear already. */
                }
                result = -EAGAIN;
        } else {
                copy_out(punt, &record, sizeof record);
                if (record.length > size) {
                        punt->read = before;
                        result = -EMSGSIZE;
                } else {
                        copy_out(punt, packet, record.length);
                        punt->component[record.component].used -= (uint32_t)sizeof record + record.length;
                        *component = record.component;
                        *fd = record.fd;
                        result = record.length;
                }
        }
        spinlock_release(&punt->lock);
        return result;
}

void punt_counters(struct punt *punt, uint32_t component, uint64_t *passed, uint64_t *dropped)
{
        *passed = *dropped = 0;
        if (component >= PUNT_COMPONENTS)
                return;
        spinlock_acquire(&punt->lock);
        *passed = punt->component[component].passed;
        *dropped = punt->component[component].dropped;
        spinlock_release(&punt->lock);
}
