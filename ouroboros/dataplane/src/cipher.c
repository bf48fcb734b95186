#define _GNU_SOURCE
#include "cipher.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "hkdf.h"
#include "map.h"
#include "scratch.h"
#include "wait.h"

#define TAG_OCTETS 16u
#define PHASE 0x80u
/*
 * octets up to which a packet is encrypted in a buffer: libcrypto reads its output again, and the block is not in the
 * cache
 */
#define GATHER_MAX 2048u
#define EPOCHS 8u        /* keys kept together: those that the peer may still use, this end's, the next one */
#define CONTEXTS 3u      /* contexts of the reader */
#define SEARCH_AFTER 64u /* consecutive packets that no key opens, before later keys are tried */
#define SEARCH_KEYS 64u  /* number of those later keys */

static const struct kind {
        uint32_t id;
        uint32_t iv;
        uint32_t tag;
        const EVP_CIPHER *(*evp)(void);
} kinds[] = {
        {904, 16, 0, EVP_aes_128_ctr},
        {905, 16, 0, EVP_aes_192_ctr},
        {906, 16, 0, EVP_aes_256_ctr},
        {895, 12, TAG_OCTETS, EVP_aes_128_gcm},
        {898, 12, TAG_OCTETS, EVP_aes_192_gcm},
        {901, 12, TAG_OCTETS, EVP_aes_256_gcm},
        {1018, 12, TAG_OCTETS, EVP_chacha20_poly1305},
};

/* A context of libcrypto, and the epoch whose key it has. */
struct keyed {
        EVP_CIPHER_CTX *context; /* NULL: not needed yet */
        uint32_t epoch;
};

struct key {
        uint8_t octets[CIPHER_KEY_OCTETS];
};

struct cipher {
        const struct kind *kind;
        uint32_t period;

        /* Shared by both directions, under the lock (spec: N, A, P, the keys and their salt). */
        struct spinlock lock;
        uint32_t packets;
        uint32_t age;
        bool phase;
        uint32_t epoch;          /* of this end's current key */
        uint32_t oldest;         /* of the keys kept */
        uint32_t seen;           /* newest that the peer has used */
        struct key keys[EPOCHS]; /* by epoch, from `oldest` to the one after `epoch` */
        struct key salt;

        struct keyed tx;           /* the writer's */
        struct keyed rx[CONTEXTS]; /* the reader's, by epoch; two of them after the first key change only */
        uint32_t last;             /* epoch of the key that opened a packet last */
        uint32_t failures;         /* packets since */
};

/* ---- keys ---- */

static int next_key(const struct key *key, const struct key *salt, struct key *next)
{
        static const uint8_t info[] = "o7s-key-rotation";

        return hkdf_sha256(key->octets, sizeof key->octets, salt->octets, sizeof salt->octets, info, sizeof info - 1,
                           next->octets, sizeof next->octets);
}

static struct key *key_at(struct cipher *cipher, uint32_t epoch)
{
        return &cipher->keys[epoch % EPOCHS];
}

/* With the lock. When the next key cannot be derived, the current one stays. */
static void rotate(struct cipher *cipher)
{
        struct key next;

        if (next_key(key_at(cipher, cipher->epoch + 1), &cipher->salt, &next) != 0)
                return;
        cipher->epoch++;
        *key_at(cipher, cipher->epoch + 1) = next;
        if (cipher->epoch + 1 - cipher->oldest >= EPOCHS)
                cipher->oldest = cipher->epoch + 2 - EPOCHS;
        cipher->age = 0;
        cipher->phase = !cipher->phase;
        OPENSSL_cleanse(&next, sizeof next);
}

/* With the lock: drop keys that neither end uses any more. */
static void drop_keys(struct cipher *cipher)
{
        while ((int32_t)(cipher->oldest - cipher->epoch) < 0 && (int32_t)(cipher->oldest - cipher->seen) < 0)
                OPENSSL_cleanse(key_at(cipher, cipher->oldest++), sizeof(struct key));
}

static void grow_older(struct cipher *cipher)
{
        cipher->packets++;
        if (cipher->age < UINT32_MAX)
                cipher->age++;
}

static int use_key(const struct kind *kind, struct keyed *keyed, const struct key *key, uint32_t epoch, bool encrypt)
{
        const EVP_CIPHER *evp = NULL;

        if (keyed->context == NULL) {
                keyed->context = EVP_CIPHER_CTX_new();
                if (keyed->context == NULL)
                        return -EIO;
                evp = kind->evp();
        }
        if (EVP_CipherInit_ex(keyed->context, evp, NULL, key->octets, NULL, encrypt) != 1) {
                EVP_CIPHER_CTX_free(keyed->context);
                keyed->context = NULL;
                return -EIO;
        }
        keyed->epoch = epoch;
        return 0;
}

