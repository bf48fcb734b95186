/*
 * crc32: the check of packets on flows with ber = 0 (spec/protection 2): IEEE 802.3, as zlib has it.
 */
#ifndef OUROBOROS_CRC32_H
#define OUROBOROS_CRC32_H

#include <stddef.h>
#include <stdint.h>

#define CRC32_OCTETS 4

/* CRC of `length` octets, continued from `crc` (0: new). */
uint32_t crc32_of(uint32_t crc, const void *data, size_t length);

/* The same with tables only, as on machines without carry-less multiplication. */
uint32_t crc32_tables(uint32_t crc, const void *data, size_t length);

#endif
