#include "scratch.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct scratches {
        struct {
                uint8_t *octets;
                uint32_t size;
        } of[SCRATCHES];
};

static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static pthread_key_t scratch_key;
static bool scratch_works;
static _Thread_local struct scratches *scratches;

static void free_scratches(void *arg)
{
        struct scratches *all = arg;

        for (int use = 0; use < SCRATCHES; use++)
                OPENSSL_clear_free(all->of[use].octets, all->of[use].size);
        free(all);
        scratches = NULL; /* a later destructor of this thread may need a buffer: then this destructor runs again */
}

static void make_scratch_key(void)
{
        scratch_works = pthread_key_create(&scratch_key, free_scratches) == 0;
}

static struct scratches *make_scratches(void)
{
        struct scratches *all;

        pthread_once(&scratch_once, make_scratch_key);
        all = scratch_works ? calloc(1, sizeof *all) : NULL;
        if (all != NULL && pthread_setspecific(scratch_key, all) != 0) {
                free(all);
                all = NULL;
        }
        return all;
}

uint8_t *scratch_of_thread(enum scratch use, uint32_t length)
{
        if (scratches == NULL && (scratches = make_scratches()) == NULL)
                return NULL;
        if (scratches->of[use].size < length) {
                uint32_t size = (length + 4095u) & ~4095u;

                OPENSSL_clear_free(scratches->of[use].octets, scratches->of[use].size);
                scratches->of[use].octets = OPENSSL_malloc(size);
                scratches->of[use].size = scratches->of[use].octets != NULL ? size : 0;
        }
        return scratches->of[use].octets;
}
