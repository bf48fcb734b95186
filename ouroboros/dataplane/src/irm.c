#define _GNU_SOURCE
#include "irm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "map.h"
#include "wait.h"

void irm_flow_reset(struct segment *segment, uint32_t index)
{
        struct flow_shm *flow = &segment->shm->flow[index];

        memset(flow, 0, offsetof(struct flow_shm, slots));
}

void irm_end_signal(struct segment *segment, uint32_t index, uint32_t side, uint32_t set, uint32_t clear,
                    uint32_t events, struct events *region, uint32_t fd)
{
        struct flow_shm *flow = &segment->shm->flow[index];
        struct ring_shm *rx = &flow->ring[1 - side];
        struct ring_shm *tx = &flow->ring[side];

        atomic_fetch_or(&flow->end[side].state, set);
        atomic_fetch_and(&flow->end[side].state, ~clear);
        atomic_fetch_or(&flow->end[side].events, events);
        atomic_store(&rx->cons_wait, 0);
        atomic_store(&tx->prod_wait, 0);
        wait_wake(&rx->cons_wait);
        wait_wake(&tx->prod_wait);
        if (region != NULL)
                events_raise(region, fd);
}

static uint32_t window(const struct ring_shm *ring, uint64_t *tail)
{
        uint64_t n;

        *tail = atomic_load(&ring->tail);
        n = atomic_load(&ring->head) - *tail;
        return n > RING_SLOTS ? 0 : (uint32_t)n;
}

uint64_t irm_queued(const struct segment *segment, uint32_t index, uint32_t ring)
{
        uint64_t tail;

        return window(&segment->shm->flow[index].ring[ring], &tail);
}

uint64_t irm_written(const struct segment *segment, uint32_t index, uint32_t ring)
{
        return atomic_load(&segment->shm->flow[index].ring[ring].head);
}

/* Give back a block that no cache of ours should point to: the IRMd allocates none. */
static bool give_back(struct pool *pool, uint32_t block, uint64_t owner)
{
        if (!pool_transfer(pool, block, owner, OWNER_FREE))
                return false;
        pool_hint(pool, pool_class_of(pool, block), block);
        return true;
}

uint32_t irm_flow_drain(struct segment *segment, uint32_t index, uint64_t serial, struct pool *pool)
{
        struct flow_shm *flow = &segment->shm->flow[index];
        uint32_t freed = 0;

        for (uint32_t r = 0; r < 2; r++) {
                uint64_t tail;
                uint32_t n = window(&flow->ring[r], &tail);

                for (uint32_t i = 0; i < n; i++) {
                        uint64_t slot = atomic_load(&flow->slots[r][(tail + i) & RING_MASK]);

                        if (SLOT_BLOCK(slot) < pool->blocks)
                                freed += give_back(pool, SLOT_BLOCK(slot), OWNER_RING(serial, r));
                }
        }
        return freed;
}

/* ---- sweep ---- */

struct sweep {
        struct pool *pool;
        uint8_t *visible; /* blocks that a living reader will still read */
        uint64_t *owners;
        size_t count;
        size_t room;
};

struct sweep *irm_sweep_create(struct pool *pool)
{
        struct sweep *sweep = calloc(1, sizeof *sweep);

        if (sweep == NULL)
                return NULL;
        sweep->pool = pool;
        sweep->visible = calloc(pool->blocks, 1);
        if (sweep->visible == NULL) {
                free(sweep);
                return NULL;
        }
        return sweep;
}

int irm_sweep_owner(struct sweep *sweep, uint64_t owner)
{
        if (sweep->count == sweep->room) {
                size_t room = sweep->room ? 2 * sweep->room : 64;
                uint64_t *owners = realloc(sweep->owners, room * sizeof *owners);

                if (owners == NULL)
                        return -ENOMEM;
                sweep->owners = owners;
                sweep->room = room;
        }
        sweep->owners[sweep->count++] = owner;
        return 0;
}

/* The reader may take packets meanwhile: it changes their owner first, so what it takes is left alone. */
int irm_sweep_ring(struct sweep *sweep, const struct segment *segment, uint32_t index, uint32_t ring,
                   uint64_t serial)
{
        const struct flow_shm *flow = &segment->shm->flow[index];
        uint64_t tail;
        uint32_t n = window(&flow->ring[ring], &tail);

        for (uint32_t i = 0; i < n; i++) {
                uint64_t slot = atomic_load(&flow->slots[ring][(tail + i) & RING_MASK]);

                if (SLOT_BLOCK(slot) < sweep->pool->blocks)
                        sweep->visible[SLOT_BLOCK(slot)] = 1;
        }
        return irm_sweep_owner(sweep, OWNER_RING(serial, ring));
}

static int compare(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

uint32_t irm_sweep_run(struct sweep *sweep)
{
        struct pool *pool = sweep->pool;
        uint32_t freed = 0;

        qsort(sweep->owners, sweep->count, sizeof *sweep->owners, compare);
        for (uint32_t block = 0; block < pool->blocks; block++) {
                uint64_t owner = atomic_load_explicit(&pool->owner[block], memory_order_relaxed);

                if (owner == OWNER_FREE)
                        /* The dead took the hints in their caches with them; one hint too many does no harm. */
                        pool_hint(pool, pool_class_of(pool, block), block);
                else if (!sweep->visible[block] && sweep->count > 0 &&
                         bsearch(&owner, sweep->owners, sweep->count, sizeof owner, compare) != NULL)
                        freed += give_back(pool, block, owner);
        }
        free(sweep->visible);
        free(sweep->owners);
        free(sweep);
        return freed;
}
