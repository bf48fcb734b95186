/* map: shared memory by descriptor: made as sealed memfds by the IRMd, mapped by whoever got the descriptor. */
#ifndef OUROBOROS_MAP_H
#define OUROBOROS_MAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Make a memfd of that size that can neither shrink nor grow, zeroed. Returns the descriptor or -errno. */
int map_create(const char *name, size_t size);

/*
 * Map a whole memfd, of at least `least` octets, shared. Refuses a descriptor whose size is not sealed (a peer
 * could truncate it and kill us by SIGBUS). A forked child does not inherit the mapping. NULL with errno set.
 */
void *map_shared(int fd, size_t min_size, size_t *size);
void map_release(void *address, size_t size);

/*
 * Have the system find the memory of a part of a mapping now. False: it has none, and whoever touched that part would get
 * SIGBUS. A kernel older than 5.14 is not asked: it answers true.
 */
bool map_populate(void *address, size_t size);

/*
 * For a process that serves several users: memory that another user's process has punched a hole into, and that the system
 * cannot find again, costs that mapping its contents, and not this process its life. The mapping becomes private and zero, and
 * is counted. To be called once, before there are threads. 0 or -errno.
 */
int map_survive(void);
uint64_t map_lost(void); /* mappings that became private */

/*
 * Holders of a mapped object. It stays mapped until the last of them lets go: the one that mapped it, every end of a flow that
 * uses it, and every thread that watches it. So the order in which messages say that things are gone decides nothing.
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

/* Grows by one in a forked child: a handle made under another number belongs to the parent. */
extern unsigned map_generation;

#endif