/* ---- random octets, some for many packets ---- */

static int draw_iv(uint8_t *iv, uint32_t length)
{
        static _Thread_local struct {
                unsigned generation; /* a forked child must draw its own */
                uint32_t left;
                uint8_t octets[1536];
        } drawn;

        if (drawn.left < length || drawn.generation != map_generation) {
                if (RAND_bytes(drawn.octets, sizeof drawn.octets) != 1)
                        return -EIO;
                drawn.left = sizeof drawn.octets;
                drawn.generation = map_generation;
        }
        drawn.left -= length;
        memcpy(iv, drawn.octets + drawn.left, length);
        return 0;
}

/* ---- sealing ---- */

/*
 * With the lock: whether to change the key. It changes with a bit of the packet count, unless a packet of the peer
 * has changed it just before: that was this change. With strictly alternating ends the change of the bit may always
 * coincide with a received packet; then the key changes a little later.
 */
static bool due(const struct cipher *cipher)
{
        bool turned = ((cipher->packets ^ (cipher->packets - 1)) & cipher->period) != 0;

        return cipher->age >= (turned ? cipher->period / 2 : cipher->period + cipher->period / 4);
}

/* Give the writer's context the key of this packet; `*phase` is the packet's phase bit. */
static int begin_packet(struct cipher *cipher, bool *phase)
{
        struct key key;
        uint32_t epoch;
        bool wanted;

        spinlock_acquire(&cipher->lock);
        epoch = cipher->epoch;
        *phase = (cipher->packets & cipher->period) != 0;
        wanted = cipher->tx.context == NULL || cipher->tx.epoch != epoch;
        if (wanted)
                key = *key_at(cipher, epoch);
        grow_older(cipher);
        if (due(cipher))
                rotate(cipher);
        if (cipher->age >= cipher->period / 2)
                drop_keys(cipher);
        spinlock_release(&cipher->lock);
        if (wanted) {
                int error = use_key(cipher->kind, &cipher->tx, &key, epoch, true);

                OPENSSL_cleanse(&key, sizeof key);
                return error;
        }
        return 0;
}

/* Join header and data first: libcrypto is faster with one piece than with two. NULL: no memory. */
static const uint8_t *gather(const void *header, uint32_t header_length, const void *data, uint32_t length)
{
        uint8_t *at;

        if (header_length == 0)
                return data;
        at = scratch_of_thread(SCRATCH_SEAL, header_length + length + TAG_OCTETS);
        if (at == NULL)
                return NULL;
        memcpy(at, header, header_length);
        if (length > 0)
                memcpy(at + header_length, data, length);
        return at;
}

ssize_t cipher_seal_with(struct cipher *cipher, const uint8_t *iv, const void *header, uint32_t header_length,
                          const void *data, uint32_t length, uint8_t *out)
{
        const struct kind *kind = cipher->kind;
        const uint8_t *clear = gather(header, header_length, data, length);
        uint32_t total = header_length + length;
        uint8_t *at = total <= GATHER_MAX ? scratch_of_thread(SCRATCH_SEAL, total + kind->tag) : out + kind->iv;
        bool phase;
        int n, rest;

        if (clear == NULL || at == NULL || begin_packet(cipher, &phase) != 0)
                return -EIO;
        memcpy(out, iv, kind->iv);
        out[0] = (uint8_t)((out[0] & ~PHASE) | (phase ? PHASE : 0));
        if (EVP_EncryptInit_ex(cipher->tx.context, NULL, NULL, NULL, out) != 1 ||
            EVP_EncryptUpdate(cipher->tx.context, at, &n, clear, (int)total) != 1 ||
            EVP_EncryptFinal_ex(cipher->tx.context, at + n, &rest) != 1 ||
            (kind->tag > 0 && EVP_CIPHER_CTX_ctrl(cipher->tx.context, EVP_CTRL_AEAD_GET_TAG, (int)kind->tag,
                                                  at + total) != 1))
                return -EIO;
        if (at != out + kind->iv)
                memcpy(out + kind->iv, at, total + kind->tag);
        return kind->iv + total + kind->tag;
}

