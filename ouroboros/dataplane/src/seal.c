#include "seal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int seal_init(struct seal *seal, uint32_t cipher, const uint8_t *key, bool check)
{
        *seal = (struct seal){.check = check, .overhead = check ? CRC32_OCTETS : 0};
        if (cipher == 0)
                return 0;
        seal->cipher = cipher_create(cipher, key, CIPHER_PERIOD);
        if (seal->cipher == NULL)
                return -errno;
        seal->front = cipher_front(seal->cipher);
        seal->overhead += cipher_overhead(seal->cipher);
        return 0;
}

void seal_fini(struct seal *seal)
{
        cipher_destroy(seal->cipher);
        seal->cipher = NULL;
}

int seal_create(struct seal **seal, uint64_t max_packet, uint32_t cipher, const uint8_t *key, bool check)
{
        struct seal *made = calloc(1, sizeof *made);
        int error;

        *seal = NULL;
        if (made == NULL)
                return -ENOMEM;
        error = seal_init(made, cipher, key, check);
        if (error == 0 && max_packet <= made->overhead)
                error = -EMSGSIZE;
        if (error != 0 || seal_is_plain(made))
                seal_destroy(made);
        else
                *seal = made;
        return error;
}

void seal_destroy(struct seal *seal)
{
        if (seal != NULL)
                seal_fini(seal);
        free(seal);
}

static void put_check(uint8_t *at, uint32_t check)
{
        check = __builtin_bswap32(check);
        memcpy(at, &check, CRC32_OCTETS);
}

static uint32_t get_check(const uint8_t *at)
{
        uint32_t check;

        memcpy(&check, at, CRC32_OCTETS);
        return __builtin_bswap32(check);
}

ssize_t seal_packet(struct seal *seal, const void *header, uint32_t header_length, const void *data, uint32_t length,
                   uint8_t *out)
{
        ssize_t total = (ssize_t)header_length + length;

        if (total == 0)
                return 0;
        if (seal->cipher != NULL) {
                total = cipher_seal(seal->cipher, header, header_length, data, length, out);
                if (total < 0)
                        return total;
        } else {
                if (header_length > 0)
                        memcpy(out, header, header_length);
                if (length > 0 && data != out + header_length)
                        memcpy(out + header_length, data, length);
        }
        if (seal->check) {
                put_check(out + total, crc32_of(0, out, (size_t)total));
                total += CRC32_OCTETS;
        }
        return total;
}

static ssize_t refuse(_Atomic uint64_t *counter)
{
        atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
        return -EBADMSG;
}

ssize_t seal_open(struct seal *seal, const uint8_t *packet, uint32_t length, uint8_t *out)
{
        ssize_t opened;

        if (length == 0)
                return 0;
        if (length < seal->overhead)
                return refuse(&seal->runt);
        if (seal->check) {
                length -= CRC32_OCTETS;
                if (get_check(packet + length) != crc32_of(0, packet, length))
                        return refuse(&seal->spoilt);
        }
        if (seal->cipher == NULL) {
                if (out != packet)
                        memcpy(out, packet, length);
                return length;
        }
        opened = cipher_open(seal->cipher, packet, length, out);
        return opened < 0 ? refuse(&seal->forged) : opened;
}
