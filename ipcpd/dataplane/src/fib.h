/*
 * fib: the forwarding table of one QoS cube, from the address of a member to the flows that lead there (paper 5.3,
 * PFF; spec/link-state 5).
 *
 * Made as a whole by the control plane and never changed, but for the turn of a multipath entry: the packet thread
 * exchanges one table for another. Addresses that share their next hops share the list of them.
 */
#ifndef OUROBOROS_FIB_H
#define OUROBOROS_FIB_H

#include <stddef.h>
#include <stdint.h>

#define FIB_FDS 8u
#define FIB_LISTS 65535u

enum fib_function {
        FIB_SIMPLE,    /* the one descriptor there is */
        FIB_ALTERNATE, /* the first that is usable */
        FIB_MULTIPATH, /* each in turn that is usable */
};

struct fib_hops {
        uint32_t turn;
        uint16_t count;
        uint16_t bit[FIB_FDS]; /* descriptor - FD_BASE */
};

struct fib_slot {
        uint32_t address; /* 0: empty */
        uint32_t hops;
};

struct fib {
        enum fib_function function;
        uint32_t shift;
        uint32_t mask;
        uint32_t factor[2]; /* random and odd: a member that makes up addresses cannot choose where they lie */
        uint32_t longest;   /* slots that the longest look-up passes */
        uint32_t lists;
        struct fib_slot *slots;
        struct fib_hops *hops;
};

/* `count` addresses with the number of a list each; `lists` lists of `lengths` descriptors, FIB_FDS apart.
 * NULL with errno ENOMEM, or EINVAL: an address 0 or twice, a list that is empty, too long or out of range. */
struct fib *fib_create(enum fib_function function, uint32_t count, const uint32_t *addresses, const uint32_t *list,
                       uint32_t lists, const uint32_t *lengths, const uint32_t *fds);
void fib_destroy(struct fib *fib);

static inline uint32_t fib_at(const struct fib *fib, uint32_t address)
{
        uint32_t mixed = address * fib->factor[0];

        return ((mixed ^ mixed >> 15) * fib->factor[1]) >> fib->shift;
}

static inline struct fib_hops *fib_find(const struct fib *fib, uint32_t address)
{
        uint32_t at = fib_at(fib, address);

        for (;; at = (at + 1) & fib->mask) {
                const struct fib_slot *slot = &fib->slots[at];

                if (slot->address == address)
                        return &fib->hops[slot->hops];
                if (slot->address == 0)
                        return NULL;
        }
}

#endif
