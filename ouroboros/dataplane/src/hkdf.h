/*
 * hkdf: key derivation (RFC 5869) with SHA-256, for the rotation of keys once in about a million packets
 * (spec/protection 3).
 */
#ifndef OUROBOROS_HKDF_H
#define OUROBOROS_HKDF_H

#include <stddef.h>
#include <stdint.h>

/* At most 255 * 32 octets; `info` of 128 at most. 0 or -EIO. */
int hkdf_sha256(const uint8_t *key, size_t key_length, const uint8_t *salt, size_t salt_length, const uint8_t *info,
                size_t info_length, uint8_t *out, size_t length);

#endif
