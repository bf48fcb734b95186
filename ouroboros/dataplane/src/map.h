/*
 * map: shared memory by descriptor: sealed memfds that the IRMd makes, mapped by every process that receives the
 * descriptor.
 */
#ifndef OUROBOROS_MAP_H
#define OUROBOROS_MAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Make a zeroed memfd of this size that can neither shrink nor grow. Returns the descriptor or -errno. */
int map_create(const char *name, size_t size);

/*
 * Map a whole memfd of at least `min_size` octets, shared. Refuses a descriptor whose size is not sealed (a peer
 * could truncate it and kill this process by SIGBUS). A forked child does not inherit the mapping. NULL with errno
 * set.
 */
void *map_shared(int fd, size_t min_size, size_t *size);
void map_release(void *address, size_t size);

/*
 * Allocate the pages of a part of a mapping now. False: the system has none, and access to that part would raise
 * SIGBUS. True without a check on a kernel older than 5.14.
 */
bool map_populate(void *address, size_t size);

/*
 * For a process that serves several users. When another user's process has punched a hole into shared memory and the
 * system has no page for it, access raises SIGBUS: from now on that mapping becomes private and zero, is counted, and
 * the process lives on. Called once, before there are threads. 0 or -errno.
 */
int map_survive(void);
uint64_t map_lost(void); /* mappings that became private */

/*
 * Holders of a mapped object: its mapper, every end of a flow that uses it, and every thread that watches it. It
 * stays mapped until the last of them lets go, so the order of the IRMd's messages does not matter.
 */
static inline void map_hold(_Atomic uint32_t *holders)
{
        atomic_fetch_add_explicit(holders, 1, memory_order_relaxed);
}

/* Whether that was the last holder. */
static inline bool map_let_go(_Atomic uint32_t *holders)
{
        return atomic_fetch_sub_explicit(holders, 1, memory_order_acq_rel) == 1;
}

/* Incremented in a forked child: a handle with another generation belongs to the parent. */
extern unsigned map_generation;

#endif
