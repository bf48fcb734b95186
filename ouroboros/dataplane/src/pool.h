/*
 * pool: the packet pool (docs/design/shared-memory.md): size classes of fixed blocks with head and tail room.
 * The owner word of a block is authoritative; free hints (one bit a block, in shared memory) and caches (private, one
 * a thread) only suggest where to look. A hint may be stale or lost: allocation then tries the next one, or scans. So
 * a process may be killed at any instruction, and the IRMd finds its blocks by their owner words (irm.h).
 */
#ifndef OUROBOROS_POOL_H
#define OUROBOROS_POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "crash.h"
#include "layout.h"

#define POOL_THREADS 32
#define POOL_CACHE 64

/*
 * Bound of one allocation in a pool that another user can write: words of hints and of owners that it may read. A
 * hinted block that is taken costs POOL_TAKEN of them: a cache line from another core. The next allocation goes on
 * where this one stopped, so that one of them finds every free block.
 */
#define POOL_LOOKS 512u
#define POOL_TAKEN 8u

#define POOL_CHUNK (1u << 16) /* octets whose pages are allocated together, before the first block in them is used */

struct pool_cache {
        uint32_t count;
        uint32_t limit;
        uint32_t block[POOL_CACHE];
};

struct pool {
        struct pool_shm *shm;
        _Atomic uint64_t *owner;
        uint8_t *base;
        size_t size;
        uint32_t blocks;
        struct pool_class classes[POOL_CLASSES]; /* private, checked copy */
        _Atomic uint64_t *hints[POOL_CLASSES];
        uint64_t self;                          /* OWNER_PROCESS of this process */
        bool reserve;                           /* may use the reserve; POOL_LOOKS bounds an allocation */
        _Atomic uint32_t cursor[POOL_CLASSES];  /* word of hints that the next refill begins with */
        _Atomic uint32_t scanned[POOL_CLASSES]; /* block that the next scan begins with */
        _Atomic uint64_t refused;               /* invalid slots and blocks */
        unsigned generation;
        _Atomic uint32_t holders;                 /* map.h */
        struct pool_cache (*cache)[POOL_CLASSES]; /* [thread][class] */
        _Atomic uint64_t *present;                /* chunks whose pages this process has allocated, one bit each */
};

/* Octets of a pool with this geometry; fills in the offsets. */
size_t pool_plan(struct pool_class classes[POOL_CLASSES]);

/*
 * Make a pool. Pages of the owner words and hints are allocated now; those of the blocks now with `prefault`, else
 * when a process first allocates there (POOL_CHUNK). Descriptor or -errno.
 */
int pool_create(const char *name, const struct pool_class classes[POOL_CLASSES], bool prefault);
struct pool *pool_map(int fd, uint64_t token, bool reserve);
struct pool *pool_hold(struct pool *pool);
void pool_unmap(struct pool *pool); /* once for each holder: the last unmaps it, and returns the hints of its caches */

/*
 * A block that holds `length` octets behind HEADROOM, owned by this process. Index, or -EMSGSIZE or -ENOMEM. A process that
 * serves several users (`reserve`) may get -ENOMEM although a block is free, because its attempt is bounded.
 */
int64_t pool_alloc(struct pool *pool, size_t length);

/* Free a block owned by `owner`. False, and counted: it has another owner. */
bool pool_free(struct pool *pool, uint32_t block, uint64_t owner);

/* Largest packet a block can hold. */
size_t pool_largest(const struct pool *pool);

/* For read-outs: failed allocations; the owner word of every block. */
uint64_t pool_failures(const struct pool *pool);
void pool_owners(const struct pool *pool, uint64_t *out);

uint64_t owner_process(uint64_t token);
uint64_t owner_ring(uint64_t serial, uint32_t ring);

static inline int pool_class_of(const struct pool *pool, uint32_t block)
{
        int c = 0;

        while (c < POOL_CLASSES - 1 && block >= pool->classes[c + 1].first)
                c++;
        return c;
}

static inline uint8_t *pool_block(const struct pool *pool, int c, uint32_t block)
{
        const struct pool_class *k = &pool->classes[c];

        return pool->base + k->data + (uint64_t)(block - k->first) * k->stride;
}

/* The packet that a slot of a ring refers to; NULL: the slot is invalid. */
static inline uint8_t *pool_packet(const struct pool *pool, uint64_t slot)
{
        uint32_t block = SLOT_BLOCK(slot);
        int c;

        if (block >= pool->blocks)
                return NULL;
        c = pool_class_of(pool, block);
        if (SLOT_OFFSET(slot) + SLOT_LENGTH(slot) > pool->classes[c].stride)
                return NULL;
        return pool_block(pool, c, block) + SLOT_OFFSET(slot);
}

static inline bool pool_transfer(struct pool *pool, uint32_t block, uint64_t from, uint64_t to)
{
        return atomic_compare_exchange_strong_explicit(&pool->owner[block], &from, to, memory_order_acq_rel,
                                                       memory_order_relaxed);
}

/* The owner transfers the block to a ring. The ring's head, stored later with release, publishes it. */
static inline void pool_give(struct pool *pool, uint32_t block, uint64_t to)
{
        atomic_store_explicit(&pool->owner[block], to, memory_order_relaxed);
}

/* Set the free hint of a block, by which any process finds it. */
static inline void pool_hint(struct pool *pool, int c, uint32_t block)
{
        uint32_t at = block - pool->classes[c].first;

        atomic_fetch_or_explicit(&pool->hints[c][at / 64], 1ull << (at % 64), memory_order_relaxed);
}

#endif