ssize_t cipher_seal(struct cipher *cipher, const void *header, uint32_t header_length, const void *data,
                     uint32_t length, uint8_t *out)
{
        uint8_t iv[CIPHER_IV_MOST];

        if (draw_iv(iv, cipher->kind->iv) != 0)
                return -EIO;
        return cipher_seal_with(cipher, iv, header, header_length, data, length, out);
}

/* ---- opening ---- */

static bool decrypt(EVP_CIPHER_CTX *context, const struct kind *kind, const uint8_t *packet, uint32_t length,
                    uint8_t *out)
{
        uint8_t tag[TAG_OCTETS], rest[TAG_OCTETS];
        int n;

        if (EVP_DecryptInit_ex(context, NULL, NULL, NULL, packet) != 1)
                return false;
        if (kind->tag > 0) {
                memcpy(tag, packet + kind->iv + length, kind->tag);
                if (EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, (int)kind->tag, tag) != 1)
                        return false;
        }
        return EVP_DecryptUpdate(context, out, &n, packet + kind->iv, (int)length) == 1 &&
               EVP_DecryptFinal_ex(context, rest, &n) == 1;
}

/* Restore the ciphertext: all ciphers here add a keystream, and adding it again removes it. */
static bool undo(EVP_CIPHER_CTX *context, const uint8_t *iv, uint8_t *at, uint32_t length)
{
        int n;

        return EVP_EncryptInit_ex(context, NULL, NULL, NULL, iv) == 1 &&
               EVP_EncryptUpdate(context, at, &n, at, (int)length) == 1;
}

/* Try this key. False: the packet is unchanged. */
static bool try_context(struct cipher *cipher, const struct keyed *keyed, const uint8_t *packet, uint32_t length,
                        uint8_t *out)
{
        if (decrypt(keyed->context, cipher->kind, packet, length, out))
                return true;
        if (out == packet + cipher->kind->iv)
                undo(keyed->context, packet, out, length);
        return false;
}

static bool try_key(struct cipher *cipher, const struct key *key, uint32_t epoch, const uint8_t *packet,
                    uint32_t length, uint8_t *out)
{
        struct keyed *keyed = &cipher->rx[epoch % CONTEXTS];

        return use_key(cipher->kind, keyed, key, epoch, false) == 0 && try_context(cipher, keyed, packet, length, out);
}

/* Try the key of this epoch, which the reader has or derives. */
static bool try_epoch(struct cipher *cipher, uint32_t epoch, const uint8_t *packet, uint32_t length, uint8_t *out)
{
        struct keyed *keyed = &cipher->rx[epoch % CONTEXTS];
        struct key key;
        bool done;

        if (keyed->context != NULL && keyed->epoch == epoch)
                return try_context(cipher, keyed, packet, length, out);
        spinlock_acquire(&cipher->lock);
        done = epoch - cipher->oldest <= cipher->epoch + 1 - cipher->oldest;
        if (done)
                key = *key_at(cipher, epoch);
        spinlock_release(&cipher->lock);
        if (!done) /* dropped meanwhile */
                return false;
        done = try_key(cipher, &key, epoch, packet, length, out);
        OPENSSL_cleanse(&key, sizeof key);
        return done;
}

/* A peer whose packets were lost for long may have changed its key more than once. Tried rarely: it is expensive. */
static bool search(struct cipher *cipher, uint32_t *epoch, const uint8_t *packet, uint32_t length, uint8_t *out)
{
        struct key key, next;
        bool found = false;

        spinlock_acquire(&cipher->lock);
        *epoch = cipher->epoch + 1;
        key = *key_at(cipher, *epoch);
        spinlock_release(&cipher->lock);
        for (uint32_t i = 0; i < SEARCH_KEYS && !found; i++) {
                if (next_key(&key, &cipher->salt, &next) != 0)
                        break;
                key = next;
                found = try_key(cipher, &key, ++*epoch, packet, length, out);
        }
        OPENSSL_cleanse(&key, sizeof key);
        OPENSSL_cleanse(&next, sizeof next);
        return found;
}

/* The key of this epoch opened a packet: count it; this end adopts a later key than its own. */
static void opened(struct cipher *cipher, uint32_t epoch)
{
        spinlock_acquire(&cipher->lock);
        while ((int32_t)(epoch - cipher->epoch) > 0) {
                uint32_t from = cipher->epoch;

                rotate(cipher);
                if (cipher->epoch == from)
                        break;
        }
        if ((int32_t)(epoch - cipher->seen) > 0)
                cipher->seen = epoch;
        grow_older(cipher);
        spinlock_release(&cipher->lock);
        cipher->last = epoch;
        cipher->failures = 0;
}

