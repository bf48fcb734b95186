/*
 * budget: how much of the pool one ring may hold (spec/lessons 73: a reader that does not read must not fill the pool).
 *
 * Small packets are bounded by the slots of the ring. Of large blocks at most BUDGET octets may be under way: the
 * producer remembers the class of what it put, and settles when it sees how far the consumer has come.
 */
#ifndef OUROBOROS_BUDGET_H
#define OUROBOROS_BUDGET_H

#include "pool.h"
#include "ring.h"

#define BUDGET (1u << 20)
#define BUDGET_STRIDE 4096u /* blocks above that count */

struct budget {
        uint64_t settled; /* ring index up to which blocks are accounted for */
        uint32_t spent;   /* octets under way */
        uint8_t class_of[RING_SLOTS];
};

/* A packet was put `ahead` of what has been published. */
static inline void budget_charge(struct budget *budget, const struct ring *ring, uint32_t offset,
                                 const struct pool *pool, int c)
{
        uint64_t at = ring->at + offset;

        budget->class_of[at & RING_MASK] = (uint8_t)c;
        if (pool->classes[c].stride <= BUDGET_STRIDE)
                return;
        if (budget->spent == 0)
                budget->settled = at;
        budget->spent += pool->classes[c].stride;
}

static inline bool budget_spent(const struct budget *budget)
{
        return budget->spent >= BUDGET;
}

/*
 * Look where the consumer is: slots free in the ring, 0 as long as the budget is spent. Every look at the consumer's
 * index settles: so while something is spent, `settled` is not behind that index, and no class is overwritten before
 * it is accounted for.
 */
static inline uint32_t budget_space_now(struct budget *budget, struct ring *ring, const struct pool *pool)
{
        uint32_t space = ring_space_now(ring);

        for (; budget->spent > 0 && budget->settled < ring->other; budget->settled++) {
                uint32_t stride = pool->classes[budget->class_of[budget->settled & RING_MASK]].stride;

                if (stride > BUDGET_STRIDE)
                        budget->spent -= stride;
        }
        return budget_spent(budget) ? 0 : space;
}

/* The same, looking only when what was seen last does not do. */
static inline uint32_t budget_space(struct budget *budget, struct ring *ring, const struct pool *pool)
{
        uint64_t used = ring->at - ring->other;

        if (!budget_spent(budget) && used < RING_SLOTS)
                return RING_SLOTS - (uint32_t)used;
        return budget_space_now(budget, ring, pool);
}

#endif
