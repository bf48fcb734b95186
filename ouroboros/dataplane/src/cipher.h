/*
 * cipher: the encryption of the packets of a flow (spec/protection 3): IV | ciphertext | tag, and the rotation of its
 * key.
 * One cipher for one flow end, both directions: one thread writes, under the end's transmit lock; one reads, under
 * its receive lock. They share some words and the keys, under a third lock. libcrypto does the work, with contexts
 * that live as long as the flow: a packet costs neither an allocation nor a system call.
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
 * `id`: a number of spec/oap 2. `key`: from the allocation handshake, CIPHER_KEY_OCTETS. `period` is CIPHER_PERIOD;
 * tests use smaller ones. NULL with errno: EINVAL (no such cipher or period), ENOMEM.
 */
struct cipher *cipher_create(uint32_t id, const uint8_t *key, uint32_t period);
void cipher_destroy(struct cipher *cipher); /* wipes its keys; NULL: no effect */

uint32_t cipher_overhead(const struct cipher *cipher); /* octets that a packet grows by, */
uint32_t cipher_front(const struct cipher *cipher);    /* and those of them before the ciphertext */

/*
 * Encrypt header | data into `out`: elsewhere or, without a header, cipher_front octets before `data`. Returns the
 * octets written, or -EIO: libcrypto failed (no random octets, no memory). For the writer.
 */
ssize_t cipher_seal(struct cipher *cipher, const void *header, uint32_t header_length, const void *data,
                     uint32_t length, uint8_t *out);

/* With a given IV, except for its phase bit. For test vectors: a repeated IV reveals the plaintext. */
ssize_t cipher_seal_with(struct cipher *cipher, const uint8_t *iv, const void *header, uint32_t header_length,
                          const void *data, uint32_t length, uint8_t *out);

/*
 * Decrypt a packet into `out`: cipher_front octets behind `packet` (in place), or elsewhere. Returns the length of
 * the plaintext, or -EBADMSG: the packet is not from this flow's peer, or was corrupted. For the reader.
 */
ssize_t cipher_open(struct cipher *cipher, const uint8_t *packet, uint32_t length, uint8_t *out);

/* Number of key changes. */
uint32_t cipher_epoch(struct cipher *cipher);

#endif
