#include "fib.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/random.h>

#include "layout.h"

static void draw_factors(struct fib *fib)
{
        if (getrandom(fib->factor, sizeof fib->factor, GRND_NONBLOCK) != (ssize_t)sizeof fib->factor) {
                fib->factor[0] = 0x9e3779b1u ^ (uint32_t)(uintptr_t)fib; /* shortly after the machine has started */
                fib->factor[1] = 0x85ebca6bu ^ (uint32_t)((uintptr_t)fib >> 12);
        }
        fib->factor[0] |= 1;
        fib->factor[1] |= 1;
}

static struct fib *allocate(uint32_t count, uint32_t lists)
{
        struct fib *fib = calloc(1, sizeof *fib);
        uint32_t bits = 4;

        while (bits < 31 && (1u << bits) < 2 * count) /* at most half full */
                bits++;
        if (fib == NULL)
                return NULL;
        fib->mask = (1u << bits) - 1;
        fib->shift = 32 - bits;
        fib->lists = lists;
        draw_factors(fib);
        fib->slots = calloc(1u << bits, sizeof *fib->slots);
        fib->hops = calloc(lists + 1, sizeof *fib->hops);
        if (fib->slots == NULL || fib->hops == NULL) {
                fib_destroy(fib);
                return NULL;
        }
        return fib;
}

static bool fill_hops(struct fib_hops *hops, uint32_t length, const uint32_t *fds)
{
        if (length == 0 || length > FIB_FDS)
                return false;
        hops->count = (uint16_t)length;
        for (uint32_t i = 0; i < length; i++) {
                if (fds[i] < FD_BASE || fds[i] - FD_BASE >= EVENT_BITS)
                        return false;
                hops->bit[i] = (uint16_t)(fds[i] - FD_BASE);
        }
        return true;
}

static bool insert(struct fib *fib, uint32_t address, uint32_t list)
{
        uint32_t at = fib_at(fib, address);
        uint32_t passed = 1;

        if (address == 0 || list >= fib->lists)
                return false;
        for (; fib->slots[at].address != 0; at = (at + 1) & fib->mask, passed++)
                if (fib->slots[at].address == address)
                        return false;
        fib->slots[at] = (struct fib_slot){address, list};
        if (passed > fib->longest)
                fib->longest = passed;
        return true;
}

struct fib *fib_create(enum fib_function function, uint32_t count, const uint32_t *addresses, const uint32_t *list,
                       uint32_t lists, const uint32_t *lengths, const uint32_t *fds)
{
        struct fib *fib;

        if (count > 1u << 28 || lists > FIB_LISTS || function > FIB_MULTIPATH) {
                errno = EINVAL;
                return NULL;
        }
        fib = allocate(count, lists);
        if (fib == NULL) {
                errno = ENOMEM;
                return NULL;
        }
        fib->function = function;
        for (uint32_t i = 0; i < lists; i++)
                if (!fill_hops(&fib->hops[i], lengths[i], fds + i * FIB_FDS))
                        goto invalid;
        for (uint32_t i = 0; i < count; i++)
                if (!insert(fib, addresses[i], list[i]))
                        goto invalid;
        return fib;

invalid:
        fib_destroy(fib);
        errno = EINVAL;
        return NULL;
}

void fib_destroy(struct fib *fib)
{
        if (fib == NULL)
                return;
        free(fib->slots);
        free(fib->hops);
        free(fib);
}
