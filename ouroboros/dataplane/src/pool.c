#define _GNU_SOURCE
#include "pool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "map.h"

/* blocks: a cache line takes about as long from another core as the least work on this many packets */
#define PREFETCH_DISTANCE 4u

#ifdef CRASH_POINTS
#include <signal.h>

int crash_point;
long crash_countdown;

void crash_now(void)
{
        kill(getpid(), SIGKILL);
        pause();
}
#endif

/* Caches of large blocks are short: other processes must scan for blocks that lie in one. */
static uint32_t cache_limit(const struct pool_class *k)
{
        return k->stride <= 4096 ? POOL_CACHE : k->stride <= 16384 ? 16 : 8;
}

/*
 * Threads are numbered from 1 in the order of their first use of a pool; the number of a thread that has ended is
 * reused.
 */
static _Atomic uint32_t threads_taken;
static __thread uint32_t thread_number;
static pthread_key_t thread_key;

static void thread_exited(void *number)
{
        /* a later destructor of this thread takes another number: another thread may have this one already */
        thread_number = 0;
        atomic_fetch_and(&threads_taken, ~(1u << ((uintptr_t)number - 1)));
}

__attribute__((constructor)) static void watch_threads(void)
{
        pthread_key_create(&thread_key, thread_exited);
}

static void take_number(void)
{
        uint32_t taken = atomic_load(&threads_taken);
        uint32_t bit;

        do {
                bit = ~taken & (taken + 1);
                if (bit == 0) {
                        thread_number = POOL_THREADS + 1;
                        return;
                }
        } while (!atomic_compare_exchange_weak(&threads_taken, &taken, taken | bit));
        thread_number = (uint32_t)__builtin_ctz(bit) + 1;
        pthread_setspecific(thread_key, (void *)(uintptr_t)thread_number);
}

static struct pool_cache *cache_of(struct pool *pool, int c)
{
        if (thread_number == 0)
                take_number();
        /* Threads beyond POOL_THREADS have no cache: slower, never wrong. */
        return thread_number <= POOL_THREADS ? &pool->cache[thread_number - 1][c] : NULL;
}

static size_t round_up(size_t n, size_t to)
{
        return (n + to - 1) / to * to;
}

size_t pool_plan(struct pool_class classes[POOL_CLASSES])
{
        size_t at = sizeof(struct pool_shm);
        uint32_t first = 0;

        for (int c = 0; c < POOL_CLASSES; c++) {
                classes[c].first = first;
                first += classes[c].blocks;
        }
        at += round_up(first * sizeof(uint64_t), CACHE_LINE);
        for (int c = 0; c < POOL_CLASSES; c++) {
                classes[c].hints = at;
                at += round_up(classes[c].blocks / 8, CACHE_LINE);
        }
        for (int c = 0; c < POOL_CLASSES; c++) {
                at = round_up(at, PAGE);
                classes[c].data = at;
                at += (size_t)classes[c].blocks * classes[c].stride;
        }
        return round_up(at, PAGE);
}

static bool plausible(const struct pool_class classes[POOL_CLASSES])
{
        uint64_t blocks = 0;

        for (int c = 0; c < POOL_CLASSES; c++) {
                const struct pool_class *k = &classes[c];

                if (k->blocks == 0 || k->blocks % 64 || k->reserve % 64 || k->reserve >= k->blocks ||
                    k->stride % CACHE_LINE || k->stride <= HEADROOM + TAILROOM || k->stride > 1u << 23 ||
                    (c > 0 && k->stride <= classes[c - 1].stride))
                        return false;
                blocks += k->blocks;
        }
        return blocks < 1u << 24;
}

