/*
 * budget: how much of the pool one ring may hold (spec/lessons 73: a reader that does not read must not fill the
 * pool).
 * The slots of the ring bound small packets. Of large blocks the ring may hold BUDGET octets: the producer remembers
 * the class of every block it puts, and gets the octets back when it sees the consumer's index move.
 */
#ifndef OUROBOROS_BUDGET_H
#define OUROBOROS_BUDGET_H

#include "pool.h"
#include "ring.h"

#define BUDGET (1u << 20)
#define BUDGET_STRIDE 4096u /* larger blocks are charged */

struct budget {
        uint64_t settled; /* ring index up to which blocks are accounted for */
        uint32_t spent;   /* octets of large blocks in the ring */
        uint8_t class_of[RING_SLOTS];
};

/* Charge a block put `offset` slots behind the published ones. */
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
 * Load the consumer's index: returns the free slots of the ring, 0 while the budget is spent. Every load of the index
 * settles the budget: so while octets are spent, `settled` is not behind the index, and no class is overwritten
 * before its octets are given back.
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

/* The same from the index loaded last, if that shows space. */
static inline uint32_t budget_space(struct budget *budget, struct ring *ring, const struct pool *pool)
{
        uint64_t used = ring->at - ring->other;

        if (!budget_spent(budget) && used < RING_SLOTS)
                return RING_SLOTS - (uint32_t)used;
        return budget_space_now(budget, ring, pool);
}

#endif
