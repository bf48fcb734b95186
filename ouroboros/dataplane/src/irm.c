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
                events_raise_always(region, fd);
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

uint64_t irm_dropped(const struct segment *segment, uint32_t index, uint32_t side)
{
        return atomic_load(&segment->shm->flow[index].end[side].dropped);
}

uint64_t irm_refused(const struct segment *segment, uint32_t index, uint32_t side)
{
        return atomic_load(&segment->shm->flow[index].end[side].refused);
}

/* Free a block without a cache: the IRMd allocates none. */
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

struct list {
        uint64_t *of;
        size_t count;
        size_t capacity;
};

struct sweep {
        struct pool *pool;
        uint8_t *visible; /* blocks that a living reader may still read */
        struct list owners;
        struct list live;
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

static int append(struct list *list, uint64_t value)
{
        if (list->count == list->capacity) {
                size_t capacity = list->capacity ? 2 * list->capacity : 64;
                uint64_t *of = realloc(list->of, capacity * sizeof *of);

                if (of == NULL)
                        return -ENOMEM;
                list->of = of;
                list->capacity = capacity;
        }
        list->of[list->count++] = value;
        return 0;
}

int irm_sweep_owner(struct sweep *sweep, uint64_t owner)
{
        return append(&sweep->owners, owner);
}

int irm_sweep_live(struct sweep *sweep, const uint64_t *serials, size_t count)
{
        int error = 0;

        for (size_t i = 0; i < count && error == 0; i++)
                error = append(&sweep->live, serials[i]);
        return error;
}

/* The reader may take packets meanwhile: it changes their owner first, so the sweep leaves them alone. */
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

static void sort(struct list *list)
{
        if (list->count > 0)
                qsort(list->of, list->count, sizeof *list->of, compare);
}

static bool contains(const struct list *list, uint64_t value)
{
        return list->count > 0 && bsearch(&value, list->of, list->count, sizeof value, compare) != NULL;
}

static bool abandoned(const struct sweep *sweep, uint32_t block, uint64_t owner)
{
        if (OWNER_KIND(owner) == OWNER_KIND(OWNER_RING(0ull, 0u)) &&
            !contains(&sweep->live, (owner & ~OWNER_RING(0ull, 0u)) >> 1))
                return true;
        return !sweep->visible[block] && contains(&sweep->owners, owner);
}

uint32_t irm_sweep_run(struct sweep *sweep)
{
        struct pool *pool = sweep->pool;
        uint32_t freed = 0;

        sort(&sweep->owners);
        sort(&sweep->live);
        for (uint32_t block = 0; block < pool->blocks; block++) {
                uint64_t owner = atomic_load_explicit(&pool->owner[block], memory_order_relaxed);

                if (owner == OWNER_FREE)
                        /* The hints in the caches of dead processes are lost; a redundant hint is harmless. */
                        pool_hint(pool, pool_class_of(pool, block), block);
                else if (abandoned(sweep, block, owner))
                        freed += give_back(pool, block, owner);
        }
        free(sweep->visible);
        free(sweep->owners.of);
        free(sweep->live.of);
        free(sweep);
        return freed;
}