int pool_create(const char *name, const struct pool_class wanted[POOL_CLASSES], bool prefault)
{
        struct pool_class classes[POOL_CLASSES];
        struct pool_shm *shm;
        size_t size;
        int fd;

        memcpy(classes, wanted, sizeof classes);
        if (!plausible(classes))
                return -EINVAL;
        size = pool_plan(classes);
        fd = map_create(name, size);
        if (fd < 0)
                return fd;
        shm = fallocate(fd, 0, 0, (off_t)(prefault ? size : classes[0].data)) == 0 ? map_shared(fd, size, &size) : NULL;
        if (shm == NULL) {
                int error = errno;

                close(fd);
                return -error;
        }
        shm->version = LAYOUT_VERSION;
        shm->size = size;
        shm->owners = sizeof *shm;
        memcpy(shm->classes, classes, sizeof classes);
        for (int c = 0; c < POOL_CLASSES; c++) {
                shm->blocks += classes[c].blocks;
                memset((uint8_t *)shm + classes[c].hints, 0xff, classes[c].blocks / 8);
        }
        shm->magic = POOL_MAGIC;
        map_release(shm, size);
        return fd;
}

/* The geometry is copied before it is checked; the original is not read again. */
static bool adopt(struct pool *pool)
{
        const struct pool_shm *shm = pool->shm;
        struct pool_class planned[POOL_CLASSES];

        memcpy(pool->classes, shm->classes, sizeof pool->classes);
        if (shm->magic != POOL_MAGIC || shm->version != LAYOUT_VERSION || !plausible(pool->classes))
                return false;
        memcpy(planned, pool->classes, sizeof planned);
        if (pool_plan(planned) != pool->size || memcmp(planned, pool->classes, sizeof planned) != 0)
                return false;
        pool->blocks = planned[POOL_CLASSES - 1].first + planned[POOL_CLASSES - 1].blocks;
        pool->owner = (_Atomic uint64_t *)(void *)(pool->base + sizeof *shm);
        for (int c = 0; c < POOL_CLASSES; c++)
                pool->hints[c] = (_Atomic uint64_t *)(void *)(pool->base + planned[c].hints);
        return true;
}

struct pool *pool_map(int fd, uint64_t token, bool reserve)
{
        struct pool *pool = calloc(1, sizeof *pool);

        if (pool == NULL)
                return NULL;
        pool->cache = calloc(POOL_THREADS, sizeof *pool->cache);
        if (pool->cache != NULL)
                pool->shm = map_shared(fd, sizeof *pool->shm, &pool->size);
        if (pool->shm != NULL)
                pool->present = calloc(pool->size / POOL_CHUNK / 64 + 1, sizeof *pool->present);
        pool->base = (uint8_t *)pool->shm;
        pool->generation = map_generation;
        pool->holders = 1;
        if (pool->present == NULL || !adopt(pool)) {
                pool_unmap(pool);
                return NULL;
        }
        pool->self = OWNER_PROCESS(token);
        pool->reserve = reserve;
        for (int t = 0; t < POOL_THREADS; t++)
                for (int c = 0; c < POOL_CLASSES; c++)
                        pool->cache[t][c].limit = cache_limit(&pool->classes[c]);
        return pool;
}

static void flush(struct pool *pool, int c, struct pool_cache *cache, uint32_t keep)
{
        uint32_t drop = cache->count - keep;

        for (uint32_t i = 0; i < drop; i++)
                pool_hint(pool, c, cache->block[i]);
        memmove(cache->block, cache->block + drop, keep * sizeof cache->block[0]);
        cache->count = keep;
}

struct pool *pool_hold(struct pool *pool)
{
        map_hold(&pool->holders);
        return pool;
}

void pool_unmap(struct pool *pool)
{
        if (!map_let_go(&pool->holders))
                return;
        if (pool->shm != NULL && pool->generation == map_generation) {
                for (int t = 0; t < POOL_THREADS && pool->cache != NULL && pool->blocks > 0; t++)
                        for (int c = 0; c < POOL_CLASSES; c++)
                                flush(pool, c, &pool->cache[t][c], 0);
                map_release(pool->shm, pool->size);
        }
        free(pool->present);
        free(pool->cache);
        free(pool);
}

/*
 * Whether the pages of a block are allocated. Writing to a page that the system cannot allocate would end the
 * process.
 */
