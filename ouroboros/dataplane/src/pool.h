/*
 * pool: the packet pool (docs/design/shared-memory.md): size classes of fixed blocks with head and tail room.
 *
 * The owner word of a block is the truth; free hints (one bit a block, in shared memory) and the caches
 * (private, one a thread) only say where to look. A hint may be stale or lost: allocation then moves on to the
 * next one, or scans. So a process may be killed at any instruction, and whatever it held is found by its owner
 * word (irm.h).
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
 * What one attempt to allocate may look at in a pool that another user can write: words of hints and of owners. A block
 * that was named and turns out to be taken counts as POOL_TAKEN of them: it costs a cache line from another core. The next
 * attempt goes on where the last one stopped, so that every free block is found, if not by the first.
 */
#define POOL_LOOKS 512u
#define POOL_TAKEN 8u

#define POOL_CHUNK (1u << 16) /* octets whose memory is found together, before a block in them is handed out */

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
        uint64_t self; /* OWNER_PROCESS of this process */
        bool reserve;  /* may use the reserve; an attempt to allocate is bounded by POOL_LOOKS */
        _Atomic uint32_t cursor[POOL_CLASSES];  /* word of hints that the next refill begins with */
        _Atomic uint32_t scanned[POOL_CLASSES]; /* block that the next scan begins with */
        _Atomic uint64_t refused; /* slots and blocks that made no sense */
        unsigned generation;
        _Atomic uint32_t holders;                 /* map.h */
        struct pool_cache (*cache)[POOL_CLASSES]; /* [thread][class] */
        _Atomic uint64_t *present; /* chunks whose memory this process has asked for, one bit each */
};

/* Octets a pool of that geometry takes; fills in the offsets. */
size_t pool_plan(struct pool_class classes[POOL_CLASSES]);

/*
 * A pool. What says which blocks are free lies in memory that is taken now; the blocks lie in memory that is taken now with
 * `prefault`, else when a process that allocates comes to them (POOL_CHUNK). Descriptor or -errno.
 */
int pool_create(const char *name, const struct pool_class classes[POOL_CLASSES], bool prefault);
struct pool *pool_map(int fd, uint64_t token, bool reserve);
struct pool *pool_hold(struct pool *pool);
void pool_unmap(struct pool *pool); /* once for each holder: the last unmaps it, and gives the hints of its caches back */

/*
 * A block that holds `length` octets behind HEADROOM, owned by this process. Index, or -EMSGSIZE or -ENOMEM. A process that
 * serves several users (`reserve`) may get -ENOMEM although a block is free, because its attempt is bounded.
 */
int64_t pool_alloc(struct pool *pool, size_t length);

/* Give a block back; `owner` is who must own it now, else nothing happens, it is counted, and false returned. */
bool pool_free(struct pool *pool, uint32_t block, uint64_t owner);

/* Largest packet a block can hold. */
size_t pool_largest(const struct pool *pool);

/* For read-outs: allocations refused; slots and blocks refused here; the owner word of every block. */
uint64_t pool_failures(const struct pool *pool);
uint64_t pool_refused(const struct pool *pool);
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

/* The packet that a slot read from a ring refers to, or NULL when the slot makes no sense. */
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

/* For the owner only: hand the block to a ring. The ring's head, stored later with release, publishes it. */
static inline void pool_give(struct pool *pool, uint32_t block, uint64_t to)
{
        atomic_store_explicit(&pool->owner[block], to, memory_order_relaxed);
}

/* Set the free hint of a block (a block that nobody's cache points to is found by it). */
static inline void pool_hint(struct pool *pool, int c, uint32_t block)
{
        uint32_t at = block - pool->classes[c].first;

        atomic_fetch_or_explicit(&pool->hints[c][at / 64], 1ull << (at % 64), memory_order_relaxed);
}

#endif
