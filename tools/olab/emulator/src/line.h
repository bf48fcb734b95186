/*
 * line: one direction of an emulated link: frames go in when they arrive, and come out when their time has come.
 *
 * No I/O, no clock: the time is an argument, in ns of any clock that does not go back. One thread.
 *
 * A frame is first put on the wire, at `rate`, behind those that are still being put there; then it travels for its
 * delay. Frames come out by the time that they are due, and those due at the same time in the order in which they came.
 *
 * Nothing vanishes uncounted: received + duplicated = lost + full + sent + refused + held, at any time.
 */
#ifndef OLAB_LINE_H
#define OLAB_LINE_H

#include "fate.h"

#include <stddef.h>

#define LINE_LIMIT 100000u /* the most frames that a line can be set to hold */
#define NEVER INT64_MAX

struct line_counters {
        uint64_t received; /* frames that entered, and those held when the counters began */
        uint64_t received_octets;
        uint64_t lost;       /* as `loss` demands */
        uint64_t duplicated; /* copies made, of frames that went in */
        uint64_t reordered;  /* copies that were not delayed, and may have overtaken others */
        uint64_t corrupted;  /* copies with a flipped bit */
        uint64_t full;       /* copies for which there was no space: `limit` were waiting */
        uint64_t sent;       /* copies that came out */
        uint64_t sent_octets;
        uint64_t refused; /* copies that came out, and that the device did not take */
        uint64_t held;    /* copies that wait now */
};

/* Space for a frame; `frame` has as many octets as the line was made for. */
struct slot {
        struct slot *next; /* while it is free */
        uint32_t length;
        uint8_t frame[] __attribute__((aligned(16)));
};

struct line;

/* A line for frames of up to `room` octets, that does nothing to them. NULL: errno. */
struct line *line_create(uint32_t room);
void line_destroy(struct line *line);

/* Set the impairment from now on: frames are counted from 0 again; frames held now leave when they would have. -EINVAL. */
int line_set(struct line *line, const struct impairment *impairment, uint64_t seed, uint32_t direction);

/*
 * A frame goes in that arrived at this time. line_slot gives space to write it into, which line_enter takes back;
 * NULL, and the frame is counted as one for which there was no space. line_offer does both, and copies.
 */
struct slot *line_slot(struct line *line, uint32_t length);
void line_enter(struct line *line, struct slot *slot, int64_t arrival);
int line_offer(struct line *line, const void *frame, uint32_t length, int64_t arrival);

/* The next frame that is due, or NULL; line_done takes it back when it has been sent, or (sent false) was refused. */
struct slot *line_take(struct line *line, int64_t now);
void line_done(struct line *line, struct slot *slot, bool sent);

/* When the next frame is due; NEVER: there is none. */
int64_t line_deadline(const struct line *line);

void line_count(const struct line *line, struct line_counters *counters);

#endif
