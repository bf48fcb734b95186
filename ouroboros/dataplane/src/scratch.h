/*
 * scratch: buffers of one thread for packets in plaintext, which must not lie in the pool, since other processes map
 * it. Wiped when the thread ends.
 */
#ifndef OUROBOROS_SCRATCH_H
#define OUROBOROS_SCRATCH_H

#include <stdint.h>

enum scratch { SCRATCH_SEAL, SCRATCH_OPEN, SCRATCHES };

/* A buffer of `length` octets, valid until the next call with the same `use`. NULL: no memory. */
uint8_t *scratch_of_thread(enum scratch use, uint32_t length);

#endif
