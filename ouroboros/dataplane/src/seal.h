/*
 * seal: the protection of the packets of one flow end (spec/protection 1): a cipher, a check, both, or none.
 *     [ IV ][ ciphertext of ( FRCP header | data ) ][ tag ][ CRC-32 ]
 * Empty packets (keep-alives) are not protected. One end of a flow has one (end.h).
 */
#ifndef OUROBOROS_SEAL_H
#define OUROBOROS_SEAL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "cipher.h"
#include "crc32.h"

struct seal {
        struct cipher *cipher;   /* NULL: none */
        bool check;              /* a CRC-32 behind every packet */
        uint32_t front;          /* octets before the ciphertext */
        uint32_t overhead;       /* octets that a packet grows by */
        _Atomic uint64_t forged; /* refused: no key opens the packet */
        _Atomic uint64_t spoilt; /* refused: the CRC-32 is wrong */
        _Atomic uint64_t runt;   /* refused: shorter than `overhead` */
};

/* The result of the handshake: `cipher` 0 and key NULL for none. 0, -EINVAL: no such cipher, -ENOMEM. */
int seal_init(struct seal *seal, uint32_t cipher, const uint8_t *key, bool check);
void seal_fini(struct seal *seal); /* wipes the keys */

/*
 * Allocate the seal of an end whose packets have at most `max_packet` octets; *seal is NULL without a cipher and a
 * check. Also -EMSGSIZE: the overhead would leave no space in a packet.
 */
int seal_create(struct seal **seal, uint64_t max_packet, uint32_t cipher, const uint8_t *key, bool check);
void seal_destroy(struct seal *seal); /* may be NULL */

static inline bool seal_is_plain(const struct seal *seal)
{
        return seal->overhead == 0;
}

/*
 * Protect header | data into `out`, which has space for seal->overhead octets more; without a header, data may lie
 * seal->front octets behind `out` already. Returns the length, 0 for an empty packet; -EIO: the packet could not be
 * encrypted, and must not be sent.
 */
ssize_t seal_packet(struct seal *seal, const void *header, uint32_t header_length, const void *data, uint32_t length,
                   uint8_t *out);

/*
 * Open a packet into `out`: seal->front octets behind `packet`, or elsewhere. Returns the length of the plaintext;
 * -EBADMSG: refused and counted.
 */
ssize_t seal_open(struct seal *seal, const uint8_t *packet, uint32_t length, uint8_t *out);

#endif
