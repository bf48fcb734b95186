/* map: shared memory by descriptor: made as sealed memfds by the IRMd, mapped by whoever got the descriptor. */
#ifndef OUROBOROS_MAP_H
#define OUROBOROS_MAP_H

#include <stddef.h>
#include <stdint.h>

/* Make a memfd of that size that can neither shrink nor grow, zeroed. Returns the descriptor or -errno. */
int map_create(const char *name, size_t size);

/*
 * Map a whole memfd, of at least `least` octets, shared. Refuses a descriptor whose size is not sealed (a peer
 * could truncate it and kill us by SIGBUS). A forked child does not inherit the mapping. NULL with errno set.
 */
void *map_shared(int fd, size_t least, size_t *size);
void map_release(void *address, size_t size);

/* Grows by one in a forked child: a handle made under another number belongs to the parent. */
extern unsigned map_generation;

#endif
