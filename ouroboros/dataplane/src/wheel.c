#include "wheel.h"

#include <string.h>

#define MASK (WHEEL_SLOTS - 1)
#define WHEEL_DUE UINT32_MAX
#define REACH ((uint64_t)MASK << (WHEEL_BITS * (WHEEL_LEVELS - 1))) /* range of the wheel in ticks */

/* The first tick that is not before a time. */
static uint64_t tick_of(int64_t due)
{
        return ((uint64_t)due + (1u << WHEEL_SHIFT) - 1) >> WHEEL_SHIFT;
}

void wheel_init(struct wheel *wheel, int64_t now)
{
        memset(wheel, 0, sizeof *wheel);
        wheel->tick = wheel->until = (uint64_t)now >> WHEEL_SHIFT;
}

static void insert(struct wheel_timer **head, struct wheel_timer *timer)
{
        timer->next = *head;
        timer->link = head;
        if (timer->next != NULL)
                timer->next->link = &timer->next;
        *head = timer;
}

static void take_out(struct wheel_timer *timer)
{
        *timer->link = timer->next;
        if (timer->next != NULL)
                timer->next->link = timer->link;
        timer->link = NULL;
}

/* Into the slot of its tick, on the lowest level on which that is less than a turn ahead. */
static void place(struct wheel *wheel, struct wheel_timer *timer, uint64_t at)
{
        unsigned level = 0, slot;

        if (at - wheel->tick >= REACH)
                at = wheel->tick + REACH - 1; /* placed again when the wheel gets there */
        while ((at >> (level * WHEEL_BITS)) - (wheel->tick >> (level * WHEEL_BITS)) >= WHEEL_SLOTS)
                level++;
        slot = (unsigned)(at >> (level * WHEEL_BITS)) & MASK;
        timer->slot = level * WHEEL_SLOTS + slot;
        wheel->occupied[level] |= 1ull << slot;
        insert(&wheel->slot[level][slot], timer);
}

void wheel_set(struct wheel *wheel, struct wheel_timer *timer, int64_t due)
{
        uint64_t at = due < 0 ? 0 : tick_of(due);

        if (timer->link != NULL)
                wheel_cancel(wheel, timer);
        timer->due = due;
        place(wheel, timer, at > wheel->until ? at : wheel->until + 1);
}

void wheel_cancel(struct wheel *wheel, struct wheel_timer *timer)
{
        unsigned level = timer->slot / WHEEL_SLOTS, slot = timer->slot & MASK;

        if (timer->link == NULL)
                return;
        take_out(timer);
        if (timer->slot != WHEEL_DUE && wheel->slot[level][slot] == NULL)
                wheel->occupied[level] &= ~(1ull << slot);
}

/*
 * The first tick with work: a slot of the lowest level fires, or a slot of a higher level is reached and its timers
 * move down. UINT64_MAX: no timer is set.
 */
static uint64_t next_tick(const struct wheel *wheel)
{
        uint64_t first = UINT64_MAX;

        for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
                unsigned shift = level * WHEEL_BITS, at = (unsigned)(wheel->tick >> shift) & MASK;
                uint64_t bits = wheel->occupied[level], when;

                if (bits == 0)
                        continue;
                bits = at ? bits >> at | bits << (WHEEL_SLOTS - at) : bits;
                when = ((wheel->tick >> shift) + (uint64_t)__builtin_ctzll(bits)) << shift;
                if (when < first)
                        first = when;
        }
        return first;
}

int64_t wheel_deadline(const struct wheel *wheel)
{
        uint64_t tick;

        if (wheel->due != NULL)
                return 0;
        tick = next_tick(wheel);
        return tick > (uint64_t)INT64_MAX >> WHEEL_SHIFT ? NEVER : (int64_t)(tick << WHEEL_SHIFT);
}

/* Empty a slot: due timers join wheel->due, the others are placed again. */
static void empty(struct wheel *wheel, unsigned level, unsigned slot)
{
        struct wheel_timer *timer = wheel->slot[level][slot], *next;

        wheel->slot[level][slot] = NULL;
        wheel->occupied[level] &= ~(1ull << slot);
        for (; timer != NULL; timer = next) {
                uint64_t at = tick_of(timer->due);

                next = timer->next;
                if (at > wheel->tick) {
                        place(wheel, timer, at);
                } else {
                        timer->slot = WHEEL_DUE;
                        insert(&wheel->due, timer);
                }
        }
}

struct wheel_timer *wheel_expire(struct wheel *wheel, int64_t now)
{
        uint64_t until = now < 0 ? 0 : (uint64_t)now >> WHEEL_SHIFT;
        struct wheel_timer *timer;

        if (until > wheel->until)
                wheel->until = until;
        while (wheel->due == NULL && wheel->tick <= until) {
                uint64_t tick = next_tick(wheel);

                if (tick > until) {
                        wheel->tick = until;
                        break;
                }
                if (tick > wheel->tick)
                        wheel->tick = tick;
                for (unsigned level = WHEEL_LEVELS; level-- > 0;)
                        if (wheel->occupied[level] & 1ull << (wheel->tick >> (level * WHEEL_BITS) & MASK))
                                empty(wheel, level, (unsigned)(wheel->tick >> (level * WHEEL_BITS)) & MASK);
        }
        timer = wheel->due;
        if (timer != NULL)
                take_out(timer);
        return timer;
}
