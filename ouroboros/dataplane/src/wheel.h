/*
 * wheel: a timer wheel (spec/frcp 8; spec/lessons 38): set, move and cancel cost the same for any number of timers.
 * Four levels of 64 slots; a slot of the lowest is 2^20 ns, a slot of each other is a turn of the level below. A
 * timer never fires early; it fires late by less than one slot of the lowest level. Timers are embedded in the
 * objects they time: nothing is allocated. The caller holds a lock, and passes the time.
 */
#ifndef OUROBOROS_WHEEL_H
#define OUROBOROS_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WHEEL_SHIFT 20 /* ns of a slot of the lowest level, as a power of two */
#define WHEEL_BITS 6
#define WHEEL_SLOTS (1u << WHEEL_BITS)
#define WHEEL_LEVELS 4
#define NEVER INT64_MAX

struct wheel_timer {
        struct wheel_timer *next;
        struct wheel_timer **link; /* the pointer to this timer; NULL while it is not set */
        int64_t due;               /* ns */
        uint32_t slot;             /* level * WHEEL_SLOTS + slot; WHEEL_DUE once due and not taken */
};

struct wheel {
        uint64_t tick;                   /* slots before this one are empty */
        uint64_t until;                  /* timers set now fire after this one */
        uint64_t occupied[WHEEL_LEVELS]; /* a bit for each slot with timers */
        struct wheel_timer *slot[WHEEL_LEVELS][WHEEL_SLOTS];
        struct wheel_timer *due; /* found by wheel_expire, not yet taken */
};

void wheel_init(struct wheel *wheel, int64_t now);

/* Fire at `due`, in place of any earlier setting. A time in the past means the next slot. */
void wheel_set(struct wheel *wheel, struct wheel_timer *timer, int64_t due);
void wheel_cancel(struct wheel *wheel, struct wheel_timer *timer);

static inline bool wheel_is_set(const struct wheel_timer *timer)
{
        return timer->link != NULL;
}

/*
 * When to call wheel_expire next: not after the first timer is due, and seldom much before. NEVER: no timer is set.
 */
int64_t wheel_deadline(const struct wheel *wheel);

/*
 * Take the next due timer, which is no longer set; NULL: there is none. A timer that is set again meanwhile fires in
 * a call with a later time: the loop ends.
 */
struct wheel_timer *wheel_expire(struct wheel *wheel, int64_t now);

#endif
