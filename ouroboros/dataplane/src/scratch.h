/*
 * scratch: memory of one thread, for a packet on its way: what is in the clear is not for the pool, which others may see.
 * Wiped when the thread ends.
 */
#ifndef OUROBOROS_SCRATCH_H
#define OUROBOROS_SCRATCH_H

#include <stdint.h>

enum scratch { SCRATCH_SEAL, SCRATCH_OPEN, SCRATCHES };

/* So many octets, valid until the next call with the same `use`. NULL: there is no memory. */
uint8_t *scratch_of_thread(enum scratch use, uint32_t length);

#endif
