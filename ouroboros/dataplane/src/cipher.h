/*
 * cipher: what encrypts the packets of a flow (spec/protection 3): IV | ciphertext | tag, and the rotation of its key.
 *
 * One cipher for one flow end, both directions: one writes, under its lock; one reads, under its own. What the two share is
 * a few words and keys, under a third. libcrypto does the work, with contexts that live as long as the flow: nothing is
 * allocated, and no system call made, for a packet.
 */
#ifndef OUROBOROS_CIPHER_H
#define OUROBOROS_CIPHER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CIPHER_KEY_OCTETS 32u
#define CIPHER_IV_MOST 16u
#define CIPHER_PERIOD (1u << 20) /* packets under one key: a power of two */

struct cipher;

/*
 * `id`: of spec/oap 2. `key`: what the allocation handshake made, CIPHER_KEY_OCTETS. `period` is CIPHER_PERIOD; tests
 * have smaller ones. NULL with errno: EINVAL (no such cipher or period), ENOMEM.
 */
struct cipher *cipher_create(uint32_t id, const uint8_t *key, uint32_t period);
void cipher_destroy(struct cipher *cipher); /* and wipe its keys; NULL: nothing */

uint32_t cipher_overhead(const struct cipher *cipher); /* octets that a packet grows by, */
uint32_t cipher_front(const struct cipher *cipher);    /* and those of them before the ciphertext */

/*
 * header | data, encrypted, to `out`: somewhere else, or, without a header, cipher_front octets before `data`. Octets written, or -EIO: libcrypto could not (no random
 * octets, no memory). For the writer.
 */
ssize_t cipher_seal(struct cipher *cipher, const void *header, uint32_t header_length, const void *data,
                     uint32_t length, uint8_t *out);

/* With this IV but for its phase bit. For test vectors: an IV that comes twice gives away what it hides. */
ssize_t cipher_seal_with(struct cipher *cipher, const uint8_t *iv, const void *header, uint32_t header_length,
                          const void *data, uint32_t length, uint8_t *out);

/*
 * What is in the packet, to `out`: cipher_front octets behind `packet` (in place), or somewhere else. Its length, or -EBADMSG:
 * it is not of this flow's peer, or spoilt on the way. For the reader.
 */
ssize_t cipher_open(struct cipher *cipher, const uint8_t *packet, uint32_t length, uint8_t *out);

/* How often the key has changed. */
uint32_t cipher_epoch(struct cipher *cipher);

#endif
