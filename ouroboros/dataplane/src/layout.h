/*
 * layout: the contents of shared memory, and nothing else.
 * Several processes map every struct here. Code reads a value once into a local, checks it, and uses the checked copy
 * only; it copies the geometry when it maps an object. Any change of this file is a change of LAYOUT_VERSION.
 */
#ifndef OUROBOROS_LAYOUT_H
#define OUROBOROS_LAYOUT_H

#include <stdatomic.h>
#include <stdint.h>

#define LAYOUT_VERSION 1u
#define CACHE_LINE 64
#define PAGE 4096u

/* ---- packet pool: header | owner words | free hints of each class | blocks of each class ---- */

#define POOL_MAGIC 0x6f75726f706f6f6cull
#define POOL_CLASSES 4
#define HEADROOM 256u
#define TAILROOM 32u

struct pool_class {
        uint32_t stride;  /* octets of one block, with head and tail room; a multiple of the cache line */
        uint32_t blocks;  /* a multiple of 64 */
        uint32_t first;   /* index of its first block in the pool */
        uint32_t reserve; /* of the first blocks, for IPCPs only; a multiple of 64 */
        uint64_t hints;   /* offset of the free hints, one bit a block */
        uint64_t data;    /* offset of the blocks */
};

struct pool_shm {
        uint64_t magic;
        uint32_t version;
        uint32_t blocks;
        uint64_t size;
        uint64_t owners; /* offset of the owner words */
        struct pool_class classes[POOL_CLASSES];
        _Alignas(CACHE_LINE) _Atomic uint64_t failures;
};

/*
 * Owner words. A block has one owner at any instant; allocating is a compare-and-swap from OWNER_FREE.
 * Process tokens and flow serials are never used again, so a stale owner can never look like a living one.
 */
#define OWNER_FREE 0ull
#define OWNER_PROCESS(token) ((1ull << 62) | (token))
#define OWNER_RING(serial, ring) ((2ull << 62) | ((serial) << 1) | (ring))
#define OWNER_KIND(owner) ((owner) >> 62)

/* ---- flow: two rings of block references ---- */

#define RING_SLOTS 1024u
#define RING_MASK (RING_SLOTS - 1)

/* A slot: block index 24 bits, offset of the packet in the block 16 bits, length 24 bits. */
#define SLOT(block, offset, length) (((uint64_t)(block) << 40) | ((uint64_t)(offset) << 24) | (uint64_t)(length))
#define SLOT_BLOCK(slot) ((uint32_t)((slot) >> 40))
#define SLOT_OFFSET(slot) ((uint32_t)((slot) >> 24) & 0xffffu)
#define SLOT_LENGTH(slot) ((uint32_t)(slot) & 0xffffffu)

struct ring_shm {
        _Alignas(CACHE_LINE) _Atomic uint64_t head;      /* written by the producer */
        _Alignas(CACHE_LINE) _Atomic uint64_t tail;      /* written by the consumer */
        _Alignas(CACHE_LINE) _Atomic uint32_t cons_wait; /* WAIT_*: how to notify the consumer of a packet */
        _Alignas(CACHE_LINE) _Atomic uint32_t prod_wait; /* WAIT_*: how to notify the producer of space */
};

#define WAIT_FUTEX 1u /* a thread sleeps on this word */
#define WAIT_EVENT 2u /* raise the end's bit in its event region */

/* Side s produces into ring s and consumes ring 1 - s. */
struct end_shm {
        _Alignas(CACHE_LINE) _Atomic uint32_t state; /* END_*, current */
        _Atomic uint32_t events;                     /* EVENT_*, latched until delivered once */
        _Atomic uint64_t dropped; /* packets read from this end and not forwarded; counted by the end's process */
        _Atomic uint64_t refused;                    /* invalid slots read at this end */
};

#define END_DOWN 1u     /* the peer has left, or the layer below is down */
#define END_PEER 2u     /* the peer timed out */
#define END_DECLARED 4u /* one of the two processes declared the flow down (fccntl) */
#define END_LINK 8u     /* with END_DOWN: the layer reports its link down, and may report it up again */

#define EVENT_PKT 1u
#define EVENT_DOWN 2u
#define EVENT_UP 4u
#define EVENT_ALLOC 8u
#define EVENT_DEALLOC 16u
#define EVENT_PEER 32u

struct flow_shm {
        struct end_shm end[2];
        struct ring_shm ring[2];
        _Alignas(PAGE) _Atomic uint64_t slots[2][RING_SLOTS];
};

/* ---- segment: the flows of one pair of processes ---- */

#define SEGMENT_MAGIC 0x6f75726f73656721ull

struct segment_shm {
        uint64_t magic;
        uint32_t version;
        uint32_t flows;
        _Alignas(PAGE) struct flow_shm flow[];
};

/* ---- event region: a bitmap over a process's flow descriptors, and an eventcount ---- */

#define EVENTS_MAGIC 0x6f75726f65766e74ull
#define EVENT_BITS 16384u
#define EVENT_WORDS (EVENT_BITS / 64)
#define FD_BASE 64u

struct events_shm {
        uint64_t magic;
        uint32_t version;
        _Alignas(CACHE_LINE) _Atomic uint32_t seq; /* grows with every wake-up; the futex of event waits */
        _Atomic uint32_t sleepers;                 /* SLEEP_*: how to wake the sleepers */
        _Alignas(CACHE_LINE) _Atomic uint64_t pending[EVENT_WORDS];
};

#define SLEEP_FUTEX 1u
#define SLEEP_DOORBELL 2u

_Static_assert(sizeof(struct pool_class) == 32, "layout");
_Static_assert(sizeof(struct pool_shm) == 256, "layout");
_Static_assert(sizeof(struct ring_shm) == 4 * CACHE_LINE, "layout");
_Static_assert(sizeof(struct flow_shm) == PAGE + 2 * RING_SLOTS * 8, "layout");
_Static_assert(sizeof(struct segment_shm) == PAGE, "layout");
_Static_assert(sizeof(struct events_shm) == 2 * CACHE_LINE + EVENT_BITS / 8, "layout");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "atomics must be lock-free");

#endif
