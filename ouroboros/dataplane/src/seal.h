/*
 * seal: what protects the packets of one flow end on their way (spec/protection 1): a cipher, a check, both, or none.
 *
 *     [ IV ][ ciphertext of ( FRCP header | data ) ][ tag ][ CRC-32 ]
 *
 * Empty packets (keep-alives) go as they are. Used by flow ends of processes (flow_write.c, flow_read.c, frcp_end.c) and of IPCPs (port.c).
 */
#ifndef OUROBOROS_SEAL_H
#define OUROBOROS_SEAL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "cipher.h"
#include "crc32.h"

struct seal {
        struct cipher *cipher; /* NULL: none */
        bool check;            /* a CRC-32 behind every packet */
        uint32_t front;        /* octets that a packet grows by at its begin, */
        uint32_t overhead;     /* and in all */
        _Atomic uint64_t forged; /* packets refused: no key opens them, */
        _Atomic uint64_t spoilt; /* their check is wrong, */
        _Atomic uint64_t runt;   /* they are shorter than what protects them */
};

/* What the handshake agreed on: `cipher` 0 and key NULL for none. 0, -EINVAL: there is no such cipher, -ENOMEM. */
int seal_init(struct seal *seal, uint32_t cipher, const uint8_t *key, bool check);
void seal_fini(struct seal *seal); /* wipes the keys */

/*
 * The same for an end whose packets have at most `max_packet` octets, on the heap; *seal is NULL where nothing is to be done.
 * Also -EMSGSIZE: what protects a packet would leave no room in it.
 */
int seal_create(struct seal **seal, uint64_t max_packet, uint32_t cipher, const uint8_t *key, bool check);
void seal_destroy(struct seal *seal); /* may be NULL */

static inline bool seal_is_plain(const struct seal *seal)
{
        return seal->overhead == 0;
}

/*
 * header | data to `out`, protected; without a header, data may lie seal->front octets behind `out` already; there is room for seal->overhead octets more. Its length, 0 for an empty packet;
 * -EIO: it could not be encrypted, and must not be sent.
 */
ssize_t seal_packet(struct seal *seal, const void *header, uint32_t header_length, const void *data, uint32_t length,
                   uint8_t *out);

/*
 * What a packet holds, to `out`: seal->front octets behind `packet`, or somewhere else. Its length; -EBADMSG: refused, and
 * counted.
 */
ssize_t seal_open(struct seal *seal, const uint8_t *packet, uint32_t length, uint8_t *out);

#endif