/*
 * Try the key that opened the last packet first, then later ones up to the one after this end's, then older ones: the
 * tag shows the right one. A packet that no key opens changes nothing, so that a forger cannot move the keys of the
 * two ends apart.
 */
static bool find_key(struct cipher *cipher, uint32_t *epoch, const uint8_t *packet, uint32_t length, uint8_t *out)
{
        uint32_t oldest, newest, last = cipher->last;

        spinlock_acquire(&cipher->lock);
        oldest = cipher->oldest;
        newest = cipher->epoch + 1;
        spinlock_release(&cipher->lock);
        if (last - oldest > newest - oldest) /* no key kept is left */
                last = oldest;
        for (*epoch = last; *epoch != newest + 1; ++*epoch)
                if (try_epoch(cipher, *epoch, packet, length, out))
                        return true;
        for (*epoch = last; *epoch != oldest;)
                if (try_epoch(cipher, --*epoch, packet, length, out))
                        return true;
        return ++cipher->failures % SEARCH_AFTER == 0 && search(cipher, epoch, packet, length, out);
}

static ssize_t open_sealed(struct cipher *cipher, const uint8_t *packet, uint32_t length, uint8_t *out)
{
        uint32_t epoch;

        if (!find_key(cipher, &epoch, packet, length, out)) {
                memset(out, 0, length);
                return -EBADMSG;
        }
        opened(cipher, epoch);
        return length;
}

/* Without a tag nothing shows the right key: the phase bit and the count decide, as in the specification. */
static ssize_t open_stream(struct cipher *cipher, const uint8_t *packet, uint32_t length, uint8_t *out)
{
        uint32_t epoch;

        spinlock_acquire(&cipher->lock);
        if (((packet[0] & PHASE) != 0) != cipher->phase && cipher->age >= cipher->period - cipher->period / 4)
                rotate(cipher);
        grow_older(cipher);
        epoch = cipher->seen = cipher->epoch;
        spinlock_release(&cipher->lock);
        return try_epoch(cipher, epoch, packet, length, out) ? (ssize_t)length : -EBADMSG;
}

ssize_t cipher_open(struct cipher *cipher, const uint8_t *packet, uint32_t length, uint8_t *out)
{
        uint32_t overhead = cipher_overhead(cipher);

        if (length < overhead)
                return -EBADMSG;
        return cipher->kind->tag > 0 ? open_sealed(cipher, packet, length - overhead, out) :
                                       open_stream(cipher, packet, length - overhead, out);
}

/* ---- life ---- */

uint32_t cipher_overhead(const struct cipher *cipher)
{
        return cipher->kind->iv + cipher->kind->tag;
}

uint32_t cipher_front(const struct cipher *cipher)
{
        return cipher->kind->iv;
}

uint32_t cipher_epoch(struct cipher *cipher)
{
        uint32_t epoch;

        spinlock_acquire(&cipher->lock);
        epoch = cipher->epoch;
        spinlock_release(&cipher->lock);
        return epoch;
}

struct cipher *cipher_create(uint32_t id, const uint8_t *key, uint32_t period)
{
        const struct kind *kind = NULL;
        struct cipher *cipher;

        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
                if (kinds[i].id == id)
                        kind = &kinds[i];
        if (kind == NULL || period < 4 || (period & (period - 1)) != 0) {
                errno = EINVAL;
                return NULL;
        }
        cipher = calloc(1, sizeof *cipher);
        if (cipher == NULL)
                return NULL;
        cipher->kind = kind;
        cipher->period = period;
        memcpy(cipher->keys[0].octets, key, CIPHER_KEY_OCTETS);
        SHA256(key, CIPHER_KEY_OCTETS, cipher->salt.octets);
        if (next_key(&cipher->keys[0], &cipher->salt, &cipher->keys[1]) != 0 ||
            use_key(kind, &cipher->tx, &cipher->keys[0], 0, true) != 0 ||
            use_key(kind, &cipher->rx[0], &cipher->keys[0], 0, false) != 0) {
                cipher_destroy(cipher);
                errno = ENOMEM;
                return NULL;
        }
        return cipher;
}

void cipher_destroy(struct cipher *cipher)
{
        if (cipher == NULL)
                return;
        EVP_CIPHER_CTX_free(cipher->tx.context);
        for (uint32_t i = 0; i < CONTEXTS; i++)
                EVP_CIPHER_CTX_free(cipher->rx[i].context);
        OPENSSL_cleanse(cipher, sizeof *cipher);
        free(cipher);
}