static bool present(struct pool *pool, int c, uint32_t block)
{
        size_t first = (size_t)(pool_block(pool, c, block) - pool->base);
        size_t last = first + pool->classes[c].stride - 1;

        for (size_t chunk = first / POOL_CHUNK; chunk <= last / POOL_CHUNK; chunk++) {
                _Atomic uint64_t *word = &pool->present[chunk / 64];
                size_t at = chunk * POOL_CHUNK;

                if (atomic_load_explicit(word, memory_order_relaxed) & 1ull << (chunk % 64))
                        continue;
                if (!map_populate(pool->base + at, pool->size - at < POOL_CHUNK ? pool->size - at : POOL_CHUNK))
                        return false;
                atomic_fetch_or_explicit(word, 1ull << (chunk % 64), memory_order_relaxed);
        }
        return true;
}

static void spend(uint32_t *looks, uint32_t cost)
{
        *looks = *looks > cost ? *looks - cost : 0;
}

/* Move hints of one word into the cache, lowest block on top, so that neighbours are used in order. */
static bool refill(struct pool *pool, int c, struct pool_cache *cache, uint32_t *looks)
{
        const struct pool_class *k = &pool->classes[c];
        uint32_t words = k->blocks / 64;
        uint32_t from = pool->reserve ? 0 : k->reserve / 64;
        uint32_t cursor = atomic_load_explicit(&pool->cursor[c], memory_order_relaxed);

        for (uint32_t i = 0; i < words - from && *looks > 0; i++) {
                uint32_t word = from + (cursor + i) % (words - from);
                uint64_t bits;

                spend(looks, 1);
                if (atomic_load_explicit(&pool->hints[c][word], memory_order_relaxed) == 0)
                        continue;
                bits = atomic_exchange_explicit(&pool->hints[c][word], 0, memory_order_acquire);
                CRASH(15);
                while (bits != 0 && cache->count < cache->limit / 2 + 1) {
                        uint32_t bit = 63 - (uint32_t)__builtin_clzll(bits);

                        if (!present(pool, c, k->first + word * 64 + bit)) {
                                *looks = 0; /* without memory, further blocks would fail too */
                                break;
                        }
                        bits &= ~(1ull << bit);
                        cache->block[cache->count++] = k->first + word * 64 + bit;
                }
                if (bits != 0)
                        atomic_fetch_or_explicit(&pool->hints[c][word], bits, memory_order_relaxed);
                atomic_store_explicit(&pool->cursor[c], word - from, memory_order_relaxed);
                if (cache->count > 0)
                        return true;
        }
        return false;
}

static bool claim(struct pool *pool, uint32_t block)
{
        if (!pool_transfer(pool, block, OWNER_FREE, pool->self))
                return false;
        CRASH(1);
        return true;
}

/*
 * No hint left: caches of other processes hold some, and dead processes have lost theirs. The owner words are
 * complete.
 */
static int64_t scan(struct pool *pool, int c, uint32_t *looks)
{
        const struct pool_class *k = &pool->classes[c];
        uint32_t from = pool->reserve ? 0 : k->reserve;
        uint32_t span = k->blocks - from;
        uint32_t at = atomic_load_explicit(&pool->scanned[c], memory_order_relaxed);
        int64_t found = -ENOMEM;

        for (uint32_t i = 0; i < span && *looks > 0 && found < 0; i++, spend(looks, 1)) {
                uint32_t block = k->first + from + at;

                at = at + 1 < span ? at + 1 : 0;
                if (atomic_load_explicit(&pool->owner[block], memory_order_relaxed) != OWNER_FREE)
                        continue;
                if (!present(pool, c, block))
                        break;
                if (claim(pool, block))
                        found = block;
        }
        atomic_store_explicit(&pool->scanned[c], at, memory_order_relaxed);
        return found;
}

/*
 * Bound of an allocation in a class. In the pool of its own trust domain a process finds every free block; this bound
 * suffices for that, unless a process of the same domain writes invalid hints all the time.
 */
