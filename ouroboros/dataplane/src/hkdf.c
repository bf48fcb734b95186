#include "hkdf.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <string.h>

#define INFO_MOST 128u

static int hmac(const void *key, size_t key_length, const void *data, size_t length, uint8_t *out)
{
        return HMAC(EVP_sha256(), key, (int)key_length, data, length, out, NULL) != NULL ? 0 : -EIO;
}

int hkdf_sha256(const uint8_t *key, size_t key_length, const uint8_t *salt, size_t salt_length, const uint8_t *info,
                size_t info_length, uint8_t *out, size_t length)
{
        uint8_t extracted[SHA256_DIGEST_LENGTH], block[SHA256_DIGEST_LENGTH];
        uint8_t text[SHA256_DIGEST_LENGTH + INFO_MOST + 1];
        size_t have = 0, part;
        int error = 0;

        if (info_length > INFO_MOST || length > 255 * sizeof block)
                return -EIO;
        error = hmac(salt_length > 0 ? salt : (const uint8_t *)"", salt_length, key, key_length, extracted);
        for (unsigned n = 1; error == 0 && length > 0; n++) {
                memcpy(text, block, have);
                if (info_length > 0)
                        memcpy(text + have, info, info_length);
                text[have + info_length] = (uint8_t)n;
                error = hmac(extracted, sizeof extracted, text, have + info_length + 1, block);
                have = sizeof block;
                part = length < have ? length : have;
                memcpy(out, block, part);
                out += part;
                length -= part;
        }
        OPENSSL_cleanse(extracted, sizeof extracted);
        OPENSSL_cleanse(block, sizeof block);
        OPENSSL_cleanse(text, sizeof text);
        return error;
}