static uint32_t looks_of(const struct pool *pool, const struct pool_class *k)
{
        return pool->reserve ? POOL_LOOKS : (POOL_TAKEN + 2) * k->blocks;
}

/* The block on top of the cache, unless another process has taken it. */
static int64_t take(struct pool *pool, int c, struct pool_cache *cache)
{
        uint32_t block = cache->block[--cache->count];

        /* Another core freed the next blocks: prefetch their owner words. */
        if (cache->count >= PREFETCH_DISTANCE) {
                uint32_t soon = cache->block[cache->count - PREFETCH_DISTANCE];
                uint8_t *data = pool_block(pool, c, soon) + HEADROOM;

                __builtin_prefetch(&pool->owner[soon], 1);
                __builtin_prefetch(data, 1);
                __builtin_prefetch(data + CACHE_LINE, 1);
        }
        return claim(pool, block) ? (int64_t)block : -ENOMEM;
}

/* The cache is empty: search by the hints, then by the owner words, within the bound. */
__attribute__((noinline)) static int64_t search(struct pool *pool, int c, struct pool_cache *cache)
{
        uint32_t looks = looks_of(pool, &pool->classes[c]);

        do {
                while (cache->count > 0 && looks > 0) {
                        int64_t block = take(pool, c, cache);

                        if (block >= 0)
                                return block;
                        spend(&looks, POOL_TAKEN);
                }
        } while (refill(pool, c, cache, &looks));
        return scan(pool, c, &looks);
}

static int64_t alloc_in(struct pool *pool, int c)
{
        struct pool_cache none; /* its blocks are not cleared: that would cost more than the allocation */
        struct pool_cache *cache = cache_of(pool, c);
        int64_t block = -ENOMEM;

        if (cache == NULL) {
                none.count = 0;
                none.limit = 1;
                cache = &none;
        }
        if (cache->count > 0)
                block = take(pool, c, cache);
        return block >= 0 ? block : search(pool, c, cache);
}

int64_t pool_alloc(struct pool *pool, size_t length)
{
        bool fits = false;

        for (int c = 0; c < POOL_CLASSES; c++) {
                int64_t block;

                if (length > pool->classes[c].stride - HEADROOM - TAILROOM)
                        continue;
                fits = true;
                block = alloc_in(pool, c);
                if (block >= 0)
                        return block;
        }
        if (!fits)
                return -EMSGSIZE;
        atomic_fetch_add_explicit(&pool->shm->failures, 1, memory_order_relaxed);
        return -ENOMEM;
}

bool pool_free(struct pool *pool, uint32_t block, uint64_t owner)
{
        int c = pool_class_of(pool, block);
        struct pool_cache *cache;

        if (!pool_transfer(pool, block, owner, OWNER_FREE)) {
                atomic_fetch_add_explicit(&pool->refused, 1, memory_order_relaxed);
                return false;
        }
        CRASH(2);
        cache = cache_of(pool, c);
        if (cache == NULL || (!pool->reserve && block - pool->classes[c].first < pool->classes[c].reserve)) {
                pool_hint(pool, c, block);
                return true;
        }
        if (cache->count == cache->limit)
                flush(pool, c, cache, cache->limit / 2);
        CRASH(3);
        cache->block[cache->count++] = block;
        return true;
}

size_t pool_largest(const struct pool *pool)
{
        return pool->classes[POOL_CLASSES - 1].stride - HEADROOM - TAILROOM;
}

uint64_t pool_failures(const struct pool *pool)
{
        return atomic_load_explicit(&pool->shm->failures, memory_order_relaxed);
}

void pool_owners(const struct pool *pool, uint64_t *out)
{
        for (uint32_t block = 0; block < pool->blocks; block++)
                out[block] = atomic_load_explicit(&pool->owner[block], memory_order_relaxed);
}

uint64_t owner_process(uint64_t token)
{
        return OWNER_PROCESS(token);
}

uint64_t owner_ring(uint64_t serial, uint32_t ring)
{
        return OWNER_RING(serial, ring);
}
